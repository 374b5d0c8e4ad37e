/* run_state.c -- orders, waiting, phases and what they cost. */
#include "bench/load/run_state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"

#define LOOK_NS 2000000
#define NS_PER_S 1000000000ull
#define LATE_US 1000u   /* a generator later than this at p90 was the slower one */
#define LATE_COUNT 100u /* of so many messages at least: one hiccup of the machine says nothing */
#define BUSY 0.9        /* part of a processor from which on a thread counts as fully used */
#define SPARE_DESCRIPTORS 64u

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* --- looking ---------------------------------------------------------------------------------------------------------
 */

static double seconds_since(uint64_t from_ns)
{
    return (double)(clock_mono_ns() - from_ns) / 1e9;
}

/* Add up what the workers show. */
static void look(struct run *run)
{
    uint64_t *sum = (uint64_t *)&run->now;
    struct shown one;

    run->now = (struct shown){0};
    for (uint32_t i = 0; i < run->launched; i++) {
        const uint64_t *words = (const uint64_t *)&one;
        worker_look(&run->workers[i], &one);
        for (size_t n = 0; n < sizeof(one) / sizeof(uint64_t); n++) {
            sum[n] += words[n];
        }
    }
}

static uint64_t brokers_cpu_ns(const struct run *run)
{
    uint64_t sum = 0, cpu_ns;

    for (uint32_t i = 0; i < run->options.pid_count; i++) {
        sum += process_cpu(run->options.pids[i], &cpu_ns) == 0 ? cpu_ns : 0;
    }
    return sum;
}

static void delivery_merge(const struct run *run, struct histogram *into)
{
    histogram_clear(into);
    for (uint32_t i = 0; i < run->launched; i++) {
        histogram_merge(into, &run->workers[i].figures->delivery);
    }
}

uint32_t run_clients(const struct run *run, enum roles roles)
{
    uint32_t count = 0;

    if (run->plan.flow_count == 0) {
        return roles & ROLE_RECEIVERS ? run->plan.client_count : 0;
    }
    for (uint32_t i = 0; i < run->plan.flow_count; i++) {
        count += roles & ROLE_RECEIVERS ? run->plan.flows[i].receivers : 0;
        count += roles & ROLE_PUBLISHERS ? run->plan.flows[i].publishers : 0;
    }
    return count;
}

uint64_t run_filters(const struct run *run)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < run->plan.flow_count; i++) {
        const struct flow_plan *flow = &run->plan.flows[i];
        count += flow->spread == SPREAD_ONE ? flow->filters : (uint64_t)flow->filters * flow->receivers;
    }
    return count;
}

uint64_t run_limit(const struct run *run)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < run->plan.flow_count; i++) {
        count += run->plan.flows[i].limit * run->plan.flows[i].publishers;
    }
    return count;
}

/* --- each second
 * ------------------------------------------------------------------------------------------------------ */

/* Note what the second brought, and say so. */
static void second_over(struct run *run)
{
    struct result *r = run->result;
    double seconds = seconds_since(run->second_began_ns);
    const struct counts *now = &run->now.counts, *from = &run->second_from.counts;
    struct histogram *since = run->scratch;

    delivery_merge(run, since);
    histogram_since(since, run->second_delivery, since);
    delivery_merge(run, run->second_delivery);
    struct live_sample sample = {
        .phase = run->phase ? run->phase->name : "",
        .elapsed_s = seconds_since(run->began_ns),
        .done = seconds_since(run->phase_began_ns),
        .total = run->progress_total,
        .sent = (uint64_t)((double)(now->sent - from->sent) / seconds),
        .received = (uint64_t)((double)(now->received - from->received) / seconds),
        .clients_up = run->now.up,
        .lost = now->sequence.missing,
        .duplicate = now->sequence.duplicate,
        .reordered = now->sequence.reordered,
        .p50_us = histogram_percentile(since, 50),
        .p99_us = histogram_percentile(since, 99),
        .max_us = histogram_max(since),
    };
    if (run->measuring && r->second_count < SECONDS_MAX) {
        struct second_result *grown = r->seconds_list;
        if ((r->second_count & (r->second_count - 1)) == 0) {
            grown = realloc(grown, (r->second_count ? r->second_count * 2 : 1) * sizeof(*grown));
        }
        if (grown) {
            r->seconds_list = grown;
            grown[r->second_count++] = (struct second_result){
                .t = seconds_since(run->measure_began_ns),
                .sent = now->sent - from->sent,
                .received = now->received - from->received,
                .p50_us = sample.p50_us,
                .p99_us = sample.p99_us,
                .max_us = sample.max_us,
            };
        }
    }
    live_show(&run->live, &sample);
    run->second_from = run->now;
    run->second_began_ns = clock_mono_ns();
}

