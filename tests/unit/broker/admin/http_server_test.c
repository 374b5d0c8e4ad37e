/* http_server_test.c -- the admin port's server on a real socket, with endpoints of the test's own: at once, later, in
 * a stream; and what is no good request. */
#include "broker/admin/admin_inside.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/flow/cluster.h"
#include "proto/base/clock.h"
#include "tests/lib/unit.h"

/* ---- a clock that the test moves ---- */

static uint64_t ahead_ns;

static uint64_t test_mono(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + ahead_ns;
}

static uint64_t test_wall(void)
{
    return 1700000000000u;
}

static void test_random(void *out, size_t len)
{
    memset(out, 7, len);
}

/* ---- endpoints ---- */

static struct admin_request *waiting;
static unsigned gone, rooms;

static void is_gone(struct admin_request *r)
{
    CHECK(r == waiting);
    waiting = NULL;
    gone++;
}

static void has_room(struct admin_request *r)
{
    CHECK(r == waiting);
    rooms++;
}

static void echo(struct admin_request *r)
{
    struct buf body = {0};

    admin_printf(&body, "%u %.*s %.*s", r->method, (int)r->params[0].len, (const char *)r->params[0].ptr,
                 (int)r->body.len, (const char *)r->body.ptr);
    admin_reply(r, 200, "text/plain", &body);
}

static void later(struct admin_request *r)
{
    waiting = r;
    r->gone = is_gone;
}

static void stream(struct admin_request *r)
{
    later(r);
    r->room = has_room;
    admin_stream_begin(r, "application/x-ndjson");
}

static void large(struct admin_request *r)
{
    struct buf body = {0};
    uint8_t *at = buf_extend(&body, 1000000);

    memset(at, 'x', 1000000);
    admin_reply(r, 200, "text/plain", &body);
}

/* Stands in the place of routes.c. */
const struct admin_route *admin_route_find(struct admin_request *r, struct slice path, struct buf *words,
                                           unsigned *ret_methods)
{
    static const struct admin_route all[] = {
        {ADMIN_POST, "/echo", ADMIN_OPERATOR, echo},
        {ADMIN_GET, "/later", ADMIN_VIEWER, later},
        {ADMIN_GET, "/stream", ADMIN_VIEWER, stream},
        {ADMIN_GET, "/large", ADMIN_ANYBODY, large},
    };

    (void)words;
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (slice_eq(path, slice_str(all[i].path))) {
            *ret_methods = all[i].method;
            r->params[0] = SLICE("word");
            return all[i].method == r->method ? &all[i] : NULL;
        }
    }
    return NULL;
}

/* ---- a shard with nothing but the server ---- */

static struct node_tables tables;
static struct broker *broker;
static struct admin *admin;
static struct shard *shard, *shards[SHARDS_MAX];
static struct mail_office *office;
static struct config config;

static int start(struct shard *s)
{
    admin->shard = s;
    admin->broker = broker;
    return admin_server_start(admin);
}

static void turn_end(struct shard *s)
{
    (void)s;
    admin_server_turn(admin);
}

static void take_mail(struct shard *s, const struct mail *mail)
{
    (void)s;
    (void)mail;
}

static void nothing(struct shard *s)
{
    (void)s;
}

static void stop(struct shard *s)
{
    (void)s;
    admin_server_stop(admin);
}

static const struct shard_handler handler = {start, take_mail, turn_end, nothing, nothing, stop};

static void open_server(void)
{
    static const struct clock_source source = {test_mono, test_wall, test_random};
    struct admin_terms *terms;
    char error[300];

    clock_set(&source);
    config.admin.listen = (char *)"127.0.0.1:0";
    config.admin.certificate = config.admin.key = config.admin.users_file = config.admin.tokens_file = (char *)"";
    config.data = (char *)"";
    broker = calloc(1, sizeof(*broker));
    broker->node = &tables;
    waiting = NULL;
    gone = rooms = 0;
    if (admin_terms_read(&config, error, sizeof(error), &terms) != 0 || admin_new(&config, terms, &admin) != 0 ||
        mail_office_new(1, &office) != 0) {
        abort();
    }
    struct shard_options options = {.count = 1,
                                    .io = {.backend = IO_EPOLL},
                                    .office = office,
                                    .peers = shards,
                                    .handler = &handler,
                                    .broker = broker};
    if (shard_new(&options, &shard) != 0) {
        abort();
    }
}

