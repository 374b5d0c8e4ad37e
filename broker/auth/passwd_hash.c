/* passwd_hash.c -- the four kinds of hash: read, computed, written.
 *
 * Passwords are taken byte for byte: SASLprep (RFC 4013) is the client's affair and changes nothing in ASCII. */
#include <argon2.h>
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#include "broker/auth/base64.h"
#include "broker/auth/passwd_entry.h"
#include "proto/base/clock.h"

#define ARGON2_MEMORY_KIB_MAX (1u << 20)
#define ARGON2_LANES_MAX 64
#define SALT_NEW_LEN 16
#define SALT_NEW_LEN_PBKDF2 12 /* the only length that mosquitto 2.0 reads */

/* ---- reading: in the order of the text, with one sticky failure ---- */

struct reader {
    struct slice rest;
    int rc;
    const char *why;
};

static void reader_fail(struct reader *r, int rc, const char *why)
{
    if (r->rc == 0) {
        r->rc = rc;
        r->why = why;
    }
}

static bool reader_literal(struct reader *r, struct slice literal)
{
    if (r->rc || r->rest.len < literal.len || memcmp(r->rest.ptr, literal.ptr, literal.len) != 0) {
        return false;
    }
    r->rest = slice_drop(r->rest, literal.len);
    return true;
}

/* What stands before the next `end`, which is passed over; end 0: all that is left. */
static struct slice reader_until(struct reader *r, char end)
{
    struct slice s = r->rest;
    if (end == 0) {
        r->rest.len = 0;
        return s;
    }
    const uint8_t *at = s.len ? memchr(s.ptr, end, s.len) : NULL;
    if (!at) {
        reader_fail(r, -EINVAL, "a hash with parts missing");
        return SLICE("");
    }
    s.len = (size_t)(at - s.ptr);
    r->rest = slice_drop(r->rest, s.len + 1);
    return s;
}

/* A decimal number in its shortest form. */
static uint32_t reader_number(struct reader *r, char end, uint32_t min, uint32_t max)
{
    struct slice s = reader_until(r, end);
    uint64_t value = 0;
    bool good = s.len > 0 && s.len <= 10 && (s.len == 1 || s.ptr[0] != '0');

    for (size_t i = 0; good && i < s.len; i++) {
        good = s.ptr[i] >= '0' && s.ptr[i] <= '9';
        value = value * 10 + (uint64_t)(s.ptr[i] - '0');
    }
    if (!good || value < min || value > max) {
        reader_fail(r, -EINVAL, "a hash with a number that is none or out of bounds");
        return 0;
    }
    return (uint32_t)value;
}

/* min to max bytes in base64. */
static uint32_t reader_bytes(struct reader *r, char end, uint32_t min, uint32_t max, uint8_t *out)
{
    struct slice s = reader_until(r, end);
    struct buf bytes = {0};
    uint32_t len = 0;

    int rc = r->rc ? r->rc : s.len > 128 ? -EINVAL : base64_decode(s, false, &bytes);
    if (rc) {
        reader_fail(r, rc, "a hash with bad base64");
    } else if (bytes.len < min || bytes.len > max) {
        reader_fail(r, -EINVAL, "a hash with a salt or key of a wrong length");
    } else {
        len = bytes.len;
        memcpy(out, bytes.ptr, len);
    }
    buf_deinit(&bytes);
    return len;
}

static void read_argon2id(struct reader *r, struct passwd_secret *s)
{
    s->memory_kib = reader_number(r, ',', 8, ARGON2_MEMORY_KIB_MAX);
    if (!reader_literal(r, SLICE("t="))) {
        reader_fail(r, -EINVAL, "an argon2id hash without t=");
    }
    s->iterations = reader_number(r, ',', 1, PASSWD_ITERATIONS_MAX);
    if (!reader_literal(r, SLICE("p="))) {
        reader_fail(r, -EINVAL, "an argon2id hash without p=");
    }
    s->lanes = reader_number(r, '$', 1, ARGON2_LANES_MAX);
    if (s->memory_kib < 8 * s->lanes) {
        reader_fail(r, -EINVAL, "an argon2id hash with less memory than its lanes need");
    }
    s->salt_len = reader_bytes(r, '$', 8, sizeof(s->salt), s->salt);
    s->key_len = reader_bytes(r, 0, 16, sizeof(s->key), s->key);
}

