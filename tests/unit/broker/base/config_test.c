#include "tests/lib/unit.h"

#include "broker/base/config_schema.h"
#include "broker/loop/io.h"
#include "proto/base/log.h"
#include "tests/lib/config_load.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static void test_defaults(void)
{
    struct config *c = NULL;
    char error[512];

    CHECK(config_load_args(NULL, NULL, error, sizeof(error), &c) == 0);
    CHECK(c->shards == 0 && !c->pin_shards && c->io_backend == IO_AUTO);
    CHECK(c->listener_count == 1 && strcmp(c->listeners[0].host, "127.0.0.1") == 0);
    CHECK(c->listeners[0].port == 1883 && c->listeners[0].allow_anonymous == -1);
    CHECK(c->node_name[0] != '\0' && c->data[0] != '\0' && c->mqtt.response_information[0] == '\0');
    CHECK(c->sys_interval_ms == 10000 && c->log_level == LOG_INFO && c->log_format == LOG_TEXT);
    CHECK(c->mqtt.max_packet_size == 1u << 20 && c->mqtt.max_session_expiry_s == 0xFFFFFFFFu);
    CHECK(c->mqtt.maximum_qos == 2 && c->mqtt.retain_available && c->mqtt.share_strategy == SHARE_LEAST_INFLIGHT);
    CHECK(c->limits.connect_timeout_ms == 10000 && c->limits.max_retained_bytes == 4ull << 30);
    CHECK(c->listeners[0].anonymous && c->listeners[0].methods == 0 && c->listeners[0].transport == TRANSPORT_TCP);
    CHECK(c->listeners[0].tls.tickets && c->listeners[0].tls.user_name_from == NAME_FROM_CN);
    CHECK(c->listeners[0].mode == 0660 && strcmp(c->listeners[0].websocket.path, "/mqtt") == 0);
    CHECK(c->auth.client_id_binding == BINDING_REFUSE && c->auth.workers == 2 && c->auth.max_waiting == 1000);
    CHECK(c->jwt.algorithm_bits == 15 && strcmp(c->jwt.user_claim, "sub") == 0 && c->jwt.leeway_s == 30);
    CHECK(c->http.timeout_ms == 5000 && c->http.breaker_failures == 5 && c->ban.auth_failures == 0);
    CHECK(c->limits.backpressure_ms == 2000 && c->limits.queue_overflow == OVERFLOW_DROP_NEW);
    config_free(c);
}

/* Who wins: --set over the environment over the file over the default, flags over all; several --listen add up. */
static void test_order(void)
{
    static const char text[] = "shards: 1\nmqtt: {max_inflight: 1, receive_maximum: 1}\nlog: {level: error}\n"
                               "listeners: [\"tcp://127.0.0.1:1\"]\n";
    char path[] = "/tmp/tern-config-XXXXXX", error[512];
    int fd = mkstemp(path);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CHECK(write(fd, text, sizeof(text) - 1) == (ssize_t)sizeof(text) - 1);
    close(fd);

    /* clang-format off */
    char *argv[] = {(char *)"tern", (char *)"--log-level=warn", (char *)"-c", path, (char *)"--set",
                    (char *)"mqtt.max_inflight=3", (char *)"--set=log.level=debug", (char *)"--listen",
                    (char *)"tcp://127.0.0.1:2", (char *)"-l", (char *)"tcp://127.0.0.1:3"};
    char *envp[] = {(char *)"TERN_MQTT__MAX_INFLIGHT=2", (char *)"TERN_MQTT__RECEIVE_MAXIMUM=2",
                    (char *)"TERN_PORT=tcp://10.0.0.1:1883", (char *)"TERN_PORT_1883_TCP_ADDR=10.0.0.1",
                    (char *)"TERN_EDGE_SERVICE_HOST=10.0.0.1", (char *)"TERNX=1", (char *)"PATH=/bin", NULL};
    /* clang-format on */
    enum config_action action = CONFIG_HELP;
    struct config *c = NULL;
    int rc = config_load((int)COUNT_OF(argv), argv, envp, error, sizeof(error), &action, &c);
    unlink(path);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
    CHECK(action == CONFIG_RUN);
    CHECK(c->shards == 1);
    CHECK(c->mqtt.receive_maximum == 2);
    CHECK(c->mqtt.max_inflight == 3);
    CHECK(c->log_level == LOG_WARN);
    CHECK(c->listener_count == 2 && strcmp(c->listeners[0].address, "tcp://127.0.0.1:2") == 0);
    CHECK(c->listener_count == 2 && c->listeners[1].port == 3);
    config_free(c);
}

