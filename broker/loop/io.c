/* io.c -- the part of the door that is the same on every backend: who is told what, and when. */
#include "broker/loop/io.h"
#include "broker/loop/io_backend.h"
#include "proto/base/clock.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define DATAGRAMS_MAX 64           /* taken at one time */
#define SEND_BYTES_MAX 0x7ffff000u /* the kernel silently takes no more in one call */

int io_open(const struct io_options *options, struct io **ret_io)
{
    struct io_options o = *options;

    if (o.recv_buffer_count == 0) {
        o.recv_buffer_count = 1024;
    }
    if (o.recv_buffer_bytes == 0) {
        o.recv_buffer_bytes = 4096;
    }
    assert((o.recv_buffer_count & (o.recv_buffer_count - 1)) == 0);
    assert(o.recv_buffer_count <= 32768);
    if (o.door) {
        return o.door(&o, ret_io);
    }
    if (o.backend == IO_EPOLL) {
        return io_epoll_door_open(&o, ret_io);
    }
    int rc = io_uring_door_open(&o, ret_io);
    if (rc && o.backend == IO_AUTO) {
        rc = io_epoll_door_open(&o, ret_io);
    }
    return rc;
}

void io_init(struct io *io, const struct io_ops *ops)
{
    io->ops = ops;
    list_init(&io->to_send);
    list_init(&io->closing);
    list_init(&io->closing_listeners);
    list_init(&io->paused);
    io->wake_fd = -1;
    atomic_init(&io->woken, false);
}

void io_deinit(struct io *io)
{
    if (io->wake_fd >= 0) {
        close(io->wake_fd);
    }
    free(io->open_bits);
}

/* Requests that the kernel still holds keep their sockets open, so shut them down before: the peers shall know now. */
static void close_open(struct io *io, bool shut_only)
{
    for (unsigned word = 0; word < io->open_words; word++) {
        for (uint64_t bits = io->open_bits[word]; bits; bits &= bits - 1) {
            int fd = (int)(word * 64) + __builtin_ctzll(bits);
            shut_only ? shutdown(fd, SHUT_RDWR) : close(fd);
        }
    }
}

void io_close(struct io *io)
{
    if (!io) {
        return;
    }
    close_open(io, true);
    close_open(io, false);
    io->ops->close(io);
}

const char *io_name(const struct io *io)
{
    return io->ops->name;
}

/* Remember that fd is ours. Grows with the highest descriptor, so not in steady state. */
static int open_add(struct io *io, int fd)
{
    unsigned word = (unsigned)fd / 64;

    if (word >= io->open_words) {
        unsigned words = word + 1 > 2 * io->open_words ? word + 1 : 2 * io->open_words;
        uint64_t *bits = realloc(io->open_bits, words * sizeof(*bits));
        if (!bits) {
            return -ENOMEM;
        }
        memset(bits + io->open_words, 0, (words - io->open_words) * sizeof(*bits));
        io->open_bits = bits;
        io->open_words = words;
    }
    assert(!(io->open_bits[word] >> (fd % 64) & 1));
    io->open_bits[word] |= UINT64_C(1) << (fd % 64);
    return 0;
}

static void open_remove(struct io *io, int fd)
{
    assert(io->open_bits[fd / 64] >> (fd % 64) & 1);
    io->open_bits[fd / 64] &= ~(UINT64_C(1) << (fd % 64));
}

int io_stream_attach(struct io *io, struct io_stream *s, int fd)
{
    *s = (struct io_stream){.handler = s->handler, .fd = fd};
    list_init(&s->link);
    int rc = open_add(io, fd);
    if (rc == 0) {
        rc = io->ops->attach(io, s);
        if (rc == 0) {
            return 0;
        }
        open_remove(io, fd);
    }
    s->fd = -1;
    return rc;
}

static void recv_want(struct io *io, struct io_stream *s, unsigned how)
{
    assert(s->fd >= 0);
    if (s->flags & (IO_ENDED | IO_CLOSING)) {
        return;
    }
    if ((s->flags & (IO_WANT | IO_ONCE)) == how) {
        return;
    }
    s->flags = (uint16_t)((s->flags & ~IO_ONCE) | how);
    io->ops->arm(io, s);
}

void io_stream_recv_start(struct io *io, struct io_stream *s)
{
    recv_want(io, s, IO_WANT);
}

void io_stream_recv_once(struct io *io, struct io_stream *s)
{
    recv_want(io, s, IO_WANT | IO_ONCE);
}

void io_stream_recv_stop(struct io *io, struct io_stream *s)
{
    /* A broken stream is read to its end, which is what will tell its owner. */
    if (!(s->flags & IO_WANT) || s->flags & IO_BROKEN) {
        return;
    }
    s->flags &= (uint16_t) ~(IO_WANT | IO_ONCE);
    io->ops->disarm(io, s);
}

bool io_stream_receiving(const struct io_stream *s)
{
    return s->flags & (IO_WANT | IO_ARMED);
}

