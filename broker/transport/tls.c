/* tls.c -- one connection: bytes through OpenSSL and back, and what was agreed. */
#include "broker/transport/tls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

#include "broker/transport/tls_internal.h"

/* ---- the BIO: reads from tls->in, writes to tls->out ---- */

static int bio_read(BIO *bio, char *to, size_t size, size_t *ret_n)
{
    struct tls *tls = BIO_get_data(bio);
    size_t n = tls->in.len < size ? tls->in.len : size;

    BIO_clear_retry_flags(bio);
    if (n == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(to, tls->in.ptr, n);
    tls->in = slice_drop(tls->in, n);
    *ret_n = n;
    return 1;
}

static int bio_write(BIO *bio, const char *from, size_t size, size_t *ret_n)
{
    struct tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (!tls->out) { /* a free must not write */
        return 0;
    }
    buf_put(tls->out, slice_of(from, size));
    *ret_n = size;
    return !tls->out->failed;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static const BIO_METHOD *bio_method(void)
{
    static _Atomic(BIO_METHOD *) method;
    BIO_METHOD *m = atomic_load(&method), *expected = NULL;

    if (m) {
        return m;
    }
    m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tern");
    if (!m) {
        return NULL;
    }
    BIO_meth_set_read_ex(m, bio_read);
    BIO_meth_set_write_ex(m, bio_write);
    BIO_meth_set_ctrl(m, bio_ctrl);
    if (!atomic_compare_exchange_strong(&method, &expected, m)) { /* another shard was faster */
        BIO_meth_free(m);
        return expected;
    }
    return m;
}

/* ---- life ---- */

/* A handshake has a BIO of its own, for OpenSSL chains another one to it meanwhile. Afterwards each thread has one for
 * all its connections, which is told at each call whose bytes are meant: two hundred bytes less for each. */
static _Thread_local BIO *shared;

static void use_shared(struct tls *tls)
{
    if (!shared && (shared = BIO_new(bio_method())) != NULL) {
        BIO_set_init(shared, 1);
    }
    if (shared && SSL_get_rbio(tls->ssl) != shared) { /* just open, or from another thread */
        BIO_up_ref(shared);
        SSL_set_bio(tls->ssl, shared, shared);
    }
}

/* OpenSSL is about to read and write for this connection. */
static void begin(struct tls *tls, struct buf *out)
{
    tls->out = out;
    if (tls->open) {
        use_shared(tls);
    }
    BIO_set_data(SSL_get_rbio(tls->ssl), tls);
}

static void end(struct tls *tls)
{
    tls->out = NULL;
    tls->in = (struct slice){0};
}

void tls_thread_end(void)
{
    BIO_free(shared);
    shared = NULL;
}

struct tls *tls_of(const SSL *ssl)
{
    return BIO_get_data(SSL_get_rbio(ssl));
}

/* The ephemeral keys have done their work: the handshake's secrets go, and four hundred bytes with them. What remains
 * of the objects is OpenSSL's to free. */
static void forget_keys(struct tls *tls)
{
    EVP_PKEY *keys[2] = {NULL, NULL};

    (void)SSL_get_tmp_key(tls->ssl, &keys[0]);
    (void)SSL_get_peer_tmp_key(tls->ssl, &keys[1]);
    for (unsigned i = 0; i < 2; i++) {
        if (keys[i]) {
            (void)EVP_PKEY_set_type(keys[i], EVP_PKEY_NONE);
            EVP_PKEY_free(keys[i]);
        }
    }
    ERR_clear_error();
}

const char *tls_error(void)
{
    unsigned long error = ERR_peek_error();
    const char *why = error ? ERR_reason_error_string(error) : NULL;

    ERR_clear_error();
    return why ? why : "unknown reason";
}

/* Who must be at the other end: a name or an address. */
static bool expect_host(SSL *ssl, const char *host)
{
    unsigned char address[16];

    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}

struct tls *tls_new(struct tls_context *context, const char *host)
{
    const BIO_METHOD *method = bio_method();
    struct tls *tls = calloc(1, sizeof(*tls));
    BIO *bio = method ? BIO_new(method) : NULL;

    if (!tls || !bio || !(tls->ssl = SSL_new(context->pairs[0].ctx))) {
        BIO_free(bio);
        free(tls);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    tls->context = tls_context_ref(context);
    tls->why = "";
    if (SSL_is_server(tls->ssl)) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
        if (host && !expect_host(tls->ssl, host)) {
            tls_free(tls);
            ERR_clear_error();
            return NULL;
        }
    }
    return tls;
}

void tls_free(struct tls *tls)
{
    if (tls) {
        tls->out = NULL;
        SSL_free(tls->ssl);
        tls_context_unref(tls->context);
        OPENSSL_free(tls->psk_identity);
        free(tls);
    }
}

bool tls_open(const struct tls *tls)
{
    return tls->open;
}

const char *tls_why(const struct tls *tls)
{
    return tls->why;
}

/* ---- bytes ---- */

/* What a failed call of OpenSSL means. */
static int judge(struct tls *tls, int rc)
{
    int error = SSL_get_error(tls->ssl, rc);

    if (error == SSL_ERROR_WANT_READ) {
        return 0;
    }
    if (error == SSL_ERROR_ZERO_RETURN) {
        return -ECONNRESET;
    }
    long verified = SSL_get_verify_result(tls->ssl);
    tls->why = tls_error();
    if (tls->out && tls->out->failed) {
        return -ENOMEM;
    }
    if (!tls->open && verified != X509_V_OK) {
        tls->why = X509_verify_cert_error_string(verified);
    }
    return -EPROTO;
}

/* Take the handshake as far as it goes. Returns 1 when it is over. */
static int handshake(struct tls *tls)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(tls->ssl);

    if (rc != 1) {
        return judge(tls, rc);
    }
    tls->open = true;
    forget_keys(tls);
    return 1;
}

int tls_start(struct tls *tls, struct buf *out)
{
    begin(tls, out);
    int rc = handshake(tls);
    end(tls);
    return rc < 0 ? rc : out->failed ? -ENOMEM : 0;
}

int tls_feed(struct tls *tls, struct slice *data, uint8_t *space, size_t space_size, struct buf *out)
{
    size_t n = 0;
    int rc = 1;

    if (data->len == 0 && tls->open && !SSL_has_pending(tls->ssl)) { /* asked whether that was all: it was */
        return 0;
    }
    begin(tls, out);
    tls->in = *data;
    if (!tls->open) {
        rc = handshake(tls);
    }
    if (rc > 0) {
        rc = SSL_read_ex(tls->ssl, space, space_size, &n);
        rc = rc == 1 ? (int)n : judge(tls, rc);
    }
    *data = tls->in;
    end(tls);
    return rc;
}

int tls_write(struct tls *tls, const void *data, size_t n, struct buf *out)
{
    size_t written;

    assert(tls->open);
    if (n == 0) {
        return 0;
    }
    begin(tls, out);
    int rc = SSL_write_ex(tls->ssl, data, n, &written);
    rc = rc == 1 ? 0 : judge(tls, rc);
    end(tls);
    return rc == 0 && written != n ? -EPROTO : rc;
}

void tls_close(struct tls *tls, struct buf *out)
{
    if (!tls->open) {
        return;
    }
    begin(tls, out);
    (void)SSL_shutdown(tls->ssl);
    ERR_clear_error();
    end(tls);
}

void tls_idle(struct tls *tls)
{
    if (tls->open) {
        (void)SSL_free_buffers(tls->ssl);
    }
}

/* ---- what was agreed ---- */

bool tls_peer_verified(const struct tls *tls)
{
    return tls->open && SSL_get0_peer_certificate(tls->ssl) && SSL_get_verify_result(tls->ssl) == X509_V_OK;
}

/* A string without NUL inside, which would let one name pass for another. */
static int put_string(ASN1_STRING *string, struct buf *out)
{
    unsigned char *text = NULL;
    int len = ASN1_STRING_to_UTF8(&text, string);

    if (len <= 0 || memchr(text, 0, (size_t)len)) {
        OPENSSL_free(text);
        ERR_clear_error();
        return -ENOENT;
    }
    buf_put(out, slice_of(text, (size_t)len));
    OPENSSL_free(text);
    return 0;
}

static int put_dn(X509 *certificate, struct buf *out)
{
    BIO *memory = BIO_new(BIO_s_mem());
    char *text;

    if (!memory || X509_NAME_print_ex(memory, X509_get_subject_name(certificate), 0,
                                      XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) <= 0) {
        BIO_free(memory);
        return -ENOENT;
    }
    long len = BIO_get_mem_data(memory, &text);
    buf_put(out, slice_of(text, (size_t)len));
    BIO_free(memory);
    return 0;
}

static int put_san(X509 *certificate, int type, struct buf *out)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int rc = -ENOENT;

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && rc != 0; i++) {
        GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == type) {
            rc = put_string(name->d.ia5, out);
            break;
        }
    }
    GENERAL_NAMES_free(names);
    return rc;
}

