/* config_listener.c -- the list of addresses that clients connect to. */
#include "broker/base/config_schema.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

static const char scheme[] = "tcp://";

/* Digits only, 0..65535; -1 otherwise. */
static int port_parse(const char *text)
{
    unsigned port = 0;

    if (!*text) {
        return -1;
    }
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text)) {
            return -1;
        }
        port = port * 10 + (unsigned)(*text - '0');
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

/* Cut HOST:PORT or [HOST]:PORT apart. */
static bool address_split(const char *text, struct slice *ret_host, int *ret_port)
{
    bool brackets = *text == '[';
    const char *end = brackets ? strchr(text, ']') : strrchr(text, ':');

    if (!end || end[brackets] != ':') {
        return false;
    }
    struct slice host = slice_of(text + brackets, (size_t)(end - text - brackets));
    int port = port_parse(end + brackets + 1);
    if (!host_valid(host, brackets) || port < 0) {
        return false;
    }
    *ret_host = host;
    *ret_port = port;
    return true;
}

static bool listener_exists(const struct config *config, struct slice host, unsigned port)
{
    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];
        if (port != 0 && l->port == port && slice_eq(slice_str(l->host), host)) {
            return true;
        }
    }
    return false;
}

int config_listener_add(struct config *config, const char *address, int allow_anonymous, char *error, size_t error_size)
{
    struct slice host;
    int port;

    if (config->listener_count == CONFIG_LISTENERS_MAX) {
        snprintf(error, error_size, "more than %d listeners", CONFIG_LISTENERS_MAX);
        return -EINVAL;
    }
    if (strncmp(address, scheme, sizeof(scheme) - 1) != 0 ||
        !address_split(address + sizeof(scheme) - 1, &host, &port)) {
        snprintf(error, error_size, "%s is not a listener's address (examples: tcp://127.0.0.1:1883, tcp://[::]:1883)",
                 address);
        return -EINVAL;
    }
    if (listener_exists(config, host, (unsigned)port)) {
        snprintf(error, error_size, "%s is listed twice", address);
        return -EINVAL;
    }
    struct config_listener l = {
        .address = strdup(address),
        .host = strndup((const char *)host.ptr, host.len),
        .port = (unsigned)port,
        .allow_anonymous = allow_anonymous,
    };
    if (!l.address || !l.host) {
        free(l.address);
        free(l.host);
        return -ENOMEM;
    }
    config->listeners[config->listener_count++] = l;
    return 0;
}

void config_listeners_clear(struct config *config)
{
    for (unsigned i = 0; i < config->listener_count; i++) {
        free(config->listeners[i].address);
        free(config->listeners[i].host);
        config->listeners[i] = (struct config_listener){0};
    }
    config->listener_count = 0;
}
