/* jwt_keys.c -- keys from PEM and JWK text. Each is checked once, here, so that a token meets only keys that are sound.
 *
 * A key that serves something else (another curve, encryption, a private key in the same file) is passed over; one that
 * should serve and is broken or weak refuses the whole text, for whoever wrote it believes that it works. */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/base64.h"
#include "broker/auth/jwt_internal.h"
#include "proto/base/utf8.h"

#define KEYS_MAX 256
#define TEXT_BYTES_MAX (1u << 20)
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192 /* looking at a larger one takes seconds */
#define SECRET_BYTES_MIN 32
#define P256_BYTES 32
#define ED25519_BYTES 32

/* What is being read. */
struct reader {
    struct jwt_keys *keys;
    const char *name;
    char *error;
    size_t error_size;
    unsigned seen; /* of JWKs or PEM blocks; the place of the present one, counted from 1 */
};

/* Write "NAME: why" as the error; with the place of the key if one is being read. Returns -EINVAL. */
__attribute__((format(printf, 2, 3))) static int fail(const struct reader *r, const char *format, ...)
{
    char place[32] = "";
    va_list arguments;

    if (r->seen) {
        snprintf(place, sizeof(place), "key %u: ", r->seen);
    }
    int len = snprintf(r->error, r->error_size, "%s: %s", r->name, place);
    if (len >= 0 && (size_t)len < r->error_size) {
        va_start(arguments, format);
        vsnprintf(r->error + len, r->error_size - (size_t)len, format, arguments);
        va_end(arguments);
    }
    return -EINVAL;
}

static void key_deinit(struct jwt_key *key)
{
    EVP_PKEY_free(key->public);
    buf_deinit(&key->kid);
    if (key->secret.ptr) {
        OPENSSL_cleanse(key->secret.ptr, key->secret.cap);
    }
    buf_deinit(&key->secret);
}

/* Put the key, whose contents are taken in any case, at the end. */
static int keys_add(struct reader *r, struct jwt_key *key)
{
    struct jwt_keys *keys = r->keys;
    bool full = keys->count == KEYS_MAX;
    struct jwt_key *list = full ? NULL : realloc(keys->list, (keys->count + 1) * sizeof(*list));

    if (!list) {
        key_deinit(key);
        return full ? fail(r, "there are more than %d keys", KEYS_MAX) : -ENOMEM;
    }
    keys->list = list;
    keys->list[keys->count++] = *key;
    return 0;
}

/* ---- public keys of either origin ---- */

/* Which algorithm the key serves, or 0. */
static unsigned key_algorithm(const EVP_PKEY *public)
{
    char group[32];

    if (EVP_PKEY_is_a(public, "RSA")) {
        return JWT_RS256;
    }
    if (EVP_PKEY_is_a(public, "ED25519")) {
        return JWT_EDDSA;
    }
    if (EVP_PKEY_is_a(public, "EC") && EVP_PKEY_get_group_name(public, group, sizeof(group), NULL) == 1 &&
        strcmp(group, "prime256v1") == 0) {
        return JWT_ES256;
    }
    return 0;
}

/* Whether the key is what it should be: a point of the curve; an odd modulus of several primes, an exponent above 1. */
static bool key_sound(EVP_PKEY *public)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, public, NULL);
    bool sound = context && EVP_PKEY_public_check(context) == 1;

    EVP_PKEY_CTX_free(context);
    return sound;
}

/* public, kid: taken over in any case. */
static int add_public(struct reader *r, EVP_PKEY *public, struct buf kid)
{
    struct jwt_key key = {.algorithm = key_algorithm(public), .public = public, .kid = kid};
    int rc = 0;

    if (key.algorithm == JWT_RS256 && EVP_PKEY_get_bits(public) < RSA_BITS_MIN) {
        rc = fail(r, "an RSA key of less than %d bits", RSA_BITS_MIN);
    } else if (key.algorithm == JWT_RS256 && EVP_PKEY_get_bits(public) > RSA_BITS_MAX) {
        rc = fail(r, "an RSA key of more than %d bits", RSA_BITS_MAX);
    } else if (key.algorithm && !key_sound(public)) {
        rc = fail(r, "not a valid public key");
    }
    if (rc || !key.algorithm) {
        key_deinit(&key);
        return rc;
    }
    return keys_add(r, &key);
}

