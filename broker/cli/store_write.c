/* store_write.c -- sessions, subscriptions and messages as JSON objects. What is at its default is left out where most
 * lines have it so. */
#include "broker/cli/store_command.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/base64.h"
#include "broker/base/network.h"
#include "broker/session/session.h"
#include "proto/mqtt/property.h"

/* An object that is being made; one failure is enough. */
struct out {
    json_t *object;
    bool failed;
};

static struct out out_new(const char *type)
{
    struct out o = {.object = json_object()};

    o.failed = !o.object || (type && json_object_set_new(o.object, "type", json_string(type)) != 0);
    return o;
}

static json_t *out_end(struct out *o)
{
    if (o->failed) {
        json_decref(o->object);
        return NULL;
    }
    return o->object;
}

static void put(struct out *o, const char *key, json_t *value)
{
    o->failed |= json_object_set_new(o->object, key, value) != 0; /* takes NULL for a failure, and the value always */
}

static json_t *text_json(struct slice s)
{
    return json_stringn(s.len ? (const char *)s.ptr : "", s.len);
}

static void put_text(struct out *o, const char *key, struct slice s)
{
    put(o, key, text_json(s));
}

static void put_number(struct out *o, const char *key, uint64_t n)
{
    put(o, key, json_integer((json_int_t)n));
}

static void put_bool(struct out *o, const char *key, bool b)
{
    put(o, key, json_boolean(b));
}

static void put_bytes(struct out *o, const char *key, struct slice bytes)
{
    struct buf text = {0};

    base64_encode(bytes, false, &text);
    put(o, key, text.failed ? NULL : text_json(buf_slice(&text)));
    buf_deinit(&text);
}

static void put_item(struct out *o, json_t *list, json_t *value)
{
    o->failed |= json_array_append_new(list, value) != 0; /* as above */
}

/* ---- parts ---- */

static void put_properties(struct out *o, struct slice raw)
{
    struct mqtt_property p;
    json_t *users = NULL;

    if (raw.len == 0) {
        return;
    }
    struct out props = out_new(NULL);
    while (!props.failed && mqtt_property_next(&raw, &p)) {
        switch (p.id) {
        case MQTT_PROP_PAYLOAD_FORMAT:
            put_number(&props, "payload_format", p.number);
            break;
        case MQTT_PROP_CONTENT_TYPE:
            put_text(&props, "content_type", p.text);
            break;
        case MQTT_PROP_RESPONSE_TOPIC:
            put_text(&props, "response_topic", p.text);
            break;
        case MQTT_PROP_CORRELATION_DATA:
            put_bytes(&props, "correlation_data", p.text);
            break;
        case MQTT_PROP_USER_PROPERTY:
            users = users ? users : json_array();
            put_item(&props, users, json_pack("[oo]", text_json(p.text), text_json(p.value)));
            break;
        default:
            break; /* no other is handed on */
        }
    }
    if (users) {
        put(&props, "user", users);
    }
    put(o, "properties", out_end(&props));
}

static void put_content(struct out *o, const struct message *m)
{
    put_text(o, "topic", message_topic(m));
    put_bytes(o, "payload", message_payload(m));
    put_number(o, "published_qos", m->qos);
    if (m->expires_at_ms != MESSAGE_NEVER) {
        put_number(o, "expires_at", m->expires_at_ms);
    }
    put_properties(o, message_properties(m));
}

static void put_publisher(struct out *o, const struct store_writer *w, const struct message *m)
{
    struct slice client = m->publisher ? w->client_of(w->arg, m->publisher) : SLICE("");

    if (client.len > 0) {
        put_text(o, "publisher", client);
    }
}

static void put_principal(struct out *o, const struct principal *p)
{
    char text[ADDRESS_TEXT > 32 ? ADDRESS_TEXT : 32];

    if (!p) {
        return;
    }
    struct out object = out_new(NULL);
    put_number(&object, "method", p->method);
    put_text(&object, "user", p->user);
    put_text(&object, "listener", slice_str(p->listener ? p->listener : ""));
    if (!IN6_IS_ADDR_UNSPECIFIED(&p->address)) {
        put_text(&object, "address", slice_str(address_text(&p->address, text)));
    }
    if (p->expires_at_ms != UINT64_MAX) {
        put_number(&object, "expires_at", p->expires_at_ms);
    }
    if (p->credential) { /* a fingerprint; JSON's numbers are not that large everywhere */
        snprintf(text, sizeof(text), "%016" PRIx64, p->credential);
        put_text(&object, "credential", slice_str(text));
    }
    if (p->role_count > 0) {
        json_t *roles = json_array();
        for (unsigned i = 0; i < p->role_count; i++) {
            put_item(&object, roles, text_json(p->roles[i]));
        }
        put(&object, "roles", roles);
    }
    if (p->rules && acl_claim(p->rules).len > 0) {
        put_text(&object, "rules", acl_claim(p->rules));
    }
    put(o, "principal", out_end(&object));
}

