/* route_table_test.c -- which shards and shares a topic finds, alone, under change, without memory, and while a writer
 * is at work. */
#include "tests/lib/alloc_fail.h"

#include "broker/topic/route_match.c"
#include "broker/topic/route_remote.c"
#include "broker/topic/route_table.c"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "proto/base/prng.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

static struct route_table *table_new(unsigned readers)
{
    struct route_table *t = NULL;
    CHECK(route_table_new(&test_key, readers, &t) == 0);
    return t;
}

static void add(struct route_table *t, const char *filter, unsigned shard)
{
    CHECK(route_table_add(t, slice_str(filter), shard) == 0);
}

static void drop(struct route_table *t, const char *filter, unsigned shard)
{
    CHECK(route_table_remove(t, slice_str(filter), shard) == 0);
}

static struct route_match *match(const struct route_table *t, const char *topic)
{
    struct route_match *m = NULL;
    CHECK(route_table_match(t, slice_str(topic), &m) == 0);
    return m;
}

static uint64_t shards(const struct route_table *t, const char *topic)
{
    struct route_match *m = match(t, topic);
    uint64_t mask = m->shards;
    CHECK(m->share_count == 0);
    free(m);
    return mask;
}

/* How often a share is in a match. */
static unsigned times(const struct route_match *m, uint64_t share, uint32_t home)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < m->share_count; i++) {
        n += m->shares[i].id == share && m->shares[i].home == home;
    }
    return n;
}

static bool is_empty(const struct route_table *t)
{
    return route_table_filter_count(t) == 0 && t->exact->live == 0 && t->nodes->live == 0 && t->root->children == 0;
}

/* ---- one thread ---- */

static const char *const filters[] = {
    "a",           "a/b",    "a/b/c", "/",      "/a",     "a/",    "//",
    "#",           "+",      "+/+",   "a/#",    "a/+",    "+/b",   "/+",
    "+/",          "/#",     "a/+/c", "a/b/#",  "+/#",    "+/b/#", "+/+/#",
    "$SYS/#",      "$SYS/+", "$SYS",  "+/a",    "$SYS/a", "+/+/+", "a/b/c/d/e/f/g/h",
    "a/+/c/+/e/#", "a//b",   "$a",    "$a/+/b",
};
static const char *const topics[] = {
    "a",  "b",     "a/b",    "a/b/c",           "/",         "/a", "a/",  "//", "a//b", "$SYS", "$SYS/a", "$SYS/a/b",
    "$a", "$a//b", "a/$SYS", "a/b/c/d/e/f/g/h", "a/b/c/d/e", "A",  "A/b", "ab", "a/bc", "b/a",  " a",     "a/b/",
};

/* Every pair, alone in a table: what must be found and what must not. */
static void test_pairs(void)
{
    for (size_t i = 0; i < COUNT_OF(filters); i++) {
        struct route_table *t = table_new(0);
        add(t, filters[i], 63);
        for (size_t k = 0; k < COUNT_OF(topics); k++) {
            char name[64];
            snprintf(name, sizeof(name), "%s, %s", filters[i], topics[k]);
            bool want = mqtt_filter_matches(slice_str(filters[i]), slice_str(topics[k]));
            CHECK_CASE(name, shards(t, topics[k]) == (uint64_t)want << 63);
        }
        drop(t, filters[i], 63);
        CHECK_CASE(filters[i], is_empty(t));
        route_table_free(t);
    }
}

/* What changes and what does not: a = add, r = remove, A and R the same for share 7; all on the filter of the row,
 * shard 5. */
