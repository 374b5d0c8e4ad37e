/* tls_context_test.c -- contexts: what is wrong with settings and files, and what a handshake makes of good ones. */
#include <openssl/ocsp.h>

#include "proto/base/clock.h"
#include "tests/unit/broker/transport/tls_fixture.h"

/* A word that is a file of the tests' folder has it put before it. */
static const char *in_folder(const char *files)
{
    static char lists[8][512];
    static unsigned next;
    char *list = lists[next++ % COUNT_OF(lists)], word[128];

    list[0] = '\0';
    for (const char *at = files; at && *at; at += *at == ',') {
        size_t len = strcspn(at, ",");
        snprintf(word, sizeof(word), "%.*s", (int)len, at);
        at += len;
        strcat(list, list[0] ? "," : "");
        strcat(list, strcmp(word, "-") == 0 || !*word ? word : certificates_path(word));
    }
    return files ? list : NULL;
}

static void write_more(void)
{
    certificates_write_text("empty", "");
    certificates_write_text("folder_of_psk", "# none\n\n");
    certificates_write_text("psk",
                            "one:00112233445566778899aabbccddeeff\r\n# of two\ntwo:FFeeddccbbaa99887766554433221100");
    certificates_write_text("psk_no_colon", "one:00112233445566778899aabbccddeeff\nnonsense\n");
    certificates_write_text("psk_not_hex", "one:00112233445566778899aabbccddeefg\n");
    certificates_write_text("psk_short", "one:0011\n");
    certificates_write_text("psk_odd", "one:00112233445566778899aabbccddeeff0\n");
    certificates_write_text("psk_nobody", ":00112233445566778899aabbccddeeff\n");
    certificates_write_text("psk_twice",
                            "one:00112233445566778899aabbccddeeff\none:00112233445566778899aabbccddeef0\n");
    certificates_write_text("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
                                          "MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBAAAAAAAAAAAAAAAAAA\n"
                                          "-----END ENCRYPTED PRIVATE KEY-----\n");
    certificate_write_ocsp(&made.ca, &made.server, "server.ocsp");
}

