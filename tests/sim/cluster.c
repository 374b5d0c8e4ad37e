#include "tests/sim/cluster.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/node_cluster.h"
#include "proto/base/hash.h"
#include "proto/base/log.h"
#include "tests/sim/cluster_inside.h"
#include "tests/sim/plant.h"

#define STEPS_MIN 600u
#define STEPS_SPREAD 1400u
#define CALM_STEP_MS 40u
#define LATE_STEPS 50u
#define CALM_MS 75000u     /* routes withdrawn, digests compared, the dead asked */
#define SPEAK_AT_MS 50000u /* then everybody publishes once more */
#define LEAVE_STEP_MS 200u
#define LEAVE_MS 200000u /* the longest session, a withdrawal, and a digest */
#define STOP_MS 2000u

/* ---- chance and trace ---- */

uint32_t pick(struct cluster *w, uint32_t bound)
{
    return prng_below(&w->prng, bound);
}

void note(struct cluster *w, const char *what, unsigned who, uint64_t number)
{
    struct hash_key key = {w->trace, w->step << 8 | who};

    w->trace = hash_keyed(&key, slice_str(what)) ^ hash_mix(number);
    if (w->verbose) {
        printf("%6llu %8llu ms  %-12s %u: %llu\n", (unsigned long long)w->step, (unsigned long long)sim_now_ms(), what,
               who, (unsigned long long)number);
    }
}

void note_bytes(struct cluster *w, const char *what, unsigned who, struct slice bytes)
{
    struct hash_key key = {w->trace, w->step << 8 | who};

    w->trace = hash_keyed(&key, slice_str(what)) ^ hash_keyed(&key, bytes);
    if (w->verbose && what[0] != 'd') {
        printf("%6llu %8llu ms  %-12s %u:", (unsigned long long)w->step, (unsigned long long)sim_now_ms(), what, who);
        for (size_t i = 0; i < bytes.len && i < 600; i++) {
            printf(" %02x", bytes.ptr[i]);
        }
        printf(bytes.len > 600 ? " ... (%zu)\n" : "\n", bytes.len);
    }
}

void wrong(struct cluster *w, const char *format, ...)
{
    va_list arguments;
    char text[900];

    if (w->result->violation[0]) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    snprintf(w->result->violation, sizeof(w->result->violation), "step %llu: %s", (unsigned long long)w->step, text);
    fprintf(stderr, "%s\n", w->result->violation);
}

/* ---- nodes ---- */

void host_start(struct cluster *w, struct host *h)
{
    struct store *store = mem_store_open(h->disk);

    sim_wall_skew(h->skew_ms);
    int rc = sim_node_start(&h->node, h->shard_count, h->settings, store);
    if (rc) {
        wrong(w, "node %u could not start: error %d", h->index, rc);
        return;
    }
    log_setup(w->verbose ? 2 : w->log_fd, w->verbose ? LOG_INFO : LOG_WARN, LOG_TEXT);
    net_use(w, h);
    h->up = true;
    h->stopping = false;
    h->life++;
    h->paused_until_ms = 0;
    h->look_ms = sim_now_ms();
    note(w, "start", h->index, h->shard_count);
}

void host_end(struct cluster *w, struct host *h, bool crash)
{
    note(w, crash ? "crash" : "stop", h->index, mem_store_waiting(h->disk));
    w->result->crashes += crash;
    w->result->stops += !crash;
    w->trouble_step = w->step;
    if (crash) {
        mem_store_crash(h->disk, one_in(w, 3) ? 0 : pick(w, (uint32_t)mem_store_waiting(h->disk) + 1));
    }
    net_leave(w, h);
    rovers_host_ended(w, h->index);
    sim_node_close(&h->node);
    h->up = false;
    judge_look(w); /* it may be up again before the next one */
}

