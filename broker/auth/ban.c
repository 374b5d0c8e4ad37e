/* ban.c -- the bans, and the counters that lead to them.
 *
 *     bans:      by kind and name; two lists: those that came of themselves in the order they were made, and the
 * operator's counters:  by address, by client id; each a list with the longest untouched in front
 *
 * Each call frees a few that have expired from the fronts of the lists: nothing ever walks a table, and what an attack
 * has filled empties with the next calls. When a table is full its oldest entry makes room, but no ban by hand. A
 * client id is counted by 128 bits of keyed hash, not by its name, which may be long. */
#include "broker/auth/ban.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/list.h"
#include "proto/base/map.h"

#define BANS_MAX 65536u
#define BAN_BYTES_MAX (64u << 20) /* of names and reasons: a client id may be 65,535 bytes long */
#define REASON_BYTES_MAX 256u
#define COUNTERS_MAX 65536u /* of each kind */
#define FREED_PER_CALL 2
#define SECOND_US 1000000u

struct ban_entry {
    struct list link;
    struct ban ban; /* its texts lie in text */
    uint64_t hash;
    bool by_hand;
    uint8_t text[];
};

/* What an address or a client id has done lately. The window begins with its first count and ends on its own: who knows
 * that gets up to twice as many tries into one window's time, once. */
struct counter {
    struct list link;
    uint64_t id[2]; /* the address, or the client id's hashes */
    uint64_t hash;
    uint64_t touched_ms;
    uint64_t since_ms;
    uint32_t count;
    uint64_t full_at_us; /* connections: as rate.h has it */
};

struct counters {
    struct map map;     /* struct counter by id; owned */
    struct list oldest; /* struct counter.link, the longest untouched first */
};

struct ban_list {
    pthread_mutex_t lock; /* of everything but version */
    struct hash_key key, second_key;
    struct ban_limits limits;
    struct map bans;                /* struct ban_entry by kind and name; owned */
    struct list automatic, by_hand; /* struct ban_entry.link; by hand: the one to be looked at next in front */
    size_t bytes;                   /* of all texts */
    struct counters addresses, client_ids;
    atomic_uint_least64_t version;
};

int ban_list_new(struct ban_list **ret_list)
{
    struct ban_list *list = calloc(1, sizeof(*list));
    if (!list) {
        return -ENOMEM;
    }
    pthread_mutex_init(&list->lock, NULL);
    clock_random(&list->key, sizeof(list->key));
    clock_random(&list->second_key, sizeof(list->second_key));
    list_init(&list->automatic);
    list_init(&list->by_hand);
    list_init(&list->addresses.oldest);
    list_init(&list->client_ids.oldest);
    *ret_list = list;
    return 0;
}

void ban_limits_set(struct ban_list *list, const struct ban_limits *limits)
{
    pthread_mutex_lock(&list->lock);
    list->limits = *limits;
    pthread_mutex_unlock(&list->lock);
}

/* ---- counters ---- */

static bool is_counter(const void *value, const void *id)
{
    return memcmp(((const struct counter *)value)->id, id, sizeof(((struct counter *)NULL)->id)) == 0;
}

static void counter_free(struct counters *counters, struct counter *c)
{
    list_remove(&c->link);
    map_remove(&counters->map, c->hash, c);
    free(c);
}

/* Free from the front what nobody has touched for keep_ms; a clock that was set back ends it too. */
static void counters_expire(struct counters *counters, uint64_t keep_ms, uint64_t wall_ms)
{
    for (unsigned i = 0; i < FREED_PER_CALL && !list_empty(&counters->oldest); i++) {
        struct counter *c = CONTAINER_OF(counters->oldest.next, struct counter, link);
        if (wall_ms - c->touched_ms < keep_ms) {
            return;
        }
        counter_free(counters, c);
    }
}

