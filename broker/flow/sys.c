/* $SYS: the broker's own figures as retained messages, under mosquitto's names, every sys_interval. They are this
 * node's. */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/base/version.h"
#include "broker/flow/cluster.h"
#include "broker/flow/driver.h"
#include "broker/flow/flow.h"

#define TOPICS_MAX 96

/* The three moving averages of a counter: per minute, over 1, 5 and 15 minutes. */
struct load {
    const char *topic;
    uint64_t last;
    double per_minute[3];
};

enum load_id {
    LOAD_BYTES_RECEIVED,
    LOAD_BYTES_SENT,
    LOAD_CONNECTIONS,
    LOAD_MESSAGES_RECEIVED,
    LOAD_MESSAGES_SENT,
    LOAD_PUBLISH_DROPPED,
    LOAD_PUBLISH_RECEIVED,
    LOAD_PUBLISH_SENT,
    LOAD_SOCKETS,
    LOAD_COUNT,
};

struct sys {
    struct timer timer;
    struct broker *broker;
    struct load loads[LOAD_COUNT];
    uint64_t last_ms;
    uint64_t clients_max, heap_max;
    uint64_t lost;             /* messages that there was no memory or room for, when the last round began */
    char said[TOPICS_MAX][40]; /* what was last published on each topic, or its hash, so that only changes are */
    unsigned topic_at;
};

static const char *const load_topics[LOAD_COUNT] = {
    "bytes/received",  "bytes/sent",       "connections",  "messages/received", "messages/sent",
    "publish/dropped", "publish/received", "publish/sent", "sockets",
};

static void say_text(struct sys *sys, const char *name, const char *value)
{
    char topic[96], mark[sizeof(sys->said[0])];
    char *said = sys->said[sys->topic_at++ % TOPICS_MAX];
    size_t len = strlen(value);

    if (len < sizeof(mark)) {
        memcpy(mark, value, len + 1);
    } else {
        snprintf(mark, sizeof(mark), "%zu %016" PRIx64, len, broker_hash(sys->broker, slice_str(value)));
    }
    if (strcmp(said, mark) == 0) {
        return;
    }
    memcpy(said, mark, sizeof(mark));
    snprintf(topic, sizeof(topic), "$SYS/broker/%s", name);
    publish_internal(sys->broker, slice_str(topic), slice_str(value), true);
}

static void say(struct sys *sys, const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, value);
    say_text(sys, name, text);
}

static uint64_t dropped(const struct metrics *m)
{
    return m->values[METRIC_DROPPED_QUEUE_FULL] + m->values[METRIC_DROPPED_OUTBOX_FULL] +
           m->values[METRIC_DROPPED_OFFLINE] + m->values[METRIC_DROPPED_EXPIRED] + m->values[METRIC_DROPPED_TOO_LARGE] +
           m->values[METRIC_DROPPED_NO_MEMORY] + m->values[METRIC_DROPPED_RETAIN_QUOTA] +
           m->values[METRIC_DROPPED_NO_MEMBER];
}

#define SAMPLE_MS 5000u

static uint64_t sum_of(const struct broker *b, enum metric metric)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < b->node->shard_count; i++) {
        const struct metrics *m = __atomic_load_n(&b->node->metrics[i], __ATOMIC_ACQUIRE);
        sum += m ? __atomic_load_n(&m->values[metric], __ATOMIC_RELAXED) : 0;
    }
    return sum;
}

static uint64_t dropped_here(const struct broker *b)
{
    static const enum metric reasons[] = {
        METRIC_DROPPED_QUEUE_FULL, METRIC_DROPPED_OUTBOX_FULL,  METRIC_DROPPED_EXPIRED,   METRIC_DROPPED_TOO_LARGE,
        METRIC_DROPPED_NO_MEMORY,  METRIC_DROPPED_RETAIN_QUOTA, METRIC_DROPPED_NO_MEMBER, METRIC_DROPPED_DISK_FULL,
        METRIC_DROPPED_LINK_FULL,  METRIC_DROPPED_DENIED};
    uint64_t sum = 0;

    for (unsigned i = 0; i < COUNT_OF(reasons); i++) {
        sum += sum_of(b, reasons[i]);
    }
    return sum;
}

void sys_sample(struct broker *b)
{
    if (b->samples[1].at_ms != 0 && b->shard->now_ms - b->samples[1].at_ms < SAMPLE_MS) {
        return;
    }
    b->samples[0] = b->samples[1];
    b->samples[1].at_ms = b->shard->now_ms;
    b->samples[1].received = sum_of(b, METRIC_PUBLISH_RECEIVED);
    b->samples[1].sent = sum_of(b, METRIC_PUBLISH_SENT);
    b->samples[1].dropped = dropped_here(b);
}

