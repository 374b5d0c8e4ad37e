/* config_check.c -- whether the parts of a configuration fit together, and what follows from them.
 *
 * Why apart: a value can be right by itself and wrong beside another, which is known only when all sources have been
 * read. Everything here is decided from the configuration; whether files are there and hold what they should is found
 * out by who reads them. The one exception is the resolver, asked whether a host that is a name is this machine. */
#include "broker/base/config_schema.h"

#include <errno.h>
#include <netdb.h>
#include <stdarg.h>

#include "broker/base/network.h"

struct checking {
    struct config *config;
    struct config_listener *l; /* the present one */
    char *error;               /* borrowed */
    size_t error_size;
};

__attribute__((format(printf, 2, 3))) static int listener_fail(struct checking *c, const char *format, ...)
{
    va_list args;

    int used = snprintf(c->error, c->error_size, "listeners: %s: ", c->l->address);
    if (used >= 0 && (size_t)used < c->error_size) {
        va_start(args, format);
        vsnprintf(c->error + used, c->error_size - (size_t)used, format, args);
        va_end(args);
    }
    return -EINVAL;
}

static bool has_tls(const struct config_listener *l)
{
    return l->transport == TRANSPORT_TLS || l->transport == TRANSPORT_WSS;
}

static bool has_websocket(const struct config_listener *l)
{
    return l->transport == TRANSPORT_WS || l->transport == TRANSPORT_WSS;
}

/* Whether only this machine can reach it: every address that the host stands for is a loopback one. */
static bool is_local(const struct config_listener *l)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all;
    struct in6_addr address;
    bool local = true;

    if (l->transport == TRANSPORT_UNIX) {
        return true;
    }
    if (address_parse(slice_str(l->host), &address) == 0) {
        return address_is_loopback(&address);
    }
    if (getaddrinfo(l->host, NULL, &hints, &all) != 0) {
        return false;
    }
    for (const struct addrinfo *ai = all; ai; ai = ai->ai_next) {
        if (ai->ai_family == AF_INET6) {
            local = local && address_is_loopback(&((struct sockaddr_in6 *)ai->ai_addr)->sin6_addr);
        } else {
            local = local && ntohl(((struct sockaddr_in *)ai->ai_addr)->sin_addr.s_addr) >> 24 == 127;
        }
    }
    freeaddrinfo(all);
    return local;
}

/* ---- keys that belong to another kind of listener ---- */

/* The first key under this section that is not at its default, or NULL. */
static const char *section_used(const struct config_listener *l, const struct config_listener *defaults,
                                const char *section)
{
    size_t len = strlen(section);

    for (size_t i = 0; i < config_listener_keys.count; i++) {
        const struct config_key *key = &config_listener_keys.keys[i];
        if (strncmp(key->name, section, len) == 0 && key->name[len] == '.' && !config_value_eq(l, defaults, key)) {
            return key->name;
        }
    }
    return NULL;
}

static int check_kind(struct checking *c, const struct config_listener *defaults)
{
    const struct config_listener *l = c->l;
    const char *key;

    if (!has_tls(l) && (key = section_used(l, defaults, "tls")) != NULL) {
        return listener_fail(c, "%s is for tls:// and wss:// alone", key);
    }
    if (!has_websocket(l) && (key = section_used(l, defaults, "websocket")) != NULL) {
        return listener_fail(c, "%s is for ws:// and wss:// alone", key);
    }
    if (l->transport != TRANSPORT_UNIX && l->mode != defaults->mode) {
        return listener_fail(c, "mode is for unix:// alone");
    }
    return 0;
}

static int check_websocket(struct checking *c)
{
    const char *path = c->l->websocket.path;

    if (path[0] != '/' || strpbrk(path, " ?#")) {
        return listener_fail(c, "websocket.path: %s must begin with / and hold neither blanks nor ? nor #", path);
    }
    return 0;
}

static int check_proxy(struct checking *c)
{
    const struct config_listener *l = c->l;

    if (l->proxy_protocol && l->transport == TRANSPORT_UNIX) {
        return listener_fail(c, "proxy_protocol is not for unix://, which has no addresses to trust");
    }
    if (l->proxy_protocol && !*l->trusted_proxies) {
        return listener_fail(c, "proxy_protocol needs trusted_proxies, the networks whose headers are believed");
    }
    return 0;
}

static int check_mount_point(struct checking *c)
{
    if (strpbrk(c->l->mount_point, "+#")) {
        return listener_fail(c, "mount_point: %s must not hold the wildcards + and #", c->l->mount_point);
    }
    return 0;
}

/* ---- TLS ---- */

