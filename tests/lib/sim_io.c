#include "tests/lib/sim_io.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "broker/loop/io_backend.h"

struct sim_door {
    struct io io;
    struct sim_net *net;
    unsigned shard;
    struct io_listener *listeners[2]; /* for clients, for other nodes; NULL: not open */
    struct io_datagram *datagram;     /* NULL: not open */
    struct list waiting;              /* streams whose socket has no room */
    struct list done;                 /* streams whose send is over, to be told */
};

/* How a datagram lies in sim_net.datagrams; its bytes follow. */
struct sim_datagram_head {
    struct sockaddr_storage from;
    socklen_t from_len;
    uint32_t len;
};

static struct sim_net *net_in_use;
static unsigned doors_opened; /* of net_in_use: the shards open theirs in order */

void sim_net_init(struct sim_net *net)
{
    *net = (struct sim_net){0};
}

void sim_net_deinit(struct sim_net *net)
{
    for (unsigned i = 0; i < net->count; i++) {
        buf_deinit(&net->sockets[i].to_broker);
        buf_deinit(&net->sockets[i].cuts);
        buf_deinit(&net->sockets[i].from_broker);
    }
    net->count = 0;
    buf_deinit(&net->datagrams);
}

void sim_net_use(struct sim_net *net)
{
    net_in_use = net;
    doors_opened = 0;
}

struct sim_socket *sim_connect(struct sim_net *net, unsigned shard)
{
    if (net->count == SIM_SOCKETS_MAX) {
        return NULL;
    }
    struct sim_socket *s = &net->sockets[net->count];
    *s = (struct sim_socket){.fd = SIM_FIRST_FD + (int)net->count, .shard = shard, .room = SIM_NO_LIMIT};
    net->count++;
    return s;
}

struct sim_socket *sim_connect_peer(struct sim_net *net)
{
    struct sim_socket *s = sim_connect(net, 0);

    if (s) {
        s->to_peers = true;
    }
    return s;
}

void sim_datagram(struct sim_net *net, struct slice data, const struct sockaddr *from, socklen_t from_len)
{
    struct sim_datagram_head head = {.from_len = from_len, .len = (uint32_t)data.len};

    assert(from_len <= sizeof(head.from));
    memcpy(&head.from, from, from_len);
    buf_put(&net->datagrams, slice_of(&head, sizeof(head)));
    buf_put(&net->datagrams, data);
    assert(!net->datagrams.failed);
}

void sim_send(struct sim_socket *s, struct slice data)
{
    if (data.len == 0 || s->finished || s->reset || s->closed) {
        return;
    }
    buf_put(&s->to_broker, data);
    buf_u32(&s->cuts, (uint32_t)data.len);
    assert(!s->to_broker.failed && !s->cuts.failed);
}

static struct sim_door *door_of(struct io *io)
{
    return CONTAINER_OF(io, struct sim_door, io);
}

static struct sim_socket *socket_of(struct sim_door *d, const struct io_stream *stream)
{
    struct sim_socket *s = &d->net->sockets[stream->fd - SIM_FIRST_FD];
    assert(s->fd == stream->fd);
    return s;
}

/* ---- streams ---- */

static int sim_attach(struct io *io, struct io_stream *stream)
{
    struct sim_socket *s = socket_of(door_of(io), stream);

    assert(!s->stream && !s->closed);
    s->stream = stream;
    s->io = io;
    return 0;
}

static void sim_nothing(struct io *io, struct io_stream *stream)
{
    (void)io;
    (void)stream; /* io_reap looks at the flags */
}

static void sim_shut(struct io *io, struct io_stream *stream)
{
    if (stream->flags & IO_QUEUED) {
        stream->flags &= (uint16_t)~IO_QUEUED;
        list_remove(&stream->link);
    }
    io_stream_over(io, stream);
}

static void sim_release(struct io *io, struct io_stream *stream)
{
    struct sim_socket *s = socket_of(door_of(io), stream);

    s->closed = stream->flags & IO_CLOSING;
    s->stream = NULL;
    s->io = NULL;
    stream->flags = 0;
}

/* What the broker gets in one piece. Returns whether something happened. */
static bool receive(struct sim_socket *s)
{
    struct io_stream *stream = s->stream;

    if (stream->flags & IO_CLOSING || !(stream->flags & IO_WANT)) {
        return false;
    }
    if (s->to_broker.len == 0) {
        if (!s->finished && !s->reset) {
            return false;
        }
        io_stream_end(stream, s->reset ? -ECONNRESET : 0);
        return true;
    }
    const uint8_t *cut = s->cuts.ptr;
    uint32_t len = (uint32_t)cut[0] << 24 | (uint32_t)cut[1] << 16 | (uint32_t)cut[2] << 8 | cut[3];
    uint8_t *piece = malloc(len); /* of its exact size: the sanitizer sees one byte over */
    assert(piece);
    memcpy(piece, s->to_broker.ptr, len);
    buf_consume(&s->to_broker, len);
    buf_consume(&s->cuts, 4);
    io_stream_got(stream, slice_of(piece, len));
    free(piece);
    return true;
}

/* ---- sends ---- */

/* What is to be sent next and lies in one place. */
static struct slice piece_of(const struct io_stream *stream)
{
    if (!(stream->flags & IO_VECTOR)) {
        return slice_of(stream->send_ptr, stream->send_len);
    }
    const struct iovec *piece = stream->send_vector->msg_iov;
    return slice_of(piece->iov_base, piece->iov_len);
}