/* %s in want is the path of the file in `named`. */
static const struct {
    const char *name;
    struct tls_settings settings;
    const char *named, *want;
} wrong[] = {
    {"no file", {.certificates = "none.pem", .keys = "server.key"}, "none.pem", "%s: No such file or directory"},
    {"no key file", {.certificates = "server.pem", .keys = "none.key"}, "none.key", "%s: No such file or directory"},
    {"a folder", {.certificates = ".", .keys = "server.key"}, ".", "%s: Is a directory"},
    {"an empty file", {.certificates = "empty", .keys = "server.key"}, "empty", "%s: no certificate in it"},
    {"a key instead of it",
     {.certificates = "server.key", .keys = "server.key"},
     "server.key",
     "%s: no certificate in it"},
    {"a certificate as key",
     {.certificates = "server.pem", .keys = "server.pem"},
     "server.pem",
     "%s: no private key in it that can be used; it must be PEM and not encrypted"},
    {"an encrypted key",
     {.certificates = "server.pem", .keys = "locked.key"},
     "locked.key",
     "%s: no private key in it that can be used; it must be PEM and not encrypted"},
    {"another's key", {.certificates = "server.pem", .keys = "device.key"}, "device.key", "%s: is not the key of %s"},
    {"a key of another kind", {.certificates = "server.pem", .keys = "rsa.key"}, "rsa.key", "%s: is not the key of %s"},
    {"a key too few",
     {.certificates = "server.pem,rsa.pem", .keys = "server.key"},
     "rsa.pem",
     "%s: there is no key for this certificate"},
    {"a key too many",
     {.certificates = "server.pem", .keys = "server.key,rsa.key"},
     "rsa.key",
     "%s: there is no certificate for this key"},
    {"the second one is wrong",
     {.certificates = "server.pem,empty", .keys = "server.key,rsa.key"},
     "empty",
     "%s: no certificate in it"},
    {"nothing to show", {0}, NULL, "there is neither a certificate nor a psk_file"},
    {"no response",
     {.certificates = "server.pem", .keys = "server.key", .ocsp_responses = "ca.pem"},
     "ca.pem",
     "%s: no OCSP response in DER"},
    {"a response too many",
     {.certificates = "server.pem", .keys = "server.key", .ocsp_responses = "-,server.ocsp"},
     "server.ocsp",
     "%s: there is no certificate for this OCSP response"},
    {"asks without a CA",
     {.certificates = "server.pem", .keys = "server.key", .client_certificate = 1},
     NULL,
     "client certificates are asked for, but there is no client_ca to verify them"},
    {"a CA without certificate",
     {.certificates = "server.pem", .keys = "server.key", .client_certificate = 1, .client_ca = "empty"},
     "empty",
     "%s: no certificate in it"},
    {"a list without CA",
     {.certificates = "server.pem", .keys = "server.key", .crl = "crl.pem"},
     "crl.pem",
     "%s: a revocation list needs a client_ca"},
    {"no list",
     {.certificates = "server.pem",
      .keys = "server.key",
      .client_certificate = 1,
      .client_ca = "ca.pem",
      .crl = "ca.pem"},
     "ca.pem",
     "%s: no revocation list in it"},
    {"ciphers",
     {.certificates = "server.pem", .keys = "server.key", .ciphers = "ROT13"},
     NULL,
     "ciphers: OpenSSL knows none of ROT13"},
    {"ciphersuites",
     {.certificates = "server.pem", .keys = "server.key", .ciphersuites = "TLS_ROT13"},
     NULL,
     "ciphersuites: OpenSSL does not know all of TLS_ROT13"},
    {"groups",
     {.certificates = "server.pem", .keys = "server.key", .groups = "X25519:P-255"},
     NULL,
     "groups: OpenSSL does not know all of X25519:P-255"},
    {"no keys", {.psk_file = "folder_of_psk"}, "folder_of_psk", "%s: no key in it"},
    {"keys: no file", {.psk_file = "none"}, "none", "%s: No such file or directory"},
    {"keys: a folder", {.psk_file = "."}, ".", "%s: not a file"},
    {"keys: no colon", {.psk_file = "psk_no_colon"}, "psk_no_colon", "%s, line 2: it is not IDENTITY:HEX"},
    {"keys: not hex",
     {.psk_file = "psk_not_hex"},
     "psk_not_hex",
     "%s, line 1: the key is not 16 to 64 bytes in hexadecimal"},
    {"keys: short", {.psk_file = "psk_short"}, "psk_short", "%s, line 1: the key is not 16 to 64 bytes in hexadecimal"},
    {"keys: half a byte",
     {.psk_file = "psk_odd"},
     "psk_odd",
     "%s, line 1: the key is not 16 to 64 bytes in hexadecimal"},
    {"keys: nobody's",
     {.psk_file = "psk_nobody"},
     "psk_nobody",
     "%s, line 1: the identity is not 1 to 128 bytes of UTF-8"},
    {"keys: twice", {.psk_file = "psk_twice"}, "psk_twice", "%s: the identity one stands in it twice"},
};

static void test_wrong_settings(void)
{
    write_more();
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct tls_settings s = wrong[i].settings;
        struct tls_context *context = (struct tls_context *)&s;
        char error[1024] = "", want[1024], certificate[256];

        s.certificates = in_folder(s.certificates);
        s.keys = in_folder(s.keys);
        s.ocsp_responses = in_folder(s.ocsp_responses);
        s.client_ca = in_folder(s.client_ca);
        s.crl = in_folder(s.crl);
        s.psk_file = in_folder(s.psk_file);
        snprintf(certificate, sizeof(certificate), "%s", certificates_path("server.pem"));
        snprintf(want, sizeof(want), wrong[i].want, wrong[i].named ? certificates_path(wrong[i].named) : "",
                 certificate);
        CHECK_CASE(wrong[i].name, tls_server_context_new(&s, error, sizeof(error), &context) == -EINVAL);
        CHECK_CASE(wrong[i].name, strcmp(error, want) == 0);
        if (strcmp(error, want) != 0) {
            fprintf(stderr, "%s: %s\n", wrong[i].name, error);
        }
        CHECK_CASE(wrong[i].name, context == (struct tls_context *)&s && ERR_peek_error() == 0);
    }
    char error[1024];
    struct tls_context *context = NULL;
    CHECK(tls_client_context_new("/none.pem", NULL, NULL, false, error, sizeof(error), &context) == -EINVAL);
    CHECK(strcmp(error, "/none.pem: No such file or directory") == 0);
    CHECK(tls_client_context_new(NULL, certificates_path("device.pem"), NULL, false, error, sizeof(error), &context) ==
          -EINVAL);
}

