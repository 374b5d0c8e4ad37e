/* frame.c -- the fixed header (2.1): type, flags, remaining length. */
#include "proto/mqtt/frame.h"

enum mqtt_frame_state mqtt_frame_next(struct slice in, uint32_t packet_bytes_max, struct mqtt_frame *ret_frame)
{
    if (in.len == 0) {
        return MQTT_FRAME_PARTIAL;
    }
    const uint8_t *p = in.ptr;
    ret_frame->type = p[0] >> 4;
    ret_frame->flags = p[0] & 0x0f;
    ret_frame->size = 0;
    if (p[0] < 0x10) { /* type 0 is forbidden (2.1.2) */
        return MQTT_FRAME_MALFORMED;
    }

    uint32_t remaining = 0, header = 1;
    for (unsigned shift = 0;; shift += 7) {
        if (header == in.len) {
            return MQTT_FRAME_PARTIAL;
        }
        uint8_t byte = p[header++];
        remaining |= (uint32_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (byte == 0 && shift > 0) { /* [MQTT-1.5.5-1] */
                return MQTT_FRAME_MALFORMED;
            }
            break;
        }
        if (shift == 21) {
            return MQTT_FRAME_MALFORMED;
        }
    }

    ret_frame->size = header + remaining;
    if (ret_frame->size > packet_bytes_max) {
        return MQTT_FRAME_TOO_LARGE;
    }
    if (in.len < ret_frame->size) {
        return MQTT_FRAME_PARTIAL;
    }
    ret_frame->body = (struct slice){p + header, remaining};
    return MQTT_FRAME_WHOLE;
}
