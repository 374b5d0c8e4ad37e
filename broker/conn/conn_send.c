/* conn_send.c -- the way out of a connection: packets into its outbox, and at the end of the turn one send. */
#include "broker/conn/conn.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

#include "broker/base/metrics.h"
#include "broker/conn/channel.h"
#include "broker/conn/conn_inside.h"
#include "broker/conn/gate.h"
#include "broker/conn/pipe.h"
#include "broker/session/session.h"

#define LINGER_MS 5000u

/* Count output that goes to the door (n 1), and that has left it or is given up (n -1). */
static void count_sending(const struct conn *conn, int64_t n)
{
    int64_t bytes = (int64_t)outbox_size(&conn->sending);

    metric_add(conn->shard->metrics, METRIC_OUTBOXES, n);
    metric_add(conn->shard->metrics, METRIC_OUTBOX_BYTES, n < 0 ? -bytes : bytes);
}

void conn_output_clear(struct conn *conn)
{
    struct buf_pool *spare = &conn->shard->spare;

    outbox_clear(&conn->out, spare);
    if (outbox_size(&conn->sending) > 0) {
        count_sending(conn, -1);
    }
    outbox_clear(&conn->sending, spare);
    gate_free(conn);
}

size_t conn_out_bytes(const struct conn *conn)
{
    return outbox_size(&conn->out) + outbox_size(&conn->sending) + (conn->gate ? outbox_size(&conn->gate->next) : 0);
}

struct buf *conn_out(struct conn *conn)
{
    gate_before_packet(conn);
    struct buf *bytes = &gate_outbox(conn)->bytes;

    if (!bytes->ptr && !bytes->failed) {
        *bytes = buf_pool_get(&conn->shard->spare);
    }
    conn_mark_dirty(conn);
    return bytes;
}

void conn_out_payload(struct conn *conn, struct message *m)
{
    struct outbox *out = gate_outbox(conn);

    assert(out->bytes.len > 0 || out->bytes.failed);
    outbox_put_payload(out, m);
}

void conn_mark_dirty(struct conn *conn)
{
    if (list_empty(&conn->in_dirty)) {
        list_append(&conn_lists_of(conn)->dirty, &conn->in_dirty);
    }
}

/* Whether something is to be handed to the door; a channel's last word is written when all else is. */
static bool has_output(const struct conn *conn)
{
    const struct channel *channel = conn_channel(conn);

    if (gate_closed(conn)) {
        return channel && channel->wire.len > 0;
    }
    return conn->out.bytes.len > 0 ||
           (channel && (channel->wire.len > 0 || (conn->state == CONN_FINISHING && !channel->closed)));
}

/* Whether a packet could not be written for lack of memory. */
static bool output_failed(const struct conn *conn)
{
    return conn->out.bytes.failed || (conn->gate && conn->gate->next.bytes.failed);
}

bool conn_sending(const struct conn *conn)
{
    const struct conn_pipe *pipe = conn_pipe_of(conn);

    return pipe ? pipe->wire.len > 0 : io_stream_sending(&conn->stream);
}

/* Everything was said: the peer is to close now. */
static void say_end(struct conn *conn)
{
    if (conn_pipe_of(conn)) {
        conn_drop(conn);
    } else {
        shutdown(conn->stream.fd, SHUT_WR);
    }
}

void conn_hang_up(struct conn *conn)
{
    if (conn_channel(conn)) {
        conn_finish(conn);
    } else {
        conn_drop(conn);
    }
}

bool conn_has_last_word(const struct conn *conn)
{
    const struct channel *channel = conn_channel(conn);

    return channel && channel->wire.len > 0 && !conn->ended;
}

void conn_sent(struct io_stream *stream)
{
    struct conn *conn = CONTAINER_OF(stream, struct conn, stream);

    metric_add(conn->shard->metrics, METRIC_BYTES_SENT, (int64_t)outbox_size(&conn->sending));
    count_sending(conn, -1);
    outbox_clear(&conn->sending, &conn->shard->spare);
    if (has_output(conn)) {
        conn_mark_dirty(conn);
    }
    if (conn->state == CONN_FINISHING) {
        if (!has_output(conn) && !gate_closed(conn)) {
            say_end(conn);
        }
        return;
    }
    conn_resume(conn, PAUSE_SEND);
    conn_handler->drained(conn);
}

/* Take what goes to the door now out of the outbox: through the channel, if there is one; what waits at the gate stays.
 * Returns false when the connection is lost over it. */
static bool take_output(struct conn *conn)
{
    struct channel *channel = conn_channel(conn);
    struct buf_pool *spare = &conn->shard->spare;
    bool open = !gate_closed(conn);

    if (channel) {
        bool sealed = !open || conn->out.bytes.len == 0 || channel_seal(channel, &conn->out);
        if (open) {
            outbox_clear(&conn->out, spare);
        }
        if (!sealed) {
            conn_handler->lost(conn, -EPROTO);
            return false;
        }
        bool next = conn->gate && outbox_size(&conn->gate->next) > 0;
        if (conn->state == CONN_FINISHING && open && !next) {
            channel_close(channel);
        }
        conn->sending = (struct outbox){.bytes = channel->wire};
        channel->wire = (struct buf){0};
    } else {
        conn->sending = conn->out;
        conn->out = (struct outbox){0};
    }
    if (open && conn->gate) {
        gate_advance(conn);
    }
    return true;
}

/* Hand the outbox to the door. */
static void send_out(struct conn *conn)
{
    /* Nobody waits for `sent`. */
    bool last = conn->state == CONN_OPEN && !conn->paused && conn->session && !conn->session->replays &&
                !session_waiting(conn->session) && !(conn->gate && outbox_size(&conn->gate->next) > 0);
    struct io *io = conn->shard->io;
    struct outbox *sending = &conn->sending;

    if (!take_output(conn)) {
        return;
    }
    if (sending->bytes.len == 0) { /* nothing was left to say */
        outbox_clear(sending, &conn->shard->spare);
        say_end(conn);
        return;
    }
    count_sending(conn, 1);
    if (conn_pipe_of(conn)) {
        conn_pipe_send(conn);
    } else if (sending->refs) {
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
        if (conn->state == CONN_CLOSED && conn_pipe_of(conn)) {
            conn_free(conn);
            continue;
        }
        if (output_failed(conn)) { /* memory was out: a packet is missing, the stream cannot go on */
            conn_handler->lost(conn, -ENOMEM);
            continue;
        }
        if (conn->state == CONN_CLOSED || conn_sending(conn)) {
            continue;
        }
        if (has_output(conn)) {
            send_out(conn);
        } else if (conn->state == CONN_FINISHING && !gate_closed(conn)) { /* it was closed, and nothing is behind it */
            say_end(conn);
        }
    }
}

void conn_finish(struct conn *conn)
{
    if (conn->state == CONN_FINISHING || conn->state == CONN_CLOSED) {
        return;
    }
    conn->state = CONN_FINISHING;
    if (conn->ended || output_failed(conn)) {
        conn_drop(conn);
        return;
    }
    if (has_output(conn)) {
        conn_mark_dirty(conn);
    } else if (!conn_sending(conn) && !gate_closed(conn)) {
        say_end(conn);
    }
    if (conn->state == CONN_CLOSED) {
        return;
    }
    if (!conn_pipe_of(conn)) { /* until the peer closes too: a reset would lose our last packet */
        io_stream_recv_start(conn->shard->io, &conn->stream);
    }
    timer_set(conn->shard->timers, &conn->timer, conn->shard->now_ms + LINGER_MS);
}