static void put_will(struct out *o, const struct will *w)
{
    if (!w) {
        return;
    }
    struct out object = out_new(NULL);
    put_content(&object, w->message);
    put_bool(&object, "retain", w->message->retain);
    put_number(&object, "delay", w->delay_s);
    if (w->has_expiry) {
        put_number(&object, "message_expiry", w->expiry_s);
    }
    put_principal(&object, w->principal);
    put(o, "will", out_end(&object));
}

static int compare_ids(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

static void put_packet_ids(struct out *o, const struct packet_ids *ids)
{
    uint16_t *sorted = ids->count ? malloc(ids->count * sizeof(*sorted)) : NULL;
    uint32_t count = 0;

    if (ids->count == 0) {
        return;
    }
    for (uint32_t i = 0; sorted && i <= ids->mask; i++) {
        if (ids->slots[i]) {
            sorted[count++] = ids->slots[i];
        }
    }
    if (sorted) {
        qsort(sorted, count, sizeof(*sorted), compare_ids);
    }
    json_t *list = sorted ? json_array() : NULL;
    for (uint32_t i = 0; i < count; i++) {
        put_item(o, list, json_integer(sorted[i]));
    }
    put(o, "qos2", list);
    free(sorted);
}

/* When its connection went: what expiry and will delay count from. 0: that follows from nothing, and does not matter.
 */
static uint64_t detached_ms(const struct session *s)
{
    if (s->expiry_s != MQTT_EXPIRY_NEVER) {
        return s->expires_at_ms - (uint64_t)s->expiry_s * 1000;
    }
    return s->will && s->due_index != SESSION_NOT_DUE ? s->due_ms - (uint64_t)s->will->delay_s * 1000 : 0;
}

/* `$share/NAME/FILTER`, or the filter alone. */
static void put_filter(struct out *o, const char *key, struct slice share, struct slice filter)
{
    struct buf text = {0};

    if (share.len > 0) {
        buf_put(&text, SLICE("$share/"));
        buf_put(&text, share);
        buf_u8(&text, '/');
    }
    buf_put(&text, filter);
    put(o, key, text.failed ? NULL : text_json(buf_slice(&text)));
    buf_deinit(&text);
}

static void put_subscription_ids(struct out *o, struct slice raw)
{
    struct mqtt_property p;
    json_t *list = raw.len > 0 ? json_array() : NULL;

    while (mqtt_property_next(&raw, &p)) {
        put_item(o, list, json_integer(p.number));
    }
    if (list) {
        put(o, "ids", list);
    }
}

/* ---- lines ---- */

json_t *store_write_head(void)
{
    struct out o = out_new("store");

    put_number(&o, "version", STORE_LINES_VERSION);
    return out_end(&o);
}

json_t *store_write_session(const struct session *s)
{
    struct out o = out_new("session");

    put_text(&o, "client", session_client_id(s));
    put_number(&o, "expiry", s->expiry_s);
    put_number(&o, "receive_max", s->receive_max);
    put_bool(&o, "connected", s->attached_before);
    if (!s->attached_before && detached_ms(s) > 0) {
        put_number(&o, "detached_at", detached_ms(s));
    }
    put_packet_ids(&o, &s->qos2);
    put_principal(&o, s->principal);
    put_will(&o, s->will);
    return out_end(&o);
}

json_t *store_write_subscription(const struct session *s, struct slice share, struct slice filter,
                                 const struct subscription_options *options)
{
    struct out o = out_new("subscription");

    put_text(&o, "client", session_client_id(s));
    put_filter(&o, "filter", share, filter);
    put_number(&o, "qos", options->qos);
    put_number(&o, "retain_handling", options->retain_handling);
    put_bool(&o, "no_local", options->no_local);
    put_bool(&o, "retain_as_published", options->retain_as_published);
    if (options->id) {
        put_number(&o, "id", options->id);
    }
    return out_end(&o);
}

json_t *store_write_message(const struct store_writer *w, const struct session *s, uint64_t number,
                            const struct queue_entry *e, bool sent, const struct session_share *share)
{
    bool released = e->state == QUEUE_RELEASED;
    struct out o = out_new("message");

    put_text(&o, "client", session_client_id(s));
    put_number(&o, "number", number);
    put_text(&o, "state", slice_str(released ? "released" : sent ? "sent" : "waiting"));
    put_number(&o, "qos", e->qos);
    if (!released) {
        put_bool(&o, "retain", e->retain);
        put_subscription_ids(&o, e->extra ? slice_of(e->extra->ids, e->extra->ids_len) : SLICE(""));
        if (share) {
            put_filter(&o, "share", session_share_name(share), session_share_filter(share));
        }
        put_content(&o, e->message);
        put_bool(&o, "published_retain", e->message->retain);
        put_publisher(&o, w, e->message);
    }
    return out_end(&o);
}

json_t *store_write_retained(const struct store_writer *w, const struct message *m)
{
    struct out o = out_new("retained");

    put_content(&o, m);
    put_publisher(&o, w, m);
    return out_end(&o);
}
