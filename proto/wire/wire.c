#include "proto/wire/wire.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/base/cursor.h"

#define DEPTH_MAX 4u   /* no message of ours is deeper, and none contains itself */
#define FIELDS_MAX 64u /* of one type, by number */
#define COST 8u        /* bytes of memory that a byte of a frame may take */
#define COST_LEAST 4096u

void wire_arena_deinit(struct wire_arena *arena)
{
    free(arena->ptr);
    *arena = (struct wire_arena){0};
}

/* ---- looking a frame through ---- */

/* A base-128 number of up to ten bytes. */
static uint64_t read_varint(struct cursor *c)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint8_t byte = cursor_u8(c);
        value |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if (byte < 0x80) {
            return value;
        }
    }
    c->failed = true;
    return 0;
}

/* Pass over the value of a field. Returns its bytes if it has a length. */
static struct slice read_value(struct cursor *c, unsigned wire_type)
{
    switch (wire_type) {
    case PROTOBUF_C_WIRE_TYPE_VARINT:
        read_varint(c);
        break;
    case PROTOBUF_C_WIRE_TYPE_64BIT:
        cursor_take(c, 8);
        break;
    case PROTOBUF_C_WIRE_TYPE_32BIT:
        cursor_take(c, 4);
        break;
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED: {
        uint64_t len = read_varint(c);
        return cursor_take(c, len > SIZE_MAX / 2 ? SIZE_MAX / 2 : (size_t)len);
    }
    default: /* groups have long been given up */
        c->failed = true;
    }
    return slice_of(NULL, 0);
}

static bool sound(const ProtobufCMessageDescriptor *type, struct slice bytes, unsigned depth)
{
    struct cursor c = cursor_at(bytes);
    uint64_t seen = 0;
    unsigned unknown = 0;

    if (depth == DEPTH_MAX) {
        return false;
    }
    while (!c.failed && cursor_left(&c) > 0) {
        uint64_t tag = read_varint(&c);
        uint64_t number = tag >> 3;
        struct slice value = read_value(&c, (unsigned)tag & 7);
        const ProtobufCFieldDescriptor *field =
            number > 0 && number < FIELDS_MAX ? protobuf_c_message_descriptor_get_field(type, (unsigned)number) : NULL;
        if (c.failed || number == 0 || (!field && ++unknown > WIRE_UNKNOWN_MAX)) {
            return false;
        }
        if (!field) {
            continue;
        }
        if (field->label != PROTOBUF_C_LABEL_REPEATED && seen >> number & 1) {
            return false;
        }
        seen |= 1ull << number;
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && !sound(field->descriptor, value, depth + 1)) {
            return false;
        }
    }
    return !c.failed;
}

/* ---- unpacking ---- */

static void *arena_alloc(void *data, size_t n)
{
    struct wire_arena *a = data;
    size_t room = (n + 15) & ~(size_t)15;

    if (room < n || room > a->size - a->used) {
        return NULL;
    }
    void *at = a->ptr + a->used;
    a->used += room;
    return at;
}

static void arena_free(void *data, void *at)
{
    (void)data;
    (void)at;
}

static int arena_begin(struct wire_arena *a, size_t frame_bytes)
{
    size_t wanted = frame_bytes > WIRE_BYTES_MAX / COST ? WIRE_BYTES_MAX : frame_bytes * COST + COST_LEAST;

    a->used = 0;
    if (a->size >= wanted && a->size <= 4 * wanted) {
        return 0;
    }
    wire_arena_deinit(a);
    a->ptr = malloc(wanted);
    a->size = a->ptr ? wanted : 0;
    return a->ptr ? 0 : -ENOMEM;
}

int wire_decode(const ProtobufCMessageDescriptor *type, struct slice bytes, struct wire_arena *arena,
                ProtobufCMessage **ret_message)
{
    ProtobufCAllocator allocator = {arena_alloc, arena_free, arena};

    if (!sound(type, bytes, 0)) {
        return -EPROTO;
    }
    int rc = arena_begin(arena, bytes.len);
    if (rc) {
        return rc;
    }
    *ret_message = protobuf_c_message_unpack(type, &allocator, bytes.len, bytes.ptr);
    return *ret_message ? 0 : -EPROTO;
}

int wire_encode(const ProtobufCMessage *message, struct buf *out)
{
    size_t len = protobuf_c_message_get_packed_size(message);

    if (len == 0) {
        return 0;
    }
    uint8_t *at = buf_extend(out, len);
    if (!at) {
        out->failed = false;
        return -ENOMEM;
    }
    protobuf_c_message_pack(message, at);
    return 0;
}
