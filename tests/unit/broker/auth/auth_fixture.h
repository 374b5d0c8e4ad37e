/* auth_fixture.h -- what the tests of broker/auth share: a configuration without a file, a node's auth with its one
 * shard's turn, and an HTTP service that says what it is told to say. */
#ifndef TERN_TESTS_UNIT_BROKER_AUTH_FIXTURE_H
#define TERN_TESTS_UNIT_BROKER_AUTH_FIXTURE_H

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "broker/auth/auth.h"
#include "broker/auth/auth_internal.h"
#include "proto/base/clock.h"
#include "tests/lib/unit.h"

#define WAIT_MS 20000

static inline void sleep_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* ---- configuration ---- */

static inline struct config plain_config(void)
{
    char *none = (char *)(uintptr_t) "";
    return (struct config){
        .auth = {.password_file = none, .acl_file = none, .workers = 2, .max_waiting = 100},
        .jwt = {.keys = none,
                .jwks_url = none,
                .jwks_refresh_ms = 300000,
                .ca_file = none,
                .algorithm_bits = JWT_HS256 | JWT_RS256 | JWT_ES256 | JWT_EDDSA,
                .issuer = none,
                .audience = none,
                .leeway_s = 30,
                .user_claim = (char *)(uintptr_t) "sub",
                .client_id_claim = none,
                .roles_claim = (char *)(uintptr_t) "roles",
                .rules_claim = (char *)(uintptr_t) "acl"},
        .http = {.connect_url = none, .rule_url = none, .timeout_ms = 5000, .max_requests = 8, .ca_file = none},
    };
}

/* A file with this text; its name goes into path. */
static inline char *write_file(char path[32], const char *text, size_t len)
{
    snprintf(path, 32, "/tmp/tern-auth-XXXXXX");
    int fd = mkstemp(path);
    assert(fd >= 0);
    ssize_t n = write(fd, text, len);
    assert(n == (ssize_t)len);
    close(fd);
    return path;
}

/* A line of a password file. */
static inline void put_user(struct buf *out, const char *user, enum passwd_kind kind, const char *password)
{
    buf_put(out, slice_str(user));
    buf_put(out, SLICE(":"));
    int rc = passwd_hash(kind, slice_str(password), 4096, out);
    assert(rc == 0);
    buf_put(out, SLICE("\n"));
}

/* ---- the node's part ---- */

static inline void no_wake(void *context, unsigned shard)
{
    (void)context;
    (void)shard;
}

static inline struct auth *open_auth_of(const struct config *config, unsigned shard_count)
{
    struct auth *auth = NULL;
    char error[512] = "";

    int rc = auth_new(config, shard_count, no_wake, NULL, error, sizeof(error), &auth);
    if (rc) {
        fprintf(stderr, "auth_new: %d %s\n", rc, error);
    }
    assert(rc == 0);
    return auth;
}

static inline struct auth *open_auth(const struct config *config)
{
    return open_auth_of(config, 1);
}

static inline void replace_policy(struct auth *auth, const struct config *config)
{
    struct auth_policy *policy = NULL;
    char error[512];

    int rc = auth_policy_new(auth, config, error, sizeof(error), &policy);
    assert(rc == 0);
    auth_policy_unref(auth_replace(auth, policy, config));
}

static inline void count_done(void *context)
{
    ++*(unsigned *)context;
}

/* Turn shard 0 until *counter is at least n. */
static inline bool turn_until(struct auth *auth, const unsigned *counter, unsigned n)
{
    for (unsigned i = 0; i < WAIT_MS && *counter < n; i++) {
        worker_collect(auth->pool, 0);
        if (*counter < n) {
            sleep_ms(1);
        }
    }
    return *counter >= n;
}

#define WALL_MS UINT64_C(1900000000000)

/* ---- one attempt ---- */

struct outcome {
    enum auth_status status;
    enum mqtt_reason reason;
    struct principal *principal;
    char user[64], client_id[64];
    unsigned pending; /* how often the answer came later */
};

static inline void outcome_take(struct outcome *o, struct auth_answer *answer)
{
    o->status = answer->status;
    o->reason = answer->reason;
    if (answer->status == AUTH_NO) {
        CHECK(answer->why != NULL);
        CHECK(answer->principal == NULL);
    }
    o->principal = answer->principal;
    answer->principal = NULL;
    if (o->principal) {
        snprintf(o->user, sizeof(o->user), "%.*s", (int)o->principal->user.len, (const char *)o->principal->user.ptr);
    }
    snprintf(o->client_id, sizeof(o->client_id), "%.*s", (int)answer->client_id.len,
             (const char *)answer->client_id.ptr);
}

