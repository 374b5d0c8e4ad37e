/* look.h -- clients and their sessions as an operator sees them: walked a slice at a time, and read off into plain
 * fields. All on the shard whose they are. */
#ifndef TERN_BROKER_FLOW_LOOK_H
#define TERN_BROKER_FLOW_LOOK_H

#include "broker/flow/flow.h"

/* Where a walk over all sessions of a shard has got to. What is there from its beginning to its end is visited once;
 * what comes or goes meanwhile may or may not be. For the group at hand it holds the hashes of its client ids (8 bytes
 * a session of this group), for nothing else survives that a table changes between two slices. */
struct look_walk {
    unsigned group;   /* the next one */
    uint64_t *hashes; /* owned */
    uint32_t count, at;
};

enum look_progress { LOOK_DONE, LOOK_MORE, LOOK_NO_MEMORY };

/* All zero but for group, the shard's index, is the beginning. Visit about `budget` sessions, less if `visit` returns
 * false. */
typedef bool look_visit(void *arg, struct session *session);
enum look_progress look_sessions(struct broker *b, struct look_walk *walk, unsigned budget, look_visit *visit,
                                 void *arg);
void look_walk_end(struct look_walk *walk);

struct session *look_find(struct broker *b, struct slice client_id); /* at home here, or NULL */

#define LOOK_ADDRESS 46

/* One client, connected or not. Texts are borrowed until the turn ends. */
struct look_client {
    struct slice client_id, user; /* user empty: anonymous */
    char address[LOOK_ADDRESS];   /* "1.2.3.4", "::1", "unix", or "" */
    uint16_t port;
    const char *listener; /* "" if it is not known any more */
    uint8_t version;      /* enum mqtt_version; 0: not connected */
    bool connected, clean, durable, will;
    uint32_t keep_alive_s, expiry_s;
    uint64_t since_ms; /* wall clock: connected, or not; 0: from before this start of the node */
    uint32_t subscriptions, inflight, inflight_max, waiting, waiting_max, qos2_in;
    uint64_t queue_bytes, queue_bytes_max, dropped, outbox_bytes, outbox_bytes_max;
    uint64_t received, sent; /* PUBLISH packets of this connection */
    unsigned paused;         /* enum conn_pause bits */
};

void look_client(const struct broker *b, const struct session *session, struct look_client *ret_client);
/* "1.2.3.4", "::1" or "unix". */
void look_address(const struct in6_addr *address, char text[LOOK_ADDRESS]);
/* In words, why nothing of it is read; NULL: there is no such bit. bit: one of enum conn_pause. */
const char *look_pause_name(unsigned bit);

struct look_subscription {
    struct slice filter; /* without $share */
    struct slice share;  /* its name; empty: not shared */
    struct subscription_options options;
};
void look_subscriptions(const struct session *session,
                        void (*visit)(void *arg, const struct look_subscription *subscription), void *arg);

/* ---- mishap.c: why clients were sent away or not let in: the last of this shard, by client id ---- */

#define MISHAP_TEXT 96u

struct mishap {
    uint64_t hash;  /* of the client id */
    uint64_t at_ms; /* wall clock */
    uint8_t reason;
    char text[MISHAP_TEXT]; /* "" or a few words */
};

/* The latest of this client on this shard, or NULL; borrowed until the next. */
const struct mishap *mishap_find(const struct broker *b, uint64_t client_hash);
void mishap_deinit(struct broker *b);

#endif
