/* metrics_page.c -- /metrics, in the text format of Prometheus. */
#include "broker/admin/admin_inside.h"

static void metrics(struct admin_request *r)
{
    const struct node_tables *node = r->broker->node;
    struct buf body = {0};

    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        uint64_t sum = 0;
        for (unsigned s = 0; s < node->shard_count; s++) {
            const struct metrics *m = __atomic_load_n(&node->metrics[s], __ATOMIC_ACQUIRE);
            sum += m ? __atomic_load_n(&m->values[i], __ATOMIC_RELAXED) : 0;
        }
        const char *name = metric_name((enum metric)i);
        admin_printf(&body, "# HELP %s %s\n# TYPE %s %s\n%s %lld\n", name, metric_help((enum metric)i), name,
                     metric_is_gauge((enum metric)i) ? "gauge" : "counter", name, (long long)sum);
    }
    admin_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static const struct admin_route routes[] = {
    {ADMIN_GET, "/metrics", ADMIN_SCRAPER, metrics},
};

const struct admin_table admin_metrics_table = {routes, COUNT_OF(routes)};
