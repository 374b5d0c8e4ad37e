/* store_read.c -- one line of an import. Every member is asked for by name, with its type and bounds; what nobody has
 * asked for is not known, and refuses the line: it was meant to be something. */
#include "broker/cli/store_command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/base64.h"
#include "broker/base/network.h"
#include "broker/session/session.h"
#include "proto/base/utf8.h"
#include "proto/mqtt/property.h"
#include "proto/mqtt/topic.h"

#define TEXT_MAX 65535u
#define TIME_MAX (UINT64_C(1) << 53) /* far beyond any date; exact in every JSON reader */
#define LEVELS_MAX 65535u
#define SUBSCRIPTION_ID_MAX 268435455u

/* A line that is being read: the first failure counts. */
struct in {
    json_t *kept; /* array: what has been taken out of objects, so that it lives as long as the line */
    const struct record_world *world;
    char *error;
    size_t error_size;
    int failed; /* 0, -EINVAL, -ENOMEM */
};

__attribute__((format(printf, 2, 3))) static void fail(struct in *in, const char *format, ...)
{
    va_list args;

    if (in->failed) {
        return;
    }
    in->failed = -EINVAL;
    va_start(args, format);
    vsnprintf(in->error, in->error_size, format, args);
    va_end(args);
}

static void no_memory(struct in *in)
{
    in->failed = in->failed ? in->failed : -ENOMEM;
}

/* ---- members ---- */

/* The member, which is taken out of the object; NULL when it is not there. */
static json_t *take(struct in *in, json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    if (!value) {
        return NULL;
    }
    if (json_array_append(in->kept, value) != 0) {
        no_memory(in);
        return NULL;
    }
    json_object_del(object, key);
    return value;
}

/* Text that MQTT could carry. A default of NULL: it must be there. */
static struct slice take_text(struct in *in, json_t *object, const char *key, const char *otherwise)
{
    const json_t *value = take(in, object, key);
    struct slice text = slice_str(otherwise ? otherwise : "");

    if (!value) {
        if (!otherwise) {
            fail(in, "\"%s\" is missing", key);
        }
        return text;
    }
    if (!json_is_string(value)) {
        fail(in, "\"%s\" must be text", key);
        return text;
    }
    text = slice_of(json_string_value(value), json_string_length(value));
    if (text.len > TEXT_MAX || !utf8_valid(text)) {
        fail(in, "\"%s\" must be at most %u bytes of UTF-8", key, TEXT_MAX);
    }
    return text;
}

static uint64_t number_of(struct in *in, const json_t *value, const char *key, uint64_t least, uint64_t most)
{
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;

    if (n < 0 || (uint64_t)n < least || (uint64_t)n > most) {
        fail(in, "\"%s\" must be a number from %llu to %llu", key, (unsigned long long)least, (unsigned long long)most);
        return least;
    }
    return (uint64_t)n;
}

/* A default of UINT64_MAX: it must be there. */
static uint64_t take_number(struct in *in, json_t *object, const char *key, uint64_t least, uint64_t most,
                            uint64_t otherwise)
{
    const json_t *value = take(in, object, key);

    if (!value) {
        if (otherwise == UINT64_MAX) {
            fail(in, "\"%s\" is missing", key);
        }
        return otherwise;
    }
    return number_of(in, value, key, least, most);
}

static bool take_bool(struct in *in, json_t *object, const char *key)
{
    const json_t *value = take(in, object, key);

    if (value && !json_is_boolean(value)) {
        fail(in, "\"%s\" must be true or false", key);
    }
    return json_is_true(value);
}

/* An object or an array; NULL when it is not there. */
static json_t *take_compound(struct in *in, json_t *object, const char *key, bool array)
{
    json_t *value = take(in, object, key);

    if (value && (array ? !json_is_array(value) : !json_is_object(value))) {
        fail(in, "\"%s\" must be %s", key, array ? "a list" : "an object");
        return NULL;
    }
    return value;
}

