#include "broker/node.h"

#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "broker/base/version.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define STOP_MS 2000u         /* for clients to read their DISCONNECT */
#define SPARE_DESCRIPTORS 64u /* of one shard: rings, listeners, log */
#define ROUTE_READERS SHARDS_MAX

struct node {
    struct node_tables tables;
    struct config *config; /* owned: the one in force */
    const struct node_sources *sources;
    struct mail_office *office;
    struct broker *brokers; /* owned; one a shard */
    struct shard *shards[SHARDS_MAX];
    unsigned shard_count, launched;
};

/* ---- what the system grants ---- */

static unsigned count_shards(const struct config *config)
{
    cpu_set_t cpus;

    if (config->shards > 0) {
        return config->shards;
    }
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0) {
        return 1;
    }
    unsigned count = (unsigned)CPU_COUNT(&cpus);
    return count > SHARDS_MAX ? SHARDS_MAX : count;
}

/* Raise the limit of descriptors as far as allowed. Returns how many connections fit. */
static uint32_t connections_granted(const struct config *config, unsigned shard_count)
{
    struct rlimit limit = {.rlim_cur = 1024};
    uint32_t wanted = config->limits.max_connections;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    uint64_t spare = 32 + (uint64_t)SPARE_DESCRIPTORS * shard_count;
    uint64_t fit = limit.rlim_cur > spare + 64 ? limit.rlim_cur - spare : 64;
    fit = fit > UINT32_MAX ? UINT32_MAX : fit;
    if (wanted == 0) {
        return (uint32_t)fit;
    }
    if (wanted > fit) {
        log_event(LOG_WARN, "limit_lowered", {"key", LOG_STR("limits.max_connections")}, {"wanted", LOG_INT(wanted)},
                  {"granted", LOG_INT(fit)}, {"reason", LOG_STR("the system's limit on open files")});
    }
    return wanted < fit ? wanted : (uint32_t)fit;
}

static int open_data(const char *path)
{
    if (!path || path[0] == '\0') {
        return 0;
    }
    if ((mkdir(path, 0700) != 0 && errno != EEXIST) || access(path, R_OK | W_OK | X_OK) != 0) {
        log_event(LOG_ERROR, "data_directory_unusable", {"path", LOG_STR(path)}, {"error", LOG_STR(strerror(errno))});
        return -1;
    }
    return 0;
}

static bool is_loopback(const char *host)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *ai;
    bool loopback;

    if (getaddrinfo(host, NULL, &hints, &ai) != 0) {
        return false;
    }
    if (ai->ai_family == AF_INET6) {
        loopback = IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)ai->ai_addr)->sin6_addr);
    } else {
        loopback = ntohl(((struct sockaddr_in *)ai->ai_addr)->sin_addr.s_addr) >> 24 == 127;
    }
    freeaddrinfo(ai);
    return loopback;
}

/* ---- building ---- */

static void apply_limits(struct node *node, const struct config *config)
{
    struct node_tables *t = &node->tables;

    t->retained_quota.count_max = config->limits.max_retained_messages;
    t->retained_quota.bytes_max = config->limits.max_retained_bytes;
    t->session_quota.max = config->limits.max_sessions;
    ledger_limit(t->ledger, connections_granted(config, node->shard_count), config->limits.max_connections_per_address);
    for (unsigned i = 0; i < t->listener_count; i++) {
        __atomic_store_n(&t->listeners[i].packet_bytes_max, config->mqtt.max_packet_size, __ATOMIC_RELAXED);
    }
}

