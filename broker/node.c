#include "broker/node.h"

#include <errno.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "broker/admin/admin.h"
#include "broker/admin/desk.h"
#include "broker/base/version.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "broker/flow/reload.h"
#include "broker/node_cluster.h"
#include "broker/node_notify.h"
#include "broker/node_tls.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "storage/store_lmdb.h"

#define DRAIN_LOOK_MS 10
#define STOP_MS 2000u         /* for clients to read their DISCONNECT */
#define SPARE_DESCRIPTORS 64u /* of one shard: rings, listeners, log */
#define ROUTE_READERS SHARDS_MAX
#define CERTIFICATES_WATCH_S 21600 /* and the life of a key of session tickets, of which two are good */

struct node {
    struct node_tables tables;
    struct config *config; /* owned: the one in force */
    struct config *origin; /* owned: the one that it began with; the listeners are its */
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
    uint64_t spare = 32 + ADMIN_CONNECTIONS_MAX + (uint64_t)SPARE_DESCRIPTORS * shard_count;
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

/* ---- what must survive ---- */

static void wake_shard(void *context, unsigned shard)
{
    struct node *node = context;
    struct shard *s = node->shards[shard];

    if (s) {
        io_wake(s->io);
    }
}

static int open_store(struct node *node)
{
    struct store_config config = {.dir = node->config->data};
    struct store_refusal refusal;

    if (config.dir[0] == '\0') {
        log_event(LOG_WARN, "nothing_survives", {"reason", LOG_STR("no data directory is configured")});
        return 0;
    }
    int rc = store_lmdb_open(&config, &node->tables.store, &refusal);
    if (rc) {
        log_event(LOG_ERROR, "store_refused", {"reason", LOG_STR(refusal.sentence)});
        return rc;
    }
    node->tables.key = node->tables.store->identity.hash_key; /* groups are the same at every start */
    return 0;
}

/* On one of the store's threads. */
static void wake_store(void *context, unsigned shard)
{
    struct node *node = context;

    if (store_status(node->tables.store) == STORE_FAILED) {
        /* Nothing that was not acknowledged is promised, and nothing can be acknowledged any more: as after a crash,
         * the next start reads what is on the disk. */
        log_event(LOG_ERROR, "store_failed", {"reason", LOG_STR("the disk has refused a commit")},
                  {"status", LOG_INT(NODE_STORE_FAILED)});
        _exit(NODE_STORE_FAILED);
    }
    wake_shard(context, shard);
}

/* Sessions and retained messages of the last time. */
static int recover_node(struct node *node)
{
    struct broker *brokers[SHARDS_MAX];

    if (!node->tables.store) {
        return 0;
    }
    for (unsigned i = 0; i < node->shard_count; i++) {
        brokers[i] = &node->brokers[i];
    }
    int rc = recover(&node->tables, brokers, node->shard_count);
    return rc ? rc : store_start(node->tables.store, node->shard_count, wake_store, node);
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
        uint32_t own = t->listeners[i].config->max_packet_size;
        __atomic_store_n(&t->listeners[i].packet_bytes_max, own ? own : config->mqtt.max_packet_size, __ATOMIC_RELAXED);
    }
    ban_limits_set(t->auth->bans, &(struct ban_limits){
                                      .failures = config->ban.auth_failures,
                                      .window_ms = config->ban.window_ms,
                                      .ban_ms = config->ban.time_ms,
                                      .flaps = config->ban.flaps,
                                      .flap_window_ms = config->ban.flap_window_ms,
                                      .flap_ban_ms = config->ban.flap_time_ms,
                                      .connections_per_second = config->limits.max_connection_rate_per_address,
                                  });
}

static int open_listeners(struct node *node)
{
    struct node_tables *t = &node->tables;

    for (unsigned i = 0; i < node->origin->listener_count; i++) {
        struct listener *l = &t->listeners[i];
        listener_init(l, &node->origin->listeners[i], t->ledger, t->auth->bans);
        int rc = listener_open(l, node->shard_count);
        if (rc) {
            log_event(LOG_ERROR, "listen_failed", {"address", LOG_STR(l->address)},
                      {"error", LOG_STR(rc == -ENOENT ? "unknown host, or no such folder" : strerror(-rc))});
            return rc;
        }
        t->listener_count++;
        log_event(LOG_INFO, "listening", {"address", LOG_STR(l->address)}, {"port", LOG_INT(l->port)},
                  {"anonymous", LOG_STR(l->config->anonymous ? "yes" : "no")});
    }
    return node_tls_load(&node->tables) ? 0 : -EINVAL;
}

