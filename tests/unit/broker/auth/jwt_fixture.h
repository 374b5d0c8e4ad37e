/* jwt_fixture.h -- who signs tokens: one key of each algorithm, made at run time, its public half as JWK and PEM. */
#ifndef TERN_TESTS_UNIT_BROKER_AUTH_JWT_FIXTURE_H
#define TERN_TESTS_UNIT_BROKER_AUTH_JWT_FIXTURE_H

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/base64.h"
#include "broker/auth/jwt.h"

static inline void fixture_must(bool ok)
{
    if (!ok) {
        abort(); /* also without asserts: the test cannot go on */
    }
}

struct signer {
    enum jwt_algorithm algorithm;
    EVP_PKEY *key; /* owned; NULL for HS256 */
    uint8_t secret[32];
};

static inline const char *signer_alg(const struct signer *s)
{
    return s->algorithm == JWT_HS256   ? "HS256"
           : s->algorithm == JWT_RS256 ? "RS256"
           : s->algorithm == JWT_ES256 ? "ES256"
                                       : "EdDSA";
}

static inline struct signer signer_init(enum jwt_algorithm algorithm, uint8_t seed)
{
    struct signer s = {.algorithm = algorithm};

    memset(s.secret, seed, sizeof(s.secret));
    if (algorithm == JWT_RS256) {
        s.key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    } else if (algorithm == JWT_ES256) {
        s.key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    } else if (algorithm == JWT_EDDSA) {
        s.key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    }
    fixture_must(s.key || algorithm == JWT_HS256);
    return s;
}

static inline void signer_deinit(struct signer *s)
{
    EVP_PKEY_free(s->key);
    s->key = NULL;
}

static inline void put_number(const EVP_PKEY *key, const char *name, size_t len, struct buf *out)
{
    BIGNUM *number = NULL;
    uint8_t bytes[512];

    fixture_must(EVP_PKEY_get_bn_param(key, name, &number) == 1);
    len = len ? len : (size_t)BN_num_bytes(number);
    fixture_must(BN_bn2binpad(number, bytes, (int)len) == (int)len);
    base64_encode(slice_of(bytes, len), true, out);
    BN_free(number);
}

/* Append a JWK; more: further members, each with a comma behind it. */
static inline void put_jwk(const struct signer *s, const char *more, struct buf *out)
{
    uint8_t raw[32];
    size_t len = sizeof(raw);

    buf_put(out, SLICE("{"));
    buf_put(out, slice_str(more));
    switch (s->algorithm) {
    case JWT_HS256:
        buf_put(out, SLICE("\"kty\":\"oct\",\"k\":\""));
        base64_encode(slice_of(s->secret, sizeof(s->secret)), true, out);
        break;
    case JWT_RS256:
        buf_put(out, SLICE("\"kty\":\"RSA\",\"n\":\""));
        put_number(s->key, OSSL_PKEY_PARAM_RSA_N, 0, out);
        buf_put(out, SLICE("\",\"e\":\""));
        put_number(s->key, OSSL_PKEY_PARAM_RSA_E, 0, out);
        break;
    case JWT_ES256:
        buf_put(out, SLICE("\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\""));
        put_number(s->key, OSSL_PKEY_PARAM_EC_PUB_X, 32, out);
        buf_put(out, SLICE("\",\"y\":\""));
        put_number(s->key, OSSL_PKEY_PARAM_EC_PUB_Y, 32, out);
        break;
    case JWT_EDDSA:
        fixture_must(EVP_PKEY_get_raw_public_key(s->key, raw, &len) == 1);
        buf_put(out, SLICE("\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\""));
        base64_encode(slice_of(raw, len), true, out);
        break;
    }
    buf_put(out, SLICE("\"}"));
}

static inline void put_pem(const struct signer *s, struct buf *out)
{
    BIO *memory = BIO_new(BIO_s_mem());
    char *text = NULL;

    fixture_must(memory && PEM_write_bio_PUBKEY(memory, s->key) == 1);
    long len = BIO_get_mem_data(memory, &text);
    buf_put(out, slice_of(text, (size_t)len));
    BIO_free(memory);
}

/* The signature as a token has it. */
static inline void put_signature(const struct signer *s, struct slice text, struct buf *out)
{
    uint8_t bytes[512];
    size_t len = sizeof(bytes);
    unsigned hmac_len;

    if (s->algorithm == JWT_HS256) {
        fixture_must(HMAC(EVP_sha256(), s->secret, sizeof(s->secret), text.ptr, text.len, bytes, &hmac_len) != NULL);
        base64_encode(slice_of(bytes, hmac_len), true, out);
        return;
    }
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const EVP_MD *hash = s->algorithm == JWT_EDDSA ? NULL : EVP_sha256();
    fixture_must(EVP_DigestSignInit(context, NULL, hash, NULL, s->key) == 1 &&
                 EVP_DigestSign(context, bytes, &len, text.ptr, text.len) == 1);
    EVP_MD_CTX_free(context);
    if (s->algorithm == JWT_ES256) {
        const uint8_t *at = bytes;
        ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)len);
        fixture_must(pair && BN_bn2binpad(ECDSA_SIG_get0_r(pair), bytes, 32) == 32 &&
                     BN_bn2binpad(ECDSA_SIG_get0_s(pair), bytes + 32, 32) == 32);
        ECDSA_SIG_free(pair);
        len = 64;
    }
    base64_encode(slice_of(bytes, len), true, out);
}

/* A token of these two texts; free it with buf_deinit. */
static inline struct buf sign_token(const struct signer *s, struct slice header, struct slice payload)
{
    struct buf token = {0};

    base64_encode(header, true, &token);
    buf_u8(&token, '.');
    base64_encode(payload, true, &token);
    struct buf text = {0};
    buf_put(&text, buf_slice(&token));
    buf_u8(&token, '.');
    put_signature(s, buf_slice(&text), &token);
    fixture_must(!token.failed && !text.failed);
    buf_deinit(&text);
    return token;
}

/* A header with the signer's algorithm and, if it is not "", this kid. */
static inline struct buf plain_token(const struct signer *s, const char *kid, const char *payload)
{
    char header[256];
    int len = *kid ? snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"%s\"}", signer_alg(s), kid)
                   : snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", signer_alg(s));

    return sign_token(s, slice_of(header, (size_t)len), slice_str(payload));
}

static inline struct jwt_keys *keys_of(struct slice text, bool secrets)
{
    struct jwt_keys *keys = NULL;
    char error[256];

    int rc = jwt_keys_parse(text, secrets, "keys", error, sizeof(error), &keys);
    if (rc) {
        fprintf(stderr, "%s\n", error);
    }
    fixture_must(rc == 0);
    return keys;
}

#endif