/* Have the answer of an attempt that was begun with &done; done counts. */
static inline struct outcome outcome_of(struct auth *auth, struct auth_attempt *attempt, unsigned *done)
{
    struct outcome o = {0};

    CU_ASSERT_FATAL(attempt != NULL);
    CHECK(*done == 0); /* never inside auth_begin */
    if (auth_answer_of(attempt)->status == AUTH_PENDING) {
        o.pending = 1;
        CHECK(turn_until(auth, done, 1));
        CHECK(*done == 1);
    }
    CHECK(auth_answer_of(attempt)->status != AUTH_PENDING);
    outcome_take(&o, auth_answer_of(attempt));
    return o;
}

static inline struct auth_attempt *ask_auth(struct auth *auth, const struct auth_question *q, unsigned *done)
{
    return auth_begin(auth, atomic_load(&auth->policy), 0, WALL_MS, q, count_done, done);
}

static inline struct outcome answer_to(struct auth *auth, const struct auth_question *q)
{
    unsigned done = 0;
    struct auth_attempt *attempt = ask_auth(auth, q, &done);
    struct outcome o = outcome_of(auth, attempt, &done);

    auth_end(attempt);
    return o;
}

/* ---- the HTTP service ---- */

struct service {
    pthread_mutex_t lock;
    pthread_t thread;
    int fd;
    bool hold;          /* under the lock: read questions, and do not answer */
    bool ending;        /* under the lock */
    unsigned asked;     /* under the lock */
    const char *answer; /* under the lock: status line, headers, body, all of it; "": none */
    char body[4096];    /* under the lock: of the last question */
    char url[64];
};

#define NOBODY_URL "http://127.0.0.1:1/" /* tcpmux: nobody has it */
#define ANSWER(status, headers, body) "HTTP/1.1 " status "\r\nConnection: close\r\n" headers "\r\n" body
#define JSON_ANSWER(body) ANSWER("200 OK", "", body)

/* Read one request; false if the other side has gone. Stores its body. */
static inline bool service_read(struct service *s, int fd)
{
    char in[8192];
    size_t len = 0, want = SIZE_MAX;
    char *body = NULL;

    while (!body || len < want) {
        ssize_t n = recv(fd, in + len, sizeof(in) - 1 - len, 0);
        if (n <= 0) {
            return false;
        }
        len += (size_t)n;
        in[len] = '\0';
        body = body ? body : strstr(in, "\r\n\r\n");
        if (body && want == SIZE_MAX) {
            const char *length = strcasestr(in, "content-length:");
            want = (size_t)(body - in) + 4 + (length && length < body ? strtoul(length + 15, NULL, 10) : 0);
        }
    }
    pthread_mutex_lock(&s->lock);
    s->asked++;
    snprintf(s->body, sizeof(s->body), "%s", body + 4);
    pthread_mutex_unlock(&s->lock);
    return true;
}

static inline void *service_main(void *argument)
{
    struct service *s = argument;
    bool ending = false;

    while (!ending) {
        int fd = accept(s->fd, NULL, NULL);
        bool read = fd >= 0 && service_read(s, fd);
        pthread_mutex_lock(&s->lock);
        while (s->hold && !s->ending) {
            pthread_mutex_unlock(&s->lock);
            sleep_ms(2);
            pthread_mutex_lock(&s->lock);
        }
        const char *answer = s->answer;
        ending = s->ending;
        pthread_mutex_unlock(&s->lock);
        if (read) {
            (void)send(fd, answer, strlen(answer), MSG_NOSIGNAL);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    return NULL;
}

/* A socket on a free port and the URL of that. */
static inline int bind_free_port(char url[64])
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int rc = bind(fd, (struct sockaddr *)&at, len);
    assert(rc == 0);
    rc = getsockname(fd, (struct sockaddr *)&at, &len);
    assert(rc == 0);
    snprintf(url, 64, "http://127.0.0.1:%u/auth", ntohs(at.sin_port));
    return fd;
}

static inline void service_start(struct service *s)
{
    *s = (struct service){.answer = JSON_ANSWER("{}")};
    pthread_mutex_init(&s->lock, NULL);
    s->fd = bind_free_port(s->url);
    int rc = listen(s->fd, 64);
    assert(rc == 0);
    rc = pthread_create(&s->thread, NULL, service_main, s);
    assert(rc == 0);
}

static inline void service_stop(struct service *s)
{
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_mutex_unlock(&s->lock);
    shutdown(s->fd, SHUT_RDWR); /* accept fails */
    pthread_join(s->thread, NULL);
    close(s->fd);
    pthread_mutex_destroy(&s->lock);
}

static inline void service_say(struct service *s, const char *answer)
{
    pthread_mutex_lock(&s->lock);
    s->answer = answer;
    pthread_mutex_unlock(&s->lock);
}

static inline void service_hold(struct service *s, bool hold)
{
    pthread_mutex_lock(&s->lock);
    s->hold = hold;
    pthread_mutex_unlock(&s->lock);
}

static inline unsigned service_asked(struct service *s)
{
    pthread_mutex_lock(&s->lock);
    unsigned asked = s->asked;
    pthread_mutex_unlock(&s->lock);
    return asked;
}

#endif