/* Anything that comes from the broker. */
static uint64_t movement(const struct run *run)
{
    const struct counts *c = &run->now.counts;

    return c->received + c->acked + c->up_total + c->failed + c->disconnected + c->subscribed + c->subscribe_refused +
           c->sequence.duplicate + c->misdelivered + c->misacknowledged + run->now.idle[0] + run->now.idle[1] + c->sent;
}

bool run_stuck(const struct run *run)
{
    return seconds_since(run->moved_ns) >= run->options.timeout_s;
}

static void tick(struct run *run)
{
    struct timespec pause = {0, LOOK_NS};

    nanosleep(&pause, NULL);
    look(run);
    if (movement(run) != run->moved) {
        run->moved = movement(run);
        run->moved_ns = clock_mono_ns();
    }
    if (interrupted) {
        run->interrupted = true;
    }
    if (clock_mono_ns() - run->second_began_ns >= NS_PER_S) {
        second_over(run);
    }
}

/* --- orders and waiting
 * ------------------------------------------------------------------------------------------------ */

void run_order(struct run *run, enum order order, enum roles roles, bool fresh)
{
    struct orders *orders = &run->bench.orders;
    uint32_t number = atomic_load(&orders->number) + 1;
    struct timespec pause = {0, LOOK_NS / 20};

    look(run);
    run->step_from = run->now;
    orders->order = order;
    orders->roles = roles;
    orders->fresh = fresh;
    orders->since_ns = clock_mono_ns();
    atomic_store_explicit(&orders->number, number, memory_order_release);
    for (unsigned i = 0; i < run->launched; i++) {
        io_wake(run->shards[i]->io);
    }
    for (unsigned i = 0; i < run->launched && order != ORDER_END; i++) {
        while (atomic_load_explicit(&run->workers[i].seen, memory_order_acquire) != number) {
            nanosleep(&pause, NULL);
        }
    }
    look(run);
}

int run_wait(struct run *run, run_condition *condition)
{
    run->moved_ns = clock_mono_ns();
    while (!condition(run)) {
        if (run->interrupted) {
            return -EINTR;
        }
        tick(run);
        if (run_stuck(run)) {
            return condition(run) ? 0 : -ETIMEDOUT;
        }
    }
    return 0;
}

int run_sleep(struct run *run, double seconds, run_condition *condition)
{
    uint64_t began_ns = clock_mono_ns();

    while (seconds_since(began_ns) < seconds && !(condition && condition(run))) {
        if (run->interrupted) {
            return -EINTR;
        }
        tick(run);
    }
    return 0;
}

void run_until_signal(struct run *run, double seconds, run_condition *condition)
{
    if (run_sleep(run, seconds, condition) == -EINTR) {
        interrupted = 0;
        run->interrupted = false; /* the next one ends the rest too */
    }
}

int run_fail(struct run *run, int rc, const char *why)
{
    struct result *r = run->result;

    run->failed = true;
    for (unsigned i = 0; i < run->launched && r->why[0] == 0; i++) {
        if (atomic_load_explicit(&run->workers[i].has_why, memory_order_acquire)) {
            snprintf(r->why, sizeof(r->why), "%s", run->workers[i].why);
        }
    }
    if (r->why[0] == 0) {
        snprintf(r->why, sizeof(r->why), "%s", why);
    }
    return rc;
}

