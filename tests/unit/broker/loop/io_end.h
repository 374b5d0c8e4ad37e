/* io_end.h -- a stream that writes down what happens to it, and its peer, for io_test.c and
 * io_send_test.c: the part without cases. */
#ifndef TERN_TESTS_UNIT_BROKER_LOOP_IO_END_H
#define TERN_TESTS_UNIT_BROKER_LOOP_IO_END_H

#include "broker/loop/io.h"
#include "proto/base/clock.h"
#include "tests/lib/unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIG (12u << 20) /* more than two sockets hold */

enum moment { NEVER, ON_RECEIVED, ON_SENT, ON_ENDED };

/* A stream that writes down what happens to it. */
struct end {
    struct io_stream s;
    struct io *io;
    enum moment close_on, stop_on, echo_on;
    bool detach_on_received;
    unsigned received, sent, ended, closed;
    size_t bytes;
    bool orderly; /* byte n was n & 0xff, or nothing was checked */
    int error, fd;
    uint8_t echo[64];
};

static const char *backend_name;

static void end_do(struct end *e, enum moment now)
{
    if (e->stop_on == now) {
        io_stream_recv_stop(e->io, &e->s);
    }
    if (e->close_on == now) {
        io_stream_close(e->io, &e->s);
        CHECK_CASE(backend_name, e->closed == 0);
    }
}

static void on_received(struct io_stream *s, struct slice data)
{
    struct end *e = CONTAINER_OF(s, struct end, s);

    CHECK_CASE(backend_name, e->closed == 0 && e->ended == 0 && data.len > 0);
    for (size_t i = 0; i < data.len; i++) {
        e->orderly = e->orderly && data.ptr[i] == (uint8_t)(e->bytes + i);
    }
    e->received++;
    e->bytes += data.len;
    if (e->echo_on == ON_RECEIVED) {
        memcpy(e->echo, data.ptr, data.len);
        io_stream_send(e->io, s, e->echo, (uint32_t)data.len);
    }
    if (e->detach_on_received) {
        e->fd = s->fd;
        io_stream_detach(e->io, s);
        return;
    }
    end_do(e, ON_RECEIVED);
}

static void on_ended(struct io_stream *s, int error)
{
    struct end *e = CONTAINER_OF(s, struct end, s);

    CHECK_CASE(backend_name, e->closed == 0 && e->ended == 0);
    e->ended++;
    e->error = error;
    end_do(e, ON_ENDED);
}

static void on_sent(struct io_stream *s)
{
    struct end *e = CONTAINER_OF(s, struct end, s);

    CHECK_CASE(backend_name, e->closed == 0 && !io_stream_sending(s));
    e->sent++;
    end_do(e, ON_SENT);
}

static void on_closed(struct io_stream *s)
{
    struct end *e = CONTAINER_OF(s, struct end, s);
    e->closed++;
}

static const struct io_stream_handler end_handler = {on_received, on_ended, on_sent, on_closed};

static inline struct io *open_door(enum io_backend backend, unsigned buffers)
{
    struct io_options options = {.backend = backend, .recv_buffer_count = buffers};
    struct io *io = NULL;
    int rc = io_open(&options, &io);
    CHECK_CASE(backend_name, rc == 0);
    return io;
}

static uint64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

/* A moment in milliseconds as the door wants it. */
static uint64_t at_ns(uint64_t ms)
{
    return ms * 1000000;
}

static void turn(struct io *io)
{
    io_submit_wait(io, false, at_ns(now_ms() + 10));
    io_reap(io, 64);
}

/* Turn until *count is want; two turns more show what should not come. */
static bool until(struct io *io, const unsigned *count, unsigned want)
{
    uint64_t end = now_ms() + 10000;
    while (*count != want && now_ms() < end) {
        turn(io);
    }
    io_submit_wait(io, true, 0);
    io_reap(io, 64);
    io_submit_wait(io, true, 0);
    io_reap(io, 64);
    CHECK_CASE(backend_name, *count == want);
    return *count == want;
}

static int tcp_listen(struct sockaddr_in *ret_address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    socklen_t len = sizeof(*ret_address);
    *ret_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(bind(fd, (struct sockaddr *)ret_address, len) == 0);
    CHECK(listen(fd, 512) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)ret_address, &len) == 0);
    return fd;
}

static int tcp_connect(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0) {
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* A connected pair: e on io, and the peer's descriptor. */
static int pair(struct io *io, struct end *e, bool tcp)
{
    int fds[2];

    if (tcp) {
        struct sockaddr_in address;
        int listener = tcp_listen(&address);
        fds[1] = tcp_connect(&address);
        fds[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        close(listener);
    } else {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    }
    *e = (struct end){.s = {.handler = &end_handler}, .io = io, .orderly = true};
    CHECK_CASE(backend_name, io_stream_attach(io, &e->s, fds[0]) == 0);
    return fds[1];
}

static void reset(int fd)
{
    struct linger hard = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
}

/* Close e from our side and see that `closed` comes once, later, and that the peer notices. */
static void finish(struct end *e, int peer)
{
    if (e->s.fd >= 0) {
        io_stream_close(e->io, &e->s);
        io_stream_close(e->io, &e->s);
    }
    CHECK_CASE(backend_name, e->closed == 0);
    until(e->io, &e->closed, 1);
    CHECK_CASE(backend_name, e->s.fd == -1);
    if (peer >= 0) {
        uint8_t chunk[65536];
        ssize_t n;
        do {
            n = recv(peer, chunk, sizeof(chunk), MSG_DONTWAIT);
        } while (n > 0);
        CHECK_CASE(backend_name, n == 0 || errno == ECONNRESET);
        close(peer);
    }
}

/* Write the orderly bytes from *at on until the socket is full or `limit` is reached. */
static inline void pour(int fd, size_t *at, size_t limit)
{
    uint8_t chunk[8192];

    while (*at < limit) {
        size_t n = limit - *at < sizeof(chunk) ? limit - *at : sizeof(chunk);
        for (size_t i = 0; i < n; i++) {
            chunk[i] = (uint8_t)(*at + i);
        }
        ssize_t done = write(fd, chunk, n);
        if (done <= 0) {
            return;
        }
        *at += (size_t)done;
    }
}

static void on_both(void (*run)(struct io *io), unsigned buffers)
{
    static const enum io_backend backends[] = {IO_URING, IO_EPOLL};

    for (size_t i = 0; i < COUNT_OF(backends); i++) {
        struct io_options options = {.backend = backends[i], .recv_buffer_count = buffers};
        struct io *io;
        backend_name = backends[i] == IO_URING ? "io_uring" : "epoll";
        int rc = io_open(&options, &io);
        if (backends[i] == IO_URING && (rc == -EPERM || rc == -ENOSYS)) {
            printf(" (io_uring is forbidden here: epoll alone)");
            continue;
        }
        CHECK_CASE(backend_name, rc == 0);
        if (rc == 0) {
            CHECK_CASE(backend_name, strcmp(io_name(io), backend_name) == 0);
            run(io);
            io_close(io);
        }
    }
}

#define ON_BOTH(name, buffers) \
    static void test_##name(void) \
    { \
        on_both(case_##name, buffers); \
    }

#endif
