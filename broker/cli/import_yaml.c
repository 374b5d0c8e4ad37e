/* import_yaml.c -- what concerns mosquitto as a whole, as the sections of tern.yaml behind its listeners. */
#include "broker/cli/cli.h"
#include "broker/cli/import.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Numbers of mosquitto and their keys here. */
static const struct number {
    enum import_key key;
    const char *name; /* the key in its section */
    uint64_t least, most;
    uint64_t for_zero; /* what stands for mosquitto's "no limit" */
    const char *unit;
} mqtt_numbers[] =
    {
        {KEY_MAX_PACKET_SIZE, "max_packet_size", 1024, 268435460, 268435460, ""},
        {KEY_MAX_INFLIGHT, "max_inflight", 1, 65535, 65535, ""},
        {KEY_MAX_INFLIGHT, "receive_maximum", 1, 65535, 65535, ""},
        {KEY_MAX_KEEPALIVE, "max_keep_alive", 1, 65535, 0, "s"},
        {KEY_MAX_QOS, "maximum_qos", 0, 2, 0, ""},
        {KEY_MAX_TOPIC_ALIAS, "topic_alias_maximum", 0, 65535, 0, ""},
        {KEY_MAX_TOPIC_ALIAS_BROKER, "topic_alias_out", 0, 65535, 0, ""},
},
  limits_numbers[] =
      {
          {KEY_GLOBAL_MAX_CONNECTIONS, "max_connections", 1, 4000000000, 0, ""},
          {KEY_MAX_QUEUED, "max_queued_messages", 1, 4000000000, 4000000000, ""},
          {KEY_MAX_QUEUED_BYTES, "max_queued_bytes", 1024, 1ull << 40, 1ull << 40, ""},
},
  top_numbers[] = {
      {KEY_SYS_INTERVAL, "sys_interval", 1, 86400, 0, "s"},
};

/* What message_size_limit leaves out: the header, the topic, properties. */
#define PACKET_REST_BYTES 65536u

struct rest {
    const struct import_settings *s;
    struct import_notes *notes;
    struct buf *out;
    const char *section; /* whose heading stands; NULL: none yet */
};

__attribute__((format(printf, 3, 4))) static void put(struct rest *r, const char *section, const char *format, ...)
{
    char *text;
    va_list args;

    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0) {
        r->out->failed = 1;
        return;
    }
    if (*section && r->section != section) {
        cli_put(r->out, "\n%s:\n", section);
        r->section = section;
    }
    cli_put(r->out, "%s%s\n", *section ? "  " : "", text);
    free(text);
}

/* The value of a key of listeners, if all of them agree, for here it is one for all; NULL if it is not set. */
static const struct import_value *common(struct rest *r, enum import_key key)
{
    const struct import_value *first = import_value(r->s, &r->s->listeners[0], key);
    bool same = true, any = false;

    for (unsigned i = 0; i < r->s->listener_count; i++) {
        const struct import_value *v = import_value(r->s, &r->s->listeners[i], key);
        any |= v->text != NULL;
        same &= (v->text == NULL) == (first->text == NULL) && (!v->text || strcmp(v->text, first->text) == 0);
    }
    for (unsigned i = 0; i < r->s->listener_count && any && !same; i++) {
        const struct import_value *v = import_value(r->s, &r->s->listeners[i], key);
        if (v->text) {
            import_missing(r->notes, v->place, v->key, "here it is one for all listeners, and they differ");
        }
    }
    return any && same ? first : NULL;
}

static void put_number(struct rest *r, const char *section, const struct number *n)
{
    const struct import_value *v = common(r, n->key);
    unsigned long long number;
    char *end;

    if (!v) {
        return;
    }
    number = strtoull(v->text, &end, 10);
    if (!isdigit((unsigned char)*v->text) || *end) {
        import_missing(r->notes, v->place, v->key, "%s is not a number that it can be", v->text);
        return;
    }
    uint64_t fit = number == 0 ? n->for_zero : number < n->least ? n->least : number > n->most ? n->most : number;
    if (fit != number && number != 0) {
        import_remark(r->notes, v->place, v->key, "%llu becomes %llu, the nearest that Tern takes", number,
                      (unsigned long long)fit);
    }
    put(r, section, "%s: %llu%s", n->name, (unsigned long long)fit, fit ? n->unit : "");
}

