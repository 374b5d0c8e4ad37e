/* retained_replica_test.c -- retained messages as one of several copies: the last writer wins, what was deleted is
 * remembered for a while, and the sums tell whether two copies are the same. */
#include <errno.h>
#include <stdio.h>

#include "broker/topic/retained.h"
#include "proto/base/prng.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#define MS(n) ((uint64_t)(n) << MESSAGE_STAMP_SHIFT)

static struct retained_quota quota;
static struct retained_replica replica;

static struct retained *replica_new(uint64_t graves_max)
{
    struct retained *r = NULL;

    quota = (struct retained_quota){.count_max = 1000, .bytes_max = UINT64_MAX};
    memset(&replica, 0, sizeof(replica));
    replica.key = test_key;
    replica.grave_ms = 1000;
    replica.graves_max = graves_max;
    quota.replica = &replica;
    CHECK(retained_new(&test_key, &quota, &r) == 0);
    return r;
}

static bool holds(struct retained *r, const char *topic, const char *payload)
{
    const struct message *m = retained_get(r, slice_str(topic), test_hash(slice_str(topic)), 0);
    return payload ? m && slice_eq(message_payload(m), slice_str(payload)) : !m;
}

/* An empty payload: clear. */
static int put(struct retained *r, const char *topic, const char *payload, uint64_t at, uint64_t origin)
{
    struct message_source source = {.topic = slice_str(topic),
                                    .payload = slice_str(payload),
                                    .topic_hash = test_hash(slice_str(topic)),
                                    .stamp = {at, origin},
                                    .expires_at_ms = MESSAGE_NEVER};
    struct message *m = message_new(&source);
    assert(m);
    int rc = payload[0] ? retained_set(r, m) : retained_clear(r, source.topic, source.topic_hash, source.stamp);
    message_unref(m);
    return rc;
}

/* Writes to one topic, in the order of coming. "" clears. */
static const struct {
    const char *name;
    struct {
        const char *payload;
        uint64_t at, origin;
        int want;
    } writes[3];
    const char *holds; /* NULL: nothing */
} orders[] = {
    {"in order", {{"a", MS(1), 1, 0}, {"b", MS(2), 1, 0}}, "b"},
    {"the later one first", {{"b", MS(2), 1, 0}, {"a", MS(1), 1, -ESTALE}}, "b"},
    {"at one time, the greater node last", {{"a", MS(1), 1, 0}, {"b", MS(1), 2, 0}}, "b"},
    {"at one time, the greater node first", {{"b", MS(1), 2, 0}, {"a", MS(1), 1, -ESTALE}}, "b"},
    {"the same again", {{"a", MS(1), 1, 0}, {"a", MS(1), 1, -ESTALE}}, "a"},
    {"cleared", {{"a", MS(1), 1, 0}, {"", MS(2), 1, 1}}, NULL},
    {"cleared by an earlier one", {{"a", MS(2), 1, 0}, {"", MS(1), 9, -ESTALE}}, "a"},
    {"set by an earlier one than cleared", {{"", MS(2), 1, 0}, {"a", MS(1), 9, -ESTALE}}, NULL},
    {"cleared twice, set between", {{"", MS(1), 1, 0}, {"", MS(3), 1, 0}, {"a", MS(2), 1, -ESTALE}}, NULL},
    {"set after it was cleared", {{"", MS(1), 1, 0}, {"a", MS(2), 1, 0}}, "a"},
    {"without stamps: the last one", {{"a", 0, 0, 0}, {"b", 0, 0, 0}}, "b"},
    {"of two nodes without times: the greater", {{"a", 0, 2, 0}, {"b", 0, 1, -ESTALE}}, "a"},
    {"a stamp is later than none", {{"a", 0, 9, 0}, {"b", MS(1), 1, 0}, {"c", 0, 9, -ESTALE}}, "b"},
};