void sys_rates(const struct broker *b, struct sys_rates *rates)
{
    unsigned since = b->samples[0].at_ms == 0; /* the node is new: the younger one, which may be very young */
    uint64_t elapsed_ms = b->shard->now_ms - b->samples[since].at_ms;

    *rates = (struct sys_rates){0};
    if (b->samples[since].at_ms != 0 && elapsed_ms > 0) {
        double s = (double)elapsed_ms / 1000;
        rates->received = (double)(sum_of(b, METRIC_PUBLISH_RECEIVED) - b->samples[since].received) / s;
        rates->sent = (double)(sum_of(b, METRIC_PUBLISH_SENT) - b->samples[since].sent) / s;
        rates->dropped = (double)(dropped_here(b) - b->samples[since].dropped) / s;
    }
}

static void say_clients(struct sys *sys, const struct metrics *m)
{
    uint64_t connected = m->values[METRIC_CONNECTED], total = m->values[METRIC_SESSIONS];

    sys->clients_max = connected > sys->clients_max ? connected : sys->clients_max;
    say(sys, "clients/connected", connected);
    say(sys, "clients/active", connected);
    say(sys, "clients/disconnected", total - connected);
    say(sys, "clients/inactive", total - connected);
    say(sys, "clients/total", total);
    say(sys, "clients/maximum", sys->clients_max);
    say(sys, "clients/expired", m->values[METRIC_SESSIONS_EXPIRED]);
    say(sys, "connections/socket/count", m->values[METRIC_SOCKETS]);
    say(sys, "subscriptions/count", m->values[METRIC_SUBSCRIPTIONS]);
    say(sys, "shared_subscriptions/count", m->values[METRIC_SHARED_SUBSCRIPTIONS]);
}

static void say_traffic(struct sys *sys, const struct metrics *m)
{
    say(sys, "bytes/received", m->values[METRIC_BYTES_RECEIVED]);
    say(sys, "bytes/sent", m->values[METRIC_BYTES_SENT]);
    say(sys, "messages/received", m->values[METRIC_PACKETS_RECEIVED]);
    say(sys, "messages/sent", m->values[METRIC_PACKETS_SENT]);
    say(sys, "publish/messages/received", m->values[METRIC_PUBLISH_RECEIVED]);
    say(sys, "publish/messages/sent", m->values[METRIC_PUBLISH_SENT]);
    say(sys, "publish/messages/dropped", dropped(m));
    say(sys, "publish/bytes/received", m->values[METRIC_PUBLISH_BYTES_RECEIVED]);
    say(sys, "publish/bytes/sent", m->values[METRIC_PUBLISH_BYTES_SENT]);
    say(sys, "packet/out/count", m->values[METRIC_OUTBOXES]);
    say(sys, "packet/out/bytes", m->values[METRIC_OUTBOX_BYTES]);
}

static void say_store(struct sys *sys, const struct metrics *m)
{
    struct mallinfo2 heap = mallinfo2();

    sys->heap_max = heap.uordblks > sys->heap_max ? heap.uordblks : sys->heap_max;
    say(sys, "heap/current", heap.uordblks);
    say(sys, "heap/maximum", sys->heap_max);
    say(sys, "retained messages/count", m->values[METRIC_RETAINED]);
    say(sys, "store/messages/count", m->values[METRIC_QUEUED] + m->values[METRIC_RETAINED]);
    say(sys, "store/messages/bytes", m->values[METRIC_QUEUED_BYTES] + m->values[METRIC_RETAINED_BYTES]);
    say(sys, "messages/stored", m->values[METRIC_QUEUED] + m->values[METRIC_RETAINED]);
}

static void say_load(struct sys *sys, enum load_id id, uint64_t value, double elapsed_s)
{
    static const char *const minutes[3] = {"1min", "5min", "15min"};
    static const double seconds[3] = {60, 300, 900};
    struct load *load = &sys->loads[id];
    double rate = elapsed_s > 0 ? (double)(value - load->last) * 60 / elapsed_s : 0;
    char topic[64], text[32];

    load->last = value;
    for (int i = 0; i < 3; i++) {
        double weight = exp(-elapsed_s / seconds[i]);
        load->per_minute[i] = rate + weight * (load->per_minute[i] - rate);
        snprintf(topic, sizeof(topic), "load/%s/%s", load_topics[id], minutes[i]);
        snprintf(text, sizeof(text), "%.2f", load->per_minute[i]);
        say_text(sys, topic, text);
    }
}

