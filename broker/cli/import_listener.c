/* import_listener.c -- mosquitto's listeners as ours.
 *
 * Where the two differ in who gets in, the stricter one is written: a listener that cannot be taken over as safe as it
 * was is left out, with a note. */
#include "broker/cli/cli.h"
#include "broker/cli/import.h"

#include <stdio.h>
#include <stdlib.h>

enum tls_kind { TLS_NONE, TLS_CERTIFICATE, TLS_PSK };

/* One listener while it is written. */
struct put {
    const struct import_settings *s;
    const struct import_listener *l;
    struct import_notes *notes;
    struct buf *out;
    enum tls_kind tls;
    bool websocket;
    bool by_certificate; /* a client certificate or pre-shared key is the user's name */
    bool certificate;    /* clients must show a certificate */
};

static const struct import_value *value_of(const struct put *p, enum import_key key)
{
    return import_value(p->s, p->l, key);
}

static const char *text_of(const struct put *p, enum import_key key)
{
    return value_of(p, key)->text;
}

/* A line `KEY: "text"`, if there is a text. */
static void put_text(const struct put *p, const char *key, const char *text)
{
    if (text) {
        cli_put(p->out, "%s: ", key);
        import_quote(p->out, slice_str(text));
        buf_u8(p->out, '\n');
    }
}

/* ---- whether it can be taken over ---- */

/* Why not; NULL: it can. Sets what the listener is. */
static const char *judge(struct put *p)
{
    const char *protocol = text_of(p, KEY_PROTOCOL);
    bool certfile = text_of(p, KEY_CERTFILE), keyfile = text_of(p, KEY_KEYFILE);
    bool identity = import_is_true(value_of(p, KEY_IDENTITY)) || import_is_true(value_of(p, KEY_SUBJECT));

    if (protocol && strcmp(protocol, "mqtt") != 0 && strcmp(protocol, "websockets") != 0) {
        return "its protocol is neither mqtt nor websockets";
    }
    if (certfile != keyfile) {
        return "certfile and keyfile belong together";
    }
    if (certfile && (strchr(text_of(p, KEY_CERTFILE), ',') || strchr(text_of(p, KEY_KEYFILE), ','))) {
        return "commas separate files in tls.certificate and tls.key, so that a path cannot have one";
    }
    p->websocket = protocol && strcmp(protocol, "websockets") == 0;
    p->tls = certfile ? TLS_CERTIFICATE : text_of(p, KEY_PSK_HINT) ? TLS_PSK : TLS_NONE;
    p->by_certificate = identity && p->tls != TLS_NONE;
    p->certificate = p->tls == TLS_CERTIFICATE && (identity || import_is_true(value_of(p, KEY_REQUIRE_CERTIFICATE)));
    if (p->tls == TLS_PSK && !text_of(p, KEY_PSK_FILE)) {
        return "psk_hint needs psk_file";
    }
    if (p->certificate && !text_of(p, KEY_CAFILE) && !text_of(p, KEY_CAPATH)) {
        return "it wants client certificates, and cafile does not say whose";
    }
    if (p->l->unix_path && (p->tls != TLS_NONE || p->websocket)) {
        return "a Unix socket has neither TLS nor WebSocket here";
    }
    if (!p->by_certificate && !text_of(p, KEY_PASSWORD_FILE) && !import_anonymous(p->s, p->l)) {
        return "nobody could come in: it has no password_file, and allow_anonymous is false (mosquitto's default). "
               "Write it anew with Tern's ways of authentication";
    }
    return NULL;
}

/* ---- TLS ---- */

static void put_client_certificate(const struct put *p)
{
    const struct import_value *ca = value_of(p, KEY_CAFILE), *path = value_of(p, KEY_CAPATH);
    const struct import_value *crl = value_of(p, KEY_CRLFILE);
    char file[4096];

    if (!p->certificate) {
        if (ca->text || path->text) {
            const struct import_value *v = ca->text ? ca : path;
            import_remark(p->notes, v->place, v->key,
                          "left out, for no client certificates are asked for; what the chain of the broker's own "
                          "certificate needs belongs into its file");
        }
        if (crl->text) {
            import_missing(p->notes, crl->place, crl->key, "no client certificates are asked for");
        }
        return;
    }
    snprintf(file, sizeof(file), "%s/all.pem", path->text ? path->text : "");
    put_text(p, "      client_ca", ca->text ? ca->text : file);
    if (!ca->text) {
        import_remark(p->notes, path->place, path->key, "is a directory, and one file is wanted: cat %s/*.crt > %s",
                      path->text, file);
    } else if (path->text) {
        import_missing(p->notes, path->place, path->key, "cafile alone is taken");
    }
    cli_put(p->out, "      client_certificate: required\n");
    cli_put(p->out, "      user_name_from: %s\n",
            import_is_true(value_of(p, KEY_SUBJECT)) ? "dn"
            : p->by_certificate                      ? "cn"
                                                     : "none");
    if (import_is_true(value_of(p, KEY_SUBJECT))) {
        import_remark(p->notes, value_of(p, KEY_SUBJECT)->place, "use_subject_as_username",
                      "compare the form of the names in rules with the one in Tern's log");
    }
    put_text(p, "      crl", crl->text);
}

