/* auth.c -- the parts behind auth.h: built, exchanged by a reload, ended; and attempts, from their copy of the question
 * to their last byte. */
#include "broker/auth/auth.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/auth_internal.h"
#include "proto/base/log.h"

/* ---- policies ---- */

static char *keep_text(const char *text, bool *failed)
{
    char *copy = strdup(text);

    *failed |= !copy;
    return copy;
}

static int read_terms(struct auth_policy *p, const struct config *c)
{
    const char *const texts[] = {c->jwt.issuer,          c->jwt.audience,    c->jwt.user_claim,
                                 c->jwt.client_id_claim, c->jwt.roles_claim, c->jwt.rules_claim};
    bool failed = false;

    static_assert(COUNT_OF(texts) == COUNT_OF(p->texts), "one for each");
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        p->texts[i] = keep_text(texts[i], &failed);
    }
    p->terms = (struct jwt_terms){
        .algorithms = c->jwt.algorithm_bits,
        .leeway_s = (uint32_t)c->jwt.leeway_s,
        .issuer = p->texts[0],
        .audience = p->texts[1],
        .user_claim = p->texts[2],
        .client_id_claim = p->texts[3],
        .roles_claim = p->texts[4],
        .rules_claim = p->texts[5],
    };
    p->token_in = c->jwt.token_in;
    p->connect_url = keep_text(c->http.connect_url, &failed);
    p->rule_url = keep_text(c->http.rule_url, &failed);
    p->default_max_age_s = c->http.default_max_age_s;
    return failed ? -ENOMEM : 0;
}

int auth_policy_new(struct auth *auth, const struct config *c, char *error, size_t error_size,
                    struct auth_policy **ret_policy)
{
    struct auth_policy *p = calloc(1, sizeof(*p));
    int rc = -ENOMEM;

    snprintf(error, error_size, "out of memory");
    if (!p) {
        return rc;
    }
    auth->version += auth->version == UINT32_MAX ? 2 : 1;
    p->version = auth->version;
    atomic_init(&p->refs, 1);
    rc = read_terms(p, c);
    if (rc == 0 && *c->auth.password_file) {
        rc = passwd_read(c->auth.password_file, error, error_size, &p->passwd);
    }
    if (rc == 0 && *c->auth.acl_file) {
        rc = acl_read(c->auth.acl_file, error, error_size, &p->acl);
    }
    if (rc == 0 && *c->jwt.keys) {
        rc = jwt_keys_read(c->jwt.keys, error, error_size, &p->keys);
    }
    if (rc) {
        auth_policy_unref(p);
        return rc;
    }
    *ret_policy = p;
    return 0;
}

