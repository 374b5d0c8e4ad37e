/* retained_test.c -- retained messages by topic and by filter, their quota, their end, and cursors amid changes. */
#include "broker/topic/retained.h"
#include "proto/base/prng.h"
#include "proto/mqtt/topic.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static struct retained_quota quota;

static struct retained *store_new(uint64_t count_max, uint64_t bytes_max)
{
    struct retained *r = NULL;

    atomic_store(&quota.count, 0);
    atomic_store(&quota.bytes, 0);
    quota.count_max = count_max;
    quota.bytes_max = bytes_max;
    CHECK(retained_new(&test_key, &quota, &r) == 0);
    return r;
}

static int set(struct retained *r, const char *topic, const char *payload, uint64_t expires_at_ms)
{
    struct message *m = make_message(slice_str(topic), slice_str(payload), expires_at_ms);
    int rc = retained_set(r, m);
    message_unref(m);
    return rc;
}

static bool clear(struct retained *r, const char *topic)
{
    return retained_clear(r, slice_str(topic), test_hash(slice_str(topic)), (struct message_stamp){0}) == 1;
}

static struct message *get(struct retained *r, const char *topic, uint64_t now_ms)
{
    return retained_get(r, slice_str(topic), test_hash(slice_str(topic)), now_ms);
}

static bool holds(struct retained *r, const char *topic, const char *payload)
{
    const struct message *m = get(r, topic, 0);
    return m && slice_eq(message_topic(m), slice_str(topic)) && slice_eq(message_payload(m), slice_str(payload));
}

static struct retained_cursor *cursor_open(struct retained *r, const char *filter)
{
    struct retained_cursor *c = NULL;
    CHECK(retained_cursor_open(r, slice_str(filter), UINT64_MAX, &c) == 0);
    return c;
}

/* One message from a cursor, whatever number of steps it takes; the caller's reference. NULL at the end. */
static struct message *next(struct retained_cursor *c, uint64_t now_ms)
{
    struct message *m = NULL;
    bool done = false;
    while (!done && retained_cursor_next(c, now_ms, 1, &m, 1, &done) == 0) {
    }
    return m;
}

/* How many messages a filter finds, in pages of `max`. */
static unsigned count(struct retained *r, const char *filter, unsigned steps, unsigned max)
{
    struct retained_cursor *c = cursor_open(r, filter);
    struct message *page[16];
    unsigned found = 0;
    bool done = false;

    while (!done) {
        unsigned n = retained_cursor_next(c, 0, steps, page, max, &done);
        CHECK(n <= max);
        for (unsigned i = 0; i < n; i++) {
            CHECK(mqtt_filter_matches(slice_str(filter), message_topic(page[i])));
            message_unref(page[i]);
        }
        found += n;
    }
    retained_cursor_close(c);
    return found;
}

static void test_set_get_clear(void)
{
    static const char *const topics[] = {"a", "a/b", "a/b/c", "/", "//", "/a", "a/", "$SYS/uptime", "b/a", "A"};
    struct retained *r = store_new(100, UINT64_MAX);

    for (size_t i = 0; i < COUNT_OF(topics); i++) {
        CHECK_CASE(topics[i], get(r, topics[i], 0) == NULL);
        CHECK_CASE(topics[i], !clear(r, topics[i]));
        CHECK_CASE(topics[i], set(r, topics[i], topics[i], MESSAGE_NEVER) == 0);
        CHECK_CASE(topics[i], holds(r, topics[i], topics[i]));
        CHECK_CASE(topics[i], set(r, topics[i], "second", MESSAGE_NEVER) == 0);
        CHECK_CASE(topics[i], holds(r, topics[i], "second")); /* [MQTT-3.3.1-5] */
        CHECK_CASE(topics[i], retained_count(r) == i + 1);
    }
    uint64_t quota_count = atomic_load(&quota.count), quota_bytes = atomic_load(&quota.bytes);
    CHECK(quota_count == COUNT_OF(topics) - 1); /* the broker's own figures take no room from the clients */
    CHECK(quota_bytes == retained_bytes(r));
    for (size_t i = 0; i < COUNT_OF(topics); i++) {
        CHECK_CASE(topics[i], clear(r, topics[i])); /* [MQTT-3.3.1-6] */
        CHECK_CASE(topics[i], get(r, topics[i], 0) == NULL);
        for (size_t k = i + 1; k < COUNT_OF(topics); k++) {
            CHECK_CASE(topics[k], holds(r, topics[k], "second"));
        }
    }
    CHECK(retained_count(r) == 0 && retained_bytes(r) == 0);
    quota_count = atomic_load(&quota.count), quota_bytes = atomic_load(&quota.bytes);
    CHECK(quota_count == 0 && quota_bytes == 0);
    retained_free(r);
    retained_free(NULL);
}