static void test_expires(void)
{
    struct tls_settings s = plain_settings();
    char both[512], keys[512];
    const char *file = NULL;
    int64_t now = (int64_t)(clock_wall_ms() / 1000);

    struct tls_context *context = server_context(&s);
    int64_t left = tls_context_expires(context, &file) - now;
    CHECK(left > 19 * 86400 && left <= 20 * 86400 && strcmp(file, certificates_path("server.pem")) == 0);
    tls_context_unref(context);

    snprintf(both, sizeof(both), "%s, %s", s.certificates, certificates_path("old.pem"));
    snprintf(keys, sizeof(keys), "%s ,%s", s.keys, certificates_path("old.key"));
    s.certificates = both;
    s.keys = keys;
    context = server_context(&s); /* one that has ended is allowed */
    CHECK(tls_context_expires(context, &file) < now && strcmp(file, certificates_path("old.pem")) == 0);
    tls_context_unref(context);

    write_more();
    s = (struct tls_settings){.psk_file = certificates_path("psk"), .min_version = 12};
    context = server_context(&s);
    CHECK(tls_context_expires(context, &file) == INT64_MAX);
    tls_context_unref(context);
    tls_context_unref(NULL);
}

static void test_server_name(void)
{
    static const struct {
        const char *sni, *want;
    } cases[] = {
        {"broker.test", "broker"}, {"a.rsa.test", "rsa"},        {"A.RSA.test", "rsa"},    {"a.b.rsa.test", "broker"},
        {"rsa.test", "broker"},    {"plain.test", "plain.test"}, {"other.test", "broker"}, {NULL, "broker"},
    };
    struct tls_settings s = plain_settings();
    s.certificates = in_folder("server.pem,rsa.pem,cn_only.pem");
    s.keys = in_folder("server.key,rsa.key,cn_only.key");
    struct tls_context *context = server_context(&s);

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct peer p = peer_new(context, peer_context());
        char cn[64] = "";

        if (cases[i].sni) {
            SSL_set_tlsext_host_name(p.ssl, cases[i].sni);
        }
        CHECK_CASE(cases[i].want, peer_settle(&p) == 0 && tls_open(p.server));
        X509_NAME *subject = X509_get_subject_name(SSL_get0_peer_certificate(p.ssl));
        X509_NAME_get_text_by_NID(subject, NID_commonName, cn, sizeof(cn));
        CHECK_CASE(cases[i].sni ? cases[i].sni : "none", strcmp(cn, cases[i].want) == 0);
        peer_free(&p);
    }
    tls_context_unref(context);
}

