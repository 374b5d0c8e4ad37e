#include "broker/conn/conn.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/base/metrics.h"
#include "broker/conn/channel.h"
#include "broker/conn/conn_inside.h"
#include "broker/conn/listener.h"
#include "broker/conn/pipe.h"
#include "broker/session/session.h"

/* What a paused connection may still bring before its receive is stopped: most pauses end within a turn. */
#define PAUSED_BYTES_MAX 4096u

const struct conn_handler *conn_handler;

void conn_set_handler(const struct conn_handler *h)
{
    conn_handler = h;
}

void conn_lists_init(struct conn_lists *lists)
{
    list_init(&lists->all);
    list_init(&lists->dirty);
    list_init(&lists->ready);
    list_init(&lists->knocking);
    list_init(&lists->warm);
    list_init(&lists->pending);
    list_init(&lists->closed);
}

struct conn_more *conn_more(struct conn *conn)
{
    if (!conn->more) {
        conn->more = calloc(1, sizeof(*conn->more));
    }
    return conn->more;
}

void conn_less(struct conn *conn)
{
    const struct conn_more *m = conn->more;

    if (m && !m->channel && !m->pipe && !m->attach && !m->seek && !m->login && !m->alias_in && !m->alias_out) {
        free(conn->more);
        conn->more = NULL;
    }
}

static void more_free(struct conn *conn, struct buf_pool *pool)
{
    if (conn->more) {
        channel_free(conn->more->channel, pool);
        alias_in_free(conn->more->alias_in);
        alias_out_free(conn->more->alias_out);
        assert(!conn->more->login);
        free(conn->more);
        conn->more = NULL;
    }
}

void conn_free(struct conn *conn)
{
    struct shard *shard = conn->shard;
    struct conn_pipe *pipe = conn_pipe_of(conn);

    conn_handler->freed(conn);
    if (pipe) {
        buf_pool_put(&shard->spare, &pipe->wire);
        pipe->handler->closed(pipe);
        conn->more->pipe = NULL;
    }
    list_remove(&conn->in_shard);
    list_remove(&conn->in_dirty);
    list_remove(&conn->in_ready);
    assert(list_empty(&conn->receipts));
    assert(!conn->session);
    timer_cancel(shard->timers, &conn->timer);
    buf_pool_put(&shard->spare, &conn->in);
    conn_output_clear(conn);
    more_free(conn, &shard->spare);
    metric_add(shard->metrics, METRIC_SOCKETS, -1);
    listener_forget(conn->listener, conn);
    free(conn);
}

/* Cut packets out of data and hand them up. Returns how many bytes were used. */
static size_t process(struct conn *conn, struct slice data)
{
    size_t used = 0;
    uint64_t packets = 0;
    bool more = !conn->paused;

    if (conn->more && conn->more->attach) {
        return more ? conn_handler->elsewhere(conn, data) : 0;
    }
    while (more && used < data.len) {
        struct mqtt_frame frame = {0};
        enum mqtt_frame_state state = mqtt_frame_next(slice_drop(data, used), conn->in_bytes_max, &frame);

        if (state == MQTT_FRAME_PARTIAL && !(conn->state == CONN_GUEST && frame.type != MQTT_CONNECT)) {
            break;
        }
        if (state != MQTT_FRAME_WHOLE) {
            conn_handler->broken(conn, state == MQTT_FRAME_TOO_LARGE ? MQTT_PACKET_TOO_LARGE : MQTT_MALFORMED_PACKET,
                                 &frame);
            break;
        }
        packets++;
        conn->heard_ms = conn->shard->now_ms;
        more = conn_handler->packet(conn, &frame);
        if (!conn->processing) {
            return used; /* moved away: conn is another shard's now */
        }
        if (conn->again) {
            conn->again = false;
            packets--;
            break;
        }
        metric_inc_at(conn->shard->metrics, METRIC_CELL_RECEIVED_BY_PACKET, frame.type);
        used += frame.size;
    }
    metric_add(conn->shard->metrics, METRIC_PACKETS_RECEIVED, (int64_t)packets);
    return used;
}

