/* What a client may do, under the rules in force (broker/auth/acl.h): asked at each PUBLISH, for each filter of a
 * SUBSCRIBE, and, where a rule may forbid part of what is subscribed to, for each message before it is handed over.
 *
 * A policy has a version. A session remembers under which one its subscriptions were judged, and whether everything
 * that they match may be received: then a delivery costs one comparison. When the policy changes, each shard looks at
 * its connections again, some hundred a turn: who may no longer be there is sent away, what may no longer be subscribed
 * to ends. A session that has not been looked at yet is asked for each message, so that nothing slips through
 * meanwhile. */
#include <stdlib.h>

#include "broker/flow/access.h"
#include "broker/flow/flow.h"
#include "broker/flow/login.h"
#include "proto/base/log.h"
#include "proto/mqtt/topic.h"

#define CACHE_SLOTS 4096u /* a power of two */
#define SWEEP_CONNS 256u  /* of a turn */
#define REFUSAL_LOG_S 60u

struct access_slot {
    uint64_t key;
    uint32_t version; /* 0: empty */
    uint32_t until_s; /* monotonic; answers of the HTTP service */
    uint8_t verdict;  /* enum acl_verdict */
};

struct access_cache {
    uint64_t eras; /* given to principals so far */
    struct access_slot slots[CACHE_SLOTS];
};

int access_init(struct broker *b)
{
    b->access = calloc(1, sizeof(*b->access));
    return b->access ? 0 : -1;
}

void access_deinit(struct broker *b)
{
    free(b->access);
    b->access = NULL;
}

static uint32_t now_s(const struct broker *b)
{
    return (uint32_t)(b->shard->now_ms / 1000);
}

/* The topic's hash is keyed: nobody outside can make two of them meet. A session may change its principal, and with it
 * what it may do, while the policy stays: a token that says less, another one's session. */
static uint64_t cache_key(const struct session *session, uint64_t topic_hash, const struct acl_request *r)
{
    uint64_t era = session->principal ? session->principal->era : 0;
    uint64_t key = topic_hash ^ (session->uid + (era << 32 | era >> 32)) * UINT64_C(0x9e3779b97f4a7c15);

    key ^= ((uint64_t)r->action << 8 | (uint64_t)r->qos << 4 | r->retain) * UINT64_C(0xbf58476d1ce4e5b9);
    key ^= key >> 31;
    key *= UINT64_C(0x94d049bb133111eb);
    return key ^ key >> 29;
}

static struct access_slot *cache_slot(struct broker *b, uint64_t key)
{
    return &b->access->slots[key & (CACHE_SLOTS - 1)];
}

static void cache_put(struct broker *b, uint64_t key, enum acl_verdict verdict, uint64_t max_age_ms)
{
    uint64_t until_s = now_s(b) + max_age_ms / 1000;

    *cache_slot(b, key) = (struct access_slot){
        .key = key,
        .version = b->policy->version,
        .until_s = until_s > UINT32_MAX ? UINT32_MAX : (uint32_t)until_s,
        .verdict = (uint8_t)verdict,
    };
}

/* The operator's rules first, then the token's: a token never opens what the operator has closed. ACL_NONE: no rule
 * fits, and the HTTP service is to be asked. */
static enum acl_verdict judge(const struct broker *b, const struct acl_subject *subject,
                              const struct principal *principal, const struct acl_request *request, bool *ret_partial)
{
    bool partial = false;
    enum acl_verdict verdict = ACL_NONE;

    if (b->policy->acl) {
        verdict = acl_check(b->policy->acl, subject, request, ret_partial);
    }
    if (verdict == ACL_NONE && principal && principal->rules) {
        verdict = acl_check(principal->rules, subject, request, ret_partial ? &partial : NULL);
    }
    if (ret_partial) {
        *ret_partial |= partial;
    }
    if (verdict != ACL_NONE) {
        return verdict;
    }
    if (*b->policy->rule_url) {
        return ACL_NONE;
    }
    return b->policy->acl || (principal && principal->rules) ? ACL_DENY : ACL_ALLOW;
}

/* Whether any rule may concern whoever this is. */
static bool is_ruled(const struct broker *b, const struct principal *principal)
{
    return b->policy->acl || *b->policy->rule_url || (principal && principal->rules);
}

void access_refused(struct broker *b, const struct session *session, const char *what, struct slice topic)
{
    struct principal *p = session->principal;
    uint32_t now = now_s(b);

    if (p && p->refusal_s != 0 && now - p->refusal_s < REFUSAL_LOG_S) {
        return;
    }
    if (p) {
        p->refusal_s = now ? now : 1;
    }
    log_event(LOG_INFO, "access_denied", {"client", LOG_SLICE(session_client_id(session))},
              {"user", LOG_SLICE(p ? p->user : SLICE(""))}, {"action", LOG_STR(what)}, {"topic", LOG_SLICE(topic)});
}