static const struct {
    const char *name, *filter;
    struct {
        char what;
        unsigned shard;
        bool changes;
        size_t filters; /* afterwards */
    } steps[6];
} changes[] = {
    {"add twice", "x", {{'a', 5, true, 1}, {'a', 5, false, 1}, {'r', 5, true, 0}}},
    {"add twice, wildcard", "x/+", {{'a', 5, true, 1}, {'a', 5, false, 1}, {'r', 5, true, 0}}},
    {"remove what never was", "x", {{'r', 5, false, 0}}},
    {"remove what never was, wildcard", "x/#", {{'r', 5, false, 0}}},
    {"remove twice", "+", {{'a', 5, true, 1}, {'r', 5, true, 0}, {'r', 5, false, 0}}},
    {"remove another shard", "+", {{'a', 5, true, 1}, {'r', 6, false, 1}}},
    {"one filter, two shards", "x", {{'a', 5, true, 1}, {'a', 0, true, 1}, {'r', 5, true, 1}, {'r', 0, true, 0}}},
    {"share twice", "x", {{'A', 0, true, 1}, {'A', 0, false, 1}, {'R', 0, true, 0}, {'R', 0, false, 0}}},
    {"share that never was", "x", {{'R', 0, false, 0}}},
    {"share that never was, of a filter that is", "x", {{'a', 5, true, 1}, {'R', 0, false, 1}}},
    {"share outlives shard", "x/+", {{'a', 5, true, 1}, {'A', 0, true, 1}, {'r', 5, true, 1}, {'R', 0, true, 0}}},
    {"shard outlives share", "x/+", {{'A', 0, true, 1}, {'a', 5, true, 1}, {'R', 0, true, 1}, {'r', 5, true, 0}}},
};

static void test_changes(void)
{
    static const struct route_share share = {.id = 7, .home = 3};

    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        struct route_table *t = table_new(0);
        struct slice filter = slice_str(changes[i].filter);
        bool shard_in[64] = {0}, share_in = false;
        for (size_t k = 0; k < COUNT_OF(changes[i].steps) && changes[i].steps[k].what; k++) {
            char what = changes[i].steps[k].what;
            unsigned shard = changes[i].steps[k].shard;
            uint64_t before = route_table_generation(t);
            int rc = what == 'a'   ? route_table_add(t, filter, shard)
                     : what == 'r' ? route_table_remove(t, filter, shard)
                     : what == 'A' ? route_table_add_share(t, filter, &share)
                                   : route_table_remove_share(t, filter, share.id);
            CHECK_CASE(changes[i].name, rc == 0);
            CHECK_CASE(changes[i].name, (route_table_generation(t) > before) == changes[i].steps[k].changes);
            CHECK_CASE(changes[i].name, route_table_filter_count(t) == changes[i].steps[k].filters);
            share_in = what == 'A' || (what != 'R' && share_in);
            shard_in[shard] = what == 'a' || (what != 'r' && shard_in[shard]);
            struct route_match *m = match(t, changes[i].filter[1] ? "x/y" : "x"); /* matches all of these filters */
            CHECK_CASE(changes[i].name, m->share_count == share_in && times(m, 7, 3) == share_in);
            CHECK_CASE(changes[i].name, (m->shards >> shard & 1) == shard_in[shard]);
            free(m);
        }
        CHECK_CASE(changes[i].name, route_table_filter_count(t) > 0 || is_empty(t));
        route_table_free(t);
    }
}

/* A filter that another one goes on from stays when that one goes, and the other way round. */
static void test_prefixes(void)
{
    struct route_table *t = table_new(0);

    add(t, "a/+", 1);
    add(t, "a/+/c/#", 2);
    drop(t, "a/+", 1);
    CHECK(shards(t, "a/b") == 0);
    CHECK(shards(t, "a/b/c") == 4);
    add(t, "a/+", 1);
    drop(t, "a/+/c/#", 2);
    CHECK(shards(t, "a/b") == 2);
    CHECK(shards(t, "a/b/c") == 0);
    CHECK(t->nodes->live == 2);
    drop(t, "a/+/c", 1); /* only a level on the way, never announced */
    drop(t, "a", 1);     /* a level of the tree is no exact filter */
    CHECK(shards(t, "a/b") == 2);
    drop(t, "a/+", 1);
    CHECK(is_empty(t));
    route_table_free(t);
}

