#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/auth/acl_rule.h"
#include "tests/lib/unit.h"

/* ---- what is taken ---- */

static const struct {
    const char *text;
    size_t rules;
} good_rows[] = {
    {"", 0},
    {"# nothing yet\n", 0},
    {"---\n", 0},
    {"rules:\n", 0},
    {"rules: []\nroles: {}\n", 0},
    {"roles:\nrules:\n- {allow: all, topic: a}\n", 1},
    {"rules:\n- {allow: all, topic: a, role: x}\nroles:\n  x: a\n  y: [a, b]\n  z: []\n", 1},
    {"rules:\n  - allow: [publish, subscribe]\n    topic: sites/%u/#\n    user: alice\n    role: operators\n"
     "    client_id: sensor-*\n    address: 10.0.0.0/8\n    listener: public\n    qos: [0, 1]\n    retain: false\n"
     "  - deny: all\n    topic: \"#\"\n",
     2},
    {"{\"rules\":[{\"deny\":\"all\",\"topic\":[\"a\",\"$SYS/#\"],\"qos\":2}]}", 1},
    {"rules: [{allow: all, topic: a, user: 'null'}]", 1}, /* quoted, it is a name */
    {"rules: [{allow: all, topic: [a, ], user: ~x}]", 1},
    {"rules: [{allow: all, topic: /, user: 7}]", 1},
    {"rules: [{allow: all, topic: /, user: [a, '*', '*']}]", 1},
};

static void test_good(void)
{
    for (size_t i = 0; i < COUNT_OF(good_rows); i++) {
        char error[600] = "";
        struct acl *acl = NULL;
        CHECK_CASE(good_rows[i].text,
                   acl_parse(slice_str(good_rows[i].text), "t", error, sizeof(error), &acl) == 0 && !*error);
        CHECK_CASE(error, acl && acl_count(acl) == good_rows[i].rules);
        acl_free(acl);
    }
}

/* ---- what is refused ---- */

#define RULE(body) "rules:\n- {" body "}\n"
#define KEYS_ARE "; a rule has allow or deny, topic, and may have user, role, client_id, address, listener, qos, retain"