static int check_tls(struct checking *c)
{
    const struct config_listener *l = c->l;
    size_t certificates = config_list_count(l->tls.certificate), keys = config_list_count(l->tls.key);
    size_t responses = config_list_count(l->tls.ocsp_response);

    if (!has_tls(l)) {
        return 0;
    }
    if (certificates == 0 && keys == 0 && !*l->tls.psk_file) {
        return listener_fail(c, "needs tls.certificate and tls.key, or tls.psk_file");
    }
    if (certificates != keys) {
        return listener_fail(c, "tls.certificate has %zu entries and tls.key %zu: each certificate needs its key",
                             certificates, keys);
    }
    if (responses > 0 && responses != certificates) {
        return listener_fail(c, "tls.ocsp_response has %zu entries and tls.certificate %zu; - stands for none",
                             responses, certificates);
    }
    if (*l->tls.crl && !*l->tls.client_ca) {
        return listener_fail(c, "tls.crl needs tls.client_ca");
    }
    if (l->tls.client_certificate != CLIENT_CERTIFICATE_NONE && !*l->tls.client_ca) {
        return listener_fail(c, "tls.client_certificate needs tls.client_ca, which says whose certificates are good");
    }
    if (*l->tls.client_ca && l->tls.client_certificate == CLIENT_CERTIFICATE_NONE) {
        return listener_fail(c, "tls.client_ca has no effect without tls.client_certificate: optional, or required");
    }
    return 0;
}

/* ---- who may come in ---- */

/* Ways that are configured, as enum config_method. */
static unsigned methods_configured(const struct config *config, const struct config_listener *l)
{
    bool certificate = l->tls.client_certificate != CLIENT_CERTIFICATE_NONE && l->tls.user_name_from != NAME_FROM_NONE;
    unsigned methods = 0;

    methods |= certificate ? METHOD_CERTIFICATE : 0;
    methods |= *l->tls.psk_file ? METHOD_PSK : 0;
    methods |= *config->auth.password_file ? METHOD_PASSWORD | METHOD_SCRAM : 0;
    methods |= *config->jwt.keys || *config->jwt.jwks_url ? METHOD_JWT : 0;
    methods |= *config->http.connect_url ? METHOD_HTTP : 0;
    return methods;
}

static const char *method_needs(unsigned method)
{
    switch (method) {
    case METHOD_CERTIFICATE:
        return "tls.client_ca, tls.client_certificate and tls.user_name_from, or proxy_protocol";
    case METHOD_PSK:
        return "tls.psk_file";
    case METHOD_JWT:
        return "jwt.keys or jwt.jwks_url";
    case METHOD_HTTP:
        return "http.connect_url";
    default:
        return "auth.password_file";
    }
}

/* Set methods: those that are configured, or those of them that the listener wants. */
static int derive_methods(struct checking *c)
{
    unsigned wanted = config_list_bits(c->l->authentication, config_method_names);

    c->l->methods = methods_configured(c->config, c->l);
    if (!wanted) {
        return 0;
    }
    /* A certificate that the proxy has verified counts only for who says so: the proxy may serve others as well. */
    unsigned possible = c->l->methods | (c->l->proxy_protocol ? METHOD_CERTIFICATE : 0);
    for (unsigned i = 0; config_method_names[i]; i++) {
        unsigned method = 1u << i;
        if (wanted & method & ~possible) {
            return listener_fail(c, "authentication: %s needs %s", config_method_names[i], method_needs(method));
        }
    }
    c->l->methods = wanted;
    return 0;
}

static int check_entrance(struct checking *c)
{
    struct config_listener *l = c->l;
    int rc = derive_methods(c);

    if (rc) {
        return rc;
    }
    /* Behind a proxy on this machine everybody's address is a local one. */
    bool local = l->methods == 0 && l->allow_anonymous <= 0 && is_local(l) && !*l->trusted_proxies;
    l->anonymous = l->allow_anonymous < 0 ? local : l->allow_anonymous != 0;
    if (l->methods == 0 && !l->anonymous && !local) {
        return listener_fail(c, "nobody could be told apart here: set auth.password_file (or another method), or "
                                "allow_anonymous: true on the listener");
    }
    return 0;
}

/* ---- all of it ---- */

static int check_name(struct checking *c)
{
    for (const struct config_listener *other = c->config->listeners; other < c->l; other++) {
        if (*c->l->name && strcmp(other->name, c->l->name) == 0) {
            return listener_fail(c, "name: %s is taken by %s", c->l->name, other->address);
        }
    }
    return 0;
}

static int check_listener(struct checking *c, const struct config_listener *defaults)
{
    int rc = check_kind(c, defaults);

    rc = rc ? rc : check_name(c);
    rc = rc ? rc : check_websocket(c);
    rc = rc ? rc : check_proxy(c);
    rc = rc ? rc : check_mount_point(c);
    rc = rc ? rc : check_tls(c);
    rc = rc ? rc : check_entrance(c);
    if (rc) {
        return rc;
    }
    c->l->version_bits = config_list_bits(c->l->versions, config_version_names);
    if (!c->l->version_bits) {
        c->l->version_bits = VERSION_3_1 | VERSION_3_1_1 | VERSION_5_0;
    }
    return 0;
}

