#include "broker/conn/pipe.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/base/metrics.h"
#include "broker/conn/channel.h"
#include "broker/conn/conn_inside.h"

int conn_pipe_new(struct shard *shard, const struct listener *listener, const struct in6_addr *peer, uint16_t port,
                  struct conn_pipe *pipe, struct conn **ret_conn)
{
    struct conn *conn = conn_alloc(shard, listener);

    if (!conn || !conn_more(conn)) {
        free(conn);
        return -ENOMEM;
    }
    conn->stream.fd = -1;
    conn->peer = *peer;
    conn->peer_port = port;
    conn->more->pipe = pipe;
    conn->more->accepted_ns = shard->now_ns;
    pipe->conn = conn;
    list_append(&conn_lists_of(conn)->all, &conn->in_shard);
    metric_add(shard->metrics, METRIC_SOCKETS, 1); /* conn_free takes it back */
    *ret_conn = conn;
    return 0;
}

void conn_pipe_account(struct conn *conn)
{
    struct conn_pipe *pipe = conn_pipe_of(conn);
    size_t kept = conn->paused ? conn->in.len : 0; /* else it is the beginning of a packet, whose end is to come */
    size_t used = pipe->held > kept ? pipe->held - kept : 0;

    pipe->held -= used;
    if (used > 0) {
        pipe->handler->consumed(pipe, used);
    }
}

void conn_pipe_received(struct conn_pipe *pipe, struct slice bytes)
{
    struct conn *conn = pipe->conn;

    pipe->held += bytes.len;
    if (conn->state == CONN_FINISHING || conn->state == CONN_CLOSED) {
        return;
    }
    if (conn_take(conn, bytes)) {
        conn_pipe_account(conn);
    }
}

void conn_pipe_ended(struct conn_pipe *pipe)
{
    conn_peer_ended(pipe->conn, 0);
}

/* Hand on what is written, as far as it is taken. */
static void push(struct conn_pipe *pipe)
{
    struct conn *conn = pipe->conn;

    if (pipe->wire.len > 0) {
        buf_consume(&pipe->wire, (uint32_t)pipe->handler->take(pipe, buf_slice(&pipe->wire)));
    }
    if (pipe->wire.len == 0) {
        buf_pool_put(&conn->shard->spare, &pipe->wire);
        conn_sent(&conn->stream);
    }
}

void conn_pipe_room(struct conn_pipe *pipe)
{
    if (pipe->wire.len > 0 && pipe->conn->state != CONN_CLOSED) {
        push(pipe);
    }
}

void conn_pipe_send(struct conn *conn)
{
    struct conn_pipe *pipe = conn_pipe_of(conn);
    struct outbox *out = &conn->sending;

    pipe->wire = buf_pool_get(&conn->shard->spare);
    if (out->refs) {
        struct msghdr *vector = outbox_vector(out);
        for (size_t i = 0; i < vector->msg_iovlen; i++) {
            buf_put(&pipe->wire, slice_of(vector->msg_iov[i].iov_base, vector->msg_iov[i].iov_len));
        }
    } else {
        buf_put(&pipe->wire, buf_slice(&out->bytes));
    }
    if (pipe->wire.failed) {
        buf_deinit(&pipe->wire);
        conn_handler->lost(conn, -ENOMEM);
        return;
    }
    push(pipe);
}
