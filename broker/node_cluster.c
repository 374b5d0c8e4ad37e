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
#define WHERE "cluster.listen and cluster.advertise are ADDRESS:PORT"

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

static int open_sockets(struct node_cluster *c, const struct config *config)
{
    const char *text = config->cluster.listen;
    struct member_address address;

    if (peer_address_resolve(text, &address, 1) != 1) {
        return fail(text, WHERE);
    }
    c->listen_fd = bind_socket(&address, SOCK_STREAM);
    c->gossip_fd = c->listen_fd >= 0 ? bind_socket(&address, SOCK_DGRAM) : -1;
    if (c->listen_fd < 0 || c->gossip_fd < 0) {
        return fail(text, strerror(c->listen_fd < 0 ? -c->listen_fd : -c->gossip_fd));
    }
    return 0;
}

static int read_tls(const struct config *config, struct cluster_secrets *secrets, char *error, size_t error_size)
{
    struct tls_settings settings = {
        .certificates = config->cluster.certificate,
        .keys = config->cluster.key,
        .client_ca = config->cluster.ca,
        .client_certificate = TLS_CLIENT_REQUIRED,
        .min_version = 13,
    };

    if (!config->cluster.certificate[0] || !config->cluster.key[0] || !config->cluster.ca[0]) {
        snprintf(error, error_size,
                 "cluster.certificate, cluster.key, cluster.ca: all three are needed, or "
                 "cluster.insecure for links that anybody can read");
        return -EINVAL;
    }
    int rc = tls_server_context_new(&settings, error, error_size, &secrets->in);
    return rc ? rc
              : tls_client_context_new(config->cluster.ca, config->cluster.certificate, config->cluster.key, false,
                                       error, error_size, &secrets->out);
}

static int read_ring(const struct node_cluster *c, const struct config *config, struct seal_ring *ring, char *error,
                     size_t error_size)
{
    if (config->cluster.key_file[0]) {
        return seal_ring_read(config->cluster.key_file, ring, error, error_size);
    }
    if (!c->insecure) {
        snprintf(error, error_size, "cluster.key_file is needed, or cluster.insecure for gossip that anybody can make");
        return -EINVAL;
    }
    seal_ring_insecure(c->terms.cluster, ring);
    return 0;
}

int node_cluster_read(const struct node_cluster *c, const struct config *config, struct cluster_secrets *ret_secrets,
                      char *error, size_t error_size)
{
    *ret_secrets = (struct cluster_secrets){0};
    if (!c) {
        return 0;
    }
    ret_secrets->ring = calloc(1, sizeof(*ret_secrets->ring));
    int rc = ret_secrets->ring ? read_ring(c, config, ret_secrets->ring, error, error_size) : -ENOMEM;
    if (rc == 0 && !c->insecure) {
        rc = read_tls(config, ret_secrets, error, error_size);
    }
    if (rc) {
        if (rc == -ENOMEM) {
            snprintf(error, error_size, "out of memory");
        }
        node_cluster_secrets_deinit(ret_secrets);
    }
    return rc;
}

void node_cluster_exchange(struct node_cluster *c, struct cluster_secrets *secrets)
{
    if (c) {
        secrets->in = atomic_exchange(&c->terms.tls_in, secrets->in);
        secrets->out = atomic_exchange(&c->terms.tls_out, secrets->out);
        secrets->ring = atomic_exchange(&c->ring_next, secrets->ring);
    }
}

void node_cluster_secrets_deinit(struct cluster_secrets *secrets)
{
    tls_context_unref(secrets->in);
    tls_context_unref(secrets->out);
    free(secrets->ring);
    *secrets = (struct cluster_secrets){0};
}

static int load_secrets(struct node_cluster *c, const struct config *config)
{
    struct cluster_secrets secrets;
    char error[512];

    if (node_cluster_read(c, config, &secrets, error, sizeof(error)) != 0) {
        return fail("keys and certificates", error);
    }
    c->ring = *secrets.ring;
    atomic_store(&c->terms.tls_in, secrets.in);
    atomic_store(&c->terms.tls_out, secrets.out);
    free(secrets.ring);
    return 0;
}

static void set_identity(struct node_cluster *c, const struct config *config, struct store *store)
{
    if (store) {
        memcpy(c->terms.node_id.bytes, store->identity.node_id, sizeof(c->terms.node_id.bytes));
        c->terms.boot = store->identity.boot;
    } else {
        clock_random(c->terms.node_id.bytes, sizeof(c->terms.node_id.bytes));
        c->terms.boot = 1;
    }
    c->insecure = config->cluster.insecure;
    snprintf(c->terms.cluster, sizeof(c->terms.cluster), "%s", config->cluster.name);
    cluster_load_id(&c->terms, store);
    c->terms.wire_min = PEER_WIRE_MIN;
    c->terms.wire_max = PEER_WIRE_MAX;
    c->terms.features = PEER_FEATURES;
    c->terms.frame_bytes_max = PACKET_BYTES_MAX + (64u << 10);
    c->terms.handler = &cluster_peer_handler;
}

int node_cluster_make(const struct config *config, struct store *store, struct node_cluster **ret_cluster)
{
    const char *advertise = config->cluster.advertise[0] ? config->cluster.advertise : config->cluster.listen;

    *ret_cluster = NULL;
    if (!config->cluster.listen[0]) {
        return 0;
    }
    struct node_cluster *c = calloc(1, sizeof(*c));
    if (!c) {
        return -ENOMEM;
    }
    c->listen_fd = c->gossip_fd = -1;
    atomic_store(&c->unready, "it has just begun");
    c->ready_stale = true;
    *ret_cluster = c;
    if (peer_address_resolve(advertise, &c->address, 1) != 1) {
        return fail(advertise, WHERE);
    }
    set_identity(c, config, store);
    int rc = load_secrets(c, config);
    if (rc == 0) {
        node_cluster_look(c, config);
    }
    return rc;
}

int node_cluster_open(const struct config *config, struct store *store, struct node_cluster **ret_cluster)
{
    int rc = node_cluster_make(config, store, ret_cluster);

    return rc || !*ret_cluster ? rc : open_sockets(*ret_cluster, config);
}

void node_cluster_tables(struct node_tables *t)
{
    struct node_cluster *c = t->cluster;

    if (c) {
        seal_route_key(c->terms.cluster, &t->route_key);
        c->replica.key = t->route_key;
        c->replica.grave_ms = RETAINED_GRAVE_MS;
        c->replica.graves_max = RETAINED_GRAVES_MAX;
        t->retained_quota.replica = &c->replica;
    }
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
    free(atomic_load(&c->ring_next));
    free(c);
}

/* n more addresses stand behind those in the list; below 0: a name has none. */
static void take_seeds(const struct node_cluster *c, struct seed_list *list, int n)
{
    unsigned from = list->count;

    list->others += n < 0;
    for (int i = 0; i < n; i++) {
        const struct member_address seed = list->seeds[from + (unsigned)i];
        bool known = member_address_eq(&seed, &c->address);
        for (unsigned k = 0; k < list->count && !known; k++) {
            known = member_address_eq(&seed, &list->seeds[k]);
        }
        if (!known) {
            list->seeds[list->count++] = seed;
            list->others++;
        }
    }
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
        take_seeds(c, list, n);
    }
    free(atomic_exchange(&c->seeds_found, list));
    return atomic_load(&c->neighbour_count) > 0 ? LOOK_LATER_S : LOOK_S;
}
