/* token_fixture.h -- Ed25519 keys as JWKs, and tokens signed by them. */
#ifndef TERN_TESTS_UNIT_BROKER_AUTH_TOKEN_FIXTURE_H
#define TERN_TESTS_UNIT_BROKER_AUTH_TOKEN_FIXTURE_H

#include <assert.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/base64.h"
#include "tests/lib/unit.h"

static inline void put_base64(struct buf *out, struct slice bytes)
{
    base64_encode(bytes, true, out);
    assert(!out->failed);
}

static inline EVP_PKEY *make_key(void)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    assert(key);
    return key;
}

/* {"keys": [one]} into out, with its NUL. */
static inline char *key_set(EVP_PKEY *key, const char *kid, char *out, size_t out_size)
{
    uint8_t raw[32];
    size_t len = sizeof(raw);
    struct buf x = {0};

    int ok = EVP_PKEY_get_raw_public_key(key, raw, &len);
    assert(ok == 1);
    put_base64(&x, slice_of(raw, len));
    snprintf(out, out_size,
             "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"%s\",\"use\":\"sig\",\"x\":\"%.*s\"}]}", kid,
             (int)x.len, (const char *)x.ptr);
    buf_deinit(&x);
    return out;
}

/* A token with these claims (JSON); free it. */
static inline char *make_token(EVP_PKEY *key, const char *kid, const char *claims)
{
    struct buf text = {0};
    char header[128];
    uint8_t signature[64];
    size_t len = sizeof(signature);
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    snprintf(header, sizeof(header), "{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"%s\"}", kid);
    put_base64(&text, slice_str(header));
    buf_put(&text, SLICE("."));
    put_base64(&text, slice_str(claims));
    int ok = EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1 &&
             EVP_DigestSign(context, signature, &len, text.ptr, text.len) == 1;
    assert(ok);
    EVP_MD_CTX_free(context);
    buf_put(&text, SLICE("."));
    put_base64(&text, slice_of(signature, len));
    buf_u8(&text, 0);
    assert(!text.failed);
    return (char *)text.ptr;
}

#endif