static const struct {
    const char *name, *arg, *value, *env, *want;
} bad_sources[] = {
    {"unknown argument", "--lisen", NULL, NULL, "--lisen: unknown argument (tern --help lists all)"},
    {"not an option at all", "1883", NULL, NULL, "1883: unknown argument (tern --help lists all)"},
    {"value missing", "--config", NULL, NULL, "--config: needs a value"},
    {"value too much", "--version=1", NULL, NULL, "--version=1: takes no value"},
    {"set without equals", "--set", "shards", NULL, "--set: shards: is not of the form KEY=VALUE"},
    {"set without key", "--set", "=1", NULL, "--set: =1: is not of the form KEY=VALUE"},
    {"set of an unknown key", "--set", "shard=1", NULL, "--set: shard: unknown key; did you mean shards?"},
    {"set of a section", "--set", "mqtt=1", NULL, "--set: mqtt: unknown key (tern --print-config lists all)"},
    {"set of a wrong value", "--set", "mqtt.maximum_qos=x", NULL, "--set: mqtt.maximum_qos: x is not a whole number"},
    {"wrong flag value", "--log-level", "loud", NULL,
     "--log-level: log.level: loud is not one of error, warn, info, debug"},
    {"variable with a wrong value", NULL, NULL, "TERN_LOG__LEVEL=loud",
     "TERN_LOG__LEVEL: log.level: loud is not one of error, warn, info, debug"},
    {"variable misspelt", NULL, NULL, "TERN_LOG__LEVLE=info",
     "TERN_LOG__LEVLE: log.levle: unknown key; did you mean log.level?"},
    {"variable with one underscore for the dot", NULL, NULL, "TERN_LOG_LEVEL=info",
     "TERN_LOG_LEVEL: log_level: unknown key; did you mean log.level?"},
    {"variable like a key and a port", NULL, NULL, "TERN_MQTT__PORT=1",
     "TERN_MQTT__PORT: mqtt.port: unknown key (tern --print-config lists all)"},
};

static void test_sources_bad(void)
{
    for (size_t i = 0; i < COUNT_OF(bad_sources); i++) {
        char *args[] = {(char *)bad_sources[i].arg, (char *)bad_sources[i].value, NULL};
        char *envp[] = {(char *)bad_sources[i].env, NULL};
        struct config *c = NULL;
        char error[512];

        CHECK_CASE(bad_sources[i].name, config_load_args(args, envp, error, sizeof(error), &c) == -EINVAL);
        CHECK_CASE(bad_sources[i].name, strcmp(error, bad_sources[i].want) == 0);
        CHECK_CASE(bad_sources[i].name, c == NULL);
        if (strcmp(error, bad_sources[i].want) != 0) {
            fprintf(stderr, "%s: got: %s\n", bad_sources[i].name, error);
        }
    }
}

static void test_actions(void)
{
    static const struct {
        const char *name;
        enum config_action want;
    } rows[] = {
        {"--test-config", CONFIG_TEST},
        {"-t", CONFIG_TEST},
        {"--print-config", CONFIG_PRINT},
        {"--version", CONFIG_VERSION},
        {"-V", CONFIG_VERSION},
        {"--help", CONFIG_HELP},
        {"-h", CONFIG_HELP},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *argv[] = {(char *)"tern", (char *)rows[i].name};
        enum config_action action = CONFIG_RUN;
        struct config *c = NULL;
        char error[512];

        CHECK_CASE(rows[i].name, config_load(2, argv, NULL, error, sizeof(error), &action, &c) == 0);
        CHECK_CASE(rows[i].name, action == rows[i].want);
        config_free(c);
    }
}

/* The numbers of the enum stand in the schema by position; here both are at hand. */
static void test_io_backend_numbers(void)
{
    const struct config_key *key = config_key_find(&config_keys, "io_backend");

    CHECK(strcmp(key->names[IO_AUTO], "auto") == 0);
    CHECK(strcmp(key->names[IO_URING], "io_uring") == 0);
    CHECK(strcmp(key->names[IO_EPOLL], "epoll") == 0);
}

UNIT_MAIN("broker/base/config", {"defaults", test_defaults}, {"order of sources", test_order},
          {"sources that are wrong", test_sources_bad}, {"actions", test_actions},

          {"numbers of io backends", test_io_backend_numbers})