int tls_peer_name(const struct tls *tls, const char *what, struct buf *out)
{
    X509 *certificate = tls_peer_verified(tls) ? SSL_get0_peer_certificate(tls->ssl) : NULL;

    if (!certificate) {
        return -ENOENT;
    }
    if (strcmp(what, "dn") == 0) {
        return put_dn(certificate, out);
    }
    if (strcmp(what, "cn") != 0) {
        return put_san(certificate,
                       strcmp(what, "san_dns") == 0     ? GEN_DNS
                       : strcmp(what, "san_email") == 0 ? GEN_EMAIL
                                                        : GEN_URI,
                       out);
    }
    X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    return at < 0 ? -ENOENT : put_string(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), out);
}

uint64_t tls_peer_expires_ms(const struct tls *tls)
{
    X509 *certificate = tls_peer_verified(tls) ? SSL_get0_peer_certificate(tls->ssl) : NULL;
    struct tm end;

    if (!certificate || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) {
        return UINT64_MAX;
    }
    time_t seconds = timegm(&end);
    return seconds < 0 ? 0 : (uint64_t)seconds * 1000;
}

bool tls_peer_valid(const struct tls *tls, const struct tls_context *context)
{
    X509 *certificate = SSL_get0_peer_certificate(tls->ssl);

    if (!certificate || !context || !context->verifies) {
        return true;
    }
    X509_STORE_CTX *check = X509_STORE_CTX_new();
    bool valid = check &&
                 X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(context->pairs[0].ctx), certificate,
                                     SSL_get_peer_cert_chain(tls->ssl)) == 1 &&
                 X509_STORE_CTX_set_default(check, "ssl_client") == 1 && X509_verify_cert(check) == 1;
    X509_STORE_CTX_free(check);
    ERR_clear_error();
    return valid;
}

