/* share_group.c -- a share's members in the order of joining, in an array for picking, and in a map by session: each
 * acknowledgement has to find its member. */
#include "broker/topic/share_group.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/base/list.h"
#include "proto/base/map.h"

struct member {
    struct share_member is; /* first */
    uint32_t at;            /* its place in the order */
};

struct share_group {
    struct share_table *table;
    struct list in_changed; /* empty: its load has not changed */
    struct share_load load;
    uint64_t id;
    uint64_t hash;           /* of name and filter */
    struct member **members; /* owned, as what it points to; in order of joining */
    struct map by_session;   /* the same members */
    uint32_t count, capacity;
    uint32_t next;   /* where the round goes on */
    uint64_t sticky; /* session picked last */
    uint16_t name_len, filter_len;
    uint8_t text[]; /* name, filter */
};

struct share_table {
    const struct hash_key *key; /* borrowed */
    struct map by_text, by_id;  /* struct share_group; owned by by_text */
    struct list changed;        /* struct share_group.in_changed */
    bool members_changed;
};

struct share_text {
    struct slice name, filter;
};

int share_table_new(const struct hash_key *key, struct share_table **ret_table)
{
    struct share_table *t = calloc(1, sizeof(*t));
    if (!t) {
        return -ENOMEM;
    }
    t->key = key;
    list_init(&t->changed);
    *ret_table = t;
    return 0;
}

static void group_free(struct share_group *g)
{
    for (uint32_t i = 0; i < g->count; i++) {
        free(g->members[i]);
    }
    free(g->members);
    map_deinit(&g->by_session);
    free(g);
}

void share_table_free(struct share_table *t)
{
    struct share_group *g;

    if (!t) {
        return;
    }
    for (size_t i = 0; (g = map_next(&t->by_text, &i)) != NULL;) {
        group_free(g);
    }
    map_deinit(&t->by_text);
    map_deinit(&t->by_id);
    free(t);
}

static uint64_t text_hash(const struct share_table *t, struct slice name, struct slice filter)
{
    return hash_mix(hash_keyed(t->key, name)) ^ hash_keyed(t->key, filter);
}

static struct slice name_of(const struct share_group *g)
{
    return slice_of(g->text, g->name_len);
}

struct slice share_group_filter(const struct share_group *g)
{
    return slice_of(g->text + g->name_len, g->filter_len);
}

static bool has_text(const void *value, const void *key)
{
    const struct share_text *text = key;
    return slice_eq(name_of(value), text->name) && slice_eq(share_group_filter(value), text->filter);
}

static bool has_id(const void *value, const void *key)
{
    return ((const struct share_group *)value)->id == *(const uint64_t *)key;
}

struct share_group *share_table_find(struct share_table *t, struct slice name, struct slice filter)
{
    struct share_text text = {name, filter};
    return map_find(&t->by_text, text_hash(t, name, filter), has_text, &text);
}

struct share_group *share_table_by_id(struct share_table *t, uint64_t id)
{
    return map_find(&t->by_id, hash_mix(id), has_id, &id);
}

int share_table_open(struct share_table *t, struct slice name, struct slice filter, uint64_t *next_id,
                     struct share_group **ret_group, bool *ret_created)
{
    struct share_group *g = share_table_find(t, name, filter);

    if (g) {
        *ret_group = g;
        *ret_created = false;
        return 0;
    }
    g = calloc(1, sizeof(*g) + name.len + filter.len);
    if (!g) {
        return -ENOMEM;
    }
    g->table = t;
    list_init(&g->in_changed);
    g->id = *next_id;
    g->hash = text_hash(t, name, filter);
    g->name_len = (uint16_t)name.len;
    g->filter_len = (uint16_t)filter.len;
    memcpy(g->text, name.ptr, name.len);
    memcpy(g->text + name.len, filter.ptr, filter.len);
    if (map_add(&t->by_text, g->hash, g) != 0) {
        group_free(g);
        return -ENOMEM;
    }
    if (map_add(&t->by_id, hash_mix(g->id), g) != 0) {
        map_remove(&t->by_text, g->hash, g);
        group_free(g);
        return -ENOMEM;
    }
    (*next_id)++;
    *ret_group = g;
    *ret_created = true;
    return 0;
}

void share_table_close(struct share_table *t, struct share_group *g)
{
    assert(g->count == 0);
    map_remove(&t->by_text, g->hash, g);
    map_remove(&t->by_id, hash_mix(g->id), g);
    list_remove(&g->in_changed);
    group_free(g);
}

struct share_group *share_table_changed(struct share_table *t)
{
    struct list *at = list_pop(&t->changed);

    t->members_changed = false;
    return at ? CONTAINER_OF(at, struct share_group, in_changed) : NULL;
}