/* The bytes that a member says in base64, appended to out; false when it is not there. */
static bool take_bytes(struct in *in, json_t *object, const char *key, struct buf *out)
{
    const json_t *value = take(in, object, key);

    if (!value) {
        return false;
    }
    int rc = json_is_string(value)
                 ? base64_decode(slice_of(json_string_value(value), json_string_length(value)), false, out)
                 : -EINVAL;
    if (rc == -ENOMEM) {
        no_memory(in);
    } else if (rc) {
        fail(in, "\"%s\" must be base64", key);
    }
    return true;
}

/* Nothing may be left of it. */
static void end(struct in *in, json_t *object, const char *where)
{
    const char *key = json_object_iter_key(json_object_iter(object));

    if (key) {
        fail(in, "%.60s is not known%s%s", key, *where ? " in " : "", where);
    }
}

/* ---- messages ---- */

static void read_user_properties(struct in *in, json_t *object, struct buf *out)
{
    json_t *list = take_compound(in, object, "user", true), *pair;
    size_t i;

    json_array_foreach(list, i, pair)
    {
        const json_t *name = json_array_get(pair, 0), *value = json_array_get(pair, 1);
        struct slice n = slice_of(json_string_value(name), json_string_length(name));
        struct slice v = slice_of(json_string_value(value), json_string_length(value));
        if (json_array_size(pair) != 2 || !json_is_string(name) || !json_is_string(value) || n.len > TEXT_MAX ||
            v.len > TEXT_MAX || !utf8_valid(n) || !utf8_valid(v)) {
            fail(in, "\"user\" must be a list of pairs of text");
            return;
        }
        buf_u8(out, MQTT_PROP_USER_PROPERTY);
        buf_string(out, n);
        buf_string(out, v);
    }
}

static void read_text_property(struct in *in, json_t *object, const char *key, enum mqtt_property_id id,
                               struct buf *out)
{
    if (json_object_get(object, key)) {
        buf_u8(out, (uint8_t)id);
        buf_string(out, take_text(in, object, key, ""));
    }
}

static void read_properties(struct in *in, json_t *line, struct buf *out)
{
    json_t *object = take_compound(in, line, "properties", false);
    struct buf data = {0};

    if (!object) {
        return;
    }
    uint64_t format = take_number(in, object, "payload_format", 0, 1, 2);
    if (format < 2) {
        buf_u8(out, MQTT_PROP_PAYLOAD_FORMAT);
        buf_u8(out, (uint8_t)format);
    }
    read_text_property(in, object, "content_type", MQTT_PROP_CONTENT_TYPE, out);
    read_text_property(in, object, "response_topic", MQTT_PROP_RESPONSE_TOPIC, out);
    if (take_bytes(in, object, "correlation_data", &data)) {
        if (data.len > TEXT_MAX) {
            fail(in, "\"correlation_data\" must be at most %u bytes", TEXT_MAX);
        } else {
            buf_u8(out, MQTT_PROP_CORRELATION_DATA);
            buf_string(out, buf_slice(&data));
        }
    }
    buf_deinit(&data);
    read_user_properties(in, object, out);
    end(in, object, "\"properties\"");
}

/* A message from what is common to all of them. NULL after a failure. */
static struct message *read_message(struct in *in, json_t *line, bool retain, bool will)
{
    struct buf payload = {0}, properties = {0};
    struct message *m = NULL;
    struct message_source source = {.retain = retain, .expires_at_ms = MESSAGE_NEVER};

    source.topic = take_text(in, line, "topic", NULL);
    if (!mqtt_topic_valid(source.topic, LEVELS_MAX)) {
        fail(in, "\"topic\" is no topic");
    }
    if (!take_bytes(in, line, "payload", &payload)) {
        fail(in, "\"payload\" is missing");
    }
    source.qos = (uint8_t)take_number(in, line, "published_qos", 0, 2, UINT64_MAX);
    if (!will) {
        uint64_t expires = take_number(in, line, "expires_at", 1, TIME_MAX, 0);
        source.expires_at_ms = expires ? expires : MESSAGE_NEVER;
    }
    read_properties(in, line, &properties);
    if (payload.failed || properties.failed) {
        no_memory(in);
    }
    if (!in->failed) {
        source.topic_hash = hash_keyed(in->world->key, source.topic);
        source.payload = buf_slice(&payload);
        source.properties = buf_slice(&properties);
        m = message_new(&source);
        if (!m) {
            no_memory(in);
        }
    }
    buf_deinit(&payload);
    buf_deinit(&properties);
    return m;
}

