/* io_test.c -- the promises of io.h, each on io_uring and on epoll; those about long sends are in io_send_test.c. The
 * peer is a plain socket in the same thread. */
#include "tests/unit/broker/loop/io_end.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static void case_echo(struct io *io)
{
    for (int tcp = 0; tcp < 2; tcp++) {
        struct end e;
        int peer = pair(io, &e, tcp);
        uint8_t hello[] = {0, 1, 2, 3, 4}, back[8];
        e.echo_on = ON_RECEIVED;
        CHECK_CASE(backend_name, !io_stream_receiving(&e.s));
        io_stream_recv_start(io, &e.s);
        io_stream_recv_start(io, &e.s);
        CHECK_CASE(backend_name, io_stream_receiving(&e.s));
        CHECK(write(peer, hello, 5) == 5);
        until(io, &e.sent, 1);
        CHECK_CASE(backend_name, e.received == 1 && e.orderly);
        CHECK_CASE(backend_name, read(peer, back, 8) == 5 && memcmp(hello, back, 5) == 0);
        shutdown(peer, SHUT_WR);
        until(io, &e.ended, 1);
        CHECK_CASE(backend_name, e.error == 0 && !io_stream_receiving(&e.s));
        io_stream_send(io, &e.s, hello, 5); /* half closed: our side still sends */
        until(io, &e.sent, 2);
        CHECK_CASE(backend_name, read(peer, back, 8) == 5);
        finish(&e, peer);
    }
}

static void case_nothing_sent_before_submit(struct io *io)
{
    struct end e;
    int peer = pair(io, &e, true);
    uint8_t byte;

    io_stream_send(io, &e.s, "x", 1);
    io_reap(io, 64);
    CHECK_CASE(backend_name, read(peer, &byte, 1) == -1 && e.sent == 0 && io_stream_sending(&e.s));
    until(io, &e.sent, 1);
    CHECK_CASE(backend_name, read(peer, &byte, 1) == 1);
    io_stream_send_last(io, &e.s, "y", 1);
    io_submit_wait(io, false, at_ns(now_ms() + 5));
    CHECK_CASE(backend_name, e.sent == 1); /* callbacks run in io_reap alone */
    io_reap(io, 64);
    CHECK_CASE(backend_name, e.sent == 2 && read(peer, &byte, 1) == 1 && byte == 'y');
    finish(&e, peer);
}

/* Eight fast writers share the door's buffers, which are too few: nobody loses or waits for ever. */
static void case_flood(struct io *io)
{
    struct end e[8];
    int peers[8];
    size_t poured[8] = {0}, limit = 512 << 10;
    unsigned full = 0;

    for (int i = 0; i < 8; i++) {
        peers[i] = pair(io, &e[i], i % 2);
        io_stream_recv_start(io, &e[i].s);
    }
    for (uint64_t end = now_ms() + 20000; full < 8 && now_ms() < end;) {
        full = 0;
        for (int i = 0; i < 8; i++) {
            pour(peers[i], &poured[i], limit);
            full += e[i].bytes == limit;
            if (i == 3 && !io_stream_sending(&e[i].s)) {
                io_stream_send(io, &e[i].s, "s", 1); /* sending and starving at once */
            }
        }
        io_submit_wait(io, true, 0);
        io_reap(io, 3);
    }
    for (int i = 0; i < 8; i++) {
        CHECK_CASE(backend_name, e[i].bytes == limit && e[i].orderly && e[i].ended == 0);
        finish(&e[i], peers[i]);
    }
}

