/* Nodes, the cluster, and what is wrong with them. */
#include <stdlib.h>

#include "broker/admin/api_tables.h"
#include "broker/admin/desk.h"
#include "broker/admin/view.h"
#include "broker/base/version.h"
#include "broker/flow/cluster.h"
#include "broker/flow/driver_inside.h"
#include "cluster/swim.h"

static const char *state_name(enum member_state state)
{
    static const char *const names[] = {[MEMBER_NONE] = "unknown",
                                        [MEMBER_ALIVE] = "alive",
                                        [MEMBER_SUSPECT] = "suspect",
                                        [MEMBER_DEAD] = "dead",
                                        [MEMBER_LEFT] = "left"};
    return names[state];
}

static int compare_nodes(const void *a, const void *b)
{
    return strcmp(json_string_value(json_object_get(*(json_t *const *)a, "node")),
                  json_string_value(json_object_get(*(json_t *const *)b, "node")));
}

/* By name, so that a table of them stays as it is. */
static void sort_nodes(json_t *nodes)
{
    size_t count = json_array_size(nodes);
    json_t **list = calloc(count ? count : 1, sizeof(*list));

    for (size_t i = 0; list && i < count; i++) {
        list[i] = json_incref(json_array_get(nodes, i));
    }
    if (list) {
        qsort(list, count, sizeof(json_t *), compare_nodes);
        json_array_clear(nodes);
    }
    for (size_t i = 0; list && i < count; i++) {
        json_array_append_new(nodes, list[i]);
    }
    free(list);
}

static json_t *find_node(const json_t *nodes, const char *id)
{
    size_t i;
    json_t *node;

    json_array_foreach(nodes, i, node)
    {
        const char *other = json_string_value(json_object_get(node, "node_id"));
        if (other && strcmp(other, id) == 0) {
            return node;
        }
    }
    return NULL;
}

/* What the membership says of each; and those that have not answered, or are dead, in few words. */
static void add_members(const struct broker *b, json_t *nodes)
{
    const struct driver *d = b->cluster ? driver_of(b) : NULL;
    const struct member *m;
    char id[2 * sizeof(m->id.bytes) + 1];

    for (unsigned at = 0; d && (m = swim_next(d->swim, &at)) != NULL;) {
        view_hex(m->id.bytes, sizeof(m->id.bytes), id);
        json_t *node = find_node(nodes, id);
        if (!node) {
            node = json_pack("{s:s, s:s, s:s}", "node", m->name, "node_id", id, "role", "peer");
            json_array_append_new(nodes, node);
        }
        json_object_set_new(node, "state", json_string(state_name(m->state)));
    }
    if (!d && json_array_size(nodes) == 1) {
        json_object_set_new(json_array_get(nodes, 0), "state", json_string("alive"));
    }
}

static void reply_nodes(struct api_gather *g)
{
    add_members(g->call.b, g->rows);
    sort_nodes(g->rows);
    api_reply_rows(g);
}

static void list_nodes(struct admin_request *request)
{
    api_gather(request, DESK_NODE, json_object(), SLICE(""), reply_nodes);
}

static void reply_node(struct api_gather *g)
{
    size_t i;
    json_t *node;

    if (json_array_size(g->rows) == 0) {
        api_error(&g->call, 503, "node \"%s\" has not answered", g->node);
        return;
    }
    add_members(g->call.b, g->rows);
    json_array_foreach(g->rows, i, node)
    {
        if (json_object_get(node, "metrics")) {
            api_reply_json(&g->call, 200, json_incref(node));
            return;
        }
    }
    api_no_memory(&g->call);
}

static void show_node(struct admin_request *request)
{
    api_gather(request, DESK_NODE, json_pack("{s:b}", "metrics", 1), request->params[0], reply_node);
}

/* ---- the cluster in sums ---- */

static void add_up(json_t *cluster, const json_t *nodes, const char *field)
{
    json_int_t sum = 0;
    size_t i;
    json_t *node;

    json_array_foreach(nodes, i, node)
    {
        sum += json_integer_value(json_object_get(node, field));
    }
    json_object_set_new(cluster, field, json_integer(sum));
}

