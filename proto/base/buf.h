/* buf.h -- bytes that grow at their end.
 *
 * Why: encoders append fields and ask once, at the end, whether memory sufficed: a failed
 * allocation is sticky and leaves the length where it was. The writer that needs speed reserves
 * once and writes through the pointer. */
#ifndef TERN_PROTO_BASE_BUF_H
#define TERN_PROTO_BASE_BUF_H

#include "proto/base/slice.h"

struct buf {
    uint8_t *ptr; /* owned; NULL while cap is 0 */
    uint32_t len;
    uint32_t cap : 31;
    uint32_t failed : 1; /* beside cap, for three of these stand in each connection */
};

/* Free the memory; the buf is empty and usable again. */
void buf_deinit(struct buf *b);

/* Make room for n more bytes. Returns 0 or -ENOMEM (sticky: b->failed). Not inline part. */
int buf_grow(struct buf *b, size_t n);

static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->ptr, b->len};
}

/* Room for n > 0 bytes at the end, already counted in len; NULL when memory is out. */
static inline uint8_t *buf_extend(struct buf *b, size_t n)
{
    if (b->cap - b->len < n && buf_grow(b, n) != 0) {
        return NULL;
    }
    uint8_t *at = b->ptr + b->len;
    b->len += (uint32_t)n;
    return at;
}

static inline void buf_put(struct buf *b, struct slice s)
{
    if (s.len == 0) {
        return;
    }
    uint8_t *at = buf_extend(b, s.len);
    if (at) {
        memcpy(at, s.ptr, s.len);
    }
}

/* Numbers are written big-endian, strings and binary data behind two bytes of length. */
void buf_u8(struct buf *b, uint8_t value);
void buf_u16(struct buf *b, uint16_t value);
void buf_u32(struct buf *b, uint32_t value);
void buf_u64(struct buf *b, uint64_t value);
void buf_varint(struct buf *b, uint32_t value);
void buf_string(struct buf *b, struct slice s);

/* Drop the first n bytes, moving the rest to the front. */
void buf_consume(struct buf *b, size_t n);

/* Spare memory of sent buffers, so that steady traffic allocates nothing. One per shard. */
#define BUF_POOL_MAX 2048
struct buf_pool {
    struct buf spare[BUF_POOL_MAX];
    unsigned count;
    size_t bytes; /* sum of the capacities kept; bounded by BUF_POOL_BYTES_MAX */
};
#define BUF_POOL_BYTES_MAX (8u << 20)

/* An empty buf, with memory if some is spare. */
struct buf buf_pool_get(struct buf_pool *pool);

/* Take b's memory back, or free it when the pool has enough; b is empty afterwards. */
void buf_pool_put(struct buf_pool *pool, struct buf *b);

/* Free all but keep spare buffers; called when the shard has been idle. */
void buf_pool_trim(struct buf_pool *pool, unsigned keep);

#endif
