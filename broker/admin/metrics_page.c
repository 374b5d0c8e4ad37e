/* metrics_page.c -- /metrics, in the text format of Prometheus: the counters and histograms of all shards.
 *
 * The page is written in pieces, one a turn, from sums that were taken at once. What a label says is an index of a
 * small array: nothing here grows with clients or topics. */
#include <ctype.h>
#include <stdlib.h>

#include "broker/admin/metrics_page.h"
#include "broker/flow/cluster.h"
#include "proto/mqtt/mqtt.h"

#define BUCKETS_TOGETHER 8u /* two powers of two */

void page_head(struct buf *out, const char *name, const char *type, const char *help)
{
    admin_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void page_label(struct buf *out, const char *label, struct slice value)
{
    admin_printf(out, "{%s=\"", label);
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.ptr[i];
        if (c == '"' || c == '\\') {
            buf_u8(out, '\\');
        }
        buf_u8(out, c < 0x20 ? '_' : c);
    }
    buf_put(out, SLICE("\"}"));
}

void page_gauge(struct buf *out, const char *name, const char *help, double value)
{
    page_head(out, name, "gauge", help);
    admin_printf(out, "%s %.15g\n", name, value);
}

/* ---- one label ---- */

/* "Keep Alive timeout": keep_alive_timeout. */
static bool reason_label(unsigned reason, char *out, size_t size)
{
    const char *name = mqtt_reason_name((enum mqtt_reason)reason);
    size_t n = 0;

    if (reason < 0x80 || strcmp(name, "unknown reason code") == 0) {
        return false;
    }
    for (; name[n] && n + 1 < size; n++) {
        out[n] = isalnum((unsigned char)name[n]) ? (char)tolower((unsigned char)name[n]) : '_';
    }
    out[n] = '\0';
    return true;
}

/* What the at-th value of a family's label is called; false: there is no such value. */
static bool cell_label(const struct node_tables *node, enum metric_family family, unsigned at, char *out, size_t size)
{
    static const char *const versions[] = {"3.1", "3.1.1", "5.0"};
    static const char *const gone[] = {
        [METRIC_DISCONNECT_NORMAL] = "normal",
        [METRIC_DISCONNECT_LOST] = "connection_lost",
    };

    switch (family) {
    case METRIC_FAMILY_RECEIVED_BY_QOS:
    case METRIC_FAMILY_SENT_BY_QOS:
        snprintf(out, size, "%u", at);
        return true;
    case METRIC_FAMILY_CONNECTS_BY_VERSION:
        snprintf(out, size, "%s", versions[at]);
        return true;
    case METRIC_FAMILY_DISCONNECTS_BY_REASON:
        if (at < COUNT_OF(gone)) {
            snprintf(out, size, "%s", gone[at]);
            return true;
        }
        return reason_label(at, out, size);
    case METRIC_FAMILY_REFUSED_BY_REASON:
        return reason_label(at, out, size);
    case METRIC_FAMILY_SENT_BY_LINK:
    case METRIC_FAMILY_RECEIVED_BY_LINK:
        if (!node->cluster || !node->cluster->neighbours[at].used) {
            return false;
        }
        snprintf(out, size, "%s", node->cluster->neighbours[at].name);
        for (char *c = out; *c; c++) {
            *c = (char)(*c == '"' || *c == '\\' ? '_' : *c);
        }
        return true;
    default:
        snprintf(out, size, "%s", mqtt_type_name((enum mqtt_type)at));
        for (char *c = out; *c; c++) {
            *c = (char)tolower((unsigned char)*c);
        }
        return at > 0;
    }
}

static void put_family(struct buf *out, const struct node_tables *node, const struct metrics *sum,
                       enum metric_family family)
{
    const struct metric_family_terms *t = metric_family_terms(family);
    char label[MEMBER_NAME_MAX + 1];

    page_head(out, t->name, "counter", t->help);
    for (unsigned i = 0; i < t->count; i++) {
        if (cell_label(node, family, i, label, sizeof(label))) {
            admin_printf(out, "%s{%s=\"%s\"} %llu\n", t->name, t->label, label,
                         (unsigned long long)sum->cells[t->first + i]);
        }
    }
}

/* ---- those without ---- */

