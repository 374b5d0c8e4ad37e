/* jwt.c -- a token taken apart, its key found, its signature checked. In this order: nothing that the payload says is
 * read before somebody whom we trust has signed it.
 *
 *     base64url(header) . base64url(payload) . base64url(signature)        RFC 7515, section 7.1 */
#include "broker/auth/jwt.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/hmac.h>

#include "broker/auth/base64.h"
#include "broker/auth/jwt_internal.h"

#define TRIES_MAX 16 /* signatures checked for one token: each costs */

/* The parts of a token in base64url; borrowed from it. */
struct parts {
    struct slice header, payload, signature;
    struct slice signed_text; /* both and the dot between */
};

static bool cut(struct slice token, struct parts *ret_parts)
{
    const uint8_t *first = token.len ? memchr(token.ptr, '.', token.len) : NULL;
    struct slice rest = first ? slice_drop(token, (size_t)(first - token.ptr) + 1) : slice_of(NULL, 0);
    const uint8_t *second = rest.len ? memchr(rest.ptr, '.', rest.len) : NULL;

    if (!second) {
        return false;
    }
    *ret_parts = (struct parts){
        .header = slice_of(token.ptr, (size_t)(first - token.ptr)),
        .payload = slice_of(rest.ptr, (size_t)(second - rest.ptr)),
        .signature = slice_drop(rest, (size_t)(second - rest.ptr) + 1),
        .signed_text = slice_of(token.ptr, (size_t)(second - token.ptr)),
    };
    return true;
}

/* Decode a part that is a JSON object. Returns as jwt_json_load. */
static int load(struct slice part, json_t **ret_object)
{
    struct buf text = {0};
    int rc = base64_decode(part, true, &text);

    rc = rc ? rc : jwt_json_load(buf_slice(&text), ret_object);
    buf_deinit(&text);
    return rc;
}

static bool is_base64url(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i], lower = c | 0x20;
        if ((c < '0' || c > '9') && (lower < 'a' || lower > 'z') && c != '-' && c != '_') {
            return false;
        }
    }
    return true;
}

bool jwt_looks_like(struct slice text)
{
    struct parts parts;
    json_t *header;

    if (text.len > JWT_TOKEN_BYTES_MAX || !cut(text, &parts) || !is_base64url(parts.payload) ||
        !is_base64url(parts.signature) || load(parts.header, &header) != 0) {
        return false;
    }
    json_decref(header);
    return true;
}

/* ---- the header: RFC 7515, section 4.1 ---- */

/* What we heed of it. Keys and addresses of keys that a header brings along (jwk, jku, x5c, x5u) are not looked at. */
struct header {
    unsigned algorithm;
    struct buf kid; /* owned; empty: none */
};

static int read_header(const json_t *object, unsigned taken, struct header *h, const char **ret_why)
{
    const char *alg = json_string_value(json_object_get(object, "alg"));
    const json_t *kid = json_object_get(object, "kid");

    if (json_object_get(object, "crit")) {
        return jwt_no("the token wants an extension that we do not know", ret_why); /* RFC 7515, section 4.1.11 */
    }
    h->algorithm = alg ? jwt_algorithm_of(alg) & taken : 0;
    if (!h->algorithm) {
        return jwt_no("the token's algorithm is not taken", ret_why);
    }
    if (kid && !json_is_string(kid)) {
        return jwt_no("the token's kid is not a text", ret_why);
    }
    buf_put(&h->kid, slice_of(json_string_value(kid), json_string_length(kid)));
    return h->kid.failed ? -ENOMEM : 0;
}

static int load_header(struct slice part, unsigned taken, struct header *h, const char **ret_why)
{
    json_t *object;
    int rc = load(part, &object);

    if (rc) {
        return rc == -EINVAL ? jwt_no("the token's header is ill-formed", ret_why) : rc;
    }
    rc = read_header(object, taken, h, ret_why);
    json_decref(object);
    return rc;
}

/* ---- signatures: these return 0, -EACCES: wrong, or -ENOMEM ---- */

static int check_hmac(const struct jwt_key *key, struct slice text, struct slice signature)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (!HMAC(EVP_sha256(), key->secret.ptr, (int)key->secret.len, text.ptr, text.len, digest, &len)) {
        return -ENOMEM;
    }
    bool equal = signature.len == len && CRYPTO_memcmp(digest, signature.ptr, len) == 0;
    OPENSSL_cleanse(digest, sizeof(digest));
    return equal ? 0 : -EACCES;
}