static void case_stop_start(struct io *io)
{
    struct end e;
    int peer = pair(io, &e, true);
    size_t poured = 0;

    e.stop_on = ON_RECEIVED;
    io_stream_recv_start(io, &e.s);
    pour(peer, &poured, 100);
    until(io, &e.received, 1);
    pour(peer, &poured, BIG);
    CHECK_CASE(backend_name, poured < BIG); /* the window is full */
    for (int i = 0; i < 5; i++) {
        turn(io);
    }
    size_t stopped_at = e.bytes;
    CHECK_CASE(backend_name, !io_stream_receiving(&e.s) && stopped_at < poured);
    for (int i = 0; i < 5; i++) {
        turn(io);
    }
    CHECK_CASE(backend_name, e.bytes == stopped_at);
    e.stop_on = NEVER;
    for (uint64_t end = now_ms() + 20000; e.bytes < BIG && now_ms() < end;) {
        io_stream_recv_start(io, &e.s);
        io_stream_recv_stop(io, &e.s); /* flapping loses nothing */
        io_stream_recv_start(io, &e.s);
        turn(io);
        pour(peer, &poured, BIG);
    }
    CHECK_CASE(backend_name, e.bytes == BIG && e.orderly);
    io_stream_recv_stop(io, &e.s);
    io_stream_recv_stop(io, &e.s);
    finish(&e, peer);
}

static void case_once(struct io *io)
{
    struct end e;
    int peer = pair(io, &e, true);
    size_t poured = 0;

    pour(peer, &poured, 10);
    io_stream_recv_once(io, &e.s);
    until(io, &e.received, 1);
    pour(peer, &poured, 20);
    turn(io);
    CHECK_CASE(backend_name, e.received == 1 && e.bytes == 10 && !io_stream_receiving(&e.s));
    io_stream_recv_once(io, &e.s);
    until(io, &e.received, 2);
    io_stream_recv_once(io, &e.s);
    turn(io);
    io_stream_recv_start(io, &e.s); /* a once that is armed becomes lasting */
    pour(peer, &poured, 30);
    until(io, &e.received, 3);
    pour(peer, &poured, 40);
    until(io, &e.received, 4);
    io_stream_recv_once(io, &e.s); /* and back */
    turn(io);
    turn(io);
    pour(peer, &poured, 50);
    until(io, &e.received, 5);
    pour(peer, &poured, 60);
    turn(io);
    CHECK_CASE(backend_name, e.received == 5 && e.orderly && e.bytes == 50);
    CHECK_CASE(backend_name, !io_stream_receiving(&e.s));
    io_stream_recv_once(io, &e.s);
    close(peer);
    until(io, &e.received, 6);
    io_stream_recv_once(io, &e.s);
    until(io, &e.ended, 1);
    CHECK_CASE(backend_name, e.error == 0);
    finish(&e, -1);
}

