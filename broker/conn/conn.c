#include "broker/conn/conn.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/base/metrics.h"
#include "broker/conn/listener.h"
#include "broker/session/session.h"

/* What a paused connection may still bring before its receive is stopped: most pauses end within a turn. */
#define PAUSED_BYTES_MAX 4096u
#define LINGER_MS 5000u

static const struct conn_handler *handler;

void conn_set_handler(const struct conn_handler *h)
{
    handler = h;
}

void conn_lists_init(struct conn_lists *lists)
{
    list_init(&lists->all);
    list_init(&lists->dirty);
    list_init(&lists->ready);
}

/* The broker of a shard begins with its connection lists (flow/broker.h asserts it). */
static struct conn_lists *lists_of(const struct conn *conn)
{
    return conn->shard->broker;
}

/* Count output that goes to the door (n 1), and that has left it or is given up (n -1). */
static void count_sending(const struct conn *conn, int64_t n)
{
    int64_t bytes = (int64_t)outbox_size(&conn->sending);

    metric_add(conn->shard->metrics, METRIC_OUTBOXES, n);
    metric_add(conn->shard->metrics, METRIC_OUTBOX_BYTES, n < 0 ? -bytes : bytes);
}

static void conn_free(struct conn *conn)
{
    struct shard *shard = conn->shard;

    handler->freed(conn);
    list_remove(&conn->in_shard);
    list_remove(&conn->in_dirty);
    list_remove(&conn->in_ready);
    assert(list_empty(&conn->receipts));
    assert(!conn->session);
    timer_cancel(shard->timers, &conn->timer);
    buf_pool_put(&shard->spare, &conn->in);
    outbox_clear(&conn->out, &shard->spare);
    if (outbox_size(&conn->sending) > 0) {
        count_sending(conn, -1);
    }
    outbox_clear(&conn->sending, &shard->spare);
    alias_in_free(conn->alias_in);
    alias_out_free(conn->alias_out);
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

    while (more && used < data.len) {
        struct mqtt_frame frame = {0};
        enum mqtt_frame_state state = mqtt_frame_next(slice_drop(data, used), conn->in_bytes_max, &frame);

        if (state == MQTT_FRAME_PARTIAL && !(conn->state == CONN_GUEST && frame.type != MQTT_CONNECT)) {
            break;
        }
        if (state != MQTT_FRAME_WHOLE) {
            handler->broken(conn, state == MQTT_FRAME_TOO_LARGE ? MQTT_PACKET_TOO_LARGE : MQTT_MALFORMED_PACKET,
                            &frame);
            break;
        }
        packets++;
        conn->heard_ms = conn->shard->now_ms;
        more = handler->packet(conn, &frame);
        if (!conn->processing) {
            return used; /* moved away: conn is another shard's now */
        }
        if (conn->again) {
            conn->again = false;
            packets--;
            break;
        }
        used += frame.size;
    }
    metric_add(conn->shard->metrics, METRIC_PACKETS_RECEIVED, (int64_t)packets);
    return used;
}

/* Handle what is in conn->in. Returns false when the connection has moved to another shard. */
static bool process_kept(struct conn *conn)
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

/* Keep bytes until there are more of them. */
static bool keep(struct conn *conn, struct slice data)
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

/* Read on, if this is still a connection that reads. */
static void receive_more(struct conn *conn)
{
    struct io *io = conn->shard->io;

    if (conn->state == CONN_GUEST && !conn->paused) {
        io_stream_recv_once(io, &conn->stream);
    } else if (conn->state == CONN_OPEN) {
        if (!conn->paused || conn->in.len < PAUSED_BYTES_MAX) {
            io_stream_recv_start(io, &conn->stream);
        } else {
            io_stream_recv_stop(io, &conn->stream);
        }
    }
}