int passwd_secret_parse(struct slice text, struct passwd_secret *ret_secret, const char **ret_why)
{
    struct reader r = {.rest = text};
    struct passwd_secret s = {.iterations = 1};

    if (reader_literal(&r, SLICE("$6$"))) {
        s.form = FORM_SHA512;
        s.salt_len = reader_bytes(&r, '$', 1, sizeof(s.salt), s.salt);
        s.key_len = reader_bytes(&r, 0, 64, 64, s.key);
    } else if (reader_literal(&r, SLICE("$7$"))) {
        s.form = FORM_PBKDF2_SHA512;
        s.iterations = reader_number(&r, '$', 1, PASSWD_ITERATIONS_MAX);
        s.salt_len = reader_bytes(&r, '$', 1, sizeof(s.salt), s.salt);
        s.key_len = reader_bytes(&r, 0, 64, 64, s.key);
    } else if (reader_literal(&r, SLICE("$argon2id$v=19$m="))) {
        s.form = FORM_ARGON2ID;
        read_argon2id(&r, &s);
    } else if (reader_literal(&r, SLICE("SCRAM-SHA-256$"))) {
        s.form = FORM_SCRAM;
        s.iterations = reader_number(&r, ':', 1, PASSWD_ITERATIONS_MAX);
        s.salt_len = reader_bytes(&r, '$', 1, sizeof(s.salt), s.salt);
        s.key_len = reader_bytes(&r, ':', 32, 32, s.key);
        reader_bytes(&r, 0, 32, 32, s.server_key);
    } else {
        reader_fail(&r, -EINVAL, "an unknown kind of hash");
    }
    if (r.rc) {
        *ret_why = r.why;
        return r.rc;
    }
    *ret_secret = s;
    return 0;
}

/* ---- computing ---- */

static bool sha512(struct slice password, const struct passwd_secret *s, uint8_t key[64])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool good = md && EVP_DigestInit_ex(md, EVP_sha512(), NULL) == 1 &&
                EVP_DigestUpdate(md, password.ptr, password.len) == 1 &&
                EVP_DigestUpdate(md, s->salt, s->salt_len) == 1 && EVP_DigestFinal_ex(md, key, NULL) == 1;
    EVP_MD_CTX_free(md);
    return good;
}

static bool pbkdf2(struct slice password, const struct passwd_secret *s, const EVP_MD *md, uint8_t *key, int key_len)
{
    return PKCS5_PBKDF2_HMAC((const char *)password.ptr, (int)password.len, s->salt, (int)s->salt_len,
                             (int)s->iterations, md, key_len, key) == 1;
}

/* All lanes on the calling thread: a worker is one thread of a bounded number, and the result is the same. */
static bool argon2id(struct slice password, const struct passwd_secret *s, uint8_t key[64])
{
    argon2_context context = {
        .out = key,
        .outlen = s->key_len,
        .pwd = (uint8_t *)password.ptr,
        .pwdlen = (uint32_t)password.len,
        .salt = (uint8_t *)s->salt,
        .saltlen = s->salt_len,
        .t_cost = s->iterations,
        .m_cost = s->memory_kib,
        .lanes = s->lanes,
        .threads = 1,
        .version = ARGON2_VERSION_13,
        .flags = ARGON2_DEFAULT_FLAGS,
    };
    return argon2id_ctx(&context) == ARGON2_OK;
}

bool passwd_hmac_sha256(struct slice key, struct slice text, uint8_t out[32])
{
    return HMAC(EVP_sha256(), key.ptr, (int)key.len, text.ptr, text.len, out, NULL) != NULL;
}

