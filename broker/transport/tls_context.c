/* tls_context.c -- what a listener's TLS is made from: certificates, keys, authorities, revocations, keys without
 * certificates.
 *
 * Each certificate has an SSL_CTX of its own; the first begins every handshake, and the server name that the client
 * asks for (SNI, RFC 6066) picks another one by the names in its certificate. Everything is read when a context is
 * made, so that a file that changes later changes nothing. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "broker/transport/tls_internal.h"

#define PATH_BYTES 4096
/* OpenSSL's default in another order: 128 bits are as safe here, take less time for each record, and their hash takes
 * less memory for each connection. */
#define CIPHERSUITES "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
#define FILE_BYTES_MAX (16u << 20)

/* What is being built, and where to say what is wrong. */
struct building {
    const struct tls_settings *settings;
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

/* The next element of a comma-separated list, without the space around it. */
static bool next_path(const char **list, char path[PATH_BYTES])
{
    const char *from = *list;

    while (*from == ' ' || *from == ',') {
        from++;
    }
    size_t len = strcspn(from, ",");
    *list = from + len;
    while (len > 0 && from[len - 1] == ' ') {
        len--;
    }
    snprintf(path, PATH_BYTES, "%.*s", (int)len, from);
    return len > 0;
}

static int check_readable(struct building *b, const char *path)
{
    FILE *in = fopen(path, "re");
    struct stat st;

    if (!in) {
        return fail(b, "%s: %s", path, strerror(errno));
    }
    bool folder = fstat(fileno(in), &st) == 0 && S_ISDIR(st.st_mode);
    fclose(in);
    return folder ? fail(b, "%s: %s", path, strerror(EISDIR)) : 0;
}

/* Read a whole small file. Returns 0 with memory of malloc, or a negative errno after a sentence. */
static int read_file(struct building *b, const char *path, uint8_t **ret_data, size_t *ret_len)
{
    int rc = check_readable(b, path);
    FILE *in = rc ? NULL : fopen(path, "re");
    struct stat st;

    if (!in) {
        return rc ? rc : fail(b, "%s: %s", path, strerror(errno));
    }
    if (fstat(fileno(in), &st) != 0 || st.st_size < 0 || st.st_size > (off_t)FILE_BYTES_MAX) {
        fclose(in);
        return fail(b, "%s: larger than 16 MiB", path);
    }
    uint8_t *data = malloc((size_t)st.st_size + 1);
    if (data) {
        *ret_len = fread(data, 1, (size_t)st.st_size, in);
        data[*ret_len] = 0;
    }
    fclose(in);
    *ret_data = data;
    return data ? 0 : -ENOMEM;
}

/* ---- keys without certificates ---- */

struct tls_psk {
    char *identity; /* owned */
    uint8_t key[PSK_MAX_PSK_LEN];
    size_t key_len;
};

static int psk_order(const void *a, const void *b)
{
    return strcmp(((const struct tls_psk *)a)->identity, ((const struct tls_psk *)b)->identity);
}

size_t tls_psk_find(const struct tls_context *context, const char *identity, uint8_t *out, size_t size)
{
    struct tls_psk wanted = {.identity = (char *)(uintptr_t)identity};
    const struct tls_psk *psk =
        context->psks ? bsearch(&wanted, context->psks, context->psk_count, sizeof(wanted), psk_order) : NULL;

    if (!psk || psk->key_len > size) {
        return 0;
    }
    memcpy(out, psk->key, psk->key_len);
    return psk->key_len;
}

static int psk_line(struct building *b, char *line, unsigned number)
{
    const char *file = b->settings->psk_file;
    struct tls_context *c = b->context;
    char *colon = strchr(line, ':');
    long len = 0;

    if (*line == '\0' || *line == '#') {
        return 0;
    }
    if (!colon || colon == line || colon - line > PSK_MAX_IDENTITY_LEN) {
        return fail(b, "%s:%u: not of the form IDENTITY:KEY", file, number);
    }
    *colon = '\0';
    unsigned char *key = OPENSSL_hexstr2buf(colon + 1, &len);
    if (!key || len < 16 || len > PSK_MAX_PSK_LEN) {
        OPENSSL_free(key);
        return fail(b, "%s:%u: the key must be 16 to %d bytes in hexadecimal", file, number, PSK_MAX_PSK_LEN);
    }
    struct tls_psk *more = realloc(c->psks, (c->psk_count + 1) * sizeof(*more));
    char *identity = strdup(line);
    if (more) {
        c->psks = more;
    }
    if (!more || !identity) {
        free(identity);
        OPENSSL_clear_free(key, (size_t)len);
        return -ENOMEM;
    }
    struct tls_psk *psk = &c->psks[c->psk_count++];
    *psk = (struct tls_psk){.identity = identity, .key_len = (size_t)len};
    memcpy(psk->key, key, (size_t)len);
    OPENSSL_clear_free(key, (size_t)len);
    return 0;
}

static int read_psks(struct building *b)
{
    struct tls_context *c = b->context;
    uint8_t *text = NULL;
    size_t len;
    unsigned number = 0;

    if (!given(b->settings->psk_file)) {
        return 0;
    }
    int rc = read_file(b, b->settings->psk_file, &text, &len);
    for (char *line = (char *)text, *end; rc == 0 && line && *line; line = end) {
        end = line + strcspn(line, "\n");
        end += *end == '\n' ? (*end = '\0', 1) : 0;
        line[strcspn(line, "\r")] = '\0';
        rc = psk_line(b, line, ++number);
    }
    if (text) {
        OPENSSL_cleanse(text, len);
        free(text);
    }
    if (rc == 0 && c->psk_count == 0) {
        return fail(b, "%s: holds no key", b->settings->psk_file);
    }
    if (rc == 0) {
        qsort(c->psks, c->psk_count, sizeof(*c->psks), psk_order);
    }
    for (size_t i = 1; rc == 0 && i < c->psk_count; i++) {
        if (strcmp(c->psks[i - 1].identity, c->psks[i].identity) == 0) {
            return fail(b, "%s: %s stands there twice", b->settings->psk_file, c->psks[i].identity);
        }
    }
    return rc;
}

/* For 1.2, and for 1.3 with the first identity that is known. */
static unsigned int psk_server(SSL *ssl, const char *identity, unsigned char *key, unsigned int size)
{
    struct tls *tls = tls_of(ssl);
    size_t len = identity ? tls_psk_find(tls->context, identity, key, size) : 0;

    if (len > 0) {
        OPENSSL_free(tls->psk_identity);
        tls->psk_identity = OPENSSL_strdup(identity);
    }
    return tls->psk_identity ? (unsigned int)len : 0;
}

/* ---- callbacks of a handshake ---- */

static int pick_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                     unsigned int in_len, void *arg)
{
    const struct tls_context *c = arg;

    (void)ssl;
    if (SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, c->alpn, c->alpn_len, in, in_len) ==
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301, 3.2 */
}

