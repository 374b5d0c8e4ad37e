/* io_epoll.c -- the door on epoll, for systems that forbid io_uring, and for sanitizers, which see what it does.
 *
 * Level triggered. One epoll_wait a turn, in io_submit_wait; its events are kept and handled by io_reap. Interest is
 * taken back late: a stream that stops receiving is parked when its next event comes, so that stop and start between
 * two events cost nothing. A parked stream is registered edge triggered without events, for epoll reports errors and
 * hang-ups unasked, and level triggered it would report them without end.
 *
 * All receives share one piece of memory, since it is borrowed for a callback only. Sends are tried in io_submit_wait;
 * what was sent waits in `done` for the next io_reap, and what found no room waits for EPOLLOUT. */
#include "broker/loop/io.h"
#include "broker/loop/io_backend.h"
#include "proto/base/clock.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define ACCEPTS_MAX 64 /* per listener and turn */
#define MEMORY_BUFFERS 16

/* In epoll's data beside the object's address. An event without an address is a wake-up. */
enum kind { KIND_STREAM, KIND_LISTENER, KIND_DATAGRAM, KIND_MASK = 7 };

struct epoll_door {
    struct io io;
    int epoll_fd;
    struct list done; /* streams whose send is over, to be told */
    bool prompt;      /* somebody in done waits for it */
    bool coarse;      /* the kernel sleeps in whole milliseconds only */
    unsigned event_at, event_count;
    size_t memory_bytes;
    uint8_t *memory; /* owned */
    struct epoll_event events[EVENTS_MAX];
};

static struct epoll_door *door_of(struct io *io)
{
    return CONTAINER_OF(io, struct epoll_door, io);
}

static int epoll_change(struct epoll_door *d, int op, int fd, uint32_t events, const void *object, enum kind kind)
{
    assert(((uintptr_t)object & KIND_MASK) == 0);
    struct epoll_event ev = {.events = events, .data.u64 = (uintptr_t)object | kind};
    return epoll_ctl(d->epoll_fd, op, fd, &ev) == 0 ? 0 : -errno;
}

/* Drop what has been read from epoll about an object that goes away. */
static void events_forget(struct epoll_door *d, const void *object)
{
    for (unsigned i = d->event_at; i < d->event_count; i++) {
        if ((d->events[i].data.u64 & ~(uint64_t)KIND_MASK) == (uintptr_t)object) {
            d->events[i].data.u64 = KIND_MASK;
        }
    }
}

static void send_over(struct epoll_door *d, struct io_stream *s, int error)
{
    if (error) {
        s->flags |= IO_FAILED;
        s->send_len = (uint32_t)-error;
    }
    s->flags |= IO_QUEUED;
    list_append(&d->done, &s->link);
}

/* Register what s waits for now. */
static void interest_update(struct epoll_door *d, struct io_stream *s)
{
    uint32_t events = (s->flags & IO_WANT ? (uint32_t)EPOLLIN : 0) | (s->flags & IO_OUT ? (uint32_t)EPOLLOUT : 0);

    if (events == 0) {
        events = EPOLLET;
    }
    if (events != s->events) {
        /* Cannot fail: the descriptor is ours and registered, and a change of events needs no memory. */
        epoll_change(d, EPOLL_CTL_MOD, s->fd, events, s, KIND_STREAM);
        s->events = events;
    }
}

/* ---- streams ---- */

static int epoll_attach(struct io *io, struct io_stream *s)
{
    s->events = EPOLLIN; /* nearly always the first thing wanted */
    return epoll_change(door_of(io), EPOLL_CTL_ADD, s->fd, s->events, s, KIND_STREAM);
}

static void epoll_arm(struct io *io, struct io_stream *s)
{
    if (!(s->events & EPOLLIN)) {
        interest_update(door_of(io), s);
    }
}

static void epoll_disarm(struct io *io, struct io_stream *s)
{
    (void)io;
    (void)s; /* parked when its next event comes */
}

static void epoll_shut(struct io *io, struct io_stream *s)
{
    if (s->flags & IO_QUEUED) {
        s->flags &= (uint16_t)~IO_QUEUED;
        list_remove(&s->link);
    }
    io_stream_over(io, s);
}

static void epoll_release(struct io *io, struct io_stream *s)
{
    struct epoll_door *d = door_of(io);

    epoll_change(d, EPOLL_CTL_DEL, s->fd, 0, s, KIND_STREAM); /* a duplicate of fd would keep it registered */
    events_forget(d, s);
    s->flags = 0;
    s->events = 0;
}

