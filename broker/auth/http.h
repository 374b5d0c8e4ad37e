/* http.h -- questions to an HTTP service: one thread with libcurl's multi interface, bounded in number, time and trust.
 *
 * Why: who may connect, and what a client may do, is often known to a service of the operator's. It may be slow or
 * down: at most `requests_max` questions are under way, each has a deadline; after `breaker_failures` failures in a row
 * (no answer, 5xx) the breaker opens and everything is answered with -EHOSTDOWN at once for breaker_pause_ms, then one
 * question is tried. No answer never means yes. The same thread fetches key sets (JWKS). */
#ifndef TERN_BROKER_AUTH_HTTP_H
#define TERN_BROKER_AUTH_HTTP_H

#include "broker/auth/worker.h"
#include "proto/base/buf.h"

struct http_client;

struct http_settings {
    unsigned requests_max;     /* under way at one time; four times as many may wait */
    unsigned timeout_ms;       /* of one request, from http_send on: waiting and connecting included */
    const char *ca_file;       /* PEM; "" : the system's */
    unsigned breaker_failures; /* in a row; 0: no breaker */
    unsigned breaker_pause_ms;
};

/* One request; embed it. url and body are the caller's until done. */
struct http_request {
    struct work work; /* done is called on work.shard by worker_collect */
    const char *url;
    struct slice body;  /* JSON; empty: a GET */
    int error;          /* 0, -ETIMEDOUT, -ECONNREFUSED (or whatever failed: -EIO), -EHOSTDOWN: the breaker is open,
                           -EMSGSIZE: the answer is above 64 KiB (1 MiB for a GET), -ECANCELED, -ENOMEM */
    long status;        /* of the answer */
    struct buf answer;  /* owned by the request; free with http_request_deinit */
    uint32_t max_age_s; /* Cache-Control: max-age; 0 with no-store, no-cache, or none given */
    bool cache_control; /* the answer had a Cache-Control: max_age_s 0 is its word */
    /* internal */
    void *easy; /* there is one while it is under way */
    uint64_t deadline_ns;
};
void http_request_deinit(struct http_request *request);

/* Start the thread. Results go to pool (worker_finish). Returns 0 or a negative errno. */
int http_client_new(const struct http_settings *settings, struct worker_pool *pool, struct http_client **ret_client);
void http_client_free(
    struct http_client *client); /* gives up what is under way: finished with -ECANCELED. NULL is allowed */

/* Ask. Returns 0: `done` will be called; or -EBUSY (too many), -EHOSTDOWN (breaker): not taken. */
int http_send(struct http_client *client, struct http_request *request);

/* For metrics: questions asked, failed, refused by the breaker or the bound since the start; under way now. */
struct http_counts {
    uint64_t sent, failed, refused;
    unsigned underway;
    bool open; /* the breaker's state */
};
void http_counts(const struct http_client *client, struct http_counts *ret_counts);

/* A GET that blocks, for the main thread (key sets at the start and their refresh). Returns 0 or a negative errno, with
 * a sentence in error. */
int http_fetch(const char *url, const struct http_settings *settings, struct buf *answer, uint32_t *ret_max_age_s,
               char *error, size_t error_size);

#endif
