/* fuzz_primitives.c -- varint, UTF-8, strings and frames against short references written another way. */
#include <stdlib.h>

#include "proto/base/buf.h"
#include "proto/base/cursor.h"
#include "proto/base/utf8.h"
#include "proto/mqtt/frame.h"
#include "proto/mqtt/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool held)
{
    if (!held) {
        abort();
    }
}

/* Bytes of the variable byte integer at p, or 0; a decimal sum as in the specification's own example (1.5.5). */
static size_t reference_varint(const uint8_t *p, size_t size, uint32_t *ret_value)
{
    uint32_t value = 0, multiplier = 1;
    for (size_t i = 0; i < size && i < 4; i++, multiplier *= 128) {
        value += (p[i] & 127u) * multiplier;
        if (p[i] < 128) {
            bool minimal = i == 0 || value >= multiplier;
            *ret_value = value;
            return minimal ? i + 1 : 0;
        }
    }
    return 0;
}

/* Decode to code points, and judge the code points. */
static bool reference_utf8(const uint8_t *p, size_t size)
{
    static const uint32_t least[] = {1, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < size;) {
        unsigned follow = p[i] < 0x80 ? 0 : p[i] >> 5 == 6 ? 1 : p[i] >> 4 == 14 ? 2 : p[i] >> 3 == 30 ? 3 : 4;
        if (follow == 4 || size - i - 1 < follow) {
            return false;
        }
        uint32_t point = follow == 0 ? p[i] : p[i] & (0x3fu >> follow);
        for (unsigned k = 1; k <= follow; k++) {
            if (p[i + k] >> 6 != 2) {
                return false;
            }
            point = point * 64 + (p[i + k] & 63u);
        }
        if (point < least[follow] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) {
            return false;
        }
        i += 1 + follow;
    }
    return true;
}

static void check_varint(struct slice in)
{
    uint32_t want = 0;
    size_t bytes = reference_varint(in.ptr, in.len, &want);
    struct cursor c = cursor_at(in);
    uint32_t got = cursor_varint(&c);
    require(c.failed == (bytes == 0));
    require(c.failed ? got == 0 : got == want && cursor_left(&c) == in.len - bytes);
    if (bytes > 0) {
        struct buf out = {0};
        buf_varint(&out, got);
        require(slice_eq(buf_slice(&out), slice_of(in.ptr, bytes)));
        buf_deinit(&out);
    }
}

static void check_string(struct slice in)
{
    size_t len = in.len >= 2 ? (size_t)in.ptr[0] << 8 | in.ptr[1] : 0;
    bool there = in.len >= 2 && in.len - 2 >= len;
    bool good = there && reference_utf8(in.ptr + 2, len);
    struct cursor c = cursor_at(in);
    struct slice got = cursor_string(&c);
    require(c.failed == !good);
    require(got.len == (good ? len : 0));
    c = cursor_at(in);
    got = cursor_binary(&c);
    require(c.failed == !there);
    require(got.len == (there ? len : 0));
}

/* A walk of mixed reads never leaves the input, whatever its bytes ask for. */
static void check_walk(struct slice in)
{
    struct cursor c = cursor_at(in);
    while (!c.failed && cursor_left(&c) > 0) {
        size_t before = cursor_left(&c);
        switch (cursor_u8(&c) % 6) {
        case 0:
            (void)cursor_u16(&c);
            break;
        case 1:
            (void)cursor_u32(&c);
            break;
        case 2:
            (void)cursor_varint(&c);
            break;
        case 3:
            (void)cursor_string(&c);
            break;
        case 4:
            (void)cursor_binary(&c);
            break;
        }
        require(cursor_left(&c) < before);
    }
    require(c.at <= c.end);
}

static void check_frame(struct slice in)
{
    struct mqtt_frame frame = {0};
    uint32_t remaining = 0, max = 1000;
    size_t bytes = in.len > 1 ? reference_varint(in.ptr + 1, in.len - 1, &remaining) : 0;
    enum mqtt_frame_state state = mqtt_frame_next(in, max, &frame);

    if (in.len == 0) {
        require(state == MQTT_FRAME_PARTIAL);
    } else if (in.ptr[0] < 16) {
        require(state == MQTT_FRAME_MALFORMED);
    } else if (bytes == 0) {
        require(state == MQTT_FRAME_PARTIAL || state == MQTT_FRAME_MALFORMED);
        require(frame.size == 0);
        require(state != MQTT_FRAME_PARTIAL || in.len < 5);
    } else {
        size_t size = 1 + bytes + remaining;
        require(frame.size == size);
        require((state == MQTT_FRAME_TOO_LARGE) == (size > max));
        require((state == MQTT_FRAME_WHOLE) == (size <= max && size <= in.len));
        require(state != MQTT_FRAME_WHOLE || frame.body.ptr + frame.body.len == in.ptr + size);
    }
}

/* Whether filter f matches topic t, by the definition in one recursion over bytes. */
static bool reference_match(struct slice f, struct slice t, bool level_start)
{
    if (f.len == 0) {
        return t.len == 0;
    }
    if (level_start && f.ptr[0] == '#') {
        return true;
    }
    if (level_start && f.ptr[0] == '+') {
        while (t.len > 0 && t.ptr[0] != '/') {
            t = slice_drop(t, 1);
        }
        return reference_match(slice_drop(f, 1), t, false);
    }
    if (t.len == 0) {
        return slice_eq(f, SLICE("/#")); /* the parent level */
    }
    return f.ptr[0] == t.ptr[0] && reference_match(slice_drop(f, 1), slice_drop(t, 1), f.ptr[0] == '/');
}

/* The input's first byte says where it is cut into a filter and a topic. */
static void check_match(struct slice in)
{
    if (in.len < 3 || in.len > 200) {
        return;
    }
    size_t cut = 1 + in.ptr[0] % (in.len - 1);
    struct slice filter = slice_of(in.ptr + 1, cut - 1), topic = slice_of(in.ptr + cut, in.len - cut);
    if (!mqtt_filter_valid(filter, 1000) || !mqtt_topic_valid(topic, 1000)) {
        return;
    }
    bool hidden = topic.ptr[0] == '$' && (filter.ptr[0] == '+' || filter.ptr[0] == '#');
    require(mqtt_filter_matches(filter, topic) == (!hidden && reference_match(filter, topic, true)));
    require(mqtt_filter_matches(topic, topic));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1); /* exact size: one byte over is seen */
    if (!copy) {
        return 0;
    }
    if (size > 0) {
        memcpy(copy, data, size);
    }
    struct slice in = slice_of(copy, size);
    require(utf8_valid(in) == reference_utf8(copy, size));
    check_varint(in);
    check_string(in);
    check_walk(in);
    check_frame(in);
    check_match(in);
    free(copy);
    return 0;
}
