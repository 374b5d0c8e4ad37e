/* reload.h -- an operator wants the configuration read again, and to know what came of it.
 *
 * The main thread does it, as at SIGHUP, for it reads files; the control shard asks by that signal, and looks each turn
 * whether there is an outcome. */
#ifndef TERN_BROKER_FLOW_RELOAD_H
#define TERN_BROKER_FLOW_RELOAD_H

#include "broker/flow/broker.h"

#define RELOAD_TEXT 1024u

struct reload_outcome {
    bool done;                 /* false: nothing was changed, and error says why */
    char error[RELOAD_TEXT];   /* a sentence */
    char restart[RELOAD_TEXT]; /* keys that are different and need a restart, "a, b"; "": none */
};

/* Main thread: this came of the last one. Copied; without memory nobody learns it. */
void reload_tell(struct node_tables *node, bool done, const char *error, const char *restart);

/* Control shard: ask; then take what came of it, to be freed: NULL: nothing yet. */
void reload_ask(struct broker *b);
struct reload_outcome *reload_taken(struct broker *b);

#endif