bool conn_take_kept(struct conn *conn)
{
    conn->processing = true;
    size_t used = process(conn, buf_slice(&conn->in));
    if (!conn->processing) {
        return false;
    }
    conn->processing = false;
    if (conn->state == CONN_FINISHING || conn->state == CONN_CLOSED) {
        used = conn->in.len;
    }
    buf_consume(&conn->in, used);
    if (conn->in.len == 0) {
        buf_pool_put(&conn->shard->spare, &conn->in);
    }
    return true;
}

bool conn_keep(struct conn *conn, struct slice data)
{
    if (data.len == 0) {
        return true;
    }
    if (!conn->in.ptr) {
        conn->in = buf_pool_get(&conn->shard->spare);
    }
    buf_put(&conn->in, data);
    return !conn->in.failed;
}

void conn_read_on(struct conn *conn)
{
    struct io *io = conn->shard->io;

    if (conn_pipe_of(conn)) {
        conn_pipe_account(conn);
    } else if (conn->state == CONN_GUEST && !conn->paused) {
        io_stream_recv_once(io, &conn->stream);
    } else if (conn->state == CONN_OPEN) {
        if (!conn->paused || conn->in.len < PAUSED_BYTES_MAX) {
            io_stream_recv_start(io, &conn->stream);
        } else {
            io_stream_recv_stop(io, &conn->stream);
        }
    }
}

bool conn_take(struct conn *conn, struct slice data)
{
    if (conn->state == CONN_FINISHING || conn->state == CONN_CLOSED) {
        return false;
    }
    if (conn->in.len == 0 && conn->state == CONN_OPEN && !conn->paused) { /* the common case: nothing is copied */
        conn->processing = true;
        size_t used = process(conn, data);
        conn->processing = false;
        if (conn->state != CONN_OPEN) {
            return false;
        }
        data = slice_drop(data, used);
        if (data.len == 0) {
            return true;
        }
        used = 0;
        if (!conn_keep(conn, data)) {
            conn_handler->lost(conn, -ENOMEM);
            return false;
        }
        return true;
    }
    if (!conn_keep(conn, data)) {
        conn_handler->lost(conn, -ENOMEM);
        return false;
    }
    return conn_take_kept(conn);
}

static void conn_received(struct io_stream *stream, struct slice data)
{
    struct conn *conn = CONTAINER_OF(stream, struct conn, stream);

    if (conn->state == CONN_FINISHING || conn->state == CONN_CLOSED) {
        return; /* the peer has not seen our end yet */
    }
    metric_add(conn->shard->metrics, METRIC_BYTES_RECEIVED, (int64_t)data.len);
    struct channel *channel = conn_channel(conn);
    if (channel) {
        channel_received(channel, data);
        return;
    }
    if (conn_take(conn, data) && (conn->state == CONN_GUEST || conn->paused)) {
        conn_read_on(conn);
    }
}

void conn_peer_ended(struct conn *conn, int error)
{
    if (conn->state == CONN_FINISHING) {
        conn_drop(conn);
        return;
    }
    conn->ended = true;
    /* What came before the end is still worked on, unless nothing would ever end the wait. */
    if (error == 0 && conn->paused && !(conn->paused & (PAUSE_OUTBOX | PAUSE_RATE))) {
        return;
    }
    if (error == 0 && !conn->paused && !list_empty(&conn->in_ready)) { /* the wait is just over: conn_run_ready */
        return;
    }
    conn_handler->lost(conn, error);
}

void conn_lost(struct conn *conn, int error)
{
    conn_handler->lost(conn, error);
}

static void conn_ended(struct io_stream *stream, int error)
{
    struct conn *conn = CONTAINER_OF(stream, struct conn, stream);

    if (conn->more && conn->more->channel) { /* nobody reads a last word any more */
        conn->more->channel->closed = true;
        buf_pool_put(&conn->shard->spare, &conn->more->channel->wire);
    }
    conn_peer_ended(conn, error);
}

static void conn_closed(struct io_stream *stream)
{
    conn_free(CONTAINER_OF(stream, struct conn, stream));
}