static int open_listeners(struct node *node)
{
    struct node_tables *t = &node->tables;

    for (unsigned i = 0; i < node->config->listener_count; i++) {
        const struct config_listener *c = &node->config->listeners[i];
        struct listener *l = &t->listeners[i];
        *l = (struct listener){.address = c->address, .ledger = t->ledger};
        l->allow_anonymous = c->allow_anonymous < 0 ? is_loopback(c->host) : c->allow_anonymous != 0;
        int rc = listener_open(l, c->host, c->port, node->shard_count);
        if (rc) {
            log_event(LOG_ERROR, "listen_failed", {"address", LOG_STR(c->address)},
                      {"error", LOG_STR(rc == -ENOENT ? "unknown host" : strerror(-rc))});
            return rc;
        }
        t->listener_count++;
        log_event(LOG_INFO, "listening", {"address", LOG_STR(c->address)}, {"port", LOG_INT(l->port)},
                  {"anonymous", LOG_STR(l->allow_anonymous ? "yes" : "no")});
        if (!l->allow_anonymous) {
            log_event(
                LOG_WARN, "nobody_may_connect", {"address", LOG_STR(c->address)},
                {"hint",
                 LOG_STR("not a loopback address, and there are no users yet: set allow_anonymous on the listener")});
        }
    }
    return 0;
}

static int build_tables(struct node *node)
{
    struct node_tables *t = &node->tables;
    int rc;

    clock_random(&t->key, sizeof(t->key));
    t->shard_count = node->shard_count;
    t->started_ms = clock_mono_ns() / 1000000;
    atomic_init(&t->config, node->config);
    if ((rc = ledger_new(0, 0, &t->ledger)) != 0 || (rc = route_table_new(&t->key, ROUTE_READERS, &t->routes)) != 0 ||
        (rc = mail_office_new(node->shard_count, &node->office)) != 0) {
        return rc;
    }
    for (unsigned i = 0; i < ROUTE_READERS; i++) {
        route_table_asleep(t->routes, i);
    }
    node->brokers = calloc(node->shard_count, sizeof(struct broker));
    if (!node->brokers) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < node->shard_count && rc == 0; i++) {
        rc = broker_init(&node->brokers[i], t, i, node->shard_count);
    }
    return rc;
}

static int launch(struct node *node)
{
    for (unsigned i = 0; i < node->shard_count; i++) {
        struct shard_options options = {
            .index = i,
            .count = node->shard_count,
            .io = {.backend = (enum io_backend)node->config->io_backend},
            .pin = node->config->pin_shards,
            .office = node->office,
            .peers = node->shards,
            .handler = &broker_shard_handler,
            .broker = &node->brokers[i],
        };
        int rc = shard_launch(&options, &node->shards[i]);
        if (rc) {
            log_event(LOG_ERROR, "shard_failed", {"shard", LOG_INT(i)}, {"error", LOG_STR(strerror(-rc))},
                      {"hint", LOG_STR(rc == -EPERM || rc == -ENOSYS
                                           ? "io_uring is forbidden here: set io_backend to auto or epoll"
                                           : "")});
            return rc;
        }
        node->launched++;
    }
    return 0;
}

/* ---- running ---- */

static void wake_all(struct node *node)
{
    for (unsigned i = 0; i < node->launched; i++) {
        io_wake(node->shards[i]->io);
    }
}

static void sleep_ms(long ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000};
    nanosleep(&t, NULL);
}

/* Give the shards another configuration and free the old one when none of them looks at it any more. */
static void swap_config(struct node *node, struct config *next)
{
    struct config *old = node->config;

    node->config = next;
    apply_limits(node, next);
    atomic_store_explicit(&node->tables.config, next, memory_order_release);
    wake_all(node);
    for (unsigned i = 0; i < node->launched; i++) {
        while (atomic_load(&node->brokers[i].config_seen) != next) {
            sleep_ms(1);
        }
    }
    config_free(old);
}

/* The listeners are open under their old addresses: keep those texts, whatever the file says now. */
static void keep_listeners(struct config *next, struct config *now)
{
    for (unsigned i = 0; i < CONFIG_LISTENERS_MAX; i++) {
        struct config_listener swap = next->listeners[i];
        next->listeners[i] = now->listeners[i];
        now->listeners[i] = swap;
    }
    unsigned count = next->listener_count;
    next->listener_count = now->listener_count;
    now->listener_count = count;
}

