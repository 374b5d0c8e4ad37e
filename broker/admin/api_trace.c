/* Watching a client, a topic or an address, on all nodes: a line an event, until time is over or the client goes. */
#include <stdio.h>
#include <stdlib.h>

#include "broker/admin/api_tables.h"
#include "broker/admin/desk.h"
#include "broker/admin/view.h"
#include "proto/mqtt/topic.h"

#define DURATION_S 60u
#define DURATION_MAX_S 3600u

struct watch {
    struct api_call call;             /* first */
    unsigned begun[INQUIRY_HERE + 1]; /* by node: shards that have begun */
    uint64_t lost;                    /* lines that its reader was too slow for */
};

static void watch_free(struct api_call *call)
{
    free(CONTAINER_OF(call, struct watch, call));
}

/* A line, whole or not at all. */
static bool write_line(struct watch *w, struct slice text)
{
    struct buf line = {0};

    buf_put(&line, text);
    buf_u8(&line, '\n');
    bool taken = !line.failed && admin_stream_write(w->call.request, buf_slice(&line));
    buf_deinit(&line);
    return taken;
}

static void write_object(struct watch *w, json_t *object)
{
    struct buf text = {0};

    if (view_write(object, &text) == 0) {
        (void)write_line(w, buf_slice(&text));
    }
    buf_deinit(&text);
}

static void write_lost(struct watch *w)
{
    json_t *object = json_pack("{s:o, s:s, s:s, s:I}", "at", view_time(w->call.b->shard->wall_ms), "node",
                               w->call.b->config->node_name, "event", "lost", "count", (json_int_t)w->lost);
    struct buf text = {0};

    if (view_write(object, &text) == 0 && write_line(w, buf_slice(&text))) {
        w->lost = 0;
    }
    buf_deinit(&text);
}

static void watch_part(void *context, unsigned from, uint64_t count, struct slice rows)
{
    struct watch *w = context;
    struct row row;

    (void)count;
    while (rows_read(&rows, &row) == 0) {
        if (slice_eq(row.name, SLICE("begun"))) {
            if (++w->begun[from] == row.number) {
                write_object(w, json_pack("{s:o, s:s, s:s}", "at", view_time(w->call.b->shard->wall_ms), "node",
                                          inquire_node_name(w->call.b, from), "event", "begin"));
            }
            continue;
        }
        if (w->lost > 0) {
            write_lost(w);
        }
        w->lost += w->lost > 0 || !write_line(w, row.text);
    }
}

static void watch_done(void *context)
{
    struct watch *w = context;

    w->call.inquiry = NULL;
    admin_stream_end(w->call.request);
    api_end(&w->call);
}

static bool is_text(const json_t *value)
{
    return !value || (json_is_string(value) && json_string_length(value) > 0);
}

/* What is wrong with it, or NULL. */
static const char *check(const json_t *body)
{
    const json_t *id = json_object_get(body, "clientid"), *topic = json_object_get(body, "topic"),
                 *address = json_object_get(body, "ip_address"), *duration = json_object_get(body, "duration"),
                 *payload = json_object_get(body, "payload");
    const char *how = payload ? json_string_value(payload) : "none";
    struct in6_addr in6;

    if (!is_text(id) || !is_text(topic) || !is_text(address) || (!id && !topic && !address)) {
        return "clientid, topic or ip_address says what is to be watched";
    }
    if (topic && !mqtt_filter_valid(slice_str(json_string_value(topic)), UINT16_MAX)) {
        return "topic is no topic filter";
    }
    if (address && !desk_address(json_string_value(address), &in6)) {
        return "ip_address is no IP address";
    }
    if (duration && (!json_is_integer(duration) || json_integer_value(duration) < 1 ||
                     json_integer_value(duration) > DURATION_MAX_S)) {
        return "duration is a number of seconds from 1 to 3600";
    }
    if (!how || (strcmp(how, "none") != 0 && strcmp(how, "text") != 0 && strcmp(how, "base64") != 0)) {
        return "payload is none, text or base64";
    }
    return NULL;
}

static void watch(struct admin_request *request)
{
    json_t *body = api_body(request, JSON_OBJECT);
    const char *why = body ? check(body) : NULL;
    struct watch *w = body && !why ? calloc(1, sizeof(*w)) : NULL;

    if (why) {
        admin_fail(request, 400, "%s", why);
    } else if (w) {
        const json_t *duration = json_object_get(body, "duration");
        uint32_t duration_s = duration ? (uint32_t)json_integer_value(duration) : DURATION_S;
        api_call_init(&w->call, request, watch_free);
        w->call.wait_ms = duration_s * 1000;
        if (api_inquire(&w->call, DESK_TRACE, body, NULL, false, watch_part, watch_done, w)) {
            admin_stream_begin(request, "application/x-ndjson");
        }
    } else if (body) {
        api_say(request, 200, NULL);
    }
    json_decref(body);
}

static const struct admin_route routes[] = {
    {ADMIN_POST, "/api/v1/trace", ADMIN_OPERATOR, watch},
};

const struct admin_table admin_trace_table = {routes, COUNT_OF(routes)};
