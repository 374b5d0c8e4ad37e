/* Watching, on each shard: events that fit become rows. They are few or they are lost: what does not fit between two
 * turns is counted, not kept. */
#include <stdlib.h>

#include "broker/admin/desk.h"
#include "broker/admin/view.h"
#include "broker/auth/base64.h"
#include "broker/flow/trace.h"

#define TRACES_MAX 16u          /* on a shard */
#define TURN_BYTES (128u << 10) /* of events of one trace in one turn */
#define PAYLOAD_BYTES_MAX 4096u /* of a payload that are shown */

enum payload_shown { PAYLOAD_NONE, PAYLOAD_TEXT, PAYLOAD_BASE64 };

struct tracing {
    struct trace trace;
    struct buf rows, text;
    enum payload_shown payload;
    uint64_t lost;
    bool begun;
};

static const char *const kinds[] = {[TRACE_CONNECT] = "connect",
                                    [TRACE_REFUSED] = "refused",
                                    [TRACE_SUBSCRIBE] = "subscribe",
                                    [TRACE_UNSUBSCRIBE] = "unsubscribe",
                                    [TRACE_PUBLISH_IN] = "publish_in",
                                    [TRACE_PUBLISH_OUT] = "publish_out",
                                    [TRACE_DROP] = "drop",
                                    [TRACE_DISCONNECT] = "disconnect"};

static json_t *payload_text(enum payload_shown how, struct slice payload)
{
    struct buf text = {0};

    if (payload.len > PAYLOAD_BYTES_MAX) {
        payload.len = PAYLOAD_BYTES_MAX;
    }
    if (how == PAYLOAD_TEXT) {
        return view_text(payload); /* null: it is no text */
    }
    base64_encode(payload, false, &text);
    json_t *shown = view_text(buf_slice(&text));
    buf_deinit(&text);
    return shown;
}

static json_t *view_event(const struct tracing *t, const struct broker *b, const struct trace_event *e)
{
    char address[LOOK_ADDRESS] = "";
    json_t *object = json_pack("{s:o, s:s, s:s, s:o}", "at", view_time(b->shard->wall_ms), "node", b->config->node_name,
                               "event", kinds[e->kind], "clientid", view_text(e->client_id));

    if (e->address) {
        look_address(e->address, address);
        json_object_set_new(object, "ip_address", json_string(address));
    }
    if (e->topic.len > 0) {
        json_object_set_new(object, "topic", view_text(e->topic));
    }
    if (e->kind == TRACE_PUBLISH_IN || e->kind == TRACE_PUBLISH_OUT) {
        json_object_set_new(object, "qos", json_integer(e->qos));
        json_object_set_new(object, "retain", json_boolean(e->retain));
        json_object_set_new(object, "payload_bytes", json_integer((json_int_t)e->payload.len));
        if (t->payload != PAYLOAD_NONE) {
            json_object_set_new(object, "payload", payload_text(t->payload, e->payload));
        }
    }
    if (e->kind != TRACE_PUBLISH_OUT && e->kind != TRACE_DROP) {
        json_object_set_new(object, "reason_code", json_integer(e->code));
    }
    if (e->text) {
        json_object_set_new(object, "text", json_string(e->text));
    }
    return object;
}

static void seen(struct trace *trace, struct broker *b, const struct trace_event *e)
{
    struct tracing *t = CONTAINER_OF(trace, struct tracing, trace);

    t->text.len = 0;
    if (t->rows.len > TURN_BYTES || view_write(view_event(t, b, e), &t->text) != 0) {
        t->text.failed = false;
        t->lost++;
        return;
    }
    rows_write(&t->rows, &(struct row){.name = SLICE("event"), .text = buf_slice(&t->text)});
    if (t->rows.failed) {
        buf_deinit(&t->rows);
        t->lost++;
    }
}

static void end_trace(struct broker *b, void *work)
{
    struct tracing *t = work;

    trace_end(b, &t->trace);
    buf_deinit(&t->rows);
    buf_deinit(&t->text);
    free(t);
}

static void *begin_trace(struct broker *b, const json_t *question)
{
    struct slice address = desk_text(question, "ip_address"), payload = desk_text(question, "payload");
    unsigned count = 0;
    struct tracing *t;

    for (const struct trace *other = b->traces; other; other = other->next) {
        count++;
    }
    t = count < TRACES_MAX ? calloc(1, sizeof(*t)) : NULL;
    if (!t) {
        return NULL;
    }
    t->payload = slice_eq(payload, SLICE("text"))     ? PAYLOAD_TEXT
                 : slice_eq(payload, SLICE("base64")) ? PAYLOAD_BASE64
                                                      : PAYLOAD_NONE;
    t->trace.client_id = desk_text(question, "clientid");
    t->trace.topic_filter = desk_text(question, "topic");
    t->trace.any_address = address.len == 0;
    t->trace.seen = seen;
    if (address.len > 0 &&
        !desk_address(json_string_value(json_object_get(question, "ip_address")), &t->trace.address)) {
        free(t);
        return NULL;
    }
    trace_begin(b, &t->trace);
    return t;
}

static void write_lost(const struct broker *b, struct tracing *t, struct inquiry_out *out)
{
    struct buf text = {0};

    if (view_write(json_pack("{s:o, s:s, s:s, s:I}", "at", view_time(b->shard->wall_ms), "node", b->config->node_name,
                             "event", "lost", "count", (json_int_t)t->lost),
                   &text) == 0) {
        rows_write(&out->rows, &(struct row){.name = SLICE("event"), .text = buf_slice(&text)});
        t->lost = 0;
    }
    buf_deinit(&text);
}

static enum inquiry_progress step_trace(struct broker *b, void *work, struct inquiry_out *out)
{
    struct tracing *t = work;

    if (!t->begun) {
        t->begun = true;
        rows_write(&out->rows, &(struct row){.name = SLICE("begun"), .number = b->shard->count});
    }
    if (t->rows.len > 0) {
        buf_put(&out->rows, buf_slice(&t->rows));
        buf_deinit(&t->rows);
    }
    if (t->lost > 0) {
        write_lost(b, t, out);
    }
    return out->rows.failed ? INQUIRY_FAILED : INQUIRY_IDLE;
}

const struct desk_kind desk_trace = {begin_trace, step_trace, end_trace};