static int open_admin(struct node *node)
{
    const struct config *c = node->config;
    struct admin_terms *terms;
    char error[1024] = "out of memory";
    int rc = admin_terms_read(c, error, sizeof(error), &terms);

    if (rc) {
        log_event(LOG_ERROR, "admin_failed", {"error", LOG_STR(error)});
        return rc;
    }
    rc = admin_new(c, terms, &node->tables.admin);
    if (rc == -EADDRINUSE && strcmp(c->admin.listen, ADMIN_LISTEN_DEFAULT) == 0) {
        log_event(LOG_WARN, "admin_port_taken", {"address", LOG_STR(c->admin.listen)},
                  {"hint", LOG_STR("set admin.listen; this node has no admin port")});
        return 0; /* nobody has asked for it, and a second node on this machine is to be had without a word */
    }
    if (rc) {
        log_event(LOG_ERROR, "admin_failed", {"address", LOG_STR(c->admin.listen)},
                  {"error", LOG_STR(rc == -ENOENT ? "unknown host" : strerror(-rc))});
        return rc;
    }
    if (node->tables.admin) {
        log_event(LOG_INFO, "admin_listening", {"address", LOG_STR(c->admin.listen)},
                  {"port", LOG_INT(admin_port(node->tables.admin))},
                  {"scheme", LOG_STR(c->admin.certificate[0] ? "https" : "http")});
    }
    return 0;
}

