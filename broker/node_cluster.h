/* node_cluster.h -- what a node needs to be one of several: identity, keys, certificates, sockets, seeds. */
#ifndef TERN_BROKER_NODE_CLUSTER_H
#define TERN_BROKER_NODE_CLUSTER_H

#include "broker/flow/cluster.h"

/* Without cluster.listen nothing is done and *ret_cluster is NULL. Returns 0, or a negative errno with a line in the
 * log. store: whose identity the node has; NULL: a new one, as long as the process lives. */
int node_cluster_open(const struct config *config, const struct store *store, unsigned shard_count,
                      struct node_cluster **ret_cluster);
void node_cluster_free(struct node_cluster *cluster); /* NULL is allowed; no shard runs any more */

/* Ask the resolver for the seeds, which may take its time, and hand them to the control shard. Returns after how many
 * seconds it is to be done again. Called by the main thread. */
unsigned node_cluster_look(struct node_cluster *cluster, const struct config *config);

#endif
