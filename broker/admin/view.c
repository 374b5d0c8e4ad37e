#include "broker/admin/view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "broker/auth/base64.h"
#include "broker/flow/access.h"
#include "proto/mqtt/topic.h"

json_t *view_text(struct slice s)
{
    json_t *text = json_stringn(s.len ? (const char *)s.ptr : "", s.len);

    return text ? text : json_null();
}

json_t *view_time(uint64_t wall_ms)
{
    char text[40];
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;

    if (wall_ms == 0 || !gmtime_r(&s, &tm)) {
        return json_null();
    }
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + strlen(text), sizeof(text) - strlen(text), ".%03uZ", (unsigned)(wall_ms % 1000));
    return json_string(text);
}

static int append(const char *bytes, size_t len, void *out)
{
    struct buf *b = out;

    buf_put(b, slice_of(bytes, len));
    return b->failed ? -1 : 0;
}

int view_write(json_t *object, struct buf *out)
{
    int rc = object ? json_dump_callback(object, append, out, JSON_COMPACT) : -1;

    json_decref(object);
    return rc ? -ENOMEM : 0;
}

json_t *view_mishap(const struct mishap *m)
{
    if (!m) {
        return json_null();
    }
    const char *name = mqtt_reason_name((enum mqtt_reason)m->reason);
    return json_pack("{s:o, s:i, s:s, s:s}", "at", view_time(m->at_ms), "reason_code", (int)m->reason, "reason",
                     name ? name : "", "text", m->text);
}

static json_t *text_or_null(struct slice s)
{
    return s.len ? view_text(s) : json_null();
}

/* ---- why a client may be getting nothing ---- */

static void say(json_t *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(json_t *why, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    json_array_append_new(why, json_string(text));
}

struct judged {
    struct broker *b;
    struct session *session;
    json_t *why;
    unsigned denied;
};

#define DENIED_SAID 5u

static void judge(void *arg, const struct look_subscription *s)
{
    struct judged *j = arg;

    if (access_subscribe(j->b, j->session, s->filter, s->options.qos) == ACL_DENY && j->denied++ < DENIED_SAID) {
        say(j->why, "the rules deny reading of %.*s", (int)(s->filter.len < 160 ? s->filter.len : 160),
            (const char *)s->filter.ptr);
    }
}

static json_t *why_nothing(struct broker *b, struct session *session, const struct look_client *c)
{
    struct judged j = {.b = b, .session = session, .why = json_array()};

    if (!c->connected) {
        say(j.why, "it is not connected");
    }
    if (c->subscriptions == 0) {
        say(j.why, "it has no subscription");
    }
    if (c->waiting >= c->waiting_max && c->waiting > 0) {
        say(j.why, "its queue is full: %u of %u messages wait", c->waiting, c->waiting_max);
    } else if (c->queue_bytes >= c->queue_bytes_max && c->waiting > 0) {
        say(j.why, "its queue is full: %llu of %llu bytes", (unsigned long long)c->queue_bytes,
            (unsigned long long)c->queue_bytes_max);
    }
    if (c->connected && c->inflight >= c->inflight_max && c->inflight > 0) {
        say(j.why, "it does not acknowledge: %u of %u messages are in flight", c->inflight, c->inflight_max);
    }
    if (c->outbox_bytes > 0) {
        say(j.why, "it does not read its socket: %llu bytes wait", (unsigned long long)c->outbox_bytes);
    }
    if (c->dropped > 0) {
        say(j.why, "%llu messages to it were dropped since the node was started", (unsigned long long)c->dropped);
    }
    for (unsigned bit = 1; bit < 256; bit <<= 1) {
        const char *name = c->paused & bit ? look_pause_name(bit) : NULL;
        if (name) {
            say(j.why, "nothing is read from it: %s", name);
        }
    }
    look_subscriptions(session, judge, &j);
    if (j.denied > DENIED_SAID) {
        say(j.why, "and of %u more of its filters", j.denied - DENIED_SAID);
    }
    return j.why;
}

/* ---- clients ---- */

struct listed {
    const struct broker *b;
    const struct session *session;
    json_t *list;
};

static void list_subscription(void *arg, const struct look_subscription *s)
{
    struct listed *l = arg;

    json_array_append_new(l->list, view_subscription(l->b, l->session, s));
}

static void add_whole(struct broker *b, struct session *session, const struct look_client *c, json_t *client)
{
    struct listed l = {b, session, json_array()};

    look_subscriptions(session, list_subscription, &l);
    json_object_set_new(client, "subscriptions", l.list);
    json_object_set_new(client, "limits",
                        json_pack("{s:I, s:I, s:I, s:I}", "inflight_max", (json_int_t)c->inflight_max, "mqueue_max",
                                  (json_int_t)c->waiting_max, "mqueue_bytes_max", (json_int_t)c->queue_bytes_max,
                                  "outbox_bytes_max", (json_int_t)c->outbox_bytes_max));
    json_object_set_new(client, "why", why_nothing(b, session, c));
}

json_t *view_client(struct broker *b, struct session *session, bool whole)
{
    struct look_client c;

    look_client(b, session, &c);
    json_t *client = json_pack(
        "{s:o, s:o, s:o, s:i, s:s, s:o, s:o, s:o, s:I, s:b, s:I, s:b, s:o, s:o}", "clientid", view_text(c.client_id),
        "username", text_or_null(c.user), "ip_address", text_or_null(slice_str(c.address)), "port", (int)c.port, "node",
        b->config->node_name, "listener", text_or_null(slice_str(c.listener)), "proto_name",
        c.version ? json_string(c.version == MQTT_V31 ? "MQIsdp" : "MQTT") : json_null(), "proto_ver",
        c.version ? json_integer(c.version) : json_null(), "keepalive", (json_int_t)c.keep_alive_s, "clean_start",
        c.clean, "expiry_interval", (json_int_t)c.expiry_s, "connected", c.connected, "connected_at",
        view_time(c.connected ? c.since_ms : 0), "disconnected_at", view_time(c.connected ? 0 : c.since_ms));
    json_t *more = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:b, s:o}", "subscriptions_cnt",
        (json_int_t)c.subscriptions, "inflight_cnt", (json_int_t)c.inflight, "inflight_max", (json_int_t)c.inflight_max,
        "mqueue_len", (json_int_t)c.waiting, "mqueue_bytes", (json_int_t)c.queue_bytes, "mqueue_dropped",
        (json_int_t)c.dropped, "awaiting_rel_cnt", (json_int_t)c.qos2_in, "recv_msg", (json_int_t)c.received,
        "send_msg", (json_int_t)c.sent, "outbox_bytes", (json_int_t)c.outbox_bytes, "paused", c.paused != 0, "will",
        c.will, "durable", c.durable, "last_error", view_mishap(mishap_find(b, session->hash)));
    if (!client || !more || json_object_update(client, more) != 0) {
        json_decref(client);
        client = NULL;
    }
    json_decref(more);
    if (client && whole) {
        add_whole(b, session, &c, client);
    }
    return client;
}