static void say_loads(struct sys *sys, const struct metrics *m, double elapsed_s)
{
    say_load(sys, LOAD_BYTES_RECEIVED, m->values[METRIC_BYTES_RECEIVED], elapsed_s);
    say_load(sys, LOAD_BYTES_SENT, m->values[METRIC_BYTES_SENT], elapsed_s);
    say_load(sys, LOAD_CONNECTIONS, m->values[METRIC_CONNECTS], elapsed_s);
    say_load(sys, LOAD_MESSAGES_RECEIVED, m->values[METRIC_PACKETS_RECEIVED], elapsed_s);
    say_load(sys, LOAD_MESSAGES_SENT, m->values[METRIC_PACKETS_SENT], elapsed_s);
    say_load(sys, LOAD_PUBLISH_DROPPED, dropped(m), elapsed_s);
    say_load(sys, LOAD_PUBLISH_RECEIVED, m->values[METRIC_PUBLISH_RECEIVED], elapsed_s);
    say_load(sys, LOAD_PUBLISH_SENT, m->values[METRIC_PUBLISH_SENT], elapsed_s);
    say_load(sys, LOAD_SOCKETS, m->values[METRIC_SOCKETS_OPENED], elapsed_s);
}

static void say_members(struct sys *sys)
{
    struct broker *b = sys->broker;
    struct buf list = {0};

    if (b->cluster) {
        say(sys, "cluster/nodes/count", atomic_load(&b->node->cluster->neighbour_count) + 1);
        driver_list(b, &list);
        buf_u8(&list, 0);
        if (list.failed) { /* an empty text would take the topic away */
            sys->topic_at++;
        } else {
            say_text(sys, "cluster/members", (const char *)list.ptr);
        }
        buf_deinit(&list);
    }
}

static void say_cluster(struct sys *sys, const struct metrics *m)
{
    const struct node_tables *node = sys->broker->node;
    char id[CLUSTER_ID_TEXT] = "";

    say(sys, "cluster/ready", node_unready(node) == NULL);
    say(sys, "cluster/gossip/refused", m->values[METRIC_GOSSIP_REFUSED]);
    if (node->cluster && atomic_load(&node->cluster->terms.has_id)) {
        cluster_id_text(node->cluster->terms.cluster_id, id);
    }
    say_text(sys, "cluster/id", id);
    say_members(sys);
}

/* What was lost since the last round may have been a figure of it, on whichever shard its topic is at home: then each
 * is said again, or one that does not change would stay wrong for ever. */
static void repeat_lost(struct sys *sys, const struct metrics *m)
{
    uint64_t lost = m->values[METRIC_DROPPED_NO_MEMORY] + m->values[METRIC_DROPPED_RETAIN_QUOTA];

    if (lost != sys->lost) {
        memset(sys->said, 0, sizeof(sys->said));
    }
    sys->lost = lost;
}

static void sys_fire(struct timer *timer, uint64_t now_ms)
{
    struct sys *sys = CONTAINER_OF(timer, struct sys, timer);
    struct broker *b = sys->broker;
    uint64_t interval_ms = b->config->sys_interval_ms;
    struct metrics *sum = interval_ms ? calloc(1, sizeof(*sum)) : NULL;
    char uptime[32];

    timer_set(b->shard->timers, timer, now_ms + (interval_ms ? interval_ms : 1000)); /* a reload may bring one */
    if (!sum) {
        return;
    }
    for (unsigned i = 0; i < b->node->shard_count; i++) {
        metrics_sum(sum, b->node->metrics[i]);
    }
    repeat_lost(sys, sum);
    sys->topic_at = 0;
    say_text(sys, "version", "tern " TERN_VERSION);
    snprintf(uptime, sizeof(uptime), "%" PRIu64 " seconds", (now_ms - b->node->started_ms) / 1000);
    say_text(sys, "uptime", uptime);
    say_clients(sys, sum);
    say_traffic(sys, sum);
    say_store(sys, sum);
    say_cluster(sys, sum);
    say_loads(sys, sum, (double)(now_ms - sys->last_ms) / 1000);
    sys->last_ms = now_ms;
    free(sum);
}

int sys_start(struct broker *b)
{
    struct sys *sys = calloc(1, sizeof(*sys));
    if (!sys) {
        return -ENOMEM;
    }
    sys->broker = b;
    sys->last_ms = b->shard->now_ms;
    b->sys = sys;
    timer_init(&sys->timer, sys_fire);
    timer_set(b->shard->timers, &sys->timer, b->shard->now_ms);
    return 0;
}

void sys_stop(struct broker *b)
{
    if (b->sys) {
        timer_cancel(b->shard->timers, &b->sys->timer);
        free(b->sys);
        b->sys = NULL;
    }
}
