/* peer_address.h -- where another node is: as the cluster writes it, as sockets do, as text. */
#ifndef TERN_BROKER_PEER_PEER_ADDRESS_H
#define TERN_BROKER_PEER_PEER_ADDRESS_H

#include <sys/socket.h>

#include "cluster/member.h"

void peer_address_of(const struct sockaddr *from, struct member_address *ret_address); /* all zero: no IP address */
socklen_t peer_address_to(const struct member_address *address, struct sockaddr_storage *ret_to);

/* "HOST:PORT", "[::1]:PORT". A name is asked of the resolver, which may take its time; up to `max` addresses. Returns
 * how many, or -EINVAL: it is not of this form, or the name is unknown. */
int peer_address_resolve(const char *text, struct member_address *ret_addresses, unsigned max);

#define PEER_ADDRESS_TEXT 56
const char *peer_address_text(const struct member_address *address, char text[PEER_ADDRESS_TEXT]);

#endif