/* ---- JWK: RFC 7517; the kinds: RFC 7518, section 6, and RFC 8037, section 2 ---- */

int jwt_json_load(struct slice text, json_t **ret_object)
{
    json_error_t error;

    if (text.len == 0 || !utf8_valid(text)) { /* jansson passes over a NUL behind a number */
        return -EINVAL;
    }
    json_t *value = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, &error);
    if (!value) {
        return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EINVAL;
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return -EINVAL;
    }
    *ret_object = value;
    return 0;
}

/* The text of a member; NULL: there is none or it is no text. */
static const char *member(const json_t *jwk, const char *name)
{
    return json_string_value(json_object_get(jwk, name));
}

static bool member_is(const json_t *jwk, const char *name, const char *text)
{
    const char *value = member(jwk, name);
    return value && strcmp(value, text) == 0;
}

/* Append the bytes that a member says in base64url. */
static int member_bytes(struct reader *r, const json_t *jwk, const char *name, struct buf *out)
{
    const char *text = member(jwk, name);
    uint32_t len_before = out->len;
    int rc = text ? base64_decode(slice_str(text), true, out) : -EINVAL;

    if (rc == 0 && out->len == len_before) {
        rc = -EINVAL;
    }
    return rc == -EINVAL ? fail(r, "\"%s\" is missing or not base64url", name) : rc;
}

/* The key that fromdata makes of params (taken over; NULL: memory is out). */
static int public_of(struct reader *r, const char *type, OSSL_PARAM *params, EVP_PKEY **ret_public)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    int rc = -ENOMEM;

    if (context && params && EVP_PKEY_fromdata_init(context) == 1) {
        bool made = EVP_PKEY_fromdata(context, ret_public, EVP_PKEY_PUBLIC_KEY, params) == 1;
        rc = made ? 0 : fail(r, "not a valid public key");
    }
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(params);
    return rc;
}

static int rsa_of(struct reader *r, const json_t *jwk, EVP_PKEY **ret_public)
{
    struct buf n = {0}, e = {0};
    BIGNUM *n_number = NULL, *e_number = NULL;
    OSSL_PARAM_BLD *build = NULL;
    int rc = member_bytes(r, jwk, "n", &n);

    rc = rc ? rc : member_bytes(r, jwk, "e", &e);
    if (rc == 0) {
        n_number = BN_bin2bn(n.ptr, (int)n.len, NULL);
        e_number = BN_bin2bn(e.ptr, (int)e.len, NULL);
        build = OSSL_PARAM_BLD_new();
        bool ok = n_number && e_number && build && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n_number) &&
                  OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e_number);
        rc = public_of(r, "RSA", ok ? OSSL_PARAM_BLD_to_param(build) : NULL, ret_public);
    }
    OSSL_PARAM_BLD_free(build);
    BN_free(n_number);
    BN_free(e_number);
    buf_deinit(&n);
    buf_deinit(&e);
    return rc;
}

static int p256_of(struct reader *r, const json_t *jwk, EVP_PKEY **ret_public)
{
    struct buf point = {0};
    OSSL_PARAM_BLD *build = NULL;

    buf_u8(&point, POINT_CONVERSION_UNCOMPRESSED);
    int rc = member_bytes(r, jwk, "x", &point);
    if (rc == 0 && point.len != 1 + P256_BYTES) {
        rc = fail(r, "\"x\" is not %d bytes long", P256_BYTES);
    }
    rc = rc ? rc : member_bytes(r, jwk, "y", &point);
    if (rc == 0 && point.len != 1 + 2 * P256_BYTES) {
        rc = fail(r, "\"y\" is not %d bytes long", P256_BYTES);
    }
    if (rc == 0) {
        build = OSSL_PARAM_BLD_new();
        bool ok = build && OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) &&
                  OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point.ptr, point.len);
        rc = public_of(r, "EC", ok ? OSSL_PARAM_BLD_to_param(build) : NULL, ret_public);
    }
    OSSL_PARAM_BLD_free(build);
    buf_deinit(&point);
    return rc;
}

