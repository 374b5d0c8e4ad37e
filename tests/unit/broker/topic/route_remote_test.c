/* route_remote_test.c -- sets of filters of other nodes: against a model, when slots die, when memory is out, and what
 * this node tells of its own. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/topic/route_table.h"
#include "proto/base/prng.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#define SLOTS 7u /* used by the model; those of the table are far apart */

static const char *const filters[] = {"a", "a/b", "b/c/d", "+", "a/+", "a/#", "#", "+/b", "b/+/d", "/x", "b/c"};
static const char *const topics[] = {"a", "a/b", "b/c/d", "x", "a/b/c", "b/x/d", "/x", "c/b", "b/c"};
static const uint64_t shares[] = {0, 5, 77};

struct model {
    bool has[SLOTS][COUNT_OF(filters)][COUNT_OF(shares)];
    bool own[COUNT_OF(filters)][COUNT_OF(shares)];
    bool live[SLOTS];
};

static unsigned slot_of(unsigned n)
{
    return n * 41 + 3;
}

static struct route_filter filter_of(unsigned f, unsigned share)
{
    struct slice text = slice_str(filters[f]);
    bool exact = !strpbrk(filters[f], "+#");

    return (struct route_filter){
        .hash = exact ? test_hash(text) : 0, .text = exact ? slice_of(NULL, 0) : text, .share = shares[share]};
}

/* Whether topic t matches filter f: by levels, the plain way. */
static bool matches(const char *f, const char *t)
{
    for (;;) {
        if (strcmp(f, "#") == 0) {
            return true;
        }
        size_t fl = strcspn(f, "/"), tl = strcspn(t, "/");
        if (!(fl == 1 && f[0] == '+') && (fl != tl || memcmp(f, t, fl) != 0)) {
            return false;
        }
        if (f[fl] == '\0' || t[tl] == '\0') {
            return (f[fl] == '\0' && t[tl] == '\0') || (t[tl] == '\0' && strcmp(f + fl, "/#") == 0);
        }
        f += fl + 1;
        t += tl + 1;
    }
}

static bool bit(const uint64_t *bits, unsigned n)
{
    return bits[n / 64] >> n % 64 & 1;
}

static const struct route_share *share_in(const struct route_match *m, uint64_t id)
{
    for (uint32_t i = 0; i < m->share_count; i++) {
        if (m->shares[i].id == id) {
            return &m->shares[i];
        }
    }
    return NULL;
}

static void check_topic(const struct route_table *t, const struct model *model, const char *topic)
{
    struct route_match *m = NULL;

    CHECK(route_table_match(t, slice_str(topic), &m) == 0);
    for (unsigned s = 0; s < COUNT_OF(shares); s++) {
        const struct route_share *found = s > 0 ? share_in(m, shares[s]) : NULL;
        bool own = false, any = false;
        for (unsigned f = 0; f < COUNT_OF(filters); f++) {
            own |= matches(filters[f], topic) && model->own[f][s];
        }
        for (unsigned n = 0; n < SLOTS; n++) {
            bool want = false;
            for (unsigned f = 0; f < COUNT_OF(filters); f++) {
                want |= matches(filters[f], topic) && model->has[n][f][s] && model->live[n];
            }
            any |= want;
            CHECK(bit(s == 0 ? m->slots : found ? found->slots : (const uint64_t[4]){0}, slot_of(n)) == want);
        }
        CHECK(s > 0 ? (found != NULL) == (own || any) : (m->shards != 0) == own);
        CHECK(!found || (found->home == 3) == own);
    }
    free(m);
}

static void check_all(struct route_table *t, const struct model *model)
{
    struct route_digest want[SLOTS + 1] = {0}, got;

    for (unsigned i = 0; i < COUNT_OF(topics); i++) {
        check_topic(t, model, topics[i]);
    }
    for (unsigned f = 0; f < COUNT_OF(filters); f++) {
        for (unsigned s = 0; s < COUNT_OF(shares); s++) {
            struct route_filter x = filter_of(f, s);
            x.hash = test_hash(slice_str(filters[f]));
            for (unsigned n = 0; n < SLOTS; n++) {
                if (model->has[n][f][s]) {
                    route_digest_count(&want[n], &x, true);
                }
            }
            if (model->own[f][s]) {
                route_digest_count(&want[SLOTS], &x, true);
            }
        }
    }
    for (unsigned n = 0; n <= SLOTS; n++) {
        got = n < SLOTS ? route_table_slot_digest(t, slot_of(n)) : route_table_own_digest(t);
        CHECK(got.count == want[n].count && got.sum == want[n].sum);
    }
}

/* ---- what is told of the own set ---- */

struct heard {
    bool has[COUNT_OF(filters)][COUNT_OF(shares)];
    unsigned times, wrong;
};

static void hear(struct heard *h, const struct route_filter *x, bool added, bool once)
{
    h->times++;
    for (unsigned f = 0; f < COUNT_OF(filters); f++) {
        struct route_filter y = filter_of(f, 0);
        if (x->hash != test_hash(slice_str(filters[f])) || !slice_eq(x->text, y.text)) {
            continue;
        }
        for (unsigned s = 0; s < COUNT_OF(shares); s++) {
            if (x->share == shares[s]) {
                h->wrong += once && h->has[f][s] == added;
                h->has[f][s] = added;
                return;
            }
        }
    }
    h->wrong++;
}

static void watched(void *arg, const struct route_filter *filter, bool added)
{
    hear(arg, filter, added, true);
}

static void visited(void *arg, const struct route_filter *filter)
{
    hear(arg, filter, true, false);
}

