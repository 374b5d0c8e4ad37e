/* Lists of the whole cluster: asked of all shards of all nodes, merged, cut to the page.
 *
 * Of the first pages every shard sends the objects at once. For a page further down that would be thousands that are
 * not shown: then they send only what they sort by, and when it is known between which two rows the page lies, they are
 * asked again, for the objects of that part alone. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/admin/api.h"
#include "broker/admin/desk.h"
#include "broker/admin/view.h"

#define OBJECTS_AT_ONCE 1000u /* rows up to the page's last, so that one question is enough */
#define ROWS_MAX 100000u
#define LIMIT_MAX 1000u
#define LIMIT 100u

struct listing {
    struct api_call call; /* first */
    unsigned kind;
    json_t *question; /* owned */
    struct rows rows;
    uint32_t page, limit;
    uint64_t count;
    json_t *missing; /* owned */
    char *node;      /* owned; NULL: all */
    bool failed, second, cut, here;
};

static void listing_free(struct api_call *call)
{
    struct listing *l = CONTAINER_OF(call, struct listing, call);

    rows_deinit(&l->rows);
    json_decref(l->question);
    json_decref(l->missing);
    free(l->node);
    free(l);
}

static void take_part(void *context, unsigned from, uint64_t count, struct slice rows)
{
    struct listing *l = context;
    struct row row;
    int rc;

    l->count += l->second ? 0 : count;
    while ((rc = rows_read(&rows, &row)) == 0) {
        row.from = from;
        l->failed |= rows_offer(&l->rows, &row) != 0;
    }
    l->failed |= rc == -EPROTO;
}

/* "topics" have no object of their own: what the rows say is put together here. */
static int write_topic(const struct broker *b, const struct rows_kept *kept, struct buf *out)
{
    struct slice name = kept->row.name, share = SLICE(""), filter = name;
    json_t *nodes = json_array();

    api_share_split(name, &share, &filter);
    for (unsigned n = 0; n < ROWS_NODES; n++) {
        if (kept->nodes[n / 64] >> n % 64 & 1) {
            json_array_append_new(nodes, json_string(inquire_node_name(b, n)));
        }
    }
    return view_write(json_pack("{s:o, s:o, s:o, s:I}", "topic", view_text(filter), "share",
                                share.len ? view_text(share) : json_null(), "nodes", nodes, "subscribers",
                                (json_int_t)kept->row.number),
                      out);
}

static void write_meta(struct listing *l, uint64_t last, struct buf *out)
{
    uint64_t count = l->kind == DESK_TOPICS && l->rows.count < l->rows.order.keep ? l->rows.count : l->count;

    buf_put(out, SLICE("],\"meta\":"));
    if (view_write(json_pack("{s:i, s:i, s:I, s:b, s:O}", "page", (int)l->page, "limit", (int)l->limit, "count",
                             (json_int_t)count, "hasnext", count > last, "missing", l->missing),
                   out) != 0) {
        l->failed = true;
    }
    buf_put(out, SLICE("}"));
}

static void reply(struct listing *l)
{
    struct buf out = {0};
    uint64_t first = l->second ? 0 : (uint64_t)(l->page - 1) * l->limit;
    uint64_t end = first + l->limit < l->rows.count ? first + l->limit : l->rows.count;

    buf_put(&out, SLICE("{\"data\":["));
    for (uint64_t i = first; i < end; i++) {
        if (i > first) {
            buf_u8(&out, ',');
        }
        if (l->kind == DESK_TOPICS) {
            l->failed |= write_topic(l->call.b, l->rows.kept[i], &out) != 0;
        } else {
            buf_put(&out, l->rows.kept[i]->row.text);
        }
    }
    write_meta(l, (uint64_t)l->page * l->limit, &out);
    if (l->failed || out.failed) {
        buf_deinit(&out);
        api_no_memory(&l->call);
        return;
    }
    api_reply(&l->call, 200, &out);
}

static void ask(struct listing *l);

