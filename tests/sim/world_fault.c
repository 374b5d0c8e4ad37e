/* The steps of a story: what the world does between two looks of the checkers. */
#include <assert.h>

#include "broker/flow/durable.h"
#include "tests/sim/plant.h"
#include "tests/sim/world_inside.h"

#define TIDY_STEPS 18u
#define TIDY_MS 2000u

/* ---- ends of the node ---- */

/* What the kernel had already taken may still reach the clients, or a part of it. */
static void last_bytes(struct world *w)
{
    for (unsigned i = 0; i < w->link_count; i++) {
        struct link *l = &w->links[i];
        if (l->socket && !once_in(w, 3)) {
            link_receive(w, l, once_in(w, 2) ? SIZE_MAX : chance(w, 40));
        }
        link_lost(w, l);
    }
}

static void start_again(struct world *w)
{
    if (once_in(w, 3)) {
        sim_reboot();
    }
    sim_node_advance(once_in(w, 4) ? chance(w, 30000) : chance(w, 100));
    if (once_in(w, 3)) {
        w->shard_count = 1 + chance(w, SIM_SHARDS_MAX);
    }
    node_start(w);
}

void crash(struct world *w)
{
    w->result->crashes++;
    last_bytes(w);
    if (w->disk) {
        size_t waiting = mem_store_waiting(w->disk);
        mem_store_crash(w->disk, once_in(w, 3) ? 0 : chance(w, (uint32_t)waiting + 1));
        trace_number(w, "crash", waiting);
    }
    party_node_ended(party_now(w), w->disk != NULL);
    sim_node_close(&w->node);
    w->up = false;
    if (w->disk && w->can_damage && once_in(w, 4)) {
        trace_number(w, "damage", 0);
        w->party.damaged = true;
        mem_store_damage_batch(w->disk, chance(w, 1000));
        mem_store_damage_row(w->disk, chance(w, 1000));
    }
    start_again(w);
}

void stop(struct world *w)
{
    w->result->stops++;
    trace_number(w, "stop", 0);
    for (unsigned i = 0; i < w->link_count; i++) { /* from now on each of them may end, while the clock moves */
        struct link *l = &w->links[i];
        l->ended_ms = l->socket && l->ended_ms == 0 ? now_ms() : l->ended_ms;
    }
    sim_node_stop(&w->node);
    links_pump(w);
    last_bytes(w);
    party_node_ended(party_now(w), w->disk != NULL);
    sim_node_close(&w->node);
    w->up = false;
    start_again(w);
}

void heal(struct world *w)
{
    if (w->disk) {
        w->room = MEM_ROOM;
        mem_store_set_room(w->disk, w->room);
    }
    for (unsigned i = 0; i < w->link_count; i++) {
        if (w->links[i].socket) {
            w->links[i].socket->room = SIM_NO_LIMIT;
        }
    }
}

/* ---- what goes on anyway ---- */

static struct link *any_link(struct world *w)
{
    return &w->links[chance(w, w->link_count)];
}

static bool turn(struct world *w)
{
    sim_node_turn(&w->node, chance(w, w->shard_count));
    return true;
}

static bool turn_all(struct world *w)
{
    for (unsigned i = 0; i < w->shard_count; i++) {
        sim_node_turn(&w->node, i);
    }
    return true;
}

static bool act(struct world *w)
{
    struct link *l = any_link(w);

    if (!l->socket && w->party.guest[l->index].shy && !once_in(w, 20)) {
        return false;
    }
    return l->socket ? link_act(w, l) : link_connect(w, l);
}

static bool connect_one(struct world *w)
{
    return link_connect(w, any_link(w)); /* it may have a connection: it takes over */
}

static bool send_piece(struct world *w)
{
    return link_send(w, any_link(w), once_in(w, 2));
}

static bool receive_piece(struct world *w)
{
    return link_receive(w, any_link(w), once_in(w, 2) ? 1 + chance(w, 30) : SIZE_MAX);
}

static bool pump(struct world *w)
{
    bool done = links_pump(w);
    turn_all(w);
    return done;
}

static bool tick(struct world *w)
{
    static const uint32_t most[] = {2, 20, 200, 1200, 1200, 6000};
    uint32_t ms = 1 + chance(w, most[chance(w, COUNT_OF(most))]);

    sim_node_advance(ms);
    trace_number(w, "clock", ms);
    return true;
}

static bool commit(struct world *w)
{
    bool done = w->disk && mem_store_commit(w->disk, once_in(w, 2) ? 1 + chance(w, 3) : SIZE_MAX);

    if (done) {
        trace_number(w, "commit", store_durable(w->node.tables.store));
    }
    return done;
}

static bool checkpoint(struct world *w)
{
    return w->disk && mem_store_checkpoint(w->disk);
}

static bool read_page(struct world *w)
{
    return w->disk && mem_store_read(w->disk);
}

/* ---- what goes wrong ---- */