static void test_quota(void)
{
    const uint64_t one = sizeof(struct message) + 1 + 10; /* a topic of 1, a payload of 10 */
    struct retained *r = store_new(3, 4 * one);

    CHECK(set(r, "a", "0123456789", MESSAGE_NEVER) == 0);
    CHECK(set(r, "b", "0123456789", MESSAGE_NEVER) == 0);
    CHECK(set(r, "c", "0123456789", MESSAGE_NEVER) == 0);
    CHECK(set(r, "d", "0123456789", MESSAGE_NEVER) == -EDQUOT); /* count: three are enough */
    CHECK(get(r, "d", 0) == NULL);
    CHECK(set(r, "$SYS/d", "0123456789", MESSAGE_NEVER) == 0); /* the broker's own are not counted */
    CHECK(set(r, "$SYS", "0123456789", MESSAGE_NEVER) == -EDQUOT);
    CHECK(clear(r, "$SYS/d"));
    CHECK(set(r, "c", "9876543210", MESSAGE_NEVER) == 0); /* in place of another: the count stays */
    CHECK(holds(r, "c", "9876543210"));
    CHECK(retained_bytes(r) == 3 * one);

    char large[200] = {0}; /* bytes: up to the limit, not beyond */
    memset(large, 'x', 10 + (size_t)one);
    CHECK(set(r, "a", large, MESSAGE_NEVER) == 0);
    CHECK(retained_bytes(r) == 4 * one);
    large[10 + one] = 'x';
    CHECK(set(r, "a", large, MESSAGE_NEVER) == -EDQUOT);
    CHECK(message_payload(get(r, "a", 0)).len == 10 + one); /* the earlier one stays */
    CHECK(set(r, "b", "01234567890", MESSAGE_NEVER) == -EDQUOT);
    CHECK(holds(r, "b", "0123456789"));
    CHECK(set(r, "a", "0", MESSAGE_NEVER) == 0); /* smaller is always allowed */
    CHECK(set(r, "b", "01234567890", MESSAGE_NEVER) == 0);

    struct retained *other = NULL; /* another shard of the same node */
    CHECK(retained_new(&test_key, &quota, &other) == 0);
    CHECK(set(other, "e", "x", MESSAGE_NEVER) == -EDQUOT);
    CHECK(clear(r, "a"));
    CHECK(set(other, "e", "x", MESSAGE_NEVER) == 0);
    CHECK(set(r, "a", "x", MESSAGE_NEVER) == -EDQUOT);
    uint64_t bytes = atomic_load(&quota.bytes);
    CHECK(retained_bytes(r) + retained_bytes(other) == bytes);
    retained_free(other);
    retained_free(r);
}

static void test_expiry(void)
{
    struct retained *r = store_new(100, UINT64_MAX);

    set(r, "a", "x", 1000);
    set(r, "b", "x", 1001);
    set(r, "c", "x", MESSAGE_NEVER);
    CHECK(get(r, "a", 999) != NULL);
    CHECK(get(r, "a", 1000) == NULL);
    CHECK(retained_count(r) == 2); /* it was removed as well */
    CHECK(get(r, "a", 0) == NULL);
    CHECK(get(r, "b", 1000) != NULL);
    struct retained_cursor *c = cursor_open(r, "#");
    struct message *m = next(c, 1001); /* b is passed over */
    CHECK(m && slice_eq(message_topic(m), SLICE("c")));
    message_unref(m);
    CHECK(next(c, 1001) == NULL);
    retained_cursor_close(c);
    CHECK(retained_count(r) == 2); /* a reader removes nothing */
    CHECK(get(r, "c", UINT64_MAX - 1) != NULL);
    retained_free(r);
}

static void test_sweep(void)
{
    struct retained *r = store_new(10000, UINT64_MAX);
    char topic[32];

    for (int i = 0; i < 1000; i++) {
        snprintf(topic, sizeof(topic), "s/%d", i);
        set(r, topic, "x", i % 2 ? MESSAGE_NEVER : (uint64_t)i);
    }
    unsigned removed = retained_sweep(r, 0, 1), calls = 0;
    while (retained_count(r) > 750 && ++calls < 10000) {
        unsigned n = retained_sweep(r, 500, 7);
        CHECK(n <= 7);
        removed += n;
    }
    for (int i = 0; i < 5000; i++) { /* no more than what is due: 0, 2, .. 500 */
        removed += retained_sweep(r, 500, 7);
    }
    CHECK(retained_count(r) == 1000 - 251);
    CHECK(removed == 251);
    CHECK(get(r, "s/502", 500) != NULL);
    CHECK(get(r, "s/1", 500) != NULL);
    for (int i = 0; i < 5000; i++) {
        retained_sweep(r, UINT64_MAX - 1, 7);
    }
    CHECK(retained_count(r) == 500);
    retained_free(r);
}

