/* What goes wrong between and with the nodes. Each seed leaves some of it out and makes other frequent. */
#include "proto/base/clock.h"
#include "tests/sim/cluster_inside.h"

#define STOP_GRACE_MS 2500u

static struct host *any_host(struct cluster *w)
{
    return &w->hosts[pick(w, w->host_count)];
}

static void uncut(struct cluster *w)
{
    memset(w->cut, 0, sizeof(w->cut));
    note(w, "heal", 0, 0);
}

/* Some nodes here, the others there; or one pair; or one way only. */
static void partition(struct cluster *w)
{
    unsigned kind = pick(w, 4), a = pick(w, w->host_count), b = (a + 1 + pick(w, w->host_count - 1)) % w->host_count;
    unsigned side = 1 + pick(w, (1u << w->host_count) - 2);

    if (w->heal_ms) {
        return;
    }
    for (unsigned i = 0; i < w->host_count; i++) {
        for (unsigned k = 0; k < w->host_count; k++) {
            bool apart = (side >> i & 1) != (side >> k & 1);
            w->cut[i][k] = kind == 0 ? apart : kind == 1 && (side >> i & 1) && apart;
        }
    }
    w->cut[a][b] |= kind >= 2;
    w->cut[b][a] |= kind == 2;
    w->heal_ms = sim_now_ms() + (one_in(w, 2) ? 100 + pick(w, 4000) : pick(w, 30000));
    note(w, "cut", kind, side);
}

static void reset_wire(struct cluster *w)
{
    unsigned first = pick(w, WIRES_MAX);

    for (unsigned i = 0; i < WIRES_MAX; i++) {
        struct wire *wire = &w->wires[(first + i) % WIRES_MAX];
        if (wire->used && wire->joined) {
            note(w, "reset", wire->ends[0].host, wire->ends[1].host);
            net_reset(w, wire);
            return;
        }
    }
}

static void pause_host(struct cluster *w)
{
    struct host *h = any_host(w);

    h->paused_until_ms = sim_now_ms() + (one_in(w, 2) ? pick(w, 1000) : pick(w, 15000));
    note(w, "pause", h->index, h->paused_until_ms);
}

static void end_host(struct cluster *w, struct host *h, bool crash)
{
    host_end(w, h, crash);
    h->back_at_ms = sim_now_ms() + (one_in(w, 2) ? pick(w, 1500) : pick(w, 25000));
}

static void crash_host(struct cluster *w)
{
    struct host *h = any_host(w);

    if (h->up) {
        end_host(w, h, true);
    }
}

static void stop_host(struct cluster *w)
{
    struct host *h = any_host(w);

    if (h->up && !h->stopping) {
        h->stopping = true;
        h->paused_until_ms = 0;
        h->back_at_ms = sim_now_ms() + STOP_GRACE_MS;
        atomic_store(&h->node.tables.stop_by_ms, clock_mono_ns() / 1000000 + STOP_GRACE_MS);
        note(w, "stopping", h->index, 0);
    }
}

/* Connections between nodes are slow, or quick, from now on. */
static void change_delay(struct cluster *w)
{
    static const uint32_t delays[] = {0, 3, 20, 100, 600};

    w->delay_ms = delays[pick(w, 5)];
    w->datagram_delay_ms = delays[pick(w, 5)];
}

static void cut_rover(struct cluster *w)
{
    rover_cut(w, &w->rovers[pick(w, w->rover_count)]);
}

/* Many sessions at once find another node. */
static void scatter(struct cluster *w)
{
    for (unsigned i = 0; i < w->rover_count; i++) {
        if (one_in(w, 3)) {
            rover_connect(w, &w->rovers[i], pick(w, w->host_count));
        }
    }
}

static const struct fault {
    void (*run)(struct cluster *w);
    unsigned seeds; /* one in so many has it */
    unsigned steps; /* and then in one of so many steps, or some times that */
} faults[] = {
    {partition, 2, 300}, {reset_wire, 2, 60},    {pause_host, 3, 200}, {crash_host, 2, 400},
    {stop_host, 5, 500}, {change_delay, 2, 100}, {cut_rover, 2, 40},   {scatter, 4, 200},
};

_Static_assert(sizeof(faults) / sizeof(faults[0]) <= FAULTS_MAX, "room for how often they are");

void faults_choose(struct cluster *w)
{
    static const unsigned percents[] = {0, 0, 0, 2, 10, 30};

    for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        w->fault_steps[i] = one_in(w, faults[i].seeds) ? faults[i].steps >> pick(w, 3) : 0;
    }
    w->delay_ms = pick(w, 10);
    w->datagram_delay_ms = pick(w, 10);
    w->drop_percent = percents[pick(w, 6)];
    w->twice_percent = percents[pick(w, 6)];
    w->refuse_percent = percents[pick(w, 6)];
}

static void go_on(struct cluster *w)
{
    uint64_t now = sim_now_ms();

    if (w->heal_ms && now >= w->heal_ms) {
        uncut(w);
        w->heal_ms = 0;
    }
    for (unsigned i = 0; i < w->host_count; i++) {
        struct host *h = &w->hosts[i];
        if (h->up && h->stopping && now >= h->back_at_ms) {
            end_host(w, h, false);
        } else if (!h->up && now >= h->back_at_ms) {
            h->shard_count = one_in(w, 3) ? 1 + pick(w, 2) : h->shard_count;
            host_start(w, h);
        }
    }
}

void faults_run(struct cluster *w)
{
    go_on(w);
    for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        if (w->fault_steps[i] && one_in(w, w->fault_steps[i])) {
            faults[i].run(w);
        }
    }
}

void faults_end(struct cluster *w)
{
    uncut(w);
    w->heal_ms = 0;
    w->drop_percent = w->twice_percent = w->refuse_percent = 0;
    w->delay_ms = w->datagram_delay_ms = 5;
    for (unsigned i = 0; i < w->host_count; i++) {
        struct host *h = &w->hosts[i];
        h->paused_until_ms = 0;
        if (h->up && h->stopping) {
            host_end(w, h, false);
        }
        if (!h->up) {
            host_start(w, h);
        }
    }
}
