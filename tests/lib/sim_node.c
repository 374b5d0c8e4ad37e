#include "tests/lib/sim_node.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/conn/ledger.h"
#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/durable.h"
#include "broker/node_cluster.h"
#include "broker/topic/route_table.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define SETTLE_ROUNDS 50000u /* more than there are bytes to receive one by one: who comes here turns in a circle */
#define QUIET_ROUNDS 6u      /* a mail there, its answer, and a spare round for each */
#define EXPIRY_STEP_MS 50000u
#define STOP_MS 2000u /* as node.c */
#define BOOT_NS UINT64_C(1000000000000)

static uint64_t now_ns;
static uint64_t booted_ns; /* on the clock of now_ns */
static int64_t wall_offset_ms, wall_skew_ms;
static unsigned nodes_open;
static uint64_t random_state;

static uint64_t sim_mono_ns(void)
{
    return now_ns - booted_ns + BOOT_NS;
}

static uint64_t sim_wall_ms(void)
{
    return UINT64_C(1800000000000) + (uint64_t)(wall_offset_ms + wall_skew_ms) + now_ns / 1000000;
}

/* Chance without chance: the same node each time. */
static void sim_random(void *out, size_t len)
{
    uint8_t *at = out;

    for (size_t i = 0; i < len; i++) {
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        at[i] = (uint8_t)(random_state >> 56);
    }
}

static const struct clock_source sim_clock = {sim_mono_ns, sim_wall_ms, sim_random};

void sim_begin(uint64_t seed)
{
    now_ns = BOOT_NS;
    booted_ns = BOOT_NS;
    wall_offset_ms = wall_skew_ms = 0;
    random_state = seed;
}

void sim_reboot(void)
{
    booted_ns = now_ns;
}

void sim_wall_step(int64_t ms)
{
    wall_offset_ms += ms;
}

void sim_wall_skew(int64_t ms)
{
    wall_skew_ms = ms;
}

uint64_t sim_now_ms(void)
{
    return (now_ns - BOOT_NS) / 1000000;
}

uint64_t sim_wall_now_ms(void)
{
    return sim_wall_ms();
}

void sim_node_advance(uint64_t ms)
{
    now_ns += ms * 1000000;
}

static struct config *make_config(const char *const *settings)
{
    char *argv[64] = {"tern"}, *envp[] = {NULL}, error[512];
    int argc = 1;
    enum config_action action;
    struct config *config;

    for (; settings && *settings; settings++) {
        assert(argc < 62);
        argv[argc++] = "--set";
        argv[argc++] = (char *)*settings;
    }
    int rc = config_load(argc, argv, envp, error, sizeof(error), &action, &config);
    assert(rc == 0 && action == CONFIG_RUN);
    return config;
}

/* Nobody who would need a thread to be judged. */
static void make_auth(struct sim_node *n)
{
    static char nothing[] = "";
    int rc;

    n->policy = (struct auth_policy){.refs = 1, .version = 1, .connect_url = nothing, .rule_url = nothing};
    memset(&n->auth, 0, sizeof(n->auth));
    atomic_init(&n->auth.policy, &n->policy);
    rc = ban_list_new(&n->auth.bans);
    assert(rc == 0);
    rc = user_rates_new(&n->auth.rates);
    assert(rc == 0);
    n->tables.auth = &n->auth;
}

struct retained_replica *sim_replica;

static void make_tables(struct sim_node *n)
{
    struct node_tables *t = &n->tables;
    int rc;

    clock_random(&t->key, sizeof(t->key));
    if (t->store) {
        t->key = t->store->identity.hash_key; /* groups are the same at every start */
    }
    t->route_key = t->key;
    node_cluster_tables(t);
    stamp_start(t);
    t->shard_count = n->shard_count;
    t->started_ms = clock_mono_ns() / 1000000;
    atomic_init(&t->config, n->config);
    t->retained_quota.replica = sim_replica;
    t->retained_quota.count_max = n->config->limits.max_retained_messages;
    t->retained_quota.bytes_max = n->config->limits.max_retained_bytes;
    t->session_quota.max = n->config->limits.max_sessions;
    rc = ledger_new(0, 0, &t->ledger);
    assert(rc == 0);
    rc = route_table_new(&t->route_key, SHARDS_MAX, &t->routes);
    assert(rc == 0);
    rc = mail_office_new(n->shard_count, &n->office);
    assert(rc == 0);
    for (unsigned i = 0; i < SHARDS_MAX; i++) {
        route_table_asleep(t->routes, i);
    }
    make_auth(n);
    t->listener_count = 1;
    listener_init(&t->listeners[0], &n->config->listeners[0], t->ledger, t->auth->bans);
    t->listeners[0].packet_bytes_max = n->config->mqtt.max_packet_size;
    t->listeners[0].shard_count = n->shard_count;
    for (unsigned i = 0; i < SHARDS_MAX; i++) {
        t->listeners[0].fds[i] = SIM_LISTEN_FD + (int)i;
    }
}

