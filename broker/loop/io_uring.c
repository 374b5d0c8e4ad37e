/* io_uring.c -- the door on io_uring: one ring and one ring of receive buffers per shard.
 *
 * Receive: a multishot RECV per stream takes its memory from the buffer ring only when bytes are there, so an idle
 * connection owns none. The buffers return when io_reap ends. When they run out the kernel ends the receives concerned
 * (ENOBUFS); their streams wait in `retry`, first come first served, until buffers are back.
 *
 * Send: tried at submission, and a success posts no completion. A batch of sends is therefore answered by what does not
 * come: all completions of a batch are in the queue when the submission returns, so once they have been read, who is
 * still in the batch was sent. Who was not, or in part, gets a second request that waits for room. Batches go
 *
 *     to_send --prepared--> flying --all submitted, tail noted--> flown --head has reached that tail--> sent
 *
 * A completion's user_data is the object's address with the kind of request in its low bits. It needs no generation,
 * for an object is not given back (closed, detached) before its last completion was read: `ops` counts them.
 *
 * Time: one TIMEOUT request stays armed as a tick and is moved only to be earlier; a timeout argument costs more at
 * each wait. */
#include "broker/loop/io.h"
#include "broker/loop/io_backend.h"
#include "broker/loop/io_uring_door.h"
#include "proto/base/log.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* What io_uring_enter answers. Busy or out of memory: the requests stay queued and go with the next call. */
static void entered(int rc)
{
    if (rc == -EBADR) {
        /* The kernel had no memory for completions and dropped some: which, nobody knows. */
        log_event(LOG_ERROR, "io_completions_lost");
        abort();
    }
}

