#include "broker/flow/drain.h"

#include "broker/conn/pipe.h"
#include "broker/flow/cluster.h"
#include "broker/flow/driver.h"
#include "broker/flow/flow.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define LOOKED_AT_A_TURN 1024u
#define SENT_A_TURN 256u
#define TOLD_MS 5000u
#define WATCHED_MS 60000u /* who looks at the readiness looks at least as often */
#define SETTLED_TURNS 3u  /* mail that another shard has sent before it was done has come by then */

static uint64_t mono_ms(void)
{
    return clock_mono_ns() / 1000000;
}

/* ---- for any thread ---- */

const char *drain_stage_name(enum drain_stage stage)
{
    static const char *const names[] = {
        [DRAIN_NONE] = "none", [DRAIN_WAITING] = "waiting", [DRAIN_SENDING] = "sending", [DRAIN_DONE] = "done"};

    return names[stage];
}

void drain_begin(struct node_tables *node, uint32_t rate, uint64_t wait_ms)
{
    struct drain *d = &node->drain;
    uint64_t now = mono_ms(), from = now + wait_ms, before = atomic_load(&d->from_ms);

    if (before == 0) {
        atomic_store(&d->sent, 0);
        atomic_store(&d->done, 0);
    } else if (before < from && before > now) {
        from = before;
    } else if (before <= now) {
        from = now;
    }
    atomic_store(&d->rate, rate);
    atomic_store(&d->given, 0);
    atomic_store(&d->from_ms, from ? from : 1);
}

void drain_stop(struct node_tables *node)
{
    atomic_store(&node->drain.from_ms, 0);
}

void drain_readiness_asked(struct node_tables *node)
{
    atomic_store(&node->drain.asked_ms, mono_ms());
}

bool drain_readiness_watched(const struct node_tables *node)
{
    uint64_t asked = atomic_load(&node->drain.asked_ms);

    return asked != 0 && mono_ms() - asked < WATCHED_MS;
}

static uint64_t connections(const struct node_tables *node)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < node->shard_count; i++) {
        const struct metrics *m = __atomic_load_n(&node->metrics[i], __ATOMIC_ACQUIRE);
        count += m ? __atomic_load_n(&m->values[METRIC_SOCKETS], __ATOMIC_RELAXED) : 0;
    }
    return (int64_t)count > 0 ? count : 0; /* a connection may be counted by one shard and forgotten by another */
}

static uint64_t all_shards(const struct node_tables *node)
{
    return node->shard_count >= 64 ? UINT64_MAX : (1ull << node->shard_count) - 1;
}

struct drain_state drain_state(const struct node_tables *node)
{
    const struct drain *d = &node->drain;
    uint64_t from = atomic_load(&d->from_ms), now = mono_ms();
    struct drain_state state = {.rate = atomic_load(&d->rate), .left = connections(node)};

    if (from == 0) {
        return state;
    }
    state.sent = atomic_load(&d->sent);
    if (from > now) {
        state.stage = DRAIN_WAITING;
        state.wait_left_ms = from - now;
    } else {
        state.stage = atomic_load(&d->done) == all_shards(node) ? DRAIN_DONE : DRAIN_SENDING;
    }
    return state;
}

/* ---- a shard's part ---- */

/* Whether one more client may be sent away now. */
static bool take_turn(struct drain *d, uint64_t from_ms, uint64_t now_ms)
{
    uint32_t rate = atomic_load(&d->rate);
    uint64_t given = atomic_load(&d->given);
    uint64_t due = (now_ms - from_ms) * rate / 1000 + 1;

    while (rate == 0 || given < due) {
        if (atomic_compare_exchange_weak(&d->given, &given, given + 1)) {
            return true;
        }
    }
    return false;
}

static enum mqtt_reason last_word(const struct drain *d)
{
    return atomic_load(&d->others) > 0 ? MQTT_USE_ANOTHER_SERVER : MQTT_SERVER_SHUTTING_DOWN;
}

