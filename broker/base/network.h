/* network.h -- IP addresses and networks as text and numbers. All addresses are IPv6, IPv4 mapped. */
#ifndef TERN_BROKER_BASE_NETWORK_H
#define TERN_BROKER_BASE_NETWORK_H

#include <netinet/in.h>

#include "proto/base/slice.h"

struct network {
    struct in6_addr address; /* bits behind the prefix are 0 */
    uint8_t prefix;          /* 0..128, of the mapped form */
};

/* "10.0.0.0/8", "::1", "2001:db8::/32". Returns 0 or -EINVAL (also for bits set behind the prefix). */
int network_parse(struct slice text, struct network *ret_network);

bool network_has(const struct network *network, const struct in6_addr *address);

/* Parse a numeric address without a prefix; an IPv6 one may stand in brackets. Returns 0 or -EINVAL. */
int address_parse(struct slice text, struct in6_addr *ret_address);

bool address_is_loopback(const struct in6_addr *address);

/* Whether a comma-separated list of networks (as checked by the configuration) has the address. */
bool network_list_has(const char *list, const struct in6_addr *address);

/* "1.2.3.4" or "2001:db8::1". */
#define ADDRESS_TEXT INET6_ADDRSTRLEN
const char *address_text(const struct in6_addr *address, char text[ADDRESS_TEXT]);

#endif
