#include "tests/sim/world.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/hash.h"
#include "proto/base/log.h"
#include "tests/sim/plant.h"
#include "tests/sim/world_inside.h"

#define STEPS_MIN 300u
#define STEPS_SPREAD 2700u
#define DRAIN_ROUNDS 4000u /* until nothing more comes: who takes one message at a time needs three for each */
#define CALM_MS 1000u
#define CALM_ROUNDS 10u
#define LATE_ROUND 9u /* then wills may come whose clients stay away */
#define LATE_MS 15000u

bool world_strict;

/* ---- chance and trace ---- */

uint32_t chance(struct world *w, uint32_t bound)
{
    return prng_below(&w->prng, bound);
}

void trace_bytes(struct world *w, const char *what, unsigned who, struct slice bytes)
{
    struct hash_key key = {w->trace, w->step << 8 | who};

    w->trace = hash_keyed(&key, slice_str(what)) ^ hash_keyed(&key, bytes);
    if (w->verbose) {
        printf("%6llu %-12s %u:", (unsigned long long)w->step, what, who);
        for (size_t i = 0; i < bytes.len && i < 600; i++) {
            printf(" %02x", bytes.ptr[i]);
        }
        printf(bytes.len > 600 ? " ... (%zu)\n" : "\n", bytes.len);
    }
}

void trace_number(struct world *w, const char *what, uint64_t number)
{
    struct hash_key key = {w->trace, w->step};

    w->trace = hash_keyed(&key, slice_str(what)) ^ hash_mix(number);
    if (w->verbose) {
        printf("%6llu %-12s %llu\n", (unsigned long long)w->step, what, (unsigned long long)number);
    }
}