static int check_url(struct checking *c, const char *key, const char *url)
{
    if (*url && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
        snprintf(c->error, c->error_size, "%s: %s does not begin with http:// or https://", key, url);
        return -EINVAL;
    }
    return 0;
}

/* ---- the cluster ---- */

/* HOST:PORT; a host with colons in brackets. Whether the host exists is found out later: it may come. */
static bool is_endpoint(const char *text, unsigned least_port)
{
    const char *colon = strrchr(text, ':');
    unsigned port = 0;

    if (!colon || colon == text ||
        (text[0] == '[' ? colon[-1] != ']' : memchr(text, ':', (size_t)(colon - text)) != NULL)) {
        return false;
    }
    for (const char *at = colon + 1; *at; at++) {
        if (*at < '0' || *at > '9' || port > 6553) {
            return false;
        }
        port = port * 10 + (unsigned)(*at - '0');
    }
    return colon[1] && port >= least_port && port <= UINT16_MAX;
}

__attribute__((format(printf, 2, 3))) static int fail(struct checking *c, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(c->error, c->error_size, format, args);
    va_end(args);
    return -EINVAL;
}

static int check_seeds(struct checking *c)
{
    struct slice rest = slice_str(c->config->cluster.seeds), word;
    char text[300];

    while (config_list_next(&rest, &word)) {
        snprintf(text, sizeof(text), "%.*s", (int)word.len, (const char *)word.ptr);
        if (!is_endpoint(text, 1)) {
            return fail(c, "cluster.seeds: %s is not HOST:PORT", text);
        }
    }
    return 0;
}

static int check_cluster(struct checking *c)
{
    const struct config *config = c->config;

    if (!config->cluster.listen[0]) {
        return config->cluster.seeds[0]
                   ? fail(c, "cluster.seeds needs cluster.listen, where other nodes reach this one")
                   : 0;
    }
    if (!is_endpoint(config->cluster.listen, 1)) {
        return fail(c, "cluster.listen: %s is not ADDRESS:PORT", config->cluster.listen);
    }
    if (config->cluster.advertise[0] && !is_endpoint(config->cluster.advertise, 1)) {
        return fail(c, "cluster.advertise: %s is not ADDRESS:PORT", config->cluster.advertise);
    }
    if (!config->cluster.insecure && !config->cluster.key_file[0]) {
        return fail(c, "cluster.key_file is needed, or cluster.insecure for gossip that anybody can make");
    }
    if (!config->cluster.insecure &&
        (!config->cluster.certificate[0] || !config->cluster.key[0] || !config->cluster.ca[0])) {
        return fail(c, "cluster.certificate, cluster.key and cluster.ca are needed, or cluster.insecure for links "
                       "that anybody can read");
    }
    return check_seeds(c);
}

/* ---- the admin port ---- */

static bool is_loopback_endpoint(const char *text)
{
    const char *colon = strrchr(text, ':');
    struct in6_addr address;
    struct slice host = slice_of(text, (size_t)(colon - text));

    return slice_eq(host, SLICE("localhost")) || (address_parse(host, &address) == 0 && address_is_loopback(&address));
}

static int check_admin(struct checking *c)
{
    const struct config *config = c->config;

    if (!config->admin.certificate[0] != !config->admin.key[0]) {
        return fail(c, "admin.certificate and admin.key belong together");
    }
    if (!config->admin.listen[0]) {
        return 0;
    }
    if (!is_endpoint(config->admin.listen, 0)) {
        return fail(c, "admin.listen: %s is not ADDRESS:PORT", config->admin.listen);
    }
    if (!config->admin.users_file[0] && !config->admin.tokens_file[0] &&
        config->admin.anonymous_role == ADMIN_ROLE_AUTO && !is_loopback_endpoint(config->admin.listen)) {
        return fail(c,
                    "admin.listen: %s can be reached from elsewhere: admin.users_file or admin.tokens_file is needed, "
                    "or admin.anonymous_role",
                    config->admin.listen);
    }
    return 0;
}

int config_check(struct config *config, char *error, size_t error_size)
{
    struct checking c = {.config = config, .error = error, .error_size = error_size};
    struct config_listener defaults;

    config->jwt.algorithm_bits = config_list_bits(config->jwt.algorithms, config_algorithm_names);
    int rc = config_listener_init(&defaults);
    rc = rc ? rc : check_url(&c, "jwt.jwks_url", config->jwt.jwks_url);
    rc = rc ? rc : check_url(&c, "http.connect_url", config->http.connect_url);
    rc = rc ? rc : check_url(&c, "http.rule_url", config->http.rule_url);
    rc = rc ? rc : check_cluster(&c);
    rc = rc ? rc : check_admin(&c);
    for (unsigned i = 0; rc == 0 && i < config->listener_count; i++) {
        c.l = &config->listeners[i];
        rc = check_listener(&c, &defaults);
    }
    config_listener_deinit(&defaults);
    return rc;
}
