#include <stdlib.h>

#include "broker/admin/api.h"

static void gather_free(struct api_call *call)
{
    struct api_gather *g = CONTAINER_OF(call, struct api_gather, call);

    json_decref(g->rows);
    json_decref(g->missing);
    free(g);
}

static void gather_part(void *context, unsigned from, uint64_t count, struct slice rows)
{
    struct api_gather *g = context;
    struct row row;

    (void)count;
    while (rows_read(&rows, &row) == 0) {
        json_t *object = json_loadb((const char *)row.text.ptr, row.text.len, 0, NULL);
        if (object) {
            if (json_object_get(object, "node_id")) {
                json_object_set_new(object, "role", json_string(from == INQUIRY_HERE ? "self" : "peer"));
            }
            g->failed |= json_array_append_new(g->rows, object) != 0;
        } else {
            g->failed = true;
        }
    }
}

static void gather_done(void *context)
{
    struct api_gather *g = context;

    api_missing(&g->call, g->missing);
    g->call.inquiry = NULL;
    if (g->failed) {
        api_no_memory(&g->call);
    } else {
        g->done(g);
    }
}

void api_gather(struct admin_request *request, unsigned kind, json_t *question, struct slice node,
                void (*done)(struct api_gather *g))
{
    struct api_gather *g = question && node.len <= MEMBER_NAME_MAX ? calloc(1, sizeof(*g)) : NULL;

    if (!g) {
        json_decref(question);
        admin_fail(request, node.len > MEMBER_NAME_MAX ? 404 : 500,
                   node.len > MEMBER_NAME_MAX ? "no node has so long a name" : "memory is out");
        return;
    }
    api_call_init(&g->call, request, gather_free);
    g->done = done;
    g->rows = json_array();
    g->missing = json_array();
    memcpy(g->node, node.len ? (const char *)node.ptr : "", node.len);
    if (g->rows && g->missing) {
        api_inquire(&g->call, kind, question, node.len > 0 ? g->node : NULL, false, gather_part, gather_done, g);
    } else {
        api_no_memory(&g->call);
    }
    json_decref(question);
}

void api_reply_rows(struct api_gather *g)
{
    json_int_t count = (json_int_t)json_array_size(g->rows);

    api_reply_json(&g->call, 200,
                   json_pack("{s:O, s:{s:i, s:I, s:I, s:b, s:O}}", "data", g->rows, "meta", "page", 1, "limit", count,
                             "count", count, "hasnext", 0, "missing", g->missing));
}
