#include "tests/lib/unit.h"

#include "broker/base/config_schema.h"
#include "tests/lib/config_load.h"

#include <errno.h>

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
    {"list", "jwt:\n  algorithms:\n    - ES256\n    - EdDSA\n", "jwt.algorithms", "ES256, EdDSA"},
    {"list in one line", "jwt: {algorithms: [ES256]}", "jwt.algorithms", "ES256"},
    {"list as a word", "jwt: {algorithms: \"ES256,  EdDSA \"}", "jwt.algorithms", "ES256, EdDSA"},
    {"text", "auth: {acl_file: /etc/tern/rules}", "auth.acl_file", "/etc/tern/rules"},
};

static void test_files_good(void)
{
    for (size_t i = 0; i < COUNT_OF(good_files); i++) {
        struct config *c = NULL;
        char error[512], got[64] = "";

        int rc = config_load_text(good_files[i].text, strlen(good_files[i].text), error, sizeof(error), &c);
        CHECK_CASE(good_files[i].name, rc == 0);
        if (rc == 0) {
            const struct config_key *key = config_key_find(&config_keys, good_files[i].key);
            if (config_is_text(key)) {
                snprintf(got, sizeof(got), "%s", *config_value_string(c, key));
            } else {
                config_value_format(c, key, got, sizeof(got));
            }
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
    {"empty text where one is needed", "node:\n  name: \"\"\n",
     "tern.yaml:2: node.name: 0 bytes are not between 1 and 255"},
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
    {"list with an empty entry", "jwt: {algorithms: \"HS256,,ES256\"}",
     "tern.yaml:1: jwt.algorithms: an entry of the list is empty"},
    {"list with a comma too much", "jwt: {algorithms: \"HS256, \"}",
     "tern.yaml:1: jwt.algorithms: an entry of the list is empty"},
    {"list with an unknown word", "jwt:\n  algorithms: [ES256, none]\n",
     "tern.yaml:2: jwt.algorithms: none is not one of HS256, RS256, ES256, EdDSA"},
    {"list with too few words", "jwt: {algorithms: []}",
     "tern.yaml:1: jwt.algorithms: 0 entries are not between 1 and 4"},
    {"list with a comma in an entry", "jwt: {algorithms: [\"ES256,none\"]}",
     "tern.yaml:1: jwt.algorithms: an entry must be one word without a comma"},
    {"list within a list", "jwt: {algorithms: [[ES256]]}",
     "tern.yaml:1: jwt.algorithms: an entry must be one word without a comma"},
    {"mapping for a list", "jwt: {algorithms: {ES256: 1}}", "tern.yaml:1: jwt.algorithms: must be a list of words"},
    {"control character in a list", "jwt: {algorithms: [\"a\\tb\"]}",
     "tern.yaml:1: jwt.algorithms: control characters and what is not UTF-8 are not allowed"},
    {"listeners as one word", "listeners: tcp://127.0.0.1:1\n", "tern.yaml:1: listeners: must be a list of addresses"},
    {"no listeners", "listeners: []\n", "tern.yaml:1: listeners: the list is empty"},
    {"listener of an unknown kind", "listeners:\n  - udp://0.0.0.0:8883\n",
     "tern.yaml:2: listeners: udp://0.0.0.0:8883 is not a listener's address (examples: tcp://127.0.0.1:1883, "
     "tls://[::]:8883, unix:///run/tern.sock)"},
    {"listener without address", "listeners:\n  - {allow_anonymous: true}\n",
     "tern.yaml:2: listeners: an entry lacks its address"},
    {"listener twice", "listeners: [\"tcp://[::1]:1\", \"tls://[::1]:1\"]\n",
     "tern.yaml:1: listeners: tls://[::1]:1 is listed twice"},
    {"misspelt key of a listener", "listeners:\n  - address: tcp://a:1\n    allow_anonimous: true\n",
     "tern.yaml:3: listeners: allow_anonimous: unknown key; did you mean allow_anonymous?"},
    {"unknown key of a listener", "listeners:\n  - address: tcp://a:1\n    colour: red\n",
     "tern.yaml:3: listeners: colour: unknown key (tern --print-config lists all)"},
    {"key of a listener without its section", "listeners:\n  - {address: \"tls://a:1\", psk_file: a}\n",
     "tern.yaml:2: listeners: psk_file: unknown key; did you mean tls.psk_file?"},
    {"key of the file in a listener", "listeners:\n  - {address: \"tcp://a:1\", log: {level: info}}\n",
     "tern.yaml:2: listeners: log: unknown key (tern --print-config lists all)"},
    {"address twice in a listener", "listeners:\n  - address: tcp://a:1\n    address: tcp://a:2\n",
     "tern.yaml:3: listeners: address: set a second time, first in line 2"},
    {"section twice in a listener", "listeners:\n  - address: tls://a:1\n    tls: {key: a}\n    tls: {crl: a}\n",
     "tern.yaml:4: listeners: tls: stands here a second time, first before line 3"},
    {"section of a listener as a value", "listeners:\n  - {address: \"tls://a:1\", tls: true}\n",
     "tern.yaml:2: listeners: tls: is a section of keys, not a value"},
    {"section within a section", "listeners:\n  - {address: \"ws://a:1\", tls: {websocket: {path: /}}}\n",
     "tern.yaml:2: listeners: tls.websocket: unknown key (tern --print-config lists all)"},
    {"key of a listener without value", "listeners:\n  - address: tcp://a:1\n    name:\n",
     "tern.yaml:3: listeners: name: has no value"},
    {"perhaps", "listeners:\n  - {address: \"tcp://a:1\", allow_anonymous: perhaps}\n",
     "tern.yaml:2: listeners: allow_anonymous: perhaps is not true or false, nor auto"},
    {"mode that is not octal", "listeners:\n  - {address: \"unix://a\", mode: 0668}\n",
     "tern.yaml:2: listeners: mode: 0668 is not a mode in octal (0000 to 0777; example: 0660)"},
    {"mode that is too large", "listeners:\n  - {address: \"unix://a\", mode: 1000}\n",
     "tern.yaml:2: listeners: mode: 1000 is not a mode in octal (0000 to 0777; example: 0660)"},
    {"network that is none", "listeners:\n  - {address: \"tcp://a:1\", trusted_proxies: [10.0.0.0/8, example]}\n",
     "tern.yaml:2: listeners: trusted_proxies: example is not a network (examples: 10.0.0.0/8, 192.0.2.7, fd00::/8)"},
    {"two paths", "listeners:\n  - {address: \"ws://a:1/a\", websocket: {path: /b}}\n",
     "tern.yaml:2: listeners: ws://a:1/a: has another path than websocket.path, /b"},
    {"list within the list", "listeners: [[a]]\n", "tern.yaml:1: listeners: an entry must be an address or a mapping"},
};

static void test_files_bad(void)
{
    for (size_t i = 0; i < COUNT_OF(bad_files); i++) {
        struct config *untouched = (struct config *)&bad_files, *c = untouched;
        char error[512];

        int rc = config_load_text(bad_files[i].text, strlen(bad_files[i].text), error, sizeof(error), &c);
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

    CHECK(config_load_args(missing, NULL, error, sizeof(error), &c) == -EINVAL);
    CHECK(strcmp(error, "/nonexistent/tern.yaml: No such file or directory") == 0);
    CHECK(config_load_args(directory, NULL, error, sizeof(error), &c) == -EINVAL);
    CHECK(strcmp(error, "/tmp: Is a directory") == 0);
}

UNIT_MAIN("broker/base/config_yaml", {"files that are right", test_files_good},
          {"files that are wrong", test_files_bad}, {"files that cannot be read", test_file_missing})