/* Shares of one filter leave from the front, the middle and the end of their list. */
static void test_share_lists(void)
{
    enum { SHARES = 5 };

    for (unsigned order = 0; order < SHARES; order++) {
        for (size_t f = 0; f < 2; f++) {
            const char *filter = f ? "t/+" : "t/x";
            struct route_table *t = table_new(0);
            for (unsigned i = 0; i < SHARES; i++) {
                CHECK(route_table_add_share(t, slice_str(filter), &(struct route_share){.id = 100 + i, .home = i}) ==
                      0);
            }
            for (unsigned gone = 0; gone < SHARES; gone++) {
                unsigned leaves = (order + gone * 2) % SHARES;
                CHECK(route_table_remove_share(t, slice_str(filter), 100 + leaves) == 0);
                struct route_match *m = match(t, "t/x");
                CHECK(m->share_count == SHARES - 1 - gone);
                CHECK(times(m, 100 + leaves, leaves) == 0);
                for (unsigned later = gone + 1; later < SHARES; later++) {
                    unsigned stays = (order + later * 2) % SHARES;
                    CHECK(times(m, 100 + stays, stays) == 1);
                }
                free(m);
            }
            CHECK(is_empty(t));
            route_table_free(t);
        }
    }
}

/* A few filters over few levels, so that they overlap, for many shards and shares, in random order; against the plain
 * definition. */
static void test_against_model(void)
{
    enum { SLOTS = 300, STEPS = 4000 };
    static const char *const levels[] = {"a", "b", "", "+", "$c"};
    static struct {
        char filter[32];
        bool in;
    } slots[SLOTS]; /* the first 64: one for each shard; the others: shares */
    struct route_table *t = table_new(0);
    struct prng prng;
    bool right = true;

    prng_seed(&prng, 11);
    for (size_t i = 0; i < SLOTS; i++) {
        unsigned depth = 1 + prng_below(&prng, 4);
        slots[i].filter[0] = 0;
        for (unsigned d = 0; d < depth; d++) {
            bool last = d + 1 == depth && prng_below(&prng, 3) == 0;
            strcat(slots[i].filter, last ? "#" : levels[prng_below(&prng, COUNT_OF(levels))]);
            strcat(slots[i].filter, d + 1 < depth ? "/" : slots[i].filter[0] ? "" : "a");
        }
    }
    for (unsigned step = 0; step < STEPS; step++) {
        size_t i = prng_below(&prng, SLOTS);
        struct slice filter = slice_str(slots[i].filter);
        struct route_share share = {.id = i, .home = (uint32_t)i * 3};
        slots[i].in = !slots[i].in;
        CHECK((i < 64        ? (slots[i].in ? route_table_add : route_table_remove)(t, filter, (unsigned)i)
               : slots[i].in ? route_table_add_share(t, filter, &share)
                             : route_table_remove_share(t, filter, i)) == 0);
        route_table_reclaim(t);
        struct slice topic = slice_str(topics[step % COUNT_OF(topics)]);
        struct route_match *m = match(t, topics[step % COUNT_OF(topics)]);
        uint32_t share_count = 0;
        for (size_t k = 0; k < SLOTS; k++) {
            bool want = slots[k].in && mqtt_filter_matches(slice_str(slots[k].filter), topic);
            right &= (k < 64 ? m->shards >> k & 1 : times(m, k, (uint32_t)k * 3)) == want;
            share_count += k >= 64 && want;
        }
        right &= m->share_count == share_count;
        free(m);
    }
    CHECK(right);
    route_table_free(t); /* with what is left in it */
}

