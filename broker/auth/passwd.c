/* passwd.c -- the file's lines, and the table that they become. What a hash is: passwd_hash.c. */
#include "broker/auth/passwd.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/passwd_entry.h"
#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/map.h"
#include "proto/base/utf8.h"

#define FILE_BYTES_MAX (64u << 20) /* some four hundred thousand users */
#define NAME_BYTES_MAX 1024

/* Whose parameters most entries have, if more than half of them agree (Boyer and Moore's majority vote). */
struct vote {
    const struct passwd_entry *entry; /* borrowed from the table; NULL: nobody has voted */
    size_t count;
};

struct passwd {
    struct map entries; /* struct passwd_entry by user; owned */
    struct hash_key key;
    struct vote typical, typical_scram;
};

/* ---- names ---- */

bool passwd_name_valid(struct slice user)
{
    if (user.len == 0 || user.len > NAME_BYTES_MAX || user.ptr[0] == '#' || !utf8_valid(user)) {
        return false;
    }
    for (size_t i = 0; i < user.len; i++) {
        uint8_t c = user.ptr[i];
        bool control = c < 0x20 || c == 0x7f || (c == 0xc2 && user.ptr[i + 1] < 0xa0); /* U+0080..U+009F */
        if (control || c == ':') {
            return false;
        }
    }
    return true;
}

static bool is_user(const void *value, const void *key)
{
    const struct passwd_entry *entry = value;
    return slice_eq(slice_of(entry->user, entry->user_len), *(const struct slice *)key);
}

const struct passwd_entry *passwd_find(const struct passwd *passwd, struct slice user)
{
    return map_find(&passwd->entries, hash_keyed(&passwd->key, user), is_user, &user);
}

/* ---- reading ---- */

static bool costs_the_same(const struct passwd_secret *a, const struct passwd_secret *b)
{
    return a->form == b->form && a->iterations == b->iterations && a->memory_kib == b->memory_kib &&
           a->lanes == b->lanes && a->salt_len == b->salt_len;
}

static void vote(struct vote *v, const struct passwd_entry *entry)
{
    if (v->count == 0) {
        *v = (struct vote){entry, 1};
    } else if (costs_the_same(&v->entry->secret, &entry->secret)) {
        v->count++;
    } else {
        v->count--;
    }
}

static int add(struct passwd *passwd, struct slice user, struct slice hash, const struct passwd_secret *secret)
{
    /* The operator wrote the hash and nobody gains by two that collide: the key need not be secret. */
    static const struct hash_key fingerprint_key = {0x7465726e, 0x706173737764};
    struct passwd_entry *entry = malloc(sizeof(*entry) + user.len);
    if (!entry) {
        return -ENOMEM;
    }
    entry->secret = *secret;
    uint64_t fingerprint = hash_keyed(&fingerprint_key, hash);
    entry->fingerprint = fingerprint ? fingerprint : 1;
    entry->user_len = (uint32_t)user.len;
    memcpy(entry->user, user.ptr, user.len);
    int rc = map_add(&passwd->entries, hash_keyed(&passwd->key, user), entry);
    if (rc) {
        free(entry);
        return rc;
    }
    vote(&passwd->typical, entry);
    if (secret->form == FORM_SCRAM) {
        vote(&passwd->typical_scram, entry);
    }
    return 0;
}

