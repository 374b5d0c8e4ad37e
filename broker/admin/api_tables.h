/* api_tables.h -- the endpoints of /api/v1, a table a file. */
#ifndef TERN_BROKER_ADMIN_API_TABLES_H
#define TERN_BROKER_ADMIN_API_TABLES_H

#include "broker/admin/api.h"

extern const struct admin_table admin_clients_table;  /* api_clients.c: clients, subscriptions, topics */
extern const struct admin_table admin_nodes_table;    /* api_nodes.c: status, nodes, cluster, alarms, metrics */
extern const struct admin_table admin_messages_table; /* api_messages.c: publish, retained */
extern const struct admin_table admin_local_table;    /* api_local.c: listeners, bans, log, reload */
extern const struct admin_table admin_trace_table;    /* api_trace.c: watching */
extern const struct admin_table admin_openapi_table;  /* openapi.c: the document */

#endif
