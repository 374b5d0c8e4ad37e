/* Datagrams, dialling and the second listener at the door without a kernel. */
#include "tests/lib/sim_io.h"

#include <errno.h>
#include <netinet/in.h>

#include "proto/base/list.h"
#include "tests/lib/unit.h"

static struct sim_net net;
static struct io *io;

static unsigned received, accepted_clients, accepted_peers;
static size_t last_len;
static in_port_t last_port;

static void on_received(struct io_datagram *d, struct slice data, const struct sockaddr *from, socklen_t from_len)
{
    (void)d;
    CHECK(from_len == sizeof(struct sockaddr_in));
    received++;
    last_len = data.len;
    last_port = ((const struct sockaddr_in *)(const void *)from)->sin_port;
}

static void begin(void)
{
    struct io_options options = {.door = sim_door_open};

    sim_net_init(&net);
    sim_net_use(&net);
    CHECK(io_open(&options, &io) == 0);
}

static void end(void)
{
    io_close(io);
    sim_net_deinit(&net);
}

static in_port_t said_to;
static size_t said_len;

static void carry(struct sim_net *of, struct slice data, const struct sockaddr *to)
{
    CHECK(of == &net);
    said_to = ((const struct sockaddr_in *)(const void *)to)->sin_port;
    said_len = data.len;
}

static void test_datagrams(void)
{
    static const struct io_datagram_handler handler = {on_received};
    struct io_datagram d = {.handler = &handler};
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = 7};
    const struct sockaddr *to = (const struct sockaddr *)&there;

    begin();
    sim_datagram(&net, slice_str("early"), to, sizeof(there)); /* waits for its socket */
    io_reap(io, 64);
    CHECK(received == 0);
    CHECK(io_datagram_start(io, &d, SIM_PEERS_FD + 1) == 0);
    io_datagram_send(io, &d, slice_str("lost"), to, sizeof(there)); /* nobody carries it */
    net.datagram = carry;
    io_datagram_send(io, &d, slice_str("there"), to, sizeof(there));
    CHECK(said_to == 7 && said_len == 5);
    sim_datagram(&net, slice_of(NULL, 0), to, sizeof(there));
    CHECK(received == 0); /* callbacks run in io_reap alone */
    io_reap(io, 64);
    CHECK(received == 2 && last_len == 0 && last_port == 7);
    end();
}

static void client_came(struct io_listener *l, int fd)
{
    (void)l;
    CHECK(fd == SIM_FIRST_FD);
    accepted_clients++;
}

static void peer_came(struct io_listener *l, int fd)
{
    (void)l;
    CHECK(fd == SIM_FIRST_FD + 1);
    accepted_peers++;
}

static void test_listeners(void)
{
    static const struct io_listener_handler clients = {.accepted = client_came}, peers = {.accepted = peer_came};
    struct io_listener a = {.handler = &clients}, b = {.handler = &peers};

    begin();
    CHECK(io_listener_start(io, &a, SIM_LISTEN_FD) == 0 && io_listener_start(io, &b, SIM_PEERS_FD) == 0);
    sim_connect(&net, 0);
    sim_connect_peer(&net);
    io_reap(io, 64);
    CHECK(accepted_clients == 1 && accepted_peers == 1);
    end();
}

static int answer(struct sim_net *of, const struct sockaddr *to)
{
    if (((const struct sockaddr_in *)(const void *)to)->sin_port != 2) {
        return -ECONNREFUSED;
    }
    struct sim_socket *s = sim_connect(of, 0);
    s->accepted = true;
    return s->fd;
}

static void test_dial(void)
{
    static const struct io_stream_handler deaf;
    struct io_stream stream = {.handler = &deaf};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = 1};

    begin();
    CHECK(io_dial(io, (struct sockaddr *)&to, sizeof(to)) == -ENETUNREACH);
    net.dial = answer;
    CHECK(io_dial(io, (struct sockaddr *)&to, sizeof(to)) == -ECONNREFUSED);
    to.sin_port = 2;
    int fd = io_dial(io, (struct sockaddr *)&to, sizeof(to));
    CHECK(fd == SIM_FIRST_FD && io_stream_attach(io, &stream, fd) == 0);
    io_stream_send_last(io, &stream, "hello", 5);
    io_submit_wait(io, true, 0);
    CHECK(net.sockets[0].from_broker.len == 5);
    end();
}

UNIT_MAIN("tests/lib/sim_io", {"datagrams", test_datagrams}, {"two listeners", test_listeners}, {"dial", test_dial})
