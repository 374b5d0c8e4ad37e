#include <stdio.h>

#include "broker/auth/acl_rule.h"
#include "proto/mqtt/topic.h"
#include "tests/lib/unit.h"

static const struct {
    const char *by, *filter;
    bool covers, overlaps;
} rows[] = {
    {"a", "a", true, true},           {"a/#", "a", true, true}, /* the parent level (4.7.1.2) */
    {"a/#", "a/#", true, true},       {"a/#", "a/+", true, true},
    {"a/#", "a/+/b/#", true, true},   {"a/#", "a/", true, true},
    {"a/+", "a/+", true, true},       {"a/+", "a/b", true, true},
    {"+/b", "a/b", true, true},       {"+/+", "a/+", true, true},
    {"#", "a/b", true, true},         {"#", "+/a", true, true},
    {"#", "#", true, true},           {"+/#", "#", true, true}, /* the same topics */
    {"/+/#", "/#", true, true},       {"+/+/#", "/#", true, true},
    {"$SYS/#", "$SYS/#", true, true}, {"$SYS/#", "$SYS/+/x", true, true},
    {"a/+/#", "a/+", true, true},     {"a/b", "a/+", false, true},
    {"a/+", "a/#", false, true},      {"a/+/#", "a/#", false, true}, /* "a" itself is left out */
    {"+/+/#", "#", false, true},      {"a/b", "#", false, true},
    {"+", "#", false, true},          {"a/+/c", "a/b/+", false, true},
    {"a/+/c", "+/b/#", false, true},  {"a", "a/#", false, true},
    {"a/", "a/+", false, true},       {"/", "+/+", false, true},
    {"/", "/#", false, true},         {"a/#", "+/b", false, true},
    {"a", "b", false, false},         {"a", "ab", false, false},
    {"ab", "a", false, false},        {"a/#", "ab", false, false},
    {"ab", "a/#", false, false},      {"a", "a/", false, false},
    {"a", "A", false, false},         {"+", "a/b", false, false},
    {"+", "/a", false, false},        {"+", "/#", false, false}, /* there is no topic without characters */
    {"a/+", "a", false, false},       {"a/+", "b/+", false, false},
    {"a/+/c", "a/b/d", false, false}, {"a/+/c", "a/b", false, false},
    {"a/+/#", "a", false, false},     {"#", "$SYS/#", false, false}, /* [MQTT-4.7.2-1] */
    {"#", "$SYS", false, false},                                     /* [MQTT-4.7.2-1] */
    {"+/#", "$SYS/x", false, false},                                 /* [MQTT-4.7.2-1] */
    {"+/x", "$SYS/x", false, false},                                 /* [MQTT-4.7.2-1] */
    {"$SYS/#", "#", false, false},                                   /* [MQTT-4.7.2-1] */
    {"$SYS/x", "+/x", false, false},                                 /* [MQTT-4.7.2-1] */
    {"a/#", "a/$x", true, true},                                     /* a $ further on is a character like any other */
};

static void test_rows(void)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct slice by = slice_str(rows[i].by), filter = slice_str(rows[i].filter);
        char name[64];
        snprintf(name, sizeof(name), "%s and %s", rows[i].by, rows[i].filter);
        CHECK_CASE(name, acl_filter_covers(by, filter) == rows[i].covers);
        CHECK_CASE(name, acl_filter_overlaps(by, filter) == rows[i].overlaps);
        CHECK_CASE(name, acl_filter_overlaps(filter, by) == rows[i].overlaps);
    }
}

/* ---- against the definition ---- */

#define LEVELS_MAX 3
#define TEXTS_MAX 2000
#define TEXT_SIZE 16

struct texts {
    char at[TEXTS_MAX][TEXT_SIZE];
    unsigned count;
};

