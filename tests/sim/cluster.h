/* cluster.h -- one story of a cluster: three to seven nodes, what is between them, and clients that wander from one to
 * the other.
 *
 * Why: what holds between nodes depends on what is lost, late, doubled or cut off at which moment, and on who ends
 * then. As in world.h one number decides all of it. Links run as plain TCP, gossip is sealed. */
#ifndef TERN_TESTS_SIM_CLUSTER_H
#define TERN_TESTS_SIM_CLUSTER_H

#include "tests/sim/world.h"

void cluster_run(uint64_t seed, bool verbose, struct world_result *ret_result);

#endif
