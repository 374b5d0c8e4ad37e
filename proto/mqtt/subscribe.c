/* subscribe.c -- SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK.
 *
 * The decoders check every filter's form once; the walkers then read without checking again. */
#include "proto/mqtt/subscribe.h"

#include <assert.h>

#include "proto/mqtt/packet.h"

/* Subscription Options (3.8.3.1). */
#define OPTION_QOS 0x03
#define OPTION_NO_LOCAL 0x04
#define OPTION_RETAIN_AS_PUBLISHED 0x08
#define OPTION_RETAIN_HANDLING_SHIFT 4
#define OPTION_RESERVED 0xc0

/* What both packets begin with: flags, packet identifier, properties. */
static enum mqtt_reason head_decode(struct cursor *c, enum mqtt_type type, uint8_t flags, enum mqtt_version version,
                                    struct mqtt_subscribe *s)
{
    s->packet_id = cursor_u16(c);
    if (c->failed || !mqtt_flags_valid(type, flags, version)) { /* [MQTT-3.8.1-1] [MQTT-3.10.1-1] */
        return MQTT_MALFORMED_PACKET;
    }
    if (s->packet_id == 0) { /* [MQTT-2.2.1-3] */
        return MQTT_PROTOCOL_ERROR;
    }
    return version == MQTT_V5 ? mqtt_properties_decode(c, type, &s->properties) : MQTT_SUCCESS;
}

static enum mqtt_reason options_check(uint8_t options, enum mqtt_version version, struct slice filter)
{
    if (version != MQTT_V5) {
        return options <= 2 ? MQTT_SUCCESS : MQTT_MALFORMED_PACKET; /* [MQTT311-3.8.3-4] */
    }
    if (options & OPTION_RESERVED) { /* [MQTT-3.8.3-5] */
        return MQTT_MALFORMED_PACKET;
    }
    if ((options & OPTION_QOS) == 3 || (options >> OPTION_RETAIN_HANDLING_SHIFT & 3) == 3) {
        return MQTT_PROTOCOL_ERROR;
    }
    const struct slice share = SLICE("$share/");
    bool shared = filter.len >= share.len && memcmp(filter.ptr, share.ptr, share.len) == 0;
    if (options & OPTION_NO_LOCAL && shared) { /* [MQTT-3.8.3-4] */
        return MQTT_PROTOCOL_ERROR;
    }
    return MQTT_SUCCESS;
}

enum mqtt_reason mqtt_subscribe_decode(struct slice body, uint8_t flags, enum mqtt_version version,
                                       struct mqtt_subscribe *ret_subscribe)
{
    struct cursor c = cursor_at(body);
    struct mqtt_subscribe s = {0};
    enum mqtt_reason reason = head_decode(&c, MQTT_SUBSCRIBE, flags, version, &s);
    if (reason != MQTT_SUCCESS) {
        return reason;
    }
    s.filters = slice_of(c.at, cursor_left(&c));
    while (cursor_left(&c) > 0) {
        struct slice filter = cursor_string(&c); /* [MQTT-3.8.3-1] */
        uint8_t options = cursor_u8(&c);
        if (c.failed) {
            return MQTT_MALFORMED_PACKET;
        }
        reason = options_check(options, version, filter);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
        s.count++;
    }
    if (s.count == 0) { /* [MQTT-3.8.3-2] */
        return MQTT_PROTOCOL_ERROR;
    }
    *ret_subscribe = s;
    return MQTT_SUCCESS;
}

enum mqtt_reason mqtt_unsubscribe_decode(struct slice body, uint8_t flags, enum mqtt_version version,
                                         struct mqtt_subscribe *ret_unsubscribe)
{
    struct cursor c = cursor_at(body);
    struct mqtt_subscribe s = {0};
    enum mqtt_reason reason = head_decode(&c, MQTT_UNSUBSCRIBE, flags, version, &s);
    if (reason != MQTT_SUCCESS) {
        return reason;
    }
    s.filters = slice_of(c.at, cursor_left(&c));
    while (cursor_left(&c) > 0) {
        (void)cursor_string(&c); /* [MQTT-3.10.3-1] */
        if (c.failed) {
            return MQTT_MALFORMED_PACKET;
        }
        s.count++;
    }
    if (s.count == 0) { /* [MQTT-3.10.3-2] */
        return MQTT_PROTOCOL_ERROR;
    }
    *ret_unsubscribe = s;
    return MQTT_SUCCESS;
}

/* Step behind what the cursor has read. */
static void filters_advance(struct slice *filters, const struct cursor *c)
{
    assert(!c->failed); /* the decoder has been here before */
    *filters = slice_of(c->at, cursor_left(c));
}

bool mqtt_subscribe_next(struct mqtt_subscribe *s, struct mqtt_subscription *ret_subscription)
{
    if (s->filters.len == 0) {
        return false;
    }
    struct cursor c = cursor_at(s->filters);
    struct slice filter = cursor_binary(&c);
    uint8_t options = cursor_u8(&c);
    filters_advance(&s->filters, &c);
    *ret_subscription = (struct mqtt_subscription){
        .filter = filter,
        .qos = options & OPTION_QOS,
        .no_local = options & OPTION_NO_LOCAL,
        .retain_as_published = options & OPTION_RETAIN_AS_PUBLISHED,
        .retain_handling = options >> OPTION_RETAIN_HANDLING_SHIFT & 3,
    };
    return true;
}

