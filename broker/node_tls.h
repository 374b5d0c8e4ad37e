/* node_tls.h -- the certificates of the node's listeners: read, exchanged, watched for their end. Main thread. */
#ifndef TERN_BROKER_NODE_TLS_H
#define TERN_BROKER_NODE_TLS_H

#include "broker/flow/broker.h"

/* Read the files of every listener with TLS into contexts, by index; the others stay NULL. Returns 0, or a negative
 * errno with one sentence in error; what has been read is the caller's to unref in any case. */
int node_tls_read(const struct node_tables *tables, struct tls_context *contexts[CONFIG_LISTENERS_MAX], char *error,
                  size_t error_size);

/* At the start: read them and put them in force. Returns false, with a line in the log, if something is wrong. */
bool node_tls_load(struct node_tables *tables);

/* Set the metric of the certificate that ends first, and warn of each that ends soon or has ended. */
void node_tls_watch(const struct node_tables *tables, struct metrics *metrics);

#endif
