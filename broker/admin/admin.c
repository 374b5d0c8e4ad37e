/* admin.c -- the admin port's beginning and end, and its place in the control shard's turn. */
#include "broker/admin/admin.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/admin/admin_inside.h"
#include "broker/flow/dispatch.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define BACKLOG 128

/* ---- binding ---- */

static int bind_one(const struct addrinfo *ai)
{
    int on = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 || /* inherited by what is accepted */
        bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

/* "host:port", "[v6]:port". A descriptor or a negative errno. */
static int bind_address(const char *address)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *ai;
    const char *colon = strrchr(address, ':');
    char host[256];
    int skip = address[0] == '[';
    size_t n = (size_t)(colon - address) - 2 * (size_t)skip;

    if (n >= sizeof(host)) {
        return -ENOENT;
    }
    memcpy(host, address + skip, n);
    host[n] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &ai) != 0) {
        return -ENOENT;
    }
    int fd = bind_one(ai);
    freeaddrinfo(ai);
    return fd;
}

int admin_new(const struct config *config, struct admin_terms *terms, struct admin **ret_admin)
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);

    *ret_admin = NULL;
    int fd = config->admin.listen[0] ? bind_address(config->admin.listen) : 0;
    struct admin *admin = fd > 0 ? calloc(1, sizeof(*admin)) : NULL;
    char *dir = admin ? strdup(config->data) : NULL;
    if (!dir) {
        free(admin);
        if (fd > 0) {
            close(fd);
        }
        admin_terms_unref(terms);
        return fd > 0 ? -ENOMEM : fd;
    }
    getsockname(fd, (struct sockaddr *)&bound, &len);
    admin->port = ntohs(((struct sockaddr_in *)&bound)->sin_port); /* the same place in sockaddr_in6 */
    admin->fd = fd;
    admin->disk.dir = dir;
    admin->started_wall_ms = clock_wall_ms();
    admin->terms = terms;
    atomic_init(&admin->next, NULL);
    atomic_init(&admin->launched, false);
    list_init(&admin->all);
    list_init(&admin->ready);
    clock_random(admin->secrets, sizeof(admin->secrets));
    *ret_admin = admin;
    return 0;
}

void admin_replace(struct admin *admin, struct admin_terms *terms)
{
    if (!admin) {
        admin_terms_unref(terms);
        return;
    }
    admin_terms_unref(atomic_exchange(&admin->next, terms));
}

void admin_launched(struct admin *admin)
{
    if (admin) {
        atomic_store(&admin->launched, true);
    }
}

unsigned admin_port(const struct admin *admin)
{
    return admin->port;
}

void admin_free(struct admin *admin)
{
    if (!admin) {
        return;
    }
    if (admin->fd >= 0) {
        close(admin->fd);
    }
    admin_server_free(admin);
    admin_terms_unref(admin->terms);
    admin_terms_unref(atomic_load(&admin->next));
    free(admin->disk.dir);
    free(admin);
}

/* ---- in the control shard ---- */

static struct admin *admin_of(const struct shard *shard)
{
    return ((struct broker *)shard->broker)->node->admin;
}

static int admin_start(struct shard *shard)
{
    struct admin *admin = admin_of(shard);
    int rc = broker_shard_handler.start(shard);

    if (rc) {
        return rc;
    }
    admin->broker = shard->broker;
    admin->shard = shard;
    admin_health_start(admin);
    return admin_server_start(admin);
}

static void admin_turn_end(struct shard *shard)
{
    struct admin *admin = admin_of(shard);
    struct admin_terms *next = atomic_load_explicit(&admin->next, memory_order_relaxed);

    if (next && (next = atomic_exchange(&admin->next, NULL)) != NULL) {
        admin_terms_unref(admin->terms);
        admin->terms = next;
    }
    broker_shard_handler.turn_end(shard);
    admin_server_turn(admin); /* behind what the turn has brought for requests */
}

static void admin_stop(struct shard *shard)
{
    timer_cancel(shard->timers, &admin_of(shard)->pulse);
    admin_server_stop(admin_of(shard));
    broker_shard_handler.stop(shard);
}

static void admin_mail(struct shard *shard, const struct mail *mail)
{
    broker_shard_handler.mail(shard, mail);
}

static void admin_awake(struct shard *shard)
{
    broker_shard_handler.awake(shard);
}

static void admin_asleep(struct shard *shard)
{
    broker_shard_handler.asleep(shard);
}

const struct shard_handler admin_shard_handler = {
    .start = admin_start,
    .mail = admin_mail,
    .turn_end = admin_turn_end,
    .awake = admin_awake,
    .asleep = admin_asleep,
    .stop = admin_stop,
};