static void make_cluster(struct sim_node *n)
{
    int rc = node_cluster_make(n->config, n->tables.store, &n->tables.cluster);

    assert(rc == 0);
    if (n->tables.cluster) {
        n->tables.cluster->listen_fd = SIM_PEERS_FD;
        n->tables.cluster->gossip_fd = SIM_PEERS_FD + 1;
    }
}

/* One of the store's threads would wake a shard: here all are turned anyway. */
static void wake_nobody(void *arg, unsigned owner)
{
    (void)arg;
    (void)owner;
}

static int recover_node(struct sim_node *n)
{
    struct broker *brokers[SIM_SHARDS_MAX];

    for (unsigned i = 0; i < n->shard_count; i++) {
        brokers[i] = &n->brokers[i];
    }
    int rc = recover(&n->tables, brokers, n->shard_count);
    return rc ? rc : store_start(n->tables.store, n->shard_count, wake_nobody, NULL);
}

static void start_shards(struct sim_node *n)
{
    for (unsigned i = 0; i < n->shard_count; i++) {
        struct shard_options options = {
            .index = i,
            .count = n->shard_count,
            .io = {.door = sim_door_open},
            .office = n->office,
            .peers = n->shards,
            .handler = &broker_shard_handler,
            .broker = &n->brokers[i],
        };
        int rc = shard_new(&options, &n->shards[i]);
        assert(rc == 0);
    }
}

int sim_node_start(struct sim_node *n, unsigned shard_count, const char *const *settings, struct store *store)
{
    assert(shard_count > 0 && shard_count <= SIM_SHARDS_MAX);
    clock_set(&sim_clock);
    memset(n, 0, sizeof(*n));
    sim_net_init(&n->net);
    sim_net_use(&n->net);
    n->shard_count = shard_count;
    n->config = make_config(settings);
    n->tables.store = store;
    nodes_open++;
    make_cluster(n);
    make_tables(n);
    conn_set_handler(&dispatch_conn_handler);
    log_setup(STDERR_FILENO, LOG_ERROR, LOG_TEXT);
    for (unsigned i = 0; i < shard_count; i++) {
        int rc = broker_init(&n->brokers[i], &n->tables, i, shard_count);
        assert(rc == 0);
    }
    int rc = store ? recover_node(n) : 0;
    if (rc == 0) {
        start_shards(n);
    }
    return rc;
}

void sim_node_open(struct sim_node *n, unsigned shard_count, const char *const *settings)
{
    sim_begin(1);
    int rc = sim_node_start(n, shard_count, settings, NULL);
    assert(rc == 0);
}

void sim_node_close(struct sim_node *n)
{
    for (unsigned i = 0; i < n->shard_count; i++) {
        shard_free(n->shards[i]);
    }
    if (n->tables.store) {
        store_close(n->tables.store);
    }
    for (unsigned i = 0; i < n->shard_count; i++) {
        while (mail_drain(n->office, i, 1024, dispatch_discard, NULL) > 0) {
        }
    }
    for (unsigned i = 0; i < n->shard_count; i++) {
        broker_release(&n->brokers[i]);
    }
    for (unsigned i = 0; i < n->shard_count; i++) {
        broker_deinit(&n->brokers[i]);
    }
    mail_office_free(n->office);
    route_table_free(n->tables.routes);
    node_cluster_free(n->tables.cluster);
    ledger_free(n->tables.ledger);
    ban_list_free(n->auth.bans);
    user_rates_free(n->auth.rates);
    config_free(n->config);
    sim_net_deinit(&n->net);
    if (--nodes_open == 0) {
        clock_set(NULL);
    }
}