/* Send what can be sent now; the outcome, if there is one, goes to `done`. */
static void stream_flush(struct epoll_door *d, struct io_stream *s)
{
    ssize_t n;

    do {
        n = s->flags & IO_VECTOR ? sendmsg(s->fd, s->send_vector, MSG_DONTWAIT | MSG_NOSIGNAL)
                                 : send(s->fd, s->send_ptr, s->send_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            io_stream_took(s, (uint32_t)n);
        }
    } while ((n > 0 && s->send_len > 0) || (n < 0 && errno == EINTR));

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        s->flags |= IO_OUT;
        interest_update(d, s);
        return;
    }
    s->flags &= (uint16_t)~IO_OUT;
    send_over(d, s, n < 0 ? -errno : 0);
}

static void stream_receive(struct epoll_door *d, struct io_stream *s)
{
    ssize_t n = recv(s->fd, d->memory, d->memory_bytes, MSG_DONTWAIT);

    if (n > 0) {
        io_stream_got(s, (struct slice){d->memory, (size_t)n});
        return;
    }
    int error = n < 0 ? -errno : 0;
    if (error == -EAGAIN || error == -EINTR) {
        return;
    }
    s->flags &= (uint16_t) ~(IO_WANT | IO_ONCE);
    interest_update(d, s);
    io_stream_end(s, error);
}

static void stream_ready(struct epoll_door *d, struct io_stream *s, uint32_t events)
{
    if (s->flags & IO_CLOSING) {
        return;
    }
    if (s->flags & IO_OUT && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        stream_flush(d, s);
    }
    if (s->flags & IO_WANT && events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        stream_receive(d, s); /* last: it may move s to another door */
    } else {
        interest_update(d, s);
    }
}

static void sends_run(struct epoll_door *d)
{
    struct list now, *node;

    list_init(&now);
    list_splice(&now, &d->io.to_send);
    while ((node = list_pop(&now)) != NULL) {
        struct io_stream *s = CONTAINER_OF(node, struct io_stream, link);
        s->flags &= (uint16_t)~IO_QUEUED;
        if (!(s->flags & IO_BROKEN)) {
            stream_flush(d, s);
        }
    }
    d->prompt |= d->io.prompt;
    d->io.prompt = false;
}

static unsigned done_run(struct epoll_door *d)
{
    struct list now, *node;
    unsigned count = 0;

    list_init(&now);
    list_splice(&now, &d->done);
    d->prompt = false;
    while ((node = list_pop(&now)) != NULL) {
        struct io_stream *s = CONTAINER_OF(node, struct io_stream, link);
        bool failed = s->flags & IO_FAILED;
        s->flags &= (uint16_t) ~(IO_QUEUED | IO_FAILED);
        count++;
        if (failed) {
            io_stream_send_failed(s, -(int)s->send_len);
        } else {
            io_stream_sent(s);
        }
    }
    return count;
}

/* ---- listeners ---- */

static int epoll_listen(struct io *io, struct io_listener *l)
{
    return epoll_change(door_of(io), EPOLL_CTL_ADD, l->fd, EPOLLIN, l, KIND_LISTENER);
}

static void epoll_accept_arm(struct io *io, struct io_listener *l)
{
    epoll_change(door_of(io), EPOLL_CTL_MOD, l->fd, EPOLLIN, l, KIND_LISTENER);
}

static void epoll_accept_release(struct io *io, struct io_listener *l)
{
    struct epoll_door *d = door_of(io);

    epoll_change(d, EPOLL_CTL_DEL, l->fd, 0, l, KIND_LISTENER);
    events_forget(d, l);
}

static void listener_ready(struct epoll_door *d, struct io_listener *l)
{
    for (unsigned i = 0; i < ACCEPTS_MAX && !(l->flags & IO_CLOSING); i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            l->handler->accepted(l, fd);
            continue;
        }
        int error = -errno;
        if (error == -EAGAIN || error == -EINTR || error == -ECONNABORTED || error == -EPROTO) {
            return; /* level triggered: what else waits is reported again */
        }
        epoll_change(d, EPOLL_CTL_MOD, l->fd, EPOLLET, l, KIND_LISTENER);
        io_listener_failed(&d->io, l, error);
        return;
    }
}

static int epoll_datagram(struct io *io, struct io_datagram *d)
{
    return epoll_change(door_of(io), EPOLL_CTL_ADD, d->fd, EPOLLIN, d, KIND_DATAGRAM);
}

/* ---- the turn ---- */

static void wake_seen(struct epoll_door *d)
{
    eventfd_t count;

    eventfd_read(d->io.wake_fd, &count);
    atomic_exchange(&d->io.woken, false);
}

