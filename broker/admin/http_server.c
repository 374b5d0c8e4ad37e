/* http_server.c -- connections of the admin port: accepting, TLS, the pace of reading and writing, and time.
 *
 * Callbacks of the door only put bytes away and mark the connection ready; the work is done at the end of a turn, a few
 * connections each time. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/admin/admin_inside.h"
#include "proto/base/log.h"

#define CONNECTIONS_A_TURN 4u /* that something is done for: a handshake, a request, a piece of a body */
#define RAW_BYTES_MAX 65536u  /* not looked at yet; then reading pauses */
#define HEAD_MS 10000u        /* from the first byte to the end of the head, and for the handshake */
#define BODY_MS 30000u
#define IDLE_MS 60000u
#define STALL_MS 30000u /* that a reader may take nothing */
#define LINGER_MS 2000u

static void conn_close(struct admin_conn *conn)
{
    if (conn->state == ADMIN_CLOSING) {
        return;
    }
    admin_request_abandon(conn);
    conn->state = ADMIN_CLOSING;
    conn->admin->count--;
    timer_cancel(conn->admin->shard->timers, &conn->timer);
    list_remove(&conn->in_ready);
    io_stream_close(conn->admin->shard->io, &conn->stream);
}

static void conn_free(struct admin_conn *conn)
{
    list_remove(&conn->in_all);
    list_remove(&conn->in_ready);
    tls_free(conn->tls);
    buf_deinit(&conn->raw);
    buf_deinit(&conn->in);
    buf_deinit(&conn->headers);
    buf_deinit(&conn->plain);
    buf_deinit(&conn->wire);
    buf_deinit(&conn->body_owned);
    buf_deinit(&conn->words);
    free(conn);
}

void admin_conn_ready(struct admin_conn *conn)
{
    if (conn->state != ADMIN_CLOSING && list_empty(&conn->in_ready)) {
        list_append(&conn->admin->ready, &conn->in_ready);
    }
    conn->admin->shard->busy = true;
}

/* ---- time ---- */

static uint64_t deadline_of(const struct admin_conn *conn)
{
    switch (conn->state) {
    case ADMIN_READING:
        if (!conn->secured || (conn->in.len > 0 && conn->request_bytes == 0)) {
            return conn->since_ms + HEAD_MS;
        }
        return conn->since_ms + (conn->request_bytes ? BODY_MS : IDLE_MS);
    case ADMIN_LINGER:
        return conn->since_ms + LINGER_MS;
    default:
        return io_stream_sending(&conn->stream) ? conn->progress_ms + STALL_MS : UINT64_MAX;
    }
}

static void conn_timeout(struct timer *timer, uint64_t now_ms)
{
    struct admin_conn *conn = CONTAINER_OF(timer, struct admin_conn, timer);
    uint64_t due_ms = deadline_of(conn);

    if (due_ms > now_ms) {
        timer_set(conn->admin->shard->timers, timer, now_ms + 1000 < due_ms ? now_ms + 1000 : due_ms);
    } else if (conn->state == ADMIN_READING && conn->secured && conn->in.len > 0) {
        conn->close = true;
        admin_fail(&conn->request, 408, "the request did not come within %u s",
                   (conn->request_bytes ? BODY_MS : HEAD_MS) / 1000);
        timer_set(conn->admin->shard->timers, timer, now_ms + 1000);
    } else {
        conn_close(conn);
    }
}

/* ---- in ---- */

static void stream_received(struct io_stream *s, struct slice data)
{
    struct admin_conn *conn = CONTAINER_OF(s, struct admin_conn, stream);

    if (conn->state == ADMIN_LINGER || conn->state == ADMIN_CLOSING) {
        return;
    }
    buf_put(&conn->raw, data);
    conn->failed = conn->failed || conn->raw.failed;
    if (conn->raw.len > RAW_BYTES_MAX) {
        io_stream_recv_stop(conn->admin->shard->io, s);
    }
    admin_conn_ready(conn);
}

static void stream_ended(struct io_stream *s, int error)
{
    struct admin_conn *conn = CONTAINER_OF(s, struct admin_conn, stream);

    conn->ended = true;
    if (error || conn->state == ADMIN_LINGER) {
        conn_close(conn);
    } else {
        admin_conn_ready(conn);
    }
}

static void stream_sent(struct io_stream *s)
{
    struct admin_conn *conn = CONTAINER_OF(s, struct admin_conn, stream);

    conn->wire.len = 0;
    conn->progress_ms = conn->admin->shard->now_ms;
    admin_conn_ready(conn);
}