/* Many filters of both kinds come and go. The indexes grow with them and get small again. */
static void test_many(void)
{
    enum { MANY = 20000 };
    struct route_table *t = table_new(0);
    char filter[64];
    bool right = true;

    for (unsigned i = 0; i < MANY; i++) {
        snprintf(filter, sizeof(filter), i % 2 ? "dev/%u/+/#" : "dev/%u/state", i);
        add(t, filter, i % 64);
    }
    CHECK(route_table_filter_count(t) == MANY);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(filter, sizeof(filter), "dev/%u/state", i);
        right &= shards(t, filter) == 1ull << i % 64;
        snprintf(filter, sizeof(filter), "dev/%u/other/x", i);
        right &= shards(t, filter) == (i % 2 ? 1ull << i % 64 : 0);
    }
    CHECK(right);
    CHECK(t->nodes->mask > MANY && t->exact->mask > MANY / 2);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(filter, sizeof(filter), i % 2 ? "dev/%u/+/#" : "dev/%u/state", i);
        drop(t, filter, i % 64);
    }
    CHECK(t->nodes->mask < 128 && t->exact->mask < 128);
    CHECK(is_empty(t));
    route_table_reclaim(t);
    CHECK(t->grace.oldest == NULL); /* there are no readers */
    route_table_free(t);
}

/* A filter that comes and goes while others stay must not fill the index with tombstones, for each of them would
 * lengthen its own probes. */
static void test_churn(void)
{
    enum { STAY = 10000, TIMES = 3000 };
    struct route_table *t = table_new(0);
    char filter[32];

    for (unsigned i = 0; i < STAY; i++) {
        snprintf(filter, sizeof(filter), i % 2 ? "%u/+" : "%u", i);
        add(t, filter, 0);
    }
    uint32_t exact = t->exact->used;
    for (unsigned i = 0; i < TIMES; i++) {
        add(t, "x", 1);
        add(t, "x/+/y", 1);
        drop(t, "x", 1);
        drop(t, "x/+/y", 1);
    }
    CHECK(t->exact->used <= exact + 1);
    CHECK(t->nodes->used <=
          (t->nodes->mask + 1) / 2); /* a node made again lies elsewhere: its hash has its parent's address */
    CHECK(route_table_filter_count(t) == STAY);
    for (unsigned i = STAY; i-- > 0;) { /* the other way round than they came: tombstones lie in front of the living */
        snprintf(filter, sizeof(filter), i % 2 ? "%u/+" : "%u", i);
        drop(t, filter, 0);
    }
    CHECK(is_empty(t));
    CHECK(t->exact->used == 0 && t->nodes->used == 0);
    route_table_free(t);
}

/* ---- memory ---- */

static void test_no_memory(void)
{
    static const char *const adds[] = {"x", "a/b/c", "a/+/c/#", "a/+/c", "+/+/+/+/+/+", "#"};
    struct route_table *t = NULL;
    unsigned failures = 0;
    char filter[32];

    for (unsigned n = 1; n <= 4; n++) {
        alloc_fail_at = n;
        CHECK(route_table_new(&test_key, 1, &t) == -ENOMEM);
    }
    CHECK(t == NULL);
    alloc_fail_at = 0;
    t = table_new(0);
    for (unsigned i = 0; i < 200; i++) { /* some of these have to make the index larger */
        snprintf(filter, sizeof(filter), "%zu/%s", i / COUNT_OF(adds), adds[i % COUNT_OF(adds)]);
        for (unsigned n = 1;; n++) {
            uint32_t nodes = t->nodes->live, exact = t->exact->live;
            uint64_t generation = route_table_generation(t);
            alloc_fail_at = n;
            int rc = i % 4 == 3 ? route_table_add_share(t, slice_str(filter), &(struct route_share){.id = i})
                                : route_table_add(t, slice_str(filter), i % 64);
            if (rc == 0) {
                break;
            }
            failures++;
            CHECK(rc == -ENOMEM);
            CHECK(t->nodes->live == nodes && t->exact->live == exact);
            CHECK(route_table_filter_count(t) == i);
            CHECK(route_table_generation(t) == generation);
        }
    }
    CHECK(failures > 200);
    alloc_fail_at = 1;
    struct route_match *m = NULL;
    CHECK(route_table_match(t, SLICE("0/x"), &m) == -ENOMEM);
    CHECK(m == NULL);
    for (unsigned i = 0; i < 200; i++) { /* removing can do without: the index stays larger than it should */
        alloc_fail_at = 1;
        snprintf(filter, sizeof(filter), "%zu/%s", i / COUNT_OF(adds), adds[i % COUNT_OF(adds)]);
        CHECK((i % 4 == 3 ? route_table_remove_share(t, slice_str(filter), i)
                          : route_table_remove(t, slice_str(filter), i % 64)) == 0);
    }
    alloc_fail_at = 0;
    CHECK(is_empty(t));
    route_table_free(t);
}