/* ---- sessions ---- */

static void read_roles(struct in *in, json_t *object, struct buf *text, struct principal_source *source)
{
    json_t *list = take_compound(in, object, "roles", true), *role;
    size_t i;

    json_array_foreach(list, i, role)
    {
        struct slice name = slice_of(json_string_value(role), json_string_length(role));
        if (!json_is_string(role) || !utf8_valid(name) || i >= UINT16_MAX) {
            fail(in, "\"roles\" must be a list of text");
            return;
        }
        buf_put(text, name);
        buf_u8(text, 0);
        source->role_count++;
    }
}

static uint64_t read_credential(struct in *in, json_t *object)
{
    struct slice text = take_text(in, object, "credential", "");
    uint64_t credential = 0;

    for (size_t i = 0; i < text.len; i++) {
        const char *digits = "0123456789abcdef", *digit = strchr(digits, text.ptr[i]);
        if (!digit || text.len != 16) {
            fail(in, "\"credential\" must be 16 hexadecimal digits");
            return 0;
        }
        credential = credential << 4 | (uint64_t)(digit - digits);
    }
    return credential;
}

static struct acl *read_rules(struct in *in, json_t *object)
{
    const json_t *value = take(in, object, "rules");
    struct acl *rules = NULL;
    char error[200];

    if (!value) {
        return NULL;
    }
    int rc = json_is_string(value) ? acl_parse_claim(slice_of(json_string_value(value), json_string_length(value)),
                                                     error, sizeof(error), &rules)
                                   : -EINVAL;
    if (rc == -ENOMEM) {
        no_memory(in);
    } else if (rc) {
        fail(in, "\"rules\" must be the text of a token's rules");
    }
    return rules;
}

static struct principal *read_principal(struct in *in, json_t *line)
{
    json_t *object = take_compound(in, line, "principal", false);
    struct principal_source source = {.rates = in->world->rates};
    struct principal *p = NULL;
    struct buf roles = {0};

    if (!object) {
        return NULL;
    }
    source.method = (uint32_t)take_number(in, object, "method", 0, UINT32_MAX, UINT64_MAX);
    source.user = take_text(in, object, "user", "");
    source.listener = (const char *)take_text(in, object, "listener", "").ptr;
    struct slice address = take_text(in, object, "address", "");
    if (address.len > 0 && address_parse(address, &source.address) != 0) {
        fail(in, "\"address\" must be an IP address");
    }
    uint64_t expires = take_number(in, object, "expires_at", 1, TIME_MAX, 0);
    source.expires_at_ms = expires ? expires : UINT64_MAX;
    source.credential = read_credential(in, object);
    read_roles(in, object, &roles, &source);
    source.rules = read_rules(in, object);
    end(in, object, "\"principal\"");
    source.roles = buf_slice(&roles);
    if (roles.failed) {
        no_memory(in);
    }
    if (!in->failed && !(p = principal_new(&source))) {
        no_memory(in);
    }
    if (!p) {
        acl_free(source.rules);
    }
    buf_deinit(&roles);
    return p;
}

static struct will *read_will(struct in *in, json_t *line, struct slice client)
{
    json_t *object = take_compound(in, line, "will", false);
    struct will *w = object ? calloc(1, sizeof(*w) + client.len) : NULL;