static void test_alpn(void)
{
    static const struct {
        const char *name, *taken;
        struct slice offered;
        const char *want; /* NULL: refused */
    } cases[] = {
        {"the one", "mqtt", SLICE("\4mqtt"), "mqtt"},
        {"one of two", "mqtt", SLICE("\2h2\4mqtt"), "mqtt"},
        {"our order counts", "a, b", SLICE("\1b\1a"), "a"},
        {"none of ours", "mqtt", SLICE("\2h2"), NULL},
        {"nothing offered", "mqtt", {0}, ""},
        {"we do not ask", "", SLICE("\2h2"), ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct tls_settings s = plain_settings();
        s.alpn = cases[i].taken;
        struct tls_context *context = server_context(&s);
        struct peer p = peer_new(context, peer_context());
        const unsigned char *got = NULL;
        unsigned len = 0;

        if (cases[i].offered.len > 0) {
            SSL_set_alpn_protos(p.ssl, cases[i].offered.ptr, (unsigned)cases[i].offered.len);
        }
        int n = peer_settle(&p);
        SSL_get0_alpn_selected(p.ssl, &got, &len);
        CHECK_CASE(cases[i].name, tls_open(p.server) == (cases[i].want != NULL));
        CHECK_CASE(cases[i].name, cases[i].want || n == -EPROTO);
        CHECK_CASE(cases[i].name, !cases[i].want || slice_eq(slice_of(got, len), slice_str(cases[i].want)));
        peer_free(&p);
        tls_context_unref(context);
    }
}

static void test_client_certificates(void)
{
    enum { NONE = TLS_CLIENT_NONE, OPTIONAL = TLS_CLIENT_OPTIONAL, REQUIRED = TLS_CLIENT_REQUIRED };
    static const struct {
        const char *name, *shown;
        int asked;
        bool crl;
        const char *why; /* NULL: let in */
        bool verified;
    } cases[] = {
        {"required and shown", "device", REQUIRED, false, NULL, true},
        {"required, not revoked", "device", REQUIRED, true, NULL, true},
        {"required and not shown", NULL, REQUIRED, false, "peer did not return a certificate", false},
        {"required, of another CA", "stranger", REQUIRED, false, "unable to get local issuer certificate", false},
        {"required, revoked, no list", "revoked", REQUIRED, false, NULL, true},
        {"required, revoked", "revoked", REQUIRED, true, "certificate revoked", false},
        {"required, expired", "expired", REQUIRED, false, "certificate has expired", false},
        {"required, a server's", "server", REQUIRED, false, "unsuitable certificate purpose", false},
        {"optional and shown", "device", OPTIONAL, false, NULL, true},
        {"optional and not shown", NULL, OPTIONAL, false, NULL, false},
        {"optional, of another CA", "stranger", OPTIONAL, false, "unable to get local issuer certificate", false},
        {"not asked for", "device", NONE, false, NULL, false},
    };
    for (size_t i = 0; i < 2 * COUNT_OF(cases); i++) {
        size_t c = i / 2;
        const char *name = cases[c].name;
        struct tls_settings s = plain_settings();
        s.client_certificate = cases[c].asked;
        s.client_ca = certificates_path("ca.pem");
        s.crl = cases[c].crl ? certificates_path("crl.pem") : "";
        struct tls_context *context = server_context(&s), *client = client_context(cases[c].shown);
        struct ends e = ends_new(context, client, "broker.test");

        if (i % 2) { /* and with TLS 1.2 */
            e.to_server.len = 0;
            SSL_CTX *context12 = peer_context();
            SSL_CTX_set_max_proto_version(context12, TLS1_2_VERSION);
            if (cases[c].shown) {
                char file[64];
                snprintf(file, sizeof(file), "%s.pem", cases[c].shown);
                SSL_CTX_use_certificate_file(context12, certificates_path(file), SSL_FILETYPE_PEM);
                snprintf(file, sizeof(file), "%s.key", cases[c].shown);
                SSL_CTX_use_PrivateKey_file(context12, certificates_path(file), SSL_FILETYPE_PEM);
            }
            struct peer p = {.context = context12, .ssl = SSL_new(context12), .server = tls_new(context, NULL)};
            SSL_set_bio(p.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
            SSL_set_connect_state(p.ssl);
            int n = peer_settle(&p);
            CHECK_CASE(name, (n == 0) == !cases[c].why && tls_open(p.server) == !cases[c].why);
            CHECK_CASE(name, strcmp(tls_why(p.server), cases[c].why ? cases[c].why : "") == 0);
            CHECK_CASE(name, tls_peer_verified(p.server) == cases[c].verified);
            peer_free(&p);
        } else {
            settle(&e, SIZE_MAX);
            CHECK_CASE(name,
                       tls_open(e.server) == !cases[c].why && (e.client_ended == -EPROTO) == (cases[c].why != NULL));
            CHECK_CASE(name, strcmp(tls_why(e.server), cases[c].why ? cases[c].why : "") == 0);
            CHECK_CASE(name, tls_peer_verified(e.server) == cases[c].verified);
            CHECK_CASE(name, (tls_peer_expires_ms(e.server) == UINT64_MAX) == !cases[c].verified);
        }
        CHECK_CASE(name, ERR_peek_error() == 0);
        ends_free(&e);
        tls_context_unref(context);
        tls_context_unref(client);
    }
}

static void test_names(void)
{
    static const struct {
        const char *shown, *what, *want; /* NULL: -ENOENT */
    } cases[] = {
        {"device", "cn", "device"},
        {"device", "dn", "CN=device"},
        {"device", "san_dns", "d.test"},
        {"device", "san_email", "d@x.test"},
        {"device", "san_uri", "urn:d"},
        {"device", "san_ip", NULL},
        {"revoked", "san_dns", NULL},
        {"revoked", "cn", "revoked"},
        {"nul", "cn", NULL},
        {"nul", "san_email", NULL},
        {NULL, "cn", NULL},
        {NULL, "dn", NULL},
    };
    struct tls_settings s = plain_settings();
    s.client_certificate = TLS_CLIENT_OPTIONAL;
    s.client_ca = certificates_path("ca.pem");
    struct tls_context *context = server_context(&s);

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct tls_context *client = client_context(cases[i].shown);
        struct ends e = ends_new(context, client, NULL);
        struct buf name = {0};

        settle(&e, SIZE_MAX);
        int rc = tls_peer_name(e.server, cases[i].what, &name);
        CHECK_CASE(cases[i].what, rc == (cases[i].want ? 0 : -ENOENT));
        CHECK_CASE(cases[i].what, slice_eq(buf_slice(&name), slice_str(cases[i].want ? cases[i].want : "")));
        CHECK_CASE(cases[i].what, ERR_peek_error() == 0);
        buf_deinit(&name);
        ends_free(&e);
        tls_context_unref(client);
    }
    tls_context_unref(context);
}

/* An authority between: its own list is wanted as well as the root's. */
static void test_whole_chain_revocation(void)
{
    struct certificate middle = certificate_make(&made.ca, &(struct certificate_terms){.cn = SLICE("Middle CA")});
    struct certificate leaf =
        certificate_make(&middle, &(struct certificate_terms){.cn = SLICE("leaf"), .usage = "clientAuth"});
    static const struct {
        const char *name;
        bool middle_revoked;
        const char *why;
    } cases[] = {{"nothing revoked", false, ""}, {"the middle revoked", true, "certificate revoked"}};

    certificate_write(&leaf, "leaf");
    certificate_write_chain(&leaf, &middle, "leaf");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char command[1024];
        certificate_write_crl(&middle, NULL, "middle.crl");
        certificate_write_crl(&made.ca, cases[i].middle_revoked ? &middle : NULL, "root.crl");
        snprintf(command, sizeof(command), "cat %s %s > %s", certificates_path("middle.crl"),
                 certificates_path("root.crl"), certificates_path("both.crl"));
        CHECK(system(command) == 0);
        struct tls_settings s = plain_settings();
        s.client_certificate = TLS_CLIENT_REQUIRED;
        s.client_ca = certificates_path("ca.pem");
        s.crl = certificates_path("both.crl");
        struct tls_context *context = server_context(&s), *client = client_context("leaf");
        struct ends e = ends_new(context, client, NULL);
        settle(&e, SIZE_MAX);
        CHECK_CASE(cases[i].name, strcmp(tls_why(e.server), cases[i].why) == 0);
        CHECK_CASE(cases[i].name, tls_open(e.server) == !cases[i].middle_revoked);
        CHECK_CASE(cases[i].name, !tls_open(e.server) || tls_peer_valid(e.server, context)); /* by what came with it */
        ends_free(&e);
        tls_context_unref(context);
        tls_context_unref(client);
    }
    certificate_free(&middle);
    certificate_free(&leaf);
}

