#include "broker/topic/topic_match.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/mqtt/property.h"

void topic_match_add(struct topic_match_found *found, const struct topic_filter *filter)
{
    if (found->count == found->capacity) {
        uint32_t capacity = found->capacity ? found->capacity * 2 : 16;
        const struct topic_filter **filters = realloc(found->filters, capacity * sizeof(*filters));
        if (!filters) {
            found->failed = true;
            return;
        }
        found->filters = filters;
        found->capacity = capacity;
    }
    found->filters[found->count++] = filter;
}

/* Encoded size of a Subscription Identifier property; 0 is none. */
static uint32_t id_bytes(uint32_t id)
{
    return id == 0 ? 0 : id < 128 ? 2 : id < 16384 ? 3 : id < 2097152 ? 4 : 5;
}

static uint32_t id_put(uint8_t *to, uint32_t id)
{
    uint32_t n = 0;

    if (id == 0) {
        return 0;
    }
    to[n++] = MQTT_PROP_SUBSCRIPTION_ID;
    do {
        to[n++] = (uint8_t)((id & 127) | (id > 127 ? 128 : 0));
        id >>= 7;
    } while (id > 0);
    return n;
}

/* One subscription that matches; sorted by session where a session can be there twice. */
struct row {
    const struct subscription *s;
    uint32_t order; /* in which it was found */
};

static int by_owner(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->s->owner != y->s->owner) {
        return (uintptr_t)x->s->owner < (uintptr_t)y->s->owner ? -1 : 1;
    }
    return x->order < y->order ? -1 : 1;
}

/* Join the rows of one session into an entry; identifiers are written behind *ids_at. */
static void join_rows(const struct row *rows, uint32_t count, struct match_entry *e, uint8_t *ids, uint32_t *ids_at)
{
    bool has_no_local = false;

    *e = (struct match_entry){.owner = rows[0].s->owner, .self_qos = MATCH_NONE, .ids_at = *ids_at};
    for (uint32_t i = 0; i < count; i++) {
        const struct subscription_options *o = &rows[i].s->options;
        e->qos = o->qos > e->qos ? o->qos : e->qos;
        e->retain_as_published |= o->retain_as_published;
        has_no_local |= o->no_local;
        *ids_at += id_put(ids + *ids_at, o->id);
    }
    e->ids_len = *ids_at - e->ids_at;
    if (!has_no_local) {
        e->self_qos = e->qos;
        e->self_retain_as_published = e->retain_as_published;
        e->self_ids_at = e->ids_at;
        e->self_ids_len = e->ids_len;
        return;
    }
    e->self_ids_at = *ids_at;
    for (uint32_t i = 0; i < count; i++) {
        const struct subscription_options *o = &rows[i].s->options;
        if (!o->no_local) {
            e->self_qos = e->self_qos == MATCH_NONE || o->qos > e->self_qos ? o->qos : e->self_qos;
            e->self_retain_as_published |= o->retain_as_published;
            *ids_at += id_put(ids + *ids_at, o->id);
        }
    }
    e->self_ids_len = *ids_at - e->self_ids_at;
}

/* List all subscriptions of the filters; rows NULL: only count them and the bytes of their identifiers, twice each. */
static uint32_t list_rows(const struct topic_match_found *found, struct row *rows, uint32_t *ret_ids_bytes)
{
    uint32_t n = 0, bytes = 0;

    for (uint32_t i = 0; i < found->count; i++) {
        const struct list *head = &found->filters[i]->subscriptions;
        for (const struct list *at = head->next; at != head; at = at->next, n++) {
            const struct subscription *s = CONTAINER_OF(at, struct subscription, in_filter);
            bytes += 2 * id_bytes(s->options.id);
            if (rows) {
                rows[n] = (struct row){s, n};
            }
        }
    }
    *ret_ids_bytes = bytes;
    return n;
}

int topic_match_join(struct topic_match_found *found, struct match **ret_match)
{
    uint32_t ids_bytes, ids_at = 0, entries = 0;
    uint32_t count = list_rows(found, NULL, &ids_bytes);
    struct row *rows = malloc((count ? count : 1) * sizeof(*rows));
    struct match *m = malloc(sizeof(*m) + count * sizeof(struct match_entry) + ids_bytes);
    bool failed = found->failed || !rows || !m;

    if (failed) {
        free(m);
    } else {
        list_rows(found, rows, &ids_bytes);
        if (found->count > 1) {
            qsort(rows, count, sizeof(*rows), by_owner);
        }
        uint8_t *ids = (uint8_t *)(m->entries + count);
        for (uint32_t i = 0, end; i < count; i = end) {
            for (end = i + 1; end < count && rows[end].s->owner == rows[i].s->owner; end++) {
            }
            join_rows(rows + i, end - i, &m->entries[entries++], ids, &ids_at);
        }
        assert(ids_at <= ids_bytes);
        m->count = entries;
        m->ids = ids;
        m->ids_len = ids_at;
        *ret_match = m;
    }
    free(rows);
    free(found->filters);
    return failed ? -ENOMEM : 0;
}
