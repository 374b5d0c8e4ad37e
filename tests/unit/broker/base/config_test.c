#include "tests/lib/unit.h"

#include "broker/base/config.h"
#include "broker/base/config_schema.h"
#include "broker/loop/io.h"
#include "proto/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define ARGS_MAX 8

/* Load from argv (without the program) and envp, both NULL-terminated. */
static int load(char *const args[], char *const envp[], char *error, size_t error_size, struct config **ret_config)
{
    char *argv[ARGS_MAX + 2] = {(char *)"tern"};
    enum config_action action;
    int argc = 1;

    for (; args && args[argc - 1]; argc++) {
        argv[argc] = args[argc - 1];
    }
    error[0] = '\0';
    return config_load(argc, argv, envp, error, error_size, &action, ret_config);
}

/* The configuration of a file with this text, given to config_yaml_read as "tern.yaml" by way of a temporary file. */
static int load_text(const char *text, size_t len, char *error, size_t error_size, struct config **ret_config)
{
    char *args[] = {(char *)"--config", (char *)"tern.yaml", NULL};
    char directory[] = "/tmp/tern-config-XXXXXX", before[4096];

    CU_ASSERT_PTR_NOT_NULL_FATAL(getcwd(before, sizeof(before)));
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(directory));
    CU_ASSERT_EQUAL_FATAL(chdir(directory), 0);
    FILE *out = fopen("tern.yaml", "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    fwrite(text, 1, len, out);
    fclose(out);
    int rc = load(args, NULL, error, error_size, ret_config);
    unlink("tern.yaml");
    CU_ASSERT_EQUAL_FATAL(chdir(before), 0);
    rmdir(directory);
    return rc;
}

static void test_defaults(void)
{
    struct config *c = NULL;
    char error[512];

    CHECK(load(NULL, NULL, error, sizeof(error), &c) == 0);
    CHECK(c->shards == 0 && !c->pin_shards && c->io_backend == IO_AUTO);
    CHECK(c->listener_count == 1 && strcmp(c->listeners[0].host, "127.0.0.1") == 0);
    CHECK(c->listeners[0].port == 1883 && c->listeners[0].allow_anonymous == -1);
    CHECK(c->node_name[0] != '\0' && c->data[0] != '\0' && c->mqtt.response_information[0] == '\0');
    CHECK(c->sys_interval_ms == 10000 && c->log_level == LOG_INFO && c->log_format == LOG_TEXT);
    CHECK(c->mqtt.max_packet_size == 1u << 20 && c->mqtt.max_session_expiry_s == 0xFFFFFFFFu);
    CHECK(c->mqtt.maximum_qos == 2 && c->mqtt.retain_available && c->mqtt.share_strategy == SHARE_LEAST_INFLIGHT);
    CHECK(c->limits.connect_timeout_ms == 10000 && c->limits.max_retained_bytes == 4ull << 30);
    CHECK(c->limits.backpressure_ms == 2000 && c->limits.queue_overflow == OVERFLOW_DROP_NEW);
    config_free(c);
}

