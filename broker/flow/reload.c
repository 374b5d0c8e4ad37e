#include "broker/flow/reload.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void reload_tell(struct node_tables *node, bool done, const char *error, const char *restart)
{
    struct reload_outcome *outcome = calloc(1, sizeof(*outcome));

    if (outcome) {
        outcome->done = done;
        snprintf(outcome->error, sizeof(outcome->error), "%s", error);
        snprintf(outcome->restart, sizeof(outcome->restart), "%s", restart);
        free(atomic_exchange(&node->reloaded, outcome));
    }
}

void reload_ask(struct broker *b)
{
    free(atomic_exchange(&b->node->reloaded, NULL)); /* of an earlier one */
    kill(getpid(), SIGHUP);
}

struct reload_outcome *reload_taken(struct broker *b)
{
    return atomic_exchange(&b->node->reloaded, NULL);
}
