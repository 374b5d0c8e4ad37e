/* Messages: published by an operator, and retained. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/admin/api_tables.h"
#include "broker/admin/desk.h"
#include "broker/admin/view.h"
#include "broker/auth/base64.h"
#include "broker/flow/operate.h"
#include "proto/base/clock.h"
#include "proto/mqtt/topic.h"

#define BULK_MAX 1000u

/* ---- publish ---- */

/* A message as it is being read from JSON. */
struct draft {
    struct operate_message message; /* borrows from the JSON and from the two below */
    struct buf payload, correlation, user;
    const char *why; /* it is no message: one sentence */
};

static void draft_deinit(struct draft *d)
{
    buf_deinit(&d->payload);
    buf_deinit(&d->correlation);
    buf_deinit(&d->user);
}

static struct slice string_of(const json_t *value)
{
    return slice_of(json_string_value(value), json_string_length(value));
}

static void read_payload(struct draft *d, const json_t *body)
{
    const json_t *payload = json_object_get(body, "payload"), *encoding = json_object_get(body, "payload_encoding");
    const char *how = encoding ? json_string_value(encoding) : "plain";

    if (payload && !json_is_string(payload)) {
        d->why = "payload is a string; other bytes go with payload_encoding \"base64\"";
    } else if (!how || (strcmp(how, "plain") != 0 && strcmp(how, "base64") != 0)) {
        d->why = "payload_encoding is \"plain\" or \"base64\"";
    } else if (payload && how[0] == 'b') {
        if (base64_decode(string_of(payload), false, &d->payload) != 0) {
            d->why = "payload is not base64";
        }
        d->message.payload = buf_slice(&d->payload);
    } else if (payload) {
        d->message.payload = string_of(payload);
    }
}

static bool read_string(struct draft *d, const json_t *properties, const char *name, enum mqtt_property_id id,
                        struct slice *ret_value)
{
    const json_t *value = json_object_get(properties, name);

    if (!value) {
        return true;
    }
    if (!json_is_string(value) || json_string_length(value) > MQTT_STRING_BYTES_MAX) {
        d->why = "content_type, response_topic and correlation_data are strings of at most 65535 bytes";
        return false;
    }
    *ret_value = string_of(value);
    d->message.properties.present |= 1ull << id;
    return true;
}

static bool read_count(struct draft *d, const json_t *properties, const char *name, enum mqtt_property_id id,
                       uint32_t max, uint32_t *ret_value)
{
    const json_t *value = json_object_get(properties, name);
    json_int_t n = json_integer_value(value);

    if (!value) {
        return true;
    }
    if (!json_is_integer(value) || n < 0 || n > max) {
        d->why = "payload_format_indicator is 0 or 1, message_expiry_interval a number of seconds";
        return false;
    }
    *ret_value = (uint32_t)n;
    d->message.properties.present |= 1ull << id;
    return true;
}

static void read_user(struct draft *d, const json_t *user)
{
    const char *name;
    json_t *value;

    if (!json_is_object(user)) {
        d->why = "user_properties is an object of strings";
        return;
    }
    json_object_foreach((json_t *)user, name, value)
    {
        if (!json_is_string(value) || strlen(name) > MQTT_STRING_BYTES_MAX ||
            json_string_length(value) > MQTT_STRING_BYTES_MAX) {
            d->why = "user_properties is an object of strings";
            return;
        }
        buf_u8(&d->user, MQTT_PROP_USER_PROPERTY);
        buf_string(&d->user, slice_str(name));
        buf_string(&d->user, string_of(value));
    }
    d->message.properties.user = buf_slice(&d->user);
}

