/* import_conf.c -- mosquitto.conf read line by line, by the rules of mosquitto 2.0 and 2.1. */
#include "broker/cli/cli.h"
#include "broker/cli/import.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Where a key's value is kept: for the broker, for the present listener, or as per_listener_settings says. */
enum scope { SCOPE_BROKER, SCOPE_LISTENER, SCOPE_SECURITY };

static const struct conf_key {
    const char *name;
    enum import_key key;
    enum scope scope;
} conf_keys[] = {
    {"per_listener_settings", KEY_PER_LISTENER_SETTINGS, SCOPE_BROKER},
    {"port", KEY_PORT, SCOPE_BROKER},
    {"bind_address", KEY_BIND_ADDRESS, SCOPE_BROKER},
    {"global_max_connections", KEY_GLOBAL_MAX_CONNECTIONS, SCOPE_BROKER},
    {"max_packet_size", KEY_MAX_PACKET_SIZE, SCOPE_BROKER},
    {"message_size_limit", KEY_MESSAGE_SIZE_LIMIT, SCOPE_BROKER},
    {"max_inflight_messages", KEY_MAX_INFLIGHT, SCOPE_BROKER},
    {"max_queued_messages", KEY_MAX_QUEUED, SCOPE_BROKER},
    {"max_queued_bytes", KEY_MAX_QUEUED_BYTES, SCOPE_BROKER},
    {"max_keepalive", KEY_MAX_KEEPALIVE, SCOPE_BROKER},
    {"persistent_client_expiration", KEY_EXPIRATION, SCOPE_BROKER},
    {"retain_available", KEY_RETAIN_AVAILABLE, SCOPE_BROKER},
    {"sys_interval", KEY_SYS_INTERVAL, SCOPE_BROKER},
    {"socket_domain", KEY_SOCKET_DOMAIN, SCOPE_LISTENER},
    {"protocol", KEY_PROTOCOL, SCOPE_LISTENER},
    {"mount_point", KEY_MOUNT_POINT, SCOPE_LISTENER},
    {"max_connections", KEY_MAX_CONNECTIONS, SCOPE_LISTENER},
    {"max_qos", KEY_MAX_QOS, SCOPE_LISTENER},
    {"max_topic_alias", KEY_MAX_TOPIC_ALIAS, SCOPE_LISTENER},
    {"max_topic_alias_broker", KEY_MAX_TOPIC_ALIAS_BROKER, SCOPE_LISTENER},
    {"cafile", KEY_CAFILE, SCOPE_LISTENER},
    {"capath", KEY_CAPATH, SCOPE_LISTENER},
    {"certfile", KEY_CERTFILE, SCOPE_LISTENER},
    {"keyfile", KEY_KEYFILE, SCOPE_LISTENER},
    {"crlfile", KEY_CRLFILE, SCOPE_LISTENER},
    {"require_certificate", KEY_REQUIRE_CERTIFICATE, SCOPE_LISTENER},
    {"use_identity_as_username", KEY_IDENTITY, SCOPE_LISTENER},
    {"use_subject_as_username", KEY_SUBJECT, SCOPE_LISTENER},
    {"ciphers", KEY_CIPHERS, SCOPE_LISTENER},
    {"ciphers_tls1.3", KEY_CIPHERSUITES, SCOPE_LISTENER},
    {"tls_version", KEY_TLS_VERSION, SCOPE_LISTENER},
    {"psk_hint", KEY_PSK_HINT, SCOPE_LISTENER},
    {"accept_protocol_versions", KEY_VERSIONS, SCOPE_LISTENER},
    {"enable_proxy_protocol", KEY_PROXY_PROTOCOL, SCOPE_LISTENER},
    {"websockets_origin", KEY_ORIGIN, SCOPE_LISTENER},
    {"listener_allow_anonymous", KEY_LISTENER_ANONYMOUS, SCOPE_LISTENER},
    {"allow_anonymous", KEY_ALLOW_ANONYMOUS, SCOPE_SECURITY},
    {"password_file", KEY_PASSWORD_FILE, SCOPE_SECURITY},
    {"acl_file", KEY_ACL_FILE, SCOPE_SECURITY},
    {"psk_file", KEY_PSK_FILE, SCOPE_SECURITY},
};

#define WHY_BRIDGE "of a bridge, and Tern has none"
#define WHY_PLUGIN "of a plugin of mosquitto; see auth.*, jwt.* and http.* for what Tern has itself"
#define WHY_STORE "Tern keeps its state in `data`, in a form of its own, and does not read mosquitto.db"
#define WHY_LOG \
    "Tern writes its log to standard error, one line an event, with the time; the system's journal takes it on"