/* A key that was offered has been used only if the handshake rests on it; in TLS 1.3 OpenSSL says so by "reused". */
static const char *psk_used(const struct tls *tls)
{
    if (!tls->open || !tls->psk_identity) {
        return NULL;
    }
    return SSL_version(tls->ssl) < TLS1_3_VERSION || SSL_session_reused(tls->ssl) ? tls->psk_identity : NULL;
}

struct slice tls_psk_identity(const struct tls *tls)
{
    const char *identity = psk_used(tls);
    return identity ? slice_str(identity) : (struct slice){0};
}

bool tls_psk_valid(const struct tls *tls, const struct tls_context *context)
{
    const char *identity = psk_used(tls);
    uint8_t before[PSK_MAX_PSK_LEN], now[PSK_MAX_PSK_LEN];

    if (!identity || !context) {
        return true;
    }
    size_t len = tls_psk_find(tls->context, identity, before, sizeof(before));
    bool same = len > 0 && tls_psk_find(context, identity, now, sizeof(now)) == len && memcmp(before, now, len) == 0;
    OPENSSL_cleanse(before, sizeof(before));
    OPENSSL_cleanse(now, sizeof(now));
    return same;
}

bool tls_resumed(const struct tls *tls)
{
    return tls->open && SSL_session_reused(tls->ssl) && !psk_used(tls);
}

const char *tls_version(const struct tls *tls)
{
    return SSL_get_version(tls->ssl);
}

const char *tls_cipher(const struct tls *tls)
{
    return SSL_get_cipher_name(tls->ssl);
}
