/* listener.h -- an address that clients connect to, open on every shard.
 *
 * Each shard has a socket of its own on the address (SO_REUSEPORT), so that the kernel spreads new connections and no
 * shard hands them around; the shards share the one socket of a Unix address. The `listener` is shared by the shards
 * and only read, but for what says so; a `listener_door` is one shard's. */
#ifndef TERN_BROKER_CONN_LISTENER_H
#define TERN_BROKER_CONN_LISTENER_H

#include "broker/auth/ban.h"
#include "broker/base/config.h"
#include "broker/base/rate.h"
#include "broker/conn/ledger.h"
#include "broker/loop/shard.h"
#include "broker/transport/tls.h"
#include "broker/transport/ws.h"

struct conn;

struct listener {
    const struct config_listener *config; /* borrowed from the configuration that the node began with */
    const char *name, *address;           /* for the log; borrowed from it */
    bool tls, websocket, proxy;
    _Atomic(struct tls_context *) tls_context; /* owned; exchanged by a reload */
    atomic_uint
        methods; /* enum config_method bits: how its clients may prove who they are. These two follow a reload */
    atomic_bool anonymous; /* and whether they need not */
    struct ws_terms ws_terms;
    const char *trusted_proxies;
    struct slice mount;        /* in front of every topic of its clients (flow/mount) */
    uint32_t packet_bytes_max; /* changed by a reload: read with listener_packet_bytes_max */
    struct ledger *ledger;     /* the node's */
    struct ban_list *bans;     /* the node's */
    atomic_uint count;         /* its connections */
    struct rate publish_rate, publish_byte_rate;
    unsigned port; /* the one really bound; 0: a Unix socket */
    unsigned shard_count;
    int fds[SHARDS_MAX]; /* one a shard; -1 once handed over */
};

/* Set everything that comes from the configuration. The listener is all zero before. */
void listener_init(struct listener *listener, const struct config_listener *config, struct ledger *ledger,
                   struct ban_list *bans);

/* Bind and listen, once for each shard. Returns 0, or a negative errno with nothing left open: -EADDRINUSE after trying
 * for two seconds, since a killed io_uring process may hold its port for a moment; -EADDRNOTAVAIL; -ENOENT: the host
 * name is unknown, or the folder of a Unix socket is not there; -ENAMETOOLONG. A Unix socket that nobody listens on any
 * more is replaced. */
int listener_open(struct listener *listener, unsigned shard_count);
void listener_close(struct listener *listener); /* what was not handed over; removes a Unix socket */

static inline uint32_t listener_packet_bytes_max(const struct listener *l)
{
    return __atomic_load_n(&l->packet_bytes_max, __ATOMIC_RELAXED);
}

/* A connection comes from this address (again, if a proxy knows better than its socket): count it and look whether it
 * may stay. Returns false, with a line in the log, if not. */
bool listener_admit(const struct listener *listener, struct conn *conn, const struct in6_addr *address, uint16_t port);

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
