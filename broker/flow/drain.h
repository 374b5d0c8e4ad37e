/* drain.h -- how a node parts from its clients before it ends.
 *
 * Why: who is sent away all at once comes back all at once, to a node that a load balancer has not yet given up. So
 * first the node says that it is not ready; then, when that was seen, it sends clients away at a rate; and who still
 * comes is told to go elsewhere.
 *
 *   NONE ------ drain_begin ----------------------> WAITING   not ready; all else goes on
 *   WAITING --- the wait is over -----------------> SENDING   clients are sent away, new ones refused
 *   SENDING --- none is left ---------------------> DONE      new ones are refused still
 *   any ------- drain_stop -----------------------> NONE
 *
 * Any thread may begin it, look at it and stop it: a signal (node.c), or an operator. Each shard does its part at the
 * end of its turns; they share the rate. Draining alone ends no process. */
#ifndef TERN_BROKER_FLOW_DRAIN_H
#define TERN_BROKER_FLOW_DRAIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/mqtt/mqtt.h"

struct broker;
struct conn;
struct node_tables;

/* What the shards of a node share of it. All zero: it does not drain. */
struct drain {
    atomic_uint_least64_t from_ms;  /* monotonic: clients are sent away from then on; 0: it does not drain */
    atomic_uint rate;               /* clients a second, all shards together; 0: as fast as it can be */
    atomic_uint_least64_t given;    /* of that rate, since from_ms */
    atomic_uint_least64_t sent;     /* clients sent away since it began */
    atomic_uint_least64_t done;     /* bits of the shards that have sent everybody away */
    atomic_uint_least64_t settled;  /* bits of the shards that have nothing on its way to other nodes; when it stops */
    atomic_uint_least64_t asked_ms; /* monotonic: when somebody asked last whether it is ready */
    atomic_uint others;             /* nodes that take clients; written by the control shard, now and then */
    uint64_t told_ms;               /* control shard: the last line in the log; 0: it has not begun there */
};

enum drain_stage { DRAIN_NONE, DRAIN_WAITING, DRAIN_SENDING, DRAIN_DONE };

struct drain_state {
    enum drain_stage stage;
    uint64_t wait_left_ms; /* WAITING */
    uint32_t rate;
    uint64_t sent; /* clients sent away since it began */
    uint64_t left; /* connections that are open now */
};

const char *drain_stage_name(enum drain_stage stage);

/* Begin, or go on with another rate (clients a second; 0: as fast as it can be). If it waits already, it waits no
 * longer than wait_ms from now; if it sends, it goes on. The shards see it within a tenth of a second. */
void drain_begin(struct node_tables *node, uint32_t rate, uint64_t wait_ms);
/* Be as if it had not begun: who was sent away may come back. No end to a process that is about to stop. */
void drain_stop(struct node_tables *node);
struct drain_state drain_state(const struct node_tables *node);
/* Somebody who sends clients here has asked whether to go on: the next drain gives it time to ask again. */
void drain_readiness_asked(struct node_tables *node);
/* Whether anybody has, of late. */
bool drain_readiness_watched(const struct node_tables *node);

/* ---- for the shards ---- */

/* At the end of a turn. */
void drain_turn(struct broker *b);
/* All connections of this shard are gone: whether it may end, for nothing is on its way to another node any more, from
 * any shard. */
bool drain_settled(struct broker *b);
/* Why a CONNECT is refused now; MQTT_SUCCESS: it is not. */
enum mqtt_reason drain_refusal(const struct broker *b, const struct conn *conn);

#endif