static void stream_closed(struct io_stream *s)
{
    struct admin_conn *conn = CONTAINER_OF(s, struct admin_conn, stream);

    conn_free(conn);
}

static const struct io_stream_handler stream_handler = {
    .received = stream_received,
    .ended = stream_ended,
    .sent = stream_sent,
    .closed = stream_closed,
};

/* Decrypt what came. Returns false if the connection is over. */
static bool take_raw(struct admin_conn *conn)
{
    struct slice data = buf_slice(&conn->raw);
    static uint8_t space[16384]; /* one thread is the control shard */
    int n = 0;

    if (!conn->tls) {
        buf_put(&conn->in, data);
    }
    while (conn->tls && (n = tls_feed(conn->tls, &data, space, sizeof(space), &conn->wire)) > 0) {
        buf_put(&conn->in, slice_of(space, (size_t)n));
    }
    conn->raw.len = 0;
    conn->secured = !conn->tls || tls_open(conn->tls);
    conn->ended = conn->ended || n == -ECONNRESET;
    if (n < 0 && n != -ECONNRESET) {
        log_event(LOG_INFO, "admin_handshake_failed", {"reason", LOG_STR(tls_why(conn->tls))});
        return false;
    }
    return !conn->in.failed && !conn->wire.failed;
}

/* ---- out ---- */

static bool seal(struct admin_conn *conn, struct slice piece)
{
    if (conn->tls) {
        return tls_write(conn->tls, piece.ptr, piece.len, &conn->wire) == 0;
    }
    buf_put(&conn->wire, piece);
    return !conn->wire.failed;
}

/* The next piece of the answer onto the wire. */
static bool pump(struct admin_conn *conn)
{
    size_t left = ADMIN_PIECE_BYTES;
    struct slice from = slice_drop(buf_slice(&conn->plain), conn->plain_at);
    size_t n = from.len < left ? from.len : left;

    if (n > 0) {
        if (!seal(conn, slice_of(from.ptr, n))) {
            return false;
        }
        conn->plain_at += n;
        left -= n;
    }
    if (conn->plain_at == conn->plain.len) {
        conn->plain.len = 0;
        conn->plain_at = 0;
        n = conn->body.len < left ? conn->body.len : left;
        if (n > 0 && !seal(conn, slice_of(conn->body.ptr, n))) {
            return false;
        }
        conn->body = slice_drop(conn->body, n);
    } else if (conn->plain_at > ADMIN_PIECE_BYTES) {
        buf_consume(&conn->plain, conn->plain_at);
        conn->plain_at = 0;
    }
    return true;
}

/* Everything has left. Returns false if the connection is over for it. */
static bool written(struct admin_conn *conn)
{
    if (!conn->close) {
        admin_request_finish(conn);
        conn->state = ADMIN_READING;
        conn->since_ms = conn->admin->shard->now_ms;
        admin_conn_ready(conn); /* the next request may be there already */
        return true;
    }
    if (conn->ended) {
        return false;
    }
    /* Closed at once, a socket with unread input would take the answer back. */
    shutdown(conn->stream.fd, SHUT_WR);
    conn->state = ADMIN_LINGER;
    conn->since_ms = conn->admin->shard->now_ms;
    timer_set(conn->admin->shard->timers, &conn->timer, conn->since_ms + LINGER_MS);
    conn->raw.len = 0;
    io_stream_recv_start(conn->admin->shard->io, &conn->stream);
    return true;
}

static bool output(struct admin_conn *conn)
{
    struct shard *shard = conn->admin->shard;

    if (io_stream_sending(&conn->stream)) {
        return true;
    }
    if (conn->secured && !pump(conn)) {
        return false;
    }
    if (conn->wire.len > 0) {
        conn->progress_ms = shard->now_ms;
        io_stream_send(shard->io, &conn->stream, conn->wire.ptr, conn->wire.len);
        if (conn->stalled && conn->state == ADMIN_BUSY && conn->streaming &&
            conn->plain.len - conn->plain_at < ADMIN_STREAM_BYTES_MAX / 2) {
            conn->stalled = false;
            if (conn->request.room) {
                conn->request.room(&conn->request);
            }
        }
        return true;
    }
    return conn->state != ADMIN_WRITING || written(conn);
}

