/* tunnel.h -- what stands between a client of the load tool and its socket when it is not plain TCP: TLS, WebSocket,
 * both.
 *
 * The client's packets wait in its output until the handshakes are over; then one flush is one frame, encrypted at
 * once. */
#ifndef TERN_BENCH_TUNNEL_H
#define TERN_BENCH_TUNNEL_H

#include "bench/load/options.h"
#include "proto/base/buf.h"

struct tunnel;

/* Begin: the first bytes to be sent are appended to wire. Returns 0 with *ret_tunnel NULL for plain TCP, or -ENOMEM. */
int tunnel_new(const struct options *options, const struct host *host, struct buf *wire, struct tunnel **ret_tunnel);
void tunnel_free(struct tunnel *tunnel); /* NULL is allowed */

/* Whether packets may be sent. */
bool tunnel_open(const struct tunnel *tunnel);

/* Bytes came from the socket: hand the packets' bytes to take, piece by piece, until it returns false. What must be
 * sent is appended to wire. Returns NULL, or why the connection is over. */
const char *tunnel_feed(struct tunnel *tunnel, struct slice data, struct buf *wire,
                        bool (*take)(void *context, struct slice bytes), void *context);

/* Append packets, as they go over the wire, to wire. Returns false when that fails. Only when open. */
bool tunnel_seal(struct tunnel *tunnel, struct slice packets, struct buf *wire);

#endif
