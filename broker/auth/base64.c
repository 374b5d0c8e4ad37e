/* base64.c -- four characters for three bytes, both ways. */
#include "broker/auth/base64.h"

#include <errno.h>

/* The six bits that c stands for, or -1. */
static int base64_value(uint8_t c, bool url)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == (url ? '-' : '+')) {
        return 62;
    }
    return c == (url ? '_' : '/') ? 63 : -1;
}

int base64_decode(struct slice text, bool url, struct buf *out)
{
    uint32_t len_before = out->len;

    if (!url && text.len > 0 && text.len % 4 == 0) {
        text.len -= text.ptr[text.len - 1] == '='; /* at most two; one that is left is refused as a character */
        text.len -= text.len % 4 == 3 && text.ptr[text.len - 1] == '=';
    }
    if (text.len % 4 == 1) {
        return -EINVAL;
    }
    if (text.len == 0) {
        return 0;
    }
    uint8_t *at = buf_extend(out, text.len * 3 / 4);
    if (!at) {
        return -ENOMEM;
    }
    uint32_t bits = 0; /* read and not yet written: the low `count` are meant */
    unsigned count = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = base64_value(text.ptr[i], url);
        if (value < 0) {
            out->len = len_before;
            return -EINVAL;
        }
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count >= 8) {
            count -= 8;
            *at++ = (uint8_t)(bits >> count);
        }
    }
    if (bits & ((1u << count) - 1)) {
        out->len = len_before;
        return -EINVAL;
    }
    return 0;
}

void base64_encode(struct slice data, bool url, struct buf *out)
{
    static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char for_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *alphabet = url ? for_url : standard;
    size_t rest = data.len % 3;
    size_t len = data.len / 3 * 4 + (rest == 0 ? 0 : url ? rest + 1 : 4);
    uint8_t *at = len ? buf_extend(out, len) : NULL;

    if (!at) {
        return;
    }
    uint8_t *end = at + len;
    for (size_t i = 0; i < data.len; i += 3) {
        size_t left = data.len - i;
        uint32_t bits = (uint32_t)data.ptr[i] << 16;
        bits |= left > 1 ? (uint32_t)data.ptr[i + 1] << 8 : 0;
        bits |= left > 2 ? data.ptr[i + 2] : 0;
        for (unsigned k = 0; k < 4 && at < end; k++) {
            *at++ = k <= left ? (uint8_t)alphabet[bits >> (18 - 6 * k) & 63] : '=';
        }
    }
}