/* The counter of id, made if need be and touched. NULL when memory is out: then it is not counted. */
static struct counter *counter_get(struct ban_list *list, struct counters *counters, const uint64_t id[2],
                                   uint64_t wall_ms)
{
    uint64_t hash = hash_keyed(&list->key, slice_of(id, 2 * sizeof(*id)));
    struct counter *c = map_find(&counters->map, hash, is_counter, id);

    if (!c) {
        if (counters->map.count >= COUNTERS_MAX) {
            counter_free(counters, CONTAINER_OF(counters->oldest.next, struct counter, link));
        }
        c = calloc(1, sizeof(*c));
        if (!c || map_add(&counters->map, hash, c) != 0) {
            free(c);
            return NULL;
        }
        memcpy(c->id, id, sizeof(c->id));
        c->hash = hash;
        list_init(&c->link);
    }
    list_remove(&c->link);
    list_append(&counters->oldest, &c->link);
    c->touched_ms = wall_ms;
    return c;
}

static struct counter *address_counter(struct ban_list *list, const struct in6_addr *address, uint64_t wall_ms)
{
    uint64_t id[2], keep_ms = list->limits.window_ms > 1000 ? list->limits.window_ms : 1000;

    memcpy(id, address, sizeof(id));
    counters_expire(&list->addresses, keep_ms, wall_ms);
    return counter_get(list, &list->addresses, id, wall_ms);
}

static struct counter *client_id_counter(struct ban_list *list, struct slice client_id, uint64_t wall_ms)
{
    uint64_t id[2] = {hash_keyed(&list->key, client_id), hash_keyed(&list->second_key, client_id)};

    counters_expire(&list->client_ids, list->limits.flap_window_ms, wall_ms);
    return counter_get(list, &list->client_ids, id, wall_ms);
}

/* Count one more within the window. Returns whether that makes `max`; then counting begins anew. */
static bool counter_hit(struct counter *c, uint32_t max, uint64_t window_ms, uint64_t wall_ms)
{
    if (c->count == 0 || wall_ms - c->since_ms >= window_ms) {
        c->since_ms = wall_ms;
        c->count = 0;
    }
    if (++c->count < max) {
        return false;
    }
    c->count = 0;
    return true;
}

/* Whether one more connection fits into this second's worth; only then it is taken. */
static bool counter_connect(struct counter *c, uint32_t per_second, uint64_t wall_ms)
{
    uint64_t now_us = wall_ms * 1000, cost_us = SECOND_US / per_second;
    bool stale = c->full_at_us < now_us || c->full_at_us - now_us > SECOND_US; /* the clock was set back, too */
    uint64_t full_at_us = (stale ? now_us : c->full_at_us) + cost_us;

    if (full_at_us - now_us > SECOND_US) {
        return false;
    }
    c->full_at_us = full_at_us;
    return true;
}

/* ---- bans ---- */

struct ban_name {
    enum ban_kind kind;
    struct slice name;
};

static bool is_ban(const void *value, const void *key)
{
    const struct ban *ban = &((const struct ban_entry *)value)->ban;
    const struct ban_name *n = key;
    return ban->kind == n->kind && slice_eq(ban->name, n->name);
}

static uint64_t ban_hash(const struct ban_list *list, const struct ban_name *n)
{
    return hash_keyed(&list->key, n->name) ^ hash_mix(n->kind + 1);
}

static size_t ban_bytes(const struct ban *ban)
{
    return ban->name.len + ban->reason.len;
}

static void ban_free(struct ban_list *list, struct ban_entry *entry)
{
    list_remove(&entry->link);
    map_remove(&list->bans, entry->hash, entry);
    list->bytes -= ban_bytes(&entry->ban);
    free(entry);
}

static bool ban_expired(const struct ban_entry *entry, uint64_t wall_ms)
{
    return entry->ban.until_ms != UINT64_MAX && entry->ban.until_ms <= wall_ms;
}

/* Free what has expired in front. The operator's bans end in any order, so each is looked at in turn. */
static void bans_expire(struct ban_list *list, uint64_t wall_ms)
{
    for (unsigned i = 0; i < FREED_PER_CALL && !list_empty(&list->automatic); i++) {
        struct ban_entry *entry = CONTAINER_OF(list->automatic.next, struct ban_entry, link);
        if (!ban_expired(entry, wall_ms)) {
            break;
        }
        ban_free(list, entry);
    }
    struct list *front = list_pop(&list->by_hand);
    if (front) {
        list_append(&list->by_hand, front);
        struct ban_entry *entry = CONTAINER_OF(front, struct ban_entry, link);
        if (ban_expired(entry, wall_ms)) {
            ban_free(list, entry);
        }
    }
}