/* All that are made of one to `levels` of these levels and are valid. */
static void texts_make(struct texts *texts, const char *const *words, unsigned word_count, unsigned levels,
                       bool (*valid)(struct slice, unsigned))
{
    texts->count = 0;
    for (unsigned n = 1, combinations = word_count; n <= levels; n++, combinations *= word_count) {
        for (unsigned c = 0; c < combinations; c++) {
            char text[TEXT_SIZE] = "";
            for (unsigned i = 0, rest = c; i < n; i++, rest /= word_count) {
                strcat(text, i > 0 ? "/" : "");
                strcat(text, words[rest % word_count]);
            }
            if (valid(slice_str(text), 8) && texts->count < TEXTS_MAX) {
                strcpy(texts->at[texts->count++], text);
            }
        }
    }
}

#define TOPIC_WORDS 64 /* of bits */

/* Topics have one level more than filters, and a word that no filter names: enough to tell any two filters apart. */
static void test_definition(void)
{
    static const char *const filter_words[] = {"a", "b", "+", "#", "$s", ""}, *const topic_words[] = {"a",  "b",  "x",
                                                                                                      "$s", "$t", ""};
    static struct texts filters, topics;
    static uint64_t sets[TEXTS_MAX][TOPIC_WORDS];
    unsigned wrong = 0;

    texts_make(&filters, filter_words, COUNT_OF(filter_words), LEVELS_MAX, mqtt_filter_valid);
    texts_make(&topics, topic_words, COUNT_OF(topic_words), LEVELS_MAX + 1, mqtt_topic_valid);
    CHECK(filters.count == 5 + 5 * 6 + 5 * 5 * 6 && topics.count == 5 + 36 + 216 + 1296);
    for (unsigned f = 0; f < filters.count; f++) {
        for (unsigned t = 0; t < topics.count; t++) {
            bool matches = mqtt_filter_matches(slice_str(filters.at[f]), slice_str(topics.at[t]));
            sets[f][t / 64] |= (uint64_t)matches << t % 64;
            wrong += acl_filter_covers(slice_str(filters.at[f]), slice_str(topics.at[t])) != matches;
            wrong += acl_filter_overlaps(slice_str(topics.at[t]), slice_str(filters.at[f])) != matches;
        }
    }
    CHECK(wrong == 0);
    for (unsigned f = 0; f < filters.count; f++) {
        for (unsigned g = 0; g < filters.count; g++) {
            uint64_t both = 0, beside = 0;
            for (unsigned w = 0; w < TOPIC_WORDS; w++) {
                both |= sets[f][w] & sets[g][w];
                beside |= sets[g][w] & ~sets[f][w];
            }
            char name[64];
            snprintf(name, sizeof(name), "%s and %s", filters.at[f], filters.at[g]);
            struct slice by = slice_str(filters.at[f]), filter = slice_str(filters.at[g]);
            if (acl_filter_covers(by, filter) != !beside || acl_filter_overlaps(by, filter) != !!both) {
                CHECK_CASE(name, false);
            }
        }
    }
}

/* ---- %u and %c ---- */

static const struct {
    const char *template, *user, *client_id, *filter;
    bool covers, overlaps;
} value_rows[] = {
    {"sites/%u/#", "anna", "", "sites/anna/x", true, true},
    {"sites/%u/#", "anna", "", "sites/anna", true, true},
    {"sites/%u/#", "anna", "", "sites/anna2/x", false, false},
    {"sites/%u/#", "anna", "", "sites/ann/x", false, false},
    {"sites/%u/#", "anna", "", "sites/+/x", false, true},
    {"sites/%u/#", "anna", "", "sites/#", false, true},
    {"dev-%c/x", "", "7", "dev-7/x", true, true},
    {"dev-%c/x", "", "7", "dev-8/x", false, false},
    {"dev-%c/x", "", "7", "dev-/x", false, false},
    {"dev-%c/x", "", "7", "+/x", false, true},
    {"dev-%c/x", "", "7", "+/y", false, false},
    {"%u-%c/+", "u", "c", "u-c/x", true, true},
    {"%u-%c/+", "u", "c", "u-c/#", false, true},
    {"%u%c", "u", "c", "uc", true, true},
    {"%u%c", "u", "c", "+", false, true},
    {"+/%c", "", "c", "a/c", true, true},
    {"+/%c", "", "c", "+/c", true, true},
    {"+/%c", "", "c", "$a/c", false, false},
    {"%c/#", "", "c", "c", true, true},
    {"%c/#", "", "c", "#", false, true},
    {"a/%%", "", "", "a/%", true, true},
    {"a/%%u", "u", "", "a/%u", true, true},
    {"a/%%u", "u", "", "a/u", false, false},
    {"a/%u", "%c", "c", "a/%c", true, true}, /* a value is not read again */
    {"a/%u", "%c", "c", "a/c", false, false},
};

