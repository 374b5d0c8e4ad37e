/* tls_context.c -- what the TLS of a listener is made from: certificates and their keys, authorities, revocations.
 *
 * Each certificate has an SSL_CTX of its own, and all of these point to the same tls_context. The first begins every
 * handshake; the name that the client asks for (SNI, RFC 6066) picks another by the names in its certificate. Files are
 * read when a context is made: one that changes later changes nothing, and nothing is read while connections live. */
#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "broker/transport/tls_internal.h"

#define PATH_BYTES 4096u
/* OpenSSL's default in another order: 128 bits are as safe here, take less time for each record, and their hash takes
 * less memory for each connection. */
#define CIPHERSUITES "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
#define ALPN_NAME_MAX 255u /* RFC 7301, 3.1 */
#define OCSP_BYTES_MAX (1u << 16)

/* What is being built, and where to say what is wrong. */
struct building {
    const struct tls_settings *settings; /* NULL: a client's */
    struct tls_context *context;
    char *error;
    size_t error_size;
};

__attribute__((format(printf, 2, 3))) static int fail(struct building *b, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(b->error, b->error_size, format, args);
    va_end(args);
    ERR_clear_error();
    return -EINVAL;
}

static bool given(const char *text)
{
    return text && *text;
}

/* ---- reading files ---- */

/* OpenSSL reads by path, but does not say well what hinders it. */
static int check_readable(struct building *b, const char *path)
{
    FILE *file = fopen(path, "re");
    struct stat st;
    int rc = file && fstat(fileno(file), &st) == 0 ? (S_ISDIR(st.st_mode) ? EISDIR : 0) : errno;

    if (file) {
        fclose(file);
    }
    return rc ? fail(b, "%s: %s", path, strerror(rc)) : 0;
}

/* The next element of a comma-separated list, without the blanks around it; false behind the last. */
static bool next_element(const char **list, char element[PATH_BYTES])
{
    const char *from = *list ? *list : "";

    from += strspn(from, ", ");
    size_t len = strcspn(from, ",");
    *list = from + len;
    while (len > 0 && from[len - 1] == ' ') {
        len--;
    }
    snprintf(element, PATH_BYTES, "%.*s", (int)len, from);
    return len > 0;
}

static int no_pass_phrase(char *space, int size, int writing, void *none)
{
    (void)space, (void)size, (void)writing, (void)none;
    return 0; /* nobody is there to be asked */
}

static int use_certificate(struct building *b, SSL_CTX *ssl, const char *certificate, const char *key)
{
    int rc = check_readable(b, certificate);

    rc = rc ? rc : check_readable(b, key);
    if (rc) {
        return rc;
    }
    ERR_clear_error(); /* the first error is the cause */
    SSL_CTX_set_default_passwd_cb(ssl, no_pass_phrase);
    if (SSL_CTX_use_certificate_chain_file(ssl, certificate) != 1) {
        unsigned long cause = ERR_peek_error();
        const char *why = ERR_GET_REASON(cause) == PEM_R_NO_START_LINE ? NULL : ERR_reason_error_string(cause);
        return fail(b, "%s: %s", certificate, why ? why : "no certificate in it");
    }
    bool used = SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) == 1;
    if (!used && ERR_GET_LIB(ERR_peek_last_error()) != ERR_LIB_X509) {
        return fail(b, "%s: no private key in it that can be used; it must be PEM and not encrypted", key);
    }
    return used && SSL_CTX_check_private_key(ssl) == 1 ? 0 : fail(b, "%s: is not the key of %s", key, certificate);
}

static int use_ocsp(struct building *b, struct tls_pair *pair, const char *path)
{
    FILE *file = fopen(path, "re");

    if (!file) {
        return fail(b, "%s: %s", path, strerror(errno));
    }
    pair->ocsp = malloc(OCSP_BYTES_MAX);
    pair->ocsp_len = pair->ocsp ? fread(pair->ocsp, 1, OCSP_BYTES_MAX, file) : 0;
    fclose(file);
    if (!pair->ocsp) {
        return -ENOMEM;
    }
    const unsigned char *at = pair->ocsp;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)pair->ocsp_len);
    bool good = response && at == pair->ocsp + pair->ocsp_len;
    OCSP_RESPONSE_free(response);
    return good ? 0 : fail(b, "%s: no OCSP response in DER", path);
}