static void read_properties(struct draft *d, const json_t *properties)
{
    struct mqtt_properties *p = &d->message.properties;
    const json_t *user = json_object_get(properties, "user_properties");
    uint32_t format = 0;

    if (!json_is_object(properties)) {
        d->why = "properties is an object";
        return;
    }
    if (!read_count(d, properties, "payload_format_indicator", MQTT_PROP_PAYLOAD_FORMAT, 1, &format) ||
        !read_count(d, properties, "message_expiry_interval", MQTT_PROP_MESSAGE_EXPIRY, UINT32_MAX,
                    &p->message_expiry_s) ||
        !read_string(d, properties, "content_type", MQTT_PROP_CONTENT_TYPE, &p->content_type) ||
        !read_string(d, properties, "response_topic", MQTT_PROP_RESPONSE_TOPIC, &p->response_topic) ||
        !read_string(d, properties, "correlation_data", MQTT_PROP_CORRELATION_DATA, &p->correlation_data)) {
        return;
    }
    p->payload_format = (uint8_t)format;
    if (user) {
        read_user(d, user);
    }
}

static void read_draft(struct draft *d, const json_t *body)
{
    const json_t *topic = json_object_get(body, "topic"), *qos = json_object_get(body, "qos"),
                 *retain = json_object_get(body, "retain"), *properties = json_object_get(body, "properties");

    *d = (struct draft){.why = NULL};
    if (!json_is_string(topic)) {
        d->why = "topic is missing, or no string";
    } else if (qos && (!json_is_integer(qos) || json_integer_value(qos) < 0 || json_integer_value(qos) > 2)) {
        d->why = "qos is 0, 1 or 2";
    } else if (retain && !json_is_boolean(retain)) {
        d->why = "retain is true or false";
    }
    if (d->why) {
        return;
    }
    d->message.topic = string_of(topic);
    d->message.qos = (uint8_t)json_integer_value(qos);
    d->message.retain = json_is_true(retain);
    read_payload(d, body);
    if (!d->why && properties) {
        read_properties(d, properties);
    }
}

/* Publish what the body says. Returns the answer of one message, with the status of it alone. NULL: memory is out. */
static json_t *publish_one(struct broker *b, const json_t *body, unsigned *ret_status)
{
    struct draft d;
    enum mqtt_reason reason;
    uint64_t id[2];
    char text[33];
    int rc = -EINVAL;

    read_draft(&d, body);
    if (d.payload.failed || d.user.failed) {
        rc = -ENOMEM;
    } else if (!d.why) {
        rc = operate_publish(b, &d.message, &reason, &d.why);
    }
    const char *why = d.why; /* a literal */
    draft_deinit(&d);
    if (rc == -ENOMEM) {
        return NULL;
    }
    *ret_status = rc ? 400 : 200;
    if (rc) {
        return json_pack("{s:s, s:s}", "code", "BAD_REQUEST", "message", why);
    }
    clock_random(id, sizeof(id));
    view_hex((const uint8_t *)id, sizeof(id), text);
    return json_pack("{s:s, s:i}", "id", text, "reason_code", (int)reason);
}

static void publish(struct admin_request *request)
{
    json_t *body = api_body(request, JSON_OBJECT);
    unsigned status = 200;

    if (body) {
        json_t *answer = publish_one(request->broker, body, &status);
        api_say(request, status, answer);
        json_decref(body);
    }
}

static void publish_bulk(struct admin_request *request)
{
    json_t *body = api_body(request, JSON_ARRAY), *one;
    json_t *answers = body ? json_array() : NULL;
    unsigned status;
    size_t i;

    if (!body) {
        return;
    }
    if (json_array_size(body) > BULK_MAX) {
        admin_fail(request, 400, "more than %u messages at one time", BULK_MAX);
        json_decref(body);
        json_decref(answers);
        return;
    }
    json_array_foreach(body, i, one)
    {
        json_t *answer = publish_one(request->broker, one, &status);
        if (json_array_append_new(answers, answer) != 0) {
            json_decref(answers);
            answers = NULL;
            break;
        }
    }
    json_decref(body);
    api_say(request, 200, answers);
}

/* ---- retained ---- */

