/* io_uring_door.h -- what io_uring.c (the turn) and io_uring_setup.c (opening, probing, closing) share. For those two
 * alone. */
#ifndef TERN_BROKER_LOOP_IO_URING_DOOR_H
#define TERN_BROKER_LOOP_IO_URING_DOOR_H

#include "broker/loop/io_backend.h"

#include <assert.h>
#include <liburing.h>

#define IO_URING_BUFFER_GROUP 1

enum kind { KIND_NONE, KIND_RECV, KIND_TRY, KIND_SEND, KIND_ACCEPT, KIND_TICK, KIND_WAKE, KIND_POLL, KIND_MASK = 7 };

struct uring {
    struct io io;
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring; /* owned: shared with the kernel */
    size_t buffer_ring_bytes;
    uint8_t *buffers; /* owned */
    uint32_t buffer_bytes;
    unsigned buffer_count;
    unsigned returned; /* buffers of this io_reap, not yet in the ring's tail */
    struct list flying, flown, retry;
    unsigned flown_at; /* tail of the completion queue at which flown is settled */
    bool prompt;       /* somebody in flying or flown waits for his `sent` */
    bool tick_armed, wake_armed, ring_made;
    uint64_t tick_ns;
    struct __kernel_timespec tick;
    uint64_t wake_count; /* the kernel writes the eventfd's value here */
};

static inline struct uring *uring_of(struct io *io)
{
    return CONTAINER_OF(io, struct uring, io);
}

static inline void io_uring_tag(struct io_uring_sqe *sqe, const void *object, enum kind kind)
{
    assert(((uintptr_t)object & KIND_MASK) == 0);
    io_uring_sqe_set_data64(sqe, (uintptr_t)object | kind);
}

/* Give a receive buffer back. Seen by the kernel after io_uring_buffers_advance. */
static inline void io_uring_buffer_return(struct uring *u, unsigned id)
{
    io_uring_buf_ring_add(u->buffer_ring, u->buffers + (size_t)id * u->buffer_bytes, u->buffer_bytes,
                          (unsigned short)id, io_uring_buf_ring_mask(u->buffer_count), (int)u->returned++);
}

static inline void io_uring_buffers_advance(struct uring *u)
{
    if (u->returned) {
        io_uring_buf_ring_advance(u->buffer_ring, (int)u->returned);
        u->returned = 0;
    }
}

extern const struct io_ops io_uring_ops;
void io_uring_door_close(struct io *io);

#endif
