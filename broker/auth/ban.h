/* ban.h -- who is kept out for a while: addresses that fail to prove who they are, clients that flap, and whom an
 * operator says.
 *
 * Shape: one bounded table under a lock, asked once when a connection comes (by address) and once at its CONNECT (by
 * user and client id). Any thread. Times are wall clock, so that a list can be shown and kept. */
#ifndef TERN_BROKER_AUTH_BAN_H
#define TERN_BROKER_AUTH_BAN_H

#include <netinet/in.h>

#include "proto/base/slice.h"

struct ban_list;

enum ban_kind { BAN_ADDRESS, BAN_USER, BAN_CLIENT_ID };

struct ban_limits {
    uint32_t failures; /* failed authentications of one address within window_ms that ban it; 0: never */
    uint64_t window_ms;
    uint64_t ban_ms;
    uint32_t flaps; /* connections of one client id within flap_window_ms that ban it; 0: never */
    uint64_t flap_window_ms;
    uint64_t flap_ban_ms;
    uint32_t connections_per_second; /* of one address; 0: no limit. A bucket of one second */
};

int ban_list_new(struct ban_list **ret_list); /* 0 or -ENOMEM */
void ban_list_free(struct ban_list *list);
void ban_limits_set(struct ban_list *list, const struct ban_limits *limits);

/* A connection has come from here: whether it may stay. *ret_why: "banned" or "too many connections a second". */
bool ban_accept(struct ban_list *list, const struct in6_addr *address, uint64_t wall_ms, const char **ret_why);

/* Whether somebody is banned now. */
bool ban_has(struct ban_list *list, enum ban_kind kind, struct slice name, uint64_t wall_ms);
static inline struct slice ban_address(const struct in6_addr *address)
{
    return slice_of(address, sizeof(*address));
}

/* An authentication has failed, a client id has connected. Returns whether this has led to a ban. */
bool ban_failed(struct ban_list *list, const struct in6_addr *address, uint64_t wall_ms);
bool ban_connected(struct ban_list *list, struct slice client_id, uint64_t wall_ms);

/* By hand. until_ms UINT64_MAX: for ever. Returns 0, -ENOMEM, -ENOSPC (65,536 bans); remove: -ENOENT. */
int ban_add(struct ban_list *list, enum ban_kind kind, struct slice name, uint64_t until_ms, struct slice reason);
int ban_remove(struct ban_list *list, enum ban_kind kind, struct slice name);

/* Changes whenever a ban was added: whoever is connected is to be looked at again. */
uint64_t ban_version(const struct ban_list *list);

struct ban {
    enum ban_kind kind;
    uint64_t until_ms;
    struct slice name, reason;
};
/* Call visit for each present ban, under the lock: short. */
void ban_each(struct ban_list *list, uint64_t wall_ms, void (*visit)(void *context, const struct ban *ban),
              void *context);

#endif