static const struct {
    const char *text, *error;
} bad_rows[] = {
    /* the file */
    {"rules: [", "t:2: this is not YAML: did not find expected node content"},
    {"rules: \xff", "t:1: this is not YAML: invalid leading UTF-8 octet"},
    {"- a\n", "t:1: the file must consist of roles and rules"},
    {"allow\n", "t:1: the file must consist of roles and rules"},
    {"rule: []\n", "t:1: rule: is unknown; a file has roles and rules"},
    {"rules:\nrules:\n", "t:2: rules: set a second time, first in line 1"},
    {"rules:\n---\nrules:\n", "t:2: a second document begins here, only one is read"},
    {"? [rules]\n: []\n", "t:1: a key: must be a single word"},
    {"'': 1\n", "t:1: a key: has no value"},
    {"roles: &a {x: y}\nrules: *a\n", "t:2: aliases are not taken here"},
    /* roles */
    {"roles: [a]\n", "t:1: roles: must be a mapping from each role to its users"},
    {"roles: x\n", "t:1: roles: must be a mapping from each role to its users"},
    {"roles:\n  x: a\n  x: b\n", "t:3: roles: x stands here a second time"},
    {"roles:\n  x: {a: b}\n", "t:2: roles: must be a value or a list of values"},
    {"roles:\n  x: [a, [b]]\n", "t:2: roles: a list holds single values"},
    {"roles:\n  x:\n", "t:2: roles: has no value"},
    {"roles:\n  x: [a, '*']\n", "t:2: roles: * has no meaning here, a role lists its users"},
    {"roles:\n  [x]: a\n", "t:2: a role's name: must be a single word"},
    /* rules */
    {"rules: {allow: all}\n", "t:1: rules: must be a list"},
    {"rules: x\n", "t:1: rules: must be a list"},
    {"rules:\n- a\n", "t:2: rules: an entry must be a mapping such as {allow: publish, topic: a/#}"},
    {"rules:\n-\n", "t:2: rules: an entry must be a mapping such as {allow: publish, topic: a/#}"},
    {"rules:\n- - allow: all\n", "t:2: rules: an entry must be a mapping such as {allow: publish, topic: a/#}"},
    {RULE(""), "t:2: the rule lacks allow or deny"},
    {RULE("topic: a"), "t:2: the rule lacks allow or deny"},
    {RULE("allow: all"), "t:2: the rule lacks its topic"},
    {RULE("allow: all, topic: a, users: b"), "t:2: users: is unknown" KEYS_ARE},
    {RULE("allow: all, topic: a, <<: b"), "t:2: <<: is unknown" KEYS_ARE},
    {RULE("allow: all, topic: a, \"x\\ny\": b"), "t:2: x?y: is unknown" KEYS_ARE}, /* one line */
    {"rules:\n- allow: all\n  topic: a\n  topic: b\n", "t:4: topic: set a second time, first in line 3"},
    {RULE("allow: all, topic: a, deny: all"), "t:2: deny: a rule has either allow or deny"},
    {RULE("deny: all, topic: a, allow: all"), "t:2: allow: a rule has either allow or deny"},
    {RULE("allow: all, topic: a, user: {b: c}"), "t:2: user: must be a value or a list of values"},
    {RULE("allow: all, topic: a, user: [[b]]"), "t:2: user: a list holds single values"},
    {RULE("allow: all, topic: a, user: [b, {c: d}]"), "t:2: user: a list holds single values"},
    {RULE("allow: all, topic: a, user: "), "t:2: user: has no value"},
    {RULE("allow: all, topic: a, user: ~"), "t:2: user: has no value"},
    {RULE("allow: all, topic: a, user: null"), "t:2: user: has no value"},
    {RULE("allow: all, topic: a, user: ''"), "t:2: user: has no value"},
    {"rules:\n- allow: all\n  topic: a\n  user:\n  - b\n  -\n", "t:6: user: has no value"},
    {RULE("allow: all, topic: a, role: []"), "t:2: role: the list is empty"},
    {RULE("allow: all, topic: []"), "t:2: topic: the list is empty"},
    {RULE("allow: all, topic: a, user: \"b\\0c\""), "t:2: user: a value is not UTF-8 or holds U+0000"},
    /* each key's words */
    {RULE("allow: write, topic: a"), "t:2: allow: write is not publish, subscribe, receive or all"},
    {RULE("deny: [publish, Subscribe], topic: a"), "t:2: deny: Subscribe is not publish, subscribe, receive or all"},
    {RULE("allow: all, topic: a/#/b"), "t:2: topic: a/#/b is not a topic filter"},
    {RULE("allow: all, topic: [a, b+]"), "t:2: topic: b+ is not a topic filter"},
    {RULE("allow: all, topic: '+%u'"), "t:2: topic: +%u is not a topic filter"},
    {RULE("allow: all, topic: a/%x"),
     "t:2: topic: after % stands u for the user, c for the client id, or % for itself"},
    {RULE("allow: all, topic: a/%"), "t:2: topic: after % stands u for the user, c for the client id, or % for itself"},
    {RULE("allow: all, topic: $share/g/a"), "t:2: topic: $share/g/a: rules speak of topics, leave $share/NAME/ away"},
    {RULE("allow: all, topic: $share/#"), "t:2: topic: $share/#: rules speak of topics, leave $share/NAME/ away"},
    {RULE("allow: all, topic: a, user: 'al*'"), "t:2: user: * stands alone, for any user that has a name"},
    {RULE("allow: all, topic: a, user: ['*', 'a*']"), "t:2: user: * stands alone, for any user that has a name"},
    {RULE("allow: all, topic: a, role: '*'"), "t:2: role: * has no meaning here"},
    {RULE("allow: all, topic: a, listener: 'a*'"), "t:2: listener: * has no meaning here"},
    {RULE("allow: all, topic: a, client_id: 'a*b'"), "t:2: client_id: * stands at the end only, for any that begin so"},
    {RULE("allow: all, topic: a, client_id: 'a**'"), "t:2: client_id: * stands at the end only, for any that begin so"},
    {RULE("allow: all, topic: a, address: home"),
     "t:2: address: home is not an address or a network such as 10.0.0.0/8"},
    {RULE("allow: all, topic: a, address: [10.0.0.0/8, 10.0.0.1/8]"),
     "t:2: address: 10.0.0.1/8 is not an address or a network such as 10.0.0.0/8"},
    {RULE("allow: all, topic: a, qos: 3"), "t:2: qos: 3 is not 0, 1 or 2"},
    {RULE("allow: all, topic: a, qos: [0, 01]"), "t:2: qos: 01 is not 0, 1 or 2"},
    {RULE("allow: receive, topic: a, qos: 0"),
     "t:2: qos: is asked of publish and subscribe, the rule is about neither"},
    {RULE("allow: all, topic: a, retain: yes"), "t:2: retain: must be true or false"},
    {RULE("allow: all, topic: a, retain: [true, false]"), "t:2: retain: must be true or false"},
    {RULE("allow: subscribe, topic: a, retain: true"), "t:2: retain: is asked of publish, the rule is not about that"},
    /* what stands before a mistake does not count */
    {RULE("allow: all, topic: a") "- {allow: all}\n", "t:3: the rule lacks its topic"},
    {RULE("allow: all, topic: a") "more: 1\n", "t:3: more: is unknown; a file has roles and rules"},
};

