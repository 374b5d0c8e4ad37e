/* packet.c -- see packet.h. */
#include "proto/mqtt/packet.h"

#include <assert.h>

#define FIXED_HEADER_MAX 5u

uint32_t mqtt_packet_begin(struct buf *out)
{
    uint32_t begin = out->len;
    (void)buf_extend(out, FIXED_HEADER_MAX);
    return begin;
}

void mqtt_packet_end(struct buf *out, uint32_t begin, enum mqtt_type type, uint8_t flags)
{
    assert(begin <= out->len);
    assert(flags <= 0x0f);
    if (out->failed || out->len - begin - FIXED_HEADER_MAX > MQTT_REMAINING_LENGTH_MAX) {
        out->failed = true;
        out->len = begin;
        return;
    }
    uint32_t remaining = out->len - begin - FIXED_HEADER_MAX;
    uint8_t *packet = out->ptr + begin;
    packet[0] = (uint8_t)(type << 4 | flags);
    uint8_t *body = mqtt_varint_write(packet + 1, remaining);
    memmove(body, packet + FIXED_HEADER_MAX, remaining);
    out->len = (uint32_t)(body - out->ptr) + remaining;
}

bool mqtt_flags_valid(enum mqtt_type type, uint8_t flags, enum mqtt_version version)
{
    if (type != MQTT_PUBREL && type != MQTT_SUBSCRIBE && type != MQTT_UNSUBSCRIBE) {
        return flags == 0;
    }
    return flags == 2 || (version == MQTT_V31 && flags == 0x0a);
}

bool mqtt_reason_in(uint8_t reason, const uint8_t *list)
{
    while (*list != 0xff && *list != reason) {
        list++;
    }
    return *list != 0xff;
}