/* Look at connections, each once, and put them behind the others. Returns whether there is none left to send away. */
static bool send_away_some(struct broker *b, struct drain *d, uint64_t from_ms)
{
    struct list *all = &b->conns.all, *last = all->prev, *at = NULL;
    unsigned sent = 0;
    bool clean = true;

    for (unsigned n = 0; !list_empty(all) && at != last && n < LOOKED_AT_A_TURN && sent < SENT_A_TURN; n++) {
        at = all->next;
        struct conn *conn = CONTAINER_OF(at, struct conn, in_shard);
        if (conn->state == CONN_OPEN && !(attach_is(conn) && attach_leaving(conn))) {
            clean = false;
            if (!take_turn(d, from_ms, b->shard->now_ms)) {
                return false; /* it stays in front */
            }
            sent++;
            atomic_fetch_add(&d->sent, 1);
            broker_metric(b, METRIC_CLIENTS_DRAINED, 1);
        }
        list_remove(at);
        list_append(all, at);
        if (conn->state == CONN_OPEN) {
            goodbye_leave(conn, last_word(d)); /* may free it */
        }
    }
    bool whole = list_empty(all) || at == last;
    b->shard->busy |= !whole;
    return whole && clean;
}

/* The control shard tells others, and the log. */
static void tell(struct broker *b, struct drain *d, bool drains)
{
    uint64_t now_ms = b->shard->now_ms;

    if (!drains && d->told_ms == 0) {
        return;
    }
    struct drain_state state = drain_state(b->node);
    if (b->node->cluster) {
        driver_draining(b, drains);
        atomic_store(&d->others, driver_open_nodes(b));
    }
    if (!drains) {
        log_event(LOG_INFO, "drain_stopped", {"sent", LOG_INT((int64_t)state.sent)});
        d->told_ms = 0;
    } else if (d->told_ms == 0 || now_ms - d->told_ms >= TOLD_MS) {
        log_event(LOG_INFO, d->told_ms ? "drain_progress" : "drain_begun",
                  {"stage", LOG_STR(drain_stage_name(state.stage))}, {"wait_ms", LOG_INT((int64_t)state.wait_left_ms)},
                  {"rate", LOG_INT(state.rate)}, {"sent", LOG_INT((int64_t)state.sent)},
                  {"connections", LOG_INT((int64_t)state.left)}, {"other_nodes", LOG_INT(atomic_load(&d->others))});
        d->told_ms = now_ms;
    }
}

void drain_turn(struct broker *b)
{
    struct drain *d = &b->node->drain;
    uint64_t from_ms = atomic_load(&d->from_ms), bit = 1ull << b->shard->index;

    if (b->shard->index == CONTROL_SHARD) {
        tell(b, d, from_ms != 0);
    }
    b->draining = from_ms != 0 && b->shard->now_ms >= from_ms;
    if (!b->draining || b->stopping) {
        return;
    }
    if (send_away_some(b, d, from_ms)) {
        atomic_fetch_or(&d->done, bit);
    } else {
        atomic_fetch_and(&d->done, ~bit);
    }
}

bool drain_settled(struct broker *b)
{
    atomic_uint_least64_t *settled = &b->node->drain.settled;
    uint64_t bit = 1ull << b->shard->index;

    if (!b->node->cluster) {
        return true;
    }
    if (!forward_settled(b)) {
        atomic_fetch_and(settled, ~bit);
        b->settled_turns = 0;
        return false;
    }
    if ((atomic_fetch_or(settled, bit) | bit) != all_shards(b->node)) {
        b->settled_turns = 0;
        return false;
    }
    b->shard->busy = true;
    return ++b->settled_turns >= SETTLED_TURNS;
}

enum mqtt_reason drain_refusal(const struct broker *b, const struct conn *conn)
{
    if (!b->stopping && !b->draining) {
        return MQTT_SUCCESS;
    }
    /* Who comes from another node comes for its session, which is here: another server would only send it back. */
    return conn_pipe_of(conn) || atomic_load(&b->node->drain.others) == 0 ? MQTT_SERVER_UNAVAILABLE
                                                                          : MQTT_USE_ANOTHER_SERVER;
}