/* The present ban of this name, or NULL; one that has expired is freed. */
static struct ban_entry *ban_find(struct ban_list *list, enum ban_kind kind, struct slice name, uint64_t wall_ms)
{
    struct ban_name n = {kind, name};

    bans_expire(list, wall_ms);
    struct ban_entry *entry = map_find(&list->bans, ban_hash(list, &n), is_ban, &n);
    if (entry && ban_expired(entry, wall_ms)) {
        ban_free(list, entry);
        return NULL;
    }
    return entry;
}

static struct ban_entry *ban_new(struct ban_list *list, const struct ban *ban, bool by_hand)
{
    struct ban_entry *entry = malloc(sizeof(*entry) + ban_bytes(ban));
    if (!entry) {
        return NULL;
    }
    entry->ban = *ban;
    entry->by_hand = by_hand;
    entry->ban.name.ptr = memcpy(entry->text, ban->name.ptr, ban->name.len);
    entry->ban.reason.ptr = entry->text + ban->name.len;
    if (ban->reason.len) {
        memcpy(entry->text + ban->name.len, ban->reason.ptr, ban->reason.len);
    }
    entry->hash = ban_hash(list, &(struct ban_name){ban->kind, ban->name});
    list_init(&entry->link);
    return entry;
}

/* Make room for so many bans more and bytes of their text; the oldest automatic ones go first. */
static bool ban_room(struct ban_list *list, unsigned count, size_t bytes)
{
    while (list->bans.count + count > BANS_MAX || list->bytes + bytes > BAN_BYTES_MAX) {
        if (list_empty(&list->automatic)) {
            return false;
        }
        ban_free(list, CONTAINER_OF(list->automatic.next, struct ban_entry, link));
    }
    return true;
}

static void ban_enlist(struct ban_list *list, struct ban_entry *entry)
{
    list_append(entry->by_hand ? &list->by_hand : &list->automatic, &entry->link);
}

/* Put a ban in, in the place of one that the name may have. On failure that one stays. */
static int ban_put(struct ban_list *list, const struct ban *ban, bool by_hand)
{
    struct ban_name n = {ban->kind, ban->name};
    struct ban_entry *entry = ban_new(list, ban, by_hand);
    if (!entry) {
        return -ENOMEM;
    }
    struct ban_entry *old = map_find(&list->bans, entry->hash, is_ban, &n);
    size_t old_bytes = old ? ban_bytes(&old->ban) : 0;
    if (old) {
        list_remove(&old->link); /* it does not make room for its successor */
        list->bytes -= old_bytes;
    }
    int rc = ban_room(list, old ? 0 : 1, ban_bytes(ban)) ? map_add(&list->bans, entry->hash, entry) : -ENOSPC;
    list->bytes += old_bytes;
    if (rc) {
        if (old) {
            ban_enlist(list, old);
        }
        free(entry);
        return rc;
    }
    if (old) {
        ban_free(list, old);
    }
    ban_enlist(list, entry);
    list->bytes += ban_bytes(&entry->ban);
    atomic_fetch_add(&list->version, 1);
    return 0;
}

/* A ban that came of itself. It takes nothing away from a ban by hand. */
static bool ban_impose(struct ban_list *list, const struct ban *ban, uint64_t wall_ms)
{
    const struct ban_entry *old = ban_find(list, ban->kind, ban->name, wall_ms);
    return (!old || !old->by_hand) && ban_put(list, ban, false) == 0;
}

/* ---- the doors ---- */

/* The all-zero address is nobody's: all clients of a Unix socket have it. */
static bool is_known(const struct in6_addr *address)
{
    return !IN6_IS_ADDR_UNSPECIFIED(address);
}

bool ban_accept(struct ban_list *list, const struct in6_addr *address, uint64_t wall_ms, const char **ret_why)
{
    const char *why = NULL;

    pthread_mutex_lock(&list->lock);
    if (ban_find(list, BAN_ADDRESS, ban_address(address), wall_ms)) {
        why = "banned";
    } else if (list->limits.connections_per_second > 0 && is_known(address)) {
        struct counter *c = address_counter(list, address, wall_ms);
        if (c && !counter_connect(c, list->limits.connections_per_second, wall_ms)) {
            why = "too many connections a second";
        }
    }
    pthread_mutex_unlock(&list->lock);
    if (why) {
        *ret_why = why;
    }
    return !why;
}