/* Files that are right, with the value of one key afterwards. */
static const struct {
    const char *name, *text, *key, *want;
} good_files[] = {
    {"empty", "", "shards", "0"},
    {"comments only", "# nothing\n", "shards", "0"},
    {"empty document", "---\n", "shards", "0"},
    {"top-level key", "shards: 64\n", "shards", "64"},
    {"section", "mqtt:\n  max_inflight: 7\n", "mqtt.max_inflight", "7"},
    {"dotted key at the top", "mqtt.max_inflight: 7\n", "mqtt.max_inflight", "7"},
    {"flow style", "{limits: {max_sessions: 9}}", "limits.max_sessions", "9"},
    {"section without keys", "mqtt:\nlog:\n  level: debug\n", "log.level", "debug"},
    {"quoted value", "shards: \"3\"\n", "shards", "3"},
    {"binary size", "mqtt: {max_packet_size: 64KiB}", "mqtt.max_packet_size", "64KiB"},
    {"decimal size", "mqtt: {max_packet_size: 2MB}", "mqtt.max_packet_size", "2000000B"},
    {"plain bytes", "mqtt: {max_packet_size: 1024}", "mqtt.max_packet_size", "1KiB"},
    {"largest packet", "mqtt: {max_packet_size: 268435460}", "mqtt.max_packet_size", "268435460B"},
    {"milliseconds", "limits: {connect_timeout: 500ms}", "limits.connect_timeout", "500ms"},
    {"hours", "limits: {connect_timeout: 2h}", "limits.connect_timeout", "2h"},
    {"longest duration in ms", "limits: {connect_timeout: 1d}", "limits.connect_timeout", "1d"},
    {"seconds kept as seconds", "mqtt: {max_session_expiry: 2h}", "mqtt.max_session_expiry", "2h"},
    {"infinity", "mqtt: {max_session_expiry: infinity}", "mqtt.max_session_expiry", "infinity"},
    {"longest finite expiry", "mqtt: {max_session_expiry: 4294967294s}", "mqtt.max_session_expiry", "4294967294s"},
    {"zero needs no unit", "sys_interval: 0\n", "sys_interval", "0"},
    {"word", "limits: {queue_overflow: drop_oldest}", "limits.queue_overflow", "drop_oldest"},
    {"last word", "mqtt: {share_strategy: random}", "mqtt.share_strategy", "random"},
    {"false", "mqtt: {retain_available: false}", "mqtt.retain_available", "false"},
    {"true", "pin_shards: true", "pin_shards", "true"},
};

static void test_files_good(void)
{
    for (size_t i = 0; i < COUNT_OF(good_files); i++) {
        struct config *c = NULL;
        char error[512], got[64] = "";

        int rc = load_text(good_files[i].text, strlen(good_files[i].text), error, sizeof(error), &c);
        CHECK_CASE(good_files[i].name, rc == 0);
        if (rc == 0) {
            config_value_format(c, config_key_find(good_files[i].key), got, sizeof(got));
            CHECK_CASE(good_files[i].name, strcmp(got, good_files[i].want) == 0);
        }
        config_free(c);
    }
}