/* What node.c does from time to time. */
static void look_for_seeds(struct host *h)
{
    if (sim_now_ms() >= h->look_ms) {
        h->look_ms = sim_now_ms() + 1000 * node_cluster_look(h->node.tables.cluster, h->node.config);
    }
}

static void turn_disk(struct cluster *w, struct host *h)
{
    if (w->calm) {
        mem_store_settle(h->disk);
        return;
    }
    if (one_in(w, h->frugal ? 8 : 2)) {
        mem_store_commit(h->disk, 1 + pick(w, 4));
    }
    if (one_in(w, 3)) {
        mem_store_checkpoint(h->disk);
    }
    mem_store_read(h->disk);
}

static void turn_host(struct cluster *w, struct host *h)
{
    sim_wall_skew(h->skew_ms);
    look_for_seeds(h);
    unsigned first = pick(w, h->shard_count);
    for (unsigned i = 0; i < h->shard_count; i++) {
        if (w->calm || !one_in(w, 8)) {
            sim_node_turn(&h->node, first + i);
        }
    }
    turn_disk(w, h);
    if (store_status(h->node.tables.store) == STORE_FAILED) {
        wrong(w, "the disk of node %u has failed", h->index);
    }
}

static void turn_hosts(struct cluster *w)
{
    unsigned first = pick(w, w->host_count);

    for (unsigned i = 0; i < w->host_count; i++) {
        struct host *h = &w->hosts[(first + i) % w->host_count];
        if (h->up && h->paused_until_ms <= sim_now_ms()) {
            turn_host(w, h);
        }
    }
}

/* ---- the beginning ---- */