static void test_match_no_memory(void)
{
    enum { SHARES = 9 };
    struct route_table *t = table_new(0);
    struct route_match *m = NULL;
    unsigned n = 1;

    for (unsigned i = 0; i < SHARES; i++) {
        CHECK(route_table_add_share(t, SLICE("+"), &(struct route_share){.id = i}) == 0);
    }
    for (alloc_fail_at = n; route_table_match(t, SLICE("x"), &m) != 0; alloc_fail_at = ++n) {
        CHECK(m == NULL);
    }
    alloc_fail_at = 0;
    CHECK(n == 4); /* the result had to grow at 1, 5 and 9 */
    CHECK(m->share_count == SHARES);
    free(m);
    route_table_free(t);
}

/* ---- a writer and readers at once ---- */

enum { READERS = 3, TURNS = 4000, MATCHES = 6, SHARDS = 64, SLOTS = 96, FILLERS = 400 };

/* One route: slot i is shard i, or share i from SHARDS on. Its state grows: 0 out, 1 being added, 2 in, 3 being
 * removed, 4 out, ... A reader that sees the same state before and after its match knows what the match must say. */
struct slot {
    const char *filter;
    atomic_uint state;
    bool wants[COUNT_OF(topics)];
};

static struct concurrent {
    struct route_table *table;
    struct slot slots[SLOTS];
    atomic_uint wrong, missed, reading; /* found after its end; not found though it was there; readers at work */
    atomic_uint seen_in, seen_out;      /* how many checks of either kind there were */
} shared;

static void check_match(size_t topic, const unsigned *before, const struct route_match *m)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        unsigned state = atomic_load_explicit(&shared.slots[i].state, memory_order_acquire);
        unsigned found = i < SHARDS ? m->shards >> i & 1 : times(m, i, i);
        bool wanted = shared.slots[i].wants[topic];

        if (found > 1 || (found && !wanted)) {
            atomic_fetch_add(&shared.wrong, 1);
        }
        if (state != before[i] || state % 2 == 1 || !wanted) {
            continue;
        }
        atomic_fetch_add_explicit(state % 4 == 2 ? &shared.seen_in : &shared.seen_out, 1, memory_order_relaxed);
        if (found != (state % 4 == 2)) {
            atomic_fetch_add(found ? &shared.wrong : &shared.missed, 1);
        }
    }
}

static void *read_routes(void *arg)
{
    unsigned reader = (unsigned)(uintptr_t)arg, before[SLOTS];
    struct prng prng;

    prng_seed(&prng, reader + 1);
    route_table_awake(shared.table, reader);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        for (unsigned n = 0; n < MATCHES; n++) {
            size_t topic = prng_below(&prng, COUNT_OF(topics));
            struct route_match *m = NULL;
            for (unsigned i = 0; i < SLOTS; i++) {
                before[i] = atomic_load_explicit(&shared.slots[i].state, memory_order_acquire);
            }
            if (route_table_match(shared.table, slice_str(topics[topic]), &m) != 0) {
                atomic_fetch_add(&shared.missed, 1);
                continue;
            }
            check_match(topic, before, m);
            free(m);
        }
        if (prng_below(&prng, 8) == 0) {
            route_table_asleep(shared.table, reader);
            sched_yield();
            route_table_awake(shared.table, reader);
        } else {
            route_table_quiescent(shared.table, reader);
        }
    }
    route_table_asleep(shared.table, reader);
    atomic_fetch_sub(&shared.reading, 1);
    return NULL;
}

