/* config_listener.c -- listeners: their addresses taken apart, and the list of them. */
#include "broker/base/config_schema.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/un.h>

#define WHY_MAX 512
#define ADDRESS_EXAMPLES "(examples: tcp://127.0.0.1:1883, tls://[::]:8883, unix:///run/tern.sock)"

static const struct scheme {
    const char *name;
    enum config_transport transport;
    unsigned port; /* if the address has none */
} schemes[] = {
    {"tcp://", TRANSPORT_TCP, 1883},   {"mqtt://", TRANSPORT_TCP, 1883}, {"tls://", TRANSPORT_TLS, 8883},
    {"mqtts://", TRANSPORT_TLS, 8883}, {"ssl://", TRANSPORT_TLS, 8883},  {"ws://", TRANSPORT_WS, 8083},
    {"wss://", TRANSPORT_WSS, 8084},   {"unix://", TRANSPORT_UNIX, 0},
};

/* An address cut into its parts, which borrow from it. */
struct address {
    enum config_transport transport;
    struct slice host; /* of a Unix socket: its path */
    unsigned port;
    const char *path; /* of WebSocket; "": none */
};

/* Digits only, 0..65535; -1 otherwise. */
static int port_parse(struct slice text)
{
    unsigned port = 0;

    if (text.len == 0) {
        return -1;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (!isdigit(text.ptr[i])) {
            return -1;
        }
        port = port * 10 + (unsigned)(text.ptr[i] - '0');
        if (port > 65535) {
            return -1;
        }
    }
    return (int)port;
}

/* Names and numeric addresses are made of these; %, for an IPv6 zone, only in brackets. */
static bool host_valid(struct slice host, bool brackets)
{
    if (host.len == 0 || host.len > 255) {
        return false;
    }
    for (size_t i = 0; i < host.len; i++) {
        unsigned char c = host.ptr[i];
        if (!isalnum(c) && c != '.' && c != '-' && c != '_' && !(brackets && (c == ':' || c == '%'))) {
            return false;
        }
    }
    return true;
}

/* Cut HOST, HOST:PORT, [HOST] or [HOST]:PORT apart. */
static bool host_split(struct slice text, unsigned default_port, struct address *ret_address)
{
    bool brackets = text.len > 0 && text.ptr[0] == '[';
    struct slice rest = slice_drop(text, brackets ? 1 : 0);
    const uint8_t *end = rest.len ? memchr(rest.ptr, brackets ? ']' : ':', rest.len) : NULL;
    struct slice host = slice_of(rest.ptr, end ? (size_t)(end - rest.ptr) : rest.len);
    struct slice behind = slice_drop(rest, host.len + (brackets && end ? 1 : 0));

    if ((brackets && !end) || !host_valid(host, brackets)) {
        return false;
    }
    int port = (int)default_port;
    if (behind.len > 0) {
        port = behind.ptr[0] == ':' ? port_parse(slice_drop(behind, 1)) : -1;
    }
    if (port < 0) {
        return false;
    }
    ret_address->host = host;
    ret_address->port = (unsigned)port;
    return true;
}

static bool address_split(const char *text, struct address *ret_address)
{
    const struct scheme *scheme = NULL;

    for (size_t i = 0; i < COUNT_OF(schemes) && !scheme; i++) {
        scheme = strncmp(text, schemes[i].name, strlen(schemes[i].name)) == 0 ? &schemes[i] : NULL;
    }
    if (!scheme) {
        return false;
    }
    const char *rest = text + strlen(scheme->name), *path = rest + strcspn(rest, "/");
    *ret_address = (struct address){.transport = scheme->transport, .path = ""};
    if (scheme->transport == TRANSPORT_UNIX) {
        ret_address->host = slice_str(rest);
        return *rest != '\0';
    }
    if (scheme->transport == TRANSPORT_WS || scheme->transport == TRANSPORT_WSS) {
        ret_address->path = path;
    } else if (*path) {
        return false;
    }
    return host_split(slice_of(rest, (size_t)(path - rest)), scheme->port, ret_address);
}

int config_listener_init(struct config_listener *listener)
{
    memset(listener, 0, sizeof(*listener));
    return config_values_default(&config_listener_keys, listener);
}

void config_listener_deinit(struct config_listener *listener)
{
    config_values_free(&config_listener_keys, listener);
    free(listener->host);
    memset(listener, 0, sizeof(*listener));
}

static bool address_listed(const struct config *config, const struct address *a)
{
    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];
        bool same_kind = (l->transport == TRANSPORT_UNIX) == (a->transport == TRANSPORT_UNIX);
        bool any_port = a->transport != TRANSPORT_UNIX && a->port == 0;
        if (same_kind && !any_port && l->port == a->port && slice_eq(slice_str(l->host), a->host)) {
            return true;
        }
    }
    return false;
}