/* Files that are wrong, with the whole sentence. */
static const struct {
    const char *name, *text, *want;
} bad_files[] = {
    {"unit of a size", "\n\nmqtt:\n  max_packet_size: 12XB\n",
     "tern.yaml:4: mqtt.max_packet_size: 12XB is not a size (examples: 64KiB, 2MB)"},
    {"negative size", "mqtt: {max_packet_size: -1}",
     "tern.yaml:1: mqtt.max_packet_size: -1 is not a size (examples: 64KiB, 2MB)"},
    {"below the minimum", "mqtt: {max_packet_size: 1023}",
     "tern.yaml:1: mqtt.max_packet_size: 1023 is not between 1KiB and 268435460B"},
    {"above the maximum", "mqtt: {max_packet_size: 268435461}",
     "tern.yaml:1: mqtt.max_packet_size: 268435461 is not between 1KiB and 268435460B"},
    {"beyond 64 bits", "mqtt: {max_packet_size: 18446744073709551616}",
     "tern.yaml:1: mqtt.max_packet_size: 18446744073709551616 is not a size (examples: 64KiB, 2MB)"},
    {"beyond 64 bits by its unit", "mqtt: {max_packet_size: 18014398509481985KiB}",
     "tern.yaml:1: mqtt.max_packet_size: 18014398509481985KiB is not a size (examples: 64KiB, 2MB)"},
    {"duration without unit", "sys_interval: 10\n",
     "tern.yaml:1: sys_interval: 10 is not a duration (examples: 15s, 500ms, 2h)"},
    {"infinity where it is not allowed", "sys_interval: infinity\n",
     "tern.yaml:1: sys_interval: infinity is not a duration (examples: 15s, 500ms, 2h)"},
    {"milliseconds for seconds", "mqtt: {max_keep_alive: 100ms}",
     "tern.yaml:1: mqtt.max_keep_alive: 100ms is not a duration in whole seconds (examples: 15s, 10m, 2h)"},
    {"the number that means infinity", "mqtt: {max_session_expiry: 4294967295s}",
     "tern.yaml:1: mqtt.max_session_expiry: 4294967295s is not between 0 and 4294967294s"},
    {"number with a unit", "shards: 4KiB\n", "tern.yaml:1: shards: 4KiB is not a whole number"},
    {"too many shards", "shards: 65\n", "tern.yaml:1: shards: 65 is not between 0 and 64"},
    {"QoS 3", "mqtt: {maximum_qos: 3}", "tern.yaml:1: mqtt.maximum_qos: 3 is not between 0 and 2"},
    {"yes for true", "pin_shards: yes\n", "tern.yaml:1: pin_shards: yes is not true or false"},
    {"unknown word", "io_backend: kqueue\n", "tern.yaml:1: io_backend: kqueue is not one of auto, io_uring, epoll"},
    {"key misspelt", "mqtt:\n  max_paket_size: 1MB\n",
     "tern.yaml:2: mqtt.max_paket_size: unknown key; did you mean mqtt.max_packet_size?"},
    {"section forgotten", "max_sessions: 5\n",
     "tern.yaml:1: max_sessions: unknown key; did you mean limits.max_sessions?"},
    {"key like nothing we know", "colour: red\n", "tern.yaml:1: colour: unknown key (tern --print-config lists all)"},
    {"key twice", "shards: 1\nshards: 2\n", "tern.yaml:2: shards: set a second time, first in line 1"},
    {"key twice in two spellings", "mqtt:\n  max_inflight: 1\nmqtt.max_inflight: 2\n",
     "tern.yaml:3: mqtt.max_inflight: set a second time, first in line 2"},
    {"section twice", "log:\n  level: info\nlog:\n  format: json\n",
     "tern.yaml:4: log: stands here a second time, first before line 2"},
    {"section as a value", "mqtt: 5\n", "tern.yaml:1: mqtt: is a section of keys, not a value"},
    {"section as a list", "log: [a]\n", "tern.yaml:1: log: is a section of keys, not a value"},
    {"value as a section", "shards:\n  a: 1\n", "tern.yaml:2: shards: must be a single value"},
    {"value as a list", "data: [a, b]\n", "tern.yaml:1: data: must be a single value"},
    {"no value", "shards:\n", "tern.yaml:1: shards: has no value"},
    {"null", "data: null\n", "tern.yaml:1: data: has no value"},
    {"empty text where one is needed", "data: \"\"\n", "tern.yaml:1: data: 0 bytes are not between 1 and 4000"},
    {"newline in a text", "data: \"a\\nb\"\n",
     "tern.yaml:1: data: control characters and what is not UTF-8 are not allowed"},
    {"C1 control in a text", "data: \"a\\x85b\"\n",
     "tern.yaml:1: data: control characters and what is not UTF-8 are not allowed"},
    {"control character in a quoted mistake", "shards: \"a\\e[31m\"\n",
     "tern.yaml:1: shards: a?[31m is not a whole number"},
    {"NUL in a value", "data: \"a\\0b\"\n", "tern.yaml:1: data: must be a single value"},
    {"alias", "data: &a x\nnode:\n  name: *a\n", "tern.yaml:3: aliases are not taken here"},
    {"list of keys", "- shards: 1\n", "tern.yaml:1: the file must consist of keys and values"},
    {"only a word", "hello\n", "tern.yaml:1: the file must consist of keys and values"},
    {"key that is a mapping", "? {a: b}\n: 1\n", "tern.yaml:1: a key must be a word"},
    {"second document", "shards: 1\n---\nshards: 2\n", "tern.yaml:2: a second document begins here, only one is read"},
    {"not YAML", "\nshards: 1: 2\n", "tern.yaml:2: this is not YAML: mapping values are not allowed in this context"},
    {"bracket left open", "listeners: [a\n", NULL},
    {"bytes that are not UTF-8", "data: \xff\n", NULL},
    {"listeners as one word", "listeners: tcp://127.0.0.1:1\n", "tern.yaml:1: listeners: must be a list of addresses"},
    {"no listeners", "listeners: []\n", "tern.yaml:1: listeners: the list is empty"},
    {"listener of another kind", "listeners:\n  - tls://0.0.0.0:8883\n",
     "tern.yaml:2: listeners: tls://0.0.0.0:8883 is not a listener's address (examples: tcp://127.0.0.1:1883, "
     "tcp://[::]:1883)"},
    {"listener without address", "listeners:\n  - {allow_anonymous: true}\n",
     "tern.yaml:2: listeners: an entry lacks its address"},
    {"listener twice", "listeners: [\"tcp://[::1]:1\", \"tcp://[::1]:1\"]\n",
     "tern.yaml:1: listeners: tcp://[::1]:1 is listed twice"},
    {"unknown word in a listener", "listeners:\n  - address: tcp://a:1\n    colour: red\n",
     "tern.yaml:3: listeners: colour is unknown or given twice (address, allow_anonymous)"},
    {"address twice in a listener", "listeners:\n  - address: tcp://a:1\n    address: tcp://a:2\n",
     "tern.yaml:3: listeners: address is unknown or given twice (address, allow_anonymous)"},
    {"perhaps", "listeners:\n  - {address: \"tcp://a:1\", allow_anonymous: perhaps}\n",
     "tern.yaml:2: listeners: allow_anonymous: perhaps is not true or false"},
    {"list within the list", "listeners: [[a]]\n", "tern.yaml:1: listeners: an entry must be an address or a mapping"},
};

