/* world.h -- one story: a node of one to three shards, its disk, a few clients, and everything that can go wrong.
 *
 * Why: one number decides all of it -- who the clients are, what they do, how the shards take turns, where a stream is
 * cut, what fails and when -- so that a failure is told by its seed and happens again. Some thousand steps, then
 * everything is healed, all clients fetch what is theirs, and the checkers (check.h) judge the whole history.
 *
 * Swarm testing: each seed leaves out a random part of the operations and faults, for what always happens hides what
 * only happens without it. */
#ifndef TERN_TESTS_SIM_WORLD_H
#define TERN_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

/* Sent through a pipe as it is: no pointers. */
struct world_result {
    uint64_t seed;
    uint64_t trace; /* hash of every event: the same seed, the same number */
    uint64_t steps, sim_ms;
    uint64_t crashes, stops;                         /* of the node; stops: orderly ones */
    uint64_t connects, sent, received, acknowledged; /* messages, by the clients */
    uint64_t commits, checkpoints, pages, trimmed;
    char violation[1200]; /* what is wrong; "": nothing */
};

/* No excuse for a QoS 2 message that comes twice because the node ended before PUBREC: README.md. */
extern bool world_strict;

/* verbose: each event on stdout. */
void world_run(uint64_t seed, bool verbose, struct world_result *ret_result);

#endif