static int ed25519_of(struct reader *r, const json_t *jwk, EVP_PKEY **ret_public)
{
    struct buf x = {0};
    int rc = member_bytes(r, jwk, "x", &x);

    if (rc == 0 && x.len != ED25519_BYTES) {
        rc = fail(r, "\"x\" is not %d bytes long", ED25519_BYTES);
    }
    if (rc == 0) {
        *ret_public = EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, x.ptr, x.len);
        rc = *ret_public ? 0 : -ENOMEM;
    }
    buf_deinit(&x);
    return rc;
}

/* kid: taken over in any case. */
static int add_secret(struct reader *r, const json_t *jwk, struct buf kid)
{
    struct jwt_key key = {.algorithm = JWT_HS256, .kid = kid};
    int rc = member_bytes(r, jwk, "k", &key.secret);

    if (rc == 0 && key.secret.len < SECRET_BYTES_MIN) {
        rc = fail(r, "a secret of less than %d bytes", SECRET_BYTES_MIN); /* RFC 7518, section 3.2 */
    }
    if (rc) {
        key_deinit(&key);
        return rc;
    }
    return keys_add(r, &key);
}

/* A kind of JWK that we know. */
static const struct kind {
    enum jwt_algorithm algorithm;
    const char *kty, *crv, *alg;
    int (*make)(struct reader *r, const json_t *jwk, EVP_PKEY **ret_public); /* NULL: a secret */
} kinds[] = {
    {JWT_RS256, "RSA", NULL, "RS256", rsa_of},
    {JWT_ES256, "EC", "P-256", "ES256", p256_of},
    {JWT_EDDSA, "OKP", "Ed25519", "EdDSA", ed25519_of},
    {JWT_HS256, "oct", NULL, "HS256", NULL},
};

unsigned jwt_algorithm_of(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (strcmp(kinds[i].alg, name) == 0) {
            return kinds[i].algorithm;
        }
    }
    return 0;
}

/* The kind of a JWK that is for our signatures; NULL: pass it over. */
static const struct kind *kind_of(const json_t *jwk)
{
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        const struct kind *k = &kinds[i];
        if (member_is(jwk, "kty", k->kty) && (!k->crv || member_is(jwk, "crv", k->crv)) &&
            (!json_object_get(jwk, "use") || member_is(jwk, "use", "sig")) &&
            (!json_object_get(jwk, "alg") || member_is(jwk, "alg", k->alg))) {
            return k;
        }
    }
    return NULL;
}

static int add_jwk(struct reader *r, const json_t *jwk, bool secrets)
{
    const struct kind *kind = kind_of(jwk);
    const json_t *kid = json_object_get(jwk, "kid");
    struct buf kid_text = {0};
    EVP_PKEY *public = NULL;

    if (!kind || (!kind->make && !secrets)) {
        return 0;
    }
    if (kid && json_string_length(kid) == 0) {
        return fail(r, "\"kid\" is not a text");
    }
    int rc = kind->make ? kind->make(r, jwk, &public) : 0;
    if (rc) {
        return rc;
    }
    buf_put(&kid_text, slice_of(json_string_value(kid), json_string_length(kid)));
    if (kid_text.failed) {
        EVP_PKEY_free(public);
        return -ENOMEM;
    }
    return kind->make ? add_public(r, public, kid_text) : add_secret(r, jwk, kid_text);
}

static int read_json(struct reader *r, struct slice text, bool secrets)
{
    json_t *object, *jwk;
    int rc = jwt_json_load(text, &object);
    size_t i;

    if (rc) {
        return rc == -EINVAL ? fail(r, "not a JSON object, or a member stands twice in one") : rc;
    }
    json_t *list = json_object_get(object, "keys");
    if (list && !json_is_array(list)) {
        rc = fail(r, "\"keys\" is not a list");
    } else if (!list) {
        rc = add_jwk(r, object, secrets);
    }
    json_array_foreach(list, i, jwk)
    {
        r->seen = (unsigned)i + 1;
        rc = rc ? rc : add_jwk(r, jwk, secrets);
    }
    json_decref(object);
    return rc;
}

/* ---- PEM ---- */