    if (!w) {
        if (object) {
            no_memory(in);
        }
        return NULL;
    }
    bool retain = take_bool(in, object, "retain");
    w->message = read_message(in, object, retain, true);
    w->delay_s = (uint32_t)take_number(in, object, "delay", 0, UINT32_MAX, UINT64_MAX);
    uint64_t expiry = take_number(in, object, "message_expiry", 0, UINT32_MAX, UINT64_C(1) << 32);
    w->has_expiry = expiry <= UINT32_MAX;
    w->expiry_s = w->has_expiry ? (uint32_t)expiry : 0;
    w->principal = read_principal(in, object);
    w->client_id_len = (uint32_t)client.len;
    memcpy(w->client_id, client.ptr, client.len);
    end(in, object, "\"will\"");
    return w;
}

static void read_packet_ids(struct in *in, json_t *root, struct buf *out)
{
    json_t *list = take_compound(in, root, "qos2", true), *id;
    uint64_t last = 0;
    size_t i;

    json_array_foreach(list, i, id)
    {
        uint64_t n = number_of(in, id, "qos2", 1, 65535);
        if (i > 0 && n <= last) {
            fail(in, "\"qos2\" must be a list of rising numbers");
        }
        last = n;
        buf_u16(out, (uint16_t)n);
    }
}

static void read_session(struct in *in, struct store_line *line)
{
    line->expiry_s = (uint32_t)take_number(in, line->root, "expiry", 0, UINT32_MAX, UINT64_MAX);
    line->receive_max = (uint16_t)take_number(in, line->root, "receive_max", 1, 65535, UINT64_MAX);
    line->connected = take_bool(in, line->root, "connected");
    line->detached_ms = take_number(in, line->root, "detached_at", 1, TIME_MAX, 0);
    read_packet_ids(in, line->root, &line->qos2);
    line->principal = read_principal(in, line->root);
    line->will = read_will(in, line->root, line->client);
    if (line->connected && line->detached_ms) {
        fail(in, "a session that is connected has no \"detached_at\"");
    }
    if (!line->connected && line->expiry_s == 0) {
        fail(in, "a session with an expiry of 0 has ended with its connection");
    }
    if (!line->connected && line->will && line->will->delay_s == 0) {
        fail(in, "a will without delay was published when its connection went");
    }
}

/* ---- subscriptions and queues ---- */

/* Split what stands for a subscription; the share is empty for an ordinary one. */
static void split_filter(struct in *in, const char *key, struct slice text, struct store_line *line)
{
    if (mqtt_share_split(text, &line->share, &line->filter) < 0 || !mqtt_filter_valid(line->filter, LEVELS_MAX)) {
        fail(in, "\"%s\" is no filter", key);
    }
}

static void read_subscription(struct in *in, struct store_line *line)
{
    struct subscription_options *o = &line->options;

    split_filter(in, "filter", take_text(in, line->root, "filter", NULL), line);
    o->qos = (uint8_t)take_number(in, line->root, "qos", 0, 2, UINT64_MAX);
    o->retain_handling = (uint8_t)take_number(in, line->root, "retain_handling", 0, 2, 0);
    o->no_local = take_bool(in, line->root, "no_local");
    o->retain_as_published = take_bool(in, line->root, "retain_as_published");
    o->id = (uint32_t)take_number(in, line->root, "id", 1, SUBSCRIPTION_ID_MAX, 0);
    if (o->no_local && line->share.len > 0) {
        fail(in, "a shared subscription cannot have \"no_local\""); /* [MQTT-3.8.3-4] */
    }
}

static void read_ids(struct in *in, struct store_line *line)
{
    json_t *list = take_compound(in, line->root, "ids", true), *id;
    size_t i;

    json_array_foreach(list, i, id)
    {
        buf_u8(&line->ids, MQTT_PROP_SUBSCRIPTION_ID);
        buf_varint(&line->ids, (uint32_t)number_of(in, id, "ids", 1, SUBSCRIPTION_ID_MAX));
    }
}