/* Who signs client certificates, with what they have revoked. */
static int read_trusted(struct building *b)
{
    const struct tls_settings *s = b->settings;
    struct tls_context *c = b->context;
    int rc;

    if (s->client_certificate == TLS_CLIENT_NONE) {
        return 0;
    }
    if (!given(s->client_ca)) {
        return fail(b, "client certificates are asked for, but there is no client_ca to verify them");
    }
    c->requires = s->client_certificate == TLS_CLIENT_REQUIRED;
    rc = check_readable(b, s->client_ca);
    if (rc) {
        return rc;
    }
    c->trusted = X509_STORE_new();
    if (!c->trusted) {
        return -ENOMEM;
    }
    if (X509_STORE_load_file(c->trusted, s->client_ca) != 1) {
        return fail(b, "%s: no certificate in it", s->client_ca);
    }
    rc = given(s->crl) ? check_readable(b, s->crl) : 0;
    if (rc || !given(s->crl)) {
        return rc;
    }
    X509_LOOKUP *lookup = X509_STORE_add_lookup(c->trusted, X509_LOOKUP_file());
    if (!lookup || X509_load_crl_file(lookup, s->crl, X509_FILETYPE_PEM) <= 0) {
        return fail(b, "%s: no revocation list in it", s->crl);
    }
    X509_STORE_set_flags(c->trusted, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return 0;
}

static int read_alpn(struct building *b)
{
    const char *names = b->settings->alpn;
    struct tls_context *c = b->context;
    char name[PATH_BYTES];

    if (!given(names)) {
        return 0;
    }
    c->alpn = malloc(strlen(names) + 1); /* each comma makes room for a length, and so does the end */
    if (!c->alpn) {
        return -ENOMEM;
    }
    while (next_element(&names, name)) {
        size_t len = strlen(name);
        if (len > ALPN_NAME_MAX) {
            return fail(b, "alpn: %.40s... is longer than 255 bytes", name);
        }
        c->alpn[c->alpn_len++] = (uint8_t)len;
        memcpy(c->alpn + c->alpn_len, name, len);
        c->alpn_len += (unsigned)len;
    }
    return 0;
}

/* ---- what OpenSSL asks in a handshake ---- */

static int pick_alpn(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_len, const unsigned char *offered,
                     unsigned offered_len, void *none)
{
    const struct tls_context *c = tls_context_of(ssl);
    unsigned char *name = NULL;

    (void)none;
    if (SSL_select_next_proto(&name, ret_len, c->alpn, c->alpn_len, offered, offered_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301, 3.2 */
    }
    *ret_name = name;
    return SSL_TLSEXT_ERR_OK;
}

static int pick_certificate(SSL *ssl, int *alert, void *none)
{
    const struct tls_context *c = tls_context_of(ssl);
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)alert, (void)none;
    for (unsigned i = 0; name && c->pair_count > 1 && i < c->pair_count; i++) {
        if (X509_check_host(SSL_CTX_get0_certificate(c->pairs[i].ssl), name, 0, 0, NULL) == 1) {
            return i == 0 || SSL_set_SSL_CTX(ssl, c->pairs[i].ssl) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
        }
    }
    return SSL_TLSEXT_ERR_OK;
}

static int staple(SSL *ssl, void *none)
{
    const struct tls_context *c = tls_context_of(ssl);
    const struct tls_pair *pair = c->pairs;

    (void)none;
    while (pair->ssl != SSL_get_SSL_CTX(ssl)) {
        pair++;
        assert(pair < c->pairs + c->pair_count);
    }
    unsigned char *copy = pair->ocsp ? OPENSSL_memdup(pair->ocsp, pair->ocsp_len) : NULL;
    if (!copy) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)pair->ocsp_len); /* takes copy */
    return SSL_TLSEXT_ERR_OK;
}

/* ---- a server's ---- */

static int use_words(struct building *b, SSL_CTX *ssl)
{
    const struct tls_settings *s = b->settings;

    if (given(s->ciphers) && SSL_CTX_set_cipher_list(ssl, s->ciphers) != 1) {
        return fail(b, "ciphers: OpenSSL knows none of %s", s->ciphers);
    }
    if (SSL_CTX_set_ciphersuites(ssl, given(s->ciphersuites) ? s->ciphersuites : CIPHERSUITES) != 1) {
        return fail(b, "ciphersuites: OpenSSL does not know all of %s", s->ciphersuites);
    }
    if (given(s->groups) && SSL_CTX_set1_groups_list(ssl, s->groups) != 1) {
        return fail(b, "groups: OpenSSL does not know all of %s", s->groups);
    }
    return 0;
}