static void case_close_inside_callbacks(struct io *io)
{
    static const struct {
        const char *name;
        enum moment when;
        bool tcp, send;
    } cases[] = {
        {"in received", ON_RECEIVED, true, false},       {"in received, send queued", ON_RECEIVED, false, true},
        {"in sent, receive armed", ON_SENT, true, true}, {"in ended", ON_ENDED, true, false},
        {"in ended, unix", ON_ENDED, false, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct end e;
        int peer = pair(io, &e, cases[i].tcp);
        size_t poured = 0;
        e.close_on = cases[i].when;
        io_stream_recv_start(io, &e.s);
        if (cases[i].when != ON_SENT) {
            pour(peer, &poured, 5000);
        }
        if (cases[i].when == ON_ENDED) {
            shutdown(peer, SHUT_WR);
        }
        if (cases[i].send) {
            io_stream_send(io, &e.s, "bye", 3);
        }
        until(io, &e.closed, 1);
        CHECK_CASE(cases[i].name, e.closed == 1 && e.s.fd == -1);
        CHECK_CASE(cases[i].name, cases[i].when != ON_RECEIVED || e.received == 1);
        close(peer);
    }
}

static void case_reset(struct io *io)
{
    struct end e;
    int peer = pair(io, &e, true);

    io_stream_recv_start(io, &e.s);
    turn(io);
    reset(peer);
    until(io, &e.ended, 1);
    CHECK_CASE(backend_name, e.error == -ECONNRESET);
    io_stream_send(io, &e.s, "lost", 4);
    turn(io);
    turn(io);
    CHECK_CASE(backend_name, e.sent == 0 && e.ended == 1);
    finish(&e, -1);

    /* Not receiving: the failed send tells. */
    peer = pair(io, &e, false);
    close(peer);
    io_stream_send(io, &e.s, "lost", 4);
    until(io, &e.ended, 1);
    CHECK_CASE(backend_name, e.error == -EPIPE && e.sent == 0);
    finish(&e, -1);

    /* Receiving: what the peer said last comes before the failure. */
    peer = pair(io, &e, false);
    size_t poured = 0;
    pour(peer, &poured, 150000); /* more than is received at a time */
    close(peer);
    io_stream_send(io, &e.s, "lost", 4);
    io_stream_recv_start(io, &e.s);
    until(io, &e.ended, 1);
    CHECK_CASE(backend_name, poured > 65536 && e.bytes == poured && e.sent == 0);
    finish(&e, -1);

    /* Ended with 0 before: a failed send is answered by sent. */
    peer = pair(io, &e, false);
    shutdown(peer, SHUT_WR);
    io_stream_recv_start(io, &e.s);
    until(io, &e.ended, 1);
    close(peer);
    io_stream_send(io, &e.s, "lost", 4);
    until(io, &e.sent, 1);
    CHECK_CASE(backend_name, e.error == 0);
    finish(&e, -1);
}

struct door_bell {
    struct io_listener l;
    unsigned accepted, failed, closed;
    int error, fds[512];
};

static void on_accepted(struct io_listener *l, int fd)
{
    struct door_bell *b = CONTAINER_OF(l, struct door_bell, l);
    CHECK_CASE(backend_name, fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC && b->closed == 0);
    b->fds[b->accepted++] = fd;
}

static void on_failed(struct io_listener *l, int error)
{
    struct door_bell *b = CONTAINER_OF(l, struct door_bell, l);
    b->failed++;
    b->error = error;
}

static void on_listener_closed(struct io_listener *l)
{
    CONTAINER_OF(l, struct door_bell, l)->closed++;
}

static const struct io_listener_handler bell_handler = {on_accepted, on_failed, on_listener_closed};

static void case_accept(struct io *io)
{
    struct door_bell b = {.l = {.handler = &bell_handler}};
    struct sockaddr_in address;
    int clients[300];

    CHECK(io_listener_start(io, &b.l, tcp_listen(&address)) == 0);
    for (int i = 0; i < 300; i++) {
        clients[i] = tcp_connect(&address);
        CHECK(clients[i] >= 0);
    }
    until(io, &b.accepted, 300);
    for (int i = 0; i < 300; i++) {
        close(clients[i]);
        close(b.fds[i]);
    }
    io_listener_close(io, &b.l);
    io_listener_close(io, &b.l);
    CHECK_CASE(backend_name, b.closed == 0);
    until(io, &b.closed, 1);
    CHECK_CASE(backend_name, tcp_connect(&address) == -1 && b.accepted == 300 && b.l.fd == -1);
}

/* No descriptor is free: told, not in a busy loop, and over by itself. */
static void case_accept_without_descriptors(struct io *io)
{
    struct door_bell b = {.l = {.handler = &bell_handler}};
    struct sockaddr_in address;
    struct rlimit limit, tight;
    int listener = tcp_listen(&address), client = tcp_connect(&address), last = dup(0);

    getrlimit(RLIMIT_NOFILE, &limit);
    tight = (struct rlimit){(rlim_t)last, limit.rlim_max};
    close(last);
    setrlimit(RLIMIT_NOFILE, &tight); /* io_uring reads it when the accept is armed */
    CHECK(io_listener_start(io, &b.l, listener) == 0);
    until(io, &b.failed, 1);
    CHECK_CASE(backend_name, b.error == -EMFILE && b.accepted == 0);
    uint64_t before = now_ms();
    until(io, &b.failed, 2);
    CHECK_CASE(backend_name, now_ms() - before >= 50);
    setrlimit(RLIMIT_NOFILE, &limit);
    until(io, &b.accepted, 1);
    CHECK_CASE(backend_name, b.failed == 2);
    setrlimit(RLIMIT_NOFILE, &tight);
    close(client);
    io_listener_close(io, &b.l);
    until(io, &b.closed, 1);
    close(b.fds[0]);

    /* Closed while paused. */
    b = (struct door_bell){.l = {.handler = &bell_handler}};
    setrlimit(RLIMIT_NOFILE, &limit);
    listener = tcp_listen(&address);
    client = tcp_connect(&address);
    setrlimit(RLIMIT_NOFILE, &tight);
    CHECK(io_listener_start(io, &b.l, listener) == 0);
    until(io, &b.failed, 1);
    setrlimit(RLIMIT_NOFILE, &limit);
    io_listener_close(io, &b.l);
    until(io, &b.closed, 1);
    CHECK_CASE(backend_name, b.failed == 1 && b.accepted == 0);
    close(client);
}

static void case_detach(struct io *io)
{
    struct end e;
    int peer = pair(io, &e, true);
    size_t poured = 0;
    struct io *other = open_door(strcmp(io_name(io), "epoll") ? IO_URING : IO_EPOLL, 0);

    e.detach_on_received = true;
    io_stream_recv_once(io, &e.s);
    pour(peer, &poured, 10);
    until(io, &e.received, 1);
    CHECK_CASE(backend_name, e.s.fd == -1 && e.fd >= 0);
    pour(peer, &poured, 30);
    turn(io);
    CHECK_CASE(backend_name, e.received == 1);
    e.detach_on_received = false;
    e.io = other;
    CHECK_CASE(backend_name, io_stream_attach(other, &e.s, e.fd) == 0);
    io_stream_recv_start(other, &e.s);
    until(other, &e.received, 2);
    CHECK_CASE(backend_name, e.bytes == 30 && e.orderly);
    io_close(other); /* with the stream open: no callback, but the peer sees the end */
    uint8_t byte;
    CHECK_CASE(backend_name, e.closed == 0 && e.ended == 0 && read(peer, &byte, 1) == 0);
    close(peer);
}

/* More streams than the submission queue has places, all starting and sending in one turn. */
static void case_many(struct io *io)
{
    enum { MANY = 4500 };
    struct rlimit limit;
    struct end *e = calloc(MANY, sizeof(*e));
    int *peers = calloc(MANY, sizeof(*peers));
    unsigned received = 0, sent = 0;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < MANY; i++) {
        size_t poured = 0;
        peers[i] = pair(io, &e[i], false);
        pour(peers[i], &poured, 3);
        io_stream_recv_start(io, &e[i].s);
        io_stream_send(io, &e[i].s, "abc", 3);
    }
    for (uint64_t end = now_ms() + 20000; (received < MANY || sent < MANY) && now_ms() < end;) {
        turn(io);
        received = sent = 0;
        for (int i = 0; i < MANY; i++) {
            received += e[i].bytes == 3;
            sent += e[i].sent == 1;
        }
    }
    CHECK_CASE(backend_name, received == MANY && sent == MANY);
    for (int i = 0; i < MANY; i++) {
        io_stream_close(io, &e[i].s);
        close(peers[i]);
    }
    for (int i = 0; i < MANY; i++) {
        until(io, &e[i].closed, 1);
    }
    free(e);
    free(peers);
}