static int pick_certificate(SSL *ssl, int *alert, void *arg)
{
    const struct tls_context *c = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)alert;
    for (unsigned i = 0; name && i < c->pair_count; i++) {
        X509 *certificate = SSL_CTX_get0_certificate(c->pairs[i].ctx);
        if (certificate && X509_check_host(certificate, name, 0, 0, NULL) == 1) {
            if (i > 0) {
                SSL_set_SSL_CTX(ssl, c->pairs[i].ctx);
            }
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK; /* the first one answers whoever names none of ours */
}

static int staple(SSL *ssl, void *arg)
{
    const struct tls_context *c = arg;

    for (unsigned i = 0; i < c->pair_count; i++) {
        const struct tls_pair *pair = &c->pairs[i];
        if (pair->ctx == SSL_get_SSL_CTX(ssl) && pair->ocsp) {
            unsigned char *copy = OPENSSL_memdup(pair->ocsp, pair->ocsp_len);
            if (copy && SSL_set_tlsext_status_ocsp_resp(ssl, copy, (int)pair->ocsp_len) == 1) {
                return SSL_TLSEXT_ERR_OK;
            }
            OPENSSL_free(copy);
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static int no_pass_phrase(char *buffer, int size, int writing, void *arg)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)arg;
    return 0; /* nobody is there to be asked */
}

/* ---- building ---- */

static int use_certificate(struct building *b, SSL_CTX *ctx, const char *certificate, const char *key)
{
    int rc = check_readable(b, certificate);

    rc = rc ? rc : check_readable(b, key);
    if (rc) {
        return rc;
    }
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1) {
        return fail(b, "%s: holds no certificate that can be used (%s)", certificate, tls_error());
    }
    SSL_CTX_set_default_passwd_cb(ctx, no_pass_phrase);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
        unsigned long error = ERR_peek_error();
        if (ERR_GET_LIB(error) == ERR_LIB_X509) {
            return fail(b, "%s: is not the key of %s", key, certificate);
        }
        return fail(b, "%s: holds no private key that can be used; it must be PEM and not encrypted", key);
    }
    if (SSL_CTX_check_private_key(ctx) != 1) {
        return fail(b, "%s: is not the key of %s", key, certificate);
    }
    return 0;
}

