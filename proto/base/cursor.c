/* cursor.c -- the two reads that are more than a bounds check. */
#include "proto/base/cursor.h"

#include "proto/base/utf8.h"

uint32_t cursor_varint(struct cursor *c)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t byte = cursor_u8(c);
        if (c->failed) {
            return 0;
        }
        value |= (uint32_t)(byte & 0x7f) << 7 * i;
        if (byte < 0x80) {
            if (byte == 0 && i > 0) { /* a byte less would have said the same [MQTT-1.5.5-1] */
                break;
            }
            return value;
        }
    }
    c->failed = true;
    return 0;
}

struct slice cursor_string(struct cursor *c)
{
    struct slice s = cursor_binary(c);
    if (!utf8_valid(s)) { /* [MQTT-1.5.4-1] [MQTT-1.5.4-2] */
        c->failed = true;
        return (struct slice){NULL, 0};
    }
    return s;
}
