/* make_message.h -- a message from two texts, for tests that care about neither its properties nor its publisher. */
#ifndef TERN_TESTS_LIB_MAKE_MESSAGE_H
#define TERN_TESTS_LIB_MAKE_MESSAGE_H

#include <assert.h>

#include "broker/topic/message.h"
#include "proto/base/hash.h"

/* One key for a whole test program: a hash made here finds what is stored under it there. */
static const struct hash_key test_key = {0x0123456789abcdefu, 0xfedcba9876543210u};

static inline uint64_t test_hash(struct slice s)
{
    return hash_keyed(&test_key, s);
}

/* QoS 1, never expiring unless expires_at_ms says so. The caller's reference. */
static inline struct message *make_message(struct slice topic, struct slice payload, uint64_t expires_at_ms)
{
    struct message_source source = {
        .topic = topic,
        .payload = payload,
        .topic_hash = test_hash(topic),
        .expires_at_ms = expires_at_ms,
        .qos = 1,
    };
    struct message *m = message_new(&source);
    assert(m);
    return m;
}

#endif