static void list_retained(struct admin_request *request)
{
    static const struct api_list list = {.kind = DESK_RETAINED, .by_name = "topic", .here = true};
    char filter[1024];
    json_t *question;

    if (!api_query(request, "topic", filter, sizeof(filter))) {
        return;
    }
    if (filter[0] && !mqtt_filter_valid(slice_str(filter), UINT16_MAX)) {
        admin_fail(request, 400, "topic is no topic filter");
        return;
    }
    question = json_object();
    if (question && filter[0] && json_object_set_new(question, "filter", json_string(filter)) != 0) {
        json_decref(question);
        admin_fail(request, 400, "topic is not UTF-8");
        return;
    }
    api_list(request, &list, question);
}

struct reading {
    struct api_call call; /* first */
    struct buf body;
    bool found, erase;
    json_t *topic; /* owned */
};

static void reading_free(struct api_call *call)
{
    struct reading *r = CONTAINER_OF(call, struct reading, call);

    buf_deinit(&r->body);
    json_decref(r->topic);
    free(r);
}

static void reading_part(void *context, unsigned from, uint64_t count, struct slice rows)
{
    struct reading *r = context;
    struct row row;

    (void)from;
    (void)count;
    while (!r->found && rows_read(&rows, &row) == 0) {
        r->found = true;
        buf_put(&r->body, row.text);
    }
}

/* An empty retained message takes its place, everywhere [MQTT-3.3.1-6]. */
static void erase(struct reading *r)
{
    struct operate_message none = {.topic = string_of(r->topic), .qos = 1, .retain = true};
    enum mqtt_reason reason;
    const char *why;
    int rc = operate_publish(r->call.b, &none, &reason, &why);

    if (rc == -EINVAL) {
        api_error(&r->call, 400, "%s", why);
    } else if (rc) {
        api_no_memory(&r->call);
    } else {
        api_say_nothing(r->call.request);
        api_end(&r->call);
    }
}

static void reading_done(void *context)
{
    struct reading *r = context;

    r->call.inquiry = NULL;
    if (!r->found) {
        api_error(&r->call, 404, "no message is retained for the topic \"%s\"", json_string_value(r->topic));
    } else if (r->erase) {
        erase(r);
    } else {
        struct buf body = r->body;
        r->body = (struct buf){0};
        api_reply(&r->call, 200, &body);
    }
}

static void read_message(struct admin_request *request, bool is_erase)
{
    struct reading *r = calloc(1, sizeof(*r));
    json_t *topic = r ? view_text(request->params[0]) : NULL;

    if (!topic) {
        free(r);
        api_say(request, 200, NULL);
        return;
    }
    api_call_init(&r->call, request, reading_free);
    r->topic = topic;
    r->erase = is_erase;
    if (!json_is_string(topic) || !mqtt_topic_valid(request->params[0], UINT16_MAX)) {
        api_error(&r->call, 400, "this is no topic name");
        return;
    }
    json_t *question = json_pack("{s:O}", "topic", topic);
    api_inquire(&r->call, DESK_MESSAGE, question, NULL, true, reading_part, reading_done, r);
    json_decref(question);
}

static void show_retained(struct admin_request *request)
{
    read_message(request, false);
}

static void delete_retained(struct admin_request *request)
{
    read_message(request, true);
}

static const struct admin_route routes[] = {
    {ADMIN_POST, "/api/v1/publish", ADMIN_OPERATOR, publish},
    {ADMIN_POST, "/api/v1/publish/bulk", ADMIN_OPERATOR, publish_bulk},
    {ADMIN_GET, "/api/v1/retained", ADMIN_VIEWER, list_retained},
    {ADMIN_GET, "/api/v1/retained/:topic", ADMIN_VIEWER, show_retained},
    {ADMIN_DELETE, "/api/v1/retained/:topic", ADMIN_OPERATOR, delete_retained},
};

const struct admin_table admin_messages_table = {routes, COUNT_OF(routes)};
