/* ws.h -- one WebSocket connection: the opening handshake, then frames; bytes in, bytes out (RFC 6455, MQTT 5.0 ch. 6).
 *
 * Why a filter: it knows neither sockets nor TLS nor MQTT. What comes from below (TCP or TLS) is put in, MQTT bytes
 * come out, and what must be sent below (handshake answer, pong, close) is appended to a buf. Both roles: the broker is
 * the server, the load tool the client. Touched by: the shard of its connection. */
#ifndef TERN_BROKER_TRANSPORT_WS_H
#define TERN_BROKER_TRANSPORT_WS_H

#include "proto/base/buf.h"
#include "proto/web/ws.h"

struct ws;

/* What a server asks of the handshake; borrowed, lives longer than the connections. */
struct ws_terms {
    const char *path;    /* "/mqtt": what a request must ask for; NULL: anything */
    const char *origins; /* comma-separated list of allowed Origin values ("https://a.example"); NULL or "": any. A
                            request without Origin comes from no browser and is let in */
};

struct ws *ws_server_new(const struct ws_terms *terms); /* NULL when memory is out */
/* A client: appends its request to out. host as it stands in a URL: "broker.example:8083", "[::1]:8083". */
struct ws *ws_client_new(const char *host, const char *path, struct buf *out);
void ws_free(struct ws *ws); /* NULL is allowed */

/* Whether the handshake is over and MQTT bytes may be sent: no more once a Close has been. */
bool ws_open(const struct ws *ws);

/* Server, once open: the list of X-Forwarded-For (empty if none), for who trusts its sender; the rightmost element is
 * the latest hop. Borrowed until ws_forget_head. */
struct slice ws_forwarded_for(const struct ws *ws);
void ws_forget_head(struct ws *ws);

/* Take bytes from *data (moving it on) and hand out MQTT bytes: at most space_size of them, unmasked into `space`,
 * which may be the very memory that *data lies in. Call until *data is empty and it returns 0. Answers to be sent
 * (handshake, pong, close) are appended to out. Returns the number of MQTT bytes, 0 when nothing more can be had from
 * *data, or:
 *
 *   -ECONNRESET  the peer has closed with a Close frame, the answer is in out: send it, then close
 *   -EPROTO      the peer broke the rules; an HTTP error or a Close frame with the right code is in out
 *   -ENOMEM      also when out has failed
 *
 * with *ret_why saying which rule, for the log. What came before the end is handed out first. After a negative return
 * nothing more may be put in. An empty frame or a control frame yields no bytes and goes on. A ping flood is the
 * caller's to bound by the bytes in out. */
int ws_feed(struct ws *ws, struct slice *data, uint8_t *space, size_t space_size, struct buf *out,
            const char **ret_why);

/* Append the head of one binary frame of n payload bytes to out, only while ws_open (5.5.1: no data behind a Close).
 * The caller appends the payload behind it, as it is for a server; for a client masked: ws_client_mask is then called
 * on the payload in out. */
void ws_frame_begin(struct ws *ws, size_t n, struct buf *out);
void ws_client_mask(struct ws *ws, uint8_t *payload, size_t n);

/* Append a Close frame, once; nothing if the handshake is not over or a Close has been sent. */
void ws_close(struct ws *ws, unsigned code, struct buf *out);

#endif