static void close_server(void)
{
    shard_free(shard);
    admin_free(admin);
    mail_office_free(office);
    free(broker);
    clock_set(NULL);
}

static void turns(unsigned n)
{
    while (n-- > 0) {
        shard_turn(shard, true);
    }
}

static int dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)admin_port(admin))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        abort();
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void say(int fd, const char *text)
{
    CHECK(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

static char heard[16000000];
static size_t heard_len;

/* Turn until the text has come (true), or the connection has ended or nothing more comes of it. */
static bool hear(int fd, const char *wanted)
{
    unsigned idle = 0;

    heard_len = 0;
    heard[0] = '\0';
    while (idle < 20000) {
        turns(1);
        ssize_t n = recv(fd, heard + heard_len, sizeof(heard) - 1 - heard_len, 0);
        if (n > 0) {
            heard_len += (size_t)n;
            heard[heard_len] = '\0';
            idle = 0;
            if (wanted && strstr(heard, wanted)) {
                return true;
            }
        } else if (n == 0 || errno != EAGAIN) {
            return wanted == NULL;
        } else {
            idle++;
        }
    }
    return false;
}

#define HOST "Host: localhost\r\n"

/* ---- tests ---- */

static void test_at_once(void)
{
    open_server();
    int fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Type: application/json\r\nContent-Length: 5\r\n\r\nhe");
    turns(20);
    say(fd, "lloPOST /echo HTTP/1.1\r\n" HOST "\r\n"); /* the next one comes right behind */
    CHECK(hear(fd, "2 word hello"));
    CHECK(strstr(heard, "HTTP/1.1 200 OK\r\n") && strstr(heard, "Content-Length: 12\r\n"));
    CHECK(strstr(heard, "Content-Length: 7\r\n") || hear(fd, "2 word "));
    say(fd, "HEAD /large HTTP/1.1\r\n" HOST "\r\n");
    CHECK(hear(fd, "Content-Length: 1000000\r\n"));
    say(fd, "GET /large HTTP/1.0\r\n\r\n"); /* closes by itself */
    CHECK(hear(fd, NULL));
    CHECK(heard_len > 1000000 && heard[heard_len - 1] == 'x' && strstr(heard, "Connection: close\r\n"));
    close(fd);
    close_server();
}

static void test_later(void)
{
    struct buf body = {0};

    open_server();
    int fd = dial();
    say(fd, "GET /later HTTP/1.1\r\n" HOST "\r\n");
    for (unsigned i = 0; i < 20000 && !waiting; i++) {
        turns(1);
    }
    CHECK(waiting != NULL);
    buf_put(&body, SLICE("here it is"));
    admin_reply(waiting, 200, "text/plain", &body);
    CHECK(hear(fd, "here it is"));
    waiting = NULL;
    say(fd, "GET /later HTTP/1.1\r\n" HOST "\r\n");
    for (unsigned i = 0; i < 20000 && !waiting; i++) {
        turns(1);
    }
    close(fd); /* and the handler is told */
    for (unsigned i = 0; i < 20000 && !gone; i++) {
        turns(1);
    }
    CHECK(gone == 1 && waiting == NULL);
    fd = dial();
    say(fd, "GET /later HTTP/1.1\r\n" HOST "\r\n");
    for (unsigned i = 0; i < 20000 && !waiting; i++) {
        turns(1);
    }
    close_server(); /* the node stops meanwhile */
    CHECK(gone == 2);
    close(fd);
}

static void test_stream(void)
{
    static uint8_t row[50000];
    size_t taken = 0;

    open_server();
    memset(row, 'r', sizeof(row));
    int fd = dial();
    say(fd, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    CHECK(hear(fd, "Transfer-Encoding: chunked\r\n\r\n") && waiting);
    CHECK(admin_stream_write(waiting, SLICE("{\"a\":1}\n")));
    CHECK(hear(fd, "8\r\n{\"a\":1}\n\r\n"));
    for (unsigned i = 0; i < 2000 && admin_stream_write(waiting, slice_of(row, sizeof(row))); i++) {
        taken += sizeof(row);
        turns(2);
    }
    CHECK(!admin_stream_write(waiting, slice_of(row, sizeof(row)))); /* nobody reads: no room without end */
    CHECK(taken < 100000000 && rooms == 0);
    CHECK(!hear(fd, "never said") && rooms > 0 && heard_len > taken);
    admin_stream_end(waiting);
    CHECK(hear(fd, "0\r\n\r\n"));
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "\r\n");
    CHECK(hear(fd, "2 word"));
    CHECK(gone == 0);
    close(fd);
    close_server();
}

static void test_refused(void)
{
    static const struct {
        const char *say, *status;
        bool closed;
    } cases[] = {
        {"nonsense\r\n\r\n", "HTTP/1.1 400 ", true},
        {"GET /later HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", true},
        {"GET /nix HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 404 ", false},
        {"DELETE /later HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 405 ", false},
        {"BREW /later HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 405 ", false},
        {"BREW /nix HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 501 ", false},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 411 ", true},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1048577\r\n\r\n", "HTTP/1.1 413 ", true},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 400 ", true},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", "HTTP/1.1 400 ", true},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Type: text/plain\r\n\r\nx", "HTTP/1.1 415 ",
         false},
        {"POST /echo HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 421 ", false},
        {"POST /echo HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\n\r\n", "HTTP/1.1 403 ", false},
        {"POST /echo HTTP/1.1\r\n" HOST "Origin: http://localhost\r\n\r\n", "HTTP/1.1 200 ", false},
    };

    open_server();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int fd = dial();
        say(fd, cases[i].say);
        CHECK_CASE(cases[i].say, hear(fd, cases[i].status));
        if (cases[i].closed) {
            CHECK_CASE(cases[i].say, hear(fd, NULL));
        } else {
            say(fd, "POST /echo HTTP/1.1\r\n" HOST "\r\n");
            CHECK_CASE(cases[i].say, hear(fd, "2 word"));
        }
        close(fd);
        turns(20);
    }
    close_server();
}

