/* plan.c -- which flows each scenario is made of. */
#include "bench/load/plan.h"

#include <stdio.h>
#include <string.h>

static bool wrong(const char *what, const char *name)
{
    fprintf(stderr, "tern-bench: %s: %s\n", name, what);
    return false;
}

size_t plan_client_id(const struct options *options, uint32_t number, char *out)
{
    return (size_t)snprintf(out, TOPIC_BYTES_MAX, "%.200s-%u", options->prefix, options->start_number + number);
}

size_t plan_topic(const struct options *options, const char *pattern, uint32_t number, uint32_t client, char *out)
{
    char part[TOPIC_BYTES_MAX];
    size_t at = 0;

    for (const char *p = pattern; *p; p++) {
        size_t len = 1;
        part[0] = *p;
        if (*p == '%' && p[1]) {
            switch (*++p) {
            case 'i':
                len = (size_t)snprintf(part, sizeof(part), "%u", number);
                break;
            case 'c':
                len = plan_client_id(options, client, part);
                break;
            case 'u':
                len = (size_t)snprintf(part, sizeof(part), "%s", options->user_name ? options->user_name : "");
                break;
            default:
                part[0] = *p;
            }
        }
        if (len > TOPIC_BYTES_MAX - 1 - at) {
            len = TOPIC_BYTES_MAX - 1 - at;
        }
        memcpy(out + at, part, len);
        at += len;
    }
    out[at] = 0;
    return at;
}

/* The filter for all topics that a pattern can make: + for each level in which something is filled in. */
static bool pattern_filter(const char *pattern, const char *prefix, char *out)
{
    size_t at = (size_t)snprintf(out, TOPIC_BYTES_MAX, "%s", prefix);

    for (const char *p = pattern; *p && at + 2 < TOPIC_BYTES_MAX; p++) {
        if (*p == '%' && (p[1] == 'i' || p[1] == 'c')) {
            if ((p > pattern && p[-1] != '/') || (p[2] && p[2] != '/')) {
                return wrong("%i and %c must be whole levels here, for a wildcard stands in their place", "--topic");
            }
            out[at++] = '+';
            p++;
        } else {
            out[at++] = *p;
        }
    }
    out[at] = 0;
    return true;
}

/* --- the scenarios ----------------------------------------------------------------------------------------------- */

static struct flow_plan *flow_add(struct plan *plan, enum spread spread, const char *topic)
{
    const struct options *o = plan->options;
    struct flow_plan *flow = &plan->flows[plan->flow_count++];

    *flow = (struct flow_plan){
        .spread = spread,
        .publishers = o->publishers,
        .receivers = o->count,
        .streams = o->publishers,
        .filters = 1,
        .slow = o->members_slow,
        .qos = o->qos,
        .batch = o->batch,
        .inflight = o->inflight,
        .rate = o->pub_interval_ms > 0 ? o->publishers * 1000.0 / o->pub_interval_ms : o->rate,
        .limit = o->limit,
    };
    snprintf(flow->topic, sizeof(flow->topic), "%s", o->topic ? o->topic : topic);
    memcpy(flow->filter, flow->topic, sizeof(flow->filter));
    return flow;
}

/* One subscriber for each stream. */
static void pair_add(struct plan *plan, const char *topic, uint32_t pairs, uint8_t qos)
{
    struct flow_plan *flow = flow_add(plan, SPREAD_ONE, topic);

    flow->publishers = flow->receivers = flow->streams = flow->filters = pairs;
    flow->qos = qos;
    if (plan->options->pub_interval_ms > 0) {
        flow->rate = pairs * 1000.0 / plan->options->pub_interval_ms;
    }
}

static bool many_add(struct plan *plan, enum spread spread, const char *topic, const char *prefix)
{
    struct flow_plan *flow = flow_add(plan, spread, topic);

    return pattern_filter(flow->topic, prefix, flow->filter);
}

static void wildcard_add(struct plan *plan)
{
    const struct options *o = plan->options;
    struct flow_plan *flow = flow_add(plan, SPREAD_ONE, "a/b/c/%i/d");

    flow->filters = o->subscriptions;
    flow->streams = o->topics > 0 ? o->topics : o->subscriptions;
    snprintf(flow->filter, sizeof(flow->filter), "a/+/c/%%i/#");
}

static bool retain_add(struct plan *plan)
{
    const struct options *o = plan->options;

    if (!many_add(plan, SPREAD_ALL, "bench/retain/%i", "")) {
        return false;
    }
    struct flow_plan *flow = &plan->flows[0];
    flow->streams = o->topics > 0 ? o->topics : 100000;
    flow->publishers = flow->publishers > flow->streams ? flow->streams : flow->publishers;
    flow->retain = flow->stored = true;
    flow->limit = 0; /* each stream has one message: flow.c */
    return true;
}