/* RFC 5802, section 3. server_key may be NULL. */
static bool scram_keys(struct slice password, const struct passwd_secret *s, uint8_t stored_key[32],
                       uint8_t server_key[32])
{
    uint8_t salted[32], client_key[32];
    struct slice salted_slice = slice_of(salted, sizeof(salted));

    bool good = pbkdf2(password, s, EVP_sha256(), salted, sizeof(salted)) &&
                passwd_hmac_sha256(salted_slice, SLICE("Client Key"), client_key) &&
                EVP_Digest(client_key, sizeof(client_key), stored_key, NULL, EVP_sha256(), NULL) == 1 &&
                (!server_key || passwd_hmac_sha256(salted_slice, SLICE("Server Key"), server_key));
    OPENSSL_cleanse(salted, sizeof(salted));
    OPENSSL_cleanse(client_key, sizeof(client_key));
    return good;
}

bool passwd_secret_derive(const struct passwd_secret *secret, struct slice password, uint8_t key[64])
{
    if (password.len > INT_MAX) {
        return false;
    }
    if (!password.ptr) {
        password = SLICE(""); /* the libraries take NULL for something else */
    }
    switch (secret->form) {
    case FORM_SHA512:
        return sha512(password, secret, key);
    case FORM_PBKDF2_SHA512:
        return pbkdf2(password, secret, EVP_sha512(), key, 64);
    case FORM_ARGON2ID:
        return argon2id(password, secret, key);
    case FORM_SCRAM:
        return scram_keys(password, secret, key, NULL);
    }
    return false;
}

/* ---- writing ---- */

static void put_text(struct buf *out, const char *text)
{
    buf_put(out, slice_str(text));
}

/* PHC strings are not padded. */
static void put_unpadded(struct buf *out, struct slice bytes)
{
    base64_encode(bytes, false, out);
    while (!out->failed && out->ptr[out->len - 1] == '=') {
        out->len--;
    }
}

static void put_secret(struct buf *out, const struct passwd_secret *s)
{
    struct slice salt = slice_of(s->salt, s->salt_len), key = slice_of(s->key, s->key_len);
    char head[80];

    switch (s->form) {
    case FORM_ARGON2ID:
        snprintf(head, sizeof(head), "$argon2id$v=19$m=%u,t=%u,p=%u$", s->memory_kib, s->iterations, s->lanes);
        put_text(out, head);
        put_unpadded(out, salt);
        put_text(out, "$");
        put_unpadded(out, key);
        break;
    case FORM_SCRAM:
        snprintf(head, sizeof(head), "SCRAM-SHA-256$%u:", s->iterations);
        put_text(out, head);
        base64_encode(salt, false, out);
        put_text(out, "$");
        base64_encode(key, false, out);
        put_text(out, ":");
        base64_encode(slice_of(s->server_key, sizeof(s->server_key)), false, out);
        break;
    default:
        assert(s->form == FORM_PBKDF2_SHA512);
        snprintf(head, sizeof(head), "$7$%u$", s->iterations);
        put_text(out, head);
        base64_encode(salt, false, out);
        put_text(out, "$");
        base64_encode(key, false, out);
    }
}

static const struct passwd_secret new_secrets[] = {
    [PASSWD_ARGON2ID] = {FORM_ARGON2ID, 2, 19456, 1, SALT_NEW_LEN, 32, {0}, {0}, {0}},
    [PASSWD_PBKDF2_SHA512] = {FORM_PBKDF2_SHA512, 210000, 0, 0, SALT_NEW_LEN_PBKDF2, 64, {0}, {0}, {0}},
    [PASSWD_SCRAM_SHA_256] = {FORM_SCRAM, 15000, 0, 0, SALT_NEW_LEN, 32, {0}, {0}, {0}},
};

int passwd_hash(enum passwd_kind kind, struct slice password, uint32_t iterations, struct buf *out)
{
    assert(kind < COUNT_OF(new_secrets));
    struct passwd_secret s = new_secrets[kind];

    if (password.len == 0 || password.len > INT_MAX || iterations > PASSWD_ITERATIONS_MAX) {
        return -EINVAL;
    }
    s.iterations = iterations ? iterations : s.iterations;
    clock_random(s.salt, s.salt_len);
    bool good = s.form == FORM_SCRAM ? scram_keys(password, &s, s.key, s.server_key)
                                     : passwd_secret_derive(&s, password, s.key);
    if (good) {
        put_secret(out, &s);
    }
    return good && !out->failed ? 0 : -ENOMEM; /* nothing else can fail with bounds such as these */
}