static bool reset(struct world *w)
{
    struct link *l = any_link(w);

    if (!l->socket) {
        return false;
    }
    if (once_in(w, 2)) {
        l->socket->reset = true;
    } else {
        l->socket->finished = true; /* what is on its way still arrives */
    }
    link_lost(w, l);
    return true;
}

static bool slow_reader(struct world *w)
{
    struct link *l = any_link(w);

    if (!l->socket) {
        return false;
    }
    l->socket->room = once_in(w, 2) ? SIM_NO_LIMIT : chance(w, 200);
    return true;
}

static bool set_clock(struct world *w)
{
    int64_t ms = (int64_t)chance(w, 20000) - 10000;

    sim_wall_step(ms);
    trace_number(w, "wall", (uint64_t)ms);
    w->party.clock_set = true;
    return true;
}

static bool long_wait(struct world *w)
{
    sim_node_advance(1000 + chance(w, 40000));
    return true;
}

static bool crash_now(struct world *w)
{
    crash(w);
    return true;
}

static bool stop_now(struct world *w)
{
    stop(w);
    return true;
}

static bool fill_disk(struct world *w)
{
    if (!w->disk) {
        return false;
    }
    w->room = w->room == MEM_ROOM ? (enum mem_room)(1 + chance(w, 2)) : MEM_ROOM;
    trace_number(w, "room", w->room);
    mem_store_set_room(w->disk, w->room);
    w->party.lossy = true; /* what is refused may have reached some */
    return true;
}

/* Somebody makes room: it is full for a while, not for the rest of the story. */
static bool make_room(struct world *w)
{
    return w->room != MEM_ROOM && fill_disk(w);
}

static bool fail_commit(struct world *w)
{
    if (!w->disk) {
        return false;
    }
    mem_store_fail(w->disk);
    return true;
}

static bool hurry(struct world *w)
{
    for (unsigned i = 0; w->disk && i < w->shard_count; i++) {
        checkpoint_hurry(&w->node.brokers[i]);
    }
    return w->disk != NULL;
}

static bool link_of(const struct world *w, const struct sim_socket *s)
{
    bool found = false;

    for (unsigned i = 0; i < w->link_count; i++) {
        found |= w->links[i].socket == s;
    }
    return found;
}

/* All that the clients have said was handled, and no connection is left that they have given up. */
static bool all_heard(struct world *w)
{
    for (unsigned i = 0; i < w->link_count; i++) {
        const struct sim_socket *s = w->links[i].socket;
        if (s && (!s->stream || s->to_broker.len > 0 || link_conn(&w->links[i])->state != CONN_OPEN ||
                  link_conn(&w->links[i])->in.len > 0)) {
            return false;
        }
    }
    for (unsigned i = 0; i < w->node.net.count; i++) { /* those that nobody holds any more */
        const struct sim_socket *s = &w->node.net.sockets[i];
        if (!link_of(w, s) && !sim_ended(s)) {
            return false;
        }
    }
    return true;
}

/* Everything that is on its way arrives, everything that was noticed is on the disk. */
static bool settle(struct world *w)
{
    links_pump(w);
    sim_node_settle(&w->node);
    if (all_heard(w) &&
        (!w->disk || (mem_store_waiting(w->disk) == 0 && store_status(w->node.tables.store) == STORE_OPEN))) {
        party_settled(party_now(w));
    }
    return true;
}

/* All groups come into the state, and the log is trimmed: with few crashes in between that takes half a minute. */
static bool tidy(struct world *w)
{
    for (unsigned i = 0; w->disk && i < TIDY_STEPS; i++) {
        sim_node_advance(TIDY_MS);
        sim_node_settle(&w->node);
        links_look(w); /* a session's interval begins when its connection ends */
    }
    if (w->disk && once_in(w, 2)) {
        crash(w); /* now the state alone must do */
    }
    return w->disk != NULL;
}

const struct operation operations[] = {
    {"turn", turn, 60, 0},
    {"turn all", turn_all, 20, 0},
    {"act", act, 90, 0},
    {"send", send_piece, 30, 0},
    {"receive", receive_piece, 30, 0},
    {"pump", pump, 40, 0},
    {"settle", settle, 4, 0},
    {"tick", tick, 15, 0},
    {"tidy", tidy, 1, 2},
    {"commit", commit, 25, 0},
    {"checkpoint", checkpoint, 6, 0},
    {"read", read_page, 8, 0},
    {"make room", make_room, 6, 0},
    {"connect", connect_one, 2, 2},
    {"reset", reset, 3, 2},
    {"slow reader", slow_reader, 4, 2},
    {"set clock", set_clock, 1, 3},
    {"long wait", long_wait, 1, 2},
    {"crash", crash_now, 1, 2},
    {"stop", stop_now, 1, 3},
    {"fill disk", fill_disk, 1, 6},
    {"fail commit", fail_commit, 1, 3},
    {"hurry", hurry, 3, 2},
};
const unsigned operation_count = COUNT_OF(operations);