/* A free request, or NULL while the kernel takes none. */
static struct io_uring_sqe *sqe_get(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (!sqe) {
        entered(io_uring_submit(&u->ring));
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}

static unsigned cq_left(const struct uring *u)
{
    return io_uring_cq_ready(&u->ring);
}

/* ---- receiving ---- */

static void retry_later(struct uring *u, struct io_stream *s)
{
    if (s->flags & IO_RETRY) {
        return;
    }
    s->flags |= IO_RETRY;
    if (!(s->flags & IO_QUEUED)) {
        list_append(&u->retry, &s->link);
    }
}

static void recv_cancel(struct uring *u, struct io_stream *s)
{
    struct io_uring_sqe *sqe = sqe_get(u);
    if (!sqe) {
        retry_later(u, s);
        return;
    }
    io_uring_prep_cancel64(sqe, (uintptr_t)s | KIND_RECV, 0);
    io_uring_tag(sqe, NULL, KIND_NONE);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    s->flags |= IO_CANCELING;
}

static void recv_arm(struct uring *u, struct io_stream *s)
{
    struct io_uring_sqe *sqe = sqe_get(u);
    if (!sqe) {
        retry_later(u, s);
        return;
    }
    if (s->flags & IO_ONCE) {
        io_uring_prep_recv(sqe, s->fd, NULL, 0, 0);
    } else {
        io_uring_prep_recv_multishot(sqe, s->fd, NULL, 0, 0);
        s->flags |= IO_MULTI;
    }
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = IO_URING_BUFFER_GROUP;
    io_uring_tag(sqe, s, KIND_RECV);
    s->flags |= IO_ARMED;
    s->ops++;
}

static void uring_arm(struct io *io, struct io_stream *s)
{
    struct uring *u = uring_of(io);

    if (!(s->flags & IO_ARMED)) {
        if (!(s->flags & IO_RETRY)) {
            recv_arm(u, s);
        }
    } else if ((s->flags & (IO_ONCE | IO_MULTI | IO_CANCELING)) == (IO_ONCE | IO_MULTI)) {
        recv_cancel(u, s); /* once, but a multishot is armed: its end arms the right one */
    }
}

static void uring_disarm(struct io *io, struct io_stream *s)
{
    if ((s->flags & (IO_ARMED | IO_CANCELING)) == IO_ARMED) {
        recv_cancel(uring_of(io), s);
    }
}

/* Arm or cancel what could not be before, oldest first: one for each buffer that has come back, all when nothing holds
 * any. */
static void retry_run(struct uring *u, unsigned count)
{
    struct list now, *node;

    list_init(&now);
    while (count-- && (node = list_pop(&u->retry)) != NULL) {
        list_append(&now, node);
    }
    while ((node = list_pop(&now)) != NULL) {
        struct io_stream *s = CONTAINER_OF(node, struct io_stream, link);
        s->flags &= (uint16_t)~IO_RETRY;
        if (s->flags & IO_WANT) {
            uring_arm(&u->io, s);
        } else {
            uring_disarm(&u->io, s);
        }
    }
}

static void closing_check(struct uring *u, struct io_stream *s)
{
    if (s->ops == 0 && !(s->flags & IO_QUEUED)) {
        io_stream_over(&u->io, s);
    }
}

static void recv_done(struct uring *u, struct io_stream *s, int res, struct slice data, bool more)
{
    if (!more) {
        assert(s->ops > 0);
        s->ops--;
        s->flags &= (uint16_t) ~(IO_ARMED | IO_MULTI | IO_CANCELING);
    }
    if (s->flags & IO_CLOSING) {
        if (!more) {
            closing_check(u, s);
        }
        return;
    }
    if (res > 0) {
        bool last = s->flags & IO_ONCE && !(s->flags & IO_BROKEN);
        if (!more && s->flags & IO_WANT && !last) {
            uring_arm(&u->io, s); /* before the callback: it may move s to another door */
        }
        io_stream_got(s, data);
        return;
    }
    if (more) {
        return; /* an empty answer between two with bytes, as kernel 6.1 gives */
    }
    switch (-res) {
    case ENOBUFS:
        if (s->flags & IO_WANT) {
            retry_later(u, s);
        }
        return;
    case ECANCELED:
    case EAGAIN:
    case EINTR:
        if (s->flags & IO_WANT) {
            uring_arm(&u->io, s);
        }
        return;
    default:
        io_stream_end(s, res);
    }
}

/* ---- sending ---- */

/* s leaves the lists of sends, for the list of those to be armed again if it belongs there. */
static void send_unqueue(struct uring *u, struct io_stream *s)
{
    s->flags &= (uint16_t)~IO_QUEUED;
    list_remove(&s->link);
    if (s->flags & IO_RETRY) {
        list_append(&u->retry, &s->link);
    }
}

static bool send_prepare(struct uring *u, struct io_stream *s, int flags, enum kind kind)
{
    struct io_uring_sqe *sqe = sqe_get(u);
    if (!sqe) {
        return false;
    }
    if (s->flags & IO_VECTOR) {
        io_uring_prep_sendmsg(sqe, s->fd, s->send_vector, (unsigned)flags | MSG_WAITALL);
    } else {
        io_uring_prep_send(sqe, s->fd, s->send_ptr, s->send_len, flags | MSG_WAITALL);
    }
    io_uring_tag(sqe, s, kind);
    if (kind == KIND_TRY) {
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    } else {
        s->ops++;
    }
    return true;
}

/* Turn to_send into requests. What finds no room stays for the next turn. */
static void sends_prepare(struct uring *u)
{
    struct list *node;

    while ((node = u->io.to_send.next) != &u->io.to_send) {
        struct io_stream *s = CONTAINER_OF(node, struct io_stream, link);
        if (s->flags & (IO_CLOSING | IO_BROKEN)) {
            send_unqueue(u, s);
            if (s->flags & IO_CLOSING) {
                closing_check(u, s);
            }
            continue;
        }
        if (!send_prepare(u, s, MSG_DONTWAIT, KIND_TRY)) {
            return;
        }
        list_remove(node);
        list_append(&u->flying, node);
    }
    u->prompt |= u->io.prompt;
    u->io.prompt = false;
}

/* The first try did not take everything. */
static void try_failed(struct uring *u, struct io_stream *s, int res)
{
    assert(s->flags & IO_QUEUED);
    send_unqueue(u, s);
    if (s->flags & IO_CLOSING) {
        closing_check(u, s);
        return;
    }
    if (s->flags & IO_BROKEN) {
        return;
    }
    if (res < 0 && res != -EAGAIN && res != -EINTR) {
        io_stream_send_failed(s, res);
        return;
    }
    io_stream_took(s, res > 0 ? (uint32_t)res : 0);
    if (s->send_len == 0) {
        io_stream_sent(s);
    } else if (!send_prepare(u, s, 0, KIND_SEND)) {
        s->flags |= IO_QUEUED;
        list_remove(&s->link);
        list_append(&u->io.to_send, &s->link);
    }
}

/* The waiting send is over, successful or not. */
static void send_done(struct uring *u, struct io_stream *s, int res)
{
    assert(s->ops > 0);
    s->ops--;
    if (s->flags & IO_CLOSING) {
        closing_check(u, s);
        return;
    }
    if (s->flags & IO_BROKEN) {
        return;
    }
    if (res >= 0 && (uint32_t)res == s->send_len) {
        io_stream_sent(s);
        return;
    }
    if (res < 0 && res != -EAGAIN && res != -EINTR) {
        io_stream_send_failed(s, res);
        return;
    }
    io_stream_took(s, res > 0 ? (uint32_t)res : 0);
    s->flags |= IO_QUEUED;
    list_remove(&s->link);
    list_append(&u->io.to_send, &s->link);
    u->io.prompt = true;
}

/* Answer the batches whose completions have all been read. */
static void sends_settle(struct uring *u)
{
    struct list *node;

    for (;;) {
        if (list_empty(&u->flown)) {
            /* A request that waits for submission, or completions that overflowed, may still name one of them. */
            if (list_empty(&u->flying) || io_uring_sq_ready(&u->ring) || io_uring_cq_has_overflow(&u->ring)) {
                break;
            }
            list_splice(&u->flown, &u->flying);
            u->flown_at = *u->ring.cq.khead + cq_left(u);
        }
        if ((int)(u->flown_at - *u->ring.cq.khead) > 0) {
            break;
        }
        while ((node = u->flown.next) != &u->flown) {
            struct io_stream *s = CONTAINER_OF(node, struct io_stream, link);
            send_unqueue(u, s);
            if (s->flags & IO_CLOSING) {
                closing_check(u, s);
            } else {
                io_stream_sent(s);
            }
        }
    }
    if (list_empty(&u->flying) && list_empty(&u->flown)) {
        u->prompt = false;
    }
}

/* ---- accepting ---- */

static void uring_accept_arm(struct io *io, struct io_listener *l)
{
    struct io_uring_sqe *sqe = sqe_get(uring_of(io));
    if (!sqe) {
        io_listener_pause(io, l);
        return;
    }
    io_uring_prep_multishot_accept(sqe, l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    io_uring_tag(sqe, l, KIND_ACCEPT);
    l->flags |= IO_ARMED;
    l->ops++;
}

static void accept_done(struct uring *u, struct io_listener *l, int res, bool more)
{
    if (!more) {
        assert(l->ops > 0);
        l->ops--;
        l->flags &= (uint16_t)~IO_ARMED;
    }
    if (l->flags & IO_CLOSING) {
        if (res >= 0) {
            close(res);
        }
        if (!more) {
            io_listener_over(&u->io, l);
        }
        return;
    }
    if (res < 0) {
        if (!more) {
            io_listener_failed(&u->io, l, res);
        }
        return;
    }
    if (!more) {
        uring_accept_arm(&u->io, l);
    }
    l->handler->accepted(l, res);
}

static int uring_listen(struct io *io, struct io_listener *l)
{
    uring_accept_arm(io, l);
    return 0;
}

static void uring_accept_shut(struct io *io, struct io_listener *l)
{
    if (l->ops == 0) {
        io_listener_over(io, l);
        return;
    }
    /* Ends the accept that is armed, or that is still to be submitted, at once; and frees the port. */
    shutdown(l->fd, SHUT_RDWR);
}

/* ---- datagrams ---- */

static void poll_arm(struct uring *u, struct io_datagram *d)
{
    struct io_uring_sqe *sqe = sqe_get(u);

    if (sqe) { /* else nothing is received any more; but then there is no memory for anything */
        io_uring_prep_poll_add(sqe, d->fd, POLLIN);
        io_uring_tag(sqe, d, KIND_POLL);
    }
}

static int uring_datagram(struct io *io, struct io_datagram *d)
{
    poll_arm(uring_of(io), d);
    return 0;
}

/* ---- the turn ---- */

static void complete(struct uring *u, const struct io_uring_cqe *cqe)
{
    void *object = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)KIND_MASK);
    bool more = cqe->flags & IORING_CQE_F_MORE;

    switch ((enum kind)(cqe->user_data & KIND_MASK)) {
    case KIND_RECV: {
        unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        struct slice data = {u->buffers + (size_t)id * u->buffer_bytes, cqe->res > 0 ? (size_t)cqe->res : 0};
        bool lent = cqe->flags & IORING_CQE_F_BUFFER;
        recv_done(u, object, cqe->res, data, more);
        if (lent) {
            io_uring_buffer_return(u, id);
        }
        break;
    }
    case KIND_TRY:
        try_failed(u, object, cqe->res);
        break;
    case KIND_SEND:
        send_done(u, object, cqe->res);
        break;
    case KIND_ACCEPT:
        accept_done(u, object, cqe->res, more);
        break;
    case KIND_POLL:
        io_datagram_ready(object);
        poll_arm(u, object); /* what is left is reported again */
        break;
    case KIND_TICK:
        u->tick_armed = false;
        break;
    case KIND_WAKE:
        u->wake_armed = false;
        atomic_exchange(&u->io.woken, false);
        break;
    default:
        break; /* a cancel or an update that found nothing */
    }
}