static const struct io_stream_handler stream_handler = {
    .received = conn_received,
    .ended = conn_ended,
    .sent = conn_sent,
    .closed = conn_closed,
};

static void conn_timer_fire(struct timer *timer, uint64_t now_ms)
{
    struct conn *conn = CONTAINER_OF(timer, struct conn, timer);

    (void)now_ms;
    if (conn->state == CONN_FINISHING) {
        conn_drop(conn);
        return;
    }
    conn_handler->timeout(conn);
}

static int read_peer(struct conn *conn, int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);

    if (getpeername(fd, (struct sockaddr *)&address, &len) != 0) {
        return errno == ENOTCONN ? -errno : 0; /* gone already, as who only looks whether the door is open is */
    }
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
        conn->peer = in6->sin6_addr;
        conn->peer_port = ntohs(in6->sin6_port);
    } else if (address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        conn->peer.s6_addr[10] = conn->peer.s6_addr[11] = 0xff;
        memcpy(&conn->peer.s6_addr[12], &in->sin_addr, 4);
        conn->peer_port = ntohs(in->sin_port);
    }
    return 0;
}

struct conn *conn_alloc(struct shard *shard, const struct listener *listener)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    if (!conn) {
        return NULL;
    }
    conn->stream.handler = &stream_handler;
    conn->shard = shard;
    conn->listener = listener;
    conn->heard_ms = shard->now_ms;
    conn->packet_bytes_max = MQTT_PACKET_BYTES_MAX;
    conn->in_bytes_max = listener_packet_bytes_max(listener);
    conn->problem_info = true;
    timer_init(&conn->timer, conn_timer_fire);
    list_init(&conn->in_shard);
    list_init(&conn->in_dirty);
    list_init(&conn->in_ready);
    list_init(&conn->receipts);
    return conn;
}

int conn_new(struct shard *shard, const struct listener *listener, int fd, struct conn **ret_conn)
{
    struct conn *conn = conn_alloc(shard, listener);
    if (!conn) {
        return -ENOMEM;
    }
    int rc = read_peer(conn, fd);
    if (rc) {
        free(conn);
        return rc;
    }
    rc = conn_more(conn) ? channel_new(conn, &conn->more->channel) : -ENOMEM;
    rc = rc ? rc : io_stream_attach(shard->io, &conn->stream, fd);
    if (rc) {
        more_free(conn, NULL);
        free(conn);
        return rc;
    }
    conn->more->accepted_ns = shard->now_ns;
    list_append(&conn_lists_of(conn)->all, &conn->in_shard);
    io_stream_recv_once(shard->io, &conn->stream);
    *ret_conn = conn;
    return 0;
}

void conn_detach(struct conn *conn)
{
    assert(conn->state == CONN_GUEST && conn_out_bytes(conn) == 0);
    conn->processing = false;
    if (conn->more && conn->more->channel) {
        channel_detached(conn->more->channel);
    }
    timer_cancel(conn->shard->timers, &conn->timer);
    list_remove(&conn->in_shard);
    list_remove(&conn->in_dirty);
    list_remove(&conn->in_ready);
    metric_add(conn->shard->metrics, METRIC_SOCKETS, -1);
    int fd = conn->stream.fd;
    io_stream_detach(conn->shard->io, &conn->stream);
    conn->stream.fd = fd; /* for conn_attach */
}

int conn_attach(struct conn *conn, struct shard *shard)
{
    int fd = conn->stream.fd;

    conn->shard = shard;
    metric_add(shard->metrics, METRIC_SOCKETS, 1);
    list_append(&conn_lists_of(conn)->all, &conn->in_shard);
    int rc = io_stream_attach(shard->io, &conn->stream, fd);
    if (rc) {
        close(fd);
        conn_free(conn);
        return rc;
    }
    if (conn_channel(conn)) {
        channel_attached(conn->more->channel);
    }
    if (conn_take_kept(conn)) { /* the CONNECT that brought it here */
        conn_read_on(conn);
    }
    return 0;
}

