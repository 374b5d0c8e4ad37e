/* http_fixture.h -- a client, its questions, and an HTTP service in a thread: what it answers depends on the path
 * alone.
 *
 *     /say       the text that the test has set, byte for byte
 *     /hold      nothing, until the test lets all of them go with that text
 *     /close     the end of the connection
 *     /cut       half of an answer, and then the end
 *     /large/N   200 and N bytes
 *     else       404
 *
 * It counts what it sees; the last question is kept. The clock is the system's with an offset: time passes when a test
 * says so. The environment names a proxy where nobody listens, so that nothing here would work if it were heeded. */
#ifndef TERN_TESTS_UNIT_BROKER_AUTH_HTTP_FIXTURE_H
#define TERN_TESTS_UNIT_BROKER_AUTH_HTTP_FIXTURE_H

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "broker/auth/http.h"
#include "proto/base/clock.h"
#include "tests/lib/unit.h"

#define SERVER_CONNS_MAX 64
#define SERVER_TEXT_MAX 2048

struct server_conn {
    int fd; /* -1: free */
    bool held;
    size_t len;
    char in[SERVER_TEXT_MAX];
};

struct server {
    int fd, pipe[2];
    char url[64]; /* without a path */
    pthread_t thread;
    struct server_conn conns[SERVER_CONNS_MAX]; /* the thread's */
    pthread_mutex_t lock;
    /* under the lock: */
    char say[SERVER_TEXT_MAX];
    char last[SERVER_TEXT_MAX];
    unsigned accepted, asked, held, held_max;
    bool release, ending;
};

static inline void server_must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static inline void server_write(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return; /* the client has had enough */
        }
        text += n;
        len -= (size_t)n;
    }
}

static inline void server_close(struct server *s, struct server_conn *c)
{
    s->held -= c->held;
    close(c->fd);
    *c = (struct server_conn){.fd = -1};
}

static inline void server_large(int fd, size_t len)
{
    char *text = malloc(len + 100);

    server_must(text);
    int head = snprintf(text, 100, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);
    memset(text + head, 'x', len);
    server_write(fd, text, (size_t)head + len);
    free(text);
}