static unsigned uring_reap(struct io *io, unsigned budget)
{
    struct uring *u = uring_of(io);
    unsigned closed = io_run_closed(io), head = *u->ring.cq.khead, mask = u->ring.cq.ring_mask;
    unsigned ready = cq_left(u);

    if (ready > budget) {
        ready = budget;
    }
    for (unsigned i = 0; i < ready; i++) {
        /* The slot two ahead may hold an old completion: a prefetch does not mind. */
        uint64_t ahead = u->ring.cq.cqes[(head + i + 2) & mask].user_data;
        __builtin_prefetch((const void *)(uintptr_t)(ahead & ~(uint64_t)KIND_MASK));
        complete(u, &u->ring.cq.cqes[(head + i) & mask]);
    }
    io_uring_cq_advance(&u->ring, ready);
    unsigned returned = u->returned;
    io_uring_buffers_advance(u);
    sends_settle(u);
    if (!list_empty(&u->retry)) {
        retry_run(u, cq_left(u) ? returned : UINT32_MAX);
    }
    return closed + ready;
}

static void wake_arm(struct uring *u)
{
    struct io_uring_sqe *sqe = sqe_get(u);
    if (sqe) {
        io_uring_prep_read(sqe, u->io.wake_fd, &u->wake_count, sizeof(u->wake_count), 0);
        io_uring_tag(sqe, NULL, KIND_WAKE);
        u->wake_armed = true;
    }
}

