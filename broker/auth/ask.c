/* ask.c -- questions to the HTTP service: sent, or answered out of the cache; and those about single actions.
 *
 * A question is known by the SHA-256 of its body. What is not understood is not kept, and means no. */
#include <errno.h>
#include <openssl/sha.h>
#include <stdlib.h>

#include "broker/auth/auth_internal.h"
#include "proto/base/clock.h"

/* Give a request to the client that there is at this moment. */
static int send_request(struct auth *auth, struct http_request *request)
{
    pthread_mutex_lock(&auth->http_lock);
    int rc = auth->http && !auth->drained ? http_send(auth->http, request) : -EHOSTDOWN;
    pthread_mutex_unlock(&auth->http_lock);
    return rc;
}

bool ask_start(struct ask *ask, struct auth *auth, const struct auth_policy *policy, unsigned shard, const char *url,
               struct slice body, void (*done)(struct work *work))
{
    ask->auth = auth;
    ask->policy = policy;
    ask->request = (struct http_request){.work = {.shard = shard, .done = done}, .url = url, .body = body};
    SHA256(body.ptr, body.len, ask->digest);
    if (auth_cache_get(auth->cache, policy->version, ask->digest, &ask->answer)) {
        return true;
    }
    ask->error = send_request(auth, &ask->request);
    return ask->error != 0;
}

void ask_land(struct ask *ask)
{
    struct http_request *r = &ask->request;

    ask->fresh = true;
    ask->error = r->error;
    if (r->error) {
        return;
    }
    uint64_t max_age_s = r->cache_control ? r->max_age_s : ask->policy->default_max_age_s;
    ask->answer = (struct ask_kept){
        .status = r->status, .body = r->answer, .wall_ms = clock_wall_ms(), .left_ms = max_age_s * 1000};
    r->answer = (struct buf){0};
}

void ask_keep(struct ask *ask, uint64_t max_ms)
{
    if (ask->answer.left_ms > max_ms) {
        ask->answer.left_ms = max_ms;
    }
    if (ask->fresh && ask->answer.left_ms > 0) {
        auth_cache_put(ask->auth->cache, ask->policy->version, ask->digest, &ask->answer);
    }
}

void ask_deinit(struct ask *ask)
{
    ask_body_free(ask->request.body);
    http_request_deinit(&ask->request);
    buf_deinit(&ask->answer.body);
}

/* ---- one action ---- */

struct auth_rule {
    struct ask ask;
    struct auth_policy *policy; /* counted */
    void (*done)(void *context);
    void *context;
    enum acl_verdict verdict; /* ACL_NONE: under way */
    uint64_t max_age_ms;
    bool given_up; /* freed when the answer comes */
};

static void rule_free(struct auth_rule *rule)
{
    ask_deinit(&rule->ask);
    auth_policy_unref(rule->policy);
    free(rule);
}

/* Anything but a clear allow is a deny; what is not clear is for this one action only. */
static void rule_judge(struct auth_rule *rule)
{
    struct ask *ask = &rule->ask;
    enum acl_verdict verdict =
        ask->error ? ACL_NONE : ask_rule_decode(ask->answer.status, buf_slice(&ask->answer.body));

    rule->verdict = verdict == ACL_ALLOW ? ACL_ALLOW : ACL_DENY;
    if (verdict != ACL_NONE) {
        ask_keep(ask, UINT64_MAX);
        rule->max_age_ms = ask->answer.left_ms;
    }
}

static void rule_landed(struct work *work)
{
    struct auth_rule *rule = CONTAINER_OF(work, struct auth_rule, ask.request.work);

    ask_land(&rule->ask);
    rule_judge(rule);
    if (rule->given_up) {
        rule_free(rule);
    } else if (!rule->ask.auth->drained) {
        rule->done(rule->context);
    }
}

struct auth_rule *auth_rule_ask(struct auth *auth, struct auth_policy *policy, unsigned shard,
                                const struct acl_subject *subject, const struct acl_request *request,
                                void (*done)(void *context), void *context)
{
    struct auth_rule *rule = calloc(1, sizeof(*rule));
    struct slice body;

    if (!rule || ask_rule_encode(subject, request, &body) != 0) {
        free(rule);
        return NULL;
    }
    rule->policy = auth_policy_ref(policy);
    rule->done = done;
    rule->context = context;
    if (ask_start(&rule->ask, auth, policy, shard, policy->rule_url, body, rule_landed)) {
        rule_judge(rule);
    }
    return rule;
}

enum acl_verdict auth_rule_answer(const struct auth_rule *rule, uint64_t *ret_max_age_ms)
{
    *ret_max_age_ms = rule->max_age_ms;
    return rule->verdict;
}

void auth_rule_end(struct auth_rule *rule)
{
    if (!rule) {
        return;
    }
    if (rule->verdict == ACL_NONE) {
        rule->given_up = true;
    } else {
        rule_free(rule);
    }
}