/* One connection's share of a turn. Returns false if it is over. */
static bool work(struct admin_conn *conn)
{
    if (conn->failed) {
        return false;
    }
    if (conn->state == ADMIN_READING) {
        if (conn->raw.len > 0) {
            bool first = conn->in.len == 0;
            if (!take_raw(conn)) {
                return false;
            }
            if (first && conn->in.len > 0) {
                conn->since_ms = conn->admin->shard->now_ms;
            }
        }
        if (conn->secured && conn->in.len > 0) {
            admin_request_step(conn);
        }
        if (conn->state == ADMIN_READING && !conn->ended) {
            io_stream_recv_start(conn->admin->shard->io, &conn->stream);
        }
    }
    if (conn->ended && (conn->state == ADMIN_READING || conn->state == ADMIN_BUSY)) {
        return false; /* nobody waits for an answer: curl and browsers close as a whole */
    }
    if (conn->state == ADMIN_BUSY && conn->request.step) {
        conn->request.step(&conn->request);
        admin_conn_ready(conn);
    }
    return !conn->failed && output(conn);
}

void admin_server_turn(struct admin *admin)
{
    struct list *at;

    for (unsigned i = 0; i < CONNECTIONS_A_TURN && (at = list_pop(&admin->ready)) != NULL; i++) {
        struct admin_conn *conn = CONTAINER_OF(at, struct admin_conn, in_ready);
        if (!work(conn)) {
            conn_close(conn);
        }
    }
    if (!list_empty(&admin->ready)) {
        admin->shard->busy = true;
    }
}

/* ---- coming and going ---- */

/* Who has asked nothing yet, or nothing more, for the longest time, has to go: nobody keeps the port for himself. */
static bool make_room(struct admin *admin)
{
    struct admin_conn *oldest = NULL;

    if (admin->count < ADMIN_CONNECTIONS_MAX) {
        return true;
    }
    for (struct list *at = admin->all.next; at != &admin->all; at = at->next) {
        struct admin_conn *conn = CONTAINER_OF(at, struct admin_conn, in_all);
        if ((conn->state == ADMIN_READING || conn->state == ADMIN_LINGER) &&
            (!oldest || conn->since_ms < oldest->since_ms)) {
            oldest = conn;
        }
    }
    if (oldest) {
        metric_inc(admin->shard->metrics, METRIC_ADMIN_REFUSED);
        conn_close(oldest);
    }
    return oldest != NULL;
}

static void accepted(struct io_listener *l, int fd)
{
    struct admin *admin = CONTAINER_OF(l, struct admin, listener);
    struct shard *shard = admin->shard;
    struct admin_conn *conn = make_room(admin) ? calloc(1, sizeof(*conn)) : NULL;

    if (!conn || (admin->terms->tls && !(conn->tls = tls_new(admin->terms->tls, NULL))) ||
        (conn->stream.handler = &stream_handler, io_stream_attach(shard->io, &conn->stream, fd) != 0)) {
        metric_inc(shard->metrics, METRIC_ADMIN_REFUSED);
        if (conn) {
            tls_free(conn->tls);
            free(conn);
        }
        close(fd);
        return;
    }
    conn->admin = admin;
    conn->secured = !conn->tls;
    conn->since_ms = conn->progress_ms = shard->now_ms;
    conn->request.broker = admin->broker;
    list_init(&conn->in_ready);
    list_append(&admin->all, &conn->in_all);
    admin->count++;
    timer_init(&conn->timer, conn_timeout);
    timer_set(shard->timers, &conn->timer, shard->now_ms + 1000);
    io_stream_recv_start(shard->io, &conn->stream);
}

static void accept_failed(struct io_listener *l, int error)
{
    (void)l;
    log_event(LOG_WARN, "accept_failed", {"listener", LOG_STR("admin")}, {"error", LOG_STR(strerror(-error))});
}

static void accept_closed(struct io_listener *l)
{
    (void)l;
}

int admin_server_start(struct admin *admin)
{
    static const struct io_listener_handler handler = {accepted, accept_failed, accept_closed};

    admin->listener.handler = &handler;
    int rc = io_listener_start(admin->shard->io, &admin->listener, admin->fd);
    if (rc == 0) {
        admin->fd = -1;
    }
    return rc;
}

void admin_server_stop(struct admin *admin)
{
    for (struct list *at = admin->all.next; at != &admin->all; at = at->next) {
        struct admin_conn *conn = CONTAINER_OF(at, struct admin_conn, in_all);
        admin_request_abandon(conn);
        conn->state = ADMIN_CLOSING;
        timer_cancel(admin->shard->timers, &conn->timer);
        tls_free(conn->tls); /* what it keeps for the thread ends with the thread */
        conn->tls = NULL;
    }
}

void admin_server_free(struct admin *admin)
{
    struct list *at;

    while ((at = list_pop(&admin->all)) != NULL) {
        conn_free(CONTAINER_OF(at, struct admin_conn, in_all));
    }
}
