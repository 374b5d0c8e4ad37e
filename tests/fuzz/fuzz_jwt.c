/* fuzz_jwt.c -- tokens and keys from anybody. The first byte chooses what the rest is:
 *
 *   0 a token as it stands, 1 changes to a token of the test's own signer: never taken, unless it is that token
 *   2 the payload, 3 the header of a token that our signer signs: what is taken is what a second reading allows
 *   4 keys: taken with at least one, or refused with a sentence
 *   5 a header and a signature for claims that nobody has signed: never taken
 *
 * Nothing is left behind: no memory (the sanitizer looks), no error in OpenSSL's queue, no claims of a refused token.
 */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <openssl/err.h>

#include "proto/base/utf8.h"
#include "tests/unit/broker/auth/jwt_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WALL_MS UINT64_C(1900000000000)
#define SIGNERS 4

static struct signer signers[SIGNERS];
static struct buf tokens[SIGNERS]; /* one of each */
static struct jwt_keys *keys;
static const struct jwt_terms terms = {.algorithms = 15,
                                       .issuer = "",
                                       .audience = "",
                                       .leeway_s = 30,
                                       .user_claim = "sub",
                                       .client_id_claim = "",
                                       .roles_claim = "a.roles",
                                       .rules_claim = "acl"};

static void set_up(void)
{
    static const enum jwt_algorithm algorithms[SIGNERS] = {JWT_HS256, JWT_RS256, JWT_ES256, JWT_EDDSA};
    struct buf set = {0};

    buf_put(&set, SLICE("{\"keys\":["));
    for (unsigned i = 0; i < SIGNERS; i++) {
        signers[i] = signer_init(algorithms[i], 5);
        tokens[i] = plain_token(&signers[i], i % 2 ? "k" : "", "{\"sub\":\"alice\",\"exp\":1900000600,\"acl\":[]}");
        put_jwk(&signers[i], i % 2 ? "\"kid\":\"k\"," : "", &set);
        buf_u8(&set, i + 1 < SIGNERS ? ',' : ']');
    }
    buf_u8(&set, '}');
    keys = keys_of(buf_slice(&set), true);
    buf_deinit(&set);
}

/* Verify; the user's name goes into ret_user when the token is taken. */
static bool is_taken(struct slice token, struct buf *ret_user)
{
    struct jwt_claims claims = {.role_count = 77};
    const char *why = NULL;

    int rc = jwt_verify(keys, &terms, token, WALL_MS, &claims, &why);
    assert(rc == 0 || rc == -EACCES || rc == -ENOKEY);
    assert(rc != -EACCES || why);
    assert(ERR_peek_error() == 0);
    if (rc) {
        assert(claims.role_count == 77 && !claims.user.ptr && !claims.roles.ptr && !claims.rules);
        return false;
    }
    assert(jwt_looks_like(token));
    assert(claims.expires_at_ms > WALL_MS);
    *ret_user = claims.user;
    claims.user = (struct buf){0};
    jwt_claims_deinit(&claims);
    return true;
}

static void check_foreign(struct slice token)
{
    struct buf user = {0};
    bool taken = is_taken(token, &user), ours = false;

    for (unsigned i = 0; i < SIGNERS; i++) {
        ours |= slice_eq(token, buf_slice(&tokens[i]));
    }
    jwt_looks_like(token);
    assert(taken == ours);
    buf_deinit(&user);
}

/* Two bytes choose a header (or the rest is one) and a signature (or the rest is one). */
static void check_forged(const uint8_t *data, size_t size)
{
    static const char *const headers[] = {"{\"alg\":\"HS256\"}", "{\"alg\":\"RS256\"}", "{\"alg\":\"ES256\"}",
                                          "{\"alg\":\"EdDSA\"}", "{\"alg\":\"none\"}"};
    if (size < 2) {
        return;
    }
    struct slice rest = slice_of(data + 2, size - 2);
    struct slice header = data[0] < 200 ? slice_str(headers[data[0] % COUNT_OF(headers)]) : rest;
    struct buf token = {0}, bytes = {0}, user = {0};
    memset(buf_extend(&bytes, 257), data[1] & 1 ? 0xff : 0, 257);
    base64_encode(header, true, &token);
    buf_u8(&token, '.');
    base64_encode(SLICE("{\"sub\":\"mallory\",\"exp\":1900000600}"), true, &token);
    buf_u8(&token, '.');
    if (data[1] < 64) {
        static const size_t lens[] = {0, 1, 32, 63, 64, 65, 256, 257};
        base64_encode(slice_of(bytes.ptr, lens[data[1] / 8]), true, &token);
    } else if (data[1] < 128) {
        const struct buf *ours = &tokens[data[1] % SIGNERS]; /* for other claims */
        const uint8_t *dot = memrchr(ours->ptr, '.', ours->len);
        buf_put(&token, slice_drop(buf_slice(ours), (size_t)(dot - ours->ptr) + 1));
    } else {
        base64_encode(rest, true, &token);
    }
    bool taken = is_taken(buf_slice(&token), &user);
    assert(!taken);
    buf_deinit(&token);
    buf_deinit(&bytes);
}

