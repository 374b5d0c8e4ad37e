/* io_backend.h -- what the implementations of the door share, and the table of operations that each one fills.
 *
 * Why: the promises of io.h (one `ended`, `sent` or silence, `closed` last and later) are kept in io.c once; a backend
 * only moves bytes and reports. Included by io.c and the backends, by nobody else. Touched by: the door's thread, but
 * for io_wake. */
#ifndef TERN_BROKER_LOOP_IO_BACKEND_H
#define TERN_BROKER_LOOP_IO_BACKEND_H

#include "broker/loop/io.h"

#include <stdatomic.h>

/* io_stream.flags and io_listener.flags. The first group says what the owner asked for, the second what came of it. */
enum {
    IO_WANT = 1 << 0,       /* receiving is wanted */
    IO_ONCE = 1 << 1,       /* ... until the next `received` */
    IO_SENDING = 1 << 2,    /* a send has not been answered; stays set when the stream broke */
    IO_CLOSING = 1 << 3,    /* the owner hears only `closed` from now on */
    IO_ENDED = 1 << 4,      /* `ended` was called */
    IO_BROKEN = 1 << 5,     /* with an error, or it will be: nothing can be sent */
    IO_QUEUED = 1 << 6,     /* link is in a list of sends */
    IO_RETRY = 1 << 7,      /* io_uring: to be armed (or cancelled) again; link is in that list unless QUEUED */
    IO_ARMED = 1 << 8,      /* io_uring: the kernel holds a receive or an accept */
    IO_MULTI = 1 << 9,      /* ... that answers many times */
    IO_CANCELING = 1 << 10, /* ... and was asked to give it up */
    IO_OUT = 1 << 11,       /* epoll: waits for room in the socket */
    IO_FAILED = 1 << 12,    /* epoll: the send failed with send_len, to be reported */
    IO_VECTOR = 1 << 13,    /* what is sent is send_vector, not send_ptr */
};

#define IO_RETRY_MS 100 /* pause of a listener that cannot accept */

struct io_ops {
    const char *name;
    void (*close)(struct io *io); /* the kernel side and the door itself */
    int (*attach)(struct io *io, struct io_stream *s);
    void (*arm)(struct io *io, struct io_stream *s);    /* WANT was set */
    void (*disarm)(struct io *io, struct io_stream *s); /* WANT was cleared */
    void (*shut)(struct io *io, struct io_stream *s); /* CLOSING was set: call io_stream_over when the kernel is done */
    void (*release)(struct io *io, struct io_stream *s); /* nothing is in flight; forget s and its descriptor */
    int (*listen)(struct io *io, struct io_listener *l);
    void (*accept_arm)(struct io *io, struct io_listener *l);
    void (*accept_shut)(struct io *io, struct io_listener *l); /* as shut, with io_listener_over */
    void (*accept_release)(struct io *io, struct io_listener *l);
    int (*datagram)(struct io *io,
                    struct io_datagram *d); /* say io_datagram_ready when it can be read, again and again */
    /* For a door without a kernel; NULL: the kernel's. */
    int (*dial)(struct io *io, const struct sockaddr *to, socklen_t to_len);
    void (*datagram_send)(struct io *io, struct io_datagram *d, struct slice data, const struct sockaddr *to,
                          socklen_t to_len);
    unsigned (*reap)(struct io *io, unsigned budget);
    void (*submit_wait)(struct io *io, bool nowait, uint64_t deadline_ns);
};

/* The common part of every door; first member of each backend's own. */
struct io {
    const struct io_ops *ops;
    struct list to_send; /* streams with a send that the kernel has not seen */
    struct list closing; /* streams that are over: closed and told in the next io_reap */
    struct list closing_listeners;
    struct list paused;  /* listeners, in the order of retry_at_ms */
    bool prompt;         /* somebody in to_send waits for his `sent` */
    int wake_fd;         /* eventfd; -1 for a door without one */
    uint64_t *open_bits; /* owned: descriptors under this door, for io_close */
    unsigned open_words;
    _Alignas(64) atomic_bool woken; /* wake_fd has been written and not yet been seen */
};

/* For the backends: prepare the common part, undo it. */
void io_init(struct io *io, const struct io_ops *ops);
void io_deinit(struct io *io);

int io_uring_door_open(const struct io_options *options, struct io **ret_io);
int io_epoll_door_open(const struct io_options *options, struct io **ret_io);

/* What happened, from a backend to the owner. Each may detach or move s: touch it no more. */
void io_stream_got(struct io_stream *s, struct slice data); /* data.len > 0 */
void io_stream_end(struct io_stream *s, int error);
void io_stream_sent(struct io_stream *s);
void io_stream_send_failed(struct io_stream *s, int error);

/* A datagram socket can be read: take some. */
void io_datagram_ready(struct io_datagram *d);

/* The kernel has taken n more of the bytes to be sent. */
void io_stream_took(struct io_stream *s, uint32_t n);

/* The kernel holds nothing of a closing stream or listener any more. */
void io_stream_over(struct io *io, struct io_stream *s);
void io_listener_over(struct io *io, struct io_listener *l);

/* An accept answered with an error: arm again, now if it concerns one connection only, else after a pause. */
void io_listener_failed(struct io *io, struct io_listener *l, int error);
void io_listener_pause(struct io *io, struct io_listener *l);

/* Arm the paused listeners whose time has come. Returns the earlier of deadline_ns and the next of them. */
uint64_t io_listeners_resume(struct io *io, uint64_t deadline_ns);

/* Close what is over and say so. Returns how many. */
unsigned io_run_closed(struct io *io);

static inline bool io_closing(const struct io *io)
{
    return !list_empty(&io->closing) || !list_empty(&io->closing_listeners);
}

#endif
