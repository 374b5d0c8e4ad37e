/* fuzz_scram.c -- any client against the server's side of SCRAM.
 *
 * Input: the mode, the length of client-first, client-first, and what is done to client-final. In mode 0 the rest of
 * the input is client-final. Else client-final is the right one, made by a client that is written here a second time,
 * and the rest of the input is changes to its bytes: then it is taken exactly if nothing is changed in the end.
 * Whatever is taken is judged by that client's arithmetic: the proof must be the one for this text and this password.
 */
#include "broker/auth/base64.h"
#include "broker/auth/scram.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#include "proto/base/clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PASSWORD "pencil"
#define SALT "saltsalt"

static uint8_t client_key[32], stored_key[32], server_key[32];
static struct passwd *users;

static void fixed_random(void *out, size_t len)
{
    memset(out, 0x5a, len);
}

static void hmac(const uint8_t key[32], struct slice text, uint8_t out[32])
{
    const void *done = HMAC(EVP_sha256(), key, 32, text.ptr, text.len, out, NULL);
    assert(done);
}

static void put_user(struct buf *file, struct slice name)
{
    buf_put(file, name);
    buf_put(file, SLICE(":SCRAM-SHA-256$1:c2FsdHNhbHQ=$"));
    base64_encode(slice_of(stored_key, 32), false, file);
    buf_put(file, SLICE(":"));
    base64_encode(slice_of(server_key, 32), false, file);
    buf_put(file, SLICE("\n"));
}

/* Two users of one password, one of them with a name that needs escapes. */
static void set_up(void)
{
    static const struct clock_source clock = {clock_mono_ns, clock_wall_ms, fixed_random};
    uint8_t salted[32];
    struct buf file = {0};
    char error[256];

    clock_set(&clock);
    int ok = PKCS5_PBKDF2_HMAC(PASSWORD, -1, (const uint8_t *)SALT, sizeof(SALT) - 1, 1, EVP_sha256(), 32, salted);
    assert(ok == 1);
    hmac(salted, SLICE("Client Key"), client_key);
    hmac(salted, SLICE("Server Key"), server_key);
    ok = EVP_Digest(client_key, 32, stored_key, NULL, EVP_sha256(), NULL);
    assert(ok == 1);
    put_user(&file, SLICE("u"));
    put_user(&file, SLICE(",=,"));
    int rc = passwd_parse(buf_slice(&file), "users", error, sizeof(error), &users);
    assert(rc == 0);
    buf_deinit(&file);
}

/* What the client that knows the password sends as its proof, or the server as its signature, for this exchange. */
static void put_answer(struct slice bare, struct slice server_first, struct slice text, bool proof, struct buf *out)
{
    uint8_t answer[32];
    struct buf all = {0};

    buf_put(&all, bare);
    buf_u8(&all, ',');
    buf_put(&all, server_first);
    buf_u8(&all, ',');
    buf_put(&all, text);
    hmac(proof ? stored_key : server_key, buf_slice(&all), answer);
    for (unsigned i = 0; proof && i < 32; i++) {
        answer[i] ^= client_key[i];
    }
    base64_encode(slice_of(answer, 32), false, out);
    buf_deinit(&all);
}

/* Behind the second comma; there are two in whatever was taken. */
static struct slice bare_of(struct slice client_first)
{
    for (unsigned commas = 0; commas < 2; client_first = slice_drop(client_first, 1)) {
        assert(client_first.len > 0);
        commas += client_first.ptr[0] == ',';
    }
    return client_first;
}

static struct slice nonce_of(struct slice server_first)
{
    const uint8_t *comma = memchr(server_first.ptr, ',', server_first.len);
    assert(comma);
    return slice_of(server_first.ptr, (size_t)(comma - server_first.ptr));
}