/* Let the socket take what it has room for; a whole send goes to `done`. */
static void flush(struct sim_door *d, struct io_stream *stream)
{
    struct sim_socket *s = socket_of(d, stream);
    uint32_t len = stream->send_len < s->room ? stream->send_len : s->room;

    if (s->reset) {
        list_append(&d->done, &stream->link);
        return;
    }
    if (s->room != SIM_NO_LIMIT) {
        s->room -= len;
    }
    while (len > 0) {
        struct slice piece = piece_of(stream);
        uint32_t n = len < piece.len ? len : (uint32_t)piece.len;
        buf_put(&s->from_broker, slice_of(piece.ptr, n));
        assert(!s->from_broker.failed);
        io_stream_took(stream, n);
        len -= n;
    }
    list_append(stream->send_len > 0 ? &d->waiting : &d->done, &stream->link);
}

static void flush_all(struct sim_door *d, struct list *streams)
{
    struct list now, *node;

    list_init(&now);
    list_splice(&now, streams);
    while ((node = list_pop(&now)) != NULL) {
        flush(d, CONTAINER_OF(node, struct io_stream, link));
    }
}

static unsigned tell_done(struct sim_door *d)
{
    struct list now, *node;
    unsigned count = 0;

    list_init(&now);
    list_splice(&now, &d->done);
    while ((node = list_pop(&now)) != NULL) {
        struct io_stream *stream = CONTAINER_OF(node, struct io_stream, link);
        stream->flags &= (uint16_t)~IO_QUEUED;
        count++;
        if (socket_of(d, stream)->reset) {
            io_stream_send_failed(stream, -EPIPE);
        } else {
            io_stream_sent(stream);
        }
    }
    return count;
}

/* ---- listeners ---- */

static struct io_listener **place_of(struct io *io, const struct io_listener *l)
{
    return &door_of(io)->listeners[l->fd == SIM_PEERS_FD];
}

static int sim_listen(struct io *io, struct io_listener *l)
{
    *place_of(io, l) = l;
    return 0;
}

static void sim_accept_arm(struct io *io, struct io_listener *l)
{
    (void)io;
    (void)l;
}

static void sim_accept_release(struct io *io, struct io_listener *l)
{
    *place_of(io, l) = NULL;
}

/* ---- other nodes ---- */

static int sim_datagram_open(struct io *io, struct io_datagram *d)
{
    door_of(io)->datagram = d;
    return 0;
}

static void sim_datagram_send(struct io *io, struct io_datagram *d, struct slice data, const struct sockaddr *to,
                              socklen_t to_len)
{
    struct sim_net *net = door_of(io)->net;

    (void)d;
    (void)to_len;
    if (net->datagram) {
        net->datagram(net, data, to);
    }
}

static int sim_dial(struct io *io, const struct sockaddr *to, socklen_t to_len)
{
    struct sim_net *net = door_of(io)->net;

    (void)to_len;
    return net->dial ? net->dial(net, to) : -ENETUNREACH;
}

static unsigned receive_datagrams(struct sim_door *d)
{
    struct buf *from = &d->net->datagrams;
    unsigned count = 0;

    for (; d->datagram && from->len > 0; count++) {
        struct sim_datagram_head head;
        memcpy(&head, from->ptr, sizeof(head));
        buf_consume(from, sizeof(head));
        uint8_t *data = malloc(head.len); /* of its exact size: the sanitizer sees one byte over */
        assert(data);
        memcpy(data, from->ptr, head.len);
        buf_consume(from, head.len);
        d->datagram->handler->received(d->datagram, slice_of(data, head.len), (struct sockaddr *)&head.from,
                                       head.from_len);
        free(data);
    }
    return count;
}

/* ---- the turn ---- */

static unsigned sim_reap(struct io *io, unsigned budget)
{
    struct sim_door *d = door_of(io);
    unsigned done = io_run_closed(io);

    for (unsigned i = 0; i < d->net->count && done < budget; i++) {
        struct sim_socket *s = &d->net->sockets[i];
        struct io_listener *l = d->listeners[s->to_peers];
        if (!s->accepted && s->shard == d->shard && l && !(l->flags & IO_CLOSING)) {
            s->accepted = true;
            l->handler->accepted(l, s->fd);
            done++;
        } else if (s->io == io) {
            done += receive(s);
        }
    }
    return done + receive_datagrams(d) + tell_done(d);
}

static void sim_submit_wait(struct io *io, bool nowait, uint64_t deadline_ns)
{
    struct sim_door *d = door_of(io);

    (void)nowait;
    (void)deadline_ns; /* it never sleeps: the test's clock stands still meanwhile */
    flush_all(d, &d->waiting);
    flush_all(d, &io->to_send);
    io->prompt = false;
}

static void sim_close(struct io *io)
{
    io_deinit(io);
    free(door_of(io));
}

static const struct io_ops sim_ops = {
    .name = "sim",
    .close = sim_close,
    .attach = sim_attach,
    .arm = sim_nothing,
    .disarm = sim_nothing,
    .shut = sim_shut,
    .release = sim_release,
    .listen = sim_listen,
    .accept_arm = sim_accept_arm,
    .accept_shut = io_listener_over,
    .accept_release = sim_accept_release,
    .datagram = sim_datagram_open,
    .dial = sim_dial,
    .datagram_send = sim_datagram_send,
    .reap = sim_reap,
    .submit_wait = sim_submit_wait,
};

int sim_door_open(const struct io_options *options, struct io **ret_io)
{
    struct sim_door *d = NULL;

    (void)options;
    assert(net_in_use);
    if (posix_memalign((void **)&d, 64, sizeof(*d)) != 0) {
        return -ENOMEM;
    }
    memset(d, 0, sizeof(*d));
    io_init(&d->io, &sim_ops);
    list_init(&d->waiting);
    list_init(&d->done);
    d->net = net_in_use;
    d->shard = doors_opened++;
    *ret_io = &d->io;
    return 0;
}
