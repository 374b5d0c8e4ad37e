/* driver.h -- the membership of the cluster on the control shard: the pure core (cluster/swim), fed from its datagrams,
 * its timer and the links, and its words carried out. */
#ifndef TERN_BROKER_FLOW_DRIVER_H
#define TERN_BROKER_FLOW_DRIVER_H

#include "broker/flow/cluster.h"

int driver_start(struct broker *b); /* 0 or a negative errno */
void driver_stop(struct broker *b);
/* Once a turn: the main thread may have found addresses of seeds, which are asked until somebody answers, and now and
 * then later: a name may stand for others by then. */
void driver_turn(struct broker *b);
/* This shard's own link to a node has opened, or was lost. */
void driver_link(struct broker *b, struct peer_link *link, bool open);
/* A part of what another node knows of the members. */
int driver_members(struct peer_link *link, struct slice body);

/* Control shard: this node sends its clients away, or does not any more: all are told, once. */
void driver_draining(struct broker *b, bool draining);
/* Control shard: how many other nodes take clients. */
unsigned driver_open_nodes(const struct broker *b);
/* Control shard: who there is, this node among them: "name state", one behind the other with "; " between. */
void driver_list(const struct broker *b, struct buf *out);

#endif
