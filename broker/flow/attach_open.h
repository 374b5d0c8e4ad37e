/* attach_open.h -- what another node says of a client that it has let in and whose session is here. */
#ifndef TERN_BROKER_FLOW_ATTACH_OPEN_H
#define TERN_BROKER_FLOW_ATTACH_OPEN_H

#include "broker/flow/broker.h"
#include "proto/wire/peer.pb-c.h"

/* Whether every field is one that can be. */
bool attach_open_sane(const Tern__Attach *open);
/* The listener of that name; the first one if there is none. */
const struct listener *attach_listener(const struct broker *b, const char *name);
/* Who it is, as the front has found out. NULL: memory is out. */
struct principal *attach_principal(const struct broker *b, const Tern__Attach *open, const struct listener *listener,
                                   const struct in6_addr *address);

#endif
