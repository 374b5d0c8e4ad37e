/* tls_internal.h -- what the files of TLS share: the inside of a context. Inside the room. */
#ifndef TERN_BROKER_TRANSPORT_TLS_INTERNAL_H
#define TERN_BROKER_TRANSPORT_TLS_INTERNAL_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "broker/transport/tls.h"

#define TLS_PAIRS_MAX 64u

/* One certificate and what goes with it. */
struct tls_pair {
    SSL_CTX *ssl;  /* owned */
    char *file;    /* owned: the certificate's; NULL: pre-shared keys alone */
    uint8_t *ocsp; /* owned: the response to staple; NULL: none */
    size_t ocsp_len;
};

/* Never changed once made, so that all shards use it at once. */
struct tls_context {
    atomic_uint refs;
    bool requires; /* a client must show a certificate */
    unsigned pair_count;
    struct tls_pair pairs[TLS_PAIRS_MAX]; /* the first answers where SNI names none */
    X509_STORE *trusted;   /* owned: who signs client certificates, and what they revoked; NULL: none is asked for */
    struct tls_psks *psks; /* owned; NULL: none */
    uint8_t *alpn;         /* owned: protocols that are taken, each behind a byte of length; NULL: any */
    unsigned alpn_len;
};

/* The context that a connection of a server began with, for OpenSSL's callbacks. */
static inline const struct tls_context *tls_context_of(const SSL *ssl)
{
    return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

/* Whether a client's certificate stands before the context's CA and CRL now. chain: what came with it; may be NULL. */
bool tls_context_trusts(const struct tls_context *context, X509 *certificate, STACK_OF(X509) * chain);

/* Seal tickets with the keys of the process. Returns 0 or -ENOMEM. */
int tls_tickets_install(SSL_CTX *ssl);

/* ---- pre-shared keys ---- */

#define TLS_PSK_MIN 16u /* bytes of a key */
#define TLS_PSK_MAX 64u
#define TLS_PSK_IDENTITY_MAX 128u /* RFC 4279, 5.3 wants no less */

struct tls_psk {
    struct slice identity, key;
};

/* Read a file of them. Returns 0, -EINVAL with one sentence in error, or -ENOMEM. */
int tls_psks_read(const char *path, char *error, size_t error_size, struct tls_psks **ret_psks);
void tls_psks_free(struct tls_psks *psks); /* NULL is allowed */
/* NULL: the identity is not known. psks may be NULL. */
const struct tls_psk *tls_psks_find(const struct tls_psks *psks, struct slice identity);

/* Let clients in by the context's keys. hint may be NULL. Returns 0 or -ENOMEM. */
int tls_psks_install(SSL_CTX *ssl, const char *hint);
/* By whose key this connection has come in; empty: by none. Borrowed from the connection. */
struct slice tls_psks_agreed(const SSL *ssl);

#endif
