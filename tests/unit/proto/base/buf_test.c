/* buf_test.c -- growing buffers, their sticky failure, and the pool of spare ones. */
#include <errno.h>
#include <stdlib.h>

#include "proto/base/buf.h"
#include "tests/lib/unit.h"

static bool holds(const struct buf *b, const char *hex)
{
    struct slice want = unit_hex(hex);
    bool same = slice_eq(buf_slice(b), want);
    free((void *)want.ptr);
    return same;
}

static void test_writes(void)
{
    struct buf b = {0};
    buf_u8(&b, 1);
    buf_u16(&b, 0x0203);
    buf_u32(&b, 0x04050607);
    buf_string(&b, SLICE("ab"));
    buf_string(&b, SLICE(""));
    CHECK(!b.failed);
    CHECK(holds(&b, "01 0203 04050607 0002 6162 0000"));
    buf_consume(&b, 3);
    CHECK(holds(&b, "04050607 0002 6162 0000"));
    buf_consume(&b, b.len);
    CHECK(b.len == 0);
    buf_deinit(&b);
    CHECK(b.ptr == NULL && b.cap == 0);
}

static const struct {
    uint32_t value;
    const char *hex;
} varints[] = {
    {0, "00"},         {127, "7f"},         {128, "8001"},         {16383, "ff7f"},
    {16384, "808001"}, {2097151, "ffff7f"}, {2097152, "80808001"}, {268435455, "ffffff7f"},
};

static void test_varint(void)
{
    for (size_t i = 0; i < COUNT_OF(varints); i++) {
        struct buf b = {0};
        buf_varint(&b, varints[i].value);
        CHECK_CASE(varints[i].hex, holds(&b, varints[i].hex));
        buf_deinit(&b);
    }
}

static void test_growth_keeps_bytes(void)
{
    struct buf b = {0};
    for (uint32_t i = 0; i < 100000; i++) {
        buf_u8(&b, (uint8_t)(i * 7));
    }
    CHECK(b.len == 100000);
    CHECK(b.cap >= b.len && b.cap < 2 * b.len + 64);
    bool same = true;
    for (uint32_t i = 0; i < b.len; i++) {
        same = same && b.ptr[i] == (uint8_t)(i * 7);
    }
    CHECK(same);
    buf_deinit(&b);
}

static void test_failure_is_sticky(void)
{
    struct buf b = {0};
    buf_u16(&b, 7);
    CHECK(buf_extend(&b, (size_t)UINT32_MAX) == NULL); /* more than a buf may ever hold */
    CHECK(b.failed);
    CHECK(b.len == 2);
    CHECK(buf_grow(&b, 1u << 20) == -ENOMEM);
    CHECK(buf_grow(&b, SIZE_MAX) == -ENOMEM);
    CHECK(holds(&b, "0007"));
    buf_deinit(&b);
    CHECK(!b.failed);
    buf_u8(&b, 1);
    CHECK(b.len == 1);
    buf_deinit(&b);
}

static void test_pool_lends_memory_again(void)
{
    static struct buf_pool pool;
    struct buf b = buf_pool_get(&pool);
    CHECK(b.cap == 0);
    buf_u32(&b, 1);
    uint8_t *memory = b.ptr;
    uint32_t cap = b.cap;
    buf_pool_put(&pool, &b);
    CHECK(b.ptr == NULL && b.len == 0 && b.cap == 0);
    CHECK(pool.count == 1 && pool.bytes == cap);

    struct buf again = buf_pool_get(&pool);
    CHECK(again.ptr == memory && again.len == 0 && again.cap == cap && !again.failed);
    CHECK(pool.count == 0 && pool.bytes == 0);
    buf_pool_put(&pool, &again);
    buf_pool_trim(&pool, 0);
    CHECK(pool.count == 0 && pool.bytes == 0);
}

static void test_pool_is_bounded(void)
{
    static struct buf_pool pool;
    for (unsigned i = 0; i < BUF_POOL_MAX + 10; i++) {
        struct buf b = {0};
        buf_u8(&b, 1);
        buf_pool_put(&pool, &b);
        CHECK(b.ptr == NULL);
    }
    CHECK(pool.count == BUF_POOL_MAX);

    buf_pool_trim(&pool, 5);
    CHECK(pool.count == 5);
    struct buf big = {0};
    CHECK(buf_extend(&big, BUF_POOL_BYTES_MAX + 1) != NULL);
    buf_pool_put(&pool, &big);
    CHECK(pool.count == 5);
    CHECK(big.ptr == NULL);
    buf_pool_trim(&pool, 0);
    CHECK(pool.bytes == 0);
}

/* The bytes kept count together: a buffer that would fit alone is freed beside others. */
static void test_pool_bytes_are_bounded(void)
{
    static struct buf_pool pool;
    struct buf small = {0}, big = {0};

    buf_u8(&small, 1);
    uint32_t small_cap = small.cap;
    buf_pool_put(&pool, &small);
    CHECK(buf_extend(&big, BUF_POOL_BYTES_MAX) != NULL);
    buf_pool_put(&pool, &big);
    CHECK(pool.count == 1 && pool.bytes == small_cap && big.ptr == NULL);
    buf_pool_trim(&pool, 0);

    CHECK(buf_extend(&big, BUF_POOL_BYTES_MAX) != NULL);
    buf_pool_put(&pool, &big);
    CHECK(pool.count == 1 && pool.bytes == BUF_POOL_BYTES_MAX);
    buf_pool_trim(&pool, 0);
}

static void test_empty_put(void)
{
    struct buf b = {0};
    buf_put(&b, slice_of(NULL, 0));
    buf_consume(&b, 0);
    CHECK(b.len == 0 && !b.failed);
    buf_deinit(&b);
}

UNIT_MAIN("proto/base/buf", {"writes", test_writes}, {"varint", test_varint},
          {"growth keeps bytes", test_growth_keeps_bytes}, {"failure is sticky", test_failure_is_sticky},
          {"pool lends memory again", test_pool_lends_memory_again}, {"pool is bounded", test_pool_is_bounded},
          {"pool bytes are bounded", test_pool_bytes_are_bounded}, {"empty put", test_empty_put})