static int take_staple(SSL *ssl, void *arg)
{
    const unsigned char *der;
    struct buf *got = arg;
    long len = SSL_get_tlsext_status_ocsp_resp(ssl, &der);

    if (len > 0) {
        buf_put(got, slice_of(der, (size_t)len));
    }
    return 1;
}

static void test_ocsp(void)
{
    struct tls_settings s = plain_settings();

    certificate_write_ocsp(&made.ca, &made.server, "server.ocsp");
    s.certificates = in_folder("server.pem,rsa.pem");
    s.keys = in_folder("server.key,rsa.key");
    s.ocsp_responses = in_folder("server.ocsp,-");
    struct tls_context *context = server_context(&s);
    for (int i = 0; i < 3; i++) { /* asked for, not asked for, another certificate */
        struct buf got = {0};
        struct peer p = peer_new(context, peer_context());

        SSL_CTX_set_tlsext_status_cb(p.context, take_staple);
        SSL_CTX_set_tlsext_status_arg(p.context, &got);
        if (i != 1) {
            SSL_set_tlsext_status_type(p.ssl, TLSEXT_STATUSTYPE_ocsp);
        }
        SSL_set_tlsext_host_name(p.ssl, (i == 2 ? "a.rsa.test" : "broker.test"));
        CHECK(peer_settle(&p) == 0 && tls_open(p.server));
        CHECK((got.len > 0) == (i == 0));
        const unsigned char *at = got.ptr;
        OCSP_RESPONSE *response = got.len > 0 ? d2i_OCSP_RESPONSE(NULL, &at, got.len) : NULL;
        CHECK((response != NULL) == (i == 0));
        OCSP_RESPONSE_free(response);
        buf_deinit(&got);
        peer_free(&p);
    }
    tls_context_unref(context);
}

#define WITH(test) \
    static void with_##test(void) \
    { \
        make_certificates(); \
        test(); \
        drop_certificates(); \
    }
WITH(test_wrong_settings)
WITH(test_expires)
WITH(test_server_name)
WITH(test_alpn)
WITH(test_client_certificates)
WITH(test_names)
WITH(test_whole_chain_revocation)
WITH(test_ocsp)

UNIT_MAIN("broker/transport/tls_context", {"wrong settings", with_test_wrong_settings}, {"expiry", with_test_expires},
          {"server names", with_test_server_name}, {"protocols", with_test_alpn},
          {"client certificates", with_test_client_certificates}, {"names in them", with_test_names},
          {"revocation of the whole chain", with_test_whole_chain_revocation}, {"OCSP responses", with_test_ocsp})
