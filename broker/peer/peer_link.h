/* peer_link.h -- links to the other nodes: TLS 1.3, both sides with a certificate of the cluster's CA.
 *
 * Why: each shard dials one link to each other node, and the shard at the other end answers on it: so no lock is on the
 * way, and what one publisher sends stays in order. What a link carries survives the connection (cluster/link_flow): it
 * is dialled again, HELLO says how far each side has come, and the rest is sent again. Only when the other node was
 * started anew, or has forgotten the link, does `reset` tell that everything has to begin anew.
 *
 *     dialled by shard s ==> accepted on the control shard, moved to shard s % shards with its HELLO
 *
 * Before HELLO was agreed a connection costs a few KiB and a deadline, and not one byte of a message is looked at. */
#ifndef TERN_BROKER_PEER_PEER_LINK_H
#define TERN_BROKER_PEER_PEER_LINK_H

#include <stdatomic.h>

#include "broker/loop/shard.h"
#include "broker/transport/tls.h"
#include "cluster/link_flow.h"
#include "cluster/member.h"
#include "proto/base/map.h"
#include "proto/wire/wire.h"

/* Versions of the protocol that this build speaks, and what it can besides. Two nodes speak the highest version that
 * both know, and use what both can; a frame of a type that is not known is passed over. So a release raises the highest
 * version, and the lowest only when nobody has the one before any more. */
#define PEER_WIRE_MIN 1u
#define PEER_WIRE_MAX 1u
#define PEER_FEATURES (PEER_FEATURE_RELAY | PEER_FEATURE_INQUIRY | PEER_FEATURE_LEAVE)

#define PEER_FEATURE_RELAY 1ull   /* passes frames on between two others */
#define PEER_FEATURE_INQUIRY 2ull /* answers an operator's questions (flow/inquire.h) */
#define PEER_FEATURE_LEAVE 4ull   /* says goodbye to a client when its connection's node asks (flow/attach.c) */

#define PEER_REFUSAL_BYTES 160u

struct peer_link;
struct peer_wire;
struct peer_room;

/* Filled by broker/flow: control goes up only here. All on the shard's thread. */
struct peer_handler {
    /* A frame, once and in the order of its lane; body is borrowed. Returns 0, -EPROTO for what no sane
     * peer sends, or -ENOMEM: the connection is closed, and the frame comes again with the next one. */
    int (*frame)(struct peer_link *link, const struct link_frame *frame, struct slice body);
    /* HELLO is agreed on a (new) connection. Returns 0, or -ENOMEM: it is closed, and tried anew. */
    int (*opened)(struct peer_link *link);
    /* The connection is gone; it is dialled again. */
    void (*lost)(struct peer_link *link);
    /* The other side knows nothing of what was sent, and nothing more comes of what it has received: put anew what is
     * still to be told. Before opened, if both. */
    void (*reset)(struct peer_link *link);
    /* The link is about to be freed. */
    void (*ended)(struct peer_link *link);
    /* A lane that had refused has room again. */
    void (*drained)(struct peer_link *link);
    /* Whether this is a member that lives, in this very start. Asked on the shard that accepts. */
    bool (*known)(struct peer_room *room, const struct node_id *id, uint64_t boot);
    /* A connection belongs to another shard: it is to be given there to peer_wire_arrived, or to peer_wire_discard. */
    void (*move)(struct peer_room *room, struct peer_wire *wire, unsigned shard);
};

/* What all links of a node have in common; not changed while there are shards, but for what says so. */
struct peer_terms {
    struct node_id node_id;
    uint64_t boot;
    uint32_t wire_min, wire_max; /* PEER_WIRE_MIN and so on; tests have others */
    uint64_t features;
    char cluster[MEMBER_NAME_MAX + 1];
    uint8_t cluster_id[MEMBER_CLUSTER_ID_SIZE]; /* written by the control shard before has_id */
    atomic_bool has_id;
    _Atomic(struct tls_context *) tls_in, tls_out; /* owned; NULL: plain TCP; exchanged by a reload */
    uint32_t frame_bytes_max;
    const struct peer_handler *handler;
};