json_t *view_subscription(const struct broker *b, const struct session *session, const struct look_subscription *s)
{
    return json_pack("{s:o, s:o, s:o, s:i, s:b, s:b, s:i, s:o, s:s}", "clientid", view_text(session_client_id(session)),
                     "topic", view_text(s->filter), "share", text_or_null(s->share), "qos", (int)s->options.qos, "nl",
                     s->options.no_local, "rap", s->options.retain_as_published, "rh", (int)s->options.retain_handling,
                     "subscription_identifier", s->options.id ? json_integer(s->options.id) : json_null(), "node",
                     b->config->node_name);
}

/* ---- retained messages ---- */

static void add_properties(json_t *object, const struct message *m)
{
    struct slice raw = message_properties(m);
    struct mqtt_property p;
    json_t *user = json_object();

    while (raw.len > 0 && mqtt_property_next(&raw, &p)) {
        if (p.id == MQTT_PROP_USER_PROPERTY) {
            char *name = strndup((const char *)p.text.ptr, p.text.len);
            json_object_set_new(user, name ? name : "", view_text(p.value));
            free(name);
        } else if (p.id == MQTT_PROP_CONTENT_TYPE) {
            json_object_set_new(object, "content_type", view_text(p.text));
        }
    }
    json_object_set_new(object, "user_properties", user);
}

json_t *view_retained(const struct message *m, bool payload)
{
    uint64_t at_ms = message_stamp(m).at >> MESSAGE_STAMP_SHIFT;
    json_t *object = json_pack("{s:o, s:i, s:I, s:o, s:o}", "topic", view_text(message_topic(m)), "qos", (int)m->qos,
                               "payload_bytes", (json_int_t)m->payload_len, "publish_at", view_time(at_ms),
                               "expires_at", view_time(m->expires_at_ms == MESSAGE_NEVER ? 0 : m->expires_at_ms));

    if (object && payload) {
        struct buf text = {0};
        base64_encode(message_payload(m), false, &text);
        json_object_set_new(object, "payload", text.failed ? json_null() : view_text(buf_slice(&text)));
        json_object_set_new(object, "payload_encoding", json_string("base64"));
        buf_deinit(&text);
        add_properties(object, m);
    }
    return object;
}
