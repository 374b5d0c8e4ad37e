/* run.c -- the scripts of the scenarios. The machinery under them is run_state.c. */
#include "bench/load/run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/load/run_state.h"
#include "proto/base/clock.h"

#define QUIET_S 0.2
#define SETTLE_S 0.5 /* conn: time for the broker to give back what connecting took */

/* --- conditions ------------------------------------------------------------------------------------------------------
 */

static bool all_tried(const struct run *run)
{
    const struct counts *now = &run->now.counts, *from = &run->step_from.counts;

    return now->up_total - from->up_total + now->failed - from->failed >= run->wanted;
}

/* Nobody of the roles has a connection any more. */
static bool all_away(const struct run *run)
{
    return (!(run->roles & ROLE_RECEIVERS) || run->now.idle[0] >= run_clients(run, ROLE_RECEIVERS)) &&
           (!(run->roles & ROLE_PUBLISHERS) || run->now.idle[1] >= run_clients(run, ROLE_PUBLISHERS));
}

static bool all_subscribed(const struct run *run)
{
    return run->now.counts.subscribed >= run->wanted;
}

static bool all_acknowledged(const struct run *run)
{
    const struct counts *c = &run->now.counts;

    return c->sent + c->cleared >= run->wanted && c->acked >= c->wanted_acks;
}

static bool all_settled(const struct run *run)
{
    const struct counts *c = &run->now.counts;

    return (c->sent >= c->due || run->result->unsent > 0) && c->waited_received >= c->wanted_deliveries &&
           c->acked >= c->wanted_acks;
}

/* The limit is reached, and all of it has come, or nothing comes any more. */
static bool limit_settled(const struct run *run)
{
    return run->wanted > 0 && run->now.counts.sent >= run->wanted && (all_settled(run) || run_stuck(run));
}

static bool never(const struct run *run)
{
    (void)run;
    return false;
}

/* --- steps -----------------------------------------------------------------------------------------------------------
 */

/* Connect everybody of these roles. Whoever cannot connect is the end, but in a scenario about connecting. */
static int step_connect(struct run *run, const char *phase, enum roles roles, bool fresh)
{
    run->wanted = run_clients(run, roles);
    phase_begin(run, phase, "connection");
    run_order(run, ORDER_CONNECT, roles, fresh);
    int rc = run_wait(run, all_tried);
    phase_end(run);
    if (rc == 0 && run->now.counts.failed > run->step_from.counts.failed &&
        (run->plan.flow_count > 0 || run->now.up == 0)) {
        return run_fail(run, -ECONNREFUSED, "not everybody could connect");
    }
    return rc == -ETIMEDOUT ? run_fail(run, rc, "the broker does not answer CONNECT") : rc;
}

static int step_part(struct run *run, enum order order, enum roles roles)
{
    run->roles = roles;
    run_order(run, order, roles, false);
    return run_wait(run, all_away);
}

static int step_subscribe(struct run *run, const char *phase)
{
    run->wanted = run_filters(run);
    phase_begin(run, phase, "subscription");
    run_order(run, ORDER_SUBSCRIBE, ROLE_ALL, false);
    int rc = run_wait(run, all_subscribed);
    phase_end(run);
    if (rc == 0 && run->now.counts.subscribe_refused > 0) {
        return run_fail(run, -EACCES, "the broker did not grant a subscription");
    }
    return rc == -ETIMEDOUT ? run_fail(run, rc, "the broker does not answer SUBSCRIBE") : rc;
}

static void publishing_set(struct run *run, bool on)
{
    uint64_t t0_ns = clock_mono_ns();

    for (uint32_t i = 0; i < run->plan.flow_count; i++) {
        if (on) {
            run->bench.flows[i].t0_ns = t0_ns;
        }
        atomic_store(&run->bench.flows[i].publishing, on);
    }
    run_order(run, ORDER_PUBLISH, ROLE_ALL, false);
}

static bool all_sent(const struct run *run)
{
    return run->now.counts.sent >= run->now.counts.due;
}

/* What was due in an open loop is sent though its time is over; but a backlog of minutes is told, not sent. */
static void step_catch_up(struct run *run)
{
    (void)run_sleep(run, run->options.timeout_s, all_sent);
    if (all_sent(run)) {
        return;
    }
    run->result->unsent = run->now.counts.due - run->now.counts.sent;
    for (uint32_t i = 0; i < run->plan.flow_count; i++) {
        atomic_store(&run->bench.flows[i].abandoned, true);
    }
}

/* Until nothing is outstanding or nothing moves any more, and then a little longer. */
static void step_drain(struct run *run)
{
    phase_begin(run, "drain", NULL);
    step_catch_up(run);
    (void)run_wait(run, all_settled);
    for (uint32_t i = 0; i < run->plan.flow_count; i++) {
        if (run->plan.flows[i].slow > 0) {
            (void)run_wait(run, never); /* slow ones have the timeout to read on */
        }
    }
    (void)run_sleep(run, QUIET_S, NULL);
    phase_end(run);
}

