/* channel.h -- what stands between a connection's socket and its MQTT packets: a PROXY header, TLS, WebSocket.
 *
 *     socket --> [PROXY header] --> [TLS] --> [WebSocket] --> packets
 *     socket <--       wire     <-- [TLS] <-- [WebSocket] <-- outbox
 *
 * Until TLS is up, what comes is kept and handled at the end of a turn, a few handshakes each time: a storm of them
 * makes the strangers wait, not those who are served. Everything that one turn writes to a connection is one record (or
 * a few full ones) and one send. Plain TCP has no channel and never comes here. Inside the room: called by conn.c and
 * listener.c. */
#ifndef TERN_BROKER_CONN_CHANNEL_H
#define TERN_BROKER_CONN_CHANNEL_H

#include "broker/conn/conn.h"
#include "broker/transport/tls.h"
#include "broker/transport/ws.h"

struct channel {
    struct conn *conn;
    struct list in_knocking; /* conn_lists.knocking */
    struct list in_warm;     /* conn_lists.warm */
    struct tls *tls;         /* NULL: none */
    struct ws *ws;           /* NULL: none */
    struct buf wire;         /* to be sent as it is */
    struct buf proxy_name;   /* the client certificate's CN, as a trusted balancer says */
    uint64_t warm_ms;        /* when its TLS was used last */
    bool proxy_due;          /* the PROXY header has not come yet */
    bool via_proxy;          /* it has come and brought the peer's address */
    bool greeted;            /* everything below MQTT is agreed */
    bool closed;             /* the last word of TLS and WebSocket has been written */
};

/* Make what the conn's listener asks for. *ret_channel is NULL for plain TCP. Returns 0 or -ENOMEM. */
int channel_new(struct conn *conn, struct channel **ret_channel);
void channel_free(struct channel *channel, struct buf_pool *pool); /* NULL is allowed */

/* Bytes came from the socket. */
void channel_received(struct channel *channel, struct slice data);

/* Turn the outbox into wire, all of it. Returns false when memory is out or TLS has failed. */
bool channel_seal(struct channel *channel, struct outbox *out);
/* Write the last word of each layer, once. */
void channel_close(struct channel *channel);

/* It has come to another shard. */
void channel_attached(struct channel *channel);
void channel_detached(struct channel *channel);

/* Whether nothing at all of it is in the way of moving. */
static inline bool channel_settled(const struct channel *ch)
{
    return ch->wire.len == 0;
}

/* The channel of a connection, NULL for plain TCP. */
static inline struct channel *conn_channel(const struct conn *conn)
{
    return conn->more ? conn->more->channel : NULL;
}

/* ---- for the shard ---- */

/* End of turn: go on with handshakes, the oldest first, within the budget. Returns whether there are more. */
bool channel_run_knocking(struct conn_lists *lists);
/* Now and then: give back the TLS buffers of connections that have been idle. */
void channel_run_warm(struct conn_lists *lists, uint64_t now_ms);

/* ---- how it calls back into conn.c ---- */

/* MQTT bytes. Returns false if the connection is over or has moved: nothing of it may be touched. */
bool conn_take(struct conn *conn, struct slice bytes);
/* Keep bytes in conn->in. Returns false when memory is out. */
bool conn_keep(struct conn *conn, struct slice bytes);
/* What was kept is handled. Returns false as conn_take. */
bool conn_take_kept(struct conn *conn);
/* Read on, if this is still a connection that reads. */
void conn_read_on(struct conn *conn);
/* The other side has ended it: 0 in order, or a negative errno. */
void conn_peer_ended(struct conn *conn, int error);
/* The same, with a last word on the wire that is still to leave. */
void conn_lost(struct conn *conn, int error);
void conn_mark_dirty(struct conn *conn);

#endif
