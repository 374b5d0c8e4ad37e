/* message_test.c -- what a message keeps of its source, and that it ends exactly once. */
#include "broker/topic/message.h"
#include "tests/lib/unit.h"

#include <pthread.h>
#include <stdlib.h>

static const struct {
    const char *name, *topic, *payload;
    const char *raw, *kept; /* properties as received and as handed on, hex */
    uint8_t qos;
    bool retain;
    uint64_t expires_at_ms, publisher, topic_hash;
} cases[] = {
    {"plain", "a/b", "hello", "", "", 0, false, MESSAGE_NEVER, 0, 1},
    {"no payload", "a", "", "", "", 1, true, MESSAGE_NEVER, 7, UINT64_MAX},
    {"expires", "a", "x", "", "", 2, false, 123456789, 8, 2},
    {"kept: payload format", "t", "x", "01 01", "01 01", 1, false, 0, 0, 0},
    {"kept: user properties in order [MQTT-3.3.2-18]", "t", "x", "26 0001 6b 0001 76 26 0001 61 0001 62",
     "26 0001 6b 0001 76 26 0001 61 0001 62", 1, false, 1, 0, 3},
    {"kept: response topic, correlation, content type", "t", "", "08 0001 72 09 0002 0102 03 0001 63",
     "08 0001 72 09 0002 0102 03 0001 63", 1, false, 1, 0, 3},
    {"dropped: topic alias [MQTT-3.3.2-7]", "t", "x", "23 0001", "", 1, false, 1, 0, 3},
    {"dropped: message expiry, for it is written anew", "t", "x", "02 00000005", "", 1, false, 1, 0, 3},
    {"dropped amid kept", "t", "payload", "01 00 23 0001 26 0000 0000 02 00000005 03 0001 63",
     "01 00 26 0000 0000 03 0001 63", 2, true, 1, 9, 4},
};

static void test_keeps(void)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *name = cases[i].name;
        struct slice raw = unit_hex(cases[i].raw), kept = unit_hex(cases[i].kept);
        struct message *m = message_new(&(struct message_source){
            .topic = slice_str(cases[i].topic),
            .payload = slice_str(cases[i].payload),
            .properties_raw = raw,
            .topic_hash = cases[i].topic_hash,
            .publisher = cases[i].publisher,
            .expires_at_ms = cases[i].expires_at_ms,
            .qos = cases[i].qos,
            .retain = cases[i].retain,
        });
        memset((void *)raw.ptr, 0xee, raw.len); /* the source may go: everything was copied */
        free((void *)raw.ptr);
        CHECK_CASE(name, m != NULL);
        CHECK_CASE(name, slice_eq(message_topic(m), slice_str(cases[i].topic)));
        CHECK_CASE(name, slice_eq(message_payload(m), slice_str(cases[i].payload)));
        CHECK_CASE(name, slice_eq(message_properties(m), kept));
        CHECK_CASE(name, m->qos == cases[i].qos && m->retain == cases[i].retain);
        CHECK_CASE(name, m->expires_at_ms == cases[i].expires_at_ms);
        CHECK_CASE(name, m->publisher == cases[i].publisher);
        CHECK_CASE(name, m->topic_hash == cases[i].topic_hash);
        CHECK_CASE(name, message_size(m) == sizeof(*m) + strlen(cases[i].topic) + kept.len + strlen(cases[i].payload));
        message_unref(m);
        free((void *)kept.ptr);
    }
}

/* The longest topic that a packet can carry, and an empty one: the broker's own messages to one session have none. */
static void test_topic_lengths(void)
{
    static const size_t lengths[] = {0, 1, 255, 256, 65534, 65535};

    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        uint8_t *topic = malloc(lengths[i] + 1);
        memset(topic, 't', lengths[i]);
        struct message *m =
            message_new(&(struct message_source){.topic = slice_of(topic, lengths[i]), .payload = SLICE("p")});
        CHECK(m->topic_len == lengths[i]);
        CHECK(slice_eq(message_topic(m), slice_of(topic, lengths[i])));
        CHECK(slice_eq(message_payload(m), SLICE("p")));
        message_unref(m);
        free(topic);
    }
}

static void test_counts(void)
{
    struct message *m = message_new(&(struct message_source){.topic = SLICE("a"), .payload = SLICE("b")});

    CHECK(atomic_load(&m->refs) == 1);
    CHECK(message_ref(m) == m);
    CHECK(atomic_load(&m->refs) == 2);
    message_unref(m);
    CHECK(atomic_load(&m->refs) == 1);
    CHECK(slice_eq(message_payload(m), SLICE("b"))); /* still there: ASan would say otherwise */
    message_unref(m);
    message_unref(NULL);
}

#define THREADS 4
#define ROUNDS 20000

static void *take_and_drop(void *arg)
{
    struct message *m = arg;
    for (int i = 0; i < ROUNDS; i++) {
        message_ref(m);
        message_unref(m);
    }
    message_unref(m); /* the reference that was made for this thread */
    return NULL;
}

/* Shards take and drop at the same time: no count is lost, and the last one, whoever it is, frees. */
static void test_shared_between_threads(void)
{
    struct message *m = message_new(&(struct message_source){.topic = SLICE("a"), .payload = SLICE("b")});
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++) {
        message_ref(m);
        CHECK(pthread_create(&threads[i], NULL, take_and_drop, m) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(atomic_load(&m->refs) == 1);
    message_unref(m);
}

UNIT_MAIN("broker/topic/message", {"keeps", test_keeps}, {"topic lengths", test_topic_lengths}, {"counts", test_counts},
          {"shared between threads", test_shared_between_threads})
