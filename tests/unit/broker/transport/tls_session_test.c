/* tls_session_test.c -- what outlives a handshake: tickets and their keys, pre-shared keys, and what a reload takes
 * back. */
#include "tests/unit/broker/transport/tls_fixture.h"

/* ---- tickets ---- */

static SSL_SESSION *last_session;

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(last_session);
    last_session = session;
    return 1;
}

static SSL_CTX *resuming_context(int version, const char *name)
{
    SSL_CTX *context = peer_context();
    char file[64];

    SSL_CTX_set_max_proto_version(context, version);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, keep_session);
    if (name) {
        snprintf(file, sizeof(file), "%s.pem", name);
        SSL_CTX_use_certificate_file(context, certificates_path(file), SSL_FILETYPE_PEM);
        snprintf(file, sizeof(file), "%s.key", name);
        SSL_CTX_use_PrivateKey_file(context, certificates_path(file), SSL_FILETYPE_PEM);
    }
    return context;
}

/* Connect with the session kept last, if any. */
static struct peer come(struct tls_context *server, int version, const char *name, bool with_session)
{
    SSL_CTX *context = resuming_context(version, name);
    struct peer p = peer_new(server, context);

    if (with_session) {
        assert(last_session);
        SSL_set_session(p.ssl, last_session);
    }
    CHECK(peer_settle(&p) == 0 && tls_open(p.server));
    if (version == TLS1_2_VERSION) {
        keep_session(p.ssl, SSL_get1_session(p.ssl)); /* of a renewed one the callback is not told */
    }
    return p;
}

static bool resumes(struct tls_context *server, int version, const char *name)
{
    struct peer p = come(server, version, name, true);
    bool resumed = tls_resumed(p.server);

    CHECK(resumed == (SSL_session_reused(p.ssl) == 1));
    peer_free(&p);
    return resumed;
}

static void first_visit(struct tls_context *server, int version, const char *name)
{
    SSL_SESSION_free(last_session);
    last_session = NULL;
    struct peer p = come(server, version, name, false);
    CHECK(!tls_resumed(p.server) && last_session && SSL_SESSION_is_resumable(last_session));
    peer_free(&p);
}

static void test_tickets(void)
{
    struct tls_settings s = plain_settings();
    struct tls_context *server = server_context(&s), *again = server_context(&s);

    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        first_visit(server, version, NULL);
        CHECK(resumes(server, version, NULL));
        CHECK(resumes(again, version, NULL)); /* the keys are not the context's */

        first_visit(server, version, NULL);
        SSL_SESSION *old = SSL_SESSION_dup(last_session);
        tls_tickets_renew(false);
        CHECK(resumes(server, version, NULL)); /* and brings a ticket under the new key */
        tls_tickets_renew(false);
        CHECK(resumes(server, version, NULL));
        SSL_SESSION_free(last_session);
        last_session = old;
        CHECK(!resumes(server, version, NULL)); /* renewed twice since */

        first_visit(server, version, NULL);
        tls_tickets_renew(true);
        CHECK(!resumes(server, version, NULL));
    }
    tls_context_unref(server);
    tls_context_unref(again);
}

static void test_no_tickets(void)
{
    struct tls_settings s = plain_settings();
    s.tickets = false;
    struct tls_context *server = server_context(&s);

    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_SESSION_free(last_session);
        last_session = NULL;
        struct peer p = come(server, version, NULL, false);
        CHECK(!last_session || !SSL_SESSION_is_resumable(last_session));
        CHECK(!last_session || !SSL_SESSION_has_ticket(last_session));
        peer_free(&p);
    }
    tls_context_unref(server);
}

/* A session carries its certificate, but only as far as the listener it comes to agrees. */
static void test_tickets_with_certificates(void)
{
    struct tls_settings s = plain_settings();
    struct tls_context *open = server_context(&s);
    s.client_certificate = TLS_CLIENT_REQUIRED;
    s.client_ca = certificates_path("ca.pem");
    struct tls_context *strict = server_context(&s);
    s.crl = certificates_path("crl.pem");
    struct tls_context *stricter = server_context(&s);

    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        first_visit(strict, version, "revoked");
        struct peer p = come(strict, version, "revoked", true);
        struct buf cn = {0};
        CHECK(tls_resumed(p.server) && tls_peer_verified(p.server) && tls_peer_name(p.server, "cn", &cn) == 0);
        CHECK(slice_eq(buf_slice(&cn), SLICE("revoked")));
        buf_deinit(&cn);
        peer_free(&p);

        p = peer_new(stricter, resuming_context(version, "revoked")); /* which has been revoked meanwhile */
        SSL_set_session(p.ssl, last_session);
        CHECK(peer_settle(&p) == -EPROTO && strcmp(tls_why(p.server), "certificate revoked") == 0);
        peer_free(&p);

        first_visit(open, version, NULL); /* a visitor without one */
        p = peer_new(strict, resuming_context(version, NULL));
        SSL_set_session(p.ssl, last_session);
        CHECK(peer_settle(&p) == -EPROTO && !tls_open(p.server));
        peer_free(&p);
    }
    tls_context_unref(open);
    tls_context_unref(strict);
    tls_context_unref(stricter);
}

