/* scenario.c -- the phases of a run. */
#include "bench/scenario.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

#include "bench/traffic.h"
#include "proto/base/clock.h"

#define CONNECTING_MAX 64u /* handshakes at one time: fewer than the backlog of any broker */
#define FILTERS_PER_SUBSCRIBE 100u
#define FILTER_BYTES_MAX 64u
#define TURN_MS 10
#define SETTLE_MS 500 /* idle: time for the broker to give back what connecting took */
#define QUIET_MS 100

enum phase {
    PHASE_CONNECT,
    PHASE_SUBSCRIBE,
    PHASE_SETTLE,
    PHASE_WARMUP,
    PHASE_MEASURE,
    PHASE_DRAIN,
    PHASE_QUIET,
    PHASE_OVER
};

struct scenario {
    const struct scenario_options *options; /* borrowed */
    struct scenario_result *result;         /* borrowed */
    struct traffic_plan plan;
    struct traffic traffic;
    struct client_pool *pool; /* owned */
    enum phase phase;
    uint32_t client_count, connect_next, up_count;
    uint64_t subscribe_wanted, subscribed_count;
    uint64_t phase_ends_ns, moved_ns; /* moved: when something last came from the broker */
    uint64_t started_ns, measure_started_ns, own_cpu_us;
    bool moved, lost_client;
    int failure; /* negative errno: the run cannot go on */
};

const char *scenario_name(enum scenario_kind kind)
{
    static const char *const names[] = {"pair", "fanout", "wildcard", "idle"};
    return names[kind];
}

bool scenario_clean(const struct scenario_result *r)
{
    return (r->lost | r->duplicated | r->reordered | r->misdelivered | r->unacknowledged | r->misacknowledged |
            r->refused | r->disconnected) == 0;
}

static void fail(struct scenario *s, int rc, const char *why)
{
    if (s->result->why[0] == 0) {
        snprintf(s->result->why, sizeof(s->result->why), "%s", why);
    }
    s->failure = s->failure ? s->failure : rc;
}

/* --- what clients tell ----------------------------------------------------------------------------------------- */

/* Receivers come first in the pool, publishers behind them; idle clients are neither. */
static bool is_publisher(const struct scenario *s, const struct client *client)
{
    return client->index >= s->plan.receivers;
}

static void on_up(void *context, struct client *client)
{
    struct scenario *s = context;

    (void)client;
    s->moved = true;
    s->up_count++;
}

static void on_subscribed(void *context, struct client *client, struct slice codes)
{
    struct scenario *s = context;

    (void)client;
    s->moved = true;
    for (size_t i = 0; i < codes.len; i++) {
        if (codes.ptr[i] != s->options->qos) {
            fail(s, -EACCES, "the broker did not grant a subscription");
        }
    }
    s->subscribed_count += codes.len;
}

static void on_message(void *context, struct client *client, struct slice payload)
{
    struct scenario *s = context;

    s->moved = true;
    if (s->options->kind == SCENARIO_IDLE || is_publisher(s, client)) {
        s->traffic.misdelivered++;
        return;
    }
    traffic_message(&s->traffic, client->index, payload);
}

static void on_acked(void *context, struct client *client, enum mqtt_type type, uint16_t packet_id, uint8_t reason)
{
    struct scenario *s = context;

    s->moved = true;
    if (s->options->kind == SCENARIO_IDLE || !is_publisher(s, client)) {
        s->traffic.misacknowledged++;
        return;
    }
    traffic_acked(&s->traffic, client->index - s->plan.receivers, type, packet_id, reason);
}

static void on_writable(void *context, struct client *client)
{
    struct scenario *s = context;

    if (s->phase > PHASE_SETTLE && is_publisher(s, client)) {
        traffic_writable(&s->traffic, client->index - s->plan.receivers);
    }
}

static void on_gone(void *context, struct client *client, const char *why)
{
    struct scenario *s = context;
    char text[SCENARIO_WHY_MAX];

    s->result->disconnected++;
    s->lost_client = true;
    snprintf(text, sizeof(text), "client %u: %s", client->index, why);
    if (s->phase < PHASE_SETTLE) {
        fail(s, -ECONNABORTED, text);
    } else if (s->result->why[0] == 0) {
        snprintf(s->result->why, sizeof(s->result->why), "%s", text);
    }
}

static const struct client_handler handler = {on_up, on_subscribed, on_message, on_acked, on_writable, on_gone};

/* --- phases ------------------------------------------------------------------------------------------------------ */