/* The path of the address is websocket.path, unless that says something else. */
static int take_path(struct config_listener *l, const char *path, char *error, size_t error_size)
{
    const struct config_key *key = config_key_find(&config_listener_keys, "websocket.path");

    if (!*path || strcmp(l->websocket.path, path) == 0) {
        return 0;
    }
    if (strcmp(l->websocket.path, key->by_default) != 0) {
        snprintf(error, error_size, "%s: has another path than websocket.path, %s", l->address, l->websocket.path);
        return -EINVAL;
    }
    return config_value_set(l, key, path, error, error_size);
}

int config_listener_add(struct config *config, struct config_listener *listener, char *error, size_t error_size)
{
    struct address a;

    if (config->listener_count == CONFIG_LISTENERS_MAX) {
        snprintf(error, error_size, "more than %d listeners", CONFIG_LISTENERS_MAX);
        return -EINVAL;
    }
    if (!address_split(listener->address, &a)) {
        snprintf(error, error_size, "%s is not a listener's address " ADDRESS_EXAMPLES, listener->address);
        return -EINVAL;
    }
    if (a.transport == TRANSPORT_UNIX && a.host.len >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        snprintf(error, error_size, "%s: the path of a Unix socket is too long", listener->address);
        return -EINVAL;
    }
    if (address_listed(config, &a)) {
        snprintf(error, error_size, "%s is listed twice", listener->address);
        return -EINVAL;
    }
    int rc = take_path(listener, a.path, error, error_size);
    if (rc) {
        return rc;
    }
    listener->transport = (int)a.transport;
    listener->port = a.port;
    listener->host = strndup((const char *)a.host.ptr, a.host.len);
    if (!listener->host) {
        return -ENOMEM;
    }
    config->listeners[config->listener_count++] = *listener;
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* Replace %XX by its byte, in place. False if one is none, or NUL. */
static bool percent_decode(char *text)
{
    char *out = text;

    for (; *text; text++) {
        int high = *text == '%' ? hex_digit(text[1]) : 0;
        int low = *text == '%' && high >= 0 ? hex_digit(text[2]) : 0;
        if (high < 0 || low < 0 || (*text == '%' && high + low == 0)) {
            return false;
        }
        if (*text == '%') {
            *out++ = (char)(high * 16 + low);
            text += 2;
        } else {
            *out++ = *text;
        }
    }
    *out = '\0';
    return true;
}

/* KEY=VALUE&KEY=VALUE, which is overwritten. */
static int take_query(struct config_listener *l, char *query, char *error, size_t error_size)
{
    const struct config_table *table = &config_listener_keys;
    bool given[CONFIG_KEYS_MAX] = {false};
    char *part, why[WHY_MAX];

    while ((part = strsep(&query, "&")) != NULL) {
        char *value = strchr(part, '=');
        if (!value || !percent_decode(value + 1)) {
            snprintf(error, error_size, "%s: %s is not of the form KEY=VALUE", l->address, part);
            return -EINVAL;
        }
        *value++ = '\0';
        const struct config_key *key = config_key_find(table, part);
        int rc = -EINVAL;
        if (!key) {
            config_unknown_key(table, part, why, sizeof(why));
        } else if (key == &table->keys[0] || given[key - table->keys]) {
            snprintf(why, sizeof(why), "given twice");
        } else {
            given[key - table->keys] = true;
            rc = config_value_set(l, key, value, why, sizeof(why));
        }
        if (rc == -EINVAL) {
            snprintf(error, error_size, "%s: %s: %s", l->address, part, why);
        }
        if (rc) {
            return rc;
        }
    }
    return 0;
}

/* word is overwritten. */
static int word_add(struct config *config, char *word, char *error, size_t error_size)
{
    struct config_listener l;
    char *query = strchr(word, '?');

    if (query) {
        *query++ = '\0';
    }
    if (!*word) {
        snprintf(error, error_size, "an entry of the list is empty");
        return -EINVAL;
    }
    int rc = config_listener_init(&l);
    rc = rc ? rc : config_value_set(&l, &config_listener_keys.keys[0], word, error, error_size);
    rc = rc || !query ? rc : take_query(&l, query, error, error_size);
    rc = rc ? rc : config_listener_add(config, &l, error, error_size);
    if (rc) {
        config_listener_deinit(&l);
    }
    return rc;
}

int config_listener_add_word(struct config *config, const char *word, char *error, size_t error_size)
{
    char *copy = strdup(word);
    int rc = copy ? word_add(config, copy, error, error_size) : -ENOMEM;

    free(copy);
    return rc;
}

int config_listeners_add(struct config *config, const char *text, char *error, size_t error_size)
{
    char *copy = strdup(text), *rest = copy, *word;
    int rc = copy ? 0 : -ENOMEM;

    while (rc == 0 && (word = strsep(&rest, ",")) != NULL) {
        rc = word_add(config, word + strspn(word, " "), error, error_size);
    }
    free(copy);
    return rc;
}

void config_listeners_clear(struct config *config)
{
    for (unsigned i = 0; i < config->listener_count; i++) {
        config_listener_deinit(&config->listeners[i]);
    }
    config->listener_count = 0;
}