static const char *const found_topics[] = {"a",  "a/b", "a/b/c", "a/c",  "b",        "b/b",      "/",
                                           "/a", "a/",  "a//c",  "$SYS", "$SYS/one", "$SYS/a/b", "c/b/c"};

static void test_filters(void)
{
    static const char *const filters[] = {
        "#",       "+",       "+/+",   "a/#",   "a/+",    "a",      "a/b",        "+/b",      "+/b/#", "+/b/+",
        "/#",      "+/",      "/+",    "a/+/c", "$SYS/#", "$SYS/+", "$SYS",       "x",        "x/#",   "x/+",
        "a/b/c/d", "a/b/c/#", "+/+/+", "+/#",   "a//c",   "a//#",   "$SYS/a/b/#", "$SYS/+/b",
    };
    struct retained *r = store_new(100, UINT64_MAX);

    CHECK(count(r, "#", 1, 1) == 0);
    for (size_t i = 0; i < COUNT_OF(found_topics); i++) {
        CHECK(set(r, found_topics[i], "x", MESSAGE_NEVER) == 0);
    }
    for (size_t i = 0; i < COUNT_OF(filters); i++) {
        unsigned want = 0;
        for (size_t k = 0; k < COUNT_OF(found_topics); k++) {
            want += mqtt_filter_matches(slice_str(filters[i]), slice_str(found_topics[k]));
        }
        CHECK_CASE(filters[i], count(r, filters[i], 1, 1) == want);
        CHECK_CASE(filters[i], count(r, filters[i], 3, 2) == want);
        CHECK_CASE(filters[i], count(r, filters[i], 1000, 16) == want);
    }
    CHECK(count(r, "#", 1000, 16) == 11); /* [MQTT-4.7.2-1]: none of $SYS */
    retained_free(r);
}

/* A step visits one node: what is wide is read in many calls, and a page of none is no end. */
static void test_bounded_steps(void)
{
    struct retained *r = store_new(1000, UINT64_MAX);
    struct message *m;
    bool done;
    char topic[32];

    for (int i = 0; i < 100; i++) {
        snprintf(topic, sizeof(topic), "%d/x", i);
        set(r, topic, "x", MESSAGE_NEVER);
    }
    struct retained_cursor *c = cursor_open(r, "+/y");
    unsigned calls = 0;
    do {
        CHECK(retained_cursor_next(c, 0, 10, &m, 1, &done) == 0);
        calls++;
    } while (!done);
    CHECK(calls >= 10 && calls <= 11);
    CHECK(retained_cursor_next(c, 0, 10, &m, 1, &done) == 0 && done); /* stays at its end */
    retained_cursor_close(c);

    c = cursor_open(r, "#");
    CHECK(retained_cursor_next(c, 0, 0, &m, 1, &done) == 0 && !done);
    CHECK(retained_cursor_next(c, 0, 10, &m, 0, &done) == 0 && !done);
    retained_cursor_close(c);
    retained_cursor_close(NULL);
    retained_free(r);
}

/* Between the first and the second message of a cursor something happens; what is then found, in order. */
static const struct {
    const char *name, *filter;
    const char *before[6], *cleared[5], *added[3];
    const char *rest; /* topics with a blank between them */
} changes[] = {
    {"nothing", "#", {"a", "b", "c"}, {0}, {0}, "b c"},
    {"where it stands goes", "#", {"a", "b", "c"}, {"a"}, {0}, "b c"},
    {"the next goes", "#", {"a", "b", "c"}, {"b"}, {0}, "c"},
    {"all others go", "#", {"a", "b", "c"}, {"c", "b"}, {0}, ""},
    {"all go", "#", {"a", "b", "c"}, {"a", "b", "c"}, {0}, ""},
    {"all go, another comes", "#", {"a", "b"}, {"a", "b"}, {"c"}, NULL},
    {"a level on the way goes with its last topic", "#", {"a/b/c", "d"}, {"a/b/c"}, {0}, "d"},
    {"a level on the way stays for another topic", "#", {"a/b/c", "a/d", "e"}, {"a/b/c"}, {0}, "a/d e"},
    {"a deep branch goes below it", "#", {"a", "a/b/c/d", "e"}, {"a/b/c/d"}, {0}, "e"},
    {"the branch goes, its top stays", "a/#", {"a", "a/b", "a/c"}, {"a/b"}, {0}, "a/c"},
    {"one behind it comes", "#", {"a", "b"}, {0}, {"c"}, "b c"},
    {"siblings of a named level are not taken", "+/x", {"a/x", "a/y", "b/x"}, {"a/x"}, {0}, "b/x"},
    {"named level goes with its parent", "+/x", {"a/x", "b/x"}, {"a/x", "b/x"}, {0}, ""},
    {"named only", "a/x", {"a/x", "a/y"}, {"a/x"}, {0}, ""},
    {"set again: not found a second time", "#", {"a", "b"}, {0}, {"a"}, "b"},
};