static void put_tls(const struct put *p)
{
    const struct import_value *version = value_of(p, KEY_TLS_VERSION);

    if (p->tls == TLS_NONE) {
        static const enum import_key useless[] = {KEY_CAFILE,     KEY_CAPATH,  KEY_CRLFILE, KEY_REQUIRE_CERTIFICATE,
                                                  KEY_IDENTITY,   KEY_SUBJECT, KEY_CIPHERS, KEY_CIPHERSUITES,
                                                  KEY_TLS_VERSION};
        for (size_t i = 0; i < COUNT_OF(useless); i++) {
            const struct import_value *v = value_of(p, useless[i]);
            if (v->text) {
                import_missing(p->notes, v->place, v->key, "the listener has no certfile, hence no TLS");
            }
        }
        return;
    }
    cli_put(p->out, "    tls:\n");
    if (p->tls == TLS_CERTIFICATE) {
        put_text(p, "      certificate", text_of(p, KEY_CERTFILE));
        put_text(p, "      key", text_of(p, KEY_KEYFILE));
        if (text_of(p, KEY_PSK_HINT)) {
            import_missing(p->notes, value_of(p, KEY_PSK_HINT)->place, "psk_hint", "the listener has certfile");
        }
    } else {
        put_text(p, "      psk_file", text_of(p, KEY_PSK_FILE));
        put_text(p, "      psk_hint", text_of(p, KEY_PSK_HINT));
    }
    put_client_certificate(p);
    put_text(p, "      ciphers", text_of(p, KEY_CIPHERS));
    put_text(p, "      ciphersuites", text_of(p, KEY_CIPHERSUITES));
    if (version->text && strcmp(version->text, "tlsv1.3") == 0) {
        cli_put(p->out, "      min_version: \"1.3\"\n");
    } else if (version->text && strcmp(version->text, "tlsv1.2") != 0) {
        import_missing(p->notes, version->place, version->key, "Tern speaks TLS 1.2 and 1.3");
    }
}

/* ---- who gets in ---- */

static void put_entrance(const struct put *p, const char *password_file)
{
    bool anonymous = import_anonymous(p->s, p->l) && !p->by_certificate;
    const char *own_file = text_of(p, KEY_PASSWORD_FILE);

    cli_put(p->out, "    allow_anonymous: %s\n", anonymous ? "true" : "false");
    if (p->by_certificate) {
        cli_put(p->out, "    authentication: %s\n", p->tls == TLS_PSK ? "psk" : "certificate");
    } else if (p->tls == TLS_PSK && own_file) {
        cli_put(p->out, "    authentication: password\n"); /* the key opens the line, no more */
    } else if (p->tls == TLS_PSK) {
        import_remark(p->notes, value_of(p, KEY_PSK_HINT)->place, "psk_hint",
                      "the identity of a client's key is its user name; mosquitto would take it for an anonymous one");
    } else if (password_file && !own_file) {
        import_remark(p->notes, p->l->place, "listener",
                      "whoever gives a name here must have the password that %s says; mosquitto would not look",
                      password_file);
    }
}

/* ---- the rest of it ---- */

static void put_versions(const struct put *p)
{
    static const struct {
        char digit;
        const char *name;
    } versions[] = {{'3', "3.1"}, {'4', "3.1.1"}, {'5', "5.0"}};
    const char *text = text_of(p, KEY_VERSIONS), *comma = "";

    if (text) {
        cli_put(p->out, "    versions: \"");
        for (size_t i = 0; i < COUNT_OF(versions); i++) {
            if (strchr(text, versions[i].digit)) {
                cli_put(p->out, "%s%s", comma, versions[i].name);
                comma = ", ";
            }
        }
        cli_put(p->out, "\"\n");
    }
}