/* Returns false if the stream is over: nothing is sent then. */
static bool send_queue(struct io *io, struct io_stream *s, uint32_t len)
{
    assert(s->fd >= 0);
    assert(len > 0);
    assert(!(s->flags & IO_SENDING));
    if (s->flags & (IO_BROKEN | IO_CLOSING)) {
        s->flags |= IO_SENDING;
        return false;
    }
    s->flags = (uint16_t)((s->flags & ~IO_VECTOR) | IO_SENDING | IO_QUEUED);
    s->send_len = len;
    list_remove(&s->link); /* from those to be armed again; it returns there when the send has been tried */
    list_append(&io->to_send, &s->link);
    return true;
}

void io_stream_send(struct io *io, struct io_stream *s, const void *data, uint32_t len)
{
    io_stream_send_last(io, s, data, len);
    io->prompt = true;
}

void io_stream_send_last(struct io *io, struct io_stream *s, const void *data, uint32_t len)
{
    if (send_queue(io, s, len)) {
        s->send_ptr = data;
    }
}

void io_stream_send_vector(struct io *io, struct io_stream *s, struct msghdr *vector, uint32_t len, bool last)
{
    assert(vector->msg_iovlen > 0);
    assert(len <= SEND_BYTES_MAX);
    if (send_queue(io, s, len)) {
        s->flags |= IO_VECTOR;
        s->send_vector = vector;
    }
    io->prompt |= !last;
}

void io_stream_took(struct io_stream *s, uint32_t n)
{
    assert(n <= s->send_len);
    s->send_len -= n;
    if (!(s->flags & IO_VECTOR)) {
        s->send_ptr += n;
        return;
    }
    struct msghdr *vector = s->send_vector;
    while (n > 0) {
        struct iovec *piece = vector->msg_iov;
        assert(vector->msg_iovlen > 0);
        if (n < piece->iov_len) {
            piece->iov_base = (uint8_t *)piece->iov_base + n;
            piece->iov_len -= n;
            return;
        }
        n -= (uint32_t)piece->iov_len;
        vector->msg_iov++;
        vector->msg_iovlen--;
    }
}

bool io_stream_sending(const struct io_stream *s)
{
    return s->flags & IO_SENDING;
}

void io_stream_detach(struct io *io, struct io_stream *s)
{
    assert(s->fd >= 0);
    assert(s->ops == 0);
    assert(!(s->flags & (IO_WANT | IO_ARMED | IO_SENDING | IO_QUEUED | IO_CLOSING)));
    io->ops->release(io, s);
    open_remove(io, s->fd);
    s->fd = -1;
}

void io_stream_close(struct io *io, struct io_stream *s)
{
    assert(s->fd >= 0);
    if (s->flags & IO_CLOSING) {
        return;
    }
    s->flags |= IO_CLOSING;
    s->flags &= (uint16_t) ~(IO_WANT | IO_ONCE);
    io->ops->shut(io, s);
}

int io_listener_start(struct io *io, struct io_listener *l, int fd)
{
    *l = (struct io_listener){.handler = l->handler, .fd = fd};
    list_init(&l->link);
    int rc = open_add(io, fd);
    if (rc == 0) {
        rc = io->ops->listen(io, l);
        if (rc == 0) {
            return 0;
        }
        open_remove(io, fd);
    }
    l->fd = -1;
    return rc;
}

void io_listener_close(struct io *io, struct io_listener *l)
{
    assert(l->fd >= 0);
    if (l->flags & IO_CLOSING) {
        return;
    }
    l->flags |= IO_CLOSING;
    list_remove(&l->link); /* from the paused */
    io->ops->accept_shut(io, l);
}

unsigned io_reap(struct io *io, unsigned budget)
{
    return io->ops->reap(io, budget);
}

void io_submit_wait(struct io *io, bool nowait, uint64_t deadline_ns)
{
    io->ops->submit_wait(io, nowait, deadline_ns);
}

void io_wake(struct io *io)
{
    /* Both sides exchange, so whoever finds the flag set knows that his mail is seen after it has been cleared. */
    if (!atomic_exchange(&io->woken, true)) {
        eventfd_write(io->wake_fd, 1);
    }
}

void io_stream_got(struct io_stream *s, struct slice data)
{
    if (s->flags & IO_ENDED) {
        return;
    }
    if (s->flags & IO_ONCE && !(s->flags & IO_BROKEN)) {
        s->flags &= (uint16_t) ~(IO_WANT | IO_ONCE);
    }
    s->handler->received(s, data);
}

void io_stream_end(struct io_stream *s, int error)
{
    if (s->flags & (IO_ENDED | IO_CLOSING)) {
        return;
    }
    if (s->flags & IO_BROKEN) {
        error = -(int)s->send_len;
    }
    s->flags &= (uint16_t) ~(IO_WANT | IO_ONCE);
    s->flags |= IO_ENDED | (error ? IO_BROKEN : 0);
    s->handler->ended(s, error);
}

