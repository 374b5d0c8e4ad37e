/* http.c -- one thread, one multi handle.
 *
 *     http_send --> waiting --> take: a slot is free --> libcurl --> reap --> finish: worker_finish
 *                      |                                                       ^
 *                      +-- too late, the breaker has opened, the client ends --+
 *
 * Connections belong to the multi handle and are kept alive there; each request gets an easy handle of its own. The
 * lock is held for numbers and links only. The breaker is open when as many questions failed in a row as it allows;
 * after the pause it lets one through, `probe`, and any answer closes it. */
#include "broker/auth/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "proto/base/clock.h"

#define ANSWER_BYTES_MAX (64u << 10)
#define FETCH_BYTES_MAX (1u << 20)
#define WAITING_FACTOR 4    /* waiting for each one under way */
#define POLL_MS_MAX 60000   /* libcurl looks after its own times; this is for nothing to do */
#define AGE_NONE UINT32_MAX /* max_age_s while the answer has not said any */
#define NS_PER_MS UINT64_C(1000000)

struct http_client {
    struct http_settings settings; /* its text is owned */
    struct worker_pool *pool;      /* borrowed */
    CURLM *multi;                  /* owned; the thread's, but for curl_multi_wakeup */
    struct curl_slist *headers;    /* owned; of questions with a body */
    pthread_t thread;
    bool started;
    struct list running; /* http_request.work.link; the thread's */
    pthread_mutex_t lock;
    /* under the lock: */
    struct list waiting; /* http_request.work.link */
    unsigned waiting_count, underway;
    unsigned failures; /* in a row; not above breaker_failures */
    uint64_t probe_at_ns;
    struct http_request *probe; /* the one question that an open breaker has let through; borrowed */
    uint64_t sent, failed, refused;
    bool ending;
};

static struct http_request *request_of(struct list *link)
{
    return CONTAINER_OF(link, struct http_request, work.link);
}

/* ---- what the answer says ---- */

/* libcurl's write callback: take some bytes of the answer. Fewer taken than given ends the request. */
static size_t take_bytes(char *bytes, size_t one, size_t len, void *context)
{
    struct http_request *r = context;
    uint32_t bytes_max = r->body.len > 0 ? ANSWER_BYTES_MAX : FETCH_BYTES_MAX;

    (void)one; /* always 1 */
    if (len > bytes_max - r->answer.len) {
        r->error = -EMSGSIZE;
        return 0;
    }
    buf_put(&r->answer, slice_of(bytes, len));
    r->error = r->answer.failed ? -ENOMEM : 0;
    return r->answer.failed ? 0 : len;
}

/* Whether s begins with this text, in any case of letters; cut it off if so. */
static bool skip(struct slice *s, const char *text)
{
    size_t len = strlen(text);

    if (s->len < len || strncasecmp((const char *)s->ptr, text, len) != 0) {
        return false;
    }
    *s = slice_drop(*s, len);
    return true;
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && memchr(" \t\r\n", s.ptr[0], 4)) {
        s = slice_drop(s, 1);
    }
    while (s.len > 0 && memchr(" \t\r\n", s.ptr[s.len - 1], 4)) {
        s.len--;
    }
    return s;
}

/* Seconds of a directive (RFC 9111, section 1.2.2), with or without quotes; what is no number keeps nothing. */
static uint32_t seconds_of(struct slice s)
{
    uint64_t seconds = 0;

    if (s.len >= 2 && s.ptr[0] == '"' && s.ptr[s.len - 1] == '"') {
        s = slice_of(s.ptr + 1, s.len - 2);
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return 0;
        }
        seconds = seconds * 10 + (uint64_t)(s.ptr[i] - '0');
        seconds = seconds < AGE_NONE ? seconds : AGE_NONE - 1;
    }
    return (uint32_t)seconds;
}

/* One directive of Cache-Control. Where several speak, the shortest time is meant. */
static void take_directive(struct http_request *r, struct slice s)
{
    uint32_t age_s = AGE_NONE;

    if (skip(&s, "max-age=")) {
        age_s = seconds_of(s);
    } else if ((skip(&s, "no-store") || skip(&s, "no-cache")) && (s.len == 0 || s.ptr[0] == '=')) {
        age_s = 0;
    }
    if (age_s < r->max_age_s) {
        r->max_age_s = age_s;
    }
}

