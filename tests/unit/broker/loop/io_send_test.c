/* io_send_test.c -- the promises of io.h about what is sent: more than a socket takes, in pieces, given up; each on
 * io_uring and on epoll. */
#include "tests/unit/broker/loop/io_end.h"

#define PIECES_MAX 1000

/* Pieces of all sizes for io_stream_send_vector. */
struct pieces {
    struct msghdr head;
    struct iovec piece[PIECES_MAX];
};

static struct pieces *pieces_of(uint8_t *data, size_t len)
{
    static const size_t sizes[] = {1, 7, 40000, 3, 65536, 4096, 2, 1 << 20};
    struct pieces *p = calloc(1, sizeof(*p));

    p->head.msg_iov = p->piece;
    for (size_t at = 0, n; at < len; at += n) {
        size_t i = p->head.msg_iovlen++;
        n = i == PIECES_MAX - 1 || sizes[i % 8] > len - at ? len - at : sizes[i % 8];
        p->piece[i] = (struct iovec){data + at, n};
    }
    return p;
}

static void case_slow_reader(struct io *io)
{
    for (int how = 0; how < 4; how++) {
        struct end e;
        int peer = pair(io, &e, how & 1);
        uint8_t *data = malloc(BIG), *chunk = malloc(65536);
        size_t got = 0;
        bool orderly = true;
        for (size_t i = 0; i < BIG; i++) {
            data[i] = (uint8_t)(i * 7 >> 3);
        }
        io_stream_recv_start(io, &e.s);
        struct pieces *pieces = pieces_of(data, BIG);
        if (how & 2) {
            io_stream_send_vector(io, &e.s, &pieces->head, BIG, false);
        } else {
            io_stream_send(io, &e.s, data, BIG);
        }
        for (int i = 0; i < 3; i++) {
            turn(io);
        }
        CHECK_CASE(backend_name, e.sent == 0);
        for (uint64_t end = now_ms() + 20000; got < BIG && now_ms() < end;) {
            ssize_t n = read(peer, chunk, got < BIG / 4 ? 4096 : 65536);
            if (n > 0) {
                orderly = orderly && memcmp(chunk, data + got, (size_t)n) == 0;
                got += (size_t)n;
            }
            io_submit_wait(io, n > 0, at_ns(now_ms() + 5));
            io_reap(io, 64);
        }
        CHECK_CASE(backend_name, got == BIG && orderly);
        until(io, &e.sent, 1);
        finish(&e, peer);
        free(pieces);
        free(data);
        free(chunk);
    }
}

/* A vector in one go, then plain bytes on the same stream; and to a peer that is gone. */
static void case_vector(struct io *io)
{
    for (int how = 0; how < 4; how++) {
        struct end e;
        int peer = pair(io, &e, how & 1);
        bool last = how & 2;
        char bytes[] = "onetwothree", back[16];
        struct iovec piece[] = {{bytes, 3}, {bytes + 3, 3}, {bytes + 6, 5}};
        struct msghdr vector = {.msg_iov = piece, .msg_iovlen = 3};
        io_stream_send_vector(io, &e.s, &vector, 11, last);
        CHECK_CASE(backend_name, io_stream_sending(&e.s));
        until(io, &e.sent, 1);
        CHECK_CASE(backend_name, read(peer, back, 16) == 11 && memcmp(back, "onetwothree", 11) == 0);
        io_stream_send(io, &e.s, "plain", 5);
        until(io, &e.sent, 2);
        CHECK_CASE(backend_name, read(peer, back, 16) == 5 && memcmp(back, "plain", 5) == 0);
        reset(peer);
        turn(io);
        vector = (struct msghdr){.msg_iov = piece, .msg_iovlen = 1};
        piece[0] = (struct iovec){bytes, 3};
        io_stream_send_vector(io, &e.s, &vector, 3, last);
        until(io, &e.ended, 1);
        CHECK_CASE(backend_name, e.error < 0 && e.sent == 2);
        io_stream_close(io, &e.s);
        until(io, &e.closed, 1);
    }
}

static void case_close_with_send_pending(struct io *io)
{
    uint8_t *data = calloc(1, BIG);

    for (int row = 0; row < 6; row++) {
        struct end e;
        int peer = pair(io, &e, true), submitted = row / 2;
        struct pieces *pieces = pieces_of(data, BIG);
        io_stream_recv_start(io, &e.s);
        if (row % 2) {
            io_stream_send_vector(io, &e.s, &pieces->head, BIG, true);
        } else {
            io_stream_send(io, &e.s, data, BIG);
        }
        for (int i = 0; i < submitted; i++) {
            io_submit_wait(io, true, 0);
            if (i > 0) {
                io_reap(io, 64);
            }
        }
        finish(&e, peer);
        CHECK_CASE(backend_name, e.sent == 0 && e.ended == 0);
        free(pieces);
    }
    free(data);
}

ON_BOTH(slow_reader, 0)
ON_BOTH(vector, 0)
ON_BOTH(close_with_send_pending, 0)

UNIT_MAIN("broker/loop/io_send", {"slow reader", test_slow_reader}, {"vector", test_vector},
          {"close with a send pending", test_close_with_send_pending})