/* ---- pre-shared keys ---- */

static const char *psk_identity;
static uint8_t psk_key[32];
static unsigned psk_len;

static unsigned show_psk(SSL *ssl, const char *hint, char *identity, unsigned identity_max, unsigned char *key,
                         unsigned key_max)
{
    (void)ssl, (void)hint;
    assert(strlen(psk_identity) < identity_max && psk_len <= key_max);
    strcpy(identity, psk_identity);
    memcpy(key, psk_key, psk_len);
    return psk_len;
}

static struct peer come_by_key(struct tls_context *server, int version, const char *identity, const char *hex)
{
    SSL_CTX *context = peer_context();
    struct slice key = unit_hex(hex);

    psk_identity = identity;
    psk_len = (unsigned)key.len;
    memcpy(psk_key, key.ptr, key.len);
    free((void *)key.ptr);
    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
    SSL_CTX_set_psk_client_callback(context, show_psk);
    if (version == TLS1_2_VERSION) {
        SSL_CTX_set_cipher_list(context, "PSK");
    }
    return peer_new(server, context);
}

#define KEY_ONE "00112233445566778899aabbccddeeff"
#define KEY_TWO "ffeeddccbbaa99887766554433221100"

static struct tls_context *psk_context(bool certificates, const char *text)
{
    struct tls_settings s = {.min_version = 12, .tickets = true, .psk_hint = "tern"};

    certificates_write_text("psk", text);
    if (certificates) {
        s = plain_settings();
    }
    s.psk_file = certificates_path("psk");
    return server_context(&s);
}

static void test_psk(void)
{
    static const struct {
        const char *name, *identity, *key;
        bool good;
    } cases[] = {
        {"first", "one", KEY_ONE, true},
        {"second", "a:b", KEY_TWO, true},
        {"another's key", "one", KEY_TWO, false},
        {"unknown", "three", KEY_ONE, false},
        {"the start of one", "on", KEY_ONE, false},
    };
    struct tls_context *server = psk_context(false, "one:" KEY_ONE "\na:b:" KEY_TWO "\n");

    for (size_t i = 0; i < 2 * COUNT_OF(cases); i++) {
        size_t c = i / 2;
        struct peer p = come_by_key(server, i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION, cases[c].identity, cases[c].key);
        int n = peer_settle(&p);

        CHECK_CASE(cases[c].name, tls_open(p.server) == cases[c].good && n == (cases[c].good ? 0 : -EPROTO));
        CHECK_CASE(cases[c].name,
                   slice_eq(tls_psk_identity(p.server), slice_str(cases[c].good ? cases[c].identity : "")));
        CHECK_CASE(cases[c].name, !tls_resumed(p.server) && !tls_peer_verified(p.server));
        peer_free(&p);
    }
    tls_context_unref(server);
}

/* An identity that is offered beside something else proves nothing. */
static void test_psk_not_used(void)
{
    struct tls_context *server = psk_context(true, "one:" KEY_ONE "\n");
    struct peer p = come_by_key(server, TLS1_3_VERSION, "one", KEY_TWO);

    SSL_CTX_set_ciphersuites(p.context, "TLS_AES_256_GCM_SHA384"); /* goes with no such key */
    SSL_set_ciphersuites(p.ssl, "TLS_AES_256_GCM_SHA384");
    if (peer_settle(&p) == 0) {
        CHECK(tls_open(p.server) && tls_psk_identity(p.server).len == 0);
    }
    peer_free(&p);

    p = peer_new(server, peer_context()); /* without a key, by the certificate; and no ticket */
    CHECK(peer_settle(&p) == 0 && tls_open(p.server) && tls_psk_identity(p.server).len == 0);
    CHECK(tls_psk_valid(p.server, server));
    CHECK(!SSL_SESSION_is_resumable(SSL_get_session(p.ssl)));
    peer_free(&p);
    tls_context_unref(server);
}

static SSL_SESSION *shown_session;
static struct slice shown_identity;

static int show_session(SSL *ssl, const EVP_MD *digest, const unsigned char **ret_identity, size_t *ret_len,
                        SSL_SESSION **ret_session)
{
    (void)ssl, (void)digest;
    SSL_SESSION_up_ref(shown_session);
    *ret_session = shown_session;
    *ret_identity = shown_identity.ptr;
    *ret_len = shown_identity.len;
    return 1;
}