static int script_traffic(struct run *run)
{
    const struct options *o = &run->options;
    double warmup_s = o->limit > 0 ? 0 : o->warmup_s > o->ramp_s ? o->warmup_s : o->ramp_s;
    int rc = step_connect(run, "connect", ROLE_ALL, false);

    if (rc == 0 && run->plan.subscribes) {
        rc = step_subscribe(run, "subscribe");
    }
    if (rc != 0) {
        return rc;
    }
    run->wanted = run_limit(run);
    if (warmup_s > 0) {
        phase_begin(run, "warm-up", "message");
        publishing_set(run, true);
        (void)run_sleep(run, warmup_s, NULL);
        phase_end(run);
        measure_begin(run, "measure");
    } else {
        measure_begin(run, "measure"); /* before the first message */
        publishing_set(run, true);
    }
    run_until_signal(run, o->duration_s, limit_settled);
    measure_end(run);
    publishing_set(run, false);
    step_drain(run);
    return 0;
}

static int script_conn(struct run *run)
{
    int rc = step_connect(run, "connect", ROLE_ALL, false);

    for (uint32_t storm = 0; rc == 0 && storm < run->options.storms; storm++) {
        rc = step_part(run, ORDER_CUT, ROLE_ALL);
        if (rc == 0) {
            rc = step_connect(run, "storm", ROLE_ALL, false);
        }
    }
    if (rc == 0) {
        rc = run_sleep(run, SETTLE_S, NULL);
    }
    measure_begin(run, "hold");
    if (rc == 0) {
        run_until_signal(run, run->options.duration_s, NULL);
    }
    measure_end(run);
    return rc;
}

/* Publish to the limit and wait for the acknowledgements. */
static int step_store(struct run *run, const char *phase, uint64_t count)
{
    run->wanted = run->now.counts.sent + run->now.counts.cleared + count;
    phase_begin(run, phase, "message");
    publishing_set(run, true);
    int rc = run_wait(run, all_acknowledged);
    publishing_set(run, false);
    if (rc == 0 && run->plan.flows[0].qos == 0) {
        (void)run_sleep(run, SETTLE_S, NULL); /* nothing says when the broker has them */
    }
    phase_end(run);
    return rc == -ETIMEDOUT ? run_fail(run, rc, "the broker does not acknowledge what is to be stored") : rc;
}

/* Everything stored comes; an end without some of it is for the verdict. */
static void step_replay(struct run *run)
{
    (void)run_wait(run, all_settled);
    measure_end(run);
    (void)run_sleep(run, QUIET_S, NULL);
}

static int script_retain(struct run *run)
{
    int rc = step_connect(run, "connect", ROLE_PUBLISHERS, false);

    if (rc == 0) {
        rc = step_store(run, "store", run->plan.flows[0].streams);
    }
    if (rc == 0) {
        rc = step_connect(run, "connect", ROLE_RECEIVERS, false);
    }
    if (rc == 0) {
        measure_begin(run, "replay");
        run_order(run, ORDER_SUBSCRIBE, ROLE_ALL, false);
        step_replay(run);
        rc = step_part(run, ORDER_DISCONNECT, ROLE_RECEIVERS);
    }
    if (rc == 0) { /* leave the broker as it was */
        atomic_store(&run->bench.flows[0].clearing, true);
        rc = step_store(run, "clear", run->plan.flows[0].streams);
    }
    return rc;
}

static int script_session(struct run *run)
{
    uint64_t messages = (uint64_t)run->options.limit * run->plan.flows[0].streams;
    int rc = step_connect(run, "connect", ROLE_RECEIVERS, false);

    if (rc == 0) {
        rc = step_subscribe(run, "subscribe");
    }
    if (rc == 0) {
        rc = step_part(run, ORDER_DISCONNECT, ROLE_RECEIVERS);
    }
    if (rc == 0) {
        rc = step_connect(run, "connect", ROLE_PUBLISHERS, false);
    }
    if (rc == 0) {
        rc = step_store(run, "store", messages);
    }
    if (rc == 0) {
        measure_begin(run, "resume");
        run_order(run, ORDER_CONNECT, ROLE_RECEIVERS, false);
        step_replay(run);
        rc = step_part(run, ORDER_DISCONNECT, ROLE_RECEIVERS);
    }
    if (rc == 0) { /* leave the broker as it was */
        rc = step_connect(run, "clear", ROLE_RECEIVERS, true);
    }
    return rc;
}

int run_scenario(struct options *options, struct result *ret_result)
{
    struct run run;
    int rc = run_open(&run, options, ret_result);

    if (rc == 0) {
        switch (options->scenario) {
        case SCENARIO_CONN:
            rc = script_conn(&run);
            break;
        case SCENARIO_RETAIN:
            rc = script_retain(&run);
            break;
        case SCENARIO_SESSION:
            rc = script_session(&run);
            break;
        default:
            rc = script_traffic(&run);
        }
        if (rc == 0 || run.now.up > 0) {
            (void)step_part(&run, ORDER_DISCONNECT, ROLE_ALL);
        }
    }
    run_close(&run, rc);
    return rc;
}
