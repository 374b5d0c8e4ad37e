/* tls_psk.c -- pre-shared keys: the file of them, and how OpenSSL asks for one.
 *
 * Shape: the file's text stays in memory as it was read, and a sorted array points into it; each key is decoded over
 * its own hex digits. TLS 1.2 asks by a callback that hands the key over. In TLS 1.3 a key is a session: the one that
 * we make carries its identity as the session's application data, for only the session that was agreed on tells which
 * of the identities offered has proved its key. Such handshakes cost no signature and get no tickets. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "broker/transport/tls_internal.h"
#include "proto/base/utf8.h"

#define FILE_MAX (64 << 20)

struct tls_psks {
    char *text; /* owned */
    size_t text_len;
    struct tls_psk *keys; /* owned; sorted by identity */
    size_t count;
};

static int compare(const void *a, const void *b)
{
    const struct slice *x = &((const struct tls_psk *)a)->identity, *y = &((const struct tls_psk *)b)->identity;
    int order = memcmp(x->ptr, y->ptr, x->len < y->len ? x->len : y->len);

    return order ? order : (x->len > y->len) - (x->len < y->len);
}

void tls_psks_free(struct tls_psks *psks)
{
    if (psks) {
        OPENSSL_cleanse(psks->text, psks->text ? psks->text_len : 0);
        free(psks->text);
        free(psks->keys);
        free(psks);
    }
}

const struct tls_psk *tls_psks_find(const struct tls_psks *psks, struct slice identity)
{
    struct tls_psk want = {.identity = identity};

    return psks && identity.len > 0 ? bsearch(&want, psks->keys, psks->count, sizeof(want), compare) : NULL;
}

/* ---- the file ---- */

/* The whole text, with a NUL behind it. Returns 0 or a negative errno. */
static int read_text(const char *path, struct tls_psks *psks)
{
    struct stat st;
    FILE *file = fopen(path, "re");
    int rc = 0;

    if (!file || fstat(fileno(file), &st) != 0) {
        rc = -errno;
    } else if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
        rc = S_ISREG(st.st_mode) ? -EFBIG : -EINVAL;
    } else if (!(psks->text = malloc((size_t)st.st_size + 1))) {
        rc = -ENOMEM;
    } else {
        psks->text_len = fread(psks->text, 1, (size_t)st.st_size, file);
        psks->text[psks->text_len] = '\0';
        rc = ferror(file) ? -EIO : 0;
    }
    if (file) {
        fclose(file);
    }
    return rc;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Decode the hex digits of a line in place. Returns the bytes of the key, 0: it is not one. */
static size_t decode_key(char *hex, size_t digits)
{
    if (digits % 2 != 0 || digits / 2 < TLS_PSK_MIN || digits / 2 > TLS_PSK_MAX) {
        return 0;
    }
    for (size_t i = 0; i < digits / 2; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0) {
            return 0;
        }
        hex[i] = (char)(high << 4 | low);
    }
    return digits / 2;
}

/* Read one line into the next entry. Returns what is wrong with it, or NULL. */
static const char *take_line(struct tls_psks *psks, char *line, size_t len)
{
    char *colon = memrchr(line, ':', len);
    size_t identity = colon ? (size_t)(colon - line) : 0;

    if (!colon) {
        return "it is not IDENTITY:HEX";
    }
    if (identity == 0 || identity > TLS_PSK_IDENTITY_MAX || !utf8_valid(slice_of(line, identity))) {
        return "the identity is not 1 to 128 bytes of UTF-8";
    }
    size_t key = decode_key(colon + 1, len - identity - 1);
    if (key == 0) {
        return "the key is not 16 to 64 bytes in hexadecimal";
    }
    psks->keys[psks->count++] = (struct tls_psk){slice_of(line, identity), slice_of(colon + 1, key)};
    return NULL;
}

static int take_lines(struct tls_psks *psks, const char *path, char *error, size_t error_size)
{
    size_t lines = 1;

    for (size_t i = 0; i < psks->text_len; i++) {
        lines += psks->text[i] == '\n';
    }
    psks->keys = malloc(lines * sizeof(*psks->keys));
    if (!psks->keys) {
        return -ENOMEM;
    }
    char *line = psks->text, *end = psks->text + psks->text_len;
    for (size_t number = 1; line < end; number++) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop ? stop : end;
        size_t len = (size_t)(stop - line);
        len -= len > 0 && line[len - 1] == '\r';
        const char *wrong = len == 0 || line[0] == '#' ? NULL : take_line(psks, line, len);
        if (wrong) {
            snprintf(error, error_size, "%s, line %zu: %s", path, number, wrong);
            return -EINVAL;
        }
        line = stop + 1;
    }
    return 0;
}

