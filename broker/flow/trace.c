#include "broker/flow/trace.h"

#include "proto/mqtt/topic.h"

void trace_begin(struct broker *b, struct trace *trace)
{
    trace->next = b->traces;
    b->traces = trace;
}

void trace_end(struct broker *b, struct trace *trace)
{
    for (struct trace **at = &b->traces; *at; at = &(*at)->next) {
        if (*at == trace) {
            *at = trace->next;
            return;
        }
    }
}

static bool matches(const struct trace *t, const struct trace_event *e)
{
    bool is_filter = e->kind == TRACE_SUBSCRIBE || e->kind == TRACE_UNSUBSCRIBE;

    if (t->client_id.len > 0 && !slice_eq(t->client_id, e->client_id)) {
        return false;
    }
    if (!t->any_address && (!e->address || memcmp(&t->address, e->address, sizeof(t->address)) != 0)) {
        return false;
    }
    if (t->topic_filter.len == 0) {
        return true;
    }
    return e->topic.len > 0 &&
           (is_filter ? slice_eq(t->topic_filter, e->topic) : mqtt_filter_matches(t->topic_filter, e->topic));
}

void trace_event(struct broker *b, const struct trace_event *event)
{
    for (struct trace *t = b->traces; t; t = t->next) {
        if (matches(t, event)) {
            t->seen(t, b, event);
        }
    }
}

void trace_session(struct broker *b, enum trace_kind kind, const struct session *session, struct slice topic,
                   uint8_t code, const char *text)
{
    const struct conn *conn = session->front;

    trace_event(b, &(struct trace_event){.kind = kind,
                                         .code = code,
                                         .client_id = session_client_id(session),
                                         .topic = topic,
                                         .address = conn ? &conn->peer : NULL,
                                         .text = text});
}