static bool is_family(const char *name)
{
    for (unsigned f = 0; f < METRIC_FAMILY_COUNT; f++) {
        if (strcmp(metric_family_terms((enum metric_family)f)->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void put_counters(struct buf *out, const struct metrics *sum)
{
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        enum metric metric = (enum metric)i;
        const char *name = metric_name(metric);
        if (i == METRIC_CERTIFICATE_EXPIRES || is_family(name)) {
            continue; /* those with a label say more */
        }
        page_head(out, name, metric_is_gauge(metric) ? "gauge" : "counter", metric_help(metric));
        admin_printf(out, "%s %lld\n", name, (long long)sum->values[i]);
    }
}

static void put_dropped(struct buf *out, const struct metrics *sum)
{
    static const char name[] = "tern_messages_dropped_total", begin[] = "tern_dropped_", end[] = "_total";

    page_head(out, name, "counter", "Deliveries that did not come about.");
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        const char *own = metric_name((enum metric)i);
        size_t n = strlen(own);
        if (strncmp(own, begin, sizeof(begin) - 1) == 0) {
            admin_printf(out, "%s{reason=\"%.*s\"} %llu\n", name, (int)(n - sizeof(begin) - sizeof(end) + 2),
                         own + sizeof(begin) - 1, (unsigned long long)sum->values[i]);
        }
    }
}

static void put_features(struct buf *out, const struct metrics *sum)
{
    static const char name[] = "tern_features_in_use", begin[] = "tern_feature_", end[] = "_total";

    page_head(out, name, "gauge", "Whether a client has used the feature since the start.");
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        const char *own = metric_name((enum metric)i);
        size_t n = strlen(own);
        if (strncmp(own, begin, sizeof(begin) - 1) == 0) {
            admin_printf(out, "%s{feature=\"%.*s\"} %u\n", name, (int)(n - sizeof(begin) - sizeof(end) + 2),
                         own + sizeof(begin) - 1, sum->values[i] != 0);
        }
    }
}

/* ---- histograms ---- */

static void put_buckets(struct buf *out, const struct metrics *m, enum metric_histogram h, const char *label)
{
    const char *name = metric_histogram_name(h), *comma = *label ? "," : "";
    uint64_t count = 0;

    for (unsigned b = 0; b < METRIC_BUCKETS; b++) {
        count += __atomic_load_n(&m->buckets[h][b], __ATOMIC_RELAXED);
        if (b % BUCKETS_TOGETHER == 0) {
            admin_printf(out, "%s_bucket{%s%sle=\"%.9g\"} %llu\n", name, label, comma,
                         (double)metric_bucket_ns(b) / 1e9, (unsigned long long)count);
        }
    }
    admin_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, label, comma, (unsigned long long)count);
    const char *open = *label ? "{" : "", *close = *label ? "}" : "";
    admin_printf(out, "%s_sum%s%s%s %.9f\n%s_count%s%s%s %llu\n", name, open, label, close,
                 (double)__atomic_load_n(&m->sum_ns[h], __ATOMIC_RELAXED) / 1e9, name, open, label, close,
                 (unsigned long long)count);
}

static void put_histogram(struct buf *out, const struct node_tables *node, const struct metrics *sum,
                          enum metric_histogram h)
{
    page_head(out, metric_histogram_name(h), "histogram", metric_histogram_help(h));
    for (unsigned i = 0; h == METRIC_HISTOGRAM_TURN && i < node->shard_count; i++) {
        char label[32];
        snprintf(label, sizeof(label), "shard=\"%u\"", i);
        if (node->metrics[i]) {
            put_buckets(out, node->metrics[i], h, label);
        }
    }
    if (h != METRIC_HISTOGRAM_TURN) {
        put_buckets(out, sum, h, "");
    }
}

/* ---- the page ---- */

enum page_piece {
    PIECE_COUNTERS,
    PIECE_DROPPED,
    PIECE_NODE,
    PIECE_PROCESS,
    PIECE_FAMILY,
    PIECE_HISTOGRAM = PIECE_FAMILY + METRIC_FAMILY_COUNT,
    PIECE_END = PIECE_HISTOGRAM + METRIC_HISTOGRAM_COUNT,
};

struct page {
    struct metrics sum;
    struct buf body;
    unsigned piece;
};

static void page_gone(struct admin_request *r)
{
    struct page *page = r->context;

    buf_deinit(&page->body);
    free(page);
}

static void page_step(struct admin_request *r)
{
    struct page *page = r->context;
    struct buf *out = &page->body;
    unsigned piece = page->piece++;

    if (piece == PIECE_COUNTERS) {
        put_counters(out, &page->sum);
    } else if (piece == PIECE_DROPPED) {
        put_dropped(out, &page->sum);
        put_features(out, &page->sum);
    } else if (piece == PIECE_NODE) {
        page_node(out, r->broker, admin_conn_of(r)->admin);
    } else if (piece == PIECE_PROCESS) {
        page_process(out, r->broker, admin_conn_of(r)->admin, &page->sum);
    } else if (piece < PIECE_HISTOGRAM) {
        put_family(out, r->broker->node, &page->sum, (enum metric_family)(piece - PIECE_FAMILY));
    } else if (piece < PIECE_END) {
        put_histogram(out, r->broker->node, &page->sum, (enum metric_histogram)(piece - PIECE_HISTOGRAM));
    } else {
        struct buf body = page->body;
        free(page);
        admin_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
    }
}

static void metrics(struct admin_request *r)
{
    const struct node_tables *node = r->broker->node;
    struct page *page = calloc(1, sizeof(*page));

    if (!page) {
        admin_fail(r, 500, "memory is out");
        return;
    }
    for (unsigned i = 0; i < node->shard_count; i++) {
        const struct metrics *m = __atomic_load_n(&node->metrics[i], __ATOMIC_ACQUIRE);
        if (m) {
            metrics_sum(&page->sum, m);
        }
    }
    r->context = page;
    r->gone = page_gone;
    r->step = page_step;
}

static const struct admin_route routes[] = {
    {ADMIN_GET, "/metrics", ADMIN_SCRAPER, metrics},
};

const struct admin_table admin_metrics_table = {routes, COUNT_OF(routes)};
