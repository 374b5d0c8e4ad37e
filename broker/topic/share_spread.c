/* share_spread.c -- for each share what other nodes have told of it, in an array by node; what a pick needs of all
 * nodes that come into question, this one included, is first laid side by side. */
#include "broker/topic/share_spread.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/base/hash.h"
#include "proto/base/map.h"

struct told {
    uint64_t seed;
    struct share_load load;
    uint32_t sent;   /* by this node, and not answered for */
    int32_t current; /* round robin: what it is owed */
    uint16_t node;
};

struct share {
    uint64_t id;
    int32_t current_here;
    int sticky;         /* node or SPREAD_HERE; SPREAD_NOBODY: none yet */
    uint32_t count;     /* of told */
    struct told told[]; /* in no order */
};

struct share_spread {
    struct map shares; /* struct share, owned */
};

/* A node that comes into question. */
struct candidate {
    int node;
    struct share_load load;
    uint64_t seed;
    int32_t *current; /* NULL: nothing is kept of it */
};

enum class { ONLINE, UNKNOWN, OFFLINE, NONE };

int share_spread_new(struct share_spread **ret_spread)
{
    *ret_spread = calloc(1, sizeof(**ret_spread));
    return *ret_spread ? 0 : -ENOMEM;
}

void share_spread_free(struct share_spread *spread)
{
    struct share *s;

    if (!spread) {
        return;
    }
    for (size_t i = 0; (s = map_next(&spread->shares, &i)) != NULL;) {
        free(s);
    }
    map_deinit(&spread->shares);
    free(spread);
}

static bool is_share(const void *value, const void *key)
{
    return ((const struct share *)value)->id == *(const uint64_t *)key;
}

static struct share *find(const struct share_spread *spread, uint64_t id)
{
    return map_find(&spread->shares, hash_mix(id), is_share, &id);
}

static struct told *told_by(struct share *s, unsigned node)
{
    for (uint32_t i = 0; s && i < s->count; i++) {
        if (s->told[i].node == node) {
            return &s->told[i];
        }
    }
    return NULL;
}

/* The same share with one more node, or a new one; NULL: memory is out. */
static struct told *add(struct share_spread *spread, struct share *old, uint64_t id, unsigned node)
{
    uint32_t count = old ? old->count : 0;
    struct share *s = malloc(sizeof(*s) + (count + 1) * sizeof(s->told[0]));

    if (!s) {
        return NULL;
    }
    if (old) {
        map_remove(&spread->shares, hash_mix(id), old);
        memcpy(s, old, sizeof(*s) + count * sizeof(s->told[0]));
    } else {
        *s = (struct share){.id = id, .sticky = SPREAD_NOBODY};
    }
    free(old);
    if (map_add(&spread->shares, hash_mix(id), s) != 0) {
        free(s);
        return NULL;
    }
    s->told[s->count] = (struct told){.node = (uint16_t)node};
    return &s->told[s->count++];
}

static void take_out(struct share_spread *spread, struct share *s, struct told *t)
{
    *t = s->told[--s->count];
    if (s->count == 0) {
        map_remove(&spread->shares, hash_mix(s->id), s);
        free(s);
    }
}

void share_spread_told(struct share_spread *spread, uint64_t id, unsigned node, uint64_t seed,
                       const struct share_load *load)
{
    struct share *s = find(spread, id);
    struct told *t = told_by(s, node);

    if (load->online == 0 && load->offline == 0) {
        if (t) {
            take_out(spread, s, t);
        }
        return;
    }
    t = t ? t : add(spread, s, id, node);
    if (t) {
        t->load = *load;
        t->seed = seed;
    }
}

void share_spread_forget(struct share_spread *spread, unsigned node)
{
    struct share *s;

    for (size_t i = 0; (s = map_next(&spread->shares, &i)) != NULL;) {
        struct told *t = told_by(s, node);
        if (t) { /* the map must not change in the walk: what is empty goes when it is told of again */
            *t = s->told[--s->count];
        }
    }
}

void share_spread_settle(struct share_spread *spread, uint64_t id, unsigned node)
{
    struct told *t = told_by(find(spread, id), node);

    if (t && t->sent > 0) {
        t->sent--;
    }
}

/* ---- picking ---- */

static enum class class_of(const struct candidate *c, uint8_t qos) { if (c->load.online > 0){return ONLINE;}
if (c->load.offline > 0)
{
    return qos > 0 ? OFFLINE : NONE;
}
return c->node == SPREAD_HERE ? NONE : UNKNOWN;
}

/* Those of the best class that there is, each once. Returns how many; all of them are as if they had members online. */
static unsigned gather(struct share *s, const struct spread_choice *choice, struct candidate out[SPREAD_NODES + 1])
{
    enum class best = NONE;
    unsigned count = 0;

    for (int node = 0; node <= SPREAD_HERE; node++) {
        struct candidate c = {.node = node};
        if (node == SPREAD_HERE) {
            c.load = choice->here;
            c.seed = choice->here_seed;
            c.current = s ? &s->current_here : NULL;
        } else if (!spread_mask_has(&choice->nodes, (unsigned)node)) {
            continue;
        }
        struct told *t = node == SPREAD_HERE ? NULL : told_by(s, (unsigned)node);
        if (t) {
            c.load = t->load;
            c.load.outstanding = t->sent > t->load.outstanding ? t->sent : t->load.outstanding;
            c.seed = t->seed;
            c.current = &t->current;
        }
        enum class class = class_of(&c, choice->qos);
        if (class == NONE || class > best) {
            continue;
        }
        count = class < best ? 0 : count;
        best = class;
        if (class != ONLINE) {
            c.load.online = class == OFFLINE ? c.load.offline : 1;
            c.load.room = c.load.outstanding + 1;
        }
        out[count++] = c;
    }
    return count;
}