void io_stream_sent(struct io_stream *s)
{
    if (s->flags & (IO_BROKEN | IO_CLOSING)) {
        return;
    }
    s->flags &= (uint16_t)~IO_SENDING;
    s->handler->sent(s);
}

void io_stream_send_failed(struct io_stream *s, int error)
{
    if (s->flags & (IO_BROKEN | IO_CLOSING)) {
        return;
    }
    if (s->flags & IO_ENDED) {
        io_stream_sent(s);
        return;
    }
    s->flags |= IO_BROKEN;
    s->send_len = (uint32_t)-error;
    if (s->flags & IO_WANT) {
        /* What the peer sent before, perhaps a DISCONNECT, still counts; behind it stands the end, made certain here.
         */
        shutdown(s->fd, SHUT_RDWR);
        return;
    }
    io_stream_end(s, error);
}

void io_stream_over(struct io *io, struct io_stream *s)
{
    assert(s->flags & IO_CLOSING);
    assert(list_empty(&s->link));
    list_append(&io->closing, &s->link);
}

void io_listener_over(struct io *io, struct io_listener *l)
{
    assert(l->flags & IO_CLOSING);
    assert(list_empty(&l->link));
    list_append(&io->closing_listeners, &l->link);
}

void io_listener_pause(struct io *io, struct io_listener *l)
{
    l->retry_at_ms = clock_mono_ns() / 1000000 + IO_RETRY_MS;
    list_append(&io->paused, &l->link);
}

void io_listener_failed(struct io *io, struct io_listener *l, int error)
{
    switch (-error) {
    case EAGAIN:
    case EINTR:
    case ECANCELED:
    case ECONNABORTED:
    case EPROTO:
        io->ops->accept_arm(io, l);
        return;
    default:
        io_listener_pause(io, l);
        l->handler->failed(l, error);
    }
}

uint64_t io_listeners_resume(struct io *io, uint64_t deadline_ns)
{
    if (list_empty(&io->paused)) {
        return deadline_ns;
    }
    uint64_t now_ms = clock_mono_ns() / 1000000;
    while (!list_empty(&io->paused)) {
        struct io_listener *l = CONTAINER_OF(io->paused.next, struct io_listener, link);
        if (l->retry_at_ms > now_ms) {
            uint64_t retry_ns = l->retry_at_ms * 1000000;
            return retry_ns < deadline_ns ? retry_ns : deadline_ns;
        }
        list_remove(&l->link);
        io->ops->accept_arm(io, l);
    }
    return deadline_ns;
}

unsigned io_run_closed(struct io *io)
{
    unsigned count = 0;
    struct list now, *node;

    list_init(&now); /* what a callback closes comes next time */
    list_splice(&now, &io->closing);
    while ((node = list_pop(&now)) != NULL) {
        struct io_stream *s = CONTAINER_OF(node, struct io_stream, link);
        assert(s->ops == 0);
        io->ops->release(io, s);
        open_remove(io, s->fd);
        close(s->fd);
        s->fd = -1;
        count++;
        s->handler->closed(s);
    }
    list_splice(&now, &io->closing_listeners);
    while ((node = list_pop(&now)) != NULL) {
        struct io_listener *l = CONTAINER_OF(node, struct io_listener, link);
        io->ops->accept_release(io, l);
        open_remove(io, l->fd);
        close(l->fd);
        l->fd = -1;
        count++;
        l->handler->closed(l);
    }
    return count;
}

/* ---- datagrams, and dialling ---- */

int io_datagram_start(struct io *io, struct io_datagram *d, int fd)
{
    int rc = open_add(io, fd);

    if (rc) {
        return rc;
    }
    d->fd = fd;
    rc = io->ops->datagram(io, d);
    if (rc) {
        open_remove(io, fd);
        d->fd = -1;
    }
    return rc;
}

void io_datagram_ready(struct io_datagram *d)
{
    uint8_t data[IO_DATAGRAM_MAX];

    for (unsigned i = 0; i < DATAGRAMS_MAX; i++) {
        struct sockaddr_storage from;
        socklen_t from_len = sizeof(from);
        ssize_t n = recvfrom(d->fd, data, sizeof(data), MSG_TRUNC | MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n > 0 && (size_t)n <= sizeof(data)) {
            d->handler->received(d, slice_of(data, (size_t)n), (struct sockaddr *)&from, from_len);
        }
    }
}

void io_datagram_send(struct io *io, struct io_datagram *d, struct slice data, const struct sockaddr *to,
                      socklen_t to_len)
{
    if (io->ops->datagram_send) {
        io->ops->datagram_send(io, d, data, to, to_len);
    } else {
        (void)!sendto(d->fd, data.ptr, data.len, MSG_DONTWAIT | MSG_NOSIGNAL, to, to_len);
    }
}

int io_dial(struct io *io, const struct sockaddr *to, socklen_t to_len)
{
    int on = 1;

    if (io->ops->dial) {
        return io->ops->dial(io, to, to_len);
    }
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, to, to_len) != 0 && errno != EINPROGRESS) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}
