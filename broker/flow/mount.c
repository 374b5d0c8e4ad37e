/* Mount points: a listener may put a prefix in front of every topic of its clients, which then live in a part of the
 * tree as if it were the whole, `$` topics included. */
#include "broker/flow/flow.h"
#include "proto/mqtt/subscribe.h"
#include "proto/mqtt/topic.h"

static struct slice join(struct broker *b, struct slice a, struct slice c, struct slice d)
{
    b->mounted.len = 0;
    buf_put(&b->mounted, a);
    buf_put(&b->mounted, c);
    buf_put(&b->mounted, d);
    if (b->mounted.failed) {
        b->mounted.failed = false;
        return (struct slice){0};
    }
    return buf_slice(&b->mounted);
}

struct slice mount_topic(struct broker *b, const struct conn *conn, struct slice topic)
{
    struct slice mount = conn->listener->mount;

    return mount.len == 0 ? topic : join(b, mount, topic, SLICE(""));
}

struct slice mount_filter(struct broker *b, const struct conn *conn, struct slice text)
{
    struct slice mount = conn->listener->mount, name, filter;

    if (mount.len == 0 || text.len == 0) {
        return text;
    }
    if (mqtt_share_split(text, &name, &filter) <= 0) {
        return join(b, mount, text, SLICE(""));
    }
    if (filter.len == 0) { /* no filter, and not to become one */
        return text;
    }
    return join(b, slice_of(text.ptr, text.len - filter.len), mount, filter);
}

bool mount_strip(const struct conn *conn, struct slice *topic)
{
    struct slice mount = conn->listener->mount;

    if (mount.len == 0) {
        return true;
    }
    if (topic->len <= mount.len || memcmp(topic->ptr, mount.ptr, mount.len) != 0) {
        return false;
    }
    *topic = slice_drop(*topic, mount.len);
    return true;
}

void mount_subscribe(struct broker *b, const struct conn *conn, struct mqtt_subscribe *packet, struct buf *out)
{
    struct mqtt_subscribe walk = *packet;
    struct mqtt_subscription sub;

    for (;;) {
        struct slice before = walk.filters;
        if (!mqtt_subscribe_next(&walk, &sub)) {
            break;
        }
        struct slice filter = mount_filter(b, conn, sub.filter);
        out->failed |= !filter.ptr || filter.len > MQTT_STRING_BYTES_MAX;
        buf_string(out, filter);
        buf_u8(out, before.ptr[before.len - walk.filters.len - 1]); /* its options */
    }
    packet->filters = buf_slice(out);
}
