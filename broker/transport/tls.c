/* tls.c -- one connection: bytes through OpenSSL and back, and what was agreed.
 *
 * OpenSSL reads and writes through a BIO of ours, which exists so that no byte is copied into a queue between the
 * socket and OpenSSL: `in` and `out` are what the present call was given, and NULL between calls.
 *
 * OpenSSL's queue of errors belongs to the thread, and whoever filled it before may have left something. How a call
 * went is therefore asked of the connection; the queue says why a failed one failed, and is empty afterwards. */
#include "broker/transport/tls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

#include "broker/transport/tls_internal.h"
#include "proto/base/utf8.h"

struct tls {
    SSL *ssl;                    /* owned */
    struct tls_context *context; /* counted */
    struct slice *in;            /* borrowed for the length of a call */
    struct buf *out;             /* the same */
    const char *why;             /* once ended */
    int ended;                   /* 0, or what tls_feed and tls_write return from now on */
    bool open, closed;           /* the handshake is over; close_notify has been written */
};

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *space, size_t size, size_t *ret_n)
{
    struct tls *tls = BIO_get_data(bio);
    size_t n = tls->in ? tls->in->len : 0;

    n = n < size ? n : size;
    if (n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    BIO_clear_retry_flags(bio);
    memcpy(space, tls->in->ptr, n);
    *tls->in = slice_drop(*tls->in, n);
    *ret_n = n;
    return 1;
}

static int bio_write(BIO *bio, const char *data, size_t n, size_t *ret_n)
{
    struct tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (!tls->out || tls->out->failed) {
        return -1;
    }
    buf_put(tls->out, slice_of(data, n));
    *ret_n = n;
    return tls->out->failed ? -1 : 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static CRYPTO_ONCE bio_once = CRYPTO_ONCE_STATIC_INIT;
static BIO_METHOD *bio_method;

static void bio_method_make(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tern");
    if (bio_method) {
        BIO_meth_set_read_ex(bio_method, bio_read);
        BIO_meth_set_write_ex(bio_method, bio_write);
        BIO_meth_set_ctrl(bio_method, bio_ctrl);
    }
}

/* A handshake has a BIO of its own, for OpenSSL chains another one to it meanwhile. Afterwards each thread has one for
 * all its connections, which is told at each call whose bytes are meant: two hundred bytes less for each. */
static _Thread_local BIO *shared;

static BIO *bio_make(void)
{
    BIO *bio = CRYPTO_THREAD_run_once(&bio_once, bio_method_make) && bio_method ? BIO_new(bio_method) : NULL;

    if (bio) {
        BIO_set_init(bio, 1);
    }
    return bio;
}

/* It is just open, or comes from another thread, whose BIO must not be touched here. Returns false without memory. */
static bool use_shared(struct tls *tls)
{
    if (!shared) {
        shared = bio_make();
    }
    if (shared && SSL_get_rbio(tls->ssl) != shared) {
        BIO_up_ref(shared);
        SSL_set_bio(tls->ssl, shared, shared);
    }
    return shared != NULL;
}

void tls_thread_end(void)
{
    BIO_free(shared);
    shared = NULL;
}

/* OpenSSL is about to read and write for this connection. Returns 0 or -ENOMEM, which ends it. */
static int begin(struct tls *tls, struct slice *in, struct buf *out)
{
    if (tls->open && !use_shared(tls)) {
        ERR_clear_error();
        tls->why = "out of memory";
        tls->ended = -ENOMEM;
        return -ENOMEM;
    }
    tls->in = in;
    tls->out = out;
    BIO_set_data(SSL_get_rbio(tls->ssl), tls);
    return 0;
}

static void end(struct tls *tls)
{
    tls->in = NULL;
    tls->out = NULL;
}

/* ---- life ---- */

/* Name the one who must be at the other end. */
static bool expect_host(SSL *ssl, const char *host)
{
    unsigned char address[16];

    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1; /* RFC 6066, 3: no SNI for addresses */
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}

/* The SSL of a connection, on our BIO. */
static bool make_ssl(struct tls *tls, const char *host)
{
    BIO *bio = bio_make();

    tls->ssl = bio ? SSL_new(tls->context->pairs[0].ssl) : NULL;
    if (!tls->ssl) {
        BIO_free(bio);
        return false;
    }
    SSL_set_bio(tls->ssl, bio, bio);
    if (SSL_is_server(tls->ssl)) {
        SSL_set_accept_state(tls->ssl);
        return true;
    }
    SSL_set_connect_state(tls->ssl);
    return !host || expect_host(tls->ssl, host);
}

struct tls *tls_new(struct tls_context *context, const char *host)
{
    struct tls *tls = calloc(1, sizeof(*tls));

    if (!tls) {
        return NULL;
    }
    tls->context = tls_context_ref(context);
    tls->why = "";
    if (!make_ssl(tls, host)) {
        ERR_clear_error();
        tls_free(tls);
        return NULL;
    }
    return tls;
}

void tls_free(struct tls *tls)
{
    if (tls) {
        SSL_free(tls->ssl);
        tls_context_unref(tls->context);
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

/* What OpenSSL says of the error that came last; all are taken from its queue. */
static const char *take_error(void)
{
    unsigned long error = ERR_peek_last_error();
    const char *why = error ? ERR_reason_error_string(error) : NULL;

    ERR_clear_error();
    return why ? why : "unknown reason";
}

/* Why OpenSSL gave nothing: 0 it waits for more, or what ends the connection. */
static int stopped(struct tls *tls)
{
    bool failed = strcmp(SSL_state_string(tls->ssl), "SSLERR") == 0; /* asked of the connection, not of the thread */

    if (!failed && SSL_want(tls->ssl) == SSL_READING) {
        return 0;
    }
    if (!failed && (SSL_get_shutdown(tls->ssl) & SSL_RECEIVED_SHUTDOWN)) {
        tls->why = "closed by the peer";
        tls->ended = -ECONNRESET;
        return tls->ended;
    }
    long verified = SSL_get_verify_result(tls->ssl);
    bool no_memory = ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE;
    tls->why = take_error();
    if (!tls->open && verified != X509_V_OK && SSL_get_verify_mode(tls->ssl) != SSL_VERIFY_NONE) {
        tls->why = X509_verify_cert_error_string(verified);
    }
    tls->ended = no_memory || (tls->out && tls->out->failed) ? -ENOMEM : -EPROTO;
    return tls->ended;
}

/* OpenSSL keeps both halves of the key exchange as long as the connection lives. Empty them: that saves 400 bytes and
 * more, and who reads our memory later cannot make the session's keys from it. */
static void forget_exchange(SSL *ssl)
{
    EVP_PKEY *keys[2] = {NULL, NULL};

    (void)SSL_get_tmp_key(ssl, &keys[0]);
    (void)SSL_get_peer_tmp_key(ssl, &keys[1]);
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        if (keys[i] && !EVP_PKEY_set_type(keys[i], EVP_PKEY_X25519)) { /* any type: what was in it is freed */
            ERR_clear_error();
        }
        EVP_PKEY_free(keys[i]);
    }
}

/* Take the handshake as far as it goes. Returns 1 when it is over, 0, or what ended the connection. */
static int shake_hands(struct tls *tls)
{
    ERR_clear_error();
    if (SSL_do_handshake(tls->ssl) != 1) {
        return stopped(tls);
    }
    tls->open = true;
    forget_exchange(tls->ssl);
    if (SSL_is_server(tls->ssl)) {
        SSL_set_tlsext_status_ocsp_resp(tls->ssl, NULL, 0); /* it has been sent; OpenSSL would keep it to the end */
    }
    return 1;
}

int tls_start(struct tls *tls, struct buf *out)
{
    (void)begin(tls, NULL, out); /* its BIO is its own yet */
    int rc = shake_hands(tls);
    end(tls);
    return rc < 0 ? -ENOMEM : 0;
}

int tls_feed(struct tls *tls, struct slice *data, uint8_t *space, size_t space_size, struct buf *out)
{
    int n = tls->ended;

    assert(space_size > 0);
    if (n) {
        return n;
    }
    if (data->len == 0 && tls->open && !SSL_has_pending(tls->ssl)) { /* asked whether that was all: it was */
        return 0;
    }
    n = begin(tls, data, out);
    if (n) {
        return n;
    }
    if (tls->open || (n = shake_hands(tls)) > 0) {
        n = SSL_read(tls->ssl, space, space_size < INT_MAX ? (int)space_size : INT_MAX);
        n = n > 0 ? n : stopped(tls);
    }
    end(tls);
    return n;
}

int tls_write(struct tls *tls, const void *data, size_t n, struct buf *out)
{
    size_t written = 0;
    int rc = tls->ended;

    assert(tls->open);
    if (rc || n == 0) {
        return rc;
    }
    rc = begin(tls, NULL, out);
    if (rc) {
        return rc;
    }
    if (!SSL_write_ex(tls->ssl, data, n, &written)) { /* it never waits: the BIO takes all or fails for good */
        rc = stopped(tls);
        tls->ended = rc = rc ? rc : -EPROTO;
    }
    end(tls);
    return rc;
}

void tls_close(struct tls *tls, struct buf *out)
{
    if (!tls->open || tls->closed || (tls->ended && tls->ended != -ECONNRESET)) {
        return;
    }
    tls->closed = true;
    if (begin(tls, NULL, out) == 0 && SSL_shutdown(tls->ssl) < 0) {
        ERR_clear_error();
    }
    end(tls);
}

void tls_idle(struct tls *tls)
{
    if (tls->open) {
        (void)use_shared(tls); /* the handshake's own one goes, too */
    }
    (void)SSL_free_buffers(tls->ssl); /* refused while an unfinished record lies in them */
}

/* ---- what was agreed ---- */

/* The verified certificate; NULL: none. Borrowed from the connection. */
static X509 *peer(const struct tls *tls)
{
    X509 *certificate = tls->open ? SSL_get0_peer_certificate(tls->ssl) : NULL;
    bool verified = SSL_get_verify_mode(tls->ssl) != SSL_VERIFY_NONE && SSL_get_verify_result(tls->ssl) == X509_V_OK;

    return verified ? certificate : NULL;
}

bool tls_peer_verified(const struct tls *tls)
{
    return peer(tls) != NULL;
}

/* A NUL inside would let one name pass for another. */
static int put_string(ASN1_STRING *string, struct buf *out)
{
    unsigned char *text = NULL;
    int len = ASN1_STRING_to_UTF8(&text, string);
    bool good = len > 0 && utf8_valid(slice_of(text, (size_t)len));

    if (good) {
        buf_put(out, slice_of(text, (size_t)len));
    }
    OPENSSL_free(text);
    ERR_clear_error();
    return good ? 0 : -ENOENT;
}

static int put_dn(X509 *certificate, struct buf *out)
{
    BIO *memory = BIO_new(BIO_s_mem());
    char *text = NULL;
    long len = memory && X509_NAME_print_ex(memory, X509_get_subject_name(certificate), 0,
                                            XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) > 0
                   ? BIO_get_mem_data(memory, &text)
                   : 0;
    bool good = len > 0 && utf8_valid(slice_of(text, (size_t)len));

    if (good) {
        buf_put(out, slice_of(text, (size_t)len));
    }
    BIO_free(memory);
    ERR_clear_error();
    return good ? 0 : -ENOENT;
}

/* The first of its kind. */
static int put_san(X509 *certificate, int kind, struct buf *out)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int rc = -ENOENT;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == kind) {
            const ASN1_IA5STRING *text = name->d.ia5; /* no conversion, which would take its bytes for Latin-1 */
            struct slice value = slice_of(text->data, (size_t)text->length);
            if (value.len > 0 && utf8_valid(value)) {
                buf_put(out, value);
                rc = 0;
            }
            break;
        }
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return rc;
}

int tls_peer_name(const struct tls *tls, const char *what, struct buf *out)
{
    X509 *certificate = peer(tls);

    if (!certificate) {
        return -ENOENT;
    }
    if (strcmp(what, "cn") == 0) {
        X509_NAME *subject = X509_get_subject_name(certificate);
        int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
        return at < 0 ? -ENOENT : put_string(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), out);
    }
    if (strcmp(what, "dn") == 0) {
        return put_dn(certificate, out);
    }
    static const struct {
        const char *what;
        int kind;
    } kinds[] = {{"san_dns", GEN_DNS}, {"san_email", GEN_EMAIL}, {"san_uri", GEN_URI}};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (strcmp(what, kinds[i].what) == 0) {
            return put_san(certificate, kinds[i].kind, out);
        }
    }
    return -ENOENT;
}

