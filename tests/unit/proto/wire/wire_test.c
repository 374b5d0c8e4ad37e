#include <errno.h>
#include <stdlib.h>

#include "proto/wire/peer.pb-c.h"
#include "proto/wire/wire.h"
#include "tests/lib/unit.h"

static int decode(const char *hex, struct wire_arena *arena, const ProtobufCMessageDescriptor *type)
{
    struct slice s = unit_hex(hex);
    ProtobufCMessage *m;
    int rc = wire_decode(type, s, arena, &m);

    free((void *)(uintptr_t)s.ptr);
    return rc;
}

static void test_there_and_back(void)
{
    Tern__Routes m = TERN__ROUTES__INIT;
    Tern__RouteOp op = TERN__ROUTE_OP__INIT, *ops[] = {&op};
    uint64_t added[] = {1, UINT64_MAX};
    struct wire_arena arena = {0};
    struct buf out = {0};
    ProtobufCMessage *back;

    m.begin = true;
    m.n_added = 2;
    m.added = added;
    op.filter.data = (uint8_t *)"a/+";
    op.filter.len = 3;
    op.share = 9;
    m.n_ops = 1;
    m.ops = ops;
    CHECK(wire_encode(&m.base, &out) == 0);
    CHECK(wire_decode(&tern__routes__descriptor, buf_slice(&out), &arena, &back) == 0);
    Tern__Routes *r = (Tern__Routes *)back;
    CHECK(r->begin && !r->end && r->n_added == 2 && r->added[1] == UINT64_MAX && r->n_ops == 1);
    CHECK(r->ops[0]->filter.len == 3 && memcmp(r->ops[0]->filter.data, "a/+", 3) == 0 && r->ops[0]->share == 9);
    for (uint32_t len = 0; len < out.len; len++) { /* cut anywhere: refused, or a whole message with less in it */
        int rc = wire_decode(&tern__routes__descriptor, slice_of(out.ptr, len), &arena, &back);
        CHECK(rc == 0 || rc == -EPROTO);
    }
    buf_deinit(&out);
    wire_arena_deinit(&arena);
}

static void test_empty(void)
{
    Tern__RoutesDone m = TERN__ROUTES_DONE__INIT;
    struct wire_arena arena = {0};
    struct buf out = {0};
    ProtobufCMessage *back;

    CHECK(wire_encode(&m.base, &out) == 0 && out.len == 0);
    CHECK(wire_decode(&tern__routes_done__descriptor, buf_slice(&out), &arena, &back) == 0);
    CHECK(((Tern__RoutesDone *)back)->barrier == 0);
    wire_arena_deinit(&arena);
}

static void test_refused(void)
{
    static const struct {
        const char *name, *hex;
        int expect;
    } cases[] = {
        {"one flag", "08 01", 0},
        {"the same flag twice", "08 01 08 01", -EPROTO},
        {"an unknown field", "f8 07 01", 0},
        {"field number 0", "00 01", -EPROTO},
        {"a group", "0b 0c", -EPROTO},
        {"a length beyond the end", "2a 05 00", -EPROTO},
        {"a length beyond everything", "2a ff ff ff ff ff ff ff ff ff 01", -EPROTO},
        {"a number of eleven bytes", "08 ff ff ff ff ff ff ff ff ff ff 01", -EPROTO},
        {"a sub-message with a field twice", "2a 04 20 01 20 01", -EPROTO},
        {"a sub-message cut short", "2a 01 09", -EPROTO},
    };
    struct wire_arena arena = {0};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CHECK_CASE(cases[i].name, decode(cases[i].hex, &arena, &tern__routes__descriptor) == cases[i].expect);
    }
    wire_arena_deinit(&arena);
}

/* What costs more memory than its bytes may is refused, however little that is. */
static void test_costly(void)
{
    struct wire_arena arena = {0};
    struct buf frame = {0};
    ProtobufCMessage *m;

    for (unsigned i = 0; i < WIRE_UNKNOWN_MAX; i++) {
        buf_put(&frame, slice_of("\xf8\x07\x01", 3));
    }
    CHECK(wire_decode(&tern__routes__descriptor, buf_slice(&frame), &arena, &m) == 0);
    buf_put(&frame, slice_of("\xf8\x07\x01", 3));
    CHECK(wire_decode(&tern__routes__descriptor, buf_slice(&frame), &arena, &m) == -EPROTO);
    frame.len = 0;
    for (unsigned i = 0; i < 100000; i++) { /* empty sub-messages: two bytes each, some eighty in memory */
        buf_put(&frame, slice_of("\x2a\x00", 2));
    }
    CHECK(wire_decode(&tern__routes__descriptor, buf_slice(&frame), &arena, &m) == -EPROTO);
    CHECK(arena.size <= 8u * 200000 + 4096);
    buf_deinit(&frame);
    wire_arena_deinit(&arena);
}

UNIT_MAIN("proto/wire/wire", {"there and back", test_there_and_back}, {"empty", test_empty}, {"refused", test_refused},
          {"costly", test_costly})
