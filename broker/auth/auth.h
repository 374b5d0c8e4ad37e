/* auth.h -- who may come in: the chain of a listener's methods, and what the rules say. The one door to this room.
 *
 * A node has one `struct auth`: the worker threads, the HTTP client, the bans, the rates of users, and the **policy**
 * in force: password file, rules, token terms -- immutable, counted, replaced whole by a reload. Each shard takes a new
 * policy over at the end of a turn, as it does the configuration; its version tells a session that it has to be looked
 * at again.
 *
 * An **attempt** is one client's question "am I who I say?". It walks the methods that its listener has:
 *
 *     certificate -> PSK -> AUTH (SCRAM, JWT) -> token -> password file -> HTTP -> anonymous
 *
 * Each says yes, no, or not mine. It answers at once, or later through `done`, on the shard that asked: hashes and
 * signatures are the workers' work, HTTP is another thread's, and nothing here blocks. No answer never means yes. */
#ifndef TERN_BROKER_AUTH_AUTH_H
#define TERN_BROKER_AUTH_AUTH_H

#include <pthread.h>
#include <stdatomic.h>

#include "broker/auth/ban.h"
#include "broker/auth/http.h"
#include "broker/auth/jwt.h"
#include "broker/auth/passwd.h"
#include "broker/auth/principal.h"
#include "broker/auth/worker.h"
#include "broker/base/config.h"
#include "proto/mqtt/mqtt.h"

struct auth_policy {
    atomic_uint refs;
    uint32_t version;             /* never 0; a session that has seen another one is looked at again */
    struct passwd *passwd;        /* NULL: no password file */
    struct acl *acl;              /* NULL: no rules */
    struct jwt_terms terms;       /* its texts are `texts`' */
    struct jwt_keys *keys;        /* from the file; NULL: none */
    char *texts[6];               /* owned */
    char *connect_url, *rule_url; /* owned; "": none */
    uint64_t default_max_age_s;
    int token_in; /* enum config_token_in */
};

struct auth {
    _Atomic(struct auth_policy *) policy; /* owned; the one in force. Exchanged by the main thread */
    struct worker_pool *pool;
    pthread_mutex_t http_lock;          /* http is exchanged by a reload that changes its settings */
    struct http_client *http;           /* NULL: nobody is asked */
    struct http_settings http_settings; /* its; the text is owned. Main thread */
    struct ban_list *bans;
    struct user_rates *rates;
    struct auth_cache *cache; /* answers of the HTTP service */
    struct auth_jwks *jwks;   /* the key set behind jwt.jwks_url, if there is one */
    uint32_t version;         /* of the last policy made; main thread */
    bool drained;             /* auth_drain has begun: nothing new is started */
};

/* Read everything that the configuration names and start the threads. wake as in worker_pool_new. Returns 0, or -EINVAL
 * or another negative errno with one sentence in error. */
int auth_new(const struct config *config, unsigned shard_count, void (*wake)(void *context, unsigned shard),
             void *context, char *error, size_t error_size, struct auth **ret_auth);
/* After the shards: everything that is under way is given up. */
void auth_drain(struct auth *auth);
void auth_free(struct auth *auth); /* NULL is allowed */

/* Read the files of a new configuration. Nothing is changed; the policy is the caller's, who puts it in force with
 * auth_replace and, when no shard looks at the old one any more, unrefs that. Returns as auth_new. */
int auth_policy_new(struct auth *auth, const struct config *config, char *error, size_t error_size,
                    struct auth_policy **ret_policy);
struct auth_policy *auth_replace(struct auth *auth, struct auth_policy *policy, const struct config *config);
struct auth_policy *auth_policy_ref(struct auth_policy *policy);
void auth_policy_unref(struct auth_policy *policy); /* NULL is allowed; any thread */

/* Control shard, now and then: fetch the JWK Set anew when it is due. */
void auth_tick(struct auth *auth, unsigned shard, uint64_t mono_ms);

/* What has been asked of the HTTP service; all zero without one. */
void auth_http_counts(struct auth *auth, struct http_counts *ret_counts);

/* ---- who are you ---- */

struct auth_question {
    unsigned methods;          /* enum config_method bits that the listener has */
    bool anonymous;            /* it lets in who proves nothing */
    const char *listener_name; /* borrowed for the life of the node */
    struct in6_addr address;
    enum mqtt_version version;
    struct slice client_id, user_name, password; /* empty ptr: not given */
    struct slice method, data;                   /* Authentication Method and Data of CONNECT; method empty: none */
    struct slice certificate_user;   /* of the verified client certificate, as the listener wants; empty: none */
    uint64_t certificate_expires_ms; /* wall clock */
    struct slice psk_identity;
};

enum auth_status {
    AUTH_PENDING,  /* `done` follows */
    AUTH_CONTINUE, /* send AUTH with answer.data, then auth_continue */
    AUTH_YES,
    AUTH_NO,
};

struct auth_answer {
    enum auth_status status;
    enum mqtt_reason reason;     /* NO: what to tell the client */
    const char *why;             /* NO: for the log */
    struct principal *principal; /* YES: the caller's */
    struct buf client_id;        /* YES: the client id that the proof demands; empty: any */
    struct buf data;             /* CONTINUE, YES: Authentication Data; owned by the attempt */
};

struct auth_attempt; /* belongs to whoever began it, until auth_end */

/* Begin; everything in the question is copied. done is called on this shard if the answer (auth_answer_of) is PENDING:
 * in a later turn, not after auth_end. NULL when memory is out. */
struct auth_attempt *auth_begin(struct auth *auth, struct auth_policy *policy, unsigned shard, uint64_t wall_ms,
                                const struct auth_question *question, void (*done)(void *context), void *context);
/* The client has sent AUTH with this data: CONTINUE goes on. reauth: the same for AUTH with 0x19 on a session that came
 * in by an attempt of this method: a new attempt. */
void auth_continue(struct auth_attempt *attempt, struct slice data);
struct auth_answer *auth_answer_of(struct auth_attempt *attempt);
void auth_end(struct auth_attempt *attempt); /* free it, or give it up; NULL is allowed */

/* Whether a principal still stands before another policy: its user is there and has the same password. Tokens and
 * certificates are judged by their time and their TLS. */
bool auth_still(const struct auth_policy *policy, const struct principal *principal);

/* ---- what may you do, as the HTTP service says ---- */

/* Ask about one action; the answer (auth_rule_answer) is ACL_NONE while it is under way. Freed by auth_rule_end. NULL
 * when memory is out. *ret_max_age_ms: how long the answer may be kept; 0: for this one action. */
struct auth_rule;
struct auth_rule *auth_rule_ask(struct auth *auth, struct auth_policy *policy, unsigned shard,
                                const struct acl_subject *subject, const struct acl_request *request,
                                void (*done)(void *context), void *context);
enum acl_verdict auth_rule_answer(const struct auth_rule *rule, uint64_t *ret_max_age_ms);
void auth_rule_end(struct auth_rule *rule); /* NULL is allowed */

#endif
