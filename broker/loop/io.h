/* io.h -- the door to the kernel: sockets of one shard, served by io_uring or epoll.
 *
 * Why: everything above this door is free of system calls, and what stands behind it can be exchanged: io_uring where
 * the kernel and the container allow it, epoll elsewhere, and the tests' own network. All three keep the same promises:
 *
 *   - One `struct io` belongs to one thread; only io_wake may be called from another.
 *   - Callbacks run inside io_reap alone: not inside a call that starts something, nor while the shard counts as
 * asleep.
 *   - An object that was started (stream, listener) stays where it is in memory until its `closed` callback.
 *   - Nothing is sent before io_submit_wait: all output of one turn leaves in one system call.
 *
 * A stream is embedded in the object it serves (CONTAINER_OF brings that back). */
#ifndef TERN_BROKER_LOOP_IO_H
#define TERN_BROKER_LOOP_IO_H

#include <sys/socket.h>

#include "proto/base/list.h"
#include "proto/base/slice.h"

enum io_backend { IO_AUTO, IO_URING, IO_EPOLL };

struct io; /* opaque; begins with a pointer to the backend's operations */
struct io_stream;
struct io_listener;
struct msghdr;

struct io_stream_handler {
    /* Bytes came. They are borrowed until the callback returns. A few calls may still follow io_stream_recv_stop. */
    void (*received)(struct io_stream *s, struct slice data);
    /* The peer has closed its side (error 0) or the connection broke (negative errno). Called at most once; nothing is
     * received any more. The stream stays open until io_stream_close. What was received before a send failed comes
     * first. */
    void (*ended)(struct io_stream *s, int error);
    /* Everything given to io_stream_send is with the kernel; the memory may be used again. Not called after ended with
     * an error nor after io_stream_close. After ended with 0 it answers a failed send too: nobody is left to tell. */
    void (*sent)(struct io_stream *s);
    /* Answer to io_stream_close: the descriptor is closed and the kernel holds nothing of s. The last callback; may
     * free s. */
    void (*closed)(struct io_stream *s);
};

/* Public: fd and handler. The rest is the door's. Kept small: one exists for each connection. */
struct io_stream {
    const struct io_stream_handler *handler;
    struct list link; /* in at most one of the door's lists: sends, to be armed again, closing */
    union {           /* what is still to be sent; borrowed from the caller until sent or closed */
        const uint8_t *send_ptr;
        struct msghdr *send_vector;
    };
    uint32_t send_len; /* after a failed send: its errno */
    int fd;            /* -1 while not attached */
    uint16_t flags;    /* the backend's */
    uint16_t ops;      /* requests that the kernel still holds */
    uint32_t events;   /* epoll: what is registered */
};

struct io_listener_handler {
    void (*accepted)(struct io_listener *l, int fd); /* fd is the callee's: non-blocking, close on exec */
    /* Accepting failed with a lasting error such as EMFILE; the door pauses for 100 ms and tries again by itself. */
    void (*failed)(struct io_listener *l, int error);
    void (*closed)(struct io_listener *l);
};

struct io_listener {
    const struct io_listener_handler *handler;
    int fd;
    uint16_t flags, ops;
    struct list link;
    uint64_t retry_at_ms;
};

#define IO_DATAGRAM_MAX 2048 /* bytes; longer ones are dropped */

struct io_datagram;

struct io_datagram_handler {
    /* A datagram came; both are borrowed until the callback returns. */
    void (*received)(struct io_datagram *d, struct slice data, const struct sockaddr *from, socklen_t from_len);
};

/* A bound socket for few datagrams. Lives as long as the door. */
struct io_datagram {
    const struct io_datagram_handler *handler;
    int fd;
};

struct io_options {
    enum io_backend backend;
    unsigned recv_buffer_count;                                        /* power of two; 0: 1024 */
    unsigned recv_buffer_bytes;                                        /* 0: 4096 */
    int (*door)(const struct io_options *options, struct io **ret_io); /* a door of the tests' own; NULL: by backend */
};

/* Open a door in the thread that will use it. IO_AUTO takes io_uring if the system lets it, else epoll.
 * Receive buffers are made resident here, so that memory does not grow later.
 * Returns 0, -ENOMEM, or what the kernel answered (-EPERM, -ENOSYS: io_uring is forbidden here). */
