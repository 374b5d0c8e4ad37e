/* jwks.c -- a JWK Set that lives behind a URL: fetched at the start, fetched anew now and then, kept when that fails.
 *
 * Why anew: services change their keys and announce the next one by putting it into the set, so a token whose key is
 * not known is a reason to look earlier, though not more often than each EARLY_MS, whoever sends such tokens. Shape:
 * the keys are immutable and counted, exchanged under a lock; reading them takes a worker. Only the control shard asks;
 * only the main thread exchanges the source. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/auth_internal.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define EARLY_MS 10000 /* also: after a failure */

/* Where the keys come from; everything in it is owned. */
struct source {
    char *url, *ca_file;
    unsigned timeout_ms;
    struct http_client *client; /* its own: other trust than the service of http.*, and no part in its breaker */
};

struct auth_jwks {
    struct auth *auth;
    pthread_mutex_t lock;
    struct source *source; /* under the lock; NULL: no URL */
    struct jwt_keys *keys; /* under the lock; counted; NULL: never had any */
    uint64_t refresh_ms;   /* under the lock */
    uint32_t version;      /* under the lock; of the source */
    atomic_bool wanted;    /* a token's key is not known */
    /* the control shard's: */
    struct http_request request;
    struct work parse;
    uint32_t asked_version; /* of the source that was asked last */
    bool underway;
    struct jwt_keys *parsed; /* by the worker */
    char error[256];
    /* The main thread's before the shards begin, then the control shard's. */
    bool failing;
    uint64_t asked_ms; /* monotonic */
};

static void source_free(struct source *s)
{
    if (s) {
        http_client_free(s->client);
        free(s->url);
        free(s->ca_file);
        free(s);
    }
}

static struct http_settings source_settings(const struct source *s)
{
    return (struct http_settings){.requests_max = 1, .timeout_ms = s->timeout_ms, .ca_file = s->ca_file};
}

