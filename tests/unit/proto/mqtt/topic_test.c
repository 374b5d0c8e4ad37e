#include "proto/mqtt/topic.h"

#include "tests/lib/unit.h"

/* Rows hold a NUL, so lengths are taken from the literal. */
#define TEXT(literal) (const uint8_t *)(literal), sizeof(literal) - 1

static const struct {
    const char *name;
    const uint8_t *ptr;
    size_t len;
    unsigned levels_max;
    bool topic, filter, wildcard;
} valid_rows[] = {
    {"one letter", TEXT("a"), 8, true, true, false},
    {"three levels", TEXT("a/b/c"), 8, true, true, false},
    {"a slash alone: two empty levels", TEXT("/"), 2, true, true, false},
    {"empty levels", TEXT("a//b/"), 4, true, true, false},
    {"blanks", TEXT(" / "), 8, true, true, false},
    {"begins with $", TEXT("$SYS/x"), 8, true, true, false},
    {"as many levels as allowed", TEXT("a/b/c"), 3, true, true, false},
    {"a level too many", TEXT("a/b/c"), 2, false, false, false},
    {"an empty level too many", TEXT("a/"), 1, false, false, false},
    {"empty [MQTT-4.7.3-1]", TEXT(""), 8, false, false, false},
    {"U+0000 [MQTT-4.7.3-2]", TEXT("a\0b"), 8, false, false, false},
    {"# alone [MQTT-3.3.2-2]", TEXT("#"), 8, false, true, true},
    {"+ alone [MQTT-3.3.2-2]", TEXT("+"), 8, false, true, true},
    {"# at the end", TEXT("a/b/#"), 8, false, true, true},
    {"# behind a slash", TEXT("/#"), 8, false, true, true},
    {"+ inside", TEXT("a/+/b"), 8, false, true, true},
    {"+ everywhere", TEXT("+/+/+"), 8, false, true, true},
    {"+ and #", TEXT("+/#"), 8, false, true, true},
    {"# not alone in its level [MQTT-4.7.1-1]", TEXT("a/b#"), 8, false, false, false},
    {"# begins a level [MQTT-4.7.1-1]", TEXT("#a"), 8, false, false, false},
    {"# not last [MQTT-4.7.1-1]", TEXT("a/#/b"), 8, false, false, true},
    {"# and a slash [MQTT-4.7.1-1]", TEXT("#/"), 8, false, false, true},
    {"+ not alone in its level [MQTT-4.7.1-2]", TEXT("a+/b"), 8, false, false, false},
    {"two + in a level [MQTT-4.7.1-2]", TEXT("++"), 8, false, false, false},
    {"+# [MQTT-4.7.1-2]", TEXT("+#"), 8, false, false, false},
    {"a level too many behind +", TEXT("+/#"), 1, false, false, true},
};

static void test_valid(void)
{
    for (size_t i = 0; i < COUNT_OF(valid_rows); i++) {
        struct slice s = slice_of(valid_rows[i].ptr, valid_rows[i].len);
        CHECK_CASE(valid_rows[i].name, mqtt_topic_valid(s, valid_rows[i].levels_max) == valid_rows[i].topic);
        CHECK_CASE(valid_rows[i].name, mqtt_filter_valid(s, valid_rows[i].levels_max) == valid_rows[i].filter);
        CHECK_CASE(valid_rows[i].name, mqtt_filter_has_wildcard(s) == valid_rows[i].wildcard);
    }
}

static const struct {
    const char *text;
    int want;
    const char *share, *filter;
} share_rows[] = {
    {"$share/g/a", 1, "g", "a"},
    {"$share/group name/a/+/#", 1, "group name", "a/+/#"},
    {"$share/g//", 1, "g", "/"},
    {"$share/$share/$share/a", 1, "$share", "$share/a"},
    {"a/b", 0, "", "a/b"},
    {"$share", 0, "", "$share"},
    {"$shared/g/a", 0, "", "$shared/g/a"},
    {"$SHARE/g/a", 0, "", "$SHARE/g/a"},
    {"/$share/g/a", 0, "", "/$share/g/a"},
    {"", 0, "", ""},
    {"$share/", -1, NULL, NULL},     /* [MQTT-4.8.2-1] */
    {"$share//a", -1, NULL, NULL},   /* [MQTT-4.8.2-1] */
    {"$share/g", -1, NULL, NULL},    /* [MQTT-4.8.2-2] */
    {"$share/g/", -1, NULL, NULL},   /* [MQTT-4.8.2-2] */
    {"$share/+/a", -1, NULL, NULL},  /* [MQTT-4.8.2-2] */
    {"$share/g#/a", -1, NULL, NULL}, /* [MQTT-4.8.2-2] */
    {"$share/#", -1, NULL, NULL},    /* [MQTT-4.8.2-2] */
};

