/* message.c -- making and ending the counted message; everything else about it is reading.
 *
 * Memory: small messages live for microseconds, come in bursts of hundreds, and end on another thread as often as not,
 * which is what a general allocator is slowest at. So every thread keeps some of the small ones that ended on it, by
 * size. */
#include "broker/topic/message.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/mqtt/property.h"

#define POOL_STEP 64u   /* bytes between two sizes */
#define POOL_SIZES 4u   /* header and all: 256 bytes at most */
#define POOL_KEPT 1024u /* of each size: 640 KiB a thread */

#ifdef __has_feature /* clang */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1 /* as gcc says it */
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define POOL_USED false /* the sanitizer is to see every end */
#else
#define POOL_USED true
#endif

static _Thread_local struct {
    struct message *first; /* owned; linked through `publisher` */
    unsigned count;
} pool[POOL_SIZES];

/* Which size a message of so many bytes has; POOL_SIZES and more: none. */
static size_t pool_index(size_t bytes)
{
    return (bytes - 1) / POOL_STEP;
}

static struct message *memory_get(size_t bytes)
{
    size_t i = pool_index(bytes);

    if (!POOL_USED || i >= POOL_SIZES) {
        return malloc(bytes);
    }
    struct message *m = pool[i].first;
    if (!m) {
        return malloc((i + 1) * POOL_STEP);
    }
    pool[i].first = (struct message *)(uintptr_t)m->publisher;
    pool[i].count--;
    return m;
}

static void memory_put(struct message *m)
{
    size_t i = pool_index(message_size(m));

    if (!POOL_USED || i >= POOL_SIZES || pool[i].count == POOL_KEPT) {
        free(m);
        return;
    }
    m->publisher = (uintptr_t)pool[i].first;
    pool[i].first = m;
    pool[i].count++;
}

void message_pool_trim(unsigned keep)
{
    for (size_t i = 0; i < POOL_SIZES; i++) {
        while (pool[i].count > keep) {
            struct message *m = pool[i].first;
            pool[i].first = (struct message *)(uintptr_t)m->publisher;
            pool[i].count--;
            free(m);
        }
    }
}

struct message *message_new(const struct message_source *source)
{
    size_t forward_len = mqtt_properties_forward_size(source->properties_raw);
    size_t properties_len = forward_len + source->properties.len;
    assert(source->topic.len <= UINT16_MAX);
    assert(source->payload.len <= UINT32_MAX && properties_len <= UINT32_MAX);
    bool stamped = source->stamp.at != 0 || source->stamp.origin != 0;
    size_t len = source->topic.len + properties_len + source->payload.len;

    struct message *m = memory_get(sizeof(*m) + len + (stamped ? sizeof(source->stamp) : 0));
    if (!m) {
        return NULL;
    }
    *m = (struct message){
        .payload_len = (uint32_t)source->payload.len,
        .properties_len = (uint32_t)properties_len,
        .topic_len = (uint16_t)source->topic.len,
        .qos = source->qos,
        .retain = source->retain,
        .again = source->again,
        .stamped = stamped,
        .packet_id = source->packet_id,
        .expires_at_ms = source->expires_at_ms,
        .publisher = source->publisher,
        .topic_hash = source->topic_hash,
    };
    atomic_init(&m->refs, 1);

    /* The buf is a window on memory that is large enough already: it never grows. */
    struct buf properties = {.ptr = m->bytes + source->topic.len, .cap = (uint32_t)properties_len};
    mqtt_properties_forward(&properties, source->properties_raw);
    buf_put(&properties, source->properties);
    assert(!properties.failed);
    assert(properties.len == properties_len);
    if (source->topic.len > 0) {
        memcpy(m->bytes, source->topic.ptr, source->topic.len);
    }
    if (source->payload.len > 0) {
        memcpy(m->bytes + source->topic.len + properties_len, source->payload.ptr, source->payload.len);
    }
    if (stamped) {
        memcpy(m->bytes + len, &source->stamp, sizeof(source->stamp));
    }
    return m;
}

struct message_stamp message_stamp(const struct message *m)
{
    struct message_stamp stamp = {0};

    if (m->stamped) {
        memcpy(&stamp, m->bytes + m->topic_len + m->properties_len + m->payload_len, sizeof(stamp));
    }
    return stamp;
}

void message_unref(struct message *m)
{
    if (!m) {
        return;
    }
    /* Release, so that what other shards read comes before the end; acquire, so that we see that they have read. */
    unsigned before = atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1) {
        memory_put(m);
    }
}