static void read_state(struct in *in, struct store_line *line)
{
    static const char *const names[] = {
        [STATE_WAITING] = "waiting", [STATE_SENT] = "sent", [STATE_RELEASED] = "released"};
    struct slice state = take_text(in, line->root, "state", NULL);

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (slice_eq(state, slice_str(names[i]))) {
            line->state = (enum store_message_state)i;
            return;
        }
    }
    fail(in, "\"state\" must be waiting, sent or released");
}

static void read_queued(struct in *in, struct store_line *line)
{
    line->number = take_number(in, line->root, "number", 0, TIME_MAX, UINT64_MAX);
    line->qos = (uint8_t)take_number(in, line->root, "qos", 1, 2, UINT64_MAX);
    read_state(in, line);
    if (line->state == STATE_RELEASED) {
        if (line->qos != 2) {
            fail(in, "only QoS 2 has the state released");
        }
        return;
    }
    line->retain = take_bool(in, line->root, "retain");
    read_ids(in, line);
    struct slice share = take_text(in, line->root, "share", "");
    if (share.len > 0) {
        split_filter(in, "share", share, line);
        if (line->share.len == 0) {
            fail(in, "\"share\" must begin with $share/");
        }
    }
    bool retain = take_bool(in, line->root, "published_retain");
    line->publisher = take_text(in, line->root, "publisher", "");
    line->message = read_message(in, line->root, retain, false);
}

static void read_retained(struct in *in, struct store_line *line)
{
    line->publisher = take_text(in, line->root, "publisher", "");
    line->message = read_message(in, line->root, true, false);
    if (line->message && line->message->payload_len == 0) {
        fail(in, "a retained message without payload is none");
    }
}

/* ---- lines ---- */

static void read_head(struct in *in, struct store_line *line)
{
    take_number(in, line->root, "version", STORE_LINES_VERSION, STORE_LINES_VERSION, UINT64_MAX);
}

static void read_typed(struct in *in, struct store_line *line)
{
    static const struct {
        const char *name;
        void (*read)(struct in *in, struct store_line *line);
        bool of_client;
    } types[] = {
        [LINE_HEAD] = {"store", read_head, false},
        [LINE_SESSION] = {"session", read_session, true},
        [LINE_SUBSCRIPTION] = {"subscription", read_subscription, true},
        [LINE_MESSAGE] = {"message", read_queued, true},
        [LINE_RETAINED] = {"retained", read_retained, false},
    };
    struct slice type = take_text(in, line->root, "type", NULL);

    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (!slice_eq(type, slice_str(types[i].name))) {
            continue;
        }
        line->type = (enum store_line_type)i;
        line->client = types[i].of_client ? take_text(in, line->root, "client", NULL) : SLICE("");
        if (types[i].of_client && line->client.len == 0) {
            fail(in, "\"client\" is empty");
        }
        types[i].read(in, line);
        end(in, line->root, "");
        return;
    }
    fail(in, "\"type\" must be store, session, subscription, message or retained");
}

int store_line_read(struct slice text, const struct record_world *world, char *error, size_t error_size,
                    struct store_line *ret_line)
{
    json_error_t why;
    struct store_line *line = ret_line;
    struct in in = {.world = world, .error = error, .error_size = error_size};

    *line = (struct store_line){.kept = json_array()};
    line->root = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, &why);
    in.kept = line->kept;
    if (!line->kept || (!line->root && json_error_code(&why) == json_error_out_of_memory)) {
        no_memory(&in);
    } else if (!json_is_object(line->root)) {
        fail(&in, "is not a JSON object%s%.100s", line->root ? "" : ": ", line->root ? "" : why.text);
    } else {
        read_typed(&in, line);
    }
    if (!in.failed && (line->qos2.failed || line->ids.failed)) {
        no_memory(&in);
    }
    if (in.failed) {
        store_line_deinit(line);
    }
    return in.failed;
}

void store_line_deinit(struct store_line *line)
{
    message_unref(line->message);
    will_free(line->will);
    principal_unref(line->principal);
    buf_deinit(&line->qos2);
    buf_deinit(&line->ids);
    json_decref(line->root);
    json_decref(line->kept);
    *line = (struct store_line){0};
}