/* Whether the table took it: add or remove the route of a slot, telling the readers before and after. */
static bool toggle(unsigned i)
{
    struct slot *slot = &shared.slots[i];
    struct slice filter = slice_str(slot->filter);
    struct route_share share = {.id = i, .home = i};
    bool in = atomic_load_explicit(&slot->state, memory_order_relaxed) % 4 == 2;
    int rc;

    atomic_fetch_add_explicit(&slot->state, 1, memory_order_seq_cst);
    if (i < SHARDS) {
        rc = (in ? route_table_remove : route_table_add)(shared.table, filter, i);
    } else {
        rc = in ? route_table_remove_share(shared.table, filter, i)
                : route_table_add_share(shared.table, filter, &share);
    }
    atomic_fetch_add_explicit(&slot->state, 1, memory_order_seq_cst);
    return rc == 0;
}

/* Filters that no topic of the test matches come and go in waves, so that the indexes grow, fill with tombstones and
 * are replaced. */
static bool fill(unsigned step)
{
    unsigned n = step % FILLERS;
    char filter[32];

    snprintf(filter, sizeof(filter), n % 2 ? "fill/%u/+" : "fill/%u", n);
    return (step / FILLERS % 2 ? route_table_remove : route_table_add)(shared.table, slice_str(filter), n % SHARDS) ==
           0;
}

static unsigned write_routes(void)
{
    unsigned failed = 0, step = 0;
    struct prng prng;

    prng_seed(&prng, 77);
    for (; atomic_load(&shared.reading) > 0; step++) {
        failed += !toggle(prng_below(&prng, SLOTS));
        failed += !fill(step);
        if (step % 4 == 0) {
            route_table_reclaim(shared.table);
        }
    }
    for (; step / FILLERS % 2 || step % FILLERS; step++) { /* end the wave, with all fillers gone */
        failed += !fill(step);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        failed += atomic_load(&shared.slots[i].state) % 4 == 2 && !toggle(i);
    }
    return failed;
}

static void test_threads(void)
{
    pthread_t threads[READERS];

    shared.table = table_new(READERS);
    for (unsigned i = 0; i < SLOTS; i++) {
        shared.slots[i].filter = filters[i % COUNT_OF(filters)];
        for (size_t k = 0; k < COUNT_OF(topics); k++) {
            shared.slots[i].wants[k] = mqtt_filter_matches(slice_str(shared.slots[i].filter), slice_str(topics[k]));
        }
    }
    atomic_store(&shared.reading, READERS);
    for (uintptr_t n = 0; n < READERS; n++) {
        CU_ASSERT_FATAL(pthread_create(&threads[n], NULL, read_routes, (void *)n) == 0);
    }
    CHECK(write_routes() == 0);
    for (unsigned n = 0; n < READERS; n++) {
        CHECK(pthread_join(threads[n], NULL) == 0);
    }
    CHECK(atomic_load(&shared.missed) == 0);
    CHECK(atomic_load(&shared.wrong) == 0);
    CHECK(atomic_load(&shared.seen_in) > TURNS); /* the test looked */
    CHECK(atomic_load(&shared.seen_out) > TURNS);
    CHECK(is_empty(shared.table));
    route_table_reclaim(shared.table);
    CHECK(shared.table->grace.oldest == NULL); /* all readers sleep: nothing is held back */
    route_table_free(shared.table);
}

UNIT_MAIN("broker/topic/route_table", {"pairs", test_pairs}, {"changes", test_changes}, {"prefixes", test_prefixes},
          {"share lists", test_share_lists}, {"against model", test_against_model}, {"many", test_many},
          {"churn", test_churn}, {"no memory", test_no_memory}, {"match, no memory", test_match_no_memory},
          {"threads", test_threads})
