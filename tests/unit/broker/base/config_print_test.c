#include "tests/lib/unit.h"

#include "broker/base/config_schema.h"
#include "tests/lib/config_load.h"

#include <stdlib.h>

/* Every value differs from its default. */
static const char all_keys[] =
    "shards: 5\npin_shards: true\nio_backend: epoll\ndata: '/a \"b\" \\c # d: \xc3\xa9 {'\nsys_interval: 1500ms\n"
    "listeners:\n  - tcp://[::1]:1\n  - {address: \"tcp://127.0.0.1:2\", allow_anonymous: false}\nnode: {name: "
    "'null'}\n"
    "drain: {rate: 7, wait: 1s, grace: 1m}\n"
    "log: {level: debug, format: json}\n"
    "mqtt: {max_packet_size: 2MB, max_inflight: 1, receive_maximum: 65535, topic_alias_maximum: 0,\n"
    "  topic_alias_out: 9, max_keep_alive: 61s, max_session_expiry: 90s, max_topic_levels: 3,\n"
    "  max_client_id_size: 23, retain_available: false, wildcard_available: false, shared_available: false,\n"
    "  maximum_qos: 1, validate_payload_format: true, response_information: 'x/y', share_strategy: sticky}\n"
    "limits: {max_connections: 1, max_connections_per_address: 2, connect_timeout: 1m, max_queued_messages: 3,\n"
    "  max_queued_bytes: 5KiB, queue_overflow: drop_oldest, max_outbox_bytes: 6KiB, max_subscriptions: 7,\n"
    "  max_retained_messages: 0, max_retained_bytes: 1TB, max_sessions: 8, max_user_properties: 10,\n"
    "  max_user_property_bytes: 1001, max_publish_rate: 11, backpressure: 1ms, max_publish_byte_rate: 12KB,\n"
    "  max_user_publish_rate: 13, max_user_publish_byte_rate: 14MiB, max_connection_rate_per_address: 15}\n"
    "auth: {password_file: p, acl_file: a, client_id_binding: replace, denied_publish: close, workers: 64,\n"
    "  max_waiting: 1}\n"
    "jwt: {keys: k, jwks_url: 'https://a.example/?b=\"c\"', jwks_refresh: 10s, ca_file: ca, algorithms: [EdDSA, "
    "ES256],\n"
    "  issuer: i, audience: au, leeway: 0, user_claim: u.v, client_id_claim: c, roles_claim: '', rules_claim: r,\n"
    "  token_in: username}\n"
    "http: {connect_url: 'http://a', rule_url: 'http://b', timeout: 100ms, max_requests: 1, ca_file: d,\n"
    "  breaker_failures: 0, breaker_pause: 1h, default_max_age: 1d}\n"
    "memory_users: [sensor, meter]\n"
    "cluster: {listen: '127.0.0.1:7000', advertise: 'a.example:7001', name: c, seeds: ['b.example:7000', "
    "'[::1]:7001'],\n"
    "  key_file: k, certificate: c.pem, key: c.key, ca: ca, insecure: true, suback: strict, bootstrap_expect: 3}\n"
    "admin: {listen: '[::1]:0', certificate: ac.pem, key: ac.key, users_file: u, tokens_file: t, anonymous_role: "
    "viewer,\n"
    "  metrics_open: false}\n"
    "ban: {auth_failures: 1, window: 1s, time: 365d, flaps: 2, flap_window: 2s, flap_time: 3s}\n";

/* And of a listener, but for the mode, which goes with a Unix socket. */
static const char all_listener_keys[] =
    "auth: {password_file: p}\n"
    "listeners:\n"
    "  - address: wss://127.0.0.1:1/x\n"
    "    name: \"o'n\\\"e\"\n"
    "    allow_anonymous: true\n"
    "    authentication: [scram, certificate, psk]\n"
    "    versions: [5.0, 3.1.1]\n"
    "    durability: memory\n"
    "    mount_point: a/b/\n"
    "    max_connections: 1\n"
    "    max_packet_size: 2KiB\n"
    "    max_publish_rate: 3\n"
    "    max_publish_byte_rate: 4\n"
    "    proxy_protocol: true\n"
    "    trusted_proxies: [10.0.0.0/8, \"::1\"]\n"
    "    websocket: {origins: [\"https://a.example\", \"https://b.example\"]}\n"
    "    tls:\n"
    "      {certificate: [a.pem, b c.pem], key: [a.key, b.key], ocsp_response: [-, b.der], client_ca: ca, crl: crl,\n"
    "       client_certificate: required, user_name_from: san_uri, client_id_from: cn, psk_file: p, psk_hint: h,\n"
    "       min_version: 1.3, ciphers: \"A:!B\", ciphersuites: C, groups: X25519, tickets: false}\n"
    "  - {address: \"unix:///a b\", mode: 600}\n";

/* What config_print writes, read again. */
static struct config *print_and_read(const struct config *config)
{
    char error[512], *printed = NULL;
    struct config *again = NULL;
    size_t printed_len = 0;

    FILE *out = open_memstream(&printed, &printed_len);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    config_print(config, out);
    fclose(out);
    int rc = config_load_text(printed, printed_len, error, sizeof(error), &again);
    CHECK_CASE(error, rc == 0);
    free(printed);
    CU_ASSERT_PTR_NOT_NULL_FATAL(again);
    return again;
}