/* The limit of a payload as one of the packet around it, where no limit of packets is set. */
static void put_message_size(struct rest *r)
{
    const struct import_value *v = &r->s->all.values[KEY_MESSAGE_SIZE_LIMIT];
    uint32_t size;

    if (!v->text) {
        return;
    }
    if (r->s->all.values[KEY_MAX_PACKET_SIZE].text) {
        import_missing(r->notes, v->place, v->key, "max_packet_size is set, and bounds every packet");
    } else if (!cli_number(v->text, 0, 268435455, &size)) {
        import_missing(r->notes, v->place, v->key, "%s is no size of a payload", v->text);
    } else {
        uint64_t packet = size == 0 || size > 268435460 - PACKET_REST_BYTES ? 268435460 : size + PACKET_REST_BYTES;
        put(r, "mqtt", "max_packet_size: %llu", (unsigned long long)packet);
        import_remark(r->notes, v->place, v->key, "bounds the payload there and the whole packet here: %u bytes more",
                      PACKET_REST_BYTES);
    }
}

/* A number and a unit: here m is a month. */
static void put_expiration(struct rest *r)
{
    static const struct {
        char unit;
        unsigned hours;
    } units[] = {{'h', 1}, {'d', 24}, {'w', 7 * 24}, {'m', 30 * 24}, {'y', 365 * 24}};
    const struct import_value *v = &r->s->all.values[KEY_EXPIRATION];
    char *end = NULL;

    if (!v->text) {
        return;
    }
    unsigned long number = strtoul(v->text, &end, 10);
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (number > 0 && number <= 1000000 && end[0] == units[i].unit && end[1] == '\0' &&
            number * units[i].hours * 3600 < 0xFFFFFFFEu) {
            put(r, "mqtt", "max_session_expiry: %luh", number * units[i].hours);
            return;
        }
    }
    import_missing(r->notes, v->place, v->key, "%s is not a time of at most 136 years", v->text);
}

static void put_mqtt(struct rest *r)
{
    const struct import_value *retain = &r->s->all.values[KEY_RETAIN_AVAILABLE];

    for (size_t i = 0; i < COUNT_OF(mqtt_numbers); i++) {
        put_number(r, "mqtt", &mqtt_numbers[i]);
    }
    put_message_size(r);
    put_expiration(r);
    if (retain->text) {
        put(r, "mqtt", "retain_available: %s", import_is_true(retain) ? "true" : "false");
    }
}

static void put_log(struct rest *r)
{
    static const struct {
        const char *type, *level;
    } levels[] = {{"none", "error"},       {"error", "error"}, {"warning", "warn"}, {"notice", "info"},
                  {"information", "info"}, {"debug", "debug"}, {"all", "debug"}};
    const struct import_value *v = &r->s->all.values[KEY_LOG_TYPE];

    for (size_t i = 0; v->text && i < COUNT_OF(levels); i++) {
        if (strcmp(v->text, levels[i].type) == 0) {
            put(r, "log", "level: %s", levels[i].level);
            return;
        }
    }
    if (v->text) {
        import_missing(r->notes, v->place, v->key, "there are no lines of this kind; log.level: debug tells most");
    }
}

static void put_path(struct rest *r, const char *key, const char *path)
{
    struct buf quoted = {0};

    import_quote(&quoted, slice_str(path));
    put(r, "auth", "%s: %.*s", key, (int)quoted.len, quoted.ptr);
    r->out->failed |= quoted.failed;
    buf_deinit(&quoted);
}

void import_put_rest(const struct import_settings *s, const char *acl_file, struct import_notes *notes, struct buf *out)
{
    struct rest r = {.s = s, .notes = notes, .out = out};
    const char *password_file = import_password_file(s, NULL);

    cli_put(out, "\n");
    for (size_t i = 0; i < COUNT_OF(top_numbers); i++) {
        put_number(&r, "", &top_numbers[i]);
    }
    put_mqtt(&r);
    for (size_t i = 0; i < COUNT_OF(limits_numbers); i++) {
        put_number(&r, "limits", &limits_numbers[i]);
    }
    if (password_file) {
        put_path(&r, "password_file", password_file);
    }
    if (acl_file) {
        put_path(&r, "acl_file", acl_file);
    }
    put_log(&r);
}