/* --- phases
 * ------------------------------------------------------------------------------------------------------------ */

void phase_begin(struct run *run, const char *name, const char *each)
{
    assert(!run->phase && run->result->phase_count < PHASES_MAX);
    look(run);
    run->phase = &run->result->phases[run->result->phase_count++];
    *run->phase = (struct phase_result){.name = name, .each = each};
    run->progress_total = 0;
    run->phase_from = run->now;
    run->phase_cpu_ns = brokers_cpu_ns(run);
    run->phase_began_ns = clock_mono_ns();
}

/* What the cost of the phase is divided by. */
static uint64_t phase_count_of(const struct phase_result *phase)
{
    if (!phase->each) {
        return 0;
    }
    return strcmp(phase->each, "message") == 0      ? phase->sent + phase->received
           : strcmp(phase->each, "connection") == 0 ? phase->connections
                                                    : phase->subscriptions;
}

void phase_end(struct run *run)
{
    struct phase_result *phase = run->phase;
    const struct counts *now = &run->now.counts, *from = &run->phase_from.counts;

    phase->seconds = seconds_since(run->phase_began_ns);
    phase->cpu_ns = brokers_cpu_ns(run) - run->phase_cpu_ns;
    look(run);
    phase->sent = now->sent - from->sent;
    phase->received = now->received - from->received;
    phase->connections = now->up_total - from->up_total;
    phase->subscriptions = now->subscribed - from->subscribed;
    phase->count = phase_count_of(phase);
    run->phase = NULL;
}

static void usage_look(struct run *run, bool after)
{
    static struct process_usage from[PROCESSES_MAX]; /* too large for a stack; the main thread alone runs scenarios */
    struct process_usage now;

    for (uint32_t i = 0; i < run->options.pid_count; i++) {
        if (process_usage(run->options.pids[i], after ? &now : &from[i]) != 0) {
            run_fail(run, -ESRCH, "a process of --pid has ended");
        } else if (after) {
            process_usage_between(&from[i], &now, &run->result->used[i]);
            run->result->rss_after[i] = now.rss_bytes;
        }
    }
}

void measure_begin(struct run *run, const char *name)
{
    usage_look(run, false);
    run->own_cpu_ns = process_own_cpu_ns();
    phase_begin(run, name, run->plan.flow_count > 0 ? "message" : NULL);
    run->result->figure_phase = run->plan.flow_count > 0 ? name : "connect";
    run->progress_total = run->options.duration_s;
    run->measuring = true;
    run->measure_from = run->now;
    run->measure_began_ns = run->phase_began_ns;
    delivery_merge(run, run->second_delivery);
    run->second_from = run->now;
    run->second_began_ns = run->measure_began_ns;
    /* What was stored before was due long ago: there is no latency of a replay. */
    if (!(run->plan.flow_count > 0 && run->plan.flows[0].stored)) {
        atomic_store(&run->bench.measured.from_us, run->measure_began_ns / 1000);
    }
}

void measure_end(struct run *run)
{
    struct result *r = run->result;
    const struct counts *now = &run->now.counts, *from = &run->measure_from.counts;

    atomic_store(&run->bench.measured.until_us, clock_mono_ns() / 1000);
    phase_end(run);
    usage_look(run, true);
    r->kernel_after = process_kernel_socket_bytes();
    r->seconds = seconds_since(run->measure_began_ns);
    r->own_cpu_ns = process_own_cpu_ns() - run->own_cpu_ns;
    r->clients = run->now.up;
    r->sent = now->sent - from->sent;
    r->received = now->received - from->received;
    r->bytes_sent = now->bytes_sent - from->bytes_sent;
    r->bytes_received = now->bytes_received - from->bytes_received;
    if (r->second_count == 0 || clock_mono_ns() - run->second_began_ns > NS_PER_S / 2) {
        second_over(run); /* a part of a second says little, unless there is no other */
    }
    run->measuring = false;
}

/* --- the ends
 * ---------------------------------------------------------------------------------------------------------- */