static struct config *load_text(const char *text)
{
    struct config *config = NULL;
    char error[512];

    CHECK_CASE(error, config_load_text(text, strlen(text), error, sizeof(error), &config) == 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(config);
    return config;
}

static void test_round_trip(void)
{
    struct config *defaults = load_text(""), *first = load_text(all_keys), *second = print_and_read(first);

    CHECK(strcmp(first->data, "/a \"b\" \\c # d: \xc3\xa9 {") == 0);
    for (size_t i = 0; i < config_keys.count; i++) {
        CHECK_CASE(config_keys.keys[i].name, config_value_eq(first, second, &config_keys.keys[i]));
        CHECK_CASE(config_keys.keys[i].name, !config_value_eq(first, defaults, &config_keys.keys[i]));
    }
    config_free(defaults);
    config_free(first);
    config_free(second);
}

static void test_round_trip_listeners(void)
{
    struct config *defaults = load_text(""), *first = load_text(all_listener_keys), *second = print_and_read(first);

    CHECK(first->listener_count == 2 && second->listener_count == 2);
    for (size_t i = 0; i < config_listener_keys.count; i++) {
        const struct config_key *key = &config_listener_keys.keys[i];
        unsigned which = key->type == CONFIG_OCTAL;
        CHECK_CASE(key->name, config_value_eq(&first->listeners[which], &second->listeners[which], key));
        CHECK_CASE(key->name, !config_value_eq(&first->listeners[which], &defaults->listeners[0], key));
    }
    CHECK(config_value_eq(first, second, config_key_find(&config_keys, "listeners")));
    CHECK(strcmp(second->listeners[0].websocket.path, "/x") == 0);
    CHECK(strcmp(second->listeners[0].tls.certificate, "a.pem, b c.pem") == 0);
    config_free(defaults);
    config_free(first);
    config_free(second);
}

/* The entry that explains a listener's keys has all of them, and is an entry when its comment signs are gone. */
static void test_listener_explained(void)
{
    struct config *config = load_text(""), *again;
    char *printed = NULL, *entry = calloc(1, 64 * 1024);
    size_t printed_len = 0;

    FILE *out = open_memstream(&printed, &printed_len);
    config_print(config, out);
    fclose(out);
    strcpy(entry, "listeners:\n");
    for (char *line = strtok(printed, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "  # - address: ", 15) == 0) {
            strcat(entry, "  - address: tcp://127.0.0.1\n");
        } else if (strncmp(line, "  #   ", 6) == 0) {
            sprintf(entry + strlen(entry), "    %s\n", line + 6);
        }
    }
    again = load_text(entry);
    for (size_t i = 1; i < config_listener_keys.count; i++) {
        const struct config_key *key = &config_listener_keys.keys[i];
        const char *dot = strchr(key->name, '.');
        char text[CONFIG_NAME_MAX + 3];

        snprintf(text, sizeof(text), "%s%s: ", dot ? "      " : "    ", dot ? dot + 1 : key->name);
        CHECK_CASE(key->name, strstr(entry, text) != NULL);
        CHECK_CASE(key->name, config_value_eq(&config->listeners[0], &again->listeners[0], key));
    }
    config_free(config);
    config_free(again);
    free(printed);
    free(entry);
}

static void test_restart_needed(void)
{
    char *args[] = {(char *)"--set",
                    (char *)"shards=3",
                    (char *)"--set",
                    (char *)"log.level=debug",
                    (char *)"--data",
                    (char *)"/x",
                    NULL};
    struct config *now = NULL, *next = NULL;
    char error[512], names[64];

    CHECK(config_load_args(NULL, NULL, error, sizeof(error), &now) == 0);
    CHECK(config_load_args(args, NULL, error, sizeof(error), &next) == 0);
    config_restart_needed(now, now, names, sizeof(names));
    CHECK(strcmp(names, "") == 0);
    config_restart_needed(now, next, names, sizeof(names));
    CHECK(strcmp(names, "shards, data") == 0);
    config_restart_needed(now, next, names, 9); /* cut, never beyond the end */
    CHECK(strcmp(names, "shards, ") == 0);
    config_free(now);
    config_free(next);
}

/* Whatever differs in a listener, it is the listeners that need the restart. */
static void test_restart_for_listeners(void)
{
    struct config *now = load_text("listeners: [\"tcp://127.0.0.1:1\"]\nauth: {password_file: a}\n");
    struct config *next = load_text("listeners: [{address: \"tcp://127.0.0.1:1\", versions: 5.0}]\nban: {flaps: 3}\n");
    char names[64];

    config_restart_needed(now, next, names, sizeof(names));
    CHECK_CASE(names, strcmp(names, "listeners") == 0);
    config_free(now);
    config_free(next);
}

UNIT_MAIN("broker/base/config_print", {"print and read back", test_round_trip},
          {"listeners, printed and read back", test_round_trip_listeners},
          {"a listener's keys are explained", test_listener_explained}, {"restart needed", test_restart_needed},
          {"restart needed for listeners", test_restart_for_listeners})
