#include "broker/auth/digest.h"

#include <errno.h>
#include <openssl/sha.h>

void digest_sha256(struct slice data, uint8_t out[DIGEST_SIZE])
{
    SHA256(data.len ? data.ptr : (const uint8_t *)"", data.len, out);
}

static int digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

int digest_parse(struct slice text, uint8_t out[DIGEST_SIZE])
{
    if (text.len != 2 * DIGEST_SIZE) {
        return -EINVAL;
    }
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        int high = digit(text.ptr[2 * i]), low = digit(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0) {
            return -EINVAL;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}