static void reply_cluster(struct api_gather *g)
{
    static const char *const sums[] = {"connections", "sessions", "subscriptions", "queued_messages"};
    const struct node_cluster *c = g->call.b->node->cluster;
    char id[CLUSTER_ID_TEXT] = "";
    json_int_t ready = 0, living = 0;
    size_t i;
    json_t *node;

    add_members(g->call.b, g->rows);
    json_array_foreach(g->rows, i, node)
    {
        const char *state = json_string_value(json_object_get(node, "state"));
        ready += json_is_true(json_object_get(node, "ready"));
        living += state && (strcmp(state, "alive") == 0 || strcmp(state, "suspect") == 0);
    }
    if (c && atomic_load(&c->terms.has_id)) {
        cluster_id_text(c->terms.cluster_id, id);
    }
    json_t *cluster =
        json_pack("{s:o, s:o, s:I, s:I, s:I, s:O}", "name", c ? json_string(c->terms.cluster) : json_null(), "id",
                  id[0] ? json_string(id) : json_null(), "nodes", (json_int_t)json_array_size(g->rows), "alive", living,
                  "ready", ready, "missing", g->missing);
    for (i = 0; cluster && i < COUNT_OF(sums); i++) {
        add_up(cluster, g->rows, sums[i]);
    }
    api_reply_json(&g->call, 200, cluster);
}

static void show_cluster(struct admin_request *request)
{
    api_gather(request, DESK_NODE, json_object(), SLICE(""), reply_cluster);
}

/* ---- alarms ---- */

static void list_alarms(struct admin_request *request)
{
    api_gather(request, DESK_ALARMS, json_object(), SLICE(""), api_reply_rows);
}

/* ---- this node ---- */

static void show_status(struct admin_request *request)
{
    struct broker *b = request->broker;
    const char *unready = node_unready(b->node);

    api_say(request, unready ? 503 : 200,
            json_pack("{s:s, s:s, s:s, s:I, s:o, s:s, s:s}", "status",
                      !unready                                     ? "running"
                      : b->stopping || b->node->drain.from_ms != 0 ? "draining"
                                                                   : "joining",
                      "node", b->config->node_name, "version", TERN_VERSION, "uptime_seconds",
                      (json_int_t)((b->shard->now_ms - b->node->started_ms) / 1000), "not_ready_because",
                      unready ? json_string(unready) : json_null(), "user", request->user, "role",
                      request->role == ADMIN_OPERATOR ? "operator" : "viewer"));
}

static void show_metrics(struct admin_request *request)
{
    api_say(request, 200, view_metrics(request->broker));
}

/* The counts that stand in an object of /nodes, of this node. */
static void show_stats(struct admin_request *request)
{
    json_t *node = view_node(request->broker, false), *stats = node ? json_object() : NULL, *value;
    const char *name;

    json_object_foreach(node, name, value)
    {
        if (stats && json_is_number(value)) {
            json_object_set(stats, name, value);
        }
    }
    json_decref(node);
    api_say(request, 200, stats);
}

static const struct admin_route routes[] = {
    {ADMIN_GET, "/api/v1/status", ADMIN_VIEWER, show_status},
    {ADMIN_GET, "/api/v1/nodes", ADMIN_VIEWER, list_nodes},
    {ADMIN_GET, "/api/v1/nodes/:node", ADMIN_VIEWER, show_node},
    {ADMIN_GET, "/api/v1/cluster", ADMIN_VIEWER, show_cluster},
    {ADMIN_GET, "/api/v1/alarms", ADMIN_VIEWER, list_alarms},
    {ADMIN_GET, "/api/v1/metrics", ADMIN_VIEWER, show_metrics},
    {ADMIN_GET, "/api/v1/stats", ADMIN_VIEWER, show_stats},
};

const struct admin_table admin_nodes_table = {routes, COUNT_OF(routes)};