/* *ret_source is NULL when there is no URL. */
static int source_new(struct worker_pool *pool, const struct config *c, struct source **ret_source)
{
    if (!*c->jwt.jwks_url) {
        *ret_source = NULL;
        return 0;
    }
    struct source *s = calloc(1, sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    s->url = strdup(c->jwt.jwks_url);
    s->ca_file = strdup(c->jwt.ca_file);
    s->timeout_ms = (unsigned)c->http.timeout_ms;
    int rc = -ENOMEM;
    if (s->url && s->ca_file) {
        struct http_settings settings = source_settings(s);
        rc = http_client_new(&settings, pool, &s->client);
    }
    if (rc) {
        source_free(s);
        return rc;
    }
    *ret_source = s;
    return 0;
}

/* Whether keys of this source are those that the configuration wants. */
static bool source_is(const struct source *s, const struct config *c)
{
    if (!s) {
        return !*c->jwt.jwks_url;
    }
    return strcmp(s->url, c->jwt.jwks_url) == 0 && strcmp(s->ca_file, c->jwt.ca_file) == 0 &&
           s->timeout_ms == (unsigned)c->http.timeout_ms;
}

/* One line when it begins to fail, and one when it is over. */
static void report(struct auth_jwks *j, bool failed, const char *error)
{
    if (failed && !j->failing) {
        log_event(LOG_WARN, "jwks_failed", {"error", LOG_STR(error)});
    } else if (!failed && j->failing) {
        log_event(LOG_INFO, "jwks_fetched");
    }
    j->failing = failed;
}

/* At the start; the main thread. */
static void fetch_first(struct auth_jwks *j)
{
    struct http_settings settings = source_settings(j->source);
    struct buf answer = {0};
    uint32_t max_age_s;

    snprintf(j->error, sizeof(j->error), "out of memory");
    int rc = http_fetch(j->source->url, &settings, &answer, &max_age_s, j->error, sizeof(j->error));
    if (rc == 0) {
        rc = jwt_keys_parse(buf_slice(&answer), false, j->source->url, j->error, sizeof(j->error), &j->keys);
    }
    report(j, rc != 0, j->error);
    buf_deinit(&answer);
}

int auth_jwks_new(struct auth *auth, const struct config *config, struct auth_jwks **ret_jwks)
{
    struct auth_jwks *j = calloc(1, sizeof(*j));

    if (!j) {
        return -ENOMEM;
    }
    int rc = source_new(auth->pool, config, &j->source);
    if (rc) {
        free(j);
        return rc;
    }
    j->auth = auth;
    j->refresh_ms = config->jwt.jwks_refresh_ms;
    pthread_mutex_init(&j->lock, NULL);
    if (j->source) {
        fetch_first(j);
    }
    j->asked_ms = clock_mono_ns() / 1000000;
    *ret_jwks = j;
    return 0;
}

void auth_jwks_free(struct auth_jwks *j)
{
    if (!j) {
        return;
    }
    source_free(j->source);
    http_request_deinit(&j->request);
    jwt_keys_unref(j->keys);
    jwt_keys_unref(j->parsed);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

int auth_jwks_configure(struct auth_jwks *j, const struct config *config)
{
    struct source *next = NULL;
    bool same = source_is(j->source, config);
    int rc = same ? 0 : source_new(j->auth->pool, config, &next);

    if (rc) {
        return rc;
    }
    pthread_mutex_lock(&j->lock);
    struct source *old = j->source;
    struct jwt_keys *keys = NULL;
    j->refresh_ms = config->jwt.jwks_refresh_ms;
    if (!same) {
        if (!old || !next || strcmp(old->url, next->url) != 0) {
            keys = j->keys;
            j->keys = NULL;
        }
        j->source = next;
        j->version++;
    }
    pthread_mutex_unlock(&j->lock);
    jwt_keys_unref(keys);
    if (!same) {
        source_free(old); /* a fetch that is under way comes back as failed */
    }
    return 0;
}

void auth_jwks_stop(struct auth_jwks *j)
{
    if (j->source) {
        http_client_free(j->source->client);
        j->source->client = NULL;
    }
}

struct jwt_keys *auth_jwks_keys(struct auth_jwks *j, bool *ret_expected)
{
    pthread_mutex_lock(&j->lock);
    struct jwt_keys *keys = j->keys ? jwt_keys_ref(j->keys) : NULL;
    *ret_expected = j->source != NULL;
    pthread_mutex_unlock(&j->lock);
    return keys;
}

void auth_jwks_missed(struct auth_jwks *j)
{
    atomic_store_explicit(&j->wanted, true, memory_order_relaxed);
}

/* ---- fetching it anew, on the control shard ---- */

/* Keys of another source than the present one are not taken. */
static void install(struct auth_jwks *j)
{
    pthread_mutex_lock(&j->lock);
    struct jwt_keys *unused = j->parsed;
    if (j->version == j->asked_version) {
        unused = j->keys;
        j->keys = j->parsed;
    }
    j->parsed = NULL;
    pthread_mutex_unlock(&j->lock);
    jwt_keys_unref(unused);
}

static void finish(struct auth_jwks *j, const char *error)
{
    report(j, error != NULL, error);
    http_request_deinit(&j->request);
    j->request = (struct http_request){0};
    j->underway = false;
}

static void run_parse(struct work *work)
{
    struct auth_jwks *j = CONTAINER_OF(work, struct auth_jwks, parse);

    snprintf(j->error, sizeof(j->error), "out of memory");
    if (jwt_keys_parse(buf_slice(&j->request.answer), false, "JWK Set", j->error, sizeof(j->error), &j->parsed) != 0) {
        j->parsed = NULL;
    }
}

static void parsed(struct work *work)
{
    struct auth_jwks *j = CONTAINER_OF(work, struct auth_jwks, parse);

    if (j->parsed) {
        install(j);
        finish(j, NULL);
    } else {
        finish(j, j->error);
    }
}

static void fetched(struct work *work)
{
    struct auth_jwks *j = CONTAINER_OF(work, struct auth_jwks, request.work);
    struct http_request *r = &j->request;

    if (j->auth->drained) {
        return;
    }
    if (r->error) {
        finish(j, strerror(-r->error));
    } else if (r->status != 200) {
        snprintf(j->error, sizeof(j->error), "HTTP status %ld", r->status);
        finish(j, j->error);
    } else {
        j->parse = (struct work){.shard = r->work.shard, .run = run_parse, .done = parsed};
        if (worker_submit(j->auth->pool, &j->parse) != 0) {
            finish(j, "the workers are busy");
        }
    }
}

/* Under the lock. */
static bool is_due(struct auth_jwks *j, uint64_t mono_ms)
{
    bool early = j->failing || atomic_load_explicit(&j->wanted, memory_order_relaxed);
    uint64_t pause_ms = early && j->refresh_ms > EARLY_MS ? EARLY_MS : j->refresh_ms;

    return j->source && !j->underway && (j->version != j->asked_version || mono_ms >= j->asked_ms + pause_ms);
}

void auth_jwks_tick(struct auth_jwks *j, unsigned shard, uint64_t mono_ms)
{
    int rc = 0;

    pthread_mutex_lock(&j->lock);
    if (is_due(j, mono_ms)) {
        j->request = (struct http_request){.work = {.shard = shard, .done = fetched}, .url = j->source->url};
        j->asked_version = j->version;
        j->asked_ms = mono_ms;
        atomic_store_explicit(&j->wanted, false, memory_order_relaxed);
        rc = http_send(j->source->client, &j->request);
        j->underway = rc == 0;
    }
    pthread_mutex_unlock(&j->lock);
    if (rc) {
        report(j, true, strerror(-rc));
    }
}