/* libcurl's header callback: one line. */
static size_t take_header(char *bytes, size_t one, size_t len, void *context)
{
    struct http_request *r = context;
    struct slice line = slice_of(bytes, len);

    (void)one;
    if (skip(&line, "HTTP/")) { /* an interim answer (1xx) does not speak for the final one */
        r->cache_control = false;
        r->max_age_s = AGE_NONE;
    }
    if (!skip(&line, "cache-control:")) {
        return len;
    }
    r->cache_control = true;
    while (line.len > 0) {
        const uint8_t *comma = memchr(line.ptr, ',', line.len);
        size_t part = comma ? (size_t)(comma - line.ptr) : line.len;
        take_directive(r, trim(slice_of(line.ptr, part)));
        line = slice_drop(line, comma ? part + 1 : part);
    }
    return len;
}

static int error_of(CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return 0;
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_COULDNT_CONNECT:
        return -ECONNREFUSED;
    case CURLE_OUT_OF_MEMORY:
        return -ENOMEM;
    default:
        return -EIO;
    }
}

/* The transfer is over: what came of it. */
static void conclude(struct http_request *r, CURLcode code)
{
    r->error = r->error ? r->error : error_of(code); /* a callback knows better */
    if (!r->error) {
        curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->status);
    }
    r->max_age_s = r->max_age_s == AGE_NONE ? 0 : r->max_age_s;
}

/* ---- one request's handle ---- */

static void global_init(void)
{
    curl_global_init(CURL_GLOBAL_ALL);
}

static void init_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, global_init);
}

/* Where we ask, whom we trust. Redirects are not followed, so that the operator's URL is where the question goes. */
static bool set_way(CURL *easy, const char *url, const char *ca_file, long timeout_ms)
{
#if LIBCURL_VERSION_NUM >= 0x075700 /* else a name server that is silent holds the thread up beyond the deadline */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
    return curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK && /* nor what the environment says */
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
           (!*ca_file || curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file) == CURLE_OK);
}

static bool set_question(CURL *easy, struct http_request *r, struct curl_slist *headers)
{
    bool ok = curl_easy_setopt(easy, CURLOPT_PRIVATE, r) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_bytes) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_WRITEDATA, r) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_HEADERDATA, r) == CURLE_OK;

    if (!ok || r->body.len == 0) {
        return ok;
    }
    return curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)r->body.len) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_POSTFIELDS, r->body.ptr) == CURLE_OK; /* not copied */
}

/* Make the request's handle. Returns 0, -EIO for a URL that is none of ours, -ENOMEM. */
static int prepare(struct http_request *r, const struct http_settings *settings, struct curl_slist *headers,
                   long timeout_ms)
{
    if (strncasecmp(r->url, "http://", 7) != 0 && strncasecmp(r->url, "https://", 8) != 0) {
        return -EIO; /* libcurl knows many more */
    }
    r->easy = curl_easy_init();
    if (!r->easy || !set_way(r->easy, r->url, settings->ca_file, timeout_ms) || !set_question(r->easy, r, headers)) {
        curl_easy_cleanup(r->easy);
        r->easy = NULL;
        return -ENOMEM;
    }
    return 0;
}

void http_request_deinit(struct http_request *request)
{
    assert(!request->easy);
    buf_deinit(&request->answer);
}

/* ---- the breaker: under the lock ---- */

static bool breaker_open(const struct http_client *c)
{
    return c->settings.breaker_failures > 0 && c->failures >= c->settings.breaker_failures;
}

static void breaker_judge(struct http_client *c, bool failed)
{
    if (!failed) {
        c->failures = 0;
        return;
    }
    c->failures += c->failures < c->settings.breaker_failures;
    c->probe_at_ns = clock_mono_ns() + c->settings.breaker_pause_ms * NS_PER_MS;
}

/* ---- the thread ---- */

/* Hand the request back, which may be gone afterwards. With a handle it holds a slot, and its end is news of the
 * service. */