static void own_step(struct route_table *t, struct model *m, unsigned f, unsigned s, bool add)
{
    struct slice text = slice_str(filters[f]);
    struct route_share share = {.id = shares[s], .home = 3};

    m->own[f][s] = add;
    if (s == 0) {
        CHECK((add ? route_table_add(t, text, 5) : route_table_remove(t, text, 5)) == 0);
    } else {
        CHECK((add ? route_table_add_share(t, text, &share) : route_table_remove_share(t, text, shares[s])) == 0);
    }
}

static void sweep(struct route_table *t, struct model *m, unsigned n)
{
    route_table_slot_live(t, slot_of(n), false);
    m->live[n] = false;
    memset(m->has[n], 0, sizeof(m->has[n]));
    for (unsigned calls = 0; !route_table_slot_sweep(t, slot_of(n), 5); calls++) {
        CU_ASSERT_FATAL(calls < 1000);
    }
}

static void test_model(void)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct route_table *t;
        struct model m = {0};
        struct heard heard = {0};
        struct prng p;

        prng_seed(&p, seed);
        CHECK(route_table_new(&test_key, 0, &t) == 0);
        route_table_watch(t, watched, &heard);
        for (unsigned step = 0; step < 600; step++) {
            unsigned n = prng_below(&p, SLOTS), f = prng_below(&p, COUNT_OF(filters));
            unsigned s = prng_below(&p, COUNT_OF(shares)), what = prng_below(&p, 12);
            struct route_filter x = filter_of(f, s);
            if (what < 5) {
                CHECK(route_table_add_remote(t, &x, slot_of(n)) == 0);
                m.has[n][f][s] = true;
            } else if (what < 8) {
                route_table_remove_remote(t, &x, slot_of(n));
                m.has[n][f][s] = false;
            } else if (what < 10) {
                own_step(t, &m, f, s, prng_below(&p, 2));
            } else if (what == 10) {
                m.live[n] = !m.live[n];
                route_table_slot_live(t, slot_of(n), m.live[n]);
            } else if (prng_below(&p, 8) == 0) {
                sweep(t, &m, n);
            }
            if (step % 8 == 0) {
                check_all(t, &m);
            }
            route_table_reclaim(t);
        }
        CHECK(heard.wrong == 0 && memcmp(heard.has, m.own, sizeof(m.own)) == 0 && heard.times > 20);
        struct heard walked = {0};
        struct route_walk walk = {0};
        for (unsigned calls = 0; !route_table_walk(t, &walk, 2, visited, &walked); calls++) {
            CU_ASSERT_FATAL(calls < 1000);
        }
        CHECK(walked.wrong == 0 && memcmp(walked.has, m.own, sizeof(m.own)) == 0);
        for (unsigned n = 0; n < SLOTS; n++) {
            sweep(t, &m, n);
        }
        check_all(t, &m);
        route_table_free(t);
    }
}

/* What stays is visited, though the table grows and shrinks meanwhile. */
static void visit_number(void *arg, const struct route_filter *filter)
{
    bool *seen = arg;

    for (unsigned i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof(text), i % 2 ? "s/%u" : "s/%u/+", i);
        if (filter->hash == test_hash(slice_str(text))) {
            seen[i] = true;
        }
    }
}

static void test_walk_under_change(void)
{
    static bool seen[1000];
    struct route_walk walk = {0};
    struct route_table *t;
    char text[32];
    unsigned calls = 0;

    CHECK(route_table_new(&test_key, 0, &t) == 0);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), i % 2 ? "s/%u" : "s/%u/+", i);
        CHECK(route_table_add(t, slice_str(text), 0) == 0);
    }
    while (!route_table_walk(t, &walk, 100, visit_number, seen)) {
        for (unsigned k = 0; k < 300 && calls < 40; k++) { /* grows for a while: the indexes are built anew */
            snprintf(text, sizeof(text), k % 2 ? "t/%u/%u" : "t/%u/%u/+", calls, k);
            CHECK(route_table_add(t, slice_str(text), 1) == 0);
        }
        calls++;
        CU_ASSERT_FATAL(calls < 10000);
    }
    unsigned missed = 0;
    for (unsigned i = 0; i < 1000; i++) {
        missed += !seen[i];
    }
    CHECK(missed == 0 && calls > 40);
    route_table_free(t);
}

/* A million filters of other nodes, each wanted by one. */
static void test_memory(void)
{
    enum { COUNT = 1000000 };
    struct route_table *t;
    struct route_match *m;
    char text[32];

    CHECK(route_table_new(&test_key, 0, &t) == 0);
    route_table_slot_live(t, 200, true);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(text, sizeof(text), "device/%u/command", i);
        struct route_filter f = {.hash = test_hash(slice_str(text))};
        if (route_table_add_remote(t, &f, 200) != 0) {
            CU_FAIL("add");
        }
        route_table_reclaim(t);
    }
    size_t bytes = mallinfo2().uordblks + mallinfo2().hblkhd - before;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    CHECK(bytes < SIZE_MAX); /* their allocators do not say */
#else
    CHECK(bytes / COUNT <= 40 && bytes / COUNT >= 16);
#endif
    CHECK(route_table_slot_digest(t, 200).count == COUNT);
    CHECK(route_table_match(t, SLICE("device/999999/command"), &m) == 0 && bit(m->slots, 200));
    free(m);
    CHECK(route_table_match(t, SLICE("device/1000000/command"), &m) == 0 && !bit(m->slots, 200));
    free(m);
    route_table_free(t);
}

UNIT_MAIN("broker/topic/route_remote", {"model", test_model}, {"walk under change", test_walk_under_change},
          {"a million filters", test_memory})
