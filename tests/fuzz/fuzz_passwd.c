/* fuzz_passwd.c -- any file as a password file.
 *
 * A file is refused whole, with its name and a line in the error, or each of its lines means by itself what it meant in
 * the file: the same user with the same fingerprint. There are never more users than lines, nor fewer than lines that
 * are neither blank nor comments. */
#include "broker/auth/passwd.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int parse(struct slice text, struct passwd **ret_passwd)
{
    char error[256] = "";
    int rc = passwd_parse(text, "fuzz", error, sizeof(error), ret_passwd);

    assert(rc == 0 || rc == -EINVAL);
    if (rc == 0) {
        assert(error[0] == 0);
    } else {
        assert(strncmp(error, "fuzz:", 5) == 0);
        assert(strtoul(error + 5, NULL, 10) > 0);
    }
    return rc;
}

static bool says_something(struct slice line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (!memchr(" \t\r", line.ptr[i], 3)) {
            return line.ptr[0] != '#';
        }
    }
    return false;
}

/* A line of a file that was taken: alone, it makes the same user. */
static void check_line(const struct passwd *passwd, struct slice line)
{
    struct passwd *alone = NULL;

    int rc = parse(line, &alone);
    assert(rc == 0);
    assert(passwd_count(alone) == 1);
    const uint8_t *colon = memchr(line.ptr, ':', line.len);
    assert(colon);
    struct slice user = slice_of(line.ptr, (size_t)(colon - line.ptr));
    assert(passwd_name_valid(user));
    const struct passwd_entry *entry = passwd_find(passwd, user), *again = passwd_find(alone, user);
    assert(entry && again);
    assert(passwd_fingerprint(entry) == passwd_fingerprint(again));
    assert(passwd_fingerprint(entry) != 0);

    struct passwd_scram a, b;
    bool scram = passwd_scram(entry, &a);
    assert(scram == passwd_scram(again, &b));
    if (scram) {
        assert(a.salt_len > 0 && a.salt_len <= sizeof(a.salt));
        assert(a.iterations > 0 && a.iterations <= 10000000);
        assert(memcmp(a.salt, b.salt, a.salt_len) == 0);
        assert(memcmp(a.stored_key, b.stored_key, 32) == 0);
    }
    passwd_free(alone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct passwd *passwd = NULL;
    size_t users = 0;

    if (parse(slice_of(data, size), &passwd) != 0) {
        assert(!passwd);
        return 0;
    }
    for (struct slice rest = slice_of(data, size); rest.len > 0;) {
        const uint8_t *newline = memchr(rest.ptr, '\n', rest.len);
        struct slice line = slice_of(rest.ptr, newline ? (size_t)(newline - rest.ptr) : rest.len);
        if (says_something(line)) {
            users++;
            check_line(passwd, line);
        }
        rest = slice_drop(rest, newline ? line.len + 1 : line.len);
    }
    assert(passwd_count(passwd) == users);
    passwd_free(passwd);
    return 0;
}