void violated(struct world *w, const char *format, ...)
{
    va_list arguments;

    if (w->result->violation[0]) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(w->result->violation, sizeof(w->result->violation), format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s\n", w->result->violation); /* should the node not even be closed any more */
}

uint64_t now_ms(void)
{
    return sim_now_ms();
}

/* ---- the node ---- */

static bool work_disk(void *arg)
{
    struct world *w = arg;
    size_t waiting = mem_store_waiting(w->disk);
    uint64_t before = mem_store_counts(w->disk)->checkpoints + mem_store_counts(w->disk)->reads;

    mem_store_settle(w->disk);
    return waiting != mem_store_waiting(w->disk) ||
           before != mem_store_counts(w->disk)->checkpoints + mem_store_counts(w->disk)->reads;
}

void node_start(struct world *w)
{
    struct store *store = NULL;

    if (w->disk) {
        store = mem_store_open(w->disk);
        plant_store(store);
    }
    int rc = sim_node_start(&w->node, w->shard_count, w->settings, store);
    if (rc) {
        violated(w, "the node could not start again: error %d", rc);
        return;
    }
    log_setup(2, w->verbose ? LOG_INFO : LOG_ERROR, LOG_TEXT);
    w->up = true;
    if (w->disk) {
        w->node.disk = work_disk;
        w->node.disk_arg = w;
    }
    w->party.split = w->shard_count > 1 && !world_strict;
    trace_number(w, "start", w->shard_count);
}

/* ---- the beginning ---- */

static void set(struct world *w, const char *setting)
{
    assert(w->settings_count < SETTINGS_MAX);
    w->settings[w->settings_count++] = setting;
}

static void choose_settings(struct world *w)
{
    set(w, "sys_interval=0");
    set(w, "mqtt.max_session_expiry=200s");
    if (once_in(w, 4)) {
        w->small_queues = true;
        set(w, "limits.max_queued_messages=6");
        if (once_in(w, 2)) {
            set(w, "limits.queue_overflow=drop_oldest");
        }
    }
    if (once_in(w, 4)) {
        set(w, "limits.max_outbox_bytes=4KiB");
    }
    if (once_in(w, 3)) {
        set(w, once_in(w, 2) ? "limits.backpressure=1s" : "limits.backpressure=0");
    }
    if (once_in(w, 3)) {
        set(w, once_in(w, 2) ? "mqtt.receive_maximum=2" : "mqtt.receive_maximum=20");
    }
    if (once_in(w, 4)) {
        set(w, "mqtt.max_inflight=3");
    }
}

/* Each fault is left out by some seeds and frequent in others. */
static void choose_operations(struct world *w)
{
    static const unsigned frequency[] = {1, 1, 2, 4, 8};

    assert(operation_count <= OPERATIONS_MAX);
    for (unsigned i = 0; i < operation_count; i++) {
        unsigned rare = operations[i].rare;
        unsigned n = rare == 0 ? 1 + chance(w, 5) : once_in(w, rare) ? frequency[chance(w, COUNT_OF(frequency))] : 0;
        w->weights[i] = operations[i].weight * n;
        w->weight_sum += w->weights[i];
    }
}

static void begin(struct world *w, uint64_t seed)
{
    prng_seed(&w->prng, seed);
    plant_reset();
    sim_begin(prng_next(&w->prng));
    w->shard_count = 1 + chance(w, SIM_SHARDS_MAX);
    w->can_damage = once_in(w, 20);
    choose_settings(w);
    choose_operations(w);
    if (!once_in(w, 20)) {
        w->disk = mem_store_new(prng_next(&w->prng));
    }
    links_init(w);
    w->party.lossy = w->small_queues || w->can_damage;
    node_start(w);
}

/* ---- the story ---- */

static const struct operation *choose_operation(struct world *w)
{
    uint32_t at = chance(w, w->weight_sum);
    unsigned i = 0;

    while (at >= w->weights[i]) {
        at -= w->weights[i++];
    }
    return &operations[i];
}

static void look(struct world *w)
{
    links_look(w);
    if (w->party.wrong[0]) {
        violated(w, "step %llu: %s", (unsigned long long)w->step, w->party.wrong);
    }
    if (w->up && w->disk && store_status(w->node.tables.store) == STORE_FAILED) {
        crash(w); /* node.c ends the process */
    }
}

static void tell(struct world *w)
{
    uint32_t steps = STEPS_MIN + chance(w, chance(w, 3) ? STEPS_SPREAD / 3 : STEPS_SPREAD);

    for (w->step = 1; w->step <= steps && !w->result->violation[0]; w->step++) {
        const struct operation *operation = choose_operation(w);
        bool done = operation->run(w);
        if (w->verbose && done) {
            printf("%6llu %s\n", (unsigned long long)w->step, operation->name);
        }
        if (!w->up) {
            return;
        }
        look(w);
    }
}

/* ---- the end ---- */

/* Until nobody has anything more to say, while the clock stands still. */
static void calm(struct world *w)
{
    unsigned round = 0;

    do {
        sim_node_settle(&w->node);
        if (++round > DRAIN_ROUNDS) {
            violated(w, "clients and node find no end");
            return;
        }
        w->step++;
        look(w);
    } while (links_pump(w) && !w->result->violation[0]);
}

/* Everything is well again: who has a session fetches what waits for it. */
static void drain(struct world *w)
{
    heal(w);
    look(w);
    for (unsigned i = 1; i < w->link_count; i++) {
        w->party.guest[i].away =
            w->party.guest[i].shy && once_in(w, 2) && !w->links[i].socket && !w->party.guest[i].in_share;
    }
    for (unsigned round = 1; round <= CALM_ROUNDS && !w->result->violation[0]; round++) {
        w->party.calm_ms = round == 1 ? now_ms() : w->party.calm_ms;
        w->party.calm = round;
        for (unsigned i = 0; i < w->link_count; i++) {
            if (!w->links[i].socket && !w->party.guest[i].away) {
                link_connect(w, &w->links[i]);
            }
        }
        calm(w);
        sim_node_advance(round < LATE_ROUND ? CALM_MS : LATE_MS);
        trace_number(w, "clock", round);
    }
}

static void leave(struct world *w)
{
    const char *left;

    for (unsigned i = 0; i < w->link_count; i++) {
        link_lost(w, &w->links[i]);
    }
    if (!w->result->violation[0] && (left = sim_node_leftover(&w->node)) != NULL) {
        violated(w, "all have gone and expired, but %s is left", left);
    }
}

static void end(struct world *w)
{
    struct world_result *r = w->result;

    if (w->up) {
        sim_node_close(&w->node);
    }
    r->steps = w->step;
    r->sim_ms = now_ms();
    r->trace = w->trace;
    if (w->disk) {
        const struct mem_store_counts *counts = mem_store_counts(w->disk);
        r->commits = counts->commits;
        r->checkpoints = counts->checkpoints;
        r->pages = counts->reads;
        r->trimmed = counts->trimmed;
    }
    links_deinit(w);
    mem_store_free(w->disk);
}

void world_run(uint64_t seed, bool verbose, struct world_result *ret_result)
{
    struct world *w = calloc(1, sizeof(*w));

    assert(w);
    *ret_result = (struct world_result){.seed = seed};
    w->result = ret_result;
    w->verbose = verbose;
    begin(w, seed);
    tell(w);
    if (w->up && !ret_result->violation[0]) {
        drain(w);
        party_judge(party_now(w));
        look(w);
        leave(w);
    }
    end(w);
    free(w);
}