static void conn_received(struct io_stream *stream, struct slice data)
{
    struct conn *conn = CONTAINER_OF(stream, struct conn, stream);

    if (conn->state == CONN_FINISHING || conn->state == CONN_CLOSED) {
        return; /* the peer has not seen our end yet */
    }
    metric_add(conn->shard->metrics, METRIC_BYTES_RECEIVED, (int64_t)data.len);
    if (conn->in.len == 0 && conn->state == CONN_OPEN && !conn->paused) { /* the common case: nothing is copied */
        conn->processing = true;
        size_t used = process(conn, data);
        conn->processing = false;
        if (conn->state != CONN_OPEN) {
            return;
        }
        if (used < data.len && !keep(conn, slice_drop(data, used))) {
            handler->lost(conn, -ENOMEM);
            return;
        }
    } else {
        if (!keep(conn, data)) {
            handler->lost(conn, -ENOMEM);
            return;
        }
        if (!process_kept(conn)) {
            return;
        }
    }
    if (conn->state == CONN_GUEST || conn->paused) {
        receive_more(conn);
    }
}

static void conn_ended(struct io_stream *stream, int error)
{
    struct conn *conn = CONTAINER_OF(stream, struct conn, stream);

    if (conn->state == CONN_FINISHING) {
        conn_drop(conn);
        return;
    }
    conn->ended = true;
    /* What came before the end is still worked on, unless nothing would ever end the wait. */
    if (error == 0 && conn->paused && !(conn->paused & (PAUSE_OUTBOX | PAUSE_RATE))) {
        return;
    }
    handler->lost(conn, error);
}

static void mark_dirty(struct conn *conn)
{
    if (list_empty(&conn->in_dirty)) {
        list_append(&lists_of(conn)->dirty, &conn->in_dirty);
    }
}

static void conn_sent(struct io_stream *stream)
{
    struct conn *conn = CONTAINER_OF(stream, struct conn, stream);

    metric_add(conn->shard->metrics, METRIC_BYTES_SENT, (int64_t)outbox_size(&conn->sending));
    count_sending(conn, -1);
    outbox_clear(&conn->sending, &conn->shard->spare);
    if (conn->out.bytes.len > 0) {
        mark_dirty(conn);
    }
    if (conn->state == CONN_FINISHING) {
        if (conn->out.bytes.len == 0) {
            shutdown(stream->fd, SHUT_WR);
        }
        return;
    }
    handler->drained(conn);
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
    handler->timeout(conn);
}

static void read_peer(struct conn *conn, int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);

    if (getpeername(fd, (struct sockaddr *)&address, &len) != 0) {
        return; /* gone already: the first receive will tell */
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
}

int conn_new(struct shard *shard, const struct listener *listener, int fd, struct conn **ret_conn)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    if (!conn) {
        return -ENOMEM;
    }
    conn->stream.handler = &stream_handler;
    conn->shard = shard;
    conn->listener = listener;
    conn->accepted_ns = shard->now_ns;
    conn->heard_ms = shard->now_ms;
    conn->packet_bytes_max = MQTT_PACKET_BYTES_MAX;
    conn->in_bytes_max = listener_packet_bytes_max(listener);
    conn->problem_info = true;
    timer_init(&conn->timer, conn_timer_fire);
    list_init(&conn->in_shard);
    list_init(&conn->in_dirty);
    list_init(&conn->in_ready);
    list_init(&conn->receipts);
    read_peer(conn, fd);
    int rc = io_stream_attach(shard->io, &conn->stream, fd);
    if (rc) {
        free(conn);
        return rc;
    }
    list_append(&lists_of(conn)->all, &conn->in_shard);
    io_stream_recv_once(shard->io, &conn->stream);
    *ret_conn = conn;
    return 0;
}