bool ban_has(struct ban_list *list, enum ban_kind kind, struct slice name, uint64_t wall_ms)
{
    pthread_mutex_lock(&list->lock);
    bool has = ban_find(list, kind, name, wall_ms) != NULL;
    pthread_mutex_unlock(&list->lock);
    return has;
}

static uint64_t later(uint64_t wall_ms, uint64_t more_ms)
{
    return more_ms < UINT64_MAX - wall_ms ? wall_ms + more_ms : UINT64_MAX;
}

bool ban_failed(struct ban_list *list, const struct in6_addr *address, uint64_t wall_ms)
{
    bool banned = false;

    pthread_mutex_lock(&list->lock);
    const struct ban_limits *limits = &list->limits;
    if (limits->failures > 0 && is_known(address)) {
        struct counter *c = address_counter(list, address, wall_ms);
        struct ban ban = {BAN_ADDRESS, later(wall_ms, limits->ban_ms), ban_address(address),
                          SLICE("failed authentications")};
        banned = c && counter_hit(c, limits->failures, limits->window_ms, wall_ms) && ban_impose(list, &ban, wall_ms);
    }
    pthread_mutex_unlock(&list->lock);
    return banned;
}

bool ban_connected(struct ban_list *list, struct slice client_id, uint64_t wall_ms)
{
    bool banned = false;

    pthread_mutex_lock(&list->lock);
    const struct ban_limits *limits = &list->limits;
    if (limits->flaps > 0 && client_id.len > 0) {
        struct counter *c = client_id_counter(list, client_id, wall_ms);
        struct ban ban = {BAN_CLIENT_ID, later(wall_ms, limits->flap_ban_ms), client_id, SLICE("flapping")};
        banned = c && counter_hit(c, limits->flaps, limits->flap_window_ms, wall_ms) && ban_impose(list, &ban, wall_ms);
    }
    pthread_mutex_unlock(&list->lock);
    return banned;
}

int ban_add(struct ban_list *list, enum ban_kind kind, struct slice name, uint64_t until_ms, struct slice reason)
{
    if (reason.len > REASON_BYTES_MAX) {
        reason.len = REASON_BYTES_MAX;
        while (reason.len > 0 && (reason.ptr[reason.len] & 0xc0) == 0x80) { /* not through a character */
            reason.len--;
        }
    }
    struct ban ban = {kind, until_ms, name, reason};
    pthread_mutex_lock(&list->lock);
    int rc = ban_put(list, &ban, true);
    pthread_mutex_unlock(&list->lock);
    return rc;
}

int ban_remove(struct ban_list *list, enum ban_kind kind, struct slice name)
{
    pthread_mutex_lock(&list->lock);
    struct ban_entry *entry = ban_find(list, kind, name, 0); /* at that time none has expired */
    if (entry) {
        ban_free(list, entry);
    }
    pthread_mutex_unlock(&list->lock);
    return entry ? 0 : -ENOENT;
}

uint64_t ban_version(const struct ban_list *list)
{
    return list->version;
}

void ban_each(struct ban_list *list, uint64_t wall_ms, void (*visit)(void *context, const struct ban *ban),
              void *context)
{
    struct ban_entry *entry;

    pthread_mutex_lock(&list->lock);
    for (size_t i = 0; (entry = map_next(&list->bans, &i)) != NULL;) {
        if (!ban_expired(entry, wall_ms)) {
            visit(context, &entry->ban);
        }
    }
    pthread_mutex_unlock(&list->lock);
}

static void counters_deinit(struct counters *counters)
{
    while (!list_empty(&counters->oldest)) {
        counter_free(counters, CONTAINER_OF(counters->oldest.next, struct counter, link));
    }
}

void ban_list_free(struct ban_list *list)
{
    struct ban_entry *entry;

    if (!list) {
        return;
    }
    for (size_t i = 0; (entry = map_next(&list->bans, &i)) != NULL;) {
        free(entry);
    }
    map_deinit(&list->bans);
    counters_deinit(&list->addresses);
    counters_deinit(&list->client_ids);
    pthread_mutex_destroy(&list->lock);
    free(list);
}