/* ---- publish ---- */

enum acl_verdict access_publish(struct broker *b, const struct session *session, struct slice topic,
                                uint64_t topic_hash, uint8_t qos, bool retain)
{
    struct acl_request request = {.action = ACL_PUBLISH, .topic = topic, .qos = qos, .retain = retain};

    if (session->seen_version == b->policy->version && !session->ruled) {
        return ACL_ALLOW;
    }
    uint64_t key = cache_key(session, topic_hash, &request);
    const struct access_slot *slot = cache_slot(b, key);
    if (slot->key == key && slot->version == b->policy->version && slot->until_s > now_s(b)) {
        return (enum acl_verdict)slot->verdict;
    }
    struct acl_subject subject = principal_subject(session->principal, session_client_id(session));
    enum acl_verdict verdict = judge(b, &subject, session->principal, &request, NULL);
    if (verdict != ACL_NONE) {
        cache_put(b, key, verdict, UINT32_MAX);
    }
    return verdict;
}

bool access_will(struct broker *b, const struct will *will)
{
    struct slice client_id = slice_of(will->client_id, will->client_id_len);
    struct acl_subject subject = principal_subject(will->principal, client_id);
    struct acl_request request = {.action = ACL_PUBLISH,
                                  .topic = message_topic(will->message),
                                  .qos = will->message->qos,
                                  .retain = will->message->retain};

    if (will->principal && !auth_still(b->policy, will->principal)) {
        return false;
    }
    if (ban_has(b->node->auth->bans, BAN_CLIENT_ID, client_id, b->shard->wall_ms) ||
        (subject.user.len > 0 && ban_has(b->node->auth->bans, BAN_USER, subject.user, b->shard->wall_ms))) {
        return false;
    }
    /* ACL_NONE: the HTTP service was asked when the client connected. */
    return !is_ruled(b, will->principal) || judge(b, &subject, will->principal, &request, NULL) != ACL_DENY;
}

enum acl_verdict access_will_ask(struct broker *b, struct conn *conn, const struct principal *principal,
                                 struct slice client_id, const struct acl_request *request)
{
    struct acl_subject subject = principal_subject(principal, client_id);
    uint64_t max_age_ms;

    if (!*b->policy->rule_url || judge(b, &subject, principal, request, NULL) != ACL_NONE) {
        return ACL_ALLOW; /* access_will knows */
    }
    return login_rule(conn, broker_hash(b, request->topic), &subject, request, &max_age_ms);
}

/* ---- subscribe and receive ---- */

enum acl_verdict access_subscribe(struct broker *b, struct session *session, struct slice filter, uint8_t qos)
{
    struct acl_request request = {.action = ACL_SUBSCRIBE, .topic = filter, .qos = qos};
    struct acl_subject subject;
    bool partial = false;

    if (!is_ruled(b, session->principal)) {
        return ACL_ALLOW;
    }
    subject = principal_subject(session->principal, session_client_id(session));
    enum acl_verdict verdict = judge(b, &subject, session->principal, &request, &partial);
    if (partial) { /* from now on each message is asked for */
        session->open_version = 0;
        session->partial = true;
    }
    return verdict;
}

bool access_receive(struct broker *b, struct session *session, struct slice topic, uint64_t topic_hash)
{
    struct acl_request request = {.action = ACL_RECEIVE, .topic = topic};

    if (session->open_version == b->policy->version) {
        return true;
    }
    if (session->seen_version == b->policy->version && !session->partial) {
        session->open_version = session->seen_version;
        return true;
    }
    if (session->seen_version != b->policy->version && session->principal &&
        !auth_still(b->policy, session->principal)) {
        return false;
    }
    if (!is_ruled(b, session->principal)) {
        return true;
    }
    uint64_t key = cache_key(session, topic_hash, &request);
    const struct access_slot *slot = cache_slot(b, key);
    if (slot->key == key && slot->version == b->policy->version) {
        return slot->verdict == ACL_ALLOW;
    }
    struct acl_subject subject = principal_subject(session->principal, session_client_id(session));
    enum acl_verdict verdict = judge(b, &subject, session->principal, &request, NULL);
    if (verdict == ACL_NONE) { /* the service was asked when it subscribed */
        verdict = ACL_ALLOW;
    }
    cache_put(b, key, verdict, UINT32_MAX);
    return verdict == ACL_ALLOW;
}

/* ---- asking the HTTP service ---- */

enum acl_verdict access_ask(struct broker *b, struct conn *conn, const struct acl_request *request, uint64_t topic_hash)
{
    struct session *session = conn->session;
    struct acl_subject subject = principal_subject(session->principal, session_client_id(session));
    uint64_t key = cache_key(session, topic_hash, request), max_age_ms = 0;
    const struct access_slot *slot = cache_slot(b, key);