#define PEER_STRANGERS 64u

/* Somebody whom the log has named (peer_stranger.c). */
struct peer_stranger {
    uint64_t who; /* hash of address and reason */
    uint64_t quiet_until_ms;
};

/* The links of one shard. */
struct peer_room {
    struct shard *shard;
    struct peer_terms *terms;
    struct list links; /* struct peer_link.in_room */
    struct list wires; /* struct peer_wire.in_room: all connections */
    struct list dirty; /* links with something to send */
    struct io_listener listener;
    bool listening;
    unsigned knocking; /* connections that have not said HELLO */
    struct peer_stranger strangers[PEER_STRANGERS];
    uint64_t next_number;
    uint32_t relay_number;
    struct wire_arena arena;
    struct buf scratch;
    uint64_t frames_in, frames_out, bytes_in, bytes_out; /* counts */
};

struct peer_link {
    struct list in_room, in_dirty; /* in_dirty: empty: not in the list */
    struct peer_room *room;
    struct node_id id;
    uint64_t boot;                 /* of the other node, as it said; 0: it has not */
    uint64_t features;             /* both sides know them */
    uint32_t version;              /* of the protocol, that is spoken */
    uint64_t number;               /* of the link, in its dialler's life */
    struct member_address address; /* where to dial */
    struct link_flow flow;
    struct peer_wire *wire; /* the one in use, NULL: none */
    /* Dialled: the connection, and what leads through a third node; one of them may be the one in use, or both are only
     * tried. NULL: not even that. */
    struct peer_wire *direct, *relayed;
    struct timer retry, relay; /* dial; ask a third node */
    unsigned relay_turn;       /* which */
    bool was_relayed;
    bool led_around; /* its last connection went through a third node */
    uint32_t epoch;  /* grows with every wire that it runs over */
    uint32_t retry_ms;
    uint16_t shard; /* of the dialler */
    bool dialled;
    bool open;                        /* HELLO is agreed */
    bool turned_away;                 /* HELLO was refused, and the log has it */
    char refusal[PEER_REFUSAL_BYTES]; /* and why, the last time; empty: it never was */
    bool refused;                     /* somebody was refused room: drained is to be called */
    void *owner;                      /* the handler's own */
    unsigned peer;                    /* and its number of the other node plus 1, for the counters; 0: none */
};

void peer_room_init(struct peer_room *room, struct shard *shard, struct peer_terms *terms);
/* Accept on fd, a listening socket, which is taken over. 0 or a negative errno. */
int peer_room_listen(struct peer_room *room, int fd);
/* End of turn: what was put leaves. */
void peer_room_flush(struct peer_room *room);
/* The shard ends: close everything. Links are ended. */
void peer_room_stop(struct peer_room *room);

/* Keep a link to this node open from now on, under this address. NULL when memory is out. */
struct peer_link *peer_dial(struct peer_room *room, const struct node_id *id, const struct member_address *address);
/* It has another address now. */
void peer_redial(struct peer_link *link, const struct member_address *address);
/* End it, with its connection. */
void peer_hang_up(struct peer_link *link);
/* End the links that this node, in this or an earlier start, has dialled to here. */
void peer_forget(struct peer_room *room, const struct node_id *id, uint64_t boot);

/* Send a frame at the end of the turn. Returns 0, -ENOBUFS (drained follows) or -ENOMEM. */
int peer_put(struct peer_link *link, unsigned lane, uint8_t type, uint16_t flags, const struct slice *parts,
             unsigned count);
/* The same for a message of proto/wire. */
int peer_put_message(struct peer_link *link, unsigned lane, uint8_t type, const ProtobufCMessage *message);

/* Another shard's connection has come here. */
void peer_wire_arrived(struct peer_room *room, struct peer_wire *wire);
void peer_wire_discard(struct peer_wire *wire); /* no shard runs any more */

#endif