/* In TLS 1.3 an identity is bytes, and OpenSSL has callbacks that would end it at the NUL. */
static void test_psk_identity_with_nul(void)
{
    static const unsigned char aes128_gcm_sha256[] = {0x13, 0x01};
    struct tls_context *server = psk_context(false, "one:" KEY_ONE "\n");
    struct slice key = unit_hex(KEY_ONE);

    for (int nul = 0; nul < 2; nul++) {
        struct peer p = peer_new(server, peer_context());

        SSL_set_psk_use_session_callback(p.ssl, show_session);
        shown_session = SSL_SESSION_new();
        SSL_SESSION_set1_master_key(shown_session, key.ptr, key.len);
        SSL_SESSION_set_cipher(shown_session, SSL_CIPHER_find(p.ssl, aes128_gcm_sha256));
        SSL_SESSION_set_protocol_version(shown_session, TLS1_3_VERSION);
        shown_identity = nul ? SLICE("one\0x") : SLICE("one");
        CHECK((peer_settle(&p) == 0) == !nul && tls_open(p.server) == !nul);
        CHECK(slice_eq(tls_psk_identity(p.server), nul ? SLICE("") : SLICE("one")));
        SSL_SESSION_free(shown_session);
        peer_free(&p);
    }
    free((void *)key.ptr);
    tls_context_unref(server);
}

static void test_psk_valid(void)
{
    static const struct {
        const char *name, *text;
        bool valid;
    } cases[] = {
        {"the same", "zero:" KEY_TWO "\none:" KEY_ONE "\n", true},
        {"another key", "one:" KEY_TWO "\n", false},
        {"a longer key", "one:" KEY_ONE "00\n", false},
        {"gone", "two:" KEY_ONE "\n", false},
    };
    struct tls_context *server = psk_context(false, "one:" KEY_ONE "\n");
    struct tls_settings s = plain_settings();
    struct tls_context *without = server_context(&s);

    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct peer p = come_by_key(server, version, "one", KEY_ONE);
        CHECK(peer_settle(&p) == 0);
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
            struct tls_context *now = psk_context(false, cases[i].text);
            CHECK_CASE(cases[i].name, tls_psk_valid(p.server, now) == cases[i].valid);
            tls_context_unref(now);
        }
        CHECK(!tls_psk_valid(p.server, without) && tls_peer_valid(p.server, without));
        peer_free(&p);
    }
    tls_context_unref(server);
    tls_context_unref(without);
}

/* ---- after a reload ---- */

static void test_peer_valid(void)
{
    static const struct {
        const char *name, *shown, *ca, *crl;
        bool valid;
    } cases[] = {
        {"nothing changed", "device", "ca.pem", NULL, true},
        {"a list without it", "device", "ca.pem", "crl.pem", true},
        {"revoked meanwhile", "revoked", "ca.pem", "crl.pem", false},
        {"another CA", "device", "other_ca.pem", NULL, false},
        {"no certificate", NULL, "other_ca.pem", "crl.pem", true},
    };
    struct tls_settings before = plain_settings();
    before.client_certificate = TLS_CLIENT_OPTIONAL;
    before.client_ca = certificates_path("ca.pem");
    struct tls_context *context = server_context(&before);

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct tls_context *client = client_context(cases[i].shown);
        struct ends e = ends_new(context, client, NULL);
        struct tls_settings s = plain_settings();
        s.client_certificate = TLS_CLIENT_REQUIRED;
        s.client_ca = certificates_path(cases[i].ca);
        s.crl = cases[i].crl ? certificates_path(cases[i].crl) : NULL;
        struct tls_context *after = server_context(&s);

        settle(&e, SIZE_MAX);
        CHECK_CASE(cases[i].name, tls_open(e.server) && tls_peer_valid(e.server, context));
        CHECK_CASE(cases[i].name, tls_peer_valid(e.server, after) == cases[i].valid);
        CHECK_CASE(cases[i].name, tls_psk_valid(e.server, after) && ERR_peek_error() == 0);
        tls_context_unref(after);
        ends_free(&e);
        tls_context_unref(client);
    }
    tls_context_unref(context);
}

/* A connection outlives the context that it began with. */
static void test_context_dropped(void)
{
    struct tls_settings s = plain_settings();
    struct tls_context *server = server_context(&s), *client = client_context(NULL);
    struct ends e = ends_new(server, client, "broker.test");

    tls_context_unref(server);
    tls_context_unref(client);
    settle(&e, 7);
    CHECK(tls_open(e.server) && tls_open(e.client));
    ends_free(&e);
}

#define WITH(test) \
    static void with_##test(void) \
    { \
        make_certificates(); \
        test(); \
        SSL_SESSION_free(last_session); \
        last_session = NULL; \
        drop_certificates(); \
    }
WITH(test_tickets)
WITH(test_no_tickets)
WITH(test_tickets_with_certificates)
WITH(test_psk)
WITH(test_psk_not_used)
WITH(test_psk_identity_with_nul)
WITH(test_psk_valid)
WITH(test_peer_valid)
WITH(test_context_dropped)

UNIT_MAIN("broker/transport/tls_session", {"tickets", with_test_tickets}, {"no tickets", with_test_no_tickets},
          {"tickets and certificates", with_test_tickets_with_certificates}, {"pre-shared keys", with_test_psk},
          {"an offer proves nothing", with_test_psk_not_used},
          {"an identity with a NUL", with_test_psk_identity_with_nul}, {"keys after a reload", with_test_psk_valid},
          {"certificates after a reload", with_test_peer_valid}, {"a context outlived", with_test_context_dropped})