static void test_files_bad(void)
{
    for (size_t i = 0; i < COUNT_OF(bad_files); i++) {
        struct config *untouched = (struct config *)&bad_files, *c = untouched;
        char error[512];

        int rc = load_text(bad_files[i].text, strlen(bad_files[i].text), error, sizeof(error), &c);
        CHECK_CASE(bad_files[i].name, rc == -EINVAL);
        CHECK_CASE(bad_files[i].name, c == untouched);
        CHECK_CASE(bad_files[i].name, !bad_files[i].want || strcmp(error, bad_files[i].want) == 0);
        CHECK_CASE(bad_files[i].name, strncmp(error, "tern.yaml:", 10) == 0);
        if (bad_files[i].want && strcmp(error, bad_files[i].want) != 0) {
            fprintf(stderr, "%s: got: %s\n", bad_files[i].name, error);
        }
    }
}

static void test_file_missing(void)
{
    char *missing[] = {(char *)"-c", (char *)"/nonexistent/tern.yaml", NULL};
    char *directory[] = {(char *)"-c", (char *)"/tmp", NULL};
    struct config *c = NULL;
    char error[512];

    CHECK(load(missing, NULL, error, sizeof(error), &c) == -EINVAL);
    CHECK(strcmp(error, "/nonexistent/tern.yaml: No such file or directory") == 0);
    CHECK(load(directory, NULL, error, sizeof(error), &c) == -EINVAL);
    CHECK(strcmp(error, "/tmp: Is a directory") == 0);
}

static void test_listeners(void)
{
    static const char text[] = "listeners:\n"
                               "  - tcp://0.0.0.0:1883\n"
                               "  - address: tcp://[::1]:0\n"
                               "    allow_anonymous: true\n"
                               "  - {address: \"tcp://broker-1.example:65535\", allow_anonymous: false}\n";
    struct config *c = NULL;
    char error[512];

    CU_ASSERT_EQUAL_FATAL(load_text(text, strlen(text), error, sizeof(error), &c), 0);
    CHECK(c->listener_count == 3);
    CHECK(strcmp(c->listeners[0].host, "0.0.0.0") == 0 && c->listeners[0].port == 1883);
    CHECK(c->listeners[0].allow_anonymous == -1);
    CHECK(strcmp(c->listeners[1].host, "::1") == 0 && c->listeners[1].port == 0);
    CHECK(c->listeners[1].allow_anonymous == 1 && strcmp(c->listeners[1].address, "tcp://[::1]:0") == 0);
    CHECK(strcmp(c->listeners[2].host, "broker-1.example") == 0 && c->listeners[2].port == 65535);
    CHECK(c->listeners[2].allow_anonymous == 0);
    config_free(c);
}

