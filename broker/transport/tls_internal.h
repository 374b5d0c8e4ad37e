/* tls_internal.h -- what tls.c, tls_context.c and tls_tickets.c share. Inside the room. */
#ifndef TERN_BROKER_TRANSPORT_TLS_INTERNAL_H
#define TERN_BROKER_TRANSPORT_TLS_INTERNAL_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "broker/transport/tls.h"

#define TLS_PAIRS_MAX 32u

/* One certificate and what goes with it. */
struct tls_pair {
    SSL_CTX *ctx;  /* owned */
    char *file;    /* owned; of the certificate */
    uint8_t *ocsp; /* owned; the response to staple; NULL: none */
    size_t ocsp_len;
};

struct tls_psk; /* identities and their keys, sorted by identity */

struct tls_context {
    atomic_uint refs;
    struct tls_pair pairs[TLS_PAIRS_MAX]; /* the first answers where SNI names none */
    unsigned pair_count;
    struct tls_psk *psks; /* owned */
    size_t psk_count;
    uint8_t *alpn; /* owned; protocols that are taken, each behind a byte of length; NULL: not asked */
    unsigned alpn_len;
    bool verifies; /* client certificates */
};

struct tls {
    SSL *ssl;
    struct tls_context *context;
    struct slice in;    /* what came, for the length of a call */
    struct buf *out;    /* where to write, for the length of a call */
    const char *why;    /* what went wrong */
    char *psk_identity; /* owned; by which it came in; NULL: none */
    bool open;
};

/* The connection behind an SSL, for OpenSSL's callbacks. */
struct tls *tls_of(const SSL *ssl);
/* Why the last call to OpenSSL failed; clears its queue of errors. Never NULL. */
const char *tls_error(void);

/* Give a server's context the process's ticket keys; asked for when a ticket is made or comes back. */
void tls_tickets_use(SSL_CTX *ctx);

/* The key of an identity; returns its length, 0 when there is none. */
size_t tls_psk_find(const struct tls_context *context, const char *identity, uint8_t *out, size_t size);

#endif