/* See to it that the sleep ends at deadline_ns. Returns false when it cannot be promised. */
static bool tick_arm(struct uring *u, uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX || (u->tick_armed && u->tick_ns <= deadline_ns)) {
        return true;
    }
    struct io_uring_sqe *sqe = sqe_get(u);
    if (!sqe) {
        return false;
    }
    u->tick = (struct __kernel_timespec){(long long)(deadline_ns / 1000000000), (long long)(deadline_ns % 1000000000)};
    u->tick_ns = deadline_ns;
    if (u->tick_armed) {
        io_uring_prep_timeout_update(sqe, &u->tick, KIND_TICK, IORING_TIMEOUT_ABS);
        io_uring_tag(sqe, NULL, KIND_NONE);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    } else {
        io_uring_prep_timeout(sqe, &u->tick, 0, IORING_TIMEOUT_ABS);
        io_uring_tag(sqe, NULL, KIND_TICK);
        u->tick_armed = true;
    }
    return true;
}

static void uring_submit_wait(struct io *io, bool nowait, uint64_t deadline_ns)
{
    struct uring *u = uring_of(io);

    deadline_ns = io_listeners_resume(io, deadline_ns);
    if (!u->wake_armed) {
        wake_arm(u);
    }
    sends_prepare(u);
    bool ready = cq_left(u) > 0;
    if (ready || u->prompt || !list_empty(&io->to_send) || !list_empty(&u->retry) || io_closing(io) || !u->wake_armed) {
        nowait = true;
    }
    if (!nowait && tick_arm(u, deadline_ns)) {
        entered(io_uring_submit_and_wait(&u->ring, 1));
    } else if (!ready) {
        entered(io_uring_submit_and_get_events(&u->ring));
    } else if (io_uring_sq_ready(&u->ring)) {
        entered(io_uring_submit(&u->ring)); /* without asking for more completions than are there to be handled */
    }
}

/* ---- the door ---- */

static int uring_attach(struct io *io, struct io_stream *s)
{
    (void)io;
    (void)s; /* the first request says it all */
    return 0;
}

static void uring_shut(struct io *io, struct io_stream *s)
{
    if (s->flags & IO_RETRY) {
        s->flags &= (uint16_t)~IO_RETRY;
        if (!(s->flags & IO_QUEUED)) {
            list_remove(&s->link);
        }
    }
    if (s->ops) {
        shutdown(s->fd, SHUT_RDWR); /* ends what the kernel holds */
    } else {
        closing_check(uring_of(io), s);
    }
}

static void uring_release(struct io *io, struct io_stream *s)
{
    (void)io;
    list_remove(&s->link);
    s->flags = 0;
}

static void uring_accept_release(struct io *io, struct io_listener *l)
{
    (void)io;
    (void)l;
}

const struct io_ops io_uring_ops = {
    .name = "io_uring",
    .close = io_uring_door_close,
    .attach = uring_attach,
    .arm = uring_arm,
    .disarm = uring_disarm,
    .shut = uring_shut,
    .release = uring_release,
    .listen = uring_listen,
    .datagram = uring_datagram,
    .accept_arm = uring_accept_arm,
    .accept_shut = uring_accept_shut,
    .accept_release = uring_accept_release,
    .reap = uring_reap,
    .submit_wait = uring_submit_wait,
};
