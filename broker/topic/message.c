/* message.c -- making and ending the counted message; everything else about it is reading. */
#include "broker/topic/message.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/mqtt/property.h"

struct message *message_new(const struct message_source *source)
{
    size_t properties_len = mqtt_properties_forward_size(source->properties_raw);
    assert(source->topic.len <= UINT16_MAX);
    assert(source->payload.len <= UINT32_MAX && properties_len <= UINT32_MAX);

    struct message *m = malloc(sizeof(*m) + source->topic.len + properties_len + source->payload.len);
    if (!m) {
        return NULL;
    }
    *m = (struct message){
        .payload_len = (uint32_t)source->payload.len,
        .properties_len = (uint32_t)properties_len,
        .topic_len = (uint16_t)source->topic.len,
        .qos = source->qos,
        .retain = source->retain,
        .expires_at_ms = source->expires_at_ms,
        .publisher = source->publisher,
        .topic_hash = source->topic_hash,
    };
    atomic_init(&m->refs, 1);

    /* The buf is a window on memory that is large enough already: it never grows. */
    struct buf properties = {.ptr = m->bytes + source->topic.len, .cap = (uint32_t)properties_len};
    mqtt_properties_forward(&properties, source->properties_raw);
    assert(!properties.failed);
    assert(properties.len == properties_len);
    if (source->topic.len > 0) {
        memcpy(m->bytes, source->topic.ptr, source->topic.len);
    }
    if (source->payload.len > 0) {
        memcpy(m->bytes + source->topic.len + properties_len, source->payload.ptr, source->payload.len);
    }
    return m;
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
        free(m);
    }
}