static int ask_for_certificates(struct building *b, SSL_CTX *ssl)
{
    struct tls_context *c = b->context;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(b->settings->client_ca);

    if (!names || SSL_CTX_set1_verify_cert_store(ssl, c->trusted) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return -ENOMEM; /* the file has been read well before */
    }
    SSL_CTX_set_client_CA_list(ssl, names); /* takes names */
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | (c->requires ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
    return 0;
}

/* No session comes back to a listener that asks its clients for something else (RFC 8446, 4.6.1). */
static bool set_session_context(const struct tls_settings *s, SSL_CTX *ssl)
{
    char terms[PATH_BYTES + 16];
    unsigned char digest[32];
    int len = snprintf(terms, sizeof(terms), "%d %s", s->client_certificate, given(s->client_ca) ? s->client_ca : "");
    size_t size = (size_t)len < sizeof(terms) ? (size_t)len : sizeof(terms) - 1;

    return EVP_Digest(terms, size, digest, NULL, EVP_sha256(), NULL) &&
           SSL_CTX_set_session_id_context(ssl, digest, sizeof(digest));
}

/* What is the same for every certificate of a listener. */
static int prepare(struct building *b, SSL_CTX *ssl)
{
    const struct tls_settings *s = b->settings;
    struct tls_context *c = b->context;
    int rc = 0;

    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA); /* for clients that prefer it, which lack AES in hardware */
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* sessions live in tickets, not here */
    SSL_CTX_set_read_ahead(ssl, 1);                          /* several records at one call of the BIO */
    if (!SSL_CTX_set_app_data(ssl, c) || !set_session_context(s, ssl) ||
        !SSL_CTX_set_min_proto_version(ssl, s->min_version == 13 ? TLS1_3_VERSION : TLS1_2_VERSION)) {
        return -ENOMEM;
    }
    if (s->tickets && !c->psks) { /* handshakes by such a key are cheap, and must be done each time while it is good */
        rc = tls_tickets_install(ssl);
    } else {
        SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ssl, 0);
    }
    SSL_CTX_set_tlsext_servername_callback(ssl, pick_certificate);
    SSL_CTX_set_tlsext_status_cb(ssl, staple);
    if (c->alpn) {
        SSL_CTX_set_alpn_select_cb(ssl, pick_alpn, NULL);
    }
    rc = rc || !c->psks ? rc : tls_psks_install(ssl, s->psk_hint);
    rc = rc || !c->trusted ? rc : ask_for_certificates(b, ssl);
    return rc ? rc : use_words(b, ssl);
}

static int add_pair(struct building *b, const char *certificate, const char *key, const char *ocsp)
{
    struct tls_context *c = b->context;
    int rc = 0;

    if (c->pair_count == TLS_PAIRS_MAX) {
        return fail(b, "%s: more than %u certificates", certificate, TLS_PAIRS_MAX);
    }
    struct tls_pair *pair = &c->pairs[c->pair_count];
    pair->ssl = SSL_CTX_new(TLS_server_method());
    if (!pair->ssl) {
        return -ENOMEM;
    }
    c->pair_count++;
    if (certificate) {
        pair->file = strdup(certificate);
        rc = pair->file ? use_certificate(b, pair->ssl, certificate, key) : -ENOMEM;
    }
    if (rc == 0 && ocsp && strcmp(ocsp, "-") != 0) {
        rc = use_ocsp(b, pair, ocsp);
    }
    return rc ? rc : prepare(b, pair->ssl);
}

/* The n-th certificate, the n-th key and the n-th response belong together. */
static int add_pairs(struct building *b)
{
    const char *certificates = b->settings->certificates, *keys = b->settings->keys;
    const char *responses = b->settings->ocsp_responses;
    char certificate[PATH_BYTES], key[PATH_BYTES], ocsp[PATH_BYTES];

    while (next_element(&certificates, certificate)) {
        if (!next_element(&keys, key)) {
            return fail(b, "%s: there is no key for this certificate", certificate);
        }
        int rc = add_pair(b, certificate, key, next_element(&responses, ocsp) ? ocsp : NULL);
        if (rc) {
            return rc;
        }
    }
    if (next_element(&keys, key)) {
        return fail(b, "%s: there is no certificate for this key", key);
    }
    if (next_element(&responses, ocsp)) {
        return fail(b, "%s: there is no certificate for this OCSP response", ocsp);
    }
    if (b->context->pair_count > 0) {
        return 0;
    }
    return b->context->psks ? add_pair(b, NULL, NULL, NULL) : fail(b, "there is neither a certificate nor a psk_file");
}

