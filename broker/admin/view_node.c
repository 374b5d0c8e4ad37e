/* A node of the cluster as it sees itself, and what its operator should look at. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "broker/admin/view.h"
#include "broker/base/version.h"
#include "broker/flow/cluster.h"
#include "broker/flow/driver_inside.h"
#include "broker/peer/peer_address.h"
#include "cluster/swim.h"

#define CERTIFICATE_DAYS 14u

static struct metrics *sum_metrics(const struct broker *b)
{
    struct metrics *sum = calloc(1, sizeof(*sum));

    for (unsigned i = 0; sum && i < b->node->shard_count; i++) {
        if (b->node->metrics[i]) {
            metrics_sum(sum, b->node->metrics[i]);
        }
    }
    return sum;
}

static void add_metrics(json_t *object, const struct metrics *m)
{
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        json_object_set_new(object, metric_name((enum metric)i), json_integer((json_int_t)m->values[i]));
    }
}

json_t *view_metrics(struct broker *b)
{
    struct metrics *sum = sum_metrics(b);
    json_t *object = sum ? json_object() : NULL;

    if (object) {
        add_metrics(object, sum);
    }
    free(sum);
    return object;
}

/* Resident, from the kernel's own figures: no disk is behind them. */
static uint64_t memory_bytes(void)
{
    unsigned long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f) {
        if (fscanf(f, "%llu %llu", &size, &resident) != 2) {
            resident = 0;
        }
        fclose(f);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static double cpu_seconds(void)
{
    struct timespec t = {0};

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static json_t *view_links(const struct broker *b)
{
    json_t *links = json_array();

    for (unsigned n = 0; b->cluster && n < NEIGHBOURS_MAX; n++) {
        const struct peer_link *link = b->cluster->links[n];
        uint64_t queued = 0;
        if (!link) {
            continue;
        }
        for (unsigned lane = 0; lane < LINK_LANES; lane++) {
            queued += link_flow_held(&link->flow, lane);
        }
        json_array_append_new(links, json_pack("{s:s, s:b, s:I}", "peer", b->node->cluster->neighbours[n].name, "up",
                                               link->open, "queued_bytes", (json_int_t)queued));
    }
    return links;
}

void view_hex(const uint8_t *bytes, unsigned len, char *text)
{
    for (unsigned i = 0; i < len; i++) {
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
}

static json_t *node_id(const struct broker *b)
{
    char text[33];
    const uint8_t *id = b->node->cluster ? b->node->cluster->terms.node_id.bytes
                        : b->node->store ? b->node->store->identity.node_id
                                         : NULL;

    if (!id) {
        return json_null();
    }
    view_hex(id, 16, text);
    return json_string(text);
}

static json_t *address_of(const struct broker *b)
{
    char text[PEER_ADDRESS_TEXT];

    if (!b->node->cluster) {
        return json_null();
    }
    peer_address_text(&b->node->cluster->address, text);
    return json_string(text);
}

static json_int_t value(const struct metrics *m, enum metric metric)
{
    return (json_int_t)m->values[metric];
}

static void add_counts(struct broker *b, json_t *node, const struct metrics *m)
{
    struct sys_rates rates;
    const struct retained_quota *retained = &b->node->retained_quota;

    sys_rates(b, &rates);
    json_t *counts =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "connections", value(m, METRIC_CONNECTED),
                  "sessions", value(m, METRIC_SESSIONS), "subscriptions", value(m, METRIC_SUBSCRIPTIONS), "retained",
                  (json_int_t)atomic_load(&retained->count), "queued_messages", value(m, METRIC_QUEUED), "memory_bytes",
                  (json_int_t)memory_bytes(), "received_per_second", rates.received, "sent_per_second", rates.sent,
                  "dropped_per_second", rates.dropped);
    json_object_update(node, counts);
    json_decref(counts);
}

json_t *view_node(struct broker *b, bool metrics)
{
    struct metrics *m = sum_metrics(b);
    const char *unready = node_unready(b->node);
    json_t *node = NULL;

    if (m) {
        node = json_pack("{s:s, s:o, s:o, s:s, s:I, s:b, s:o, s:b, s:f, s:i, s:s, s:o}", "node", b->config->node_name,
                         "node_id", node_id(b), "address", address_of(b), "version", TERN_VERSION, "uptime_seconds",
                         (json_int_t)((b->shard->now_ms - b->node->started_ms) / 1000), "ready", unready == NULL,
                         "not_ready_because", unready ? json_string(unready) : json_null(), "draining",
                         b->node->drain.from_ms != 0 || b->stopping, "cpu_seconds", cpu_seconds(), "shards",
                         (int)b->shard->count, "backend", io_name(b->shard->io), "links", view_links(b));
    }
    if (node) {
        add_counts(b, node, m);
    }
    if (node && metrics) {
        json_t *all = json_object();
        add_metrics(all, m);
        json_object_set_new(node, "metrics", all);
    }
    free(m);
    return node;
}

/* ---- alarms ---- */

static void raise(const struct broker *b, json_t *alarms, const char *name, bool critical, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void raise(const struct broker *b, json_t *alarms, const char *name, bool critical, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    json_array_append_new(alarms,
                          json_pack("{s:s, s:s, s:s, s:s}", "name", name, "severity", critical ? "critical" : "warning",
                                    "message", text, "node", b->config->node_name));
}

static void raise_members(const struct broker *b, json_t *alarms)
{
    const struct driver *d = b->cluster ? driver_of(b) : NULL;
    const struct member *m;

    for (unsigned at = 0; d && (m = swim_next(d->swim, &at)) != NULL;) {
        if (m->state == MEMBER_SUSPECT) {
            raise(b, alarms, "node_suspected", false, "node %s does not answer this one", m->name);
        } else if (m->state == MEMBER_DEAD) {
            raise(b, alarms, "node_dead", true, "node %s does not answer: it is taken for dead", m->name);
        }
    }
    for (unsigned n = 0; b->cluster && n < NEIGHBOURS_MAX; n++) {
        const struct peer_link *link = b->cluster->links[n];
        if (link && !link->open) {
            raise(b, alarms, "link_down", true, "the link to node %s is down%s%s", b->node->cluster->neighbours[n].name,
                  link->refusal[0] ? ": " : "", link->refusal);
        }
    }
}

json_t *view_alarms(struct broker *b)
{
    struct metrics *m = sum_metrics(b);
    const char *unready = node_unready(b->node);
    json_t *alarms = m ? json_array() : NULL;
    struct sys_rates rates;

    if (!alarms) {
        free(m);
        return NULL;
    }
    sys_rates(b, &rates);
    if (unready) {
        raise(b, alarms, "not_ready", true, "the node should not be sent clients: %s", unready);
    }
    raise_members(b, alarms);
    if (b->node->store && store_status(b->node->store) == STORE_FULL) {
        raise(b, alarms, "disk_full", true, "the disk is full: messages that must be stored are refused");
    }
    uint64_t expires_s = m->values[METRIC_CERTIFICATE_EXPIRES], now_s = b->shard->wall_ms / 1000;
    if (expires_s > 0 && expires_s < now_s) {
        raise(b, alarms, "certificate_expired", true, "a certificate of a listener has expired");
    } else if (expires_s > 0 && expires_s - now_s < CERTIFICATE_DAYS * 86400) {
        raise(b, alarms, "certificate_expires", false, "a certificate of a listener expires in %llu days",
              (unsigned long long)((expires_s - now_s) / 86400));
    }
    if (rates.dropped > 0) {
        raise(b, alarms, "messages_dropped", false, "messages to clients are being dropped: %.1f a second",
              rates.dropped);
    }
    free(m);
    return alarms;
}