bool share_table_members_changed(const struct share_table *t)
{
    return t->members_changed;
}

const struct share_group *share_table_next(const struct share_table *t, size_t *at)
{
    return map_next(&t->by_text, at);
}

struct share_load share_group_load(const struct share_group *g)
{
    return g->load;
}

uint64_t share_group_id(const struct share_group *g)
{
    return g->id;
}

size_t share_group_count(const struct share_group *g)
{
    return g->count;
}

/* ---- what its members come to ---- */

static struct share_load load_of(const struct share_member *m)
{
    if (!m->online) {
        return (struct share_load){.offline = m->options.qos > 0};
    }
    return (struct share_load){
        .online = 1, .room = m->window < SHARE_ROOM ? m->window : SHARE_ROOM, .outstanding = m->outstanding};
}

/* A member is not what it was: NULL: it was not, or is not, there. */
static void count_change(struct share_group *g, const struct share_load *was, const struct share_load *is)
{
    static const struct share_load none;

    was = was ? was : &none;
    is = is ? is : &none;
    g->load.online += is->online - was->online;
    g->load.offline += is->offline - was->offline;
    g->load.room += is->room - was->room;
    g->load.outstanding += is->outstanding - was->outstanding;
    g->table->members_changed |= is->online != was->online || is->offline != was->offline || is->room != was->room;
    if (list_empty(&g->in_changed)) {
        list_append(&g->table->changed, &g->in_changed);
    }
}

static void set_outstanding(struct share_group *g, struct share_member *m, uint32_t outstanding)
{
    struct share_load was = load_of(m), is;

    m->outstanding = outstanding;
    is = load_of(m);
    count_change(g, &was, &is);
}

/* ---- members ---- */

static bool has_session(const void *value, const void *key)
{
    return ((const struct member *)value)->is.session == *(const uint64_t *)key;
}

static struct share_member *find_member(struct share_group *g, uint64_t session)
{
    struct member *m = map_find(&g->by_session, hash_mix(session), has_session, &session);
    return m ? &m->is : NULL;
}

static int reserve_member(struct share_group *g)
{
    if (g->count < g->capacity) {
        return 0;
    }
    uint32_t capacity = g->capacity ? g->capacity * 2 : 4;
    struct member **members = realloc(g->members, capacity * sizeof(*members));
    if (!members) {
        return -ENOMEM;
    }
    g->members = members;
    g->capacity = capacity;
    return 0;
}

int share_group_join(struct share_group *g, const struct share_member *member, bool *ret_existed)
{
    struct share_member *known = find_member(g, member->session);

    if (known) {
        struct share_load was = load_of(known), is;
        known->options = member->options;
        known->online = member->online;
        known->window = member->window;
        is = load_of(known);
        count_change(g, &was, &is);
        *ret_existed = true;
        return 0;
    }
    struct member *m = malloc(sizeof(*m));
    if (!m || reserve_member(g) != 0 || map_add(&g->by_session, hash_mix(member->session), m) != 0) {
        free(m);
        return -ENOMEM;
    }
    m->is = *member;
    m->at = g->count;
    g->members[g->count++] = m;
    struct share_load is = load_of(member);
    count_change(g, NULL, &is);
    *ret_existed = false;
    return 0;
}

bool share_group_leave(struct share_group *g, uint64_t session)
{
    struct member *m = (struct member *)find_member(g, session);

    if (m) {
        struct share_load was = load_of(&m->is);
        count_change(g, &was, NULL);
        g->count--;
        for (uint32_t i = m->at; i < g->count; i++) {
            g->members[i] = g->members[i + 1];
            g->members[i]->at = i;
        }
        g->next -= g->next > m->at;
        map_remove(&g->by_session, hash_mix(session), m);
        free(m);
    }
    return g->count == 0;
}

void share_group_presence(struct share_group *g, uint64_t session, bool online, uint32_t window)
{
    struct share_member *m = find_member(g, session);

    if (m) {
        struct share_load was = load_of(m), is;
        m->online = online;
        m->window = online ? window : 0;
        is = load_of(m);
        count_change(g, &was, &is);
    }
}

void share_group_settle(struct share_group *g, uint64_t session, uint32_t n)
{
    struct share_member *m = find_member(g, session);

    if (m) {
        set_outstanding(g, m, m->outstanding - (n < m->outstanding ? n : m->outstanding));
    }
}

/* How well a member can take a message now; the lowest class that somebody is in is picked from. */
enum readiness { READY, FULL, OFFLINE, UNFIT };

static enum readiness readiness_of(const struct share_member *m, uint8_t qos)
{
    if (!m->online) {
        return qos > 0 && m->options.qos > 0 ? OFFLINE : UNFIT;
    }
    return m->outstanding < m->window ? READY : FULL;
}

