/* fuzz_wire.c -- any bytes as a message between nodes, whichever: the first byte says which.
 *
 * It is refused, or takes no more memory than its bytes may; and encoded again and decoded it is the same. The same
 * bytes as a forwarded message and as a frame's head are refused or lie within themselves. */
#include <assert.h>
#include <errno.h>

#include "broker/flow/forward_frame.h"
#include "cluster/link_flow.h"
#include "proto/wire/peer.pb-c.h"
#include "proto/wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const types[] = {
    &tern__hello__descriptor,  &tern__hello_answer__descriptor, &tern__members__descriptor,
    &tern__routes__descriptor, &tern__routes_done__descriptor,  &tern__claims__descriptor,
};

static void check_message(const ProtobufCMessageDescriptor *type, struct slice bytes)
{
    struct wire_arena arena = {0}, second = {0};
    struct buf once = {0}, twice = {0};
    ProtobufCMessage *m, *again;

    int rc = wire_decode(type, bytes, &arena, &m);
    assert(rc == 0 || rc == -EPROTO);
    assert(arena.size <= bytes.len * 8 + 4096);
    if (rc == 0) {
        rc = wire_encode(m, &once);
        assert(rc == 0);
        if (wire_decode(type, buf_slice(&once), &second, &again) ==
            0) { /* packed it is shorter, and may cost too much */
            rc = wire_encode(again, &twice);
            assert(rc == 0 && slice_eq(buf_slice(&once), buf_slice(&twice)));
        }
    }
    buf_deinit(&once);
    buf_deinit(&twice);
    wire_arena_deinit(&arena);
    wire_arena_deinit(&second);
}

static bool within(struct slice part, struct slice whole)
{
    return part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len);
}

static void check_forward(struct slice bytes)
{
    struct forward_head head;
    struct slice topic, properties, payload;

    if (forward_head_read(bytes, &head, &topic, &properties, &payload) == 0) {
        uint8_t out[FORWARD_HEAD_BYTES], stamp[FORWARD_STAMP_BYTES];
        forward_head_write(out, &head);
        forward_stamp_write(stamp, head.stamp);
        assert(memcmp(out, bytes.ptr, sizeof(out)) == 0);
        assert(!(head.flags & FORWARD_KEEP) || memcmp(stamp, bytes.ptr + sizeof(out), sizeof(stamp)) == 0);
        assert(topic.len > 0 && within(topic, bytes) && within(properties, bytes) && within(payload, bytes));
    }
}

static void check_frame(struct slice bytes)
{
    uint8_t out[LINK_HEADER_BYTES];
    struct link_frame frame;

    if (bytes.len >= LINK_HEADER_BYTES) {
        link_frame_read(bytes.ptr, &frame);
        link_frame_write(out, &frame);
        assert(memcmp(out, bytes.ptr, sizeof(out)) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0) {
        struct slice rest = slice_of(data + 1, size - 1);
        check_message(types[data[0] % COUNT_OF(types)], rest);
        check_forward(rest);
        check_frame(rest);
    }
    return 0;
}
