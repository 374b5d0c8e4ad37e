/* sim_io.h -- a door to no kernel: sockets in memory, one thread, a test at the other end of each.
 *
 * Why: the broker's core can then be turned step by step, fed byte by byte and read as it answers, some thousand whole
 * lives a second, and the same input gives the same history. It keeps the promises of io.h; what a kernel leaves to
 * chance (where a stream is cut, how much a socket takes, when a peer is gone) the test decides.
 * One sim_net for all shards of a node. Touched by: the test's thread. */
#ifndef TERN_TESTS_LIB_SIM_IO_H
#define TERN_TESTS_LIB_SIM_IO_H

#include "broker/loop/io.h"
#include "proto/base/buf.h"

#define SIM_SOCKETS_MAX 2600 /* in the life of a net */
#define SIM_FIRST_FD 20000   /* no descriptor of this process: what is called with one fails without harm */
#define SIM_NO_LIMIT UINT32_MAX
#define SIM_LISTEN_FD (SIM_FIRST_FD + SIM_SOCKETS_MAX) /* of the first shard's listener for clients */
#define SIM_PEERS_FD (SIM_LISTEN_FD + 1000)            /* ... for other nodes; the next one is for datagrams */

/* One connection, from the side of a client or of another node. */
struct sim_socket {
    int fd;
    bool to_peers;          /* it knocks where other nodes do */
    unsigned shard;         /* whose listener it came to */
    struct buf to_broker;   /* sent by the client, not yet received */
    struct buf cuts;        /* lengths of its pieces, four bytes each: one piece a `received` */
    struct buf from_broker; /* sent by the broker */
    uint32_t room;          /* bytes that the broker may still send; SIM_NO_LIMIT */
    bool accepted;
    bool finished, reset; /* the client has closed in the ordinary way, or is gone */
    bool closed;          /* by the broker */
    struct io *io;        /* the door it is under now, or NULL */
    struct io_stream *stream;
};

struct sim_net {
    struct sim_socket sockets[SIM_SOCKETS_MAX];
    unsigned count;
    struct buf datagrams; /* come and not yet received: struct sim_datagram_head, bytes */

    /* What a node says to others is for a world of several nodes to carry. A node alone has none of it: nobody can be
     * dialled, datagrams are lost. */
    void *world;
    /* As io_dial: the descriptor of one of `sockets`, marked as accepted, or a negative errno. */
    int (*dial)(struct sim_net *net, const struct sockaddr *to);
    /* data is borrowed. */
    void (*datagram)(struct sim_net *net, struct slice data, const struct sockaddr *to);
};

void sim_net_init(struct sim_net *net);
void sim_net_deinit(struct sim_net *net); /* after the doors */

/* For io_options.door: doors opened from now on belong to this net. */
int sim_door_open(const struct io_options *options, struct io **ret_io);
void sim_net_use(struct sim_net *net);

/* Knock at a shard's listener. NULL when there were SIM_SOCKETS_MAX. */
struct sim_socket *sim_connect(struct sim_net *net, unsigned shard);

/* The same at the node's listener for other nodes. */
struct sim_socket *sim_connect_peer(struct sim_net *net);

/* A datagram comes, to be received in the next io_reap. */
void sim_datagram(struct sim_net *net, struct slice data, const struct sockaddr *from, socklen_t from_len);

/* Send one piece: the broker receives it whole, and nothing together with it. */
void sim_send(struct sim_socket *s, struct slice data);

#endif