/* The page is known by what it is sorted by: now its objects. */
static void ask_again(struct listing *l)
{
    uint64_t first = (uint64_t)(l->page - 1) * l->limit;
    uint64_t end = first + l->limit < l->rows.count ? first + l->limit : l->rows.count;
    const struct row *lo = &l->rows.kept[first]->row, *hi = &l->rows.kept[end - 1]->row;
    struct rows_order order = l->rows.order;

    l->second = true;
    json_object_set_new(l->question, "keep", json_integer(l->limit));
    json_object_set_new(l->question, "text", json_true());
    json_object_set_new(
        l->question, "lo",
        json_pack("[I, o]", (json_int_t)lo->number, json_stringn((const char *)lo->name.ptr, lo->name.len)));
    json_object_set_new(
        l->question, "hi",
        json_pack("[I, o]", (json_int_t)hi->number, json_stringn((const char *)hi->name.ptr, hi->name.len)));
    rows_deinit(&l->rows);
    order.keep = l->limit;
    rows_init(&l->rows, &order);
    ask(l);
}

static void all_answered(void *context)
{
    struct listing *l = context;

    api_missing(&l->call, l->missing);
    l->call.inquiry = NULL;
    if (l->failed) {
        api_no_memory(&l->call);
        return;
    }
    rows_sort(&l->rows);
    if (l->cut && !l->second && l->rows.count > (uint64_t)(l->page - 1) * l->limit) {
        ask_again(l);
    } else {
        reply(l);
    }
}

static void ask(struct listing *l)
{
    api_inquire(&l->call, l->kind, l->question, l->node, l->here, take_part, all_answered, l);
}

/* Page and limit. Returns false when the client has been told that they are wrong. */
static bool read_page(struct listing *l)
{
    struct admin_request *request = l->call.request;
    uint64_t page, limit;

    if (!api_query_number(request, "page", 1, 1, ROWS_MAX, &page) ||
        !api_query_number(request, "limit", LIMIT, 1, LIMIT_MAX, &limit)) {
        return false;
    }
    if (page * limit > ROWS_MAX) {
        admin_fail(request, 400, "page times limit is above %u: filter, or sort the other way", ROWS_MAX);
        return false;
    }
    l->page = (uint32_t)page;
    l->limit = (uint32_t)limit;
    return true;
}

static bool read_sort(struct listing *l, const struct api_list *list, struct rows_order *order)
{
    struct admin_request *request = l->call.request;
    char sort[64], direction[16];

    if (!api_query(request, "sort", sort, sizeof(sort)) || !api_query(request, "order", direction, sizeof(direction))) {
        return false;
    }
    if (direction[0] && strcmp(direction, "asc") != 0 && strcmp(direction, "desc") != 0) {
        admin_fail(request, 400, "order is asc or desc");
        return false;
    }
    order->descending = strcmp(direction, "desc") == 0;
    json_object_set_new(l->question, "desc", json_boolean(order->descending));
    if (!sort[0] || (list->by_name && strcmp(sort, list->by_name) == 0)) {
        return true;
    }
    for (const char *const *name = list->sorts; name && *name; name++) {
        if (strcmp(sort, *name) == 0) {
            order->by_number = true;
            json_object_set_new(l->question, "by", json_string(sort));
            return true;
        }
    }
    admin_fail(request, 400, "this list cannot be sorted by \"%s\"", sort);
    return false;
}

void api_list(struct admin_request *request, const struct api_list *list, json_t *question)
{
    struct listing *l = question ? calloc(1, sizeof(*l)) : NULL;
    struct rows_order order = {.combine = list->kind == DESK_TOPICS, .key = &request->broker->node->key};
    char node[128];

    if (!l) {
        json_decref(question);
        api_say(request, 200, NULL);
        return;
    }
    api_call_init(&l->call, request, listing_free);
    l->kind = list->kind;
    l->question = question;
    l->here = list->here;
    if (!read_page(l) || !read_sort(l, list, &order) || !api_query(request, "node", node, sizeof(node))) {
        api_end(&l->call);
        return;
    }
    order.keep = l->page * l->limit;
    l->cut = order.keep > OBJECTS_AT_ONCE && !order.combine;
    rows_init(&l->rows, &order);
    json_object_set_new(l->question, "keep", json_integer(order.keep));
    json_object_set_new(l->question, "text", json_boolean(!l->cut && !order.combine));
    l->missing = json_array();
    l->node = node[0] ? strdup(node) : NULL;
    if (!l->missing || (node[0] && !l->node)) {
        api_no_memory(&l->call);
        return;
    }
    l->here &= !l->node;
    ask(l);
}