static const struct {
    const char *name, *address;
    bool good;
} addresses[] = {
    {"IPv4", "tcp://127.0.0.1:1883", true},
    {"IPv6", "tcp://[::]:1883", true},
    {"IPv6 with a zone", "tcp://[fe80::1%eth0]:1883", true},
    {"name", "tcp://localhost:1883", true},
    {"any port", "tcp://localhost:0", true},
    {"open to all who come", "tcp://0.0.0.0:1?allow_anonymous=true", true},
    {"no port", "tcp://localhost", false},
    {"empty port", "tcp://localhost:", false},
    {"port too large", "tcp://localhost:65536", false},
    {"port that wraps around", "tcp://localhost:4294967297", false},
    {"signed port", "tcp://localhost:+1", false},
    {"no host", "tcp://:1883", false},
    {"no scheme", "localhost:1883", false},
    {"IPv6 without brackets", "tcp://::1:1883", false},
    {"bracket left open", "tcp://[::1:1883", false},
    {"junk behind the bracket", "tcp://[::1]x:1883", false},
    {"path", "tcp://localhost:1883/mqtt", false},
    {"unknown option", "tcp://localhost:1?anonymous=true", false},
    {"option without a truth", "tcp://localhost:1?allow_anonymous=", false},
    {"second one empty", "tcp://localhost:1,", false},
    {"second one the same", "tcp://localhost:1,tcp://localhost:1", false},
    {"empty", "", false},
};

static void test_addresses(void)
{
    for (size_t i = 0; i < COUNT_OF(addresses); i++) {
        char *args[] = {(char *)"--listen", (char *)addresses[i].address, NULL};
        struct config *c = NULL;
        char error[512];

        int rc = load(args, NULL, error, sizeof(error), &c);
        CHECK_CASE(addresses[i].name, rc == (addresses[i].good ? 0 : -EINVAL));
        config_free(c);
    }
}

static void test_listeners_full(void)
{
    char text[CONFIG_LISTENERS_MAX * 24 + 64], error[512];
    struct config *c = NULL;

    for (int extra = 0; extra <= 1; extra++) {
        size_t used = 0;
        for (int i = 0; i < CONFIG_LISTENERS_MAX + extra; i++) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%stcp://h:%d", i ? "," : "", i + 1);
        }
        char *args[] = {(char *)"--listen", text, NULL};
        CHECK(load(args, NULL, error, sizeof(error), &c) == (extra ? -EINVAL : 0));
        if (!extra) {
            CHECK(c->listener_count == CONFIG_LISTENERS_MAX);
            config_free(c);
        }
    }
    CHECK(strcmp(error, "--listen: listeners: more than 32 listeners") == 0);
}

