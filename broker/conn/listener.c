#include "broker/conn/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "broker/conn/conn.h"
#include "proto/base/log.h"

#define BACKLOG 4096
#define BIND_TRIES 20
#define BIND_PAUSE_MS 100

static int bind_one(const struct addrinfo *ai, unsigned port)
{
    struct sockaddr_storage address;
    int on = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    memcpy(&address, ai->ai_addr, ai->ai_addrlen);
    if (ai->ai_family == AF_INET6) {
        ((struct sockaddr_in6 *)&address)->sin6_port = htons((uint16_t)port);
    } else {
        ((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)port);
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 || /* inherited by what is accepted */
        bind(fd, (struct sockaddr *)&address, ai->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

/* SO_REUSEPORT would let a second broker of the same user share our port unnoticed: ask without it first. */
static int probe(const struct addrinfo *ai, unsigned port)
{
    int on = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_storage address;

    if (fd < 0) {
        return -errno;
    }
    memcpy(&address, ai->ai_addr, ai->ai_addrlen);
    ((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)port); /* the same place in sockaddr_in6 */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    int rc = bind(fd, (struct sockaddr *)&address, ai->ai_addrlen) == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

static unsigned bound_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);

    getsockname(fd, (struct sockaddr *)&address, &len);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static int open_all(struct listener *l, const struct addrinfo *ai, unsigned port)
{
    int rc = port != 0 ? probe(ai, port) : 0;

    for (unsigned i = 0; rc == 0 && i < l->shard_count; i++) {
        int fd = bind_one(ai, i == 0 ? port : l->port);
        if (fd < 0) {
            rc = fd;
            break;
        }
        l->fds[i] = fd;
        if (i == 0) {
            l->port = bound_port(fd);
        }
    }
    if (rc) {
        listener_close(l);
    }
    return rc;
}

int listener_open(struct listener *l, const char *host, unsigned port, unsigned shard_count)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *ai = NULL;
    int rc = -EADDRINUSE;

    l->shard_count = shard_count;
    for (unsigned i = 0; i < SHARDS_MAX; i++) {
        l->fds[i] = -1;
    }
    if (getaddrinfo(host, NULL, &hints, &ai) != 0) {
        return -ENOENT;
    }
    for (unsigned i = 0; i < BIND_TRIES && rc == -EADDRINUSE; i++) {
        if (i > 0) {
            struct timespec pause = {.tv_nsec = BIND_PAUSE_MS * 1000000L};
            nanosleep(&pause, NULL);
        }
        rc = open_all(l, ai, port);
    }
    freeaddrinfo(ai);
    return rc;
}

void listener_close(struct listener *l)
{
    for (unsigned i = 0; i < l->shard_count; i++) {
        if (l->fds[i] >= 0) {
            close(l->fds[i]);
            l->fds[i] = -1;
        }
    }
}

void listener_forget(const struct listener *l, const struct conn *conn)
{
    if (conn->counted) {
        ledger_leave(l->ledger, &conn->peer);
    }
}

static void door_accepted(struct io_listener *io, int fd)
{
    struct listener_door *door = CONTAINER_OF(io, struct listener_door, io);
    struct metrics *metrics = door->shard->metrics;
    struct conn *conn;

    if (conn_new(door->shard, door->listener, fd, &conn) != 0) {
        close(fd);
        metric_inc(metrics, METRIC_SOCKETS_REFUSED);
        return;
    }
    metric_inc(metrics, METRIC_SOCKETS_OPENED);
    metric_inc(metrics, METRIC_SOCKETS);
    if (!ledger_enter(door->listener->ledger, &conn->peer)) {
        char peer[CONN_PEER_TEXT];
        metric_inc(metrics, METRIC_SOCKETS_REFUSED);
        log_event(LOG_WARN, "connection_refused", {"peer", LOG_STR(conn_peer(conn, peer))},
                  {"listener", LOG_STR(door->listener->address)}, {"reason", LOG_STR("too many connections")});
        conn_drop(conn);
        return;
    }
    conn->counted = true;
    door->arrived(conn);
}

static void door_failed(struct io_listener *io, int error)
{
    struct listener_door *door = CONTAINER_OF(io, struct listener_door, io);

    log_event(LOG_WARN, "accept_failed", {"listener", LOG_STR(door->listener->address)},
              {"error", LOG_STR(strerror(-error))});
}

static void door_closed(struct io_listener *io)
{
    (void)io;
}

static const struct io_listener_handler door_handler = {
    .accepted = door_accepted,
    .failed = door_failed,
    .closed = door_closed,
};

int listener_door_start(struct listener_door *door, struct shard *shard, struct listener *l)
{
    door->io.handler = &door_handler;
    door->shard = shard;
    door->listener = l;
    int rc = io_listener_start(shard->io, &door->io, l->fds[shard->index]);
    if (rc == 0) {
        l->fds[shard->index] = -1;
    }
    return rc;
}

void listener_door_stop(struct listener_door *door)
{
    io_listener_close(door->shard->io, &door->io);
}
