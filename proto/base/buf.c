/* buf.c -- growth by doubling, so that n appends copy O(n) bytes; and the spare buffers of a shard. */
#include "proto/base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define BUF_CAP_MIN 64u
#define BUF_CAP_MAX (1u << 30)

void buf_deinit(struct buf *b)
{
    free(b->ptr);
    *b = (struct buf){0};
}

int buf_grow(struct buf *b, size_t n)
{
    assert(b->len <= b->cap);
    if (b->failed || n > BUF_CAP_MAX - b->len) {
        b->failed = true;
        return -ENOMEM;
    }
    uint32_t need = b->len + (uint32_t)n;
    if (need <= b->cap) {
        return 0;
    }
    uint32_t cap = b->cap ? b->cap : BUF_CAP_MIN;
    while (cap < need) {
        cap *= 2; /* a power of two, so it meets BUF_CAP_MAX and never wraps */
    }
    uint8_t *ptr = realloc(b->ptr, cap);
    if (!ptr) {
        b->failed = true;
        return -ENOMEM;
    }
    b->ptr = ptr;
    b->cap = cap;
    return 0;
}

void buf_u8(struct buf *b, uint8_t value)
{
    uint8_t *at = buf_extend(b, 1);
    if (at) {
        at[0] = value;
    }
}

void buf_u16(struct buf *b, uint16_t value)
{
    uint8_t *at = buf_extend(b, 2);
    if (at) {
        at[0] = (uint8_t)(value >> 8);
        at[1] = (uint8_t)value;
    }
}

void buf_u32(struct buf *b, uint32_t value)
{
    uint8_t *at = buf_extend(b, 4);
    if (at) {
        at[0] = (uint8_t)(value >> 24);
        at[1] = (uint8_t)(value >> 16);
        at[2] = (uint8_t)(value >> 8);
        at[3] = (uint8_t)value;
    }
}

void buf_u64(struct buf *b, uint64_t value)
{
    buf_u32(b, (uint32_t)(value >> 32));
    buf_u32(b, (uint32_t)value);
}

void buf_varint(struct buf *b, uint32_t value)
{
    assert(value <= 268435455u);
    uint8_t bytes[4];
    size_t len = 0;
    do {
        bytes[len++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value > 0);
    buf_put(b, slice_of(bytes, len));
}

void buf_string(struct buf *b, struct slice s)
{
    assert(s.len <= UINT16_MAX);
    buf_u16(b, (uint16_t)s.len);
    buf_put(b, s);
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= b->len);
    b->len -= (uint32_t)n;
    if (n > 0 && b->len > 0) {
        memmove(b->ptr, b->ptr + n, b->len);
    }
}

struct buf buf_pool_get(struct buf_pool *pool)
{
    if (pool->count == 0) {
        return (struct buf){0};
    }
    struct buf b = pool->spare[--pool->count];
    assert(pool->bytes >= b.cap);
    pool->bytes -= b.cap;
    return b;
}

void buf_pool_put(struct buf_pool *pool, struct buf *b)
{
    if (b->cap == 0 || pool->count == BUF_POOL_MAX || pool->bytes + b->cap > BUF_POOL_BYTES_MAX) {
        buf_deinit(b);
        return;
    }
    pool->spare[pool->count++] = (struct buf){.ptr = b->ptr, .cap = b->cap};
    pool->bytes += b->cap;
    *b = (struct buf){0};
}

void buf_pool_trim(struct buf_pool *pool, unsigned keep)
{
    while (pool->count > keep) {
        struct buf b = buf_pool_get(pool);
        buf_deinit(&b);
    }
}