static int add_block(struct reader *r, const char *label, const uint8_t *bytes, long len)
{
    EVP_PKEY *public = NULL;

    if (strcmp(label, "CERTIFICATE") == 0) {
        X509 *certificate = d2i_X509(NULL, &bytes, len);
        public = certificate ? X509_get_pubkey(certificate) : NULL;
        X509_free(certificate);
    } else if (strcmp(label, "PUBLIC KEY") == 0) {
        public = d2i_PUBKEY(NULL, &bytes, len);
    } else if (strcmp(label, "RSA PUBLIC KEY") == 0) {
        public = d2i_PublicKey(EVP_PKEY_RSA, NULL, &bytes, len);
    } else {
        return 0;
    }
    return public ? add_public(r, public, (struct buf){0}) : fail(r, "not a valid public key");
}

static int read_pem(struct reader *r, struct slice text)
{
    BIO *in = BIO_new_mem_buf(text.ptr, (int)text.len);
    char *label, *header;
    uint8_t *bytes;
    long len;
    int rc = in ? 0 : -ENOMEM;

    while (rc == 0 && PEM_read_bio(in, &label, &header, &bytes, &len) == 1) {
        r->seen++;
        rc = add_block(r, label, bytes, len);
        OPENSSL_free(label);
        OPENSSL_free(header);
        OPENSSL_clear_free(bytes, (size_t)len);
    }
    if (rc == 0 && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
        r->seen++;
        rc = fail(r, "not valid PEM");
    }
    BIO_free(in);
    return rc;
}

/* ---- the whole ---- */

static bool is_json(struct slice text)
{
    size_t i = 0;
    while (i < text.len && memchr(" \t\r\n", text.ptr[i], 4)) {
        i++;
    }
    return i < text.len && text.ptr[i] == '{';
}

int jwt_keys_parse(struct slice text, bool secrets, const char *name, char *error, size_t error_size,
                   struct jwt_keys **ret_keys)
{
    struct reader r = {.name = name, .error = error, .error_size = error_size};
    int rc;

    if (text.len == 0 || text.len > TEXT_BYTES_MAX) {
        return fail(&r, text.len ? "too long for a file of keys" : "it is empty");
    }
    r.keys = calloc(1, sizeof(*r.keys));
    if (!r.keys) {
        return -ENOMEM;
    }
    r.keys->refs = 1;
    ERR_clear_error();
    rc = is_json(text) ? read_json(&r, text, secrets) : read_pem(&r, text);
    ERR_clear_error();
    r.seen = 0;
    if (rc == 0 && r.keys->count == 0) {
        rc = fail(&r, "there is no key in it that verifies RS256, ES256 or EdDSA%s", secrets ? ", or HS256" : "");
    }
    if (rc) {
        jwt_keys_unref(r.keys);
        return rc;
    }
    *ret_keys = r.keys;
    return 0;
}

int jwt_keys_read(const char *path, char *error, size_t error_size, struct jwt_keys **ret_keys)
{
    uint8_t *text = malloc(TEXT_BYTES_MAX + 1); /* untouched memory costs nothing */
    if (!text) {
        return -ENOMEM;
    }
    FILE *in = fopen(path, "re");
    size_t len = in ? fread(text, 1, TEXT_BYTES_MAX + 1, in) : 0;
    int rc = 0;
    if (!in || ferror(in)) {
        snprintf(error, error_size, "%s: cannot be read: %s", path, strerror(errno));
        rc = -EINVAL;
    }
    if (in) {
        fclose(in);
    }
    rc = rc ? rc : jwt_keys_parse(slice_of(text, len), true, path, error, error_size, ret_keys);
    OPENSSL_cleanse(text, len);
    free(text);
    return rc;
}

struct jwt_keys *jwt_keys_ref(struct jwt_keys *keys)
{
    atomic_fetch_add_explicit(&keys->refs, 1, memory_order_relaxed);
    return keys;
}

void jwt_keys_unref(struct jwt_keys *keys)
{
    if (!keys || atomic_fetch_sub(&keys->refs, 1) > 1) {
        return;
    }
    for (uint32_t i = 0; i < keys->count; i++) {
        key_deinit(&keys->list[i]);
    }
    free(keys->list);
    free(keys);
}

size_t jwt_keys_count(const struct jwt_keys *keys)
{
    return keys->count;
}

bool jwt_keys_has(const struct jwt_keys *keys, struct slice kid)
{
    for (uint32_t i = 0; i < keys->count; i++) {
        if (kid.len > 0 && slice_eq(buf_slice(&keys->list[i].kid), kid)) {
            return true;
        }
    }
    return false;
}