/* Three bytes are one change: where, and what is put there; or what is taken away. */
static void check_changed(const uint8_t *data, size_t size)
{
    struct buf token = {0};
    const struct buf *from = &tokens[size ? data[0] % SIGNERS : 0];

    buf_put(&token, buf_slice(from));
    for (size_t i = 1; i + 2 < size && i < 60 && token.len > 0; i += 3) {
        uint32_t at = (data[i] << 8 | data[i + 1]) % token.len;
        uint8_t what = data[i + 2];
        if (what < 128) {
            token.ptr[at] = what;
        } else if (what < 192) {
            memmove(token.ptr + at, token.ptr + at + 1, token.len - at - 1);
            token.len--;
        } else {
            const struct buf *other = &tokens[what % SIGNERS]; /* the rest is another's */
            token.len = at < other->len ? at : token.len;
            buf_put(&token, at < other->len ? slice_drop(buf_slice(other), at) : slice_of(NULL, 0));
        }
    }
    check_foreign(buf_slice(&token));
    buf_deinit(&token);
}

static json_t *load(struct slice text)
{
    json_t *value = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
    return text.len && utf8_valid(text) && json_is_object(value) ? value : (json_decref(value), NULL);
}

static bool has_control(const struct buf *name)
{
    for (uint32_t i = 0; i < name->len; i++) {
        if (name->ptr[i] < ' ' || name->ptr[i] == 0x7f) {
            return true;
        }
    }
    return false;
}

static void check_payload(struct slice payload)
{
    struct buf token = sign_token(&signers[0], SLICE("{\"alg\":\"HS256\"}"), payload), user = {0};
    json_t *object = load(payload);

    if (is_taken(buf_slice(&token), &user)) {
        const json_t *exp = json_object_get(object, "exp"), *nbf = json_object_get(object, "nbf");
        assert(object && json_is_number(exp) && json_number_value(exp) * 1000 + 30001 > (double)WALL_MS);
        assert(!nbf || (json_is_number(nbf) && json_number_value(nbf) * 1000 - 30001 < (double)WALL_MS));
        const char *sub = json_string_value(json_object_get(object, "sub"));
        assert(sub && user.len > 0 && slice_eq(buf_slice(&user), slice_str(sub)) && !has_control(&user));
    }
    json_decref(object);
    buf_deinit(&user);
    buf_deinit(&token);
}

static void check_header(struct slice header)
{
    struct buf token = sign_token(&signers[0], header, SLICE("{\"sub\":\"a\",\"exp\":1900000600}")), user = {0};
    json_t *object = load(header);
    const char *alg = json_string_value(json_object_get(object, "alg"));
    const json_t *kid = json_object_get(object, "kid");
    bool right = alg && strcmp(alg, "HS256") == 0 && !json_object_get(object, "crit") &&
                 (!kid || (json_is_string(kid) && strcmp(json_string_value(kid), "k") != 0));

    assert(is_taken(buf_slice(&token), &user) == (right && token.len <= 16384));
    json_decref(object);
    buf_deinit(&user);
    buf_deinit(&token);
}

static void check_keys(struct slice text)
{
    for (int secrets = 0; secrets < 2; secrets++) {
        struct jwt_keys *some = NULL;
        char error[100] = "";
        int rc = jwt_keys_parse(text, secrets, "keys", error, sizeof(error), &some);
        assert(rc == 0 || (rc == -EINVAL && *error && !some));
        assert(rc != 0 || (jwt_keys_count(some) > 0 && jwt_keys_count(some) <= 256));
        assert(ERR_peek_error() == 0);
        jwt_keys_unref(some);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!keys) {
        set_up();
    }
    if (size == 0) {
        return 0;
    }
    struct slice rest = slice_of(data + 1, size - 1);
    switch (data[0] % 6) {
    case 0:
        check_foreign(rest);
        break;
    case 1:
        check_changed(rest.ptr, rest.len);
        break;
    case 2:
        check_payload(rest);
        break;
    case 3:
        check_header(rest);
        break;
    case 4:
        check_keys(rest);
        break;
    default:
        check_forged(rest.ptr, rest.len);
    }
    return 0;
}
