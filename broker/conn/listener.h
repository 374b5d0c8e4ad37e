/* listener.h -- an address that clients connect to, open on every shard.
 *
 * Each shard has a socket of its own on the address (SO_REUSEPORT), so that the kernel spreads new connections and no
 * shard hands them around. The `listener` is shared by the shards and only read; a `listener_door` is one shard's. */
#ifndef TERN_BROKER_CONN_LISTENER_H
#define TERN_BROKER_CONN_LISTENER_H

#include "broker/conn/ledger.h"
#include "broker/loop/shard.h"

struct conn;

struct listener {
    const char *address; /* as configured, for the log; borrowed from the configuration */
    bool allow_anonymous;
    uint32_t packet_bytes_max; /* changed by a reload: read with listener_packet_bytes_max */
    struct ledger *ledger;     /* the node's */
    unsigned port;             /* the one really bound */
    unsigned shard_count;
    int fds[SHARDS_MAX]; /* one a shard; -1 once handed over */
};

/* Bind and listen, once for each shard. Returns 0, or a negative errno with nothing left open: -EADDRINUSE after trying
 * for two seconds, since a killed io_uring process may hold its port for a moment; -EADDRNOTAVAIL; -ENOENT: the host
 * name is unknown. */
int listener_open(struct listener *listener, const char *host, unsigned port, unsigned shard_count);
void listener_close(struct listener *listener); /* what was not handed over */

static inline uint32_t listener_packet_bytes_max(const struct listener *l)
{
    return __atomic_load_n(&l->packet_bytes_max, __ATOMIC_RELAXED);
}

/* A connection that this listener let in is gone. */
void listener_forget(const struct listener *listener, const struct conn *conn);

struct listener_door {
    struct io_listener io;
    struct shard *shard;
    struct listener *listener;
    /* A connection was made; flow sets its deadline. */
    void (*arrived)(struct conn *conn);
};

/* Accept on this shard from now on; takes over the listener's socket of the shard. Returns 0 or a negative errno. */
int listener_door_start(struct listener_door *door, struct shard *shard, struct listener *listener);
void listener_door_stop(struct listener_door *door);

#endif