/* Give the context to the caller, or, after a failure, back. */
static int finish(struct building *b, int rc, struct tls_context **ret_context)
{
    ERR_clear_error();
    if (rc) {
        tls_context_unref(b->context);
        return rc;
    }
    *ret_context = b->context;
    return 0;
}

int tls_server_context_new(const struct tls_settings *settings, char *error, size_t error_size,
                           struct tls_context **ret_context)
{
    struct building b = {settings, calloc(1, sizeof(*b.context)), error, error_size};
    int rc = 0;

    if (!b.context) {
        return -ENOMEM;
    }
    b.context->refs = 1;
    if (given(settings->crl) && !given(settings->client_ca)) {
        rc = fail(&b, "%s: a revocation list needs a client_ca", settings->crl);
    }
    rc = rc ? rc : read_alpn(&b);
    rc = rc ? rc : read_trusted(&b);
    if (rc == 0 && given(settings->psk_file)) {
        rc = tls_psks_read(settings->psk_file, error, error_size, &b.context->psks);
    }
    rc = rc ? rc : add_pairs(&b);
    return finish(&b, rc, ret_context);
}

/* ---- a client's ---- */

int tls_client_context_new(const char *ca, const char *certificate, const char *key, bool insecure, char *error,
                           size_t error_size, struct tls_context **ret_context)
{
    struct building b = {NULL, calloc(1, sizeof(*b.context)), error, error_size};
    SSL_CTX *ssl = b.context ? SSL_CTX_new(TLS_client_method()) : NULL;
    int rc = 0;

    if (!ssl) {
        free(b.context);
        return -ENOMEM;
    }
    b.context->refs = 1;
    b.context->pairs[b.context->pair_count++].ssl = ssl;
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ssl, 1);
    SSL_CTX_set_verify(ssl, insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (!SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION)) {
        rc = -ENOMEM;
    } else if (!insecure && given(ca)) {
        rc = check_readable(&b, ca);
        rc = rc || SSL_CTX_load_verify_file(ssl, ca) == 1 ? rc : fail(&b, "%s: no certificate in it", ca);
    } else if (!insecure && SSL_CTX_set_default_verify_paths(ssl) != 1) {
        rc = -ENOMEM;
    }
    if (rc == 0 && given(certificate)) {
        rc = given(key) ? use_certificate(&b, ssl, certificate, key)
                        : fail(&b, "%s: there is no key for this certificate", certificate);
    }
    return finish(&b, rc, ret_context);
}

/* ---- both ---- */

struct tls_context *tls_context_ref(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->refs, 1, memory_order_relaxed);
    return context;
}

void tls_context_unref(struct tls_context *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (unsigned i = 0; i < c->pair_count; i++) {
        SSL_CTX_free(c->pairs[i].ssl);
        free(c->pairs[i].file);
        free(c->pairs[i].ocsp);
    }
    X509_STORE_free(c->trusted);
    tls_psks_free(c->psks);
    free(c->alpn);
    free(c);
}

bool tls_context_trusts(const struct tls_context *context, X509 *certificate, STACK_OF(X509) * chain)
{
    X509_STORE_CTX *check = context->trusted ? X509_STORE_CTX_new() : NULL;
    bool good = check && X509_STORE_CTX_init(check, context->trusted, certificate, chain) == 1 &&
                X509_STORE_CTX_set_default(check, "ssl_client") == 1 && X509_verify_cert(check) == 1;

    X509_STORE_CTX_free(check);
    ERR_clear_error();
    return good;
}

static void earlier(const X509 *certificate, int64_t *first)
{
    struct tm end;

    if (certificate && ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) == 1 && timegm(&end) < *first) {
        *first = timegm(&end);
    }
}

int64_t tls_context_expires(const struct tls_context *c, const char **ret_file)
{
    int64_t first = INT64_MAX;

    for (unsigned i = 0; i < c->pair_count; i++) {
        STACK_OF(X509) *chain = NULL;
        int64_t end = INT64_MAX;

        earlier(SSL_CTX_get0_certificate(c->pairs[i].ssl), &end);
        SSL_CTX_get0_chain_certs(c->pairs[i].ssl, &chain);
        for (int j = 0; j < sk_X509_num(chain); j++) {
            earlier(sk_X509_value(chain, j), &end);
        }
        if (end < first) {
            first = end;
            *ret_file = c->pairs[i].file;
        }
    }
    return first;
}
