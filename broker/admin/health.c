/* health.c -- /livez: every shard's loop turns; /readyz: clients may be sent here.
 *
 * A shard that sleeps turns when it is woken: each second those that have not turned of themselves are. Who does not
 * within LIVE_MS is stuck. Nothing of the cluster counts for /livez: a node that is alone must not be started anew for
 * it. */
#include "broker/admin/admin_inside.h"
#include "broker/flow/cluster.h"

#define PULSE_MS 1000u
#define LIVE_MS 10000u /* longer than a loaded machine makes a thread wait */

static void pulse(struct timer *timer, uint64_t now_ms)
{
    struct admin *admin = CONTAINER_OF(timer, struct admin, pulse);
    struct shard *shard = admin->shard;

    for (unsigned i = 0; atomic_load(&admin->launched) && i < shard->count; i++) {
        const struct metrics *m = __atomic_load_n(&admin->broker->node->metrics[i], __ATOMIC_ACQUIRE);
        uint64_t turns = m ? __atomic_load_n(&m->values[METRIC_TURNS], __ATOMIC_RELAXED) : 0;
        if (turns != admin->turns[i] || admin->turned_ms[i] == 0) {
            admin->turns[i] = turns;
            admin->turned_ms[i] = now_ms;
        }
        if (i != shard->index) {
            io_wake(shard->peers[i]->io);
        }
    }
    admin_disk_look(admin);
    timer_set(shard->timers, timer, now_ms + PULSE_MS);
}

void admin_health_start(struct admin *admin)
{
    timer_init(&admin->pulse, pulse);
    timer_set(admin->shard->timers, &admin->pulse, admin->shard->now_ms + PULSE_MS);
}

static bool shard_lives(const struct admin *admin, unsigned i)
{
    return admin->turned_ms[i] == 0 || i == admin->shard->index || admin->shard->now_ms < admin->turned_ms[i] + LIVE_MS;
}

static bool wants_all(const struct admin_request *r)
{
    struct buf value = {0};
    int rc = admin_query(r, "verbose", &value);

    buf_deinit(&value);
    return rc == 1;
}

static void answer(struct admin_request *r, bool ok, struct buf *body)
{
    admin_reply(r, ok ? 200 : 503, "text/plain; charset=utf-8", body);
}

static void livez(struct admin_request *r)
{
    const struct admin *admin = admin_conn_of(r)->admin;
    struct buf body = {0};
    bool all = wants_all(r), ok = true;

    for (unsigned i = 0; i < admin->shard->count; i++) {
        bool lives = shard_lives(admin, i);
        ok = ok && lives;
        if (all || !lives) {
            admin_printf(&body, "[%s] shard %u: %s\n", lives ? "+" : "-", i, lives ? "turns" : "does not turn");
        }
    }
    admin_printf(&body, "%s\n", ok ? "ok" : "a shard's loop does not turn");
    answer(r, ok, &body);
}

static void readyz(struct admin_request *r)
{
    const struct admin *admin = admin_conn_of(r)->admin;
    struct node_tables *node = r->broker->node;
    const char *why = node_unready(node);
    struct buf body = {0};
    bool launched = atomic_load(&admin->launched);

    drain_readiness_asked(node);
    if (wants_all(r)) {
        admin_printf(&body, "[%s] shards: %s\n", launched ? "+" : "-", launched ? "all run" : "are being started");
        admin_printf(&body, "[+] listeners: %u open\n", node->listener_count);
        admin_printf(&body, "[%s] %s: %s\n", why ? "-" : "+", node->cluster ? "cluster" : "node",
                     why             ? why
                     : node->cluster ? "it belongs to one, and knows all members and all their filters"
                                     : "it is one by itself");
    }
    admin_printf(&body, "%s\n", why ? why : launched ? "ok" : "it is being started");
    answer(r, launched && !why, &body);
}

static const struct admin_route routes[] = {
    {ADMIN_GET, "/livez", ADMIN_ANYBODY, livez},
    {ADMIN_GET, "/readyz", ADMIN_ANYBODY, readyz},
};

const struct admin_table admin_health_table = {routes, COUNT_OF(routes)};
