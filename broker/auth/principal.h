/* principal.h -- who a client is, as far as it has proved it; and the rates that all clients of one user share.
 *
 * A principal is made when a client is let in and belongs to its session: it may outlive the connection (a will that is
 * still to be published, a session that waits), and on resuming the session gets the new one. A session whose principal
 * is NULL is an anonymous one's from a time without rules. Counted without atomics: all who have it live on one shard.
 */
#ifndef TERN_BROKER_AUTH_PRINCIPAL_H
#define TERN_BROKER_AUTH_PRINCIPAL_H

#include "broker/auth/acl.h"
#include "broker/base/rate.h"

/* One user's, for all shards. */
struct user_rate {
    struct rate publish, publish_bytes;
    uint32_t refs; /* under the table's lock */
    uint32_t name_len;
    uint8_t name[];
};

struct user_rates; /* by name; locked, touched when a client comes and goes */
int user_rates_new(struct user_rates **ret_rates);
void user_rates_free(struct user_rates *rates);                               /* nobody may hold one any more */
struct user_rate *user_rate_get(struct user_rates *rates, struct slice user); /* NULL when memory is out */
void user_rate_put(struct user_rates *rates, struct user_rate *rate);         /* NULL is allowed */

struct principal {
    uint32_t refs;
    uint32_t method;          /* enum config_method bit by which it came in; 0: anonymous */
    uint32_t refusal_s;       /* monotonic: when one was last logged for it */
    uint16_t role_count;      /* that it brought itself */
    uint64_t expires_at_ms;   /* wall clock: its token or certificate ends; UINT64_MAX: never */
    uint64_t credential;      /* passwd_fingerprint; 0: none */
    uint64_t era;             /* of its shard, no other principal's there; 0: not given yet. Keys of cached answers */
    struct acl *rules;        /* owned: of its token; NULL: none */
    struct user_rate *rate;   /* NULL for anonymous clients */
    struct user_rates *rates; /* where that is given back */
    const char *listener;     /* its name; borrowed for the life of the node */
    struct in6_addr address;
    struct slice user;   /* in text; empty: anonymous */
    struct slice *roles; /* owned; their names lie in text */
    uint8_t text[];
};

struct principal_source {
    uint32_t method;
    struct slice user;
    struct slice roles; /* names, each ended by NUL */
    unsigned role_count;
    uint64_t expires_at_ms, credential;
    struct acl *rules; /* taken over on success */
    const char *listener;
    struct in6_addr address;
    struct user_rates *rates;
};

/* One reference is the caller's. NULL when memory is out. */
struct principal *principal_new(const struct principal_source *source);
struct principal *principal_ref(struct principal *principal); /* NULL is allowed, and gives NULL */
void principal_unref(struct principal *principal);            /* NULL is allowed */

/* Whether two sessions belong to the same one: by user name; all anonymous ones are the same. NULL is anonymous. */
bool principal_same(const struct principal *a, const struct principal *b);

/* For acl_check. */
struct acl_subject principal_subject(const struct principal *principal, struct slice client_id);

#endif