static void test_share(void)
{
    for (size_t i = 0; i < COUNT_OF(share_rows); i++) {
        struct slice share = SLICE("untouched"), filter = SLICE("untouched");
        const char *name = share_rows[i].text;
        CHECK_CASE(name, mqtt_share_split(slice_str(name), &share, &filter) == share_rows[i].want);
        bool bad = share_rows[i].want < 0;
        CHECK_CASE(name, slice_eq(share, slice_str(bad ? "untouched" : share_rows[i].share)));
        CHECK_CASE(name, slice_eq(filter, slice_str(bad ? "untouched" : share_rows[i].filter)));
    }
}

static const struct {
    const char *filter, *topic;
    bool want;
} match_rows[] = {
    {"a", "a", true},           {"a/b", "a/b", true},
    {"#", "a", true},           {"#", "/", true},
    {"#", "a/b/c", true},       {"a/#", "a/b/c", true},
    {"a/#", "a/", true},        {"a/#", "a", true}, /* the parent level (4.7.1.2) */
    {"a/b/#", "a/b", true},     {"+", "a", true},
    {"+/+", "/a", true},        {"/+", "/a", true},
    {"a/+", "a/", true},        {"a/+/c", "a//c", true},
    {"+/b/#", "a/b", true},     {"+/#", "a", true},
    {"/", "/", true},           {"$SYS/#", "$SYS/x", true},
    {"$SYS/+", "$SYS/x", true}, {"$SYS/#", "$SYS", true},
    {"$a", "$a", true},         {"a/$x", "a/$x", true},
    {"+/$x", "a/$x", true},                        /* a $ further on is a character like any other */
    {"a", "b", false},          {"a", "A", false}, /* 4.7.3: case sensitive */
    {"a", "a/", false},         {"a/", "a", false},
    {"/a", "a", false},         {"a", "a/b", false},
    {"a/b", "a", false},        {"ab", "a", false},
    {"a", "ab", false},         {"+", "/a", false},
    {"+", "a/b", false},        {"a/+", "a", false},
    {"a/+", "a/b/c", false},    {"a/+/#", "a", false},
    {"b/#", "a/b", false},      {"a/#", "ab", false},
    {"#", "$SYS", false},     /* [MQTT-4.7.2-1] */
    {"#", "$SYS/x", false},   /* [MQTT-4.7.2-1] */
    {"+/x", "$SYS/x", false}, /* [MQTT-4.7.2-1] */
    {"+", "$a", false},       /* [MQTT-4.7.2-1] */
    {"$SYS/#", "$SY/x", false}, {"$SYS/+", "$SYS", false},
};

static void test_match(void)
{
    for (size_t i = 0; i < COUNT_OF(match_rows); i++) {
        bool got = mqtt_filter_matches(slice_str(match_rows[i].filter), slice_str(match_rows[i].topic));
        CHECK_CASE(match_rows[i].filter, got == match_rows[i].want);
        CHECK_CASE(match_rows[i].topic, got == match_rows[i].want);
    }
}

static void test_levels(void)
{
    static const struct {
        const char *text, *levels[4];
        size_t count;
    } rows[] = {
        {"a", {"a"}, 1}, {"a/bc", {"a", "bc"}, 2}, {"/", {"", ""}, 2}, {"a//b/", {"a", "", "b", ""}, 4}, {"", {""}, 1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct slice rest = slice_str(rows[i].text), level;
        bool done = false;
        size_t count = 0;
        while (mqtt_level_next(&rest, &done, &level)) {
            CHECK_CASE(rows[i].text, count < rows[i].count && slice_eq(level, slice_str(rows[i].levels[count])));
            count++;
        }
        CHECK_CASE(rows[i].text, count == rows[i].count);
    }
}

UNIT_MAIN("proto/mqtt/topic", {"topics and filters", test_valid}, {"$share", test_share}, {"matching", test_match},
          {"levels", test_levels})