static void test_last_writer(void)
{
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        struct retained *r = replica_new(10);
        for (unsigned w = 0; w < 3 && orders[i].writes[w].payload; w++) {
            int rc = put(r, "t", orders[i].writes[w].payload, orders[i].writes[w].at, orders[i].writes[w].origin);
            CHECK_CASE(orders[i].name, rc == orders[i].writes[w].want);
        }
        CHECK_CASE(orders[i].name, holds(r, "t", orders[i].holds));
        CHECK_CASE(orders[i].name, retained_count(r) == (orders[i].holds ? 1 : 0));
        CHECK_CASE(orders[i].name, atomic_load(&replica.graves) == (orders[i].holds ? 0 : 1));
        retained_free(r);
    }
}

static uint64_t sum_of_all(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < RETAINED_BUCKETS; i++) {
        sum = hash_mix(sum ^ atomic_load(&replica.sums[i]));
    }
    return sum;
}

/* What is there decides the sums, not the way to it. */
static void test_sums(void)
{
    struct retained *r = replica_new(10);
    uint64_t nothing = sum_of_all();

    put(r, "a", "1", MS(1), 1);
    put(r, "a", "2", MS(5), 1);
    put(r, "b", "1", MS(2), 1);
    put(r, "b", "", MS(6), 1);
    put(r, "$SYS/x", "1", MS(7), 1);
    uint64_t sum = sum_of_all();
    CHECK(sum != nothing);
    retained_free(r);
    r = replica_new(10);
    put(r, "b", "", MS(6), 1);
    put(r, "b", "1", MS(2), 1);
    CHECK(sum_of_all() != sum);
    put(r, "a", "2", MS(5), 1);
    CHECK(sum_of_all() == sum);
    put(r, "a", "2", MS(5), 2);
    CHECK(sum_of_all() != sum);
    retained_free(r);
}

static unsigned gone_count;

static void count_gone(void *arg, struct message *m)
{
    (void)arg;
    (void)m;
    gone_count++;
}

/* A grave stands for its time, then it is forgotten; so are the oldest when there are too many. */
static void test_graves_end(void)
{
    struct retained *r = replica_new(3);
    char topic[16];

    gone_count = 0;
    retained_watch(r, count_gone, NULL);
    put(r, "t", "", MS(500), 1);
    retained_sweep(r, 1499, 10);
    CHECK(atomic_load(&replica.graves) == 1 && retained_look(r, SLICE("t"), test_hash(SLICE("t"))));
    CHECK(put(r, "t", "x", MS(400), 1) == -ESTALE);
    retained_sweep(r, 1500, 10);
    CHECK(atomic_load(&replica.graves) == 0 && !retained_look(r, SLICE("t"), test_hash(SLICE("t"))) && gone_count == 1);
    CHECK(put(r, "t", "x", MS(400), 1) == 0);
    for (unsigned i = 0; i < 5; i++) {
        snprintf(topic, sizeof(topic), "g%u", i);
        put(r, topic, "", MS(600), 1);
    }
    CHECK(atomic_load(&replica.graves) == 3 && gone_count == 3);
    CHECK(put(r, "g1", "x", MS(1), 1) == 0 && put(r, "g2", "x", MS(1), 1) == -ESTALE);
    retained_free(r);
}

/* What expires leaves a grave of its own stamp: no earlier one comes back, and the sums are the same on a node that has
 * not noticed yet. */
static void test_expired_leaves_a_grave(void)
{
    struct retained *r = replica_new(10);
    struct message_source source = {.topic = SLICE("t"),
                                    .payload = SLICE("x"),
                                    .topic_hash = test_hash(SLICE("t")),
                                    .stamp = {MS(100), 1},
                                    .expires_at_ms = 200};
    struct message *m = message_new(&source);

    gone_count = 0;
    retained_watch(r, count_gone, NULL);
    CHECK(retained_set(r, m) == 0);
    uint64_t sum = sum_of_all();
    CHECK(retained_sweep(r, 200, 10) == 1 && gone_count == 1);
    CHECK(retained_count(r) == 0 && atomic_load(&replica.graves) == 1 && sum_of_all() == sum);
    CHECK(retained_set(r, m) == -ESTALE && put(r, "t", "old", MS(99), 1) == -ESTALE);
    CHECK(put(r, "t", "new", MS(101), 1) == 0 && atomic_load(&replica.graves) == 0);
    message_unref(m);
    retained_free(r);
}

/* A walk over all finds messages, `$` topics and graves, each once, whatever its steps; and survives the end of graves
 * that it stands on. */