int io_open(const struct io_options *options, struct io **ret_io);

/* Close everything that is still open without callbacks, and free the door. */
void io_close(struct io *io);

/* "io_uring" or "epoll", for the log. */
const char *io_name(const struct io *io);

/* A TCP socket on its way to this address, for io_stream_attach. A descriptor, or a negative errno. */
int io_dial(struct io *io, const struct sockaddr *to, socklen_t to_len);

/* Take fd, a non-blocking stream socket, connected or being connected, under this door. Receives nothing yet. Sets all
 * of *s but its handler, which the caller has set. Returns 0 or a negative errno, fd then still the caller's. */
int io_stream_attach(struct io *io, struct io_stream *s, int fd);

/* Receive from now on, call after call. Idempotent. After a stop, a new start continues the stream without loss. */
void io_stream_recv_start(struct io *io, struct io_stream *s);

/* Receive once: after one `received` (or `ended`) nothing is armed. Used until a connection has found its shard. */
void io_stream_recv_once(struct io *io, struct io_stream *s);

/* Stop receiving, so that the peer's TCP window fills: back pressure. Idempotent. */
void io_stream_recv_stop(struct io *io, struct io_stream *s);

/* Whether a receive is armed or being stopped. */
bool io_stream_receiving(const struct io_stream *s);

/* Send len bytes at data in the coming io_submit_wait. One send at a time: not again before `sent`. */
void io_stream_send(struct io *io, struct io_stream *s, const void *data, uint32_t len);

/* The same for who has nothing more to send for now: `sent` may come only after the coming sleep, which saves a system
 * call. After a plain io_stream_send the next io_submit_wait does not sleep, so that `sent` comes at once. Either way
 * it comes behind the turn's `received`: output belongs to the end of the turn. */
void io_stream_send_last(struct io *io, struct io_stream *s, const void *data, uint32_t len);

/* Send the pieces of vector (msg_iov, at least one, none of them empty; the other fields are 0), len bytes in all, one
 * after the other. The vector, its pieces and their bytes are borrowed until `sent` or `closed`; the door takes off the
 * vector what has been sent. last: as io_stream_send_last. Worth its price from pieces of some KiB on. */
void io_stream_send_vector(struct io *io, struct io_stream *s, struct msghdr *vector, uint32_t len, bool last);
bool io_stream_sending(const struct io_stream *s);

/* Leave this door with the descriptor open, to be attached to another shard's. Only while nothing is armed or in flight
 * (after recv_once has answered); asserted. */
void io_stream_detach(struct io *io, struct io_stream *s);

/* Close: pending sends are given up, `closed` follows in a later turn, nothing else before it. Idempotent.
 * To see a last packet out, wait for `sent` first. */
void io_stream_close(struct io *io, struct io_stream *s);

/* Accept on fd, a listening socket, until io_listener_close, which closes fd. Returns 0 or a negative errno, fd then
 * still the caller's. Sets all of *l but its handler. */
int io_listener_start(struct io *io, struct io_listener *l, int fd);
void io_listener_close(struct io *io, struct io_listener *l);

/* Receive from fd, a bound, non-blocking UDP socket, until io_close, which closes it. Returns 0 or a negative errno, fd
 * then still the caller's. */
int io_datagram_start(struct io *io, struct io_datagram *d, int fd);

/* Send one, at once or not at all; it may get lost on the way anyway. */
void io_datagram_send(struct io *io, struct io_datagram *d, struct slice data, const struct sockaddr *to,
                      socklen_t to_len);

/* Handle what the last io_submit_wait found ready, at most about `budget` completions. Makes no system call while
 * nothing fails or closes. Returns how many there were. */
unsigned io_reap(struct io *io, unsigned budget);

/* Submit everything that was started and, unless `nowait`, sleep until something is ready, another thread calls
 * io_wake, or deadline_ns (of clock_mono_ns; UINT64_MAX: none) has passed. May return early. */
void io_submit_wait(struct io *io, bool nowait, uint64_t deadline_ns);

/* End a sleep in io_submit_wait, or the next one. From any thread; cheap to call twice. */
void io_wake(struct io *io);

#endif
