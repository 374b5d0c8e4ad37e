/* bootstrap.h -- which cluster a node belongs to, when its disk does not say so yet.
 *
 * Why: a cluster has an id, random and made once, so that two of the same name that meet by mistake are never mixed.
 * A node without one takes the id of the first member that has one. Only when there is none, and as many nodes as were
 * expected see each other, all of them empty, does one of them make an id: the one with the lowest node id, after
 * nobody has come or gone for a while. Who has ever been in a cluster never makes another.
 *
 *     empty -- a member has an id -----------------------------------> TAKE it
 *           -- enough are empty, for SETTLE_MS, and this is the first -> MAKE one; the others TAKE it
 *           -- else ------------------------------------------------> WAIT
 *
 * Nodes that expect fewer than half of all may found two clusters; nothing can tell those apart from two that were
 * meant. Pure, as swim.h is. Touched by one thread. */
#ifndef TERN_CLUSTER_BOOTSTRAP_H
#define TERN_CLUSTER_BOOTSTRAP_H

#include "cluster/swim.h"

#define BOOTSTRAP_SETTLE_MS 1000u

enum bootstrap_verdict { BOOTSTRAP_WAIT, BOOTSTRAP_TAKE, BOOTSTRAP_MAKE };

/* All zero at first. */
struct bootstrap {
    unsigned seen;         /* empty nodes that were alive at the last look, this one included */
    uint64_t unchanged_ms; /* since when it is as it is */
    uint64_t due_ms;       /* look again then, or when a member changes; UINT64_MAX: only then */
};

/* What is to be done, while this node belongs to no cluster. expect: so many empty nodes found a cluster.
 * BOOTSTRAP_TAKE: ret_id is the id. */
enum bootstrap_verdict bootstrap_look(struct bootstrap *b, const struct swim *swim, const struct node_id *self,
                                      unsigned expect, uint64_t now_ms, uint8_t ret_id[MEMBER_CLUSTER_ID_SIZE]);

/* Whether this member has an id. */
bool bootstrap_has_id(const struct member *m);

#endif
