/* jwt.h -- JSON Web Tokens (RFC 7519) as proof of who a client is: HS256, RS256, ES256, EdDSA (RFC 7518, 8037).
 *
 * Why our own on OpenSSL and jansson: the checks that matter are few and must all be there; see RFC 8725. The key
 * decides which algorithm is taken, never the token ("none" does not exist here; an RSA key is never an HMAC secret).
 * `crit` is refused. A token is at most 16 KiB. No IO, no clock but the caller's. */
#ifndef TERN_BROKER_AUTH_JWT_H
#define TERN_BROKER_AUTH_JWT_H

#include "broker/auth/acl.h"
#include "proto/base/buf.h"

struct jwt_keys; /* immutable, counted */

enum jwt_algorithm { JWT_HS256 = 1, JWT_RS256 = 2, JWT_ES256 = 4, JWT_EDDSA = 8 };

/* Keys from text: a JWK Set or a single JWK (RFC 7517), one or more PEM public keys or certificates. In a JWK `kid`,
 * `use` (sig) and `alg` are heeded; keys of other kinds are passed over, none left is an error. RSA keys below 2048
 * bits and HMAC secrets below 32 bytes are refused. secrets: whether "oct" keys are taken (from a file: yes; from the
 * network: no). Returns 0, -EINVAL with a sentence in error, -ENOMEM. */
int jwt_keys_parse(struct slice text, bool secrets, const char *name, char *error, size_t error_size,
                   struct jwt_keys **ret_keys);
int jwt_keys_read(const char *path, char *error, size_t error_size, struct jwt_keys **ret_keys);
struct jwt_keys *jwt_keys_ref(struct jwt_keys *keys);
void jwt_keys_unref(struct jwt_keys *keys); /* NULL is allowed; any thread */
size_t jwt_keys_count(const struct jwt_keys *keys);
/* Whether some key has this kid: a token whose kid is unknown is worth a refresh of the JWKS. */
bool jwt_keys_has(const struct jwt_keys *keys, struct slice kid);

struct jwt_terms {
    unsigned algorithms;         /* enum jwt_algorithm bits that are taken */
    const char *issuer;          /* iss must be this; "" : any */
    const char *audience;        /* aud must be or hold this; "" : any */
    uint32_t leeway_s;           /* for exp and nbf */
    const char *user_claim;      /* "sub"; must be a string or the token is refused. A dotted name goes into objects */
    const char *client_id_claim; /* "": none; else the client id must be what the claim says */
    const char *roles_claim;     /* list of strings, or a string of words; "" : none. Missing: no roles */
    const char *rules_claim;     /* as acl_parse_claim; "" : none. Missing: no rules. Ill-formed: refused */
};

/* What a token says. Owned by the caller: jwt_claims_deinit. */
struct jwt_claims {
    struct buf user, client_id; /* client_id empty: not said */
    struct buf roles;           /* names, each ended by NUL */
    unsigned role_count;
    struct acl *rules;      /* NULL: none */
    uint64_t expires_at_ms; /* wall clock; a token without exp is refused */
};
void jwt_claims_deinit(struct jwt_claims *claims);

/* Whether text looks like a token at all: three parts of base64url with dots between, the first a JSON object. */
bool jwt_looks_like(struct slice text);

/* Check signature and claims. A kid that no key has leaves the keys without one (PEM). Returns 0, -EACCES with *ret_why
 * saying why not, for the log; -ENOKEY when no key has the token's kid; -ENOMEM. Tens to hundreds of microseconds: on a
 * worker. */
int jwt_verify(const struct jwt_keys *keys, const struct jwt_terms *terms, struct slice token, uint64_t wall_ms,
               struct jwt_claims *ret_claims, const char **ret_why);

#endif
