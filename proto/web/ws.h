/* ws.h -- WebSocket frames (RFC 6455, chapter 5): heads read and written, payloads masked. No IO, no allocation. */
#ifndef TERN_PROTO_WEB_WS_H
#define TERN_PROTO_WEB_WS_H

#include "proto/base/slice.h"

enum ws_opcode { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

/* Close codes (7.4.1). */
enum ws_close {
    WS_CLOSE_NORMAL = 1000,
    WS_CLOSE_GOING_AWAY = 1001,
    WS_CLOSE_PROTOCOL = 1002,
    WS_CLOSE_UNSUPPORTED = 1003, /* text instead of binary [MQTT-6.0.0-1] */
    WS_CLOSE_BAD_DATA = 1007,    /* a reason that is not UTF-8 */
    WS_CLOSE_POLICY = 1008,
    WS_CLOSE_TOO_BIG = 1009,
};

#define WS_HEAD_MAX 14u
#define WS_CONTROL_MAX 125u

struct ws_head {
    bool fin;
    uint8_t opcode; /* enum ws_opcode */
    bool masked;
    uint8_t mask[4];
    uint64_t payload_len;
};

/* Parse a frame head at the beginning of data. Returns its size, 0 when more is needed, or -EBADMSG: a reserved bit or
 * opcode, a fragmented or long control frame, a length that is not minimal or has its highest bit set. Whether masking
 * is due depends on the side and is the caller's to judge. */
int ws_head_parse(struct slice data, struct ws_head *ret_head);

/* Write a head; mask NULL: not masked. Returns its size. */
size_t ws_head_write(uint8_t out[WS_HEAD_MAX], enum ws_opcode opcode, bool fin, const uint8_t mask[4],
                     uint64_t payload_len);

/* XOR n bytes from `from` to `to` (may be the same, or begin before it) with the mask; `at` is the place of the first
 * byte in its frame, so that a frame can be unmasked in pieces. Eight bytes at a time. */
void ws_mask(uint8_t *to, const uint8_t *from, size_t n, const uint8_t mask[4], uint64_t at);

/* Whether a code may stand in a Close frame on the wire (7.4). */
bool ws_close_code_valid(unsigned code);

#endif