/* r and s as they stand in a token (RFC 7518, section 3.4) to the DER that OpenSSL wants; free with OPENSSL_free. */
static int ecdsa_der(struct slice signature, uint8_t **ret_der, size_t *ret_len)
{
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature.ptr, 32, NULL), *s = BN_bin2bn(signature.ptr + 32, 32, NULL);

    if (!pair || !r || !s) {
        BN_free(r);
        BN_free(s);
        ECDSA_SIG_free(pair);
        return -ENOMEM;
    }
    ECDSA_SIG_set0(pair, r, s);
    *ret_der = NULL;
    int len = i2d_ECDSA_SIG(pair, ret_der);
    ECDSA_SIG_free(pair);
    *ret_len = len > 0 ? (size_t)len : 0;
    return len > 0 ? 0 : -ENOMEM;
}

static int check_public(const struct jwt_key *key, struct slice text, struct slice signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const EVP_MD *hash = key->algorithm == JWT_EDDSA ? NULL : EVP_sha256();
    int rc = -ENOMEM;

    if (context && EVP_DigestVerifyInit(context, NULL, hash, NULL, key->public) == 1) {
        bool right = EVP_DigestVerify(context, signature.ptr, signature.len, text.ptr, text.len) == 1;
        rc = right ? 0 : -EACCES;
    }
    EVP_MD_CTX_free(context);
    return rc;
}

static int check_ecdsa(const struct jwt_key *key, struct slice text, struct slice signature)
{
    uint8_t *der;
    size_t len;

    if (signature.len != 64) {
        return -EACCES;
    }
    int rc = ecdsa_der(signature, &der, &len);
    if (rc) {
        return rc;
    }
    rc = check_public(key, text, slice_of(der, len));
    OPENSSL_free(der);
    return rc;
}

static int check_with(const struct jwt_key *key, struct slice text, struct slice signature)
{
    switch (key->algorithm) {
    case JWT_HS256:
        return check_hmac(key, text, signature);
    case JWT_ES256:
        return check_ecdsa(key, text, signature);
    case JWT_RS256:
    case JWT_EDDSA:
        break;
    }
    return check_public(key, text, signature);
}

/* Look for the key that made the signature: among those with the token's kid; when none has it, among those that have
 * none themselves (PEM knows no kid); when the token says none, among all. */
static int check_signature(const struct jwt_keys *keys, const struct header *h, struct slice text,
                           struct slice signature, const char **ret_why)
{
    struct slice wanted = buf_slice(&h->kid);
    bool known = jwt_keys_has(keys, wanted);
    unsigned tries = 0;

    for (uint32_t i = 0; i < keys->count && tries < TRIES_MAX; i++) {
        const struct jwt_key *key = &keys->list[i];
        bool named = wanted.len == 0 || slice_eq(buf_slice(&key->kid), known ? wanted : slice_of(NULL, 0));
        if (!named || key->algorithm != h->algorithm) {
            continue;
        }
        int rc = check_with(key, text, signature);
        if (rc != -EACCES) {
            return rc;
        }
        tries++;
    }
    if (known) {
        return jwt_no("the token's signature is wrong, or its key is for another algorithm", ret_why);
    }
    return wanted.len == 0 && tries > 0 ? jwt_no("the token's signature is wrong", ret_why) : -ENOKEY;
}

int jwt_verify(const struct jwt_keys *keys, const struct jwt_terms *terms, struct slice token, uint64_t wall_ms,
               struct jwt_claims *ret_claims, const char **ret_why)
{
    struct parts parts;
    struct header header = {0};
    struct buf signature = {0};
    json_t *payload = NULL;

    if (token.len > JWT_TOKEN_BYTES_MAX) {
        return jwt_no("the token is too long", ret_why);
    }
    if (!cut(token, &parts)) {
        return jwt_no("not a token", ret_why);
    }
    int rc = load_header(parts.header, terms->algorithms, &header, ret_why);
    if (rc == 0) {
        rc = base64_decode(parts.signature, true, &signature);
        rc = rc == -EINVAL ? jwt_no("the token's signature is ill-formed", ret_why) : rc;
    }
    rc = rc ? rc : check_signature(keys, &header, parts.signed_text, buf_slice(&signature), ret_why);
    if (rc == 0) {
        rc = load(parts.payload, &payload);
        rc = rc == -EINVAL ? jwt_no("the token's payload is ill-formed", ret_why) : rc;
    }
    rc = rc ? rc : jwt_claims_read(payload, terms, wall_ms, ret_claims, ret_why);
    json_decref(payload);
    buf_deinit(&signature);
    buf_deinit(&header.kid);
    ERR_clear_error(); /* a wrong signature leaves one behind */
    return rc;
}
