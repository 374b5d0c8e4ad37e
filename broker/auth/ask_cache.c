/* ask_cache.c -- answers of the HTTP service that may be used again, by the SHA-256 of what was asked.
 *
 * Why: thousands of clients that come back after a restart of theirs would otherwise be thousands of questions. What is
 * kept is the answer as it came, so that there is one way of reading it. Shape: a table by the digest, and all in the
 * order in which they came; the oldest goes when there is no room. Behind a lock: it is asked once a CONNECT, not once
 * a message. */
#include <errno.h>
#include <stdlib.h>

#include "broker/auth/auth_internal.h"
#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/map.h"

#define ENTRIES_MAX 16384
#define BYTES_MAX (64u << 20)

struct entry {
    struct list link; /* in cache.oldest */
    uint8_t digest[ASK_DIGEST_BYTES];
    uint64_t until_ms; /* monotonic */
    uint64_t wall_ms;
    long status;
    size_t len;
    uint8_t body[];
};

struct auth_cache {
    pthread_mutex_t lock;
    struct hash_key key; /* clients choose what is asked: without it they could choose where it lies in the table */
    struct map entries;  /* struct entry by digest */
    struct list oldest;  /* first */
    size_t bytes;
    uint32_t version; /* of the policy whose answers these are */
};

static uint64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

static uint64_t hash_of(const struct auth_cache *c, const uint8_t *digest)
{
    return hash_keyed(&c->key, slice_of(digest, ASK_DIGEST_BYTES));
}

static bool is_entry(const void *value, const void *digest)
{
    return memcmp(((const struct entry *)value)->digest, digest, ASK_DIGEST_BYTES) == 0;
}

static size_t entry_bytes(const struct entry *e)
{
    return sizeof(*e) + e->len;
}

static void drop(struct auth_cache *c, struct entry *e)
{
    map_remove(&c->entries, hash_of(c, e->digest), e);
    list_remove(&e->link);
    c->bytes -= entry_bytes(e);
    free(e);
}

static void drop_all(struct auth_cache *c)
{
    while (!list_empty(&c->oldest)) {
        drop(c, CONTAINER_OF(c->oldest.next, struct entry, link));
    }
}

int auth_cache_new(struct auth_cache **ret_cache)
{
    struct auth_cache *c = calloc(1, sizeof(*c));

    if (!c) {
        return -ENOMEM;
    }
    pthread_mutex_init(&c->lock, NULL);
    clock_random(&c->key, sizeof(c->key));
    list_init(&c->oldest);
    *ret_cache = c;
    return 0;
}

void auth_cache_free(struct auth_cache *c)
{
    if (!c) {
        return;
    }
    drop_all(c);
    map_deinit(&c->entries);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void auth_cache_renew(struct auth_cache *c, uint32_t version)
{
    pthread_mutex_lock(&c->lock);
    drop_all(c);
    c->version = version;
    pthread_mutex_unlock(&c->lock);
}

bool auth_cache_get(struct auth_cache *c, uint32_t version, const uint8_t digest[ASK_DIGEST_BYTES],
                    struct ask_kept *ret_kept)
{
    struct ask_kept kept = {0};
    uint64_t now = now_ms();

    pthread_mutex_lock(&c->lock);
    struct entry *e = c->version == version ? map_find(&c->entries, hash_of(c, digest), is_entry, digest) : NULL;
    if (e && e->until_ms <= now) {
        drop(c, e);
        e = NULL;
    }
    if (e) {
        kept = (struct ask_kept){.status = e->status, .wall_ms = e->wall_ms, .left_ms = e->until_ms - now};
        buf_put(&kept.body, slice_of(e->body, e->len));
    }
    pthread_mutex_unlock(&c->lock);
    if (!e || kept.body.failed) {
        return false;
    }
    *ret_kept = kept;
    return true;
}

static struct entry *entry_new(const uint8_t *digest, const struct ask_kept *kept)
{
    struct entry *e = malloc(sizeof(*e) + kept->body.len);

    if (e) {
        *e = (struct entry){.until_ms = now_ms() + kept->left_ms,
                            .wall_ms = kept->wall_ms,
                            .status = kept->status,
                            .len = kept->body.len};
        memcpy(e->digest, digest, sizeof(e->digest));
        if (e->len > 0) {
            memcpy(e->body, kept->body.ptr, e->len);
        }
    }
    return e;
}

void auth_cache_put(struct auth_cache *c, uint32_t version, const uint8_t digest[ASK_DIGEST_BYTES],
                    const struct ask_kept *kept)
{
    struct entry *e = entry_new(digest, kept), *other;

    if (!e) {
        return;
    }
    pthread_mutex_lock(&c->lock);
    bool taken = c->version == version; /* the question may be older than the policy */
    if (taken && (other = map_find(&c->entries, hash_of(c, digest), is_entry, digest)) != NULL) {
        drop(c, other);
    }
    while (taken && !list_empty(&c->oldest) &&
           (c->entries.count >= ENTRIES_MAX || c->bytes + entry_bytes(e) > BYTES_MAX)) {
        drop(c, CONTAINER_OF(c->oldest.next, struct entry, link));
    }
    taken = taken && map_add(&c->entries, hash_of(c, digest), e) == 0;
    if (taken) {
        list_append(&c->oldest, &e->link);
        c->bytes += entry_bytes(e);
    }
    pthread_mutex_unlock(&c->lock);
    if (!taken) {
        free(e);
    }
}
