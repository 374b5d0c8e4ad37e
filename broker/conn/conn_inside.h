/* conn_inside.h -- what the files of this room share. Inside the room. */
#ifndef TERN_BROKER_CONN_CONN_INSIDE_H
#define TERN_BROKER_CONN_CONN_INSIDE_H

#include "broker/conn/conn.h"

extern const struct conn_handler *conn_handler;

/* The broker of a shard begins with its connection lists (flow/broker.h asserts it). */
static inline struct conn_lists *conn_lists_of(const struct conn *conn)
{
    return conn->shard->broker;
}

/* Neither in a list nor with a socket. NULL: memory is out. */
struct conn *conn_alloc(struct shard *shard, const struct listener *listener);
/* io_stream_handler.sent */
void conn_sent(struct io_stream *stream);
/* Whether something written has not yet left. */
bool conn_sending(const struct conn *conn);
void conn_free(struct conn *conn);
/* Give up what has not been sent. */
void conn_output_clear(struct conn *conn);

#endif