static uint32_t room_of(const struct candidate *c)
{
    return c->load.room > c->load.outstanding ? c->load.room - c->load.outstanding : 0;
}

/* Nobody has room: the one that is the least beyond it. */
static const struct candidate *least_full(const struct candidate *from, unsigned count)
{
    const struct candidate *best = &from[count - 1]; /* this node, if it is one of them */

    for (unsigned i = 0; i + 1 < count; i++) {
        uint64_t load = from[i].load.outstanding, room = from[i].load.room;
        if (load * best->load.room < (uint64_t)best->load.outstanding * room || best->load.room == 0) {
            best = &from[i];
        }
    }
    return best;
}

/* The power of two choices (Mitzenmacher 2001): who has the most room by an old report is not where all should go. */
static const struct candidate *pick_least(const struct candidate *from, unsigned count, struct prng *prng)
{
    const struct candidate *here = from[count - 1].node == SPREAD_HERE ? &from[count - 1] : NULL, *fit[2] = {NULL};
    uint32_t best = 0, seen = 0;

    for (unsigned i = 0; i < count; i++) {
        best = room_of(&from[i]) > best ? room_of(&from[i]) : best;
    }
    if (best == 0) {
        return least_full(from, count);
    }
    if (here && (uint64_t)room_of(here) * 2 >= best) {
        return here;
    }
    for (unsigned i = 0; i < count; i++) { /* two of those with room, drawn without putting back */
        if (room_of(&from[i]) == 0) {
            continue;
        }
        seen++;
        uint32_t at = seen <= 2 ? seen - 1 : prng_below(prng, seen);
        if (at < 2) {
            fit[at] = &from[i];
        }
    }
    return fit[1] && room_of(fit[1]) > room_of(fit[0]) ? fit[1] : fit[0];
}

/* Smooth weighted round robin: everybody is given what it has members, and who is owed the most pays for all. */
static const struct candidate *pick_in_turn(const struct candidate *from, unsigned count)
{
    const struct candidate *best = NULL;
    int32_t total = 0;

    for (unsigned i = 0; i < count; i++) {
        if (!from[i].current) {
            continue;
        }
        *from[i].current += (int32_t)from[i].load.online;
        total += (int32_t)from[i].load.online;
        if (!best || *from[i].current > *best->current) {
            best = &from[i];
        }
    }
    if (!best) {
        return &from[count - 1];
    }
    *best->current -= total;
    return best;
}

static const struct candidate *pick_by_topic(const struct candidate *from, unsigned count, uint64_t topic_hash)
{
    const struct candidate *best = NULL;
    uint64_t best_draw = 0;

    for (unsigned i = 0; i < count; i++) {
        for (uint32_t m = 0; m < from[i].load.online; m++) {
            uint64_t draw = hash_mix(topic_hash ^ hash_mix(from[i].seed + m));
            if (!best || draw > best_draw) {
                best = &from[i];
                best_draw = draw;
            }
        }
    }
    return best;
}

static const struct candidate *pick_any(const struct candidate *from, unsigned count, struct prng *prng)
{
    uint32_t total = 0, at;

    for (unsigned i = 0; i < count; i++) {
        total += from[i].load.online;
    }
    at = prng_below(prng, total);
    while (at >= from->load.online) {
        at -= from->load.online;
        from++;
    }
    return from;
}

static const struct candidate *pick_sticky(const struct share *s, const struct candidate *from, unsigned count,
                                           struct prng *prng)
{
    for (unsigned i = 0; s && i < count; i++) {
        if (from[i].node == s->sticky && room_of(&from[i]) > 0) {
            return &from[i];
        }
    }
    return pick_least(from, count, prng);
}

static const struct candidate *pick(const struct share *s, enum share_strategy strategy, const struct candidate *from,
                                    unsigned count, const struct spread_choice *choice, struct prng *prng)
{
    switch (strategy) {
    case SHARE_BY_STICKY:
        return pick_sticky(s, from, count, prng);
    case SHARE_BY_HASH_TOPIC:
        return pick_by_topic(from, count, choice->topic_hash);
    case SHARE_BY_RANDOM:
        return pick_any(from, count, prng);
    case SHARE_BY_ROUND_ROBIN:
        return pick_in_turn(from, count);
    case SHARE_BY_LEAST_INFLIGHT:
        break;
    }
    return pick_least(from, count, prng);
}

int share_spread_pick(struct share_spread *spread, uint64_t id, enum share_strategy strategy,
                      const struct spread_choice *choice, struct prng *prng)
{
    struct candidate from[SPREAD_NODES + 1];
    struct share *s = find(spread, id);
    unsigned count = gather(s, choice, from);

    if (count == 0) {
        return SPREAD_NOBODY;
    }
    int node = count == 1 ? from[0].node : pick(s, strategy, from, count, choice, prng)->node;
    struct told *t = node == SPREAD_HERE ? NULL : told_by(s, (unsigned)node);
    if (t && choice->qos > 0) {
        t->sent++;
    }
    if (s) {
        s->sticky = node;
    }
    return node;
}
