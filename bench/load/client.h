/* client.h -- one MQTT client of the load generator, on the same door to the kernel as the broker.
 *
 * Why: a load generator must cost less than the broker it measures, or it measures itself. So packets are recognised in
 * the door's receive buffer, and what a client has to answer (PUBACK, PUBREC, PUBREL, PUBCOMP) is appended to its
 * output, of which one write leaves a turn. A client that is idle owns no buffer. What a message means is not known
 * here: the worker is told through struct client_handler.
 *
 *   IDLE -- connect --> CONNECTING -- CONNACK --> UP -- leave --> LEAVING -- DISCONNECT sent --> (closed) --> IDLE
 *                            |                     |                                                          ^
 *                            +---- refused, broken, thrown out --> GONE -- (closed) --> IDLE ------------------+
 *
 * Touched by: the shard of its pool. */
#ifndef TERN_BENCH_CLIENT_H
#define TERN_BENCH_CLIENT_H

#include "bench/load/plan.h"
#include "broker/loop/shard.h"
#include "proto/mqtt/subscribe.h"

#define CLIENT_PACKET_BYTES_MAX (1u << 20) /* nothing that a scenario sends or expects is longer */

enum client_state { CLIENT_IDLE, CLIENT_CONNECTING, CLIENT_UP, CLIENT_LEAVING, CLIENT_GONE };

struct client_pool;
struct tunnel;

struct client {
    struct io_stream stream;
    struct timer timer;       /* keep alive, or the next look of a slow reader */
    struct client_pool *pool; /* borrowed */
    uint32_t number;          /* in the plan */
    uint32_t place;           /* receiver or publisher number within its flow */
    uint8_t flow;
    bool publisher; /* else a receiver, or one that only connects */
    bool slow;
    uint8_t state; /* enum client_state */
    bool was_up;   /* since the last connect */
    bool dirty;    /* in the pool's list of clients to flush */
    bool eager;    /* has more to write as soon as this is sent */
    bool pinged;   /* a PINGRESP is due */
    bool closing;
    uint16_t receive_max; /* of the broker, from CONNACK; 65535 unless told */
    uint16_t subscribe_id;
    uint64_t since_us;     /* when the CONNECT was due, later when the last SUBSCRIBE was sent */
    uint64_t pinged_ms;    /* when this client last said something for the keep alive */
    struct tunnel *tunnel; /* TLS, WebSocket; NULL: plain TCP */
    struct buf wire;       /* with a tunnel: what is to be sent as it is */
    struct buf in;         /* a packet of which the end is missing */
    struct buf out;        /* for the next write */
    struct buf sending;    /* with the kernel */
};

/* What the worker wants to know. None of these may close a client. */
struct client_handler {
    void (*up)(struct client *client);
    void (*subscribed)(struct client *client, struct slice codes);
    void (*message)(struct client *client, struct slice payload, uint64_t now_us);
    /* PUBACK, PUBREC or PUBCOMP for a message of this client. */
    void (*acked)(struct client *client, enum mqtt_type type, uint16_t packet_id, uint8_t reason, uint64_t now_us);
    void (*writable)(struct client *client);              /* what was written is with the kernel */
    void (*gone)(struct client *client, const char *why); /* by the broker or the network; not when leaving or cut */
    void (*closed)(struct client *client);                /* after leaving, being cut or gone: may connect again */
};

struct client_pool {
    struct shard *shard; /* borrowed */
    const struct options *options;
    const struct client_handler *handler;
    void *context;         /* the handler's own */
    struct client **dirty; /* owned; room for all clients */
    uint32_t dirty_count;
};

/* Make room for `count` clients' names in the list. Returns 0 or -ENOMEM. */
int client_pool_init(struct client_pool *pool, uint32_t count);
void client_pool_deinit(struct client_pool *pool);

void client_init(struct client *client, struct client_pool *pool, uint32_t number);

/* Free what a closed (or never connected) client still holds. */
void client_deinit(struct client *client);

/* Start a connection; CONNECT is sent as soon as it stands. due_us: when it was due, for the histogram. fresh: with
 * Clean Start and without a session afterwards, whatever the options say. Returns 0 or a negative errno; success is
 * told by handler.up. Only when IDLE. */
int client_connect(struct client *client, uint64_t due_us, bool fresh);

/* Append a SUBSCRIBE of count filters; it leaves at the end of the turn. Answered by handler.subscribed. */
void client_subscribe(struct client *client, const struct mqtt_subscription *subs, size_t count);

/* The output, to append to; it leaves in one write at the end of the turn. */
struct buf *client_output(struct client *client);

/* Whether a write is under way: what is appended now leaves only after it. */
static inline bool client_writing(const struct client *client)
{
    return io_stream_sending(&client->stream) || client->out.len > 0;
}

void client_leave(struct client *client); /* with a DISCONNECT. Nothing when IDLE */
void client_cut(struct client *client);   /* as a machine that dies: with a reset. Nothing when IDLE */

/* Write what was appended in this turn. */
void client_pool_flush(struct client_pool *pool);

#endif