static void plan_make(const struct scenario_options *o, struct traffic_plan *plan)
{
    *plan = (struct traffic_plan){
        .topic_prefix = "bench/pair/",
        .topic_suffix = "",
        .version = o->target.version,
        .qos = o->qos,
        .streams = o->count,
        .publishers = o->count,
        .receivers = o->count,
        .subscriptions = o->count,
        .payload_bytes = o->payload_bytes,
        .batch = o->batch,
        .window = o->window,
    };
    if (o->kind == SCENARIO_FANOUT) {
        plan->topic_prefix = "bench/fanout/";
        plan->streams = plan->publishers = plan->subscriptions = 1;
        plan->one_for_all = true;
    }
    plan->filter_prefix = plan->topic_prefix;
    plan->filter_suffix = "";
    if (o->kind == SCENARIO_WILDCARD) {
        plan->topic_prefix = "a/b/c/";
        plan->topic_suffix = "/d";
        plan->filter_prefix = "a/+/c/";
        plan->filter_suffix = "/#";
        plan->publishers = o->publishers;
        plan->subscriptions = o->subscriptions;
        plan->streams = o->topics > 0 ? o->topics : o->subscriptions;
    }
}

static uint64_t own_cpu_us(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void usage_take(struct scenario *s, struct process_usage *ret_usage)
{
    if (s->options->pid > 0 && process_usage(s->options->pid, ret_usage) != 0) {
        fail(s, -ESRCH, "--pid: there is no such process, or it may not be looked at");
    }
}

static void connect_more(struct scenario *s)
{
    while (!s->failure && s->connect_next < s->client_count && s->connect_next - s->up_count < CONNECTING_MAX) {
        int rc = client_connect(client_at(s->pool, s->connect_next++));
        if (rc != 0) {
            fail(s, rc, strerror(-rc));
        }
    }
}

/* Subscribe receiver number `receiver` to all that is its own, in packets of bounded length. */
static void subscribe_receiver(struct scenario *s, uint32_t receiver)
{
    char text[FILTERS_PER_SUBSCRIBE][FILTER_BYTES_MAX];
    struct mqtt_subscription subs[FILTERS_PER_SUBSCRIBE];
    uint32_t count = 0, step = s->plan.one_for_all ? UINT32_MAX : s->plan.receivers;
    uint16_t packet_id = 0;

    for (uint64_t n = s->plan.one_for_all ? 0 : receiver; n < s->plan.subscriptions; n += step) {
        subs[count] = (struct mqtt_subscription){
            .filter = slice_of(text[count], traffic_filter(&s->plan, (uint32_t)n, text[count])),
            .qos = s->options->qos,
        };
        s->subscribe_wanted++;
        if (++count == FILTERS_PER_SUBSCRIBE) {
            client_subscribe(client_at(s->pool, receiver), ++packet_id, subs, count);
            count = 0;
        }
    }
    if (count > 0) {
        client_subscribe(client_at(s->pool, receiver), ++packet_id, subs, count);
    }
}

static void warmup_start(struct scenario *s, uint64_t now_ns)
{
    s->result->setup_us = (now_ns - s->started_ns) / 1000;
    s->phase = PHASE_WARMUP;
    s->phase_ends_ns = now_ns + s->options->warmup_ms * 1000000ull;
    for (uint32_t i = 0; i < s->plan.publishers; i++) {
        traffic_publisher_set(&s->traffic, i, client_at(s->pool, s->plan.receivers + i));
    }
}

static void measure_start(struct scenario *s)
{
    usage_take(s, &s->result->from);
    s->result->sent = s->traffic.sent;
    s->result->received = s->traffic.received;
    s->own_cpu_us = own_cpu_us();
    s->measure_started_ns = clock_mono_ns();
    s->phase = PHASE_MEASURE;
    s->phase_ends_ns = s->measure_started_ns + s->options->measure_ms * 1000000ull;
}

static void measure_end(struct scenario *s)
{
    usage_take(s, &s->result->to);
    s->result->sent = s->traffic.sent - s->result->sent;
    s->result->received = s->traffic.received - s->result->received;
    s->result->own_cpu_us = own_cpu_us() - s->own_cpu_us;
    s->result->measured_us = (clock_mono_ns() - s->measure_started_ns) / 1000;
    s->traffic.stopped = true;
    s->phase = s->options->kind == SCENARIO_IDLE ? PHASE_OVER : PHASE_DRAIN;
}

static void connected(struct scenario *s, uint64_t now_ns)
{
    if (s->options->kind == SCENARIO_IDLE) {
        s->result->setup_us = (now_ns - s->started_ns) / 1000;
        s->phase = PHASE_SETTLE;
        s->phase_ends_ns = now_ns + SETTLE_MS * 1000000ull;
        return;
    }
    s->phase = PHASE_SUBSCRIBE;
    for (uint32_t i = 0; i < s->plan.receivers; i++) {
        subscribe_receiver(s, i);
    }
}

/* Go on to the next phase when this one is over. */
static void phase_step(struct scenario *s, uint64_t now_ns)
{
    bool due = now_ns >= s->phase_ends_ns;

    switch (s->phase) {
    case PHASE_CONNECT:
        connect_more(s);
        if (s->up_count == s->client_count) {
            connected(s, now_ns);
        }
        break;
    case PHASE_SUBSCRIBE:
        if (s->subscribed_count == s->subscribe_wanted) {
            warmup_start(s, now_ns);
        }
        break;
    case PHASE_SETTLE:
    case PHASE_WARMUP:
        if (due || s->lost_client) {
            measure_start(s);
        }
        break;
    case PHASE_MEASURE:
        if (due || s->lost_client) {
            measure_end(s);
        }
        break;
    case PHASE_DRAIN:
        if (s->lost_client || traffic_settled(&s->traffic)) {
            s->phase = PHASE_QUIET;
            s->phase_ends_ns = now_ns + QUIET_MS * 1000000ull;
        }
        break;
    case PHASE_QUIET:
        if (due) {
            s->phase = PHASE_OVER;
        }
        break;
    case PHASE_OVER:
        break;
    }
}

/* Whether nothing has to come from the broker just now. */
static bool silence_allowed(const struct scenario *s)
{
    return s->phase == PHASE_SETTLE || s->phase >= PHASE_QUIET ||
           (s->options->kind == SCENARIO_IDLE && s->phase == PHASE_MEASURE);
}

/* End a run in which nothing moves any more, though something should. */
static void stall_check(struct scenario *s, uint64_t now_ns)
{
    if (s->moved || silence_allowed(s)) {
        s->moved = false;
        s->moved_ns = now_ns;
        return;
    }
    if (now_ns - s->moved_ns < s->options->stall_ms * 1000000ull) {
        return;
    }
    if (s->phase < PHASE_SETTLE) {
        fail(s, -ETIMEDOUT, "the broker does not answer any more");
        return;
    }
    snprintf(s->result->why, sizeof(s->result->why), "nothing came from the broker for %u ms", s->options->stall_ms);
    if (s->phase == PHASE_WARMUP) {
        measure_start(s);
    }
    if (s->phase == PHASE_MEASURE) {
        measure_end(s);
    }
    s->phase = PHASE_OVER;
}

static void judge(struct scenario *s)
{
    struct scenario_result *r = s->result;
    const struct traffic *t = &s->traffic;

    r->sent_total = t->sent;
    r->received_total = t->received;
    r->lost = traffic_lost(t);
    r->duplicated = t->sequence.duplicated;
    r->reordered = t->sequence.reordered;
    r->misdelivered = t->misdelivered;
    if (s->options->qos > 0 && t->sent > t->acked) {
        r->unacknowledged = t->sent - t->acked;
    }
    r->refused = t->refused;
    r->misacknowledged = t->misacknowledged;
}

int scenario_run(const struct scenario_options *options, struct scenario_result *ret_result)
{
    struct scenario s = {.options = options, .result = ret_result};

    *ret_result = (struct scenario_result){0};
    plan_make(options, &s.plan);
    s.client_count = options->kind == SCENARIO_IDLE ? options->count : s.plan.receivers + s.plan.publishers;
    ret_result->clients = s.client_count;
    assert(s.client_count > 0 && s.client_count <= CLIENT_COUNT_MAX);

    int rc = traffic_init(&s.traffic, &s.plan);
    if (rc == 0) {
        rc = client_pool_new(&options->target, &handler, &s, s.client_count, &s.pool);
    }
    if (rc != 0) {
        fail(&s, rc, rc == -EINVAL ? "there is no such host" : strerror(-rc));
        traffic_deinit(&s.traffic);
        return rc;
    }
    usage_take(&s, &ret_result->before);
    s.started_ns = s.moved_ns = clock_mono_ns();
    while (!s.failure && s.phase != PHASE_OVER) {
        uint64_t now_ns = clock_mono_ns();
        phase_step(&s, now_ns);
        traffic_pump(&s.traffic);
        rc = client_pool_turn(s.pool, TURN_MS);
        if (rc != 0) {
            fail(&s, rc, "epoll_wait failed");
        }
        stall_check(&s, now_ns);
    }
    judge(&s);
    client_pool_free(s.pool);
    traffic_deinit(&s.traffic);
    return s.failure;
}