static void test_bad(void)
{
    for (size_t i = 0; i < COUNT_OF(bad_rows); i++) {
        char error[600] = "";
        struct acl *acl = NULL;
        CHECK_CASE(bad_rows[i].text,
                   acl_parse(slice_str(bad_rows[i].text), "t", error, sizeof(error), &acl) == -EINVAL && !acl);
        CHECK_CASE(error, strcmp(error, bad_rows[i].error) == 0);
    }
}

/* ---- bounds ---- */

/* head, then part count times, then tail. */
static char *repeated(const char *head, const char *part, size_t count, const char *tail)
{
    size_t part_len = strlen(part), len = strlen(head);
    char *text = malloc(len + count * part_len + strlen(tail) + 1);

    memcpy(text, head, len);
    for (size_t i = 0; i < count; i++, len += part_len) {
        memcpy(text + len, part, part_len);
    }
    strcpy(text + len, tail);
    return text;
}

static void test_bounds(void)
{
    static const struct {
        const char *head, *part, *tail;
        size_t most;
        const char *error; /* one more */
    } rows[] = {
        {"rules:\n", "- {deny: all, topic: a}\n", "", ACL_RULES_MAX, "t:100002: rules: more than 100000"},
        {"rules: [{deny: all, topic: a, user: [", "u, ", "]}]", ACL_LIST_MAX, "t:1: user: more than 1000 values"},
        {"rules: [{deny: all, topic: [", "u, ", "]}]", ACL_LIST_MAX, "t:1: topic: more than 1000 values"},
        {"roles: {r: [", "u, ", "]}", ACL_LIST_MAX, "t:1: roles: more than 1000 values"},
        {"rules: [{deny: all, topic: ", "a", "}]", ACL_TEXT_MAX, "t:1: topic: a value is longer than 65535 bytes"},
        {"rules: [{deny: all, topic: \"", "/", "\"}]", ACL_TEXT_MAX, "t:1: topic: a value is longer than 65535 bytes"},
        {"", "#\n", "", ACL_BYTES_MAX / 2, "t: is larger than 16 MiB"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (size_t more = 0; more < 2; more++) {
            char error[600] = "", *text = repeated(rows[i].head, rows[i].part, rows[i].most + more, rows[i].tail);
            struct acl *acl = NULL;
            int rc = acl_parse(slice_str(text), "t", error, sizeof(error), &acl);
            CHECK_CASE(rows[i].error, rc == (more ? -EINVAL : 0) && (acl == NULL) == (rc != 0));
            CHECK_CASE(error, !more || strcmp(error, rows[i].error) == 0);
            acl_free(acl);
            free(text);
        }
    }
}

/* Deep nesting ends at its second level, whatever the depth. */
static void test_nesting(void)
{
    char error[600] = "", *text = repeated("rules: ", "[", 1000000, "");
    struct acl *acl = NULL;

    CHECK(acl_parse(slice_str(text), "t", error, sizeof(error), &acl) == -EINVAL);
    free(text);
}

/* ---- claims ---- */

static void test_claim(void)
{
    static const struct {
        const char *json;
        size_t rules;
        const char *error; /* NULL: taken */
    } rows[] = {
        {"[]", 0, NULL},
        {"[{\"allow\": \"publish\", \"topic\": \"a/#\"}]", 1, NULL},
        {"[{\"allow\":[\"publish\",\"subscribe\"],\"topic\":[\"a/%c\"],\"qos\":[0,1],\"retain\":false},"
         "{\"deny\":\"all\",\"topic\":\"\\u0024SYS\\/#\"}]",
         2, NULL},
        {"", 0, "claim:1: rules: must be a list"},
        {"null", 0, "claim:1: rules: must be a list"},
        {"{\"rules\": []}", 0, "claim:1: rules: must be a list"},
        {"[\"a\"]", 0, "claim:1: rules: an entry must be a mapping such as {allow: publish, topic: a/#}"},
        {"[{\"allow\": \"all\", \"topic\": null}]", 0, "claim:1: topic: has no value"},
        {"[{\"allow\": \"all\", \"topic\": \"a\"}", 0, "claim:2: this is not YAML: did not find expected ',' or ']'"},
        {"[] []", 0, "claim:1: this is not YAML: did not find expected <document start>"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char error[600] = "";
        struct acl *acl = NULL;
        int rc = acl_parse_claim(slice_str(rows[i].json), error, sizeof(error), &acl);
        CHECK_CASE(rows[i].json, rc == (rows[i].error ? -EINVAL : 0) && (acl == NULL) == (rc != 0));
        CHECK_CASE(error, strcmp(error, rows[i].error ? rows[i].error : "") == 0);
        CHECK_CASE(rows[i].json, !acl || acl_count(acl) == rows[i].rules);
        acl_free(acl);
    }
    for (size_t more = 0; more < 2; more++) {
        char error[600] = "", *text = repeated("[", "{\"deny\":\"all\",\"topic\":\"a\"},", 256 + more, "]");
        struct acl *acl = NULL;
        CHECK(acl_parse_claim(slice_str(text), error, sizeof(error), &acl) == (more ? -EINVAL : 0));
        CHECK_CASE(error, strcmp(error, more ? "claim:1: rules: more than 256" : "") == 0);
        acl_free(acl);
        free(text);
    }
}

/* A claim that was cut off is no claim: what stands in front of the cut gives nothing. */
static void test_cut(void)
{
    static const char json[] = "[{\"allow\":[\"publish\",\"receive\"],\"topic\":[\"a/b\",\"%c/#\"],\"user\":\"x\"},\n"
                               " {\"deny\":\"all\",\"topic\":\"#\"}]";

    for (size_t len = 0; len < sizeof(json); len++) {
        uint8_t *copy = malloc(len + (len == 0)); /* ASan sees one byte over */
        char error[600] = "";
        struct acl *acl = NULL;
        memcpy(copy, json, len);
        int rc = acl_parse_claim(slice_of(copy, len), error, sizeof(error), &acl);
        CHECK_CASE(error, rc == (len < sizeof(json) - 1 ? -EINVAL : 0));
        acl_free(acl);
        free(copy);
    }
}

/* ---- files ---- */

static void test_file(void)
{
    char path[] = "acl_read_test.XXXXXX", error[600] = "", want[100];
    struct acl *acl = NULL;
    int fd = mkstemp(path);

    CHECK(fd >= 0 && write(fd, "rules: [{allow: all, topic: a}]\n", 32) == 32);
    CHECK(acl_read(path, error, sizeof(error), &acl) == 0);
    CHECK(acl && acl_count(acl) == 1);
    acl_free(acl);
    acl = NULL;
    CHECK(write(fd, "x: y\n", 5) == 5);
    CHECK(acl_read(path, error, sizeof(error), &acl) == -EINVAL && !acl);
    snprintf(want, sizeof(want), "%s:2: x: is unknown; a file has roles and rules", path);
    CHECK_CASE(error, strcmp(error, want) == 0);
    CHECK(ftruncate(fd, ACL_BYTES_MAX + 1) == 0);
    CHECK(acl_read(path, error, sizeof(error), &acl) == -EINVAL);
    snprintf(want, sizeof(want), "%s: is larger than 16 MiB", path);
    CHECK_CASE(error, strcmp(error, want) == 0);
    close(fd);
    unlink(path);
    CHECK(acl_read(path, error, sizeof(error), &acl) == -EINVAL);
    snprintf(want, sizeof(want), "%s: cannot be read: No such file or directory", path);
    CHECK_CASE(error, strcmp(error, want) == 0);
    CHECK(acl_read("/", error, sizeof(error), &acl) == -EINVAL && !acl);
    CHECK_CASE(error, strcmp(error, "/: cannot be read: Is a directory") == 0);
}

UNIT_MAIN("broker/auth/acl_read", {"what is taken", test_good}, {"what is refused", test_bad}, {"bounds", test_bounds},
          {"nesting", test_nesting}, {"claims", test_claim}, {"a claim cut off", test_cut}, {"files", test_file})