static void test_walk_over_all(void)
{
    for (unsigned steps = 1; steps < 5; steps++) {
        struct retained *r = replica_new(100);
        struct retained_cursor *c = NULL;
        struct message *m;
        unsigned found = 0, graves = 0, dollars = 0;
        bool done = false;
        char topic[16];

        for (unsigned i = 0; i < 10; i++) {
            snprintf(topic, sizeof(topic), "a/%u", i);
            put(r, topic, i % 2 ? "" : "x", MS(5), 1);
        }
        put(r, "$other/x", "x", MS(5), 1);
        put(r, "$SYS/x", "x", MS(5), 1);
        CHECK(retained_cursor_open_all(r, &c) == 0);
        while (!done) {
            unsigned n = retained_cursor_next(c, 0, steps, &m, 1, &done);
            if (n == 0) {
                continue;
            }
            found++;
            graves += m->payload_len == 0;
            dollars += m->bytes[0] == '$';
            if (m->payload_len == 0 && graves == 2) { /* it stands on the third */
                CHECK(put(r, "a/5", "x", MS(6), 1) == 0);
            }
            message_unref(m);
        }
        CHECK(found == 10 && graves == 4 && dollars == 1);
        retained_cursor_close(c);
        retained_free(r);
    }
}

/* ---- whatever the order ---- */

#define WRITES 60u
#define TOPICS 8u

struct written {
    unsigned topic, payload; /* payload 0: clear */
    struct message_stamp stamp;
};

/* All writes in an order of chance, some twice. */
static void write_all(struct prng *prng, struct retained *r, const struct written *writes)
{
    unsigned order[WRITES], n = WRITES;
    char topic[16], payload[16];

    for (unsigned i = 0; i < WRITES; i++) {
        order[i] = i;
    }
    while (n > 0) {
        unsigned k = (unsigned)prng_below(prng, n);
        const struct written *w = &writes[order[k]];
        snprintf(topic, sizeof(topic), "t/%u", w->topic);
        snprintf(payload, sizeof(payload), "%.0u", w->payload);
        put(r, topic, payload, w->stamp.at, w->stamp.origin);
        if (prng_below(prng, 4) > 0) {
            order[k] = order[--n];
        }
    }
}

/* What must be there: of each topic the write with the latest stamp. */
static const struct written *last_of(const struct written *writes, unsigned topic)
{
    const struct written *last = NULL;

    for (unsigned i = 0; i < WRITES; i++) {
        if (writes[i].topic == topic && (!last || message_stamp_cmp(writes[i].stamp, last->stamp) > 0)) {
            last = &writes[i];
        }
    }
    return last;
}

/* Copies that have seen the same writes are the same, in whatever order and however often they came. */
static void test_any_order(void)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct written writes[WRITES];
        struct prng prng;
        uint64_t sum = 0;

        prng_seed(&prng, seed);
        for (unsigned i = 0; i < WRITES; i++) {
            writes[i] = (struct written){.topic = (unsigned)prng_below(&prng, TOPICS),
                                         .payload = (unsigned)prng_below(&prng, 3) ? i + 1 : 0,
                                         .stamp = {MS(1 + prng_below(&prng, 20)), i}};
        }
        for (unsigned copy = 0; copy < 3; copy++) {
            struct retained *r = replica_new(1000);
            write_all(&prng, r, writes);
            for (unsigned t = 0; t < TOPICS; t++) {
                const struct written *last = last_of(writes, t);
                char topic[16], payload[16];
                snprintf(topic, sizeof(topic), "t/%u", t);
                snprintf(payload, sizeof(payload), "%.0u", last ? last->payload : 0);
                CHECK(holds(r, topic, payload[0] ? payload : NULL));
            }
            CHECK(copy == 0 || sum == sum_of_all());
            sum = sum_of_all();
            retained_free(r);
        }
    }
}

UNIT_MAIN("broker/topic/retained_replica", {"the last writer wins", test_last_writer}, {"sums", test_sums},
          {"graves end", test_graves_end}, {"what expires leaves a grave", test_expired_leaves_a_grave},
          {"a walk over all", test_walk_over_all}, {"any order", test_any_order})