static void test_changes(void)
{
    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        struct retained *r = store_new(100, UINT64_MAX);
        for (size_t k = 0; k < 6 && changes[i].before[k]; k++) {
            set(r, changes[i].before[k], "x", MESSAGE_NEVER);
        }
        struct retained_cursor *c = cursor_open(r, changes[i].filter), *bystander = cursor_open(r, "#");
        struct message *m = next(c, 0);
        CHECK_CASE(changes[i].name, m && slice_eq(message_topic(m), slice_str(changes[i].before[0])));
        message_unref(m);
        message_unref(next(bystander, 0));
        for (size_t k = 0; k < 5 && changes[i].cleared[k]; k++) {
            CHECK_CASE(changes[i].name, clear(r, changes[i].cleared[k]));
        }
        for (size_t k = 0; k < 3 && changes[i].added[k]; k++) {
            set(r, changes[i].added[k], "x", MESSAGE_NEVER);
        }
        char rest[64] = "";
        while ((m = next(c, 0)) != NULL) {
            strcat(rest, rest[0] ? " " : "");
            strncat(rest, (const char *)m->bytes, m->topic_len);
            message_unref(m);
        }
        CHECK_CASE(changes[i].name, !changes[i].rest || strcmp(rest, changes[i].rest) == 0);
        retained_cursor_close(bystander); /* in the middle of its walk */
        retained_cursor_close(c);
        retained_free(r);
    }
}

/* A cursor for what was there at a moment: what is set later, new or in place of an earlier one, reaches the reader as
 * a publication. */
static void test_sequence(void)
{
    static const char *const filters[] = {"#", "+/x", "a/x"};

    for (size_t i = 0; i < COUNT_OF(filters); i++) {
        struct retained *r = store_new(10, UINT64_MAX);
        struct retained_cursor *c = NULL;
        CHECK(retained_sequence(r) == 0);
        set(r, "b/x", "1", MESSAGE_NEVER);
        set(r, "a/x", "1", MESSAGE_NEVER);
        uint64_t moment = retained_sequence(r);
        CHECK(moment == 2);
        clear(r, "none");
        CHECK(retained_sequence(r) == moment); /* only what is set counts */
        set(r, "b/x", "2", MESSAGE_NEVER);
        set(r, "c/x", "2", MESSAGE_NEVER);
        CHECK(retained_sequence(r) == moment + 2);
        CHECK(retained_cursor_open(r, slice_str(filters[i]), moment, &c) == 0);
        struct message *m = next(c, 0);
        CHECK_CASE(filters[i], m && slice_eq(message_topic(m), SLICE("a/x")));
        message_unref(m);
        CHECK_CASE(filters[i], next(c, 0) == NULL);
        retained_cursor_close(c);
        CHECK(retained_cursor_open(r, slice_str(filters[i]), 0, &c) == 0);
        CHECK_CASE(filters[i], next(c, 0) == NULL);
        retained_cursor_close(c);
        retained_free(r);
    }
}

/* A page holds references: what it names may be cleared and read all the same. */
static void test_page_outlives_the_store(void)
{
    struct retained *r = store_new(10, UINT64_MAX);

    set(r, "a", "payload", MESSAGE_NEVER);
    struct retained_cursor *c = cursor_open(r, "+");
    struct message *m = next(c, 0);
    clear(r, "a");
    retained_cursor_close(c);
    retained_free(r);
    CHECK(slice_eq(message_payload(m), SLICE("payload")));
    CHECK(atomic_load(&m->refs) == 1);
    message_unref(m);
}

/* A store that ends with messages in it drops its references, and nobody else's. */
static void test_free_with_messages(void)
{
    struct retained *r = store_new(10, UINT64_MAX);
    struct message *m = make_message(SLICE("a/b"), SLICE("x"), MESSAGE_NEVER);

    CHECK(retained_set(r, m) == 0);
    CHECK(atomic_load(&m->refs) == 2);
    retained_free(r);
    CHECK(atomic_load(&m->refs) == 1);
    message_unref(m);
}

UNIT_MAIN("broker/topic/retained", {"set, get, clear", test_set_get_clear}, {"quota", test_quota},
          {"expiry", test_expiry}, {"sweep", test_sweep}, {"filters", test_filters},
          {"bounded steps", test_bounded_steps}, {"changes under a cursor", test_changes}, {"sequence", test_sequence},
          {"a page outlives the store", test_page_outlives_the_store}, {"free with messages", test_free_with_messages})