static void test_values(void)
{
    for (size_t i = 0; i < COUNT_OF(value_rows); i++) {
        struct acl_values values = {slice_str(value_rows[i].user), slice_str(value_rows[i].client_id)};
        uint8_t text[64], needs = 0;
        size_t len = strlen(value_rows[i].template);
        memcpy(text, value_rows[i].template, len);
        CHECK_CASE(value_rows[i].template, acl_filter_compile(text, &len, &needs) == 0);
        struct acl_filter by = acl_filter_of(slice_of(text, len));
        struct acl_filter filter = acl_filter_of(slice_str(value_rows[i].filter));
        CHECK_CASE(value_rows[i].filter, acl_covers(&by, &values, &filter) == value_rows[i].covers);
        CHECK_CASE(value_rows[i].filter, acl_overlaps(&by, &values, &filter) == value_rows[i].overlaps);
    }
}

static void test_needs(void)
{
    static const struct {
        const char *template;
        int rc;
        uint8_t needs;
    } templates[] = {
        {"a/b", 0, 0},
        {"a/%u", 0, ACL_USER},
        {"%u/a", 0, ACL_USER | ACL_USER_FIRST},
        {"a%c/%c", 0, ACL_CLIENT},
        {"%c%u", 0, ACL_USER | ACL_CLIENT | ACL_CLIENT_FIRST},
        {"%%%u", 0, ACL_USER},
        {"a/%", -1, 0},
        {"a/%x", -1, 0},
        {"%%%", -1, 0},
    };
    static const struct {
        struct slice user, client_id;
        uint8_t lack;
    } subjects[] = {
        {SLICE("u"), SLICE("c"), 0},
        {SLICE(""), SLICE("c"), ACL_USER},
        {SLICE("u"), SLICE(""), ACL_CLIENT},
        {SLICE("u/"), SLICE("+c"), ACL_USER | ACL_CLIENT},
        {SLICE("u#"), SLICE("c\0"), ACL_USER | ACL_CLIENT},
        {SLICE("$u"), SLICE("c$"), ACL_USER_FIRST},
        {SLICE("u$"), SLICE("$"), ACL_CLIENT_FIRST},
    };

    for (size_t i = 0; i < COUNT_OF(templates); i++) {
        uint8_t text[16], needs = 0;
        size_t len = strlen(templates[i].template);
        memcpy(text, templates[i].template, len);
        CHECK_CASE(templates[i].template, (acl_filter_compile(text, &len, &needs) == 0) == (templates[i].rc == 0));
        CHECK_CASE(templates[i].template, templates[i].rc != 0 || needs == templates[i].needs);
    }
    for (size_t i = 0; i < COUNT_OF(subjects); i++) {
        struct acl_values values = {subjects[i].user, subjects[i].client_id};
        CHECK_CASE((const char *)subjects[i].user.ptr, acl_values_lack(&values) == subjects[i].lack);
    }
}

UNIT_MAIN("broker/auth/acl_filter", {"pairs", test_rows}, {"all small filters and topics", test_definition},
          {"%u and %c", test_values}, {"what values lack", test_needs})
