/* outbox_test.c -- copied bytes and referenced payloads leave in the order of coming, and every reference is given
 * back, at the bounds and when memory is out too. */
#include "tests/lib/alloc_fail.h"

#include "broker/session/outbox.c"

#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

static struct message *message_of(size_t len, uint8_t fill)
{
    static uint8_t bytes[100000];

    assert(len <= sizeof(bytes));
    memset(bytes, fill, len);
    return make_message(SLICE("t"), slice_of(bytes, len), MESSAGE_NEVER);
}

/* What a socket would be given. The vector is used up as the door does it. */
static struct buf flat(struct outbox *o)
{
    struct buf all = {0};

    if (!o->refs) {
        buf_put(&all, buf_slice(&o->bytes));
        return all;
    }
    struct msghdr *vector = outbox_vector(o);
    CHECK(vector->msg_iovlen <= 1024);
    CHECK(!vector->msg_name && !vector->msg_control && vector->msg_flags == 0);
    for (; vector->msg_iovlen > 0; vector->msg_iov++, vector->msg_iovlen--) {
        CHECK(vector->msg_iov->iov_len > 0);
        buf_put(&all, slice_of(vector->msg_iov->iov_base, vector->msg_iov->iov_len));
    }
    return all;
}

/* "a" to "z" are two bytes copied; "A" to "Z" are payloads of so many bytes. */
static const struct {
    const char *name, *parts;
    size_t payload;
} orders[] = {
    {"bytes alone", "abc", 0},         {"one payload", "aA", 4096},
    {"bytes behind", "aAbc", 4096},    {"many", "aAbBcCdDeEfFgG", 5000},
    {"bytes between", "abcAdefBg", 1}, {"twice the same", "aABb", 70000},
    {"empty payloads", "aABb", 0},     {"no head", "AB", 10},
};

static void test_order(void)
{
    for (size_t row = 0; row < COUNT_OF(orders); row++) {
        struct outbox o = {0};
        struct buf_pool pool = {0};
        struct buf want = {0};
        for (const char *at = orders[row].parts; *at; at++) {
            if (*at >= 'a') {
                buf_put(&o.bytes, slice_of(at, 1));
                buf_put(&o.bytes, slice_of(at, 1));
                buf_put(&want, slice_of(at, 1));
                buf_put(&want, slice_of(at, 1));
                continue;
            }
            struct message *m = message_of(orders[row].payload, (uint8_t)*at);
            outbox_put_payload(&o, m);
            buf_put(&want, message_payload(m));
            message_unref(m); /* the outbox has its own */
        }
        CHECK_CASE(orders[row].name, outbox_size(&o) == want.len);
        struct buf got = flat(&o);
        CHECK_CASE(orders[row].name, slice_eq(buf_slice(&got), buf_slice(&want)));
        outbox_clear(&o, &pool);
        CHECK_CASE(orders[row].name, outbox_size(&o) == 0 && !o.refs && !o.bytes.ptr);
        buf_pool_trim(&pool, 0);
        buf_deinit(&got);
        buf_deinit(&want);
    }
}

static void test_references(void)
{
    struct message *m = message_of(4096, 'm');
    struct outbox o[3] = {0};
    struct buf_pool pool = {0};

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++) {
            buf_u8(&o[i].bytes, 'h');
            outbox_put_payload(&o[i], m);
            buf_u8(&o[i].bytes, 'h');
            outbox_put_payload(&o[i], m);
        }
        CHECK(m->refs == 7);
        CHECK(outbox_size(&o[0]) == 2 * 4097);
        CHECK(o[0].bytes.len == 2);
        outbox_vector(&o[0]);
        outbox_clear(&o[0], &pool);
        outbox_clear(&o[0], &pool); /* empty: nothing to do */
        outbox_clear(&o[1], &pool); /* given up before it was sent */
        CHECK(m->refs == 3);
        outbox_clear(&o[2], &pool);
        CHECK(m->refs == 1);
    }
    buf_pool_trim(&pool, 0);
    message_unref(m);
}

/* At the bound what is too much is copied, and stands where it belongs. */
static void test_count_bound(void)
{
    struct outbox o = {0};
    struct buf_pool pool = {0};
    struct buf want = {0};

    for (unsigned i = 0; i < OUTBOX_REFS_MAX + 3; i++) {
        struct message *m = message_of(100, (uint8_t)i);
        buf_u8(&o.bytes, 'h');
        outbox_put_payload(&o, m);
        buf_u8(&want, 'h');
        buf_put(&want, message_payload(m));
        message_unref(m);
    }
    CHECK(o.refs->count == OUTBOX_REFS_MAX);
    CHECK(outbox_size(&o) == want.len);
    struct buf got = flat(&o);
    CHECK(slice_eq(buf_slice(&got), buf_slice(&want)));
    outbox_clear(&o, &pool);
    buf_pool_trim(&pool, 0);
    buf_deinit(&got);
    buf_deinit(&want);
}

static void test_bytes_bound(void)
{
    struct message *m = message_of(1000, 'm');
    struct outbox o = {0};
    struct buf_pool pool = {0};

    outbox_put_payload(&o, m);
    o.refs->bytes = OUTBOX_REF_BYTES_MAX - 1000; /* as if there were so many */
    outbox_put_payload(&o, m);
    CHECK(o.refs->count == 2 && o.refs->bytes == OUTBOX_REF_BYTES_MAX && o.bytes.len == 0);
    outbox_put_payload(&o, m);
    CHECK(o.refs->count == 2 && o.bytes.len == 1000);
    outbox_clear(&o, &pool);
    CHECK(m->refs == 1);
    buf_pool_trim(&pool, 0);
    message_unref(m);
}

/* No memory for a reference: the payload is copied. */
static void test_no_memory(void)
{
    struct message *m = message_of(3000, 'm');
    struct outbox o = {0};
    struct buf_pool pool = {0};

    for (unsigned i = 0; i < REFS_START + 2; i++) { /* the first, and one that has to grow */
        bool grows = i == 0 || i == REFS_START;
        buf_u8(&o.bytes, (uint8_t)i);
        uint32_t before = o.bytes.len;
        alloc_fail_at = grows ? 1 : 0;
        outbox_put_payload(&o, m);
        CHECK(alloc_fail_at == 0);
        CHECK(o.bytes.len == before + (grows ? 3000 : 0) && !o.bytes.failed);
        if (i == 0) {
            outbox_put_payload(&o, m);
        }
    }
    CHECK(outbox_size(&o) == (REFS_START + 2) + (REFS_START + 3) * 3000);
    struct buf got = flat(&o);
    CHECK(got.len == outbox_size(&o) && got.ptr[0] == 0 && got.ptr[1] == 'm');
    outbox_clear(&o, &pool);
    CHECK(m->refs == 1);
    buf_pool_trim(&pool, 0);
    buf_deinit(&got);
    message_unref(m);
}

UNIT_MAIN("broker/session/outbox", {"order", test_order}, {"references", test_references},
          {"bound of references", test_count_bound}, {"bound of bytes", test_bytes_bound},
          {"no memory", test_no_memory})