static void session_add(struct plan *plan)
{
    struct flow_plan *flow = flow_add(plan, SPREAD_ONE, "bench/session/%i");

    flow->streams = flow->filters = flow->receivers;
    flow->publishers = flow->publishers > flow->streams ? flow->streams : flow->publishers;
    flow->stored = true;
    flow->limit = plan->options->limit; /* of each stream */
}

/* A day in a building: sensors that report to one service, commands that go to a group, requests of every QoS between
 * two, work that is shared out. The rate is divided as the clients are. */
static bool mix_add(struct plan *plan)
{
    const struct options *o = plan->options;
    uint32_t part = o->count / 20 > 0 ? o->count / 20 : 1;
    static const char topic[] = "--topic";

    if (o->topic) {
        return wrong("mix has topics of its own", topic);
    }
    pair_add(plan, "bench/mix/q0/%i", part * 3, 0);
    pair_add(plan, "bench/mix/q1/%i", part * 2, 1);
    pair_add(plan, "bench/mix/q2/%i", part, 2);
    struct flow_plan *in = flow_add(plan, SPREAD_ALL, "bench/mix/report/%i");
    in->publishers = in->streams = part * 5;
    in->receivers = 1;
    struct flow_plan *out = flow_add(plan, SPREAD_ALL, "bench/mix/command");
    out->publishers = out->streams = 1;
    out->receivers = part;
    out->qos = 1;
    struct flow_plan *share = flow_add(plan, SPREAD_SHARED, "bench/mix/task/%i");
    share->publishers = share->streams = part;
    share->receivers = part > 4 ? part / 4 : 1;
    share->qos = 1;
    for (uint32_t i = 0; i < plan->flow_count; i++) {
        struct flow_plan *flow = &plan->flows[i];
        flow->slow = 0;
        flow->rate = o->rate > 0 ? o->rate * flow->publishers / (part * 12 + 1) : 0;
        if (o->pub_interval_ms > 0) {
            flow->rate = flow->publishers * 1000.0 / o->pub_interval_ms;
        }
    }
    return pattern_filter(in->topic, "", in->filter) && pattern_filter(share->topic, "$share/bench/", share->filter);
}

static bool flows_add(struct plan *plan)
{
    const struct options *o = plan->options;

    switch (o->scenario) {
    case SCENARIO_CONN:
        return true;
    case SCENARIO_PUB:
        flow_add(plan, SPREAD_NONE, "bench/pub/%i")->receivers = 0;
        return true;
    case SCENARIO_SUB:
        flow_add(plan, SPREAD_OPEN, "bench/#")->publishers = 0;
        return true;
    case SCENARIO_PAIR:
        pair_add(plan, "bench/pair/%i", o->count, o->qos);
        return true;
    case SCENARIO_FANIN:
        return many_add(plan, SPREAD_ALL, "bench/fanin/%i", "");
    case SCENARIO_FANOUT:
        return many_add(plan, SPREAD_ALL, "bench/fanout", "");
    case SCENARIO_WILDCARD:
        wildcard_add(plan);
        return true;
    case SCENARIO_SHARE:
        return many_add(plan, SPREAD_SHARED, "bench/share/%i", "$share/bench/");
    case SCENARIO_RETAIN:
        return retain_add(plan);
    case SCENARIO_SESSION:
        session_add(plan);
        return true;
    case SCENARIO_MIX:
        return mix_add(plan);
    case SCENARIO_COUNT:
        break;
    }
    return false;
}

bool plan_make(const struct options *options, struct plan *ret_plan)
{
    struct plan *plan = ret_plan;
    uint64_t clients = options->scenario == SCENARIO_CONN ? options->count : 0;

    *plan = (struct plan){.options = options};
    if (options->topic && options->scenario != SCENARIO_SUB &&
        (strpbrk(options->topic, "+#") || strncmp(options->topic, "$share/", 7) == 0 || options->topic[0] == 0)) {
        return wrong("nobody can publish to that topic", "--topic");
    }
    if (!flows_add(plan)) {
        return false;
    }
    for (uint32_t i = 0; i < plan->flow_count; i++) {
        struct flow_plan *flow = &plan->flows[i];
        flow->first_receiver = (uint32_t)clients;
        flow->first_publisher = (uint32_t)clients + flow->receivers;
        clients += flow->receivers + flow->publishers;
        plan->publishes |= flow->publishers > 0;
        plan->subscribes |= flow->receivers > 0;
        if (flow->spread != SPREAD_SHARED && (uint64_t)flow->streams * flow->receivers > 100u * STREAMS_MAX) {
            return wrong("too many topics times subscribers to be checked", scenario_name(options->scenario));
        }
    }
    if (clients > CLIENTS_MAX) {
        return wrong("more than a million clients", scenario_name(options->scenario));
    }
    plan->client_count = (uint32_t)clients;
    return true;
}