/* Under the lock. */
static inline void server_answer(struct server *s, struct server_conn *c, const char *path)
{
    static const char cut[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    static const char none[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone";

    if (strncmp(path, "/say", 4) == 0) {
        server_write(c->fd, s->say, strlen(s->say));
    } else if (strncmp(path, "/hold", 5) == 0) {
        c->held = true;
        s->held++;
        s->held_max = s->held > s->held_max ? s->held : s->held_max;
    } else if (strncmp(path, "/close", 6) == 0) {
        server_close(s, c);
    } else if (strncmp(path, "/cut", 4) == 0) {
        server_write(c->fd, cut, strlen(cut));
        server_close(s, c);
    } else if (strncmp(path, "/large/", 7) == 0) {
        server_large(c->fd, (size_t)atol(path + 7));
    } else {
        server_write(c->fd, none, strlen(none));
    }
}

static inline void server_read(struct server *s, struct server_conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->len, sizeof(c->in) - 1 - c->len, 0);

    if (n <= 0) {
        server_close(s, c);
        return;
    }
    c->len += (size_t)n;
    c->in[c->len] = 0;
    const char *end = strstr(c->in, "\r\n\r\n"), *length = strcasestr(c->in, "content-length:");
    size_t body = length && length < end ? (size_t)atol(length + 15) : 0;
    if (!end || (size_t)(end + 4 - c->in) + body > c->len) {
        return;
    }
    s->asked++;
    memcpy(s->last, c->in, c->len + 1);
    c->len = 0;
    const char *path = strchr(s->last, ' ');
    server_answer(s, c, path ? path + 1 : "");
}

static inline void server_accept(struct server *s)
{
    int fd = accept(s->fd, NULL, NULL);

    for (unsigned i = 0; fd >= 0 && i < SERVER_CONNS_MAX; i++) {
        if (s->conns[i].fd < 0) {
            s->conns[i].fd = fd;
            s->accepted++;
            return;
        }
    }
    close(fd);
}

static inline void server_release_held(struct server *s)
{
    for (unsigned i = 0; i < SERVER_CONNS_MAX; i++) {
        struct server_conn *c = &s->conns[i];
        if (c->fd >= 0 && c->held) {
            c->held = false;
            s->held--;
            server_write(c->fd, s->say, strlen(s->say));
        }
    }
    s->release = false;
}

static inline bool server_turn(struct server *s, struct pollfd *polled)
{
    char byte;

    pthread_mutex_lock(&s->lock);
    if (polled[0].revents) {
        server_accept(s);
    }
    if (polled[1].revents) {
        server_must(read(s->pipe[0], &byte, 1) == 1);
    }
    for (unsigned i = 0; i < SERVER_CONNS_MAX; i++) {
        if (s->conns[i].fd >= 0 && s->conns[i].fd == polled[2 + i].fd && polled[2 + i].revents) {
            server_read(s, &s->conns[i]);
        }
    }
    if (s->release) {
        server_release_held(s);
    }
    bool ending = s->ending;
    pthread_mutex_unlock(&s->lock);
    return !ending;
}

static inline void *server_main(void *argument)
{
    struct server *s = argument;
    struct pollfd polled[2 + SERVER_CONNS_MAX];

    do {
        polled[0] = (struct pollfd){.fd = s->fd, .events = POLLIN};
        polled[1] = (struct pollfd){.fd = s->pipe[0], .events = POLLIN};
        for (unsigned i = 0; i < SERVER_CONNS_MAX; i++) {
            polled[2 + i] = (struct pollfd){.fd = s->conns[i].fd, .events = POLLIN};
        }
        server_must(poll(polled, 2 + SERVER_CONNS_MAX, -1) >= 0);
    } while (server_turn(s, polled));
    return NULL;
}

/* A socket that listens on a free port of the loopback; the URL of it. */
static inline int server_listen(const char *scheme, char url[64])
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server_must(fd >= 0 && bind(fd, (struct sockaddr *)&at, len) == 0 && listen(fd, 64) == 0 &&
                getsockname(fd, (struct sockaddr *)&at, &len) == 0);
    snprintf(url, 64, "%s://127.0.0.1:%u", scheme, ntohs(at.sin_port));
    return fd;
}

static inline void server_start(struct server *s)
{
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < SERVER_CONNS_MAX; i++) {
        s->conns[i].fd = -1;
    }
    pthread_mutex_init(&s->lock, NULL);
    s->fd = server_listen("http", s->url);
    server_must(pipe(s->pipe) == 0 && pthread_create(&s->thread, NULL, server_main, s) == 0);
}

/* Let it see what has been set. */
static inline void server_nudge(struct server *s)
{
    server_must(write(s->pipe[1], "", 1) == 1);
}

static inline void server_stop(struct server *s)
{
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_mutex_unlock(&s->lock);
    server_nudge(s);
    pthread_join(s->thread, NULL);
    for (unsigned i = 0; i < SERVER_CONNS_MAX; i++) {
        if (s->conns[i].fd >= 0) {
            close(s->conns[i].fd);
        }
    }
    close(s->fd);
    close(s->pipe[0]);
    close(s->pipe[1]);
    pthread_mutex_destroy(&s->lock);
}

static inline void server_say(struct server *s, const char *text)
{
    pthread_mutex_lock(&s->lock);
    snprintf(s->say, sizeof(s->say), "%s", text);
    pthread_mutex_unlock(&s->lock);
}

static inline void server_release(struct server *s)
{
    pthread_mutex_lock(&s->lock);
    s->release = true;
    pthread_mutex_unlock(&s->lock);
    server_nudge(s);
}

/* Whether the last question begins with one text and holds the other. */
static inline bool server_saw(struct server *s, const char *start, const char *text)
{
    pthread_mutex_lock(&s->lock);
    bool saw = strncmp(s->last, start, strlen(start)) == 0 && strstr(s->last, text) != NULL;
    pthread_mutex_unlock(&s->lock);
    return saw;
}