/* Rendezvous hashing (Thaler and Ravishankar 1998): each member draws a number for the topic, the highest has it. */
static struct share_member *pick_by_topic(struct share_group *g, uint64_t topic_hash, uint8_t qos, uint64_t except)
{
    struct share_member *best = NULL;
    uint64_t best_draw = 0;
    bool best_online = false;

    for (uint32_t i = 0; i < g->count; i++) {
        struct share_member *m = &g->members[i]->is;
        enum readiness ready = readiness_of(m, qos);
        uint64_t draw = hash_mix(topic_hash ^ hash_mix(m->session));
        if (ready == UNFIT || m->session == except) {
            continue;
        }
        if (!best || (m->online && !best_online) || (m->online == best_online && draw > best_draw)) {
            best = m;
            best_draw = draw;
            best_online = m->online;
        }
    }
    return best;
}

/* Going round from where the last pick ended: the first of the best class; with `least`, of these the one with the
 * fewest outstanding. Members that are full or offline are always compared by what they have outstanding. */
static struct share_member *pick_round(struct share_group *g, bool least, uint8_t qos, uint64_t except)
{
    struct share_member *best = NULL;
    enum readiness best_ready = UNFIT;

    for (uint32_t n = 0; n < g->count; n++) {
        uint32_t i = g->next + n < g->count ? g->next + n : g->next + n - g->count;
        struct share_member *m = &g->members[i]->is;
        enum readiness ready = m->session == except ? UNFIT : readiness_of(m, qos);
        if (ready < best_ready ||
            (ready == best_ready && best && (least || ready != READY) && m->outstanding < best->outstanding)) {
            best = m;
            best_ready = ready;
        }
        if (best_ready == READY && (!least || best->outstanding == 0)) {
            break; /* nobody can be better */
        }
    }
    return best;
}

/* Uniform among those that can take it now. */
static struct share_member *pick_random(struct share_group *g, uint8_t qos, uint64_t except, struct prng *prng)
{
    struct share_member *best = NULL;
    uint32_t seen = 0;

    for (uint32_t i = 0; i < g->count; i++) {
        struct share_member *m = &g->members[i]->is;
        if (m->session != except && readiness_of(m, qos) == READY && prng_below(prng, ++seen) == 0) {
            best = m;
        }
    }
    return best ? best : pick_round(g, true, qos, except);
}

static struct share_member *pick_sticky(struct share_group *g, uint8_t qos, uint64_t except)
{
    struct share_member *m = find_member(g, g->sticky);

    if (m && m->session != except && readiness_of(m, qos) == READY) {
        return m;
    }
    return pick_round(g, false, qos, except);
}

static struct share_member *pick(struct share_group *g, enum share_strategy strategy, uint64_t topic_hash, uint8_t qos,
                                 uint64_t except, struct prng *prng)
{
    switch (strategy) {
    case SHARE_BY_STICKY:
        return pick_sticky(g, qos, except);
    case SHARE_BY_HASH_TOPIC:
        return pick_by_topic(g, topic_hash, qos, except);
    case SHARE_BY_RANDOM:
        return pick_random(g, qos, except, prng);
    case SHARE_BY_ROUND_ROBIN:
        return pick_round(g, false, qos, except);
    case SHARE_BY_LEAST_INFLIGHT:
        break;
    }
    return pick_round(g, true, qos, except);
}

const struct share_member *share_group_pick(struct share_group *g, enum share_strategy strategy, uint64_t topic_hash,
                                            uint8_t qos, uint64_t except, struct prng *prng)
{
    struct share_member *m = pick(g, strategy, topic_hash, qos, except, prng);

    if (!m && except != 0) { /* nobody else: then the same again */
        m = pick(g, strategy, topic_hash, qos, 0, prng);
    }
    if (!m) {
        return NULL;
    }
    g->sticky = m->session;
    g->next = ((struct member *)m)->at + 1;
    if (g->next == g->count) {
        g->next = 0;
    }
    if (qos > 0 && m->options.qos > 0) {
        set_outstanding(g, m, m->outstanding + 1);
    }
    return m;
}

const struct share_member *share_group_next(struct share_group *g, uint64_t session, uint8_t qos)
{
    const struct member *before = (const struct member *)find_member(g, session);
    uint32_t first = before ? before->at + 1 : 0;

    for (uint32_t i = 0; i < g->count; i++) {
        struct share_member *m = &g->members[(first + i) % g->count]->is;
        if (m->session == session || (!m->online && (qos == 0 || m->options.qos == 0))) {
            continue;
        }
        if (qos > 0 && m->options.qos > 0) {
            set_outstanding(g, m, m->outstanding + 1);
        }
        return m;
    }
    return NULL;
}