static void finish(struct http_client *c, struct http_request *r)
{
    bool failed = r->error != 0 || r->status >= 500;

    pthread_mutex_lock(&c->lock);
    c->probe = c->probe == r ? NULL : c->probe;
    c->failed += failed;
    if (r->easy) {
        c->underway--;
        breaker_judge(c, failed);
    }
    pthread_mutex_unlock(&c->lock);
    if (r->easy) {
        list_remove(&r->work.link);
        curl_multi_remove_handle(c->multi, r->easy);
        curl_easy_cleanup(r->easy);
        r->easy = NULL;
    }
    worker_finish(c->pool, &r->work);
}

/* The next request that is due: for a free slot, or for a no because the breaker has opened. NULL: none. */
static struct http_request *next_waiting(struct http_client *c, bool *ret_refuse)
{
    struct http_request *r = NULL;

    pthread_mutex_lock(&c->lock);
    if (!list_empty(&c->waiting)) {
        r = request_of(c->waiting.next);
        *ret_refuse = breaker_open(c) && r != c->probe;
        if (*ret_refuse || c->underway < c->settings.requests_max) {
            list_remove(&r->work.link);
            c->waiting_count--;
        } else {
            r = NULL;
        }
    }
    pthread_mutex_unlock(&c->lock);
    return r;
}

/* Begin a request with the time that waiting has left it. */
static int start(struct http_client *c, struct http_request *r)
{
    uint64_t now_ns = clock_mono_ns();

    if (now_ns + NS_PER_MS > r->deadline_ns) {
        return -ETIMEDOUT;
    }
    int rc = prepare(r, &c->settings, c->headers, (long)((r->deadline_ns - now_ns) / NS_PER_MS));
    if (rc) {
        return rc;
    }
    pthread_mutex_lock(&c->lock);
    c->underway++;
    pthread_mutex_unlock(&c->lock);
    list_append(&c->running, &r->work.link);
    return curl_multi_add_handle(c->multi, r->easy) == CURLM_OK ? 0 : -ENOMEM;
}

static void take(struct http_client *c)
{
    struct http_request *r;
    bool refuse;

    while ((r = next_waiting(c, &refuse)) != NULL) {
        r->error = refuse ? -EHOSTDOWN : start(c, r);
        if (r->error) {
            finish(c, r);
        }
    }
}

/* Those that have ended. */
static void reap(struct http_client *c)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(c->multi, &left)) != NULL) {
        char *private = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        struct http_request *r = (struct http_request *)(void *)private;
        conclude(r, message->data.result);
        finish(c, r);
    }
}

static bool is_ending(struct http_client *c)
{
    pthread_mutex_lock(&c->lock);
    bool ending = c->ending;
    pthread_mutex_unlock(&c->lock);
    return ending;
}

static void *http_main(void *argument)
{
    struct http_client *c = argument;
    int running;

    pthread_setname_np(pthread_self(), "http");
    while (!is_ending(c)) {
        take(c); /* a handle that is added makes the poll return at once */
        curl_multi_poll(c->multi, NULL, 0, POLL_MS_MAX, NULL);
        curl_multi_perform(c->multi, &running);
        reap(c);
    }
    return NULL;
}

/* With all signals blocked: they are for the main thread. */
static int start_thread(struct http_client *c)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&c->thread, NULL, http_main, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    c->started = rc == 0;
    return -rc;
}

/* ---- outside the thread ---- */

static int prepare_client(struct http_client *c, const struct http_settings *settings)
{
    c->settings = *settings;
    c->settings.ca_file = strdup(settings->ca_file);
    c->multi = curl_multi_init();
    c->headers = curl_slist_append(NULL, "Content-Type: application/json");
    bool ok = c->settings.ca_file && c->multi && c->headers &&
              curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)settings->requests_max) == CURLM_OK;
    return ok ? 0 : -ENOMEM;
}

int http_client_new(const struct http_settings *settings, struct worker_pool *pool, struct http_client **ret_client)
{
    assert(settings->requests_max > 0 && settings->timeout_ms > 0);
    struct http_client *c = calloc(1, sizeof(*c));

    if (!c) {
        return -ENOMEM;
    }
    init_once();
    pthread_mutex_init(&c->lock, NULL);
    list_init(&c->running);
    list_init(&c->waiting);
    c->pool = pool;
    int rc = prepare_client(c, settings);
    rc = rc ? rc : start_thread(c);
    if (rc) {
        http_client_free(c); /* takes a half-made client */
        return rc;
    }
    *ret_client = c;
    return 0;
}