void conn_detach(struct conn *conn)
{
    assert(conn->state == CONN_GUEST && conn_out_bytes(conn) == 0);
    conn->processing = false;
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
    list_append(&lists_of(conn)->all, &conn->in_shard);
    int rc = io_stream_attach(shard->io, &conn->stream, fd);
    if (rc) {
        close(fd);
        conn_free(conn);
        return rc;
    }
    if (process_kept(conn)) { /* the CONNECT that brought it here */
        receive_more(conn);
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
    buf_deinit(&conn->in);
    free(conn);
}

struct buf *conn_out(struct conn *conn)
{
    struct buf *bytes = &conn->out.bytes;

    if (!bytes->ptr && !bytes->failed) {
        *bytes = buf_pool_get(&conn->shard->spare);
    }
    mark_dirty(conn);
    return bytes;
}

void conn_out_payload(struct conn *conn, struct message *m)
{
    assert(conn->out.bytes.len > 0 || conn->out.bytes.failed);
    outbox_put_payload(&conn->out, m);
}

void conn_opened(struct conn *conn)
{
    assert(conn->state == CONN_GUEST);
    conn->state = CONN_OPEN;
    io_stream_recv_start(conn->shard->io, &conn->stream);
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
        list_append(&lists_of(conn)->ready, &conn->in_ready);
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
        if (conn->in.len > 0 && !process_kept(conn)) {
            continue;
        }
        if (conn->state != CONN_OPEN && conn->state != CONN_GUEST) {
            continue;
        }
        if (conn->ended && !conn->paused) {
            handler->lost(conn, 0);
        } else {
            receive_more(conn);
        }
    }
}

/* Hand the outbox to the door. */
static void send_out(struct conn *conn)
{
    /* Nobody waits for `sent`. */
    bool last = conn->state == CONN_OPEN && !conn->paused && !conn->session->replays && !session_waiting(conn->session);
    struct io *io = conn->shard->io;
    struct outbox *sending = &conn->sending;

    *sending = conn->out;
    conn->out = (struct outbox){0};
    count_sending(conn, 1);
    if (sending->refs) {
        io_stream_send_vector(io, &conn->stream, outbox_vector(sending), (uint32_t)outbox_size(sending), last);
    } else if (last) {
        io_stream_send_last(io, &conn->stream, sending->bytes.ptr, sending->bytes.len);
    } else {
        io_stream_send(io, &conn->stream, sending->bytes.ptr, sending->bytes.len);
    }
}

void conn_run_dirty(struct list *dirty)
{
    struct list *at;

    while ((at = list_pop(dirty)) != NULL) {
        struct conn *conn = CONTAINER_OF(at, struct conn, in_dirty);
        if (conn->out.bytes.failed) { /* memory was out: a packet is missing, the stream cannot go on */
            handler->lost(conn, -ENOMEM);
            continue;
        }
        if (conn->out.bytes.len > 0 && conn->state != CONN_CLOSED && !io_stream_sending(&conn->stream)) {
            send_out(conn);
        }
    }
}

void conn_finish(struct conn *conn)
{
    if (conn->state == CONN_FINISHING || conn->state == CONN_CLOSED) {
        return;
    }
    conn->state = CONN_FINISHING;
    if (conn->ended || conn->out.bytes.failed) {
        conn_drop(conn);
        return;
    }
    if (conn->out.bytes.len == 0 && !io_stream_sending(&conn->stream)) {
        shutdown(conn->stream.fd, SHUT_WR);
    } else if (conn->out.bytes.len > 0) {
        mark_dirty(conn);
    }
    io_stream_recv_start(conn->shard->io,
                         &conn->stream); /* until the peer closes too: a reset would lose our last packet */
    timer_set(conn->shard->timers, &conn->timer, conn->shard->now_ms + LINGER_MS);
}

void conn_drop(struct conn *conn)
{
    if (conn->state == CONN_CLOSED) {
        return;
    }
    conn->state = CONN_CLOSED;
    timer_cancel(conn->shard->timers, &conn->timer);
    io_stream_close(conn->shard->io, &conn->stream);
}

const char *conn_peer(const struct conn *conn, char text[CONN_PEER_TEXT])
{
    char host[INET6_ADDRSTRLEN];

    if (IN6_IS_ADDR_V4MAPPED(&conn->peer)) {
        inet_ntop(AF_INET, &conn->peer.s6_addr[12], host, sizeof(host));
        snprintf(text, CONN_PEER_TEXT, "%s:%u", host, conn->peer_port);
    } else {
        inet_ntop(AF_INET6, &conn->peer, host, sizeof(host));
        snprintf(text, CONN_PEER_TEXT, "[%s]:%u", host, conn->peer_port);
    }
    return text;
}
