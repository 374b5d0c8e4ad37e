/* wire.h -- protobuf messages between nodes, decoded within stated bounds.
 *
 * Why: protobuf-c allocates piece by piece what a frame claims, keeps unknown fields each in memory of its own, and
 * merges a sub-message that is sent twice at quadratic cost. A peer that has gone mad must not cost more than its
 * frame: so frames are looked through first, and unpacked into one piece of memory with an end.
 *
 * The messages themselves: peer.proto, generated into the build directory. */
#ifndef TERN_PROTO_WIRE_WIRE_H
#define TERN_PROTO_WIRE_WIRE_H

#include <protobuf-c/protobuf-c.h>

#include "proto/base/buf.h"

#define WIRE_UNKNOWN_MAX 32u       /* unknown fields in one message */
#define WIRE_BYTES_MAX (16u << 20) /* memory of one decoded message */

/* Memory of decoded messages, used over and over. All zero: empty. */
struct wire_arena {
    uint8_t *ptr; /* owned */
    size_t used, size;
};
void wire_arena_deinit(struct wire_arena *arena);

/* Decode one message, which lives until the next call with this arena; texts and bytes are copies. Returns 0, -EPROTO
 * (malformed, a singular field twice, too many unknown ones, too large for its frame) or -ENOMEM. */
int wire_decode(const ProtobufCMessageDescriptor *type, struct slice bytes, struct wire_arena *arena,
                ProtobufCMessage **ret_message);

/* Append the encoded message. Returns 0 or -ENOMEM, out unchanged. */
int wire_encode(const ProtobufCMessage *message, struct buf *out);

#endif
