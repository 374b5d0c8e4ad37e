/* graves.c -- topics whose retained message was deleted, and when: so that a node that was away for a while and still
 * has the message does not bring it back. A grave is forgotten when its time is over, or when there are too many: the
 * oldest first. Only in a cluster. */
#include <errno.h>
#include <stdlib.h>

#include "broker/topic/retained_inside.h"

void retained_count_in(struct retained *r, const struct message *m)
{
    struct retained_replica *replica = r->quota->replica;
    struct slice topic = message_topic(m);
    struct message_stamp stamp = message_stamp(m);

    if (replica && !retained_is_own(topic)) {
        uint64_t hash = hash_keyed(&replica->key, topic);
        uint64_t sum = hash_mix(hash ^ hash_mix(stamp.at ^ hash_mix(stamp.origin)));
        atomic_fetch_xor_explicit(&replica->sums[retained_bucket(hash)], sum, memory_order_relaxed);
    }
}

static bool has_topic(const void *value, const void *key)
{
    return slice_eq(message_topic(((const struct grave *)value)->message), *(const struct slice *)key);
}

struct grave *grave_find(const struct retained *r, struct slice topic, uint64_t topic_hash)
{
    return map_find(&r->graves, topic_hash, has_topic, &topic);
}

static struct grave *grave_new(const struct retained_replica *replica, struct slice topic, uint64_t topic_hash,
                               struct message_stamp stamp)
{
    struct grave *g = calloc(1, sizeof(*g));
    struct message_source source = {
        .topic = topic,
        .topic_hash = topic_hash,
        .stamp = stamp,
        .expires_at_ms = grave_end_ms(replica, stamp),
        .retain = true,
    };

    if (g) {
        list_init(&g->in_store);
        g->message = message_new(&source);
    }
    if (g && !g->message) {
        free(g);
        return NULL;
    }
    return g;
}

int grave_dig(struct retained *r, struct slice topic, uint64_t topic_hash, struct message_stamp stamp)
{
    struct retained_replica *replica = r->quota->replica;
    struct grave *before = grave_find(r, topic, topic_hash), *g = grave_new(replica, topic, topic_hash, stamp);

    if (!g || map_add(&r->graves, topic_hash, g) != 0) {
        message_unref(g ? g->message : NULL);
        free(g);
        return -ENOMEM;
    }
    list_append(&r->graves_by_age, &g->in_store);
    retained_count_in(r, g->message);
    if (atomic_fetch_add(&replica->graves, 1) >= replica->graves_max && !before) {
        struct grave *oldest = CONTAINER_OF(r->graves_by_age.next, struct grave, in_store);
        if (oldest != g) {
            retained_tell(r, oldest->message);
            grave_forget(r, oldest);
        }
    }
    if (before) {
        grave_forget(r, before);
    }
    return 0;
}

static struct grave *next_of(const struct retained *r, const struct grave *g)
{
    return g->in_store.next == &r->graves_by_age ? NULL : CONTAINER_OF(g->in_store.next, struct grave, in_store);
}

void grave_forget(struct retained *r, struct grave *g)
{
    for (struct list *at = r->grave_cursors.next; at != &r->grave_cursors; at = at->next) {
        struct grave_cursor *c = CONTAINER_OF(at, struct grave_cursor, in_store);
        if (c->next == g) {
            c->next = next_of(r, g);
        }
    }
    retained_count_in(r, g->message);
    map_remove(&r->graves, g->message->topic_hash, g);
    list_remove(&g->in_store);
    atomic_fetch_sub(&r->quota->replica->graves, 1);
    message_unref(g->message);
    free(g);
}

unsigned grave_sweep(struct retained *r, uint64_t now_ms, unsigned steps)
{
    unsigned forgotten = 0;

    for (unsigned i = 0; i < steps; i++) {
        struct grave *g = map_next(&r->graves, &r->graves_sweep_at);
        if (!g) {
            r->graves_sweep_at = 0;
            break;
        }
        if (g->message->expires_at_ms <= now_ms) {
            retained_tell(r, g->message);
            grave_forget(r, g);
            forgotten++;
        }
    }
    return forgotten;
}

void graves_free(struct retained *r)
{
    struct list *at;

    while ((at = list_pop(&r->graves_by_age)) != NULL) {
        struct grave *g = CONTAINER_OF(at, struct grave, in_store);
        message_unref(g->message);
        free(g);
    }
    map_deinit(&r->graves);
}

/* ---- cursors ---- */

void grave_cursor_open(struct retained *r, struct grave_cursor *c)
{
    list_append(&r->grave_cursors, &c->in_store);
    c->next = list_empty(&r->graves_by_age) ? NULL : CONTAINER_OF(r->graves_by_age.next, struct grave, in_store);
}

void grave_cursor_close(struct grave_cursor *c)
{
    list_remove(&c->in_store);
}

struct message *grave_cursor_next(struct retained *r, struct grave_cursor *c)
{
    struct grave *g = c->next;

    if (!g) {
        return NULL;
    }
    c->next = next_of(r, g);
    return g->message;
}