static int build_tables(struct node *node)
{
    struct node_tables *t = &node->tables;
    char error[1024];
    int rc;

    if (!t->store) {
        clock_random(&t->key, sizeof(t->key));
    }
    t->route_key = t->key;
    node_cluster_tables(t);
    stamp_start(t);
    t->shard_count = node->shard_count;
    t->desk = &admin_desk;
    t->started_ms = clock_mono_ns() / 1000000;
    atomic_init(&t->config, node->config);
    if ((rc = ledger_new(0, 0, &t->ledger)) != 0 ||
        (rc = route_table_new(&t->route_key, ROUTE_READERS, &t->routes)) != 0 ||
        (rc = mail_office_new(node->shard_count, &node->office)) != 0) {
        return rc;
    }
    rc = auth_new(node->config, node->shard_count, wake_shard, node, error, sizeof(error), &t->auth);
    if (rc) {
        log_event(LOG_ERROR, "auth_failed", {"error", LOG_STR(error)});
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
            .handler = i == CONTROL_SHARD && node->tables.admin ? &admin_shard_handler : &broker_shard_handler,
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

/* Wait until every shard looks at the present configuration and policy, and at nothing older. */
static void wait_for_shards(struct node *node)
{
    wake_all(node);
    for (unsigned i = 0; i < node->launched; i++) {
        while (atomic_load(&node->brokers[i].config_seen) != node->config ||
               atomic_load(&node->brokers[i].policy_seen) != atomic_load(&node->tables.auth->policy)) {
            sleep_ms(1);
        }
    }
}

/* Everything is read and right: put it in force, all at once, and free what was. */
static void put_in_force(struct node *node, struct config *config, struct auth_policy *policy,
                         struct tls_context **contexts, struct cluster_secrets *secrets)
{
    struct node_tables *t = &node->tables;
    struct config *old = node->config;

    for (unsigned i = 0; i < t->listener_count; i++) {
        contexts[i] = atomic_exchange(&t->listeners[i].tls_context, contexts[i]);
    }
    node_cluster_exchange(t->cluster, secrets);
    tls_tickets_renew(true); /* who was let in by what has been revoked does not resume */
    node->config = config;
    apply_limits(node, config);
    struct auth_policy *old_policy = auth_replace(t->auth, policy, config);
    atomic_store_explicit(&t->config, config, memory_order_release);
    wait_for_shards(node);
    auth_policy_unref(old_policy);
    for (unsigned i = 0; i < t->listener_count; i++) {
        tls_context_unref(contexts[i]);
    }
    node_cluster_secrets_deinit(secrets);
    if (old != node->origin) {
        config_free(old);
    }
}

/* How the clients of the present listeners may prove who they are under another configuration. Returns 0, or a negative
 * errno with a sentence in error. */
static int check_listeners(const struct node *node, const struct config *next, struct config *ret_probe, char *error,
                           size_t error_size)
{
    *ret_probe = *next; /* its texts are only looked at */
    memcpy(ret_probe->listeners, node->origin->listeners, sizeof(ret_probe->listeners));
    ret_probe->listener_count = node->origin->listener_count;
    return config_check(ret_probe, error, error_size);
}

/* SIGHUP: configuration, certificates, password file, rules -- either all of it is taken, or nothing. */
static void reload(struct node *node)
{
    char error[1024], restart[1024];
    struct tls_context *contexts[CONFIG_LISTENERS_MAX] = {0};
    struct auth_policy *policy = NULL;
    struct cluster_secrets secrets = {0};
    struct admin_terms *admin = NULL;
    struct config *next, probe;
    enum config_action action;

    if (config_load(node->sources->argc, node->sources->argv, node->sources->envp, error, sizeof(error), &action,
                    &next) != 0) {
        log_event(LOG_ERROR, "reload_failed", {"error", LOG_STR(error)}, {"kept", LOG_STR("everything in force")});
        reload_tell(&node->tables, false, error, "");
        return;
    }
    if (check_listeners(node, next, &probe, error, sizeof(error)) != 0 ||
        node_tls_read(&node->tables, contexts, error, sizeof(error)) != 0 ||
        node_cluster_read(node->tables.cluster, next, &secrets, error, sizeof(error)) != 0 ||
        admin_terms_read(next, error, sizeof(error), &admin) != 0 ||
        auth_policy_new(node->tables.auth, next, error, sizeof(error), &policy) != 0) {
        log_event(LOG_ERROR, "reload_failed", {"error", LOG_STR(error)}, {"kept", LOG_STR("everything in force")});
        for (unsigned i = 0; i < CONFIG_LISTENERS_MAX; i++) {
            tls_context_unref(contexts[i]);
        }
        node_cluster_secrets_deinit(&secrets);
        admin_terms_unref(admin);
        config_free(next);
        reload_tell(&node->tables, false, error, "");
        return;
    }
    config_restart_needed(node->origin, next, restart, sizeof(restart));
    if (restart[0]) {
        log_event(LOG_WARN, "restart_needed", {"keys", LOG_STR(restart)});
    }
    log_setup(STDERR_FILENO, (enum log_level)next->log_level, (enum log_format)next->log_format);
    for (unsigned i = 0; i < node->tables.listener_count; i++) {
        atomic_store(&node->tables.listeners[i].methods, probe.listeners[i].methods);
        atomic_store(&node->tables.listeners[i].anonymous, probe.listeners[i].anonymous);
    }
    put_in_force(node, next, policy, contexts, &secrets);
    admin_replace(node->tables.admin, admin);
    node_tls_watch(&node->tables, node->shards[CONTROL_SHARD]->metrics);
    log_event(LOG_INFO, "reloaded");
    reload_tell(&node->tables, true, "", restart);
}

/* When somebody has asked for the end by a signal. */
static bool asked_again(const sigset_t *signals)
{
    struct timespec moment = {.tv_nsec = DRAIN_LOOK_MS * 1000000};
    int signal = sigtimedwait(signals, NULL, &moment);

    return signal == SIGTERM || signal == SIGINT;
}

/* Clients a second: as configured, or more, so that all of them have gone in the time that is left. Who is alone
 * protects nobody by being slow. */
static uint32_t drain_rate(const struct node *node, uint64_t left, uint64_t time_ms)
{
    const struct node_cluster *cluster = node->tables.cluster;
    uint64_t needed = left * 1000 / (time_ms ? time_ms : 1) + 1;
    uint32_t rate = node->config->drain.rate;

    if (rate == 0 || !cluster || atomic_load(&cluster->neighbour_count) == 0) {
        return 0;
    }
    return needed > rate ? (uint32_t)(needed < UINT32_MAX ? needed : UINT32_MAX) : rate;
}

/* Part from the clients, as long as it may take. A second signal ends it at once; SIGINT, a person's, waits for no load
 * balancer. */
static void drain(struct node *node, const sigset_t *signals, int signal)
{
    const struct config *config = node->config;
    uint64_t end_ms = clock_mono_ns() / 1000000 + config->drain.grace_ms - STOP_MS;
    struct drain_state state = drain_state(&node->tables);
    bool waits = signal == SIGTERM && state.left > 0 && drain_readiness_watched(&node->tables);
    uint64_t wait_ms = waits ? config->drain.wait_ms : 0, most_ms = (config->drain.grace_ms - STOP_MS) / 2;

    wait_ms = wait_ms < most_ms ? wait_ms : most_ms;
    uint64_t time_ms = (config->drain.grace_ms - STOP_MS - wait_ms) / 2;
    drain_begin(&node->tables, drain_rate(node, state.left, time_ms), wait_ms);
    do {
        wake_all(node);
        if (asked_again(signals)) {
            log_event(LOG_INFO, "drain_cut_short", {"reason", LOG_STR("a second signal")});
            break;
        }
        state = drain_state(&node->tables);
    } while (state.stage != DRAIN_DONE && clock_mono_ns() / 1000000 < end_ms);
    log_event(LOG_INFO, "drain_ended", {"stage", LOG_STR(drain_stage_name(state.stage))},
              {"sent", LOG_INT((int64_t)state.sent)}, {"connections", LOG_INT((int64_t)state.left)});
}

static void run(struct node *node, const sigset_t *signals)
{
    struct timespec watch = {.tv_sec = CERTIFICATES_WATCH_S};
    time_t certificates_at = time(NULL) + CERTIFICATES_WATCH_S;
    int signal = 0;

    node_tls_watch(&node->tables, node->shards[CONTROL_SHARD]->metrics);
    while (signal != SIGTERM && signal != SIGINT) {
        if (node->tables.cluster) {
            watch.tv_sec = (time_t)node_cluster_look(node->tables.cluster, node->config);
            io_wake(node->shards[CONTROL_SHARD]->io);
        }
        signal = sigtimedwait(signals, NULL, &watch);
        if (signal == SIGHUP) {
            node_notify_reloading();
            reload(node);
            node_notify_ready();
        } else if (signal < 0 && errno == EAGAIN && time(NULL) >= certificates_at) {
            certificates_at = time(NULL) + CERTIFICATES_WATCH_S;
            tls_tickets_renew(false);
            node_tls_watch(&node->tables, node->shards[CONTROL_SHARD]->metrics);
        }
    }
    node_notify_stopping();
    log_event(LOG_INFO, "stopping", {"signal", LOG_STR(signal == SIGTERM ? "SIGTERM" : "SIGINT")});
    drain(node, signals, signal);
}

static void stop(struct node *node)
{
    atomic_store(&node->tables.stop_by_ms, clock_mono_ns() / 1000000 + STOP_MS);
    wake_all(node);
    for (unsigned i = 0; i < node->launched; i++) {
        shard_join(node->shards[i]);
    }
    auth_drain(node->tables.auth);
}

static void free_node(struct node *node)
{
    struct node_tables *t = &node->tables;

    if (t->store) {
        store_close(t->store);
    }
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
        tls_context_unref(atomic_load(&t->listeners[i].tls_context));
    }
    if (t->routes) {
        route_table_free(t->routes);
    }
    admin_free(t->admin);
    node_cluster_free(t->cluster);
    free(atomic_load(&t->reloaded));
    ledger_free(t->ledger);
    auth_free(t->auth);
    if (node->origin != node->config) {
        config_free(node->origin);
    }
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
    node->config = node->origin = config;
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
    if (open_store(node) != 0) {
        goto out;
    }
    if (node_cluster_open(config, node->tables.store, &node->tables.cluster) != 0) {
        goto out;
    }
    int rc = build_tables(node);
    rc = rc ? rc : recover_node(node);
    if (rc) {
        log_event(LOG_ERROR, "start_failed", {"error", LOG_STR(strerror(-rc))});
        goto out;
    }
    if (open_admin(node) != 0 || open_listeners(node) != 0) { /* clients come when it can be asked */
        goto out;
    }
    apply_limits(node, config);
    if (launch(node) == 0) {
        admin_launched(node->tables.admin);
        log_event(LOG_INFO, "started", {"version", LOG_STR(TERN_VERSION)}, {"shards", LOG_INT(node->shard_count)},
                  {"io", LOG_STR(io_name(node->shards[0]->io))}, {"pid", LOG_INT(getpid())});
        node_notify_ready();
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