static void test_time(void)
{
    open_server();
    int slow = dial(), idle = dial();
    say(slow, "GET /later HTTP/1.1\r\nHost: lo");
    turns(50);
    ahead_ns += 11000000000u;
    CHECK(hear(slow, "HTTP/1.1 408 "));
    CHECK(hear(slow, NULL));
    ahead_ns += 60000000000u;
    CHECK(hear(idle, NULL)); /* without a word */
    CHECK(heard_len == 0);
    close(slow);
    close(idle);
    close_server();
}

static void test_too_many(void)
{
    int fds[ADMIN_CONNECTIONS_MAX + 20];

    open_server();
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        fds[i] = dial();
        say(fds[i], "GET /la");
        turns(10);
    }
    CHECK(admin->count == ADMIN_CONNECTIONS_MAX);
    int fd = dial(); /* who asks a whole question is answered all the same */
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "\r\n");
    CHECK(hear(fd, "2 word"));
    close(fd);
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        close(fds[i]);
    }
    turns(50);
    close_server();
}

UNIT_MAIN("broker/admin/http_server", {"answers at once", test_at_once}, {"answers later", test_later},
          {"streams, and holds back", test_stream}, {"refuses what is wrong", test_refused},
          {"waits only so long", test_time}, {"makes room when there are too many", test_too_many})