uint64_t tls_peer_expires_ms(const struct tls *tls)
{
    X509 *certificate = peer(tls);
    struct tm end;

    if (!certificate || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) {
        return UINT64_MAX;
    }
    time_t seconds = timegm(&end);
    return seconds < 0 ? 0 : (uint64_t)seconds * 1000;
}

bool tls_peer_valid(const struct tls *tls, const struct tls_context *context)
{
    X509 *certificate = peer(tls);

    return !certificate || tls_context_trusts(context, certificate, SSL_get_peer_cert_chain(tls->ssl));
}

struct slice tls_psk_identity(const struct tls *tls)
{
    return tls->open && tls->context->psks ? tls_psks_agreed(tls->ssl) : (struct slice){0};
}

bool tls_psk_valid(const struct tls *tls, const struct tls_context *context)
{
    struct slice identity = tls_psk_identity(tls);
    const struct tls_psk *then = tls_psks_find(tls->context->psks, identity);
    const struct tls_psk *now = tls_psks_find(context->psks, identity);

    return identity.len == 0 || (then && now && slice_eq(then->key, now->key)); /* neither is the peer's to guess */
}

bool tls_resumed(const struct tls *tls)
{
    return tls->open && !tls->context->psks && SSL_session_reused(tls->ssl); /* OpenSSL calls a PSK a session, too */
}

const char *tls_version(const struct tls *tls)
{
    return SSL_get_version(tls->ssl);
}

const char *tls_cipher(const struct tls *tls)
{
    return SSL_get_cipher_name(tls->ssl);
}