bool mqtt_unsubscribe_next(struct mqtt_subscribe *s, struct slice *ret_filter)
{
    if (s->filters.len == 0) {
        return false;
    }
    struct cursor c = cursor_at(s->filters);
    *ret_filter = cursor_binary(&c);
    filters_advance(&s->filters, &c);
    return true;
}

/* Property length and properties; a NULL says that there are none [MQTT-2.2.2-1]. */
static void properties_encode(struct buf *out, enum mqtt_version version, const struct mqtt_properties *properties)
{
    if (version != MQTT_V5) {
        return;
    }
    if (properties) {
        mqtt_properties_encode(out, properties);
    } else {
        buf_u8(out, 0);
    }
}

static uint8_t options_encode(const struct mqtt_subscription *s, enum mqtt_version version)
{
    assert(s->qos <= 2);
    assert(s->retain_handling <= 2);
    if (version != MQTT_V5) {
        return s->qos;
    }
    return (uint8_t)(s->qos | (s->no_local ? OPTION_NO_LOCAL : 0) |
                     (s->retain_as_published ? OPTION_RETAIN_AS_PUBLISHED : 0) |
                     s->retain_handling << OPTION_RETAIN_HANDLING_SHIFT);
}

void mqtt_subscribe_encode(struct buf *out, enum mqtt_version version, uint16_t packet_id,
                           const struct mqtt_properties *properties, const struct mqtt_subscription *subs, size_t count)
{
    assert(packet_id != 0);
    assert(count > 0);
    uint32_t begin = mqtt_packet_begin(out);
    buf_u16(out, packet_id);
    properties_encode(out, version, properties);
    for (size_t i = 0; i < count; i++) {
        buf_string(out, subs[i].filter);
        buf_u8(out, options_encode(&subs[i], version));
    }
    mqtt_packet_end(out, begin, MQTT_SUBSCRIBE, 2);
}

void mqtt_unsubscribe_encode(struct buf *out, enum mqtt_version version, uint16_t packet_id,
                             const struct mqtt_properties *properties, const struct mqtt_subscription *subs,
                             size_t count)
{
    assert(packet_id != 0);
    assert(count > 0);
    uint32_t begin = mqtt_packet_begin(out);
    buf_u16(out, packet_id);
    properties_encode(out, version, properties);
    for (size_t i = 0; i < count; i++) {
        buf_string(out, subs[i].filter);
    }
    mqtt_packet_end(out, begin, MQTT_UNSUBSCRIBE, 2);
}

static bool suback_code_valid(enum mqtt_type type, enum mqtt_version version, uint8_t code)
{
    static const uint8_t suback_v3[] = {0x00, 0x01, 0x02, 0x80, 0xff};
    static const uint8_t suback_v5[] = {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f,
                                        0x91, 0x97, 0x9e, 0xa1, 0xa2, 0xff};               /* [MQTT-3.9.3-2] */
    static const uint8_t unsuback_v5[] = {0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91, 0xff}; /* [MQTT-3.11.3-2] */
    if (type == MQTT_UNSUBACK) {
        return mqtt_reason_in(code, unsuback_v5);
    }
    return mqtt_reason_in(code, version == MQTT_V5 ? suback_v5 : suback_v3);
}

enum mqtt_reason mqtt_suback_decode(enum mqtt_type type, struct slice body, uint8_t flags, enum mqtt_version version,
                                    struct mqtt_suback *ret_suback)
{
    assert(type == MQTT_SUBACK || type == MQTT_UNSUBACK);
    struct cursor c = cursor_at(body);
    struct mqtt_suback s = {.packet_id = cursor_u16(&c)};
    if (c.failed || !mqtt_flags_valid(type, flags, version)) { /* [MQTT-2.1.3-1] */
        return MQTT_MALFORMED_PACKET;
    }
    if (s.packet_id == 0) { /* [MQTT-2.2.1-6] */
        return MQTT_PROTOCOL_ERROR;
    }
    if (version == MQTT_V5) {
        enum mqtt_reason reason = mqtt_properties_decode(&c, type, &s.properties);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
    }
    s.codes = cursor_rest(&c);
    bool has_codes = version == MQTT_V5 || type == MQTT_SUBACK;
    if (has_codes != (s.codes.len > 0)) {
        return MQTT_MALFORMED_PACKET;
    }
    for (size_t i = 0; i < s.codes.len; i++) {
        if (!suback_code_valid(type, version, s.codes.ptr[i])) {
            return MQTT_PROTOCOL_ERROR;
        }
    }
    *ret_suback = s;
    return MQTT_SUCCESS;
}

void mqtt_suback_encode(struct buf *out, enum mqtt_type type, enum mqtt_version version,
                        const struct mqtt_suback *suback)
{
    assert(type == MQTT_SUBACK || type == MQTT_UNSUBACK);
    assert(suback->packet_id != 0);
    uint32_t begin = mqtt_packet_begin(out);
    buf_u16(out, suback->packet_id);
    properties_encode(out, version, &suback->properties);
    if (version == MQTT_V5) {
        buf_put(out, suback->codes);
    } else if (type == MQTT_SUBACK) {
        for (size_t i = 0; i < suback->codes.len; i++) {
            uint8_t code = suback->codes.ptr[i];
            buf_u8(out, code >= 0x80 ? 0x80 : code);
        }
    }
    mqtt_packet_end(out, begin, type, 0);
}
