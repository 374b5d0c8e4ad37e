/* ledger.h -- how many connections there are, in all and from each address.
 *
 * Why: connections of one address are accepted on all shards, and a limit that counts only some of them is none. This
 * is the one table that shards change together: under a lock, once when a connection comes and once when it goes. The
 * count for each address is kept only while there is a limit. */
#ifndef TERN_BROKER_CONN_LEDGER_H
#define TERN_BROKER_CONN_LEDGER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct ledger;

/* connections_max 0: no limit; per_address_max 0: none. Returns 0 or -ENOMEM. */
int ledger_new(uint32_t connections_max, uint32_t per_address_max, struct ledger **ret_ledger);
void ledger_free(struct ledger *ledger);

/* Change the limits; who is connected stays. */
void ledger_limit(struct ledger *ledger, uint32_t connections_max, uint32_t per_address_max);

/* Count one connection in, or refuse it. Any thread. */
bool ledger_enter(struct ledger *ledger, const struct in6_addr *address);
void ledger_leave(struct ledger *ledger, const struct in6_addr *address);

#endif