static void *wake_soon(void *io)
{
    usleep(20000);
    io_wake(io);
    io_wake(io);
    return NULL;
}

/* Sleep until something is reaped or the deadline has passed. Returns how long that was. The kernel may end a sleep
 * early, for instance to clear away the previous door, but not again and again. */
static uint64_t sleep_ms(struct io *io, uint64_t deadline_ms)
{
    uint64_t before = now_ms();
    unsigned sleeps = 0;

    do {
        io_submit_wait(io, false, at_ns(deadline_ms));
        sleeps++;
    } while (io_reap(io, 64) == 0 && now_ms() < deadline_ms);
    CHECK_CASE(backend_name, sleeps < 10);
    return now_ms() - before;
}

static void case_sleep(struct io *io)
{
    pthread_t thread;

    sleep_ms(io, 0); /* whatever is left of the opening */
    uint64_t before = now_ms();
    CHECK_CASE(backend_name, pthread_create(&thread, NULL, wake_soon, io) == 0);
    sleep_ms(io, before + 10000);
    uint64_t slept = now_ms() - before;
    CHECK_CASE(backend_name, slept >= 19 && slept < 5000);
    pthread_join(thread, NULL);
    sleep_ms(io, now_ms() + 5); /* the second wake may have come late */

    io_wake(io); /* before the sleep */
    CHECK_CASE(backend_name, sleep_ms(io, now_ms() + 10000) < 5000);
    static const uint64_t naps[] = {30, 10, 20}; /* earlier than what was armed, and later */
    for (size_t i = 0; i < COUNT_OF(naps); i++) {
        uint64_t until_ms = now_ms() + naps[i];
        while (now_ms() < until_ms) {
            CHECK_CASE(backend_name, sleep_ms(io, until_ms) < 1000);
        }
    }
    CHECK_CASE(backend_name, sleep_ms(io, now_ms() - 5) < 1000);
    before = now_ms();
    io_submit_wait(io, true, UINT64_MAX);
    CHECK_CASE(backend_name, now_ms() - before < 1000);
}