static void reload(struct node *node)
{
    char error[1024], restart[1024];
    struct config *next;
    enum config_action action;

    if (config_load(node->sources->argc, node->sources->argv, node->sources->envp, error, sizeof(error), &action,
                    &next) != 0) {
        log_event(LOG_ERROR, "reload_failed", {"error", LOG_STR(error)},
                  {"kept", LOG_STR("the configuration in force")});
        return;
    }
    config_restart_needed(node->config, next, restart, sizeof(restart));
    if (restart[0]) {
        log_event(LOG_WARN, "restart_needed", {"keys", LOG_STR(restart)});
    }
    keep_listeners(next, node->config);
    log_setup(STDERR_FILENO, (enum log_level)next->log_level, (enum log_format)next->log_format);
    swap_config(node, next);
    log_event(LOG_INFO, "reloaded");
}

static void run(struct node *node, const sigset_t *signals)
{
    int signal = 0;

    while (signal != SIGTERM && signal != SIGINT) {
        if (sigwait(signals, &signal) == 0 && signal == SIGHUP) {
            reload(node);
        }
    }
    log_event(LOG_INFO, "stopping", {"signal", LOG_STR(signal == SIGTERM ? "SIGTERM" : "SIGINT")});
}

static void stop(struct node *node)
{
    atomic_store(&node->tables.stop_by_ms, clock_mono_ns() / 1000000 + STOP_MS);
    wake_all(node);
    for (unsigned i = 0; i < node->launched; i++) {
        shard_join(node->shards[i]);
    }
}

static void free_node(struct node *node)
{
    struct node_tables *t = &node->tables;

    for (unsigned i = 0; i < node->shard_count && node->office; i++) {
        while (mail_drain(node->office, i, 1024, dispatch_discard, NULL) > 0) {
        }
    }
    for (unsigned i = 0; i < node->shard_count && node->brokers; i++) {
        if (node->brokers[i].node) {
            broker_release(&node->brokers[i]);
        }
    }
    for (unsigned i = 0; i < node->shard_count && node->brokers; i++) {
        if (node->brokers[i].node) {
            broker_deinit(&node->brokers[i]);
        }
    }
    free(node->brokers);
    mail_office_free(node->office);
    for (unsigned i = 0; i < t->listener_count; i++) {
        listener_close(&t->listeners[i]);
    }
    if (t->routes) {
        route_table_free(t->routes);
    }
    ledger_free(t->ledger);
    config_free(node->config);
    free(node);
}

int node_run(struct config *config, const struct node_sources *sources)
{
    struct node *node = calloc(1, sizeof(*node));
    sigset_t signals;
    int status = 1;

    if (!node) {
        config_free(config);
        return 1;
    }
    node->config = config;
    node->sources = sources;
    node->shard_count = count_shards(config);
    log_setup(STDERR_FILENO, (enum log_level)config->log_level, (enum log_format)config->log_format);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* all threads inherit it: only sigwait sees them */
    conn_set_handler(&dispatch_conn_handler);
    if (open_data(config->data) != 0) {
        goto out;
    }
    int rc = build_tables(node);
    if (rc) {
        log_event(LOG_ERROR, "start_failed", {"error", LOG_STR(strerror(-rc))});
        goto out;
    }
    if (open_listeners(node) != 0) {
        goto out;
    }
    apply_limits(node, config);
    if (launch(node) == 0) {
        log_event(LOG_INFO, "started", {"version", LOG_STR(TERN_VERSION)}, {"shards", LOG_INT(node->shard_count)},
                  {"io", LOG_STR(io_name(node->shards[0]->io))}, {"pid", LOG_INT(getpid())});
        run(node, &signals);
        status = 0;
    }
    stop(node);
    if (status == 0) {
        log_event(LOG_INFO, "stopped");
    }
out:
    free_node(node);
    return status;
}
