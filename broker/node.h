/* node.h -- one node: builds everything in order, runs until told to stop, takes it down in the opposite order. */
#ifndef TERN_BROKER_NODE_H
#define TERN_BROKER_NODE_H

#include "broker/base/config.h"

/* Where a reload reads the configuration from again: the arguments of main. */
struct node_sources {
    int argc;
    char *const *argv;
    char *const *envp;
};

/* The disk has refused a commit or what was read from it is gone: the process ends with this status (EX_IOERR), at
 * once. What was acknowledged is there at the next start. */
#define NODE_STORE_FAILED 74

/* Run a node until SIGTERM or SIGINT. Takes over config. Returns the exit status: 0, or 1 when it could not start, the
 * reason logged. */
int node_run(struct config *config, const struct node_sources *sources);

#endif