struct auth_policy *auth_policy_ref(struct auth_policy *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void auth_policy_unref(struct auth_policy *p)
{
    if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    passwd_free(p->passwd);
    acl_free(p->acl);
    jwt_keys_unref(p->keys);
    for (size_t i = 0; i < COUNT_OF(p->texts); i++) {
        free(p->texts[i]);
    }
    free(p->connect_url);
    free(p->rule_url);
    free(p);
}

bool auth_still(const struct auth_policy *policy, const struct principal *principal)
{
    if (!(principal->method & (METHOD_PASSWORD | METHOD_SCRAM))) {
        return true;
    }
    const struct passwd_entry *entry = policy->passwd ? passwd_find(policy->passwd, principal->user) : NULL;
    return entry && passwd_fingerprint(entry) == principal->credential;
}

/* ---- the HTTP client ---- */

static bool settings_eq(const struct http_settings *a, const struct http_settings *b)
{
    return a->requests_max == b->requests_max && a->timeout_ms == b->timeout_ms &&
           a->breaker_failures == b->breaker_failures && a->breaker_pause_ms == b->breaker_pause_ms &&
           strcmp(a->ca_file, b->ca_file) == 0;
}

/* Have the client that the configuration asks for. Who waits for the one before is told that nothing came of it. */
static int configure_http(struct auth *auth, const struct config *c)
{
    bool wanted = *c->http.connect_url || *c->http.rule_url;
    struct http_settings next = {.requests_max = c->http.max_requests,
                                 .timeout_ms = (unsigned)c->http.timeout_ms,
                                 .ca_file = c->http.ca_file,
                                 .breaker_failures = c->http.breaker_failures,
                                 .breaker_pause_ms = (unsigned)c->http.breaker_pause_ms};
    struct http_client *client = NULL;

    if (wanted == (auth->http != NULL) && (!wanted || settings_eq(&auth->http_settings, &next))) {
        return 0;
    }
    char *ca_file = strdup(c->http.ca_file);
    next.ca_file = ca_file;
    int rc = !ca_file ? -ENOMEM : wanted ? http_client_new(&next, auth->pool, &client) : 0;
    if (rc) {
        free(ca_file);
        return rc;
    }
    pthread_mutex_lock(&auth->http_lock);
    struct http_client *old = auth->http;
    auth->http = client;
    pthread_mutex_unlock(&auth->http_lock);
    http_client_free(old);
    free((char *)(uintptr_t)auth->http_settings.ca_file);
    auth->http_settings = next;
    return 0;
}

/* ---- all of it ---- */

/* What names a file or a service. */
static int read_config(struct auth *auth, const struct config *c, char *error, size_t error_size)
{
    struct auth_policy *policy;
    int rc = auth_policy_new(auth, c, error, error_size, &policy);

    if (rc) {
        return rc;
    }
    atomic_store(&auth->policy, policy);
    auth_cache_renew(auth->cache, policy->version);
    rc = configure_http(auth, c);
    if (rc == 0) {
        rc = auth_jwks_new(auth, c, &auth->jwks);
    }
    if (rc) {
        snprintf(error, error_size, "%s", strerror(-rc));
    }
    return rc;
}

int auth_new(const struct config *config, unsigned shard_count, void (*wake)(void *context, unsigned shard),
             void *context, char *error, size_t error_size, struct auth **ret_auth)
{
    struct auth *auth = calloc(1, sizeof(*auth));
    int rc;

    if (!auth) {
        snprintf(error, error_size, "out of memory");
        return -ENOMEM;
    }
    atomic_init(&auth->policy, NULL);
    pthread_mutex_init(&auth->http_lock, NULL);
    if ((rc = worker_pool_new(config->auth.workers, config->auth.max_waiting, shard_count, wake, context,
                              &auth->pool)) != 0 ||
        (rc = ban_list_new(&auth->bans)) != 0 || (rc = user_rates_new(&auth->rates)) != 0 ||
        (rc = auth_cache_new(&auth->cache)) != 0) {
        snprintf(error, error_size, "%s", strerror(-rc));
    } else {
        rc = read_config(auth, config, error, error_size);
    }
    if (rc) {
        auth_free(auth); /* takes a half-made one */
        return rc;
    }
    *ret_auth = auth;
    return 0;
}

struct auth_policy *auth_replace(struct auth *auth, struct auth_policy *policy, const struct config *config)
{
    int rc = configure_http(auth, config);

    rc = rc ? rc : auth_jwks_configure(auth->jwks, config);
    if (rc) {
        log_event(LOG_ERROR, "auth_client_kept", {"error", LOG_STR(strerror(-rc))});
    }
    struct auth_policy *old = atomic_exchange_explicit(&auth->policy, policy, memory_order_acq_rel);
    auth_cache_renew(auth->cache, policy->version);
    return old;
}

void auth_tick(struct auth *auth, unsigned shard, uint64_t mono_ms)
{
    auth_jwks_tick(auth->jwks, shard, mono_ms);
}

void auth_http_counts(struct auth *auth, struct http_counts *ret_counts)
{
    *ret_counts = (struct http_counts){0};
    pthread_mutex_lock(&auth->http_lock); /* a reload may exchange the client */
    if (auth->http) {
        http_counts(auth->http, ret_counts);
    }
    pthread_mutex_unlock(&auth->http_lock);
}

/* The HTTP clients give back what they have before the workers' lists are emptied for the last time. */
void auth_drain(struct auth *auth)
{
    if (auth->drained) {
        return;
    }
    auth->drained = true;
    http_client_free(auth->http);
    auth->http = NULL;
    if (auth->jwks) {
        auth_jwks_stop(auth->jwks);
    }
    if (auth->pool) {
        worker_pool_drain(auth->pool);
    }
}

void auth_free(struct auth *auth)
{
    if (!auth) {
        return;
    }
    auth_drain(auth);
    worker_pool_free(auth->pool);
    auth_jwks_free(auth->jwks);
    auth_cache_free(auth->cache);
    auth_policy_unref(atomic_load(&auth->policy));
    user_rates_free(auth->rates);
    ban_list_free(auth->bans);
    free((char *)(uintptr_t)auth->http_settings.ca_file);
    pthread_mutex_destroy(&auth->http_lock);
    free(auth);
}

/* ---- attempts ---- */

static size_t question_bytes(const struct auth_question *q)
{
    return q->client_id.len + q->user_name.len + q->password.len + q->method.len + q->data.len +
           q->certificate_user.len + q->psk_identity.len;
}

/* Put the bytes at *at and let the slice borrow from there; what was not given stays so. */
static void move_slice(struct slice *s, uint8_t **at)
{
    if (!s->ptr) {
        return;
    }
    memcpy(*at, s->ptr, s->len);
    s->ptr = *at;
    *at += s->len;
}

static void copy_question(struct auth_attempt *a, const struct auth_question *question)
{
    struct auth_question *q = &a->question;
    uint8_t *at = a->text;

    *q = *question;
    move_slice(&q->client_id, &at);
    move_slice(&q->user_name, &at);
    move_slice(&q->password, &at);
    move_slice(&q->method, &at);
    move_slice(&q->data, &at);
    move_slice(&q->certificate_user, &at);
    move_slice(&q->psk_identity, &at);
    assert(at == a->text + a->text_len);
}

struct auth_attempt *auth_begin(struct auth *auth, struct auth_policy *policy, unsigned shard, uint64_t wall_ms,
                                const struct auth_question *question, void (*done)(void *context), void *context)
{
    size_t text_len = question_bytes(question);
    struct auth_attempt *a = calloc(1, sizeof(*a) + text_len);

    if (!a) {
        return NULL;
    }
    a->auth = auth;
    a->policy = auth_policy_ref(policy);
    a->shard = shard;
    a->wall_ms = wall_ms;
    a->done = done;
    a->context = context;
    a->text_len = text_len;
    copy_question(a, question);
    chain_begin(a);
    return a;
}

void auth_continue(struct auth_attempt *a, struct slice data)
{
    chain_continue(a, data);
}

struct auth_answer *auth_answer_of(struct auth_attempt *a)
{
    return &a->answer;
}

void attempt_free(struct auth_attempt *a)
{
    assert(!a->underway);
    principal_unref(a->answer.principal);
    buf_deinit(&a->answer.client_id);
    buf_deinit(&a->answer.data);
    scram_free(a->scram);
    jwt_claims_deinit(&a->claims);
    ask_deinit(&a->ask);
    if (a->said.ptr) {
        OPENSSL_cleanse(a->said.ptr, a->said.len);
    }
    buf_deinit(&a->said);
    auth_policy_unref(a->policy);
    OPENSSL_cleanse(a->text, a->text_len);
    free(a);
}

void auth_end(struct auth_attempt *a)
{
    if (!a) {
        return;
    }
    if (a->underway) {
        a->given_up = true;
    } else {
        attempt_free(a);
    }
}