static void set(struct host *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void set(struct host *h, const char *format, ...)
{
    va_list arguments;
    unsigned n = 0;

    while (h->settings[n]) {
        n++;
    }
    assert(n < HOST_SETTINGS);
    va_start(arguments, format);
    vsnprintf(h->texts[n], sizeof(h->texts[n]), format, arguments);
    va_end(arguments);
    h->settings[n] = h->texts[n];
}

static void choose_settings(struct cluster *w, struct host *h)
{
    char seeds[200] = "";

    for (unsigned i = 0; i < w->host_count; i++) {
        snprintf(seeds + strlen(seeds), sizeof(seeds) - strlen(seeds), "%s10.0.0.%u:7000", i ? "," : "", i + 1);
    }
    set(h, "sys_interval=0");
    set(h, "node.name=n%u", h->index);
    set(h, "mqtt.max_session_expiry=100s");
    set(h, "limits.max_queued_messages=10000");
    set(h, "cluster.listen=10.0.0.%u:7000", h->index + 1);
    set(h, "cluster.seeds=%s", seeds);
    set(h, "cluster.insecure=true");
    set(h, "cluster.suback=%s", w->strict ? "strict" : "bounded");
}

static void make_hosts(struct cluster *w)
{
    w->host_count = one_in(w, 3) ? 3 + pick(w, 5) : 3;
    w->hosts = calloc(w->host_count, sizeof(*w->hosts));
    assert(w->hosts);
    for (unsigned i = 0; i < w->host_count; i++) {
        struct host *h = &w->hosts[i];
        h->index = i;
        h->shard_count = 1 + pick(w, 2);
        h->frugal = one_in(w, 4);
        h->skew_ms = w->skewed ? (int64_t)pick(w, 20000) - 10000 : 0;
        h->disk = mem_store_new(prng_next(&w->prng));
        choose_settings(w, h);
        host_start(w, h);
    }
}

static void begin(struct cluster *w, uint64_t seed)
{
    prng_seed(&w->prng, seed ^ 0x636c7573746572);
    plant_reset();
    sim_begin(prng_next(&w->prng));
    w->log_fd = memfd_create("log", MFD_CLOEXEC);
    assert(w->log_fd >= 0);
    w->strict = !one_in(w, 3);
    w->skewed = one_in(w, 4);
    w->pace_ms = 4 + pick(w, 40);
    faults_choose(w);
    make_hosts(w);
    rovers_init(w);
}

/* ---- the story ---- */

static void step(struct cluster *w, uint64_t ms)
{
    w->step++;
    sim_node_advance(ms);
    net_carry(w);
    turn_hosts(w);
    net_carry(w);
    judge_look(w); /* what nodes thought when they said what is heard now */
    rovers_pump(w, w->calm);
}

static void tell(struct cluster *w)
{
    unsigned steps = STEPS_MIN + pick(w, STEPS_SPREAD);

    for (unsigned i = 0; i < steps && !w->result->violation[0]; i++) {
        faults_run(w);
        for (unsigned n = pick(w, 3); n > 0; n--) {
            rover_act(w, &w->rovers[pick(w, w->rover_count)]);
        }
        step(w, one_in(w, 10) ? pick(w, (uint32_t)w->pace_ms * 10) : pick(w, (uint32_t)w->pace_ms));
    }
}

/* ---- the end ---- */

static void speak(struct cluster *w)
{
    for (unsigned i = 0; i < w->rover_count; i++) {
        for (unsigned topic = 0; topic <= ROVER_SHARED; topic++) {
            rover_publish(w, &w->rovers[i], topic, 1 + topic % 2);
        }
    }
}

/* Everything is well again: who has a session fetches what waits for it. */
static void settle(struct cluster *w)
{
    uint64_t begun_ms = sim_now_ms();
    bool spoken = false;

    faults_end(w);
    w->calm = true;
    while (sim_now_ms() < begun_ms + CALM_MS && !w->result->violation[0]) {
        for (unsigned i = 0; i < w->rover_count; i++) {
            if (!w->rovers[i].socket) {
                rover_connect(w, &w->rovers[i], w->rovers[i].host);
            }
        }
        if (!spoken && sim_now_ms() >= begun_ms + SPEAK_AT_MS) {
            speak(w);
            spoken = true;
        }
        step(w, CALM_STEP_MS);
    }
    for (unsigned i = 0; i < LATE_STEPS && !judge_agree(w); i++) { /* a filter is being withdrawn just now */
        step(w, CALM_STEP_MS);
    }
    judge_quiet(w);
}

static void leave(struct cluster *w)
{
    uint64_t begun_ms = sim_now_ms();

    for (unsigned i = 0; i < w->rover_count; i++) {
        rover_disconnect(w, &w->rovers[i]);
    }
    while (sim_now_ms() < begun_ms + LEAVE_MS && !w->result->violation[0]) {
        step(w, LEAVE_STEP_MS);
    }
    judge_left(w);
}

static void end(struct cluster *w)
{
    struct world_result *r = w->result;

    for (unsigned i = 0; i < w->host_count; i++) {
        struct host *h = &w->hosts[i];
        if (h->up) {
            net_leave(w, h);
            sim_node_close(&h->node);
        }
        const struct mem_store_counts *counts = mem_store_counts(h->disk);
        r->commits += counts->commits;
        r->checkpoints += counts->checkpoints;
        r->pages += counts->reads;
        r->trimmed += counts->trimmed;
        mem_store_free(h->disk);
    }
    r->steps = w->step;
    r->sim_ms = sim_now_ms();
    r->trace = w->trace;
    judge_log(w);
    close(w->log_fd);
    rovers_free(w);
    net_free(w);
    free(w->hosts);
}

void cluster_run(uint64_t seed, bool verbose, struct world_result *ret_result)
{
    struct cluster *w = calloc(1, sizeof(*w));

    assert(w);
    *ret_result = (struct world_result){.seed = seed};
    w->result = ret_result;
    w->verbose = verbose;
    begin(w, seed);
    tell(w);
    if (!ret_result->violation[0]) {
        settle(w);
    }
    if (!ret_result->violation[0]) {
        leave(w);
    }
    end(w);
    free(w);
}
