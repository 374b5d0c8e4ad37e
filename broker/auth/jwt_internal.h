/* jwt_internal.h -- what a key is. Private to jwt.c (header and signature), jwt_claims.c and jwt_keys.c. */
#ifndef TERN_BROKER_AUTH_JWT_INTERNAL_H
#define TERN_BROKER_AUTH_JWT_INTERNAL_H

#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdatomic.h>

#include "broker/auth/jwt.h"

#define JWT_TOKEN_BYTES_MAX 16384

/* What a key is decides, alone, which algorithm it verifies. */
struct jwt_key {
    enum jwt_algorithm algorithm;
    struct buf kid;    /* owned; empty: it has none */
    EVP_PKEY *public;  /* counted; NULL for HS256 */
    struct buf secret; /* owned, wiped when freed; HS256 only */
};

struct jwt_keys {
    atomic_uint refs;
    uint32_t count;
    struct jwt_key *list; /* owned */
};

/* Refuse a token; why is for the log. */
static inline int jwt_no(const char *why, const char **ret_why)
{
    *ret_why = why;
    return -EACCES;
}

/* Bytes (UTF-8, without NUL) that must be one JSON object in which no member is named twice. Returns 0, -EINVAL or
 * -ENOMEM. */
int jwt_json_load(struct slice text, json_t **ret_object);

/* The algorithm of this name (RFC 7518, section 3.1), or 0. */
unsigned jwt_algorithm_of(const char *name);

/* Judge the claims of a token whose signature is right. Returns as jwt_verify. */
int jwt_claims_read(const json_t *payload, const struct jwt_terms *terms, uint64_t wall_ms,
                    struct jwt_claims *ret_claims, const char **ret_why);

#endif