/* After the thread: whatever is left is given up. */
static void cancel_all(struct http_client *c)
{
    struct list *link;

    list_splice(&c->running, &c->waiting);
    while ((link = list_pop(&c->running)) != NULL) {
        request_of(link)->error = -ECANCELED;
        finish(c, request_of(link));
    }
}

void http_client_free(struct http_client *c)
{
    if (!c) {
        return;
    }
    if (c->started) {
        pthread_mutex_lock(&c->lock);
        c->ending = true;
        pthread_mutex_unlock(&c->lock);
        curl_multi_wakeup(c->multi);
        pthread_join(c->thread, NULL);
    }
    cancel_all(c);
    curl_multi_cleanup(c->multi);
    curl_slist_free_all(c->headers);
    pthread_mutex_destroy(&c->lock);
    free((char *)(uintptr_t)c->settings.ca_file);
    free(c);
}

/* Under the lock: whether the request may be queued. An open breaker whose pause is over takes one. */
static int admit(struct http_client *c, struct http_request *r)
{
    if (breaker_open(c) && (c->probe || clock_mono_ns() < c->probe_at_ns)) {
        return -EHOSTDOWN;
    }
    if (c->waiting_count >= c->settings.requests_max * WAITING_FACTOR) {
        return -EBUSY;
    }
    if (breaker_open(c)) {
        c->probe = r;
    }
    return 0;
}

int http_send(struct http_client *c, struct http_request *r)
{
    r->easy = NULL;
    r->error = 0;
    r->status = 0;
    r->answer.len = 0;
    r->cache_control = false;
    r->max_age_s = AGE_NONE;
    r->deadline_ns = clock_mono_ns() + c->settings.timeout_ms * NS_PER_MS;
    pthread_mutex_lock(&c->lock);
    int rc = admit(c, r);
    if (rc == 0) {
        list_append(&c->waiting, &r->work.link);
        c->waiting_count++;
        c->sent++;
    } else {
        c->refused++;
    }
    pthread_mutex_unlock(&c->lock);
    if (rc == 0) {
        curl_multi_wakeup(c->multi);
    }
    return rc;
}

void http_counts(const struct http_client *client, struct http_counts *ret_counts)
{
    struct http_client *c = (struct http_client *)(uintptr_t)client; /* for its lock */

    pthread_mutex_lock(&c->lock);
    *ret_counts = (struct http_counts){
        .sent = c->sent,
        .failed = c->failed,
        .refused = c->refused,
        .underway = c->underway,
        .open = breaker_open(c),
    };
    pthread_mutex_unlock(&c->lock);
}

/* ---- a GET that blocks ---- */

static int fetch(struct http_request *r, const struct http_settings *settings, char *error, size_t error_size)
{
    char why[CURL_ERROR_SIZE] = "";
    int rc = prepare(r, settings, NULL, (long)settings->timeout_ms);

    if (rc) {
        snprintf(error, error_size, "%s: %s", r->url, rc == -EIO ? "neither http:// nor https://" : "out of memory");
        return rc;
    }
    curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, why);
    CURLcode code = curl_easy_perform(r->easy);
    conclude(r, code);
    if (r->error == -EMSGSIZE) {
        snprintf(error, error_size, "%s: the answer is above %u KiB", r->url, FETCH_BYTES_MAX >> 10);
    } else if (r->error) {
        snprintf(error, error_size, "%s: %s", r->url, *why ? why : curl_easy_strerror(code));
    } else if (r->status != 200) {
        snprintf(error, error_size, "%s: HTTP status %ld", r->url, r->status);
        r->error = -EIO;
    }
    curl_easy_cleanup(r->easy);
    r->easy = NULL;
    return r->error;
}

int http_fetch(const char *url, const struct http_settings *settings, struct buf *answer, uint32_t *ret_max_age_s,
               char *error, size_t error_size)
{
    struct http_request r = {.url = url, .max_age_s = AGE_NONE};

    init_once();
    int rc = fetch(&r, settings, error, error_size);
    if (rc == 0) {
        buf_deinit(answer);
        *answer = r.answer;
        *ret_max_age_s = r.max_age_s;
        return 0;
    }
    http_request_deinit(&r);
    return rc;
}
