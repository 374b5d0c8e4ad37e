#include "broker/peer/seal.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/base/cursor.h"

#define VERSION 1u
#define KEY_ID_BYTES 4u
#define NONCE_BYTES 12u
#define TAG_BYTES 16u
#define PLAIN_MAX 2048u
#define SENDERS_MAX 256u

/* Which counters of a sender have come: RFC 6479's idea, one word wide. */
struct sender {
    struct node_id id;
    uint64_t boot, newest, seen; /* bit n of seen: newest - n */
    uint64_t used;               /* when it was heard last, in datagrams; 0: free */
};

struct seal {
    struct node_id self;
    uint64_t boot, counter, clock;
    char cluster[MEMBER_NAME_MAX + 1];
    struct seal_ring ring;
    uint8_t key_ids[SEAL_KEYS_MAX][KEY_ID_BYTES];
    EVP_CIPHER_CTX *cipher;
    struct sender senders[SENDERS_MAX];
    uint8_t plain[PLAIN_MAX];
};

/* ---- keys ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool read_key(const char *line, uint8_t key[SEAL_KEY_BYTES])
{
    for (unsigned i = 0; i < SEAL_KEY_BYTES; i++) {
        int high = hex_digit(line[2 * i]), low = high < 0 ? -1 : hex_digit(line[2 * i + 1]);
        if (low < 0) {
            return false;
        }
        key[i] = (uint8_t)(high << 4 | low);
    }
    return line[2 * SEAL_KEY_BYTES] == '\0';
}

int seal_ring_read(const char *path, struct seal_ring *ret_ring, char *error, size_t error_size)
{
    char line[256];
    FILE *in = fopen(path, "re");
    int rc = 0;

    *ret_ring = (struct seal_ring){0};
    if (!in) {
        snprintf(error, error_size, "%s: %s", path, strerror(errno));
        return -EINVAL;
    }
    for (unsigned n = 1; rc == 0 && fgets(line, sizeof(line), in); n++) {
        line[strcspn(line, " \t\r\n")] = '\0';
        if (line[0] == '\0' || line[0] == '#') {
            continue;
        }
        if (ret_ring->count == SEAL_KEYS_MAX || !read_key(line, ret_ring->keys[ret_ring->count])) {
            snprintf(error, error_size, "%s:%u: %s", path, n,
                     ret_ring->count == SEAL_KEYS_MAX ? "more than four keys" : "not a key of 64 hex digits");
            rc = -EINVAL;
        }
        ret_ring->count++;
    }
    fclose(in);
    if (rc == 0 && ret_ring->count == 0) {
        snprintf(error, error_size, "%s: no key in it", path);
        rc = -EINVAL;
    }
    return rc;
}

void seal_ring_insecure(const char *cluster, struct seal_ring *ret_ring)
{
    char text[MEMBER_NAME_MAX + 32];
    int len = snprintf(text, sizeof(text), "tern insecure %s", cluster);

    *ret_ring = (struct seal_ring){.count = 1};
    EVP_Digest(text, (size_t)len, ret_ring->keys[0], NULL, EVP_sha256(), NULL);
}

void seal_route_key(const char *cluster, struct hash_key *ret_key)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    char text[MEMBER_NAME_MAX + 32];
    int len = snprintf(text, sizeof(text), "tern routes %s", cluster);

    EVP_Digest(text, (size_t)len, digest, NULL, EVP_sha256(), NULL);
    memcpy(ret_key, digest, sizeof(*ret_key));
}

void seal_ring_set(struct seal *s, const struct seal_ring *ring)
{
    uint8_t digest[EVP_MAX_MD_SIZE];

    s->ring = *ring;
    for (unsigned i = 0; i < ring->count; i++) {
        EVP_Digest(ring->keys[i], SEAL_KEY_BYTES, digest, NULL, EVP_sha256(), NULL);
        memcpy(s->key_ids[i], digest, KEY_ID_BYTES);
    }
}

int seal_new(const struct node_id *self, uint64_t boot, const char *cluster, const struct seal_ring *ring,
             struct seal **ret_seal)
{
    struct seal *s = calloc(1, sizeof(*s));

    if (!s || !(s->cipher = EVP_CIPHER_CTX_new())) {
        free(s);
        return -ENOMEM;
    }
    s->self = *self;
    s->boot = boot;
    snprintf(s->cluster, sizeof(s->cluster), "%s", cluster);
    seal_ring_set(s, ring);
    *ret_seal = s;
    return 0;
}

void seal_free(struct seal *s)
{
    if (s) {
        EVP_CIPHER_CTX_free(s->cipher);
        free(s);
    }
}

/* ---- datagrams ---- */

/* Begin with a key and a nonce, and authenticate head and name. */
static bool begin(struct seal *s, const uint8_t *key, const uint8_t *nonce, struct slice head, bool encrypt)
{
    int n;

    return EVP_CipherInit_ex(s->cipher, EVP_aes_256_gcm(), NULL, key, nonce, encrypt) == 1 &&
           EVP_CipherUpdate(s->cipher, NULL, &n, head.ptr, (int)head.len) == 1 &&
           EVP_CipherUpdate(s->cipher, NULL, &n, (const uint8_t *)s->cluster, (int)strlen(s->cluster)) == 1;
}