void sim_node_turn(struct sim_node *n, unsigned shard)
{
    shard_turn(n->shards[shard % n->shard_count], true);
}

void sim_node_stop(struct sim_node *n)
{
    atomic_store(&n->tables.stop_by_ms, sim_mono_ns() / 1000000 + STOP_MS);
    sim_node_settle(n);
    for (unsigned i = 0; i < n->net.count; i++) {
        n->net.sockets[i].finished = true;
    }
    sim_node_settle(n);
    sim_node_advance(STOP_MS + 1);
    sim_node_settle(n);
}

/* A number that changes with whatever a turn does to the outside or to another shard. */
static uint64_t activity(const struct sim_node *n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n->net.count; i++) {
        const struct sim_socket *s = &n->net.sockets[i];
        sum += (uint64_t)s->to_broker.len + s->from_broker.len + s->accepted + s->closed + (s->stream != NULL);
    }
    for (unsigned i = 0; i < n->shard_count; i++) {
        sum += n->shards[i]->metrics->values[METRIC_PACKETS_RECEIVED] * 3 + n->shards[i]->busy;
    }
    return sum;
}

void sim_node_settle(struct sim_node *n)
{
    uint64_t before = UINT64_MAX;

    for (unsigned round = 0, quiet = 0; quiet < QUIET_ROUNDS; round++) {
        assert(round < SETTLE_ROUNDS);
        for (unsigned i = 0; i < n->shard_count; i++) {
            sim_node_turn(n, i);
        }
        bool written = n->disk && n->disk(n->disk_arg);
        uint64_t now = activity(n);
        quiet = now == before && !written ? quiet + 1 : 0;
        before = now;
    }
}

bool sim_ended(const struct sim_socket *s)
{
    if (s->closed) {
        return true;
    }
    if (!s->stream) {
        return false; /* between two shards, or not accepted yet */
    }
    const struct conn *conn = CONTAINER_OF(s->stream, struct conn, stream);
    return conn->state == CONN_CLOSED ||
           (conn->state == CONN_FINISHING && conn_out_bytes(conn) == 0 && !io_stream_sending(s->stream));
}

static const char *leftover_of(const struct sim_node *n, unsigned shard)
{
    const struct broker *b = &n->brokers[shard];

    for (unsigned g = shard; g < GROUPS; g += n->shard_count) {
        if (b->groups[g].sessions.count > 0) {
            return "a session";
        }
        if (b->groups[g].due_count > 0) {
            return "a session's due time";
        }
    }
    return !list_empty(&b->conns.all)             ? "a connection"
           : !list_empty(&b->receipts_all)        ? "a receipt"
           : !list_empty(&b->holds)               ? "a hold"
           : !list_empty(&b->jobs)                ? "a SUBSCRIBE that was never answered"
           : !list_empty(&b->replays)             ? "a replay"
           : b->share_subscriptions.count > 0     ? "a shared subscription"
           : topic_tree_filter_count(b->tree) > 0 ? "a subscription"
           : b->routes_pending > 0                ? "an announcement without answer"
           : mail_congested(n->office, shard)     ? "mail outside the rings"
                                                  : NULL;
}

const char *sim_node_leftover(struct sim_node *n)
{
    for (unsigned i = 0; i < n->net.count; i++) {
        n->net.sockets[i].finished = true;
        n->net.sockets[i].room = SIM_NO_LIMIT;
    }
    /* The longest life a test may ask for, in steps that let each timer fire in its own order. */
    for (unsigned i = 0; i < 6; i++) {
        sim_node_settle(n);
        sim_node_advance(i == 0 ? 6000 : EXPIRY_STEP_MS);
    }
    sim_node_settle(n);
    return sim_node_left(n);
}

const char *sim_node_left(const struct sim_node *n)
{
    for (unsigned i = 0; i < n->shard_count; i++) {
        const char *what = leftover_of(n, i);
        if (what) {
            return what;
        }
    }
    if (route_table_filter_count(n->tables.routes) > 0) {
        return "a route";
    }
    return atomic_load(&n->tables.session_quota.count) > 0 ? "a counted session" : NULL;
}