void conn_discard_open(struct conn *conn)
{
    if (conn->stream.fd >= 0) {
        shutdown(conn->stream.fd, SHUT_RDWR); /* what the kernel still holds fails at once; io_close closes it */
    }
    if (conn->session) {
        conn->session->front = NULL;
        conn->session = NULL;
    }
    conn_free(conn);
}

void conn_discard(struct conn *conn)
{
    close(conn->stream.fd);
    listener_forget(conn->listener, conn);
    conn_handler->freed(conn);
    buf_deinit(&conn->in);
    more_free(conn, NULL);
    free(conn);
}

void conn_opened(struct conn *conn)
{
    assert(conn->state == CONN_GUEST);
    conn->state = CONN_OPEN;
    conn_less(conn);
    if (!conn_pipe_of(conn)) {
        io_stream_recv_start(conn->shard->io, &conn->stream);
    }
}

void conn_pause(struct conn *conn, enum conn_pause reason)
{
    if (!conn->paused && reason != PAUSE_BUSY) {
        metric_inc(conn->shard->metrics, METRIC_READS_PAUSED);
    }
    conn->paused |= (uint8_t)reason;
}

void conn_resume(struct conn *conn, enum conn_pause reason)
{
    if (!(conn->paused & reason)) {
        return;
    }
    conn->paused &= (uint8_t)~reason;
    if (!conn->paused && list_empty(&conn->in_ready)) {
        list_append(&conn_lists_of(conn)->ready, &conn->in_ready);
    }
}

void conn_run_ready(struct list *ready)
{
    struct list batch;
    struct list *at;

    list_init(&batch);
    list_splice(&batch, ready); /* who is paused and resumed again meanwhile waits for the next turn */
    while ((at = list_pop(&batch)) != NULL) {
        struct conn *conn = CONTAINER_OF(at, struct conn, in_ready);
        if (conn->paused || conn->state == CONN_FINISHING || conn->state == CONN_CLOSED) {
            continue;
        }
        if (conn->in.len > 0 && !conn_take_kept(conn)) {
            continue;
        }
        if (conn->state != CONN_OPEN && conn->state != CONN_GUEST) {
            continue;
        }
        if (conn->ended && !conn->paused) {
            conn_handler->lost(conn, 0);
        } else {
            conn_read_on(conn);
        }
    }
}

int conn_unread(struct conn *conn, struct slice packet)
{
    struct buf whole = {0};

    assert(!conn->processing);
    buf_put(&whole, packet);
    buf_put(&whole, buf_slice(&conn->in));
    if (whole.failed) {
        buf_deinit(&whole);
        return -ENOMEM;
    }
    buf_pool_put(&conn->shard->spare, &conn->in);
    conn->in = whole;
    return 0;
}

bool conn_may_move(struct conn *conn)
{
    const struct channel *channel = conn_channel(conn);

    if (conn_sending(conn) || (channel && channel->wire.len > 0)) {
        conn_pause(conn, PAUSE_SEND);
        return false;
    }
    return true;
}

void conn_drop(struct conn *conn)
{
    if (conn->state == CONN_CLOSED) {
        return;
    }
    conn->state = CONN_CLOSED;
    timer_cancel(conn->shard->timers, &conn->timer);
    if (conn_pipe_of(conn)) {
        conn_mark_dirty(conn); /* freed at the end of the turn */
    } else {
        io_stream_close(conn->shard->io, &conn->stream);
    }
}

const char *conn_peer(const struct conn *conn, char text[CONN_PEER_TEXT])
{
    char host[INET6_ADDRSTRLEN];

    if (IN6_IS_ADDR_UNSPECIFIED(&conn->peer)) {
        snprintf(text, CONN_PEER_TEXT, "unix");
    } else if (IN6_IS_ADDR_V4MAPPED(&conn->peer)) {
        inet_ntop(AF_INET, &conn->peer.s6_addr[12], host, sizeof(host));
        snprintf(text, CONN_PEER_TEXT, "%s:%u", host, conn->peer_port);
    } else {
        inet_ntop(AF_INET6, &conn->peer, host, sizeof(host));
        snprintf(text, CONN_PEER_TEXT, "[%s]:%u", host, conn->peer_port);
    }
    return text;
}
