/* node_cluster.h -- what a node needs to be one of several: identity, keys, certificates, sockets, seeds. */
#ifndef TERN_BROKER_NODE_CLUSTER_H
#define TERN_BROKER_NODE_CLUSTER_H

#include "broker/flow/cluster.h"

/* Without cluster.listen nothing is done and *ret_cluster is NULL. Returns 0, or a negative errno with a line in the
 * log; what there is by then is to be freed all the same. store: whose identity the node has; NULL: a new one, as long
 * as the process lives. */
int node_cluster_open(const struct config *config, struct store *store, struct node_cluster **ret_cluster);
/* The same without its sockets, for tests that have some of their own. */
int node_cluster_make(const struct config *config, struct store *store, struct node_cluster **ret_cluster);

/* What keeps strangers out: read anew by a reload, and put in the place of what is in force. */
struct cluster_secrets {
    struct tls_context *in, *out; /* owned; NULL with cluster.insecure */
    struct seal_ring *ring;       /* owned */
};

/* Returns 0, or a negative errno with one sentence in error and *ret_secrets empty. cluster may be NULL. */
int node_cluster_read(const struct node_cluster *cluster, const struct config *config,
                      struct cluster_secrets *ret_secrets, char *error, size_t error_size);
/* Links and datagrams from now on are made with these; links that are open stay. What was in force is given back: to be
 * freed when every shard has had a turn since. */
void node_cluster_exchange(struct node_cluster *cluster, struct cluster_secrets *secrets);
void node_cluster_secrets_deinit(struct cluster_secrets *secrets);

/* What the tables of the node share with those of the others; nothing without a cluster. */
void node_cluster_tables(struct node_tables *tables);
void node_cluster_free(struct node_cluster *cluster); /* NULL is allowed; no shard runs any more */

/* Ask the resolver for the seeds, which may take its time, and hand them to the control shard. Returns after how many
 * seconds it is to be done again. Called by the main thread. */
unsigned node_cluster_look(struct node_cluster *cluster, const struct config *config);

#endif
