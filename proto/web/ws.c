/* ws.c -- frame heads (RFC 6455, 5.2).
 *
 *      0                 1                 2..9, as the length is        4 bytes
 *     | FIN RSV*3 opcode | MASK length:7 | 16 or 64 bits of length | mask, if MASK | payload
 */
#include "proto/web/ws.h"

#include <errno.h>

#include "proto/base/cursor.h"

#define BIT_FIN 0x80u
#define BITS_RESERVED 0x70u /* 5.2: 0 without extensions, and we agree to none */
#define BIT_MASK 0x80u
#define LENGTH_16 126u
#define LENGTH_64 127u

static bool is_opcode(unsigned opcode)
{
    return opcode <= WS_BINARY || (opcode >= WS_CLOSE && opcode <= WS_PONG);
}

/* Read the length that stands behind the second byte. Returns whether it is minimal and without its highest bit (5.2);
 * c fails when it is not all there. */
static bool extended_length(struct cursor *c, unsigned length, uint64_t *ret_len)
{
    if (length == LENGTH_16) {
        *ret_len = cursor_u16(c);
        return c->failed || *ret_len >= LENGTH_16;
    }
    if (length == LENGTH_64) {
        uint64_t high = cursor_u32(c);
        *ret_len = high << 32 | cursor_u32(c);
        return c->failed || (*ret_len > UINT16_MAX && high >> 31 == 0);
    }
    *ret_len = length;
    return true;
}

int ws_head_parse(struct slice data, struct ws_head *ret_head)
{
    struct cursor c = cursor_at(data);
    struct ws_head head = {0};

    if (data.len == 0) {
        return 0;
    }
    uint8_t first = cursor_u8(&c);
    head.fin = first & BIT_FIN;
    head.opcode = first & 0x0f;
    bool control = head.opcode >= WS_CLOSE;
    if (first & BITS_RESERVED || !is_opcode(head.opcode) || (control && !head.fin)) { /* 5.2, 5.4 */
        return -EBADMSG;
    }
    uint8_t second = cursor_u8(&c);
    unsigned length = second & 0x7f;
    if (control && length > WS_CONTROL_MAX) { /* 5.5 */
        return -EBADMSG;
    }
    if (!extended_length(&c, length, &head.payload_len)) {
        return -EBADMSG;
    }
    head.masked = second & BIT_MASK;
    struct slice mask = cursor_take(&c, head.masked ? sizeof(head.mask) : 0);
    if (c.failed) {
        return 0;
    }
    if (head.masked) {
        memcpy(head.mask, mask.ptr, sizeof(head.mask));
    }
    *ret_head = head;
    return (int)(c.at - data.ptr);
}

size_t ws_head_write(uint8_t out[WS_HEAD_MAX], enum ws_opcode opcode, bool fin, const uint8_t mask[4],
                     uint64_t payload_len)
{
    unsigned extended = payload_len < LENGTH_16 ? 0 : payload_len <= UINT16_MAX ? 2 : 8;
    uint8_t length = extended == 0 ? (uint8_t)payload_len : extended == 2 ? LENGTH_16 : LENGTH_64;
    size_t n = 0;

    out[n++] = (uint8_t)((fin ? BIT_FIN : 0) | opcode);
    out[n++] = (uint8_t)((mask ? BIT_MASK : 0) | length);
    while (extended > 0) {
        out[n++] = (uint8_t)(payload_len >> 8 * --extended);
    }
    if (mask) {
        memcpy(out + n, mask, 4);
        n += 4;
    }
    return n;
}

void ws_mask(uint8_t *to, const uint8_t *from, size_t n, const uint8_t mask[4], uint64_t at)
{
    uint8_t turned[8];
    uint64_t word, key;
    size_t i = 0;

    for (unsigned k = 0; k < sizeof(turned); k++) {
        turned[k] = mask[(at + k) & 3];
    }
    memcpy(&key, turned, sizeof(key));
    for (; n - i >= sizeof(word); i += sizeof(word)) { /* a word is read before it is written: to <= from may overlap */
        memcpy(&word, from + i, sizeof(word));
        word ^= key;
        memcpy(to + i, &word, sizeof(word));
    }
    for (unsigned k = 0; i < n; i++, k++) {
        to[i] = from[i] ^ turned[k];
    }
}

/* 1004 is reserved; 1005, 1006 and 1015 are names for what was not sent (7.4.1); 1012 to 1014 were registered later;
 * from 3000 on they belong to libraries and applications (7.4.2). */
bool ws_close_code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}