/* Raise the limit of descriptors as far as allowed and see whether the clients fit. */
static int descriptors_check(struct run *run)
{
    struct rlimit limit;
    char why[RESULT_WHY_MAX];

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    uint64_t needed = (uint64_t)run->plan.client_count + SPARE_DESCRIPTORS * run->bench.workers;
    if (needed <= limit.rlim_cur) {
        return 0;
    }
    snprintf(why, sizeof(why),
             "%u clients need more open files than the system grants (%llu): start several tern-bench",
             run->plan.client_count, (unsigned long long)limit.rlim_cur);
    return run_fail(run, -EMFILE, why);
}

static int workers_launch(struct run *run)
{
    for (uint32_t i = 0; i < run->bench.workers; i++) {
        struct shard_options options = {
            .index = i,
            .count = run->bench.workers,
            .io = {.backend = run->options.io},
            .office = run->bench.office,
            .peers = run->shards,
            .handler = &worker_handler,
            .broker = &run->workers[i],
        };
        int rc = worker_init(&run->workers[i], &run->bench, i);
        if (rc == 0) {
            rc = shard_launch(&options, &run->shards[i]);
        }
        if (rc != 0) {
            worker_deinit(&run->workers[i]);
            return run_fail(run, rc, rc == -ENOMEM ? "out of memory" : "a thread could not be started; try --io epoll");
        }
        run->launched++;
    }
    run->result->io = io_name(run->shards[0]->io);
    return 0;
}

static int bench_make(struct run *run)
{
    struct bench *bench = &run->bench;
    uint8_t number;

    clock_random(&number, sizeof(number));
    bench->plan = &run->plan;
    bench->workers = run->options.threads;
    atomic_init(&bench->measured.from_us, UINT64_MAX);
    atomic_init(&bench->measured.until_us, UINT64_MAX);
    int rc = mail_office_new(bench->workers, &bench->office);
    for (uint32_t i = 0; i < run->plan.flow_count && rc == 0; i++) {
        rc = flow_shared_init(&bench->flows[i], &run->plan, i, bench->workers, number);
    }
    run->workers = calloc(bench->workers, sizeof(*run->workers));
    run->second_delivery = calloc(1, sizeof(*run->second_delivery));
    run->scratch = calloc(1, sizeof(*run->scratch));
    run->result->figures = calloc(1, sizeof(*run->result->figures));
    if (rc || !run->workers || !run->second_delivery || !run->scratch || !run->result->figures) {
        return run_fail(run, -ENOMEM, "out of memory");
    }
    return 0;
}