static void put_right_final(struct slice client_first, struct slice server_first, struct buf *out)
{
    struct slice bare = bare_of(client_first);

    buf_put(out, SLICE("c="));
    base64_encode(slice_of(client_first.ptr, client_first.len - bare.len), false, out);
    buf_put(out, SLICE(","));
    buf_put(out, nonce_of(server_first));
    struct buf text = *out;
    struct buf answer = {0};
    put_answer(bare, server_first, buf_slice(&text), true, &answer);
    buf_put(out, SLICE(",p="));
    buf_put(out, buf_slice(&answer));
    buf_deinit(&answer);
}

/* Three bytes a change: where, what kind, which byte. */
static void change(struct buf *final, struct slice changes)
{
    for (; changes.len >= 3; changes = slice_drop(changes, 3)) {
        size_t at = final->len ? changes.ptr[0] % final->len : 0;
        if (changes.ptr[1] % 3 == 0 && final->len > 0) {
            final->ptr[at] ^= changes.ptr[2];
        } else if (changes.ptr[1] % 3 == 1 && final->len > 0) {
            memmove(final->ptr + at, final->ptr + at + 1, final->len - at - 1);
            final->len--;
        } else {
            buf_u8(final, 0);
            memmove(final->ptr + at + 1, final->ptr + at, final->len - at - 1);
            final->ptr[at] = changes.ptr[2];
        }
    }
}

/* It was taken: the text before the proof repeats header and nonce, and the proof and our signature are right. */
static void check_taken(struct slice client_first, struct slice server_first, struct slice final,
                        struct slice server_final)
{
    struct buf start = {0}, proof = {0}, signature = {0};
    struct slice bare = bare_of(client_first);

    assert(final.len > 44 + 3);
    struct slice text = slice_of(final.ptr, final.len - 44 - 3);
    put_right_final(client_first, server_first, &start);
    start.len -= 44 + 3;
    assert(text.len >= start.len && memcmp(text.ptr, start.ptr, start.len) == 0);
    assert(text.len == start.len || text.ptr[start.len] == ',');
    put_answer(bare, server_first, text, true, &proof);
    assert(memcmp(final.ptr + text.len, ",p=", 3) == 0);
    assert(slice_eq(slice_drop(final, text.len + 3), buf_slice(&proof)));
    buf_put(&signature, SLICE("v="));
    put_answer(bare, server_first, text, false, &signature);
    assert(slice_eq(server_final, buf_slice(&signature)));
    buf_deinit(&start);
    buf_deinit(&proof);
    buf_deinit(&signature);
}

static void finish(struct scram *scram, struct slice client_first, struct slice server_first, bool raw,
                   struct slice rest)
{
    struct buf final = {0}, right = {0}, out = {0};
    bool known = passwd_find(users, scram_user(scram)) != NULL;

    assert((scram_fingerprint(scram) != 0) == known);
    put_right_final(client_first, server_first, &right);
    buf_put(&final, raw ? rest : buf_slice(&right));
    if (!raw) {
        change(&final, rest);
    }
    bool is_right = slice_eq(buf_slice(&final), buf_slice(&right));
    int rc = scram_final(scram, buf_slice(&final), &out);
    assert(rc == 0 || rc == -EACCES);
    if (rc == 0) {
        assert(known);
        check_taken(client_first, server_first, buf_slice(&final), buf_slice(&out));
    } else {
        assert(out.len == 0);
        assert(!(is_right && known && right.len <= 8192));
    }
    rc = scram_final(scram, buf_slice(&right), &out);
    assert(rc == -EACCES); /* once only */
    buf_deinit(&final);
    buf_deinit(&right);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct scram *scram = NULL;
    struct buf server_first = {0};

    if (!users) {
        set_up();
    }
    if (size < 2 || (size_t)data[1] + 2 > size) {
        return 0;
    }
    struct slice client_first = slice_of(data + 2, data[1]);
    int rc = scram_first(users, client_first, &server_first, &scram);
    assert(rc == 0 || rc == -EACCES);
    if (rc == 0) {
        finish(scram, client_first, buf_slice(&server_first), data[0] == 0,
               slice_drop(slice_of(data, size), 2 + data[1]));
    } else {
        assert(!scram && server_first.len == 0);
    }
    scram_free(scram);
    buf_deinit(&server_first);
    return 0;
}