static void put_limits(const struct put *p)
{
    const struct import_value *connections = value_of(p, KEY_MAX_CONNECTIONS), *proxy = value_of(p, KEY_PROXY_PROTOCOL);
    uint32_t count;

    put_text(p, "    mount_point", text_of(p, KEY_MOUNT_POINT));
    put_versions(p);
    if (connections->text && cli_number(connections->text, 1, 1000000000, &count)) {
        cli_put(p->out, "    max_connections: %u\n", count);
    } else if (connections->text && strcmp(connections->text, "-1") != 0) {
        import_missing(p->notes, connections->place, connections->key, "is no number of connections");
    }
    if (proxy->text && !p->l->unix_path) {
        cli_put(p->out, "    proxy_protocol: true\n    trusted_proxies: \"127.0.0.0/8, ::1/128\"\n");
        import_remark(p->notes, proxy->place, proxy->key,
                      "mosquitto believes everybody's PROXY header; name your proxies in trusted_proxies");
    }
    if (p->websocket) {
        import_remark(p->notes, p->l->place, "protocol",
                      "WebSocket clients must ask for the path /mqtt (websocket.path); mosquitto takes any");
        if (text_of(p, KEY_ORIGIN)) {
            cli_put(p->out, "    websocket:\n");
            put_text(p, "      origins", text_of(p, KEY_ORIGIN));
        }
    }
}

static void put_address(const struct put *p, const char *host)
{
    const char *domain = text_of(p, KEY_SOCKET_DOMAIN);
    char address[4200];

    host = host ? host : domain && strcmp(domain, "ipv4") == 0 ? "0.0.0.0" : "::";
    bool v6 = strchr(host, ':') != NULL;
    const char *scheme = p->tls != TLS_NONE ? (p->websocket ? "wss" : "tls") : p->websocket ? "ws" : "tcp";
    if (p->l->unix_path) {
        snprintf(address, sizeof(address), "unix://%s", p->l->unix_path);
    } else {
        snprintf(address, sizeof(address), "%s://%s%s%s:%u", scheme, v6 ? "[" : "", host, v6 ? "]" : "", p->l->port);
    }
    cli_put(p->out, "  # ");
    if (p->l->place.line) {
        cli_put(p->out, "%s, line %u\n", p->l->place.file, p->l->place.line);
    } else {
        cli_put(p->out, "mosquitto's default listener\n");
    }
    put_text(p, "  - address", address);
}

void import_listener_name(const struct import_settings *s, const struct import_listener *l, char *out, size_t out_size)
{
    snprintf(out, out_size, "listener%u", (unsigned)(l - s->listeners) + 1);
}

const char *import_password_file(const struct import_settings *s, struct import_notes *notes)
{
    const struct import_value *first = NULL;

    for (unsigned i = 0; i < s->listener_count; i++) {
        const struct import_value *v = import_value(s, &s->listeners[i], KEY_PASSWORD_FILE);
        if (v->text && first && strcmp(v->text, first->text) != 0 && notes) {
            import_missing(notes, v->place, v->key,
                           "there is one password file for all listeners: add these users to %s", first->text);
        }
        first = first ? first : v->text ? v : NULL;
    }
    return first ? first->text : NULL;
}

static void put_one(const struct put *p, const char *host, bool named, const char *password_file)
{
    char name[32];

    put_address(p, host);
    if (named) {
        import_listener_name(p->s, p->l, name, sizeof(name));
        put_text(p, "    name", name);
    }
    put_entrance(p, password_file);
    put_limits(p);
    put_tls(p);
}

void import_put_listeners(const struct import_settings *s, bool named, struct import_notes *notes, struct buf *out)
{
    const char *password_file = import_password_file(s, notes);
    bool any = false;

    cli_put(out, "listeners:\n");
    for (unsigned i = 0; i < s->listener_count; i++) {
        struct put p = {.s = s, .l = &s->listeners[i], .notes = notes, .out = out};
        const char *why = judge(&p);
        if (why) {
            import_missing(notes, p.l->place, "listener", "port %u: %s", p.l->port, why);
        } else if (p.l->local) {
            put_one(&p, "127.0.0.1", named, password_file);
            put_one(&p, "::1", false, NULL);
        } else {
            put_one(&p, p.l->host, named, password_file);
        }
        any |= !why;
    }
    if (!any) { /* without one Tern would open its own, to which any process of this machine may connect */
        cli_put(out, "  # None could be taken over; here nobody gets in.\n"
                     "  - address: tcp://127.0.0.1:1883\n    allow_anonymous: false\n");
    }
}