static inline unsigned server_count(struct server *s, const unsigned *counter)
{
    pthread_mutex_lock(&s->lock);
    unsigned count = *counter;
    pthread_mutex_unlock(&s->lock);
    return count;
}

/* ---- the client's side ---- */

#define SHARDS 2
#define WAIT_MS 30000
#define TIMEOUT_MS 20000
#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define BAD_ANSWER "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"

static atomic_uint_least64_t ahead_ns;

static inline uint64_t shifted_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + atomic_load(&ahead_ns);
}

static inline void pass_ms(uint64_t ms)
{
    atomic_fetch_add(&ahead_ns, ms * 1000000);
}

static inline void sleep_ms(long ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000};
    nanosleep(&t, NULL);
}

static inline void no_wake(void *context, unsigned shard)
{
    (void)context;
    (void)shard;
}

/* ---- a client, its service, its questions ---- */

static struct server server;
static struct worker_pool *pool;
static struct http_client *client;

static inline void open_with(struct http_settings settings)
{
    settings.timeout_ms = settings.timeout_ms ? settings.timeout_ms : TIMEOUT_MS;
    settings.requests_max = settings.requests_max ? settings.requests_max : 4;
    settings.ca_file = settings.ca_file ? settings.ca_file : "";
    server_start(&server);
    server_say(&server, OK_ANSWER);
    CU_ASSERT_FATAL(worker_pool_new(1, 4, SHARDS, no_wake, NULL, &pool) == 0);
    CU_ASSERT_FATAL(http_client_new(&settings, pool, &client) == 0);
}

static inline void close_all(void)
{
    http_client_free(client);
    worker_pool_drain(pool);
    worker_pool_free(pool);
    server_stop(&server);
}

struct question {
    struct http_request request;
    char url[128];
    unsigned done;
};

static inline void question_done(struct work *work)
{
    CONTAINER_OF(work, struct question, request.work)->done++;
}

static inline int ask_at(struct question *q, const char *url, const char *path, const char *body)
{
    *q = (struct question){.request = {.work = {.done = question_done}, .body = slice_str(body)}};
    snprintf(q->url, sizeof(q->url), "%s%s", url, path);
    q->request.url = q->url;
    return http_send(client, &q->request);
}

static inline int ask(struct question *q, const char *path)
{
    return ask_at(q, server.url, path, "{}");
}

static inline bool await(struct question *q)
{
    for (unsigned i = 0; i < WAIT_MS && !q->done; i++) {
        worker_collect(pool, q->request.work.shard);
        if (!q->done) {
            sleep_ms(1);
        }
    }
    return q->done == 1;
}

static inline void await_count(const unsigned *counter, unsigned n)
{
    for (unsigned i = 0; i < WAIT_MS && server_count(&server, counter) < n; i++) {
        sleep_ms(1);
    }
    CHECK(server_count(&server, counter) == n);
}

static inline struct http_counts counts(void)
{
    struct http_counts c;
    http_counts(client, &c);
    return c;
}

/* Ask, and what comes of it: its error, or its status. */
static inline long outcome(const char *path)
{
    struct question q;
    int rc = ask(&q, path);

    if (rc) {
        return rc;
    }
    CHECK(await(&q));
    long result = q.request.error ? q.request.error : q.request.status;
    http_request_deinit(&q.request);
    return result;
}

static inline void http_prepare(void)
{
    static const struct clock_source source = {.mono_ns = shifted_ns};

    clock_set(&source);
    setenv("http_proxy", "http://127.0.0.1:9", 1);
    setenv("https_proxy", "http://127.0.0.1:9", 1);
    setenv("all_proxy", "http://127.0.0.1:9", 1);
    signal(SIGPIPE, SIG_IGN);
}

static inline void http_finish(void)
{
    clock_set(NULL);
}

#endif