int tls_psks_read(const char *path, char *error, size_t error_size, struct tls_psks **ret_psks)
{
    struct tls_psks *psks = calloc(1, sizeof(*psks));
    int rc = psks ? read_text(path, psks) : -ENOMEM;

    if (rc && rc != -ENOMEM) {
        snprintf(error, error_size, "%s: %s", path, rc == -EINVAL ? "not a file" : strerror(-rc));
        rc = -EINVAL;
    }
    rc = rc ? rc : take_lines(psks, path, error, error_size);
    if (rc == 0 && psks->count == 0) {
        snprintf(error, error_size, "%s: no key in it", path);
        rc = -EINVAL;
    }
    if (rc == 0) {
        qsort(psks->keys, psks->count, sizeof(*psks->keys), compare);
    }
    for (size_t i = 1; rc == 0 && i < psks->count; i++) {
        const struct slice *identity = &psks->keys[i].identity;
        if (slice_eq(*identity, psks->keys[i - 1].identity)) {
            snprintf(error, error_size, "%s: the identity %.*s stands in it twice", path, (int)identity->len,
                     (const char *)identity->ptr);
            rc = -EINVAL;
        }
    }
    if (rc) {
        tls_psks_free(psks);
        return rc;
    }
    *ret_psks = psks;
    return 0;
}

/* ---- what OpenSSL asks ---- */

/* TLS 1.2. Returns the bytes of the key, 0: unknown. OpenSSL asks here in TLS 1.3, too, once give_session knew nothing,
 * with the identity cut at its first NUL: whoever came in by that would have no name. */
static unsigned give_key(SSL *ssl, const char *identity, unsigned char *key, unsigned key_max)
{
    const struct tls_psk *found =
        SSL_version(ssl) < TLS1_3_VERSION ? tls_psks_find(tls_context_of(ssl)->psks, slice_str(identity)) : NULL;

    if (!found || found->key.len > key_max) {
        return 0;
    }
    memcpy(key, found->key.ptr, found->key.len);
    return (unsigned)found->key.len;
}

/* TLS 1.3. Returns 0 when memory is out; *ret_session NULL: unknown. */
static int give_session(SSL *ssl, const unsigned char *identity, size_t identity_len, SSL_SESSION **ret_session)
{
    static const unsigned char aes128_gcm_sha256[] = {0x13, 0x01}; /* RFC 8446, 4.2.11: such a key goes with SHA-256 */
    const struct tls_psk *found = tls_psks_find(tls_context_of(ssl)->psks, slice_of(identity, identity_len));

    *ret_session = NULL;
    if (!found) {
        return 1;
    }
    SSL_SESSION *session = SSL_SESSION_new();
    if (!session || !SSL_SESSION_set1_master_key(session, found->key.ptr, found->key.len) ||
        !SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, aes128_gcm_sha256)) ||
        !SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) ||
        !SSL_SESSION_set1_ticket_appdata(session, found->identity.ptr, found->identity.len)) {
        SSL_SESSION_free(session);
        return 0;
    }
    *ret_session = session;
    return 1;
}

int tls_psks_install(SSL_CTX *ssl, const char *hint)
{
    SSL_CTX_set_psk_server_callback(ssl, give_key);
    SSL_CTX_set_psk_find_session_callback(ssl, give_session);
    return !hint || !*hint || SSL_CTX_use_psk_identity_hint(ssl, hint) ? 0 : -ENOMEM;
}

struct slice tls_psks_agreed(const SSL *ssl)
{
    SSL_SESSION *session = SSL_get_session(ssl);
    const char *identity = SSL_get_psk_identity(ssl);
    void *ptr = NULL;
    size_t len = 0;

    if (identity) {
        return slice_str(identity);
    }
    if (session && !SSL_SESSION_get0_ticket_appdata(session, &ptr, &len)) {
        len = 0;
    }
    return slice_of(len ? ptr : NULL, len);
}