static int parse_line(struct passwd *passwd, struct slice line, const char **ret_why)
{
    struct passwd_secret secret;

    if (line.len == 0 || line.ptr[0] == '#') {
        return 0;
    }
    const uint8_t *colon = memchr(line.ptr, ':', line.len);
    if (!colon) {
        *ret_why = "no colon behind a user's name";
        return -EINVAL;
    }
    struct slice user = slice_of(line.ptr, (size_t)(colon - line.ptr));
    struct slice hash = slice_drop(line, user.len + 1);
    if (!passwd_name_valid(user)) {
        *ret_why = "not a user's name: 1 to 1024 bytes of UTF-8 without control characters";
        return -EINVAL;
    }
    if (passwd_find(passwd, user)) {
        *ret_why = "a user who was named before";
        return -EINVAL;
    }
    int rc = passwd_secret_parse(hash, &secret, ret_why);
    return rc ? rc : add(passwd, user, hash, &secret);
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Cut the next line off, without the blanks at its end. */
static struct slice next_line(struct slice *rest)
{
    const uint8_t *newline = memchr(rest->ptr, '\n', rest->len);
    struct slice line = slice_of(rest->ptr, newline ? (size_t)(newline - rest->ptr) : rest->len);

    *rest = slice_drop(*rest, newline ? line.len + 1 : line.len);
    while (line.len > 0 && is_blank(line.ptr[line.len - 1])) {
        line.len--;
    }
    return line;
}

int passwd_parse(struct slice text, const char *name, char *error, size_t error_size, struct passwd **ret_passwd)
{
    struct passwd *passwd = calloc(1, sizeof(*passwd));
    const char *why = "";
    int rc = passwd ? 0 : -ENOMEM;

    if (passwd) {
        clock_random(&passwd->key, sizeof(passwd->key));
    }
    for (unsigned number = 1; rc == 0 && text.len > 0; number++) {
        rc = parse_line(passwd, next_line(&text), &why);
        if (rc == -EINVAL) {
            snprintf(error, error_size, "%s:%u: %s", name, number, why);
        }
    }
    if (rc) {
        passwd_free(passwd);
        return rc;
    }
    *ret_passwd = passwd;
    return 0;
}

/* Append all of the file. Returns 0 or a negative errno. */
static int read_all(const char *path, struct buf *out)
{
    FILE *in = fopen(path, "re");
    int rc = 0;

    if (!in) {
        return -errno;
    }
    for (size_t got = 1; got > 0 && rc == 0;) {
        uint8_t chunk[4096];
        got = fread(chunk, 1, sizeof(chunk), in);
        buf_put(out, slice_of(chunk, got));
        rc = out->failed ? -ENOMEM : out->len > FILE_BYTES_MAX ? -EFBIG : ferror(in) ? -errno : 0;
    }
    fclose(in);
    return rc;
}

int passwd_read(const char *path, char *error, size_t error_size, struct passwd **ret_passwd)
{
    struct buf text = {0};

    int rc = read_all(path, &text);
    if (rc == 0) {
        rc = passwd_parse(buf_slice(&text), path, error, error_size, ret_passwd);
    } else if (rc != -ENOMEM) {
        snprintf(error, error_size, "%s: %s", path, strerror(-rc));
        rc = -EINVAL;
    }
    if (text.ptr) {
        OPENSSL_cleanse(text.ptr, text.len);
    }
    buf_deinit(&text);
    return rc;
}

void passwd_free(struct passwd *passwd)
{
    struct passwd_entry *entry;

    if (!passwd) {
        return;
    }
    for (size_t i = 0; (entry = map_next(&passwd->entries, &i)) != NULL;) {
        OPENSSL_cleanse(entry, sizeof(*entry));
        free(entry);
    }
    map_deinit(&passwd->entries);
    free(passwd);
}

size_t passwd_count(const struct passwd *passwd)
{
    return passwd->entries.count;
}

/* ---- asking ---- */

uint64_t passwd_fingerprint(const struct passwd_entry *entry)
{
    return entry->fingerprint;
}

bool passwd_verify(const struct passwd_entry *entry, struct slice password)
{
    uint8_t key[64] = {0};

    bool derived = passwd_secret_derive(&entry->secret, password, key);
    bool same = CRYPTO_memcmp(key, entry->secret.key, entry->secret.key_len) == 0;
    OPENSSL_cleanse(key, sizeof(key));
    return derived && same;
}

/* Of a file with hashes of several costs only the most frequent one can be imitated. */
void passwd_waste(const struct passwd *passwd, struct slice password)
{
    if (passwd->typical.entry) {
        (void)passwd_verify(passwd->typical.entry, password);
    }
}

const struct passwd_entry *passwd_typical_scram(const struct passwd *passwd)
{
    return passwd->typical_scram.entry;
}

bool passwd_scram(const struct passwd_entry *entry, struct passwd_scram *ret_scram)
{
    const struct passwd_secret *s = &entry->secret;

    if (s->form != FORM_SCRAM) {
        return false;
    }
    ret_scram->iterations = s->iterations;
    ret_scram->salt_len = s->salt_len;
    memcpy(ret_scram->salt, s->salt, sizeof(ret_scram->salt));
    memcpy(ret_scram->stored_key, s->key, sizeof(ret_scram->stored_key));
    memcpy(ret_scram->server_key, s->server_key, sizeof(ret_scram->server_key));
    return true;
}