#define WHY_PROCESS "left to whoever starts the process (systemd: User=, LimitNOFILE=)"
#define WHY_TLS "Tern leaves it to OpenSSL"

/* Known keys without a counterpart, and why. A name that ends with * is the beginning of many; more exact ones stand
 * first. */
static const struct missing_key {
    const char *name, *why;
} missing_keys[] = {
    {"address", WHY_BRIDGE},
    {"addresses", WHY_BRIDGE},
    {"topic", WHY_BRIDGE},
    {"bridge_*", WHY_BRIDGE},
    {"cleansession", WHY_BRIDGE},
    {"local_cleansession", WHY_BRIDGE},
    {"clientid", WHY_BRIDGE},
    {"idle_timeout", WHY_BRIDGE},
    {"keepalive_interval", WHY_BRIDGE},
    {"local_*", WHY_BRIDGE},
    {"notification*", WHY_BRIDGE},
    {"password", WHY_BRIDGE},
    {"remote_*", WHY_BRIDGE},
    {"restart_timeout", WHY_BRIDGE},
    {"round_robin", WHY_BRIDGE},
    {"start_type", WHY_BRIDGE},
    {"threshold", WHY_BRIDGE},
    {"try_private", WHY_BRIDGE},
    {"username", WHY_BRIDGE},
    {"plugin*", WHY_PLUGIN},
    {"global_plugin*", WHY_PLUGIN},
    {"auth_*", WHY_PLUGIN},
    {"persistence*", WHY_STORE},
    {"autosave_*", WHY_STORE},
    {"log_*", WHY_LOG},
    {"connection_messages", "connects and disconnects are always told in the log"},
    {"websockets_log_level", WHY_LOG},
    {"user", WHY_PROCESS},
    {"pid_file", WHY_PROCESS},
    {"memory_limit", "each queue and table has its own bound; see limits.*"},
    {"dhparamfile", WHY_TLS},
    {"tls_engine*", WHY_TLS},
    {"tls_keyform", WHY_TLS},
    {"disable_client_cert_date_checks", "a certificate that has expired is not taken"},
    {"allow_zero_length_clientid", "empty client ids are always taken, as MQTT wants it"},
    {"auto_id_prefix", "ids that the broker gives out have no prefix that could be chosen"},
    {"allow_duplicate_messages", "overlapping subscriptions bring one copy each, as MQTT 5.0 wants it"},
    {"bind_interface", "name the interface's address in the listener instead"},
    {"check_retain_source", "the reader's rules decide about a retained message, not its writer's of today"},
    {"clientid_prefixes", "write rules with client_id: \"PREFIX*\" instead"},
    {"use_username_as_clientid", "rules with %u, and auth.client_id_binding, keep users apart instead"},
    {"http_dir", "a listener for WebSocket serves no files"},
    {"http_api_*", "the address of the HTTP interface is another setting here"},
    {"max_inflight_bytes", "limits.max_outbox_bytes bounds what waits for a socket"},
    {"packet_buffer_size", "buffers grow and shrink with what they hold"},
    {"packet_max_*", "mqtt.max_packet_size bounds every packet"},
    {"queue_qos0_messages", "whether QoS 0 waits for a client that is away cannot be chosen"},
    {"retain_expiry_interval", "a retained message lives as long as its Message Expiry Interval says"},
    {"retry_interval", "MQTT 3.1.1 and 5.0 resend at reconnect alone"},
    {"set_tcp_nodelay", "Tern sends each turn's output at once"},
    {"upgrade_outgoing_qos", "MQTT forbids it"},
    {"websockets_headers_size", "the size of a WebSocket client's headers has a fixed bound"},
    {"enable_control_api", "there is no $CONTROL interface"},
};

/* ---- notes ---- */

__attribute__((format(printf, 5, 0))) static void note(struct import_notes *notes, const char *kind,
                                                       struct import_place place, const char *key, const char *format,
                                                       va_list args)
{
    char why[512];

    vsnprintf(why, sizeof(why), format, args);
    if (place.file && place.line) {
        cli_put(&notes->text, "%s: %s:%u: %s: %s\n", kind, place.file, place.line, key, why);
    } else {
        cli_put(&notes->text, "%s: %s: %s\n", kind, key, why);
    }
}

void import_missing(struct import_notes *notes, struct import_place place, const char *key, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    note(notes, "not taken over", place, key, format, args);
    va_end(args);
    notes->missing++;
}

void import_remark(struct import_notes *notes, struct import_place place, const char *key, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    note(notes, "note", place, key, format, args);
    va_end(args);
    notes->remarks++;
}

