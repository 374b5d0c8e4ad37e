/* frame.h -- cut control packets out of a stream of bytes. */
#ifndef TERN_PROTO_MQTT_FRAME_H
#define TERN_PROTO_MQTT_FRAME_H

#include "proto/base/slice.h"
#include "proto/mqtt/mqtt.h"

struct mqtt_frame {
    uint8_t type;      /* enum mqtt_type; 0 is reserved and malformed in every version */
    uint8_t flags;     /* the low four bits of the first byte */
    struct slice body; /* borrowed: variable header and payload */
    uint32_t size;     /* of the whole packet, fixed header included */
};

enum mqtt_frame_state { MQTT_FRAME_WHOLE, MQTT_FRAME_PARTIAL, MQTT_FRAME_MALFORMED, MQTT_FRAME_TOO_LARGE };

/* Look for one packet at the front of in.
 *
 * Answers MALFORMED as soon as the remaining length cannot be one (more than four bytes, or not minimal
 * [MQTT-1.5.5-1]), TOO_LARGE as soon as the fixed header announces more than packet_bytes_max, before anything
 * of the body has come. ret_frame is set when WHOLE; when PARTIAL, TOO_LARGE or MALFORMED and the first byte is
 * there, its type and flags are set, and its size is the packet's size if already known, else 0. */
enum mqtt_frame_state mqtt_frame_next(struct slice in, uint32_t packet_bytes_max, struct mqtt_frame *ret_frame);

#endif
