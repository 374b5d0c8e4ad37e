#include "tests/lib/unit.h"

#include "broker/base/config_schema.h"

#include <errno.h>
#include <stdlib.h>

/* The words of a text, each in its own pair of signs. */
static const struct {
    const char *name, *text, *want;
} walks[] = {
    {"nothing", "", ""},
    {"blanks", " \t ", ""},
    {"one", "a", "<a>"},
    {"two", "a,b", "<a><b>"},
    {"blanks around", "  a , b c\t", "<a><b c>"},
    {"empty ones", ",a,,b", "<><a><><b>"},
    {"comma at the end", "a, ", "<a>"},
};

static void test_walk(void)
{
    for (size_t i = 0; i < COUNT_OF(walks); i++) {
        struct slice rest = slice_str(walks[i].text), word;
        char got[64] = "";
        size_t count = 0;

        while (config_list_next(&rest, &word)) {
            snprintf(got + strlen(got), sizeof(got) - strlen(got), "<%.*s>", (int)word.len, (const char *)word.ptr);
            count++;
        }
        CHECK_CASE(walks[i].name, strcmp(got, walks[i].want) == 0);
        CHECK_CASE(walks[i].name, config_list_count(walks[i].text) == count);
    }
}

/* What is stored for a text; want NULL: it is refused, and what was there stays. */
static const struct {
    const char *name, *key, *text, *want;
} sets[] = {
    {"empty", "versions", "", ""},
    {"known words", "versions", "5.0,3.1", "5.0, 3.1"},
    {"unknown word", "versions", "5.0, 4", NULL},
    {"part of a word", "versions", "3", NULL},
    {"too many words", "versions", "3.1,3.1,3.1,3.1", NULL},
    {"any words", "websocket.origins", " https://a ,https://b", "https://a, https://b"},
    {"empty entry", "websocket.origins", "a,,b", NULL},
    {"comma at the end", "websocket.origins", "a,", NULL},
    {"comma and blanks at the end", "websocket.origins", "a , ", NULL},
    {"only a comma", "websocket.origins", ",", NULL},
    {"control character", "websocket.origins", "a\x7f", NULL},
    {"networks", "trusted_proxies", "10.0.0.0/8,::1", "10.0.0.0/8, ::1"},
    {"no network", "trusted_proxies", "10.0.0.0/8, localhost", NULL},
};

static void test_set(void)
{
    for (size_t i = 0; i < COUNT_OF(sets); i++) {
        const struct config_key *key = config_key_find(&config_listener_keys, sets[i].key);
        struct config_listener l;
        char error[256] = "";

        CHECK(config_listener_init(&l) == 0);
        int rc = config_value_set(&l, key, sets[i].text, error, sizeof(error));
        CHECK_CASE(sets[i].name, rc == (sets[i].want ? 0 : -EINVAL));
        CHECK_CASE(sets[i].name, (rc == 0) == (error[0] == '\0'));
        CHECK_CASE(sets[i].name, strcmp(*config_value_string(&l, key), sets[i].want ? sets[i].want : "") == 0);
        config_listener_deinit(&l);
    }
}

static void test_bits(void)
{
    CHECK(config_list_bits("", config_method_names) == 0);
    CHECK(config_list_bits("scram, certificate", config_method_names) == (METHOD_SCRAM | METHOD_CERTIFICATE));
    CHECK(config_list_bits("certificate, psk, password, scram, jwt, http", config_method_names) == 63);
    CHECK(config_list_bits("3.1.1", config_version_names) == VERSION_3_1_1);
    CHECK(config_list_bits("ES256", config_algorithm_names) == 4);
}

UNIT_MAIN("broker/base/config_list", {"walk", test_walk}, {"set", test_set}, {"bits", test_bits})
