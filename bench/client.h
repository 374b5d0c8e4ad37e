/* client.h -- the connections of the load generator: many MQTT clients on one thread, served by epoll.
 *
 * Why: a load generator must cost less than the broker it measures, or it measures itself. So bytes are read into one
 * buffer that all clients share, packets are recognised in place, and what a client has to answer (PUBACK, PUBREC,
 * PUBREL, PUBCOMP) is appended to its output and leaves in one write at the end of the turn. A client that is idle owns
 * no buffer. What a message means is not known here: the scenario is told through struct client_handler.
 *
 *   CONNECTING -- CONNACK --> UP -- socket or protocol failed --> GONE      (client_pool_close closes them all)
 */
#ifndef TERN_BENCH_CLIENT_H
#define TERN_BENCH_CLIENT_H

#include "proto/base/buf.h"
#include "proto/mqtt/mqtt.h"
#include "proto/mqtt/subscribe.h"

#define CLIENT_COUNT_MAX 19900u            /* the usual limit on descriptors is 20,000 */
#define CLIENT_PACKET_BYTES_MAX (1u << 20) /* nothing that a scenario sends or expects is longer */

enum client_state { CLIENT_CONNECTING, CLIENT_UP, CLIENT_GONE };

struct client_pool;

struct client {
    struct client_pool *pool; /* borrowed; outlives the client */
    int fd;                   /* owned; -1 when closed */
    uint32_t index;           /* place in the pool; roles are given by it */
    enum client_state state;
    bool waits_writable;  /* the kernel took only a part: nothing is written before EPOLLOUT */
    bool dirty;           /* in the pool's list of clients to flush */
    uint16_t receive_max; /* of the broker, from CONNACK; 65535 unless told */
    struct buf in;        /* a packet of which the end is missing */
    struct buf out;       /* to be sent, from out_at on */
    uint32_t out_at;
};

/* What the scenario wants to know. None of these may close a client. */
struct client_handler {
    void (*up)(void *context, struct client *client);
    void (*subscribed)(void *context, struct client *client, struct slice codes);
    void (*message)(void *context, struct client *client, struct slice payload);
    /* PUBACK, PUBREC or PUBCOMP for a message of this client. */
    void (*acked)(void *context, struct client *client, enum mqtt_type type, uint16_t packet_id, uint8_t reason);
    void (*writable)(void *context, struct client *client); /* all that waited has been taken by the kernel */
    void (*gone)(void *context, struct client *client, const char *why);
};

/* Where and how all clients of a pool connect. */
struct client_target {
    const char *host; /* numeric address, or a name */
    uint16_t port;
    enum mqtt_version version;
    uint16_t keep_alive_s;
};

/* Room for count clients, none of them connected. Returns 0, -ENOMEM, -EINVAL when the host is unknown, or what
 * epoll_create1 said. target and handler are borrowed until client_pool_free. */
int client_pool_new(const struct client_target *target, const struct client_handler *handler, void *context,
                    uint32_t count, struct client_pool **ret_pool);

/* Send DISCONNECT on each live connection and close it. Nothing is told to the handler. */
void client_pool_close(struct client_pool *pool);

/* Closes as well. NULL is allowed. */
void client_pool_free(struct client_pool *pool);

struct client *client_at(struct client_pool *pool, uint32_t index);

/* Start a connection and send CONNECT on it. Returns 0 or a negative errno; success is told by handler.up. */
int client_connect(struct client *client);

/* Append a SUBSCRIBE of count filters; it leaves at the end of the turn. Answered by handler.subscribed. */
void client_subscribe(struct client *client, uint16_t packet_id, const struct mqtt_subscription *subs, size_t count);

/* Whether a write would have to wait. A publisher writes nothing more until handler.writable. */
static inline bool client_blocked(const struct client *client)
{
    return client->waits_writable;
}

/* Write client->out now, as one write; what the kernel does not take waits for EPOLLOUT. */
void client_flush(struct client *client);

/* Wait up to timeout_ms, serve what happened, flush the clients that have something to send. Returns 0 or a negative
 * errno. */
int client_pool_turn(struct client_pool *pool, int timeout_ms);

/* Flush what was appended outside of a turn. */
void client_pool_flush(struct client_pool *pool);

#endif