/* A stream that does not receive lets the shard sleep, whatever its peer does. */
static void case_sleep_beside_stopped(struct io *io)
{
    struct end e;
    int peer = pair(io, &e, true);
    size_t poured = 0;

    e.stop_on = ON_RECEIVED;
    io_stream_recv_start(io, &e.s);
    pour(peer, &poured, 10);
    until(io, &e.received, 1);
    pour(peer, &poured, 20);
    turn(io);
    turn(io);
    for (int dead = 0; dead < 2; dead++) {
        unsigned sleeps = 0;
        for (uint64_t until_ms = now_ms() + 50; now_ms() < until_ms; sleeps++) {
            io_submit_wait(io, false, at_ns(until_ms));
            io_reap(io, 64);
        }
        CHECK_CASE(backend_name, sleeps < 10);
        if (!dead) {
            reset(peer);
        }
    }
    CHECK_CASE(backend_name, e.ended == 0 || e.error != 0);
    finish(&e, -1);
}

ON_BOTH(echo, 0)
ON_BOTH(nothing_sent_before_submit, 0)
ON_BOTH(flood, 4)
ON_BOTH(stop_start, 0)
ON_BOTH(once, 0)
ON_BOTH(close_inside_callbacks, 0)
ON_BOTH(reset, 0)
ON_BOTH(accept, 0)
ON_BOTH(accept_without_descriptors, 0)
ON_BOTH(detach, 0)
ON_BOTH(many, 64)
ON_BOTH(sleep, 0)
ON_BOTH(sleep_beside_stopped, 0)

static void test_auto(void)
{
    backend_name = "auto";
    struct io *io = open_door(IO_AUTO, 0);
    io_close(io);
    io_close(NULL);
}

UNIT_MAIN("broker/loop/io", {"echo", test_echo}, {"nothing sent before submit", test_nothing_sent_before_submit},
          {"flood", test_flood}, {"stop and start", test_stop_start}, {"once", test_once},
          {"close inside callbacks", test_close_inside_callbacks}, {"reset", test_reset}, {"accept", test_accept},
          {"accept without descriptors", test_accept_without_descriptors}, {"detach, io_close", test_detach},
          {"many", test_many}, {"sleep and wake", test_sleep},
          {"sleep beside a stopped stream", test_sleep_beside_stopped}, {"auto", test_auto})