int seal_close(struct seal *s, struct slice plain, struct buf *out)
{
    uint32_t at = out->len;
    uint8_t nonce[NONCE_BYTES], counter[8];
    struct buf b = {.ptr = counter, .cap = sizeof(counter)};
    int n;

    clock_random(nonce, sizeof(nonce));
    buf_u64(&b, ++s->counter);
    buf_u8(out, VERSION);
    buf_put(out, slice_of(s->key_ids[0], KEY_ID_BYTES));
    buf_put(out, slice_of(s->self.bytes, sizeof(s->self.bytes)));
    buf_u64(out, s->boot);
    buf_put(out, slice_of(nonce, sizeof(nonce)));
    uint8_t *sealed = buf_extend(out, sizeof(counter) + plain.len + TAG_BYTES);
    if (out->failed || !sealed || !begin(s, s->ring.keys[0], nonce, slice_of(out->ptr + at, SEAL_HEAD_BYTES), true) ||
        EVP_CipherUpdate(s->cipher, sealed, &n, counter, sizeof(counter)) != 1 ||
        EVP_CipherUpdate(s->cipher, sealed + sizeof(counter), &n, plain.ptr, (int)plain.len) != 1 ||
        EVP_CipherFinal_ex(s->cipher, sealed, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(s->cipher, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, sealed + sizeof(counter) + plain.len) != 1) {
        out->len = at;
        out->failed = false;
        return -ENOMEM;
    }
    return 0;
}

/* The place where this sender's counters are remembered; a new one takes that of who was heard longest ago. */
static struct sender *sender_of(struct seal *s, const struct node_id *id, uint64_t boot)
{
    struct sender *oldest = &s->senders[0];

    for (unsigned i = 0; i < SENDERS_MAX; i++) {
        struct sender *x = &s->senders[i];
        if (x->used > 0 && x->boot == boot && node_id_eq(&x->id, id)) {
            return x;
        }
        oldest = x->used < oldest->used ? x : oldest;
    }
    *oldest = (struct sender){.id = *id, .boot = boot};
    return oldest;
}

/* Whether this counter has not come before. */
static bool is_new(struct seal *s, const struct node_id *id, uint64_t boot, uint64_t counter)
{
    struct sender *x = sender_of(s, id, boot);

    x->used = ++s->clock;
    if (counter > x->newest) {
        uint64_t ahead = counter - x->newest;
        x->seen = (ahead < 64 ? x->seen << ahead : 0) | 1;
        x->newest = counter;
        return true;
    }
    uint64_t behind = x->newest - counter;
    if (behind >= 64 || x->seen >> behind & 1) {
        return false;
    }
    x->seen |= 1ull << behind;
    return true;
}

static const uint8_t *key_of(const struct seal *s, struct slice id)
{
    for (unsigned i = 0; i < s->ring.count; i++) {
        if (memcmp(s->key_ids[i], id.ptr, KEY_ID_BYTES) == 0) {
            return s->ring.keys[i];
        }
    }
    return NULL;
}

int seal_open(struct seal *s, struct slice datagram, struct slice *ret_plain, struct node_id *ret_from)
{
    struct cursor c = cursor_at(datagram);
    int n;

    if (datagram.len < SEAL_OVERHEAD || datagram.len - SEAL_HEAD_BYTES - TAG_BYTES > PLAIN_MAX ||
        cursor_u8(&c) != VERSION) {
        return -EBADMSG;
    }
    const uint8_t *key = key_of(s, cursor_take(&c, KEY_ID_BYTES));
    memcpy(ret_from->bytes, cursor_take(&c, sizeof(ret_from->bytes)).ptr, sizeof(ret_from->bytes));
    uint64_t boot = cursor_u64(&c);
    struct slice nonce = cursor_take(&c, NONCE_BYTES);
    struct slice sealed = cursor_take(&c, cursor_left(&c) - TAG_BYTES);
    struct slice tag = cursor_rest(&c);
    if (!key || (node_id_eq(ret_from, &s->self) && boot == s->boot) ||
        !begin(s, key, nonce.ptr, slice_of(datagram.ptr, SEAL_HEAD_BYTES), false) ||
        EVP_CipherUpdate(s->cipher, s->plain, &n, sealed.ptr, (int)sealed.len) != 1 ||
        EVP_CIPHER_CTX_ctrl(s->cipher, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, (void *)(uintptr_t)tag.ptr) != 1 ||
        EVP_CipherFinal_ex(s->cipher, s->plain + sealed.len, &n) != 1) {
        return -EBADMSG;
    }
    struct cursor plain = cursor_at(slice_of(s->plain, sealed.len));
    if (!is_new(s, ret_from, boot, cursor_u64(&plain))) {
        return -EBADMSG;
    }
    *ret_plain = cursor_rest(&plain);
    return 0;
}
