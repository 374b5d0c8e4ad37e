#include "broker/conn/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "broker/base/network.h"
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

/* ---- Unix sockets ---- */

/* Whether somebody listens there already. */
static bool unix_taken(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool taken = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return taken;
}

static int unix_bind(const char *path, uint32_t mode)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, path);
    if (stat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        if (unix_taken(&address)) {
            return -EADDRINUSE;
        }
        unlink(path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    mode_t mask = umask(0777 & ~mode); /* from the first moment on nobody else gets in */
    int rc = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : -errno;
    umask(mask);
    if (rc == 0 && listen(fd, BACKLOG) != 0) {
        rc = -errno;
        unlink(path);
    }
    if (rc) {
        close(fd);
        return rc;
    }
    return fd;
}

static int open_unix(struct listener *l)
{
    int fd = unix_bind(l->config->host, l->config->mode);

    if (fd < 0) {
        return fd;
    }
    l->fds[0] = fd;
    for (unsigned i = 1; i < l->shard_count; i++) {
        l->fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (l->fds[i] < 0) {
            int rc = -errno;
            listener_close(l);
            return rc;
        }
    }
    return 0;
}

/* ---- all of them ---- */

void listener_init(struct listener *l, const struct config_listener *config, struct ledger *ledger,
                   struct ban_list *bans)
{
    l->config = config;
    l->name = *config->name ? config->name : config->address;
    l->address = config->address;
    l->tls = config->transport == TRANSPORT_TLS || config->transport == TRANSPORT_WSS;
    l->websocket = config->transport == TRANSPORT_WS || config->transport == TRANSPORT_WSS;
    l->proxy = config->proxy_protocol;
    l->trusted_proxies = config->trusted_proxies;
    l->mount = slice_str(config->mount_point);
    atomic_init(&l->methods, config->methods);
    atomic_init(&l->anonymous, config->anonymous);
    l->ws_terms = (struct ws_terms){.path = config->websocket.path, .origins = config->websocket.origins};
    l->ledger = ledger;
    l->bans = bans;
    for (unsigned i = 0; i < SHARDS_MAX; i++) {
        l->fds[i] = -1;
    }
}

int listener_open(struct listener *l, unsigned shard_count)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *ai = NULL;
    bool local = l->config->transport == TRANSPORT_UNIX;
    int rc = -EADDRINUSE;

    if (!local && getaddrinfo(l->config->host, NULL, &hints, &ai) != 0) {
        return -ENOENT;
    }
    for (unsigned i = 0; i < BIND_TRIES && rc == -EADDRINUSE; i++) {
        if (i > 0) {
            struct timespec pause = {.tv_nsec = BIND_PAUSE_MS * 1000000L};
            nanosleep(&pause, NULL);
        }
        l->shard_count = shard_count; /* a try that failed has forgotten it */
        rc = local ? open_unix(l) : open_all(l, ai, l->config->port);
    }
    if (ai) {
        freeaddrinfo(ai);
    }
    if (rc) {
        l->shard_count = 0;
    }
    return rc;
}

void listener_close(struct listener *l)
{
    bool open = false;

    for (unsigned i = 0; i < l->shard_count; i++) {
        if (l->fds[i] >= 0) {
            close(l->fds[i]);
            l->fds[i] = -1;
            open = true;
        }
    }
    if (l->config->transport == TRANSPORT_UNIX && (open || l->shard_count > 0)) {
        unlink(l->config->host);
    }
    l->shard_count = 0;
}

/* ---- who may stay ---- */

static void log_refused(const struct listener *l, const struct conn *conn, const char *why)
{
    char peer[CONN_PEER_TEXT];

    metric_inc(conn->shard->metrics, METRIC_SOCKETS_REFUSED);
    log_event(LOG_WARN, "connection_refused", {"peer", LOG_STR(conn_peer(conn, peer))}, {"listener", LOG_STR(l->name)},
              {"reason", LOG_STR(why)});
}

bool listener_admit(const struct listener *l, struct conn *conn, const struct in6_addr *address, uint16_t port)
{
    const char *why;

    listener_forget(l, conn);
    conn->counted = false;
    conn->peer = *address;
    conn->peer_port = port;
    if (!ban_accept(l->bans, address, conn->shard->wall_ms, &why)) {
        log_refused(l, conn, why);
        return false;
    }
    if (!ledger_enter(l->ledger, address)) {
        log_refused(l, conn, "too many connections");
        return false;
    }
    conn->counted = true;
    unsigned count = atomic_fetch_add(&((struct listener *)l)->count, 1) + 1;
    if (l->config->max_connections && count > l->config->max_connections) {
        log_refused(l, conn, "too many connections of this listener");
        return false;
    }
    return true;
}

void listener_forget(const struct listener *l, const struct conn *conn)
{
    if (conn->counted) {
        ledger_leave(l->ledger, &conn->peer);
        atomic_fetch_sub(&((struct listener *)l)->count, 1);
    }
}

/* What comes from a balancer is counted when the balancer has said for whom; until then by the listener alone. */
static bool admit_first(struct listener *l, struct conn *conn)
{
    struct in6_addr address = conn->peer;

    if (!l->proxy) {
        return listener_admit(l, conn, &address, conn->peer_port);
    }
    if (!network_list_has(l->trusted_proxies, &address)) {
        log_refused(l, conn, "not one of trusted_proxies");
        return false;
    }
    return true;
}

static void door_accepted(struct io_listener *io, int fd)
{
    struct listener_door *door = CONTAINER_OF(io, struct listener_door, io);
    struct metrics *metrics = door->shard->metrics;
    struct conn *conn;
    int rc = conn_new(door->shard, door->listener, fd, &conn);

    if (rc) {
        close(fd);
        if (rc != -ENOTCONN) {
            metric_inc(metrics, METRIC_SOCKETS_REFUSED);
        }
        return;
    }
    metric_inc(metrics, METRIC_SOCKETS_OPENED);
    metric_inc(metrics, METRIC_SOCKETS);
    if (!admit_first(door->listener, conn)) {
        conn_drop(conn);
        return;
    }
    door->arrived(conn);
}

static void door_failed(struct io_listener *io, int error)
{
    struct listener_door *door = CONTAINER_OF(io, struct listener_door, io);

    log_event(LOG_WARN, "accept_failed", {"listener", LOG_STR(door->listener->name)},
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