static unsigned epoll_reap(struct io *io, unsigned budget)
{
    struct epoll_door *d = door_of(io);
    unsigned done = io_run_closed(io), handled = 0;

    for (; d->event_at < d->event_count && handled < budget; handled++) {
        struct epoll_event *ev = &d->events[d->event_at++];
        void *object = (void *)(uintptr_t)(ev->data.u64 & ~(uint64_t)KIND_MASK);
        if (object && (ev->data.u64 & KIND_MASK) == KIND_STREAM) {
            stream_ready(d, object, ev->events);
        } else if (object && (ev->data.u64 & KIND_MASK) == KIND_DATAGRAM) {
            io_datagram_ready(object);
        } else if (object) {
            listener_ready(d, object);
        } else if (ev->data.u64 == 0) {
            wake_seen(d);
        }
    }
    return done + handled + done_run(d);
}

/* epoll_wait that sleeps until deadline_ns (0: not at all, UINT64_MAX: for ever). */
static int events_wait(struct epoll_door *d, uint64_t deadline_ns)
{
    if (deadline_ns == 0 || deadline_ns == UINT64_MAX) {
        return epoll_wait(d->epoll_fd, d->events, EVENTS_MAX, deadline_ns ? -1 : 0);
    }
    uint64_t now_ns = clock_mono_ns(), left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    if (!d->coarse) {
        struct timespec left = {(time_t)(left_ns / 1000000000), (long)(left_ns % 1000000000)};
        int n = epoll_pwait2(d->epoll_fd, d->events, EVENTS_MAX, &left, NULL);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM)) {
            return n;
        }
        d->coarse = true; /* before Linux 5.11, and where a container's filter does not know the call */
    }
    uint64_t left_ms = (left_ns + 999999) / 1000000;
    return epoll_wait(d->epoll_fd, d->events, EVENTS_MAX, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
}

static void epoll_submit_wait(struct io *io, bool nowait, uint64_t deadline_ns)
{
    struct epoll_door *d = door_of(io);

    deadline_ns = io_listeners_resume(io, deadline_ns);
    sends_run(d);
    if (d->event_at < d->event_count) {
        return; /* io_reap ran out of budget: first come, first served */
    }
    bool stay = nowait || d->prompt || io_closing(io);
    int n = events_wait(d, stay ? 0 : deadline_ns);
    d->event_at = 0;
    d->event_count = n > 0 ? (unsigned)n : 0;
}

/* ---- the door ---- */

static void epoll_door_close(struct io *io)
{
    struct epoll_door *d = door_of(io);

    if (d->epoll_fd >= 0) {
        close(d->epoll_fd);
    }
    free(d->memory);
    io_deinit(io);
    free(d);
}

static const struct io_ops epoll_ops = {
    .name = "epoll",
    .close = epoll_door_close,
    .attach = epoll_attach,
    .arm = epoll_arm,
    .disarm = epoll_disarm,
    .shut = epoll_shut,
    .release = epoll_release,
    .listen = epoll_listen,
    .datagram = epoll_datagram,
    .accept_arm = epoll_accept_arm,
    .accept_shut = io_listener_over,
    .accept_release = epoll_accept_release,
    .reap = epoll_reap,
    .submit_wait = epoll_submit_wait,
};

static int door_make(struct epoll_door *d, const struct io_options *options)
{
    d->memory_bytes = (size_t)options->recv_buffer_bytes * MEMORY_BUFFERS;
    d->memory = malloc(d->memory_bytes);
    if (!d->memory) {
        return -ENOMEM;
    }
    memset(d->memory, 0, d->memory_bytes); /* resident from the start */
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->epoll_fd < 0) {
        return -errno;
    }
    d->io.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->io.wake_fd < 0) {
        return -errno;
    }
    return epoll_change(d, EPOLL_CTL_ADD, d->io.wake_fd, EPOLLIN, NULL, KIND_STREAM);
}

int io_epoll_door_open(const struct io_options *options, struct io **ret_io)
{
    struct epoll_door *d = NULL;

    if (posix_memalign((void **)&d, 64, sizeof(*d)) != 0) {
        return -ENOMEM;
    }
    memset(d, 0, sizeof(*d));
    d->epoll_fd = -1;
    io_init(&d->io, &epoll_ops);
    list_init(&d->done);
    int rc = door_make(d, options);
    if (rc) {
        epoll_door_close(&d->io);
        return rc;
    }
    *ret_io = &d->io;
    return 0;
}
