#include "broker/node_cluster.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/peer/peer_address.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define LOOK_S 5u /* between questions for the seeds, until there is a neighbour */
#define LOOK_LATER_S 60u
#define PACKET_BYTES_MAX 268435460u /* of MQTT */

static int fail(const char *what, const char *why)
{
    log_event(LOG_ERROR, "cluster_failed", {"what", LOG_STR(what)}, {"reason", LOG_STR(why)});
    return -EINVAL;
}

static int bind_socket(const struct member_address *address, int type)
{
    struct sockaddr_storage to;
    socklen_t len = peer_address_to(address, &to);
    int on = 1, fd = socket(to.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&to, len) != 0 || (type == SOCK_STREAM && listen(fd, 128) != 0)) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static int open_sockets(struct node_cluster *c, const char *text, const struct member_address *address)
{
    c->listen_fd = bind_socket(address, SOCK_STREAM);
    c->gossip_fd = c->listen_fd >= 0 ? bind_socket(address, SOCK_DGRAM) : -1;
    if (c->listen_fd < 0 || c->gossip_fd < 0) {
        return fail(text, strerror(c->listen_fd < 0 ? -c->listen_fd : -c->gossip_fd));
    }
    return 0;
}

static int load_tls(struct node_cluster *c, const struct config *config)
{
    struct tls_settings settings = {
        .certificates = config->cluster.certificate,
        .keys = config->cluster.key,
        .client_ca = config->cluster.ca,
        .client_certificate = TLS_CLIENT_REQUIRED,
        .min_version = 13,
    };
    struct tls_context *in, *out;
    char error[512];

    if (config->cluster.insecure) {
        return 0;
    }
    if (!config->cluster.certificate[0] || !config->cluster.key[0] || !config->cluster.ca[0]) {
        return fail("cluster.certificate, cluster.key, cluster.ca",
                    "all three are needed, or cluster.insecure for links that anybody can read");
    }
    if (tls_server_context_new(&settings, error, sizeof(error), &in) != 0) {
        return fail("cluster.certificate", error);
    }
    atomic_store(&c->terms.tls_in, in);
    if (tls_client_context_new(config->cluster.ca, config->cluster.certificate, config->cluster.key, false, error,
                               sizeof(error), &out) != 0) {
        return fail("cluster.certificate", error);
    }
    atomic_store(&c->terms.tls_out, out);
    return 0;
}

static int load_ring(struct node_cluster *c, const struct config *config)
{
    char error[512];

    if (config->cluster.key_file[0]) {
        return seal_ring_read(config->cluster.key_file, &c->ring, error, sizeof(error)) == 0
                   ? 0
                   : fail("cluster.key_file", error);
    }
    if (!config->cluster.insecure) {
        return fail("cluster.key_file", "it is needed, or cluster.insecure for gossip that anybody can make");
    }
    seal_ring_insecure(config->cluster.name, &c->ring);
    return 0;
}

static void set_identity(struct node_cluster *c, const struct config *config, const struct store *store)
{
    if (store) {
        memcpy(c->terms.node_id.bytes, store->identity.node_id, sizeof(c->terms.node_id.bytes));
        c->terms.boot = store->identity.boot;
    } else {
        clock_random(c->terms.node_id.bytes, sizeof(c->terms.node_id.bytes));
        c->terms.boot = 1;
    }
    snprintf(c->terms.cluster, sizeof(c->terms.cluster), "%s", config->cluster.name);
    c->terms.frame_bytes_max = PACKET_BYTES_MAX + (64u << 10);
    c->terms.handler = &cluster_peer_handler;
}

int node_cluster_open(const struct config *config, const struct store *store, unsigned shard_count,
                      struct node_cluster **ret_cluster)
{
    struct member_address listen;
    const char *advertise = config->cluster.advertise[0] ? config->cluster.advertise : config->cluster.listen;

    (void)shard_count;
    *ret_cluster = NULL;
    if (!config->cluster.listen[0]) {
        return 0;
    }
    struct node_cluster *c = calloc(1, sizeof(*c));
    if (!c) {
        return -ENOMEM;
    }
    c->listen_fd = c->gossip_fd = -1;
    *ret_cluster = c;
    if (peer_address_resolve(config->cluster.listen, &listen, 1) != 1 ||
        peer_address_resolve(advertise, &c->address, 1) != 1) {
        return fail(config->cluster.listen, "cluster.listen and cluster.advertise are ADDRESS:PORT");
    }
    set_identity(c, config, store);
    int rc = load_ring(c, config);
    rc = rc ? rc : load_tls(c, config);
    rc = rc ? rc : open_sockets(c, config->cluster.listen, &listen);
    if (rc == 0) {
        node_cluster_look(c, config);
    }
    return rc;
}

void node_cluster_free(struct node_cluster *c)
{
    if (!c) {
        return;
    }
    if (c->listen_fd >= 0) {
        close(c->listen_fd);
    }
    if (c->gossip_fd >= 0) {
        close(c->gossip_fd);
    }
    tls_context_unref(atomic_load(&c->terms.tls_in));
    tls_context_unref(atomic_load(&c->terms.tls_out));
    free(atomic_load(&c->seeds_found));
    free(c);
}

unsigned node_cluster_look(struct node_cluster *c, const struct config *config)
{
    struct slice rest = slice_str(config->cluster.seeds), word;
    struct seed_list *list = calloc(1, sizeof(*list));
    char text[300];

    while (list && config_list_next(&rest, &word)) {
        snprintf(text, sizeof(text), "%.*s", (int)word.len, (const char *)word.ptr);
        int n = peer_address_resolve(text, &list->seeds[list->count], SEEDS_MAX - list->count);
        if (n < 0) {
            log_event(LOG_WARN, "seed_unknown", {"seed", LOG_STR(text)});
        }
        list->count += n > 0 ? (unsigned)n : 0;
    }
    free(atomic_exchange(&c->seeds_found, list));
    return atomic_load(&c->neighbour_count) > 0 ? LOOK_LATER_S : LOOK_S;
}