/* ---- lines ---- */

struct reading {
    struct import_settings *settings;
    struct import_listener *listener; /* the present one; &settings->all: none yet */
    struct import_notes *notes;
    struct import_place place;
    bool in_bridge; /* behind `connection` */
    char *error;
    size_t error_size;
    int (*include)(void *context, const char *directory);
    void *context;
};

__attribute__((format(printf, 2, 3))) static int reading_fail(struct reading *r, const char *format, ...)
{
    char why[512];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    snprintf(r->error, r->error_size, "%s:%u: %s", r->place.file, r->place.line, why);
    return -EINVAL;
}

/* PORT, PORT HOST, or 0 PATH. */
static int take_listener(struct reading *r, char *value)
{
    struct import_settings *s = r->settings;
    char *host = value + strcspn(value, " \t");
    uint32_t port;

    if (s->listener_count == IMPORT_LISTENERS_MAX) {
        return reading_fail(r, "more than %d listeners", IMPORT_LISTENERS_MAX);
    }
    while (*host == ' ' || *host == '\t') {
        *host++ = '\0';
    }
    if (!cli_number(value, 0, 65535, &port) || (port == 0 && *host != '/' && *host != '.')) {
        return reading_fail(r, "listener: needs a port, or 0 and the path of a Unix socket");
    }
    r->listener = &s->listeners[s->listener_count++];
    r->listener->place = r->place;
    r->listener->port = port;
    r->listener->unix_path = port == 0 ? host : NULL;
    r->listener->host = port && *host ? host : NULL;
    s->named_port = true;
    return 0;
}

static bool name_fits(const char *pattern, const char *name)
{
    size_t len = strlen(pattern);

    return pattern[len - 1] == '*' ? strncmp(pattern, name, len - 1) == 0 : strcmp(pattern, name) == 0;
}

static void take_missing(struct reading *r, const char *name)
{
    const char *why = r->in_bridge ? WHY_BRIDGE : "unknown";

    for (size_t i = COUNT_OF(missing_keys); i-- > 0;) {
        why = name_fits(missing_keys[i].name, name) ? missing_keys[i].why : why;
    }
    import_missing(r->notes, r->place, name, "%s", why);
}

/* Values that several lines may give: the one to keep. Of the kinds of log lines the chattiest counts. */
static bool keeps_former(const struct import_value *former, enum import_key key, const char *value)
{
    static const char *const chatty[] = {"none", "error", "warning", "notice", "information", "debug", "all"};
    int old = -1, new = -1;

    for (int i = 0; key == KEY_LOG_TYPE && former->text && i < (int)COUNT_OF(chatty); i++) {
        old = strcmp(former->text, chatty[i]) == 0 ? i : old;
        new = strcmp(value, chatty[i]) == 0 ? i : new;
    }
    return old > new;
}

static void keep(struct reading *r, const struct conf_key *k, const char *value)
{
    struct import_settings *s = r->settings;
    bool of_listener = k->scope == SCOPE_LISTENER || (k->scope == SCOPE_SECURITY && s->per_listener);
    struct import_value *v = &(of_listener ? r->listener : &s->all)->values[k->key];

    if (keeps_former(v, k->key, value)) {
        return;
    }
    if (v->text && strcmp(v->text, value) != 0 && k->key != KEY_LOG_TYPE) {
        import_remark(r->notes, r->place, k->name, "given before in line %u, this one counts", v->place.line);
    }
    *v = (struct import_value){.text = value, .key = k->name, .place = r->place};
    s->named_port |= k->key == KEY_PORT || k->key == KEY_BIND_ADDRESS;
    if (k->key == KEY_PER_LISTENER_SETTINGS) {
        s->per_listener = import_is_true(v);
    }
}

static int take_setting(struct reading *r, char *name, char *value)
{
    static const struct conf_key log_type = {"log_type", KEY_LOG_TYPE, SCOPE_BROKER};
    static const struct conf_key log_dest = {"log_dest", KEY_LOG_DEST, SCOPE_BROKER};

    if (strcmp(name, "connection") == 0) {
        r->in_bridge = true;
        import_missing(r->notes, r->place, name, "%s: %s", value, WHY_BRIDGE);
        return 0;
    }
    if (*value == '\0') {
        return reading_fail(r, "%s: has no value", name);
    }
    if (strcmp(name, "listener") == 0) {
        return take_listener(r, value);
    }
    if (strcmp(name, "include_dir") == 0) {
        if (r->include) {
            return r->include(r->context, value);
        }
        return reading_fail(r, "include_dir: only the main file may have it");
    }
    if (strcmp(name, "log_type") == 0) {
        keep(r, &log_type, value);
        return 0;
    }
    if (strcmp(name, "log_dest") == 0 && (strcmp(value, "stderr") == 0 || strcmp(value, "stdout") == 0)) {
        keep(r, &log_dest, value);
        return 0;
    }
    for (size_t i = 0; i < COUNT_OF(conf_keys); i++) {
        if (strcmp(name, conf_keys[i].name) == 0) {
            keep(r, &conf_keys[i], value);
            return 0;
        }
    }
    take_missing(r, name);
    return 0;
}