/* Who wins: --set over the environment over the file over the default, flags over all; several --listen add up. */
static void test_order(void)
{
    static const char text[] = "shards: 1\nmqtt: {max_inflight: 1, receive_maximum: 1}\nlog: {level: error}\n"
                               "listeners: [\"tcp://file:1\"]\n";
    char path[] = "/tmp/tern-config-XXXXXX", error[512];
    int fd = mkstemp(path);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CHECK(write(fd, text, sizeof(text) - 1) == (ssize_t)sizeof(text) - 1);
    close(fd);

    /* clang-format off */
    char *argv[] = {(char *)"tern", (char *)"--log-level=warn", (char *)"-c", path, (char *)"--set",
                    (char *)"mqtt.max_inflight=3", (char *)"--set=log.level=debug", (char *)"--listen",
                    (char *)"tcp://flag:1", (char *)"-l", (char *)"tcp://flag:2"};
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
    CHECK(c->listener_count == 2 && strcmp(c->listeners[0].address, "tcp://flag:1") == 0);
    CHECK(c->listener_count == 2 && c->listeners[1].port == 2);
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

        CHECK_CASE(bad_sources[i].name, load(args, envp, error, sizeof(error), &c) == -EINVAL);
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

/* --print-config of a configuration in which every value differs from its default reads back to the same. */
static void test_round_trip(void)
{
    static const char text[] =
        "shards: 5\npin_shards: true\nio_backend: epoll\ndata: '/a \"b\" \\c # d: \xc3\xa9 {'\nsys_interval: 1500ms\n"
        "listeners:\n  - tcp://[::1]:1\n  - {address: \"tcp://b:2\", allow_anonymous: false}\nnode: {name: 'null'}\n"
        "log: {level: debug, format: json}\n"
        "mqtt: {max_packet_size: 2MB, max_inflight: 1, receive_maximum: 65535, topic_alias_maximum: 0,\n"
        "  topic_alias_out: 9, max_keep_alive: 61s, max_session_expiry: 90s, max_topic_levels: 3,\n"
        "  max_client_id_size: 23, retain_available: false, wildcard_available: false, shared_available: false,\n"
        "  maximum_qos: 1, validate_payload_format: true, response_information: 'x/y', share_strategy: sticky}\n"
        "limits: {max_connections: 1, max_connections_per_address: 2, connect_timeout: 1m, max_queued_messages: 3,\n"
        "  max_queued_bytes: 5KiB, queue_overflow: drop_oldest, max_outbox_bytes: 6KiB, max_subscriptions: 7,\n"
        "  max_retained_messages: 0, max_retained_bytes: 1TB, max_sessions: 8, max_user_properties: 10,\n"
        "  max_user_property_bytes: 1001, max_publish_rate: 11, backpressure: 1ms}\n";
    struct config *defaults = NULL, *first = NULL, *second = NULL;
    char error[512], *printed = NULL;
    size_t printed_len = 0;

    CU_ASSERT_EQUAL_FATAL(load(NULL, NULL, error, sizeof(error), &defaults), 0);
    CU_ASSERT_EQUAL_FATAL(load_text(text, strlen(text), error, sizeof(error), &first), 0);
    CHECK(strcmp(first->data, "/a \"b\" \\c # d: \xc3\xa9 {") == 0);
    FILE *out = open_memstream(&printed, &printed_len);
    config_print(first, out);
    fclose(out);
    CU_ASSERT_EQUAL_FATAL(load_text(printed, printed_len, error, sizeof(error), &second), 0);
    for (size_t i = 0; i < config_key_count; i++) {
        CHECK_CASE(config_keys[i].name, config_value_eq(first, second, &config_keys[i]));
        CHECK_CASE(config_keys[i].name, !config_value_eq(first, defaults, &config_keys[i]));
    }
    config_free(defaults);
    config_free(first);
    config_free(second);
    free(printed);
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

    CHECK(load(NULL, NULL, error, sizeof(error), &now) == 0);
    CHECK(load(args, NULL, error, sizeof(error), &next) == 0);
    config_restart_needed(now, now, names, sizeof(names));
    CHECK(strcmp(names, "") == 0);
    config_restart_needed(now, next, names, sizeof(names));
    CHECK(strcmp(names, "shards, data") == 0);
    config_restart_needed(now, next, names, 9); /* cut, never beyond the end */
    CHECK(strcmp(names, "shards, ") == 0);
    config_free(now);
    config_free(next);
}

/* The numbers of the enum stand in the schema by position; here both are at hand. */
static void test_io_backend_numbers(void)
{
    const struct config_key *key = config_key_find("io_backend");

    CHECK(strcmp(key->names[IO_AUTO], "auto") == 0);
    CHECK(strcmp(key->names[IO_URING], "io_uring") == 0);
    CHECK(strcmp(key->names[IO_EPOLL], "epoll") == 0);
}

UNIT_MAIN("broker/base/config", {"defaults", test_defaults}, {"files that are right", test_files_good},
          {"files that are wrong", test_files_bad}, {"files that cannot be read", test_file_missing},
          {"listeners", test_listeners}, {"addresses", test_addresses}, {"limit of listeners", test_listeners_full},
          {"order of sources", test_order}, {"sources that are wrong", test_sources_bad}, {"actions", test_actions},
          {"print and read back", test_round_trip}, {"restart needed", test_restart_needed},
          {"numbers of io backends", test_io_backend_numbers})