static int use_client_ca(struct building *b, SSL_CTX *ctx)
{
    const struct tls_settings *s = b->settings;
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    int rc = check_readable(b, s->client_ca);

    if (rc) {
        return rc;
    }
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(s->client_ca);
    if (!names || SSL_CTX_load_verify_file(ctx, s->client_ca) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return fail(b, "%s: holds no certificate that can be used", s->client_ca);
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set_verify(
        ctx, SSL_VERIFY_PEER | (s->client_certificate == TLS_CLIENT_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
        NULL);
    if (given(s->crl)) {
        rc = check_readable(b, s->crl);
        if (rc) {
            return rc;
        }
        X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
        if (!lookup || X509_load_crl_file(lookup, s->crl, X509_FILETYPE_PEM) <= 0) {
            return fail(b, "%s: holds no revocation list", s->crl);
        }
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    }
    return 0;
}

static int use_words(struct building *b, SSL_CTX *ctx)
{
    const struct tls_settings *s = b->settings;

    if (given(s->ciphers) && SSL_CTX_set_cipher_list(ctx, s->ciphers) != 1) {
        return fail(b, "tls.ciphers: OpenSSL knows no cipher of %s", s->ciphers);
    }
    if (!given(s->ciphersuites)) {
        SSL_CTX_set_ciphersuites(ctx, CIPHERSUITES);
    } else if (SSL_CTX_set_ciphersuites(ctx, s->ciphersuites) != 1) {
        return fail(b, "tls.ciphersuites: OpenSSL does not know all of %s", s->ciphersuites);
    }
    if (given(s->groups) && SSL_CTX_set1_groups_list(ctx, s->groups) != 1) {
        return fail(b, "tls.groups: OpenSSL does not know all of %s", s->groups);
    }
    return 0;
}

/* What is the same for every certificate of a server. */
static int prepare(struct building *b, SSL_CTX *ctx)
{
    const struct tls_settings *s = b->settings;
    struct tls_context *c = b->context;

    SSL_CTX_set_min_proto_version(ctx, s->min_version == 13 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"tern", 4);
    SSL_CTX_set_read_ahead(ctx, 1);
    if (s->tickets && !c->psks) { /* a ticket would forget by whose key it was earned */
        tls_tickets_use(ctx);
        SSL_CTX_set_num_tickets(ctx, 1);
    } else {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
    }
    SSL_CTX_set_tlsext_servername_callback(ctx, pick_certificate);
    SSL_CTX_set_tlsext_servername_arg(ctx, c);
    SSL_CTX_set_tlsext_status_cb(ctx, staple);
    SSL_CTX_set_tlsext_status_arg(ctx, c);
    if (c->alpn) {
        SSL_CTX_set_alpn_select_cb(ctx, pick_alpn, c);
    }
    if (c->psks) {
        SSL_CTX_set_psk_server_callback(ctx, psk_server);
        if (given(s->psk_hint)) {
            SSL_CTX_use_psk_identity_hint(ctx, s->psk_hint);
        }
    }
    int rc = use_words(b, ctx);
    return rc == 0 && s->client_certificate != TLS_CLIENT_NONE ? use_client_ca(b, ctx) : rc;
}

static int add_pair(struct building *b, const char *certificate, const char *key, const char *ocsp)
{
    struct tls_context *c = b->context;
    int rc;

    if (c->pair_count == TLS_PAIRS_MAX) {
        return fail(b, "tls.certificate: more than %u certificates", TLS_PAIRS_MAX);
    }
    struct tls_pair *pair = &c->pairs[c->pair_count];
    pair->ctx = SSL_CTX_new(TLS_server_method());
    if (!pair->ctx) {
        return -ENOMEM;
    }
    c->pair_count++;
    if (certificate) {
        pair->file = strdup(certificate);
        rc = pair->file ? use_certificate(b, pair->ctx, certificate, key) : -ENOMEM;
        if (rc) {
            return rc;
        }
    }
    if (ocsp && strcmp(ocsp, "-") != 0) {
        rc = read_file(b, ocsp, &pair->ocsp, &pair->ocsp_len);
        if (rc) {
            return rc;
        }
    }
    return prepare(b, pair->ctx);
}

/* The n-th certificate, the n-th key and the n-th response belong together. */
static int add_pairs(struct building *b)
{
    const struct tls_settings *s = b->settings;
    const char *certificates = given(s->certificates) ? s->certificates : "";
    const char *keys = given(s->keys) ? s->keys : "";
    const char *responses = given(s->ocsp_responses) ? s->ocsp_responses : "";
    char certificate[PATH_BYTES], key[PATH_BYTES], ocsp[PATH_BYTES];

    while (next_path(&certificates, certificate)) {
        if (!next_path(&keys, key)) {
            return fail(b, "%s: has no key in tls.key", certificate);
        }
        bool stapled = next_path(&responses, ocsp);
        int rc = add_pair(b, certificate, key, stapled ? ocsp : NULL);
        if (rc) {
            return rc;
        }
    }
    return b->context->pair_count > 0 ? 0 : add_pair(b, NULL, NULL, NULL); /* keys without certificates alone */
}

static int read_alpn(struct building *b)
{
    const char *words = b->settings->alpn;
    struct tls_context *c = b->context;
    char word[PATH_BYTES];

    if (!given(words)) {
        return 0;
    }
    c->alpn = calloc(1, strlen(words) + 2);
    if (!c->alpn) {
        return -ENOMEM;
    }
    while (next_path(&words, word)) {
        size_t len = strlen(word);
        c->alpn[c->alpn_len++] = (uint8_t)len;
        memcpy(c->alpn + c->alpn_len, word, len);
        c->alpn_len += (unsigned)len;
    }
    return 0;
}

int tls_server_context_new(const struct tls_settings *settings, char *error, size_t error_size,
                           struct tls_context **ret_context)
{
    struct building b = {.settings = settings, .error = error, .error_size = error_size};

    b.context = calloc(1, sizeof(*b.context));
    if (!b.context) {
        return -ENOMEM;
    }
    b.context->refs = 1;
    b.context->verifies = settings->client_certificate != TLS_CLIENT_NONE;
    int rc = read_alpn(&b);
    rc = rc ? rc : read_psks(&b);
    rc = rc ? rc : add_pairs(&b);
    ERR_clear_error();
    if (rc) {
        tls_context_unref(b.context);
        return rc;
    }
    *ret_context = b.context;
    return 0;
}

int tls_client_context_new(const char *ca, const char *certificate, const char *key, bool insecure, char *error,
                           size_t error_size, struct tls_context **ret_context)
{
    struct building b = {.error = error, .error_size = error_size};
    int rc = 0;

    b.context = calloc(1, sizeof(*b.context));
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!b.context || !ctx) {
        free(b.context);
        SSL_CTX_free(ctx);
        return -ENOMEM;
    }
    b.context->refs = 1;
    b.context->pairs[b.context->pair_count++].ctx = ctx;
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_verify(ctx, insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (!insecure && ca) {
        rc = check_readable(&b, ca);
        if (rc == 0 && SSL_CTX_load_verify_file(ctx, ca) != 1) {
            rc = fail(&b, "%s: holds no certificate that can be used", ca);
        }
    } else if (!insecure) {
        SSL_CTX_set_default_verify_paths(ctx);
    }
    if (rc == 0 && certificate) {
        rc = use_certificate(&b, ctx, certificate, key);
    }
    ERR_clear_error();
    if (rc) {
        tls_context_unref(b.context);
        return rc;
    }
    *ret_context = b.context;
    return 0;
}

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
        SSL_CTX_free(c->pairs[i].ctx);
        free(c->pairs[i].file);
        free(c->pairs[i].ocsp);
    }
    for (size_t i = 0; i < c->psk_count; i++) {
        free(c->psks[i].identity);
        OPENSSL_cleanse(c->psks[i].key, sizeof(c->psks[i].key));
    }
    free(c->psks);
    free(c->alpn);
    free(c);
}

int64_t tls_context_expires(const struct tls_context *c, const char **ret_file)
{
    int64_t first = INT64_MAX;

    for (unsigned i = 0; i < c->pair_count; i++) {
        X509 *certificate = SSL_CTX_get0_certificate(c->pairs[i].ctx);
        struct tm end;
        if (certificate && ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) == 1 && timegm(&end) < first) {
            first = timegm(&end);
            *ret_file = c->pairs[i].file;
        }
    }
    return first;
}