int import_conf_read(struct import_settings *s, char *text, const char *name, struct import_notes *notes, char *error,
                     size_t error_size, int (*include)(void *context, const char *directory), void *context)
{
    struct reading r = {.settings = s,
                        .listener = &s->all,
                        .notes = notes,
                        .place = {name, 0},
                        .error = error,
                        .error_size = error_size,
                        .include = include,
                        .context = context};
    int rc = 0;

    for (char *line = text, *next; rc == 0 && *line; line = next) {
        size_t len = strcspn(line, "\n");
        next = line + len + (line[len] ? 1 : 0);
        r.place.line++;
        while (len > 0 && strchr(" \t\r", line[len - 1])) {
            len--;
        }
        line[len] = '\0';
        if (*line == '#') {
            continue;
        }
        line += strspn(line, " \t");
        char *value = line + strcspn(line, " \t");
        if (*value) {
            *value++ = '\0';
            value += strspn(value, " \t");
        }
        rc = *line ? take_setting(&r, line, value) : 0;
    }
    return rc;
}

/* ---- what follows from all lines ---- */

/* Whether anything is set that makes mosquitto open its default listener beside others. */
static bool default_listener_wanted(const struct import_settings *s)
{
    static const enum import_key openers[] = {
        KEY_PORT,         KEY_BIND_ADDRESS, KEY_SOCKET_DOMAIN,  KEY_PROTOCOL, KEY_CAFILE,
        KEY_CAPATH,       KEY_CERTFILE,     KEY_KEYFILE,        KEY_CRLFILE,  KEY_CIPHERS,
        KEY_CIPHERSUITES, KEY_PSK_HINT,     KEY_IDENTITY,       KEY_SUBJECT,  KEY_REQUIRE_CERTIFICATE,
        KEY_MOUNT_POINT,  KEY_MAX_QOS,      KEY_MAX_CONNECTIONS};

    if (s->listener_count == 0) {
        return true;
    }
    for (size_t i = 0; i < COUNT_OF(openers); i++) {
        if (s->all.values[openers[i]].text) {
            return true;
        }
    }
    return s->per_listener && (s->all.values[KEY_PASSWORD_FILE].text || s->all.values[KEY_PSK_FILE].text);
}

int import_conf_finish(struct import_settings *s, char *error, size_t error_size)
{
    const struct import_value *port = &s->all.values[KEY_PORT], *host = &s->all.values[KEY_BIND_ADDRESS];
    uint32_t number = 1883;

    if (port->text && !cli_number(port->text, 1, 65535, &number)) {
        snprintf(error, error_size, "%s:%u: port: %s is no port", port->place.file, port->place.line, port->text);
        return -EINVAL;
    }
    if (!default_listener_wanted(s)) {
        return 0;
    }
    if (s->listener_count == IMPORT_LISTENERS_MAX) {
        snprintf(error, error_size, "more than %d listeners", IMPORT_LISTENERS_MAX);
        return -EINVAL;
    }
    struct import_listener *l = &s->listeners[s->listener_count++];
    *l = s->all;
    l->place = port->text ? port->place : host->place;
    l->port = number;
    l->host = host->text;
    l->local = !s->named_port;
    return 0;
}

const struct import_value *import_value(const struct import_settings *s, const struct import_listener *l,
                                        enum import_key key)
{
    bool of_all = key < KEY_SOCKET_DOMAIN || (key >= KEY_ALLOW_ANONYMOUS && !s->per_listener);

    return of_all ? &s->all.values[key] : &l->values[key];
}

bool import_is_true(const struct import_value *value)
{
    return value->text && (strcasecmp(value->text, "true") == 0 || strcmp(value->text, "1") == 0);
}

bool import_anonymous(const struct import_settings *s, const struct import_listener *l)
{
    const struct import_value *own = import_value(s, l, KEY_LISTENER_ANONYMOUS);
    const struct import_value *v = own->text ? own : import_value(s, l, KEY_ALLOW_ANONYMOUS);

    return v->text ? import_is_true(v) : l->local;
}
