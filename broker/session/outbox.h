/* outbox.h -- what waits to be sent to one client: copied bytes, and between them the payloads of large messages, which
 * are not copied.
 *
 * Why: a small packet is copied faster than it is looked after, and joins others in one piece of memory. A large
 * payload for a thousand subscribers would be copied a thousand times, into memory that no cache holds; here each
 * outbox has a reference to the message, and the kernel reads the one payload again and again.
 *
 *     bytes   | head head | head |  packets  |          refs say where a payload stands and whose it is
 *                    ^payload    ^payload
 *
 * Touched by: the connection that owns it, on that connection's shard. No IO. */
#ifndef TERN_BROKER_SESSION_OUTBOX_H
#define TERN_BROKER_SESSION_OUTBOX_H

#include <sys/socket.h>

#include "broker/topic/message.h"
#include "proto/base/buf.h"

/* A shorter payload is better copied. Measured with 1000 subscribers: 1 KiB costs the same either way, 2 KiB a quarter
 * less by reference. */
#define OUTBOX_SHARED_BYTES_MIN 2048u
/* Payloads in one outbox; what comes behind them is copied. A send has two pieces for each, and the kernel takes 1024.
 */
#define OUTBOX_REFS_MAX 256u
/* Bytes of them, so that one send stays below 2 GiB, whatever the configuration says. */
#define OUTBOX_REF_BYTES_MAX (1u << 29)

struct outbox_ref {
    struct message *message; /* counted */
    uint32_t at;             /* its payload is sent when so many of the copied bytes have been */
};

/* Exists while there is a reference. */
struct outbox_refs {
    uint32_t count, cap;
    uint32_t bytes;          /* of all payloads */
    struct msghdr vector;    /* see outbox_vector */
    struct outbox_ref ref[]; /* cap of them, then the pieces of the vector */
};

struct outbox {
    struct buf bytes;
    struct outbox_refs *refs; /* owned; NULL: nothing but bytes */
};

/* Everything that waits, payloads included. */
static inline size_t outbox_size(const struct outbox *o)
{
    return o->refs ? (size_t)o->bytes.len + o->refs->bytes : o->bytes.len;
}

/* Append the payload of m behind the bytes written so far. Takes its own reference; copies instead where the bounds
 * above or memory forbid it. Failure to do either is bytes.failed. */
void outbox_put_payload(struct outbox *o, struct message *m);

/* The content in order, for io_stream_send_vector; to be called once, and nothing may be put in any more. Only with
 * refs. Borrowed from o until outbox_clear; the door may change it. */
struct msghdr *outbox_vector(struct outbox *o);

/* Sent, or given up: drop the references, and put the memory of the bytes back into the pool. */
void outbox_clear(struct outbox *o, struct buf_pool *pool);

#endif
