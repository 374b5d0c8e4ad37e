/* pipe.h -- a connection without a socket: its client is connected to another node, and its bytes come and go over the
 * link to that node (flow/attach). Everything else about it is as of any connection.
 *
 * Bytes that come are bounded by whoever brings them, by what `consumed` gives back; bytes that go by `take`. Touched
 * by: the connection's shard; it never moves. */
#ifndef TERN_BROKER_CONN_PIPE_H
#define TERN_BROKER_CONN_PIPE_H

#include "broker/conn/conn.h"

struct conn_pipe;

struct conn_pipe_handler {
    /* Bytes for the client. Returns how many were taken; the rest waits for conn_pipe_room. */
    size_t (*take)(struct conn_pipe *pipe, struct slice bytes);
    /* So many of the bytes that came are used: as many more may come. */
    void (*consumed)(struct conn_pipe *pipe, size_t bytes);
    /* The connection is about to be freed: everything written was taken, or it was dropped. The last call. */
    void (*closed)(struct conn_pipe *pipe);
};

struct conn_pipe {
    const struct conn_pipe_handler *handler;
    struct conn *conn;
    struct buf wire; /* written, not yet taken */
    size_t held;     /* bytes that came and are not yet given back */
};

/* handler is set. Returns 0 or -ENOMEM. */
int conn_pipe_new(struct shard *shard, const struct listener *listener, const struct in6_addr *peer, uint16_t port,
                  struct conn_pipe *pipe, struct conn **ret_conn);
void conn_pipe_received(struct conn_pipe *pipe, struct slice bytes);
/* The client is gone. */
void conn_pipe_ended(struct conn_pipe *pipe);
/* There is room again. */
void conn_pipe_room(struct conn_pipe *pipe);

static inline struct conn_pipe *conn_pipe_of(const struct conn *conn)
{
    return conn->more ? conn->more->pipe : NULL;
}

/* ---- for conn.c and conn_send.c ---- */
/* Take over conn->sending. */
void conn_pipe_send(struct conn *conn);
/* Something of what came has been used, or kept. */
void conn_pipe_account(struct conn *conn);

#endif