int run_open(struct run *run, struct options *options, struct result *result)
{
    struct sigaction action = {.sa_handler = on_signal};
    time_t now = time(NULL);
    struct tm utc;

    *run = (struct run){.options = *options, .result = result, .began_ns = clock_mono_ns()};
    *result = (struct result){.options = options, .io = "none"};
    strftime(result->started, sizeof(result->started), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    run->second_began_ns = run->began_ns;
    live_init(&run->live, !options->quiet);
    if (!plan_make(&run->options, &run->plan)) {
        return -EINVAL;
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    int rc = bench_make(run);
    if (rc == 0) {
        rc = descriptors_check(run);
    }
    for (uint32_t i = 0; i < options->pid_count && rc == 0; i++) {
        struct process_usage usage;
        rc = process_usage(options->pids[i], &usage) == 0 ? 0 : run_fail(run, -ESRCH, "a process of --pid has ended");
        result->rss_before[i] = usage.rss_bytes;
    }
    result->kernel_before = process_kernel_socket_bytes();
    if (rc == 0) {
        rc = workers_launch(run);
    }
    look(run);
    return rc;
}

/* Whether the numbers say more about this tool than about the broker. */
static void slower_judge(struct run *run)
{
    struct result *r = run->result;
    uint64_t late_us = histogram_percentile(&r->figures->late, 90);
    double threads = run->bench.workers, seconds = r->seconds > 0 ? r->seconds : 1;
    double own = (double)r->own_cpu_ns / 1e9 / seconds, theirs = 0;

    for (uint32_t i = 0; i < run->options.pid_count; i++) {
        theirs += (double)r->used[i].cpu_ns / 1e9 / seconds;
    }
    bool open = run->plan.flow_count > 0 && run->plan.flows[0].rate > 0;
    if (open && late_us > LATE_US && histogram_count(&r->figures->late) >= LATE_COUNT) {
        r->slower = true;
        snprintf(r->slower_why, sizeof(r->slower_why),
                 "this tool was late by %llu us at p90, though the broker did not hold it back: lower --rate, or more "
                 "--threads",
                 (unsigned long long)late_us);
    } else if (!open && run->plan.publishes && own > BUSY * threads && run->options.pid_count > 0 && theirs < BUSY) {
        r->slower = true;
        snprintf(
            r->slower_why, sizeof(r->slower_why),
            "this tool used %.2f processors and the broker %.2f: the rate is this tool's, the cost per message holds",
            own, theirs);
    }
}

static void judge(struct run *run)
{
    struct result *r = run->result;
    struct check_result *check = &r->check;
    const struct counts *now = &run->now.counts;

    for (uint32_t i = 0; i < run->plan.flow_count; i++) {
        struct flow_verdict verdict;
        uint64_t received = 0;
        for (unsigned w = 0; w < run->launched; w++) {
            received += run->workers[w].flows[i].received;
        }
        flow_judge(&run->bench.flows[i], received, &verdict);
        check->sent += verdict.sent;
        check->expected += verdict.expected;
        check->lost += verdict.lost;
        check->slow_lost += verdict.slow_lost;
        if (run->plan.flows[i].spread == SPREAD_OPEN) {
            check->lost += now->sequence.missing;
            check->expected = now->received + now->sequence.missing;
        }
    }
    check->received = now->received;
    check->duplicate = now->sequence.duplicate;
    check->reordered = now->sequence.reordered;
    check->misdelivered = now->misdelivered;
    check->misacknowledged = now->misacknowledged;
    check->unacknowledged = now->wanted_acks > now->acked ? now->wanted_acks - now->acked : 0;
    check->refused = now->refused + now->failed + now->subscribe_refused;
    check->disconnected = now->disconnected;
}

/* What was wrong, when no client has said so. */
static const char *fault_text(const struct check_result *c)
{
    return c->lost             ? "messages were lost"
           : c->duplicate      ? "messages came twice"
           : c->reordered      ? "messages came out of order"
           : c->misdelivered   ? "messages came to the wrong client, or were not ours"
           : c->unacknowledged ? "messages were not acknowledged"
                               : "acknowledgements were wrong";
}

void run_close(struct run *run, int rc)
{
    struct result *r = run->result;

    look(run);
    live_end(&run->live);
    if (run->launched > 0) {
        run_order(run, ORDER_END, ROLE_ALL, false);
    }
    for (unsigned i = 0; i < run->launched; i++) {
        shard_join(run->shards[i]);
        const struct figures *f = run->workers[i].figures;
        histogram_merge(&r->figures->delivery, &f->delivery);
        histogram_merge(&r->figures->acknowledge, &f->acknowledge);
        histogram_merge(&r->figures->connect, &f->connect);
        histogram_merge(&r->figures->subscribe, &f->subscribe);
        histogram_merge(&r->figures->late, &f->late);
    }
    if (run->launched > 0) {
        judge(run);
        slower_judge(run);
    }
    if (rc != 0 || !result_clean(r)) {
        (void)run_fail(run, rc, rc == -EINTR ? "interrupted" : rc ? strerror(-rc) : fault_text(&r->check));
    }
    for (unsigned i = 0; i < run->launched; i++) {
        worker_deinit(&run->workers[i]);
    }
    for (uint32_t i = 0; i < run->plan.flow_count; i++) {
        if (run->bench.flows[i].flow) {
            flow_shared_deinit(&run->bench.flows[i]);
        }
    }
    mail_office_free(run->bench.office);
    free(run->workers);
    free(run->second_delivery);
    free(run->scratch);
}
