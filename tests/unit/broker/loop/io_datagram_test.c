/* Datagrams and dialling through both doors. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <unistd.h>

#include "broker/loop/io.h"
#include "proto/base/clock.h"
#include "tests/lib/unit.h"

struct heard {
    struct io_datagram d;
    unsigned count;
    size_t bytes;
    struct sockaddr_in from;
};

static void on_datagram(struct io_datagram *d, struct slice data, const struct sockaddr *from, socklen_t from_len)
{
    struct heard *h = CONTAINER_OF(d, struct heard, d);

    h->count++;
    h->bytes += data.len;
    if (from_len == sizeof(h->from)) {
        memcpy(&h->from, from, sizeof(h->from));
    }
}

static int bound(struct sockaddr_in *ret_address)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(*ret_address);

    *ret_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(bind(fd, (struct sockaddr *)ret_address, len) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)ret_address, &len) == 0);
    return fd;
}

static void turns(struct io *io, const unsigned *count, unsigned wanted)
{
    for (unsigned i = 0; i < 5000 && *count < wanted; i++) {
        io_submit_wait(io, false, clock_mono_ns() + 1000000);
        io_reap(io, 64);
    }
}

static void check_datagrams(enum io_backend backend)
{
    static const struct io_datagram_handler handler = {on_datagram};
    static uint8_t bytes[IO_DATAGRAM_MAX + 1];
    struct io_options options = {.backend = backend};
    struct heard a = {.d.handler = &handler}, b = {.d.handler = &handler};
    struct sockaddr_in at_a, at_b;
    struct io *io;

    if (io_open(&options, &io) != 0) { /* io_uring is forbidden here */
        CHECK(backend == IO_URING);
        return;
    }
    CHECK(io_datagram_start(io, &a.d, bound(&at_a)) == 0 && io_datagram_start(io, &b.d, bound(&at_b)) == 0);
    for (unsigned i = 1; i <= 100; i++) { /* more than are taken at one time */
        io_datagram_send(io, &a.d, slice_of(bytes, i), (struct sockaddr *)&at_b, sizeof(at_b));
    }
    turns(io, &b.count, 100);
    CHECK(b.count == 100 && b.bytes == 5050 && b.from.sin_port == at_a.sin_port);
    io_datagram_send(io, &a.d, slice_of(bytes, IO_DATAGRAM_MAX + 1), (struct sockaddr *)&at_b, sizeof(at_b));
    io_datagram_send(io, &a.d, slice_of(bytes, 0), (struct sockaddr *)&at_b, sizeof(at_b)); /* both are passed over */
    io_datagram_send(io, &a.d, slice_of(bytes, IO_DATAGRAM_MAX), (struct sockaddr *)&at_b, sizeof(at_b));
    turns(io, &b.count, 101);
    CHECK(b.count == 101 && b.bytes == 5050 + IO_DATAGRAM_MAX && a.count == 0);
    io_close(io);
}

static void test_datagrams(void)
{
    check_datagrams(IO_EPOLL);
    check_datagrams(IO_URING);
}

static void test_dial(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct io_options options = {.backend = IO_EPOLL};
    struct io *io;

    CHECK(io_open(&options, &io) == 0);
    CHECK(bind(door, (struct sockaddr *)&at, len) == 0 && listen(door, 4) == 0);
    CHECK(getsockname(door, (struct sockaddr *)&at, &len) == 0);
    int fd = io_dial(io, (struct sockaddr *)&at, sizeof(at)), peer = accept(door, NULL, NULL);
    CHECK(fd >= 0 && peer >= 0 && fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    close(peer);
    close(door);
    at.sin_family = AF_UNSPEC;
    CHECK(io_dial(io, (struct sockaddr *)&at, sizeof(at)) < 0);
    io_close(io);
}

UNIT_MAIN("broker/loop/io (datagrams)", {"datagrams", test_datagrams}, {"dial", test_dial})