    if (slot->key == key && slot->version == b->policy->version && slot->until_s > now_s(b)) {
        return (enum acl_verdict)slot->verdict;
    }
    enum acl_verdict verdict = login_rule(conn, key, &subject, request, &max_age_ms);
    if (verdict != ACL_NONE && max_age_ms >= 1000) {
        cache_put(b, key, verdict, max_age_ms);
    }
    return verdict;
}

/* ---- when the policy changes ---- */

/* End what may no longer be subscribed to. */
static void revoke_filters(struct broker *b, struct session *session)
{
    for (struct list *at = session->subscriptions.next, *next; at != &session->subscriptions; at = next) {
        struct subscription *s = CONTAINER_OF(at, struct subscription, in_owner);
        struct slice filter = subscription_filter(s);
        next = at->next;
        if (access_subscribe(b, session, filter, s->options.qos) == ACL_DENY) {
            access_refused(b, session, "subscription revoked", filter);
            broker_metric(b, METRIC_SUBSCRIPTIONS_REVOKED, 1);
            subscribe_revoke(b, session, filter);
        }
    }
    for (struct list *at = session->shares.next, *next; at != &session->shares; at = next) {
        struct session_share *share = CONTAINER_OF(at, struct session_share, in_session);
        next = at->next;
        if (access_subscribe(b, session, session_share_filter(share), share->options.qos) == ACL_DENY) {
            access_refused(b, session, "subscription revoked", session_share_filter(share));
            broker_metric(b, METRIC_SUBSCRIPTIONS_REVOKED, 1);
            share_unsubscribe(b, share, true);
        }
    }
}

void access_visit(struct broker *b, struct session *session)
{
    if (session->seen_version == b->policy->version) {
        return;
    }
    if (session->principal && session->principal->era == 0) {
        session->principal->era = ++b->access->eras;
    }
    session->open_version = 0;
    session->ruled = is_ruled(b, session->principal);
    /* What waits was let in by the rules of its time, maybe for a filter that is gone: each is asked for again. */
    session->partial = session->ruled && session->queue && !queue_empty(session->queue);
    if (session->ruled) {
        revoke_filters(b, session);
    }
    session->seen_version = b->policy->version;
}

/* Why a client may not be here any longer; NULL: it may. */
static const char *why_not(struct broker *b, const struct conn *conn, enum mqtt_reason *ret_reason)
{
    const struct session *session = conn->session;
    const struct principal *p = session->principal;
    struct ban_list *bans = b->node->auth->bans;

    *ret_reason = MQTT_NOT_AUTHORIZED;
    if (p && !auth_still(b->policy, p)) {
        return "the user is gone or has another password";
    }
    if (!login_certificate_still(conn)) {
        return "the certificate or key is no longer taken";
    }
    *ret_reason = MQTT_ADMINISTRATIVE_ACTION; /* 0x8A, Banned, is CONNACK's alone (3.14.2.1) */
    if (ban_has(bans, BAN_CLIENT_ID, session_client_id(session), b->shard->wall_ms) ||
        ban_has(bans, BAN_ADDRESS, ban_address(&conn->peer), b->shard->wall_ms) ||
        (p && p->user.len > 0 && ban_has(bans, BAN_USER, p->user, b->shard->wall_ms))) {
        return "banned";
    }
    return NULL;
}

static void judge_anew(struct broker *b, struct conn *conn)
{
    enum mqtt_reason reason;

    if (conn->state != CONN_OPEN || !conn->session) {
        return;
    }
    const char *why = why_not(b, conn, &reason);
    if (why) {
        broker_metric(b, METRIC_CLIENTS_REVOKED, 1);
        goodbye(conn, reason, why);
    } else {
        access_visit(b, conn->session);
    }
}

void access_policy_changed(struct broker *b)
{
    b->sweep_left = 0;
    for (struct list *at = b->conns.all.next; at != &b->conns.all; at = at->next) {
        b->sweep_left++;
    }
}

bool access_sweep(struct broker *b)
{
    uint64_t bans = ban_version(b->node->auth->bans);

    if (bans != b->bans_seen) {
        b->bans_seen = bans;
        access_policy_changed(b);
    }
    for (unsigned i = 0; i < SWEEP_CONNS && b->sweep_left > 0; i++) {
        struct list *at = list_pop(&b->conns.all);
        if (!at) {
            b->sweep_left = 0;
            break;
        }
        list_append(&b->conns.all, at); /* round and round: who comes meanwhile stands behind */
        b->sweep_left--;
        judge_anew(b, CONTAINER_OF(at, struct conn, in_shard));
    }
    return b->sweep_left > 0;
}
