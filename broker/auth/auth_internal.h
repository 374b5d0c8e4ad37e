/* auth_internal.h -- what the files behind auth.h share: auth.c (the parts and their life), chain.c (the walk), ask.c,
 * ask_json.c and ask_cache.c (the HTTP service), jwks.c (keys by URL). */
#ifndef TERN_BROKER_AUTH_AUTH_INTERNAL_H
#define TERN_BROKER_AUTH_AUTH_INTERNAL_H

#include "broker/auth/auth.h"
#include "broker/auth/scram.h"

#define ASK_DIGEST_BYTES 32

/* ---- ask_json.c: questions and answers as JSON; pure ---- */

/* FAILED is 0, and the only one for what is not understood: it never lets anybody in. */
enum ask_verdict { ASK_FAILED, ASK_ALLOW, ASK_DENY, ASK_IGNORE };

/* The body of a question, which may hold a password: free with ask_body_free. Returns 0 or -ENOMEM. */
int ask_connect_encode(const struct auth_question *question, struct slice *ret_body);
int ask_rule_encode(const struct acl_subject *subject, const struct acl_request *request, struct slice *ret_body);
void ask_body_free(struct slice body); /* wipes it; an empty one is allowed */

/* What an answer says. With ALLOW *ret_claims is filled: user empty if the answer names none, expires_at_ms counted
 * from wall_ms. Free with jwt_claims_deinit. Else it is left alone. */
enum ask_verdict ask_connect_decode(long status, struct slice body, uint64_t wall_ms, struct jwt_claims *ret_claims);
/* ACL_NONE: not an answer. */
enum acl_verdict ask_rule_decode(long status, struct slice body);

/* ---- ask_cache.c: answers that may be used again; any thread ---- */

struct ask_kept {
    long status;
    struct buf body;  /* owned by whoever asked the cache */
    uint64_t wall_ms; /* when it came */
    uint64_t left_ms; /* how long it may still be used */
};

int auth_cache_new(struct auth_cache **ret_cache);
void auth_cache_free(struct auth_cache *cache); /* NULL is allowed */
/* Forget everything; from now on answers to questions of this policy version are kept, and no others. */
void auth_cache_renew(struct auth_cache *cache, uint32_t version);
bool auth_cache_get(struct auth_cache *cache, uint32_t version, const uint8_t digest[ASK_DIGEST_BYTES],
                    struct ask_kept *ret_kept);
/* Keep a copy for kept->left_ms. What does not fit is not kept. */
void auth_cache_put(struct auth_cache *cache, uint32_t version, const uint8_t digest[ASK_DIGEST_BYTES],
                    const struct ask_kept *kept);

/* ---- ask.c: one question to the HTTP service; embed it ---- */

struct ask {
    struct http_request request; /* request.body is owned */
    struct auth *auth;
    const struct auth_policy *policy; /* borrowed: whoever asks holds a reference until the answer is there */
    uint8_t digest[ASK_DIGEST_BYTES];
    struct ask_kept answer; /* error: status 0 */
    int error;
    bool fresh; /* from the service, not from the cache */
};

/* Ask, taking over body. Returns true if ask->error or ask->answer is known at once; else done is called on this shard,
 * and has to begin with ask_land. */
bool ask_start(struct ask *ask, struct auth *auth, const struct auth_policy *policy, unsigned shard, const char *url,
               struct slice body, void (*done)(struct work *work));
void ask_land(struct ask *ask);
/* The answer was understood: it may be used again, for at most max_ms. */
void ask_keep(struct ask *ask, uint64_t max_ms);
void ask_deinit(struct ask *ask); /* also one that is all zero */

/* ---- jwks.c ---- */

/* Fetch the key set, if the configuration names one: waits for it. That it does not come is no error. Returns 0 or a
 * negative errno. */
int auth_jwks_new(struct auth *auth, const struct config *config, struct auth_jwks **ret_jwks);
void auth_jwks_free(struct auth_jwks *jwks); /* after auth_jwks_stop and the drain of the workers; NULL is allowed */
/* A reload, on the main thread. Keys of another URL are forgotten at once; the new ones are fetched by the next tick.
 * Returns 0, or a negative errno with everything as it was. */
int auth_jwks_configure(struct auth_jwks *jwks, const struct config *config);
void auth_jwks_stop(struct auth_jwks *jwks); /* give up what is under way */
void auth_jwks_tick(struct auth_jwks *jwks, unsigned shard, uint64_t mono_ms);

/* The present keys, counted, or NULL; *ret_expected: whether there is a URL at all. Any thread. */
struct jwt_keys *auth_jwks_keys(struct auth_jwks *jwks, bool *ret_expected);
/* A token names a key that is not among them. Any thread. */
void auth_jwks_missed(struct auth_jwks *jwks);

/* ---- attempts: made and freed by auth.c, moved on by chain.c ---- */

struct auth_attempt {
    struct auth *auth;
    struct auth_policy *policy; /* counted */
    void (*done)(void *context);
    void *context;
    unsigned shard;
    uint64_t wall_ms;
    struct auth_answer answer;
    struct auth_question question; /* its bytes are in text */
    unsigned at;                   /* next link of the chain */
    bool underway;                 /* at a worker or the HTTP client, who refer to it */
    bool given_up;                 /* nobody waits for it any more: freed when it comes back */
    bool waste;                    /* before a no, spend the time of a password check */
    struct work work;
    void (*after)(struct auth_attempt *attempt); /* what to do when the work is done */
    const struct passwd_entry *entry;            /* borrowed from the policy */
    bool right;                                  /* the password is */
    struct scram *scram;                         /* owned */
    struct slice token;                          /* in text or in said */
    struct buf said;                             /* Authentication Data that came after CONNECT; secret */
    int token_error;                             /* of jwt_verify; -EAGAIN: keys are expected but not here */
    const char *token_why;
    enum mqtt_reason token_reason; /* for a token that is not taken */
    struct jwt_claims claims;      /* of a token or an HTTP answer */
    struct ask ask;
    size_t text_len;
    uint8_t text[]; /* secret */
};

void chain_begin(struct auth_attempt *attempt);
void chain_continue(struct auth_attempt *attempt, struct slice data);
void attempt_free(struct auth_attempt *attempt); /* nothing is under way */

/* Whether this can be a user's name, or a client id that a proof demands, wherever it comes from: UTF-8 without control
 * characters, 1..65535 bytes. */
bool auth_name_valid(struct slice name);

#endif
