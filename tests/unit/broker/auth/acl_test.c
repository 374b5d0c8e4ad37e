#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/acl.h"
#include "broker/base/network.h"
#include "tests/lib/unit.h"

static struct acl *rules_of(const char *text)
{
    char error[600] = "";
    struct acl *acl = NULL;

    int rc = acl_parse(slice_str(text), "t", error, sizeof(error), &acl);
    CHECK_CASE(rc ? error : text, rc == 0);
    return acl;
}

/* Who asks, and what; the row's NULL fields are empty. */
struct question {
    enum acl_action action;
    const char *topic, *user, *client_id, *listener, *address, *role;
    uint8_t qos;
    bool retain;
};

#define PUBLISH(...) \
    { \
        .action = ACL_PUBLISH, .topic = __VA_ARGS__ \
    }
#define SUBSCRIBE(...) \
    { \
        .action = ACL_SUBSCRIBE, .topic = __VA_ARGS__ \
    }
#define RECEIVE(...) \
    { \
        .action = ACL_RECEIVE, .topic = __VA_ARGS__ \
    }

static enum acl_verdict ask(const struct acl *acl, const struct question *q, bool *ret_partial)
{
    struct slice role = slice_str(q->role ? q->role : "");
    struct acl_subject subject = {
        .user = slice_str(q->user ? q->user : ""),
        .client_id = slice_str(q->client_id ? q->client_id : ""),
        .listener = slice_str(q->listener ? q->listener : ""),
        .roles = &role,
        .role_count = q->role != NULL,
    };
    struct acl_request request = {q->action, slice_str(q->topic), q->qos, q->retain};

    if (q->address) {
        CHECK_CASE(q->address, address_parse(slice_str(q->address), &subject.address) == 0);
    }
    return acl_check(acl, &subject, &request, ret_partial);
}

/* ---- one rule, and what decides whether it fits ---- */

#define ROLES "roles: {operators: [alice, bob], nobody: []}\n"
#define RULE(body) ROLES "rules: [{" body "}]"

static const struct {
    const char *rule;
    struct question question;
    enum acl_verdict want;
} rule_rows[] = {
    /* the action */
    {RULE("allow: publish, topic: a"), PUBLISH("a"), ACL_ALLOW},
    {RULE("allow: publish, topic: a"), SUBSCRIBE("a"), ACL_NONE},
    {RULE("allow: publish, topic: a"), RECEIVE("a"), ACL_NONE},
    {RULE("allow: subscribe, topic: a"), PUBLISH("a"), ACL_NONE},
    {RULE("allow: subscribe, topic: a"), SUBSCRIBE("a"), ACL_ALLOW},
    {RULE("allow: subscribe, topic: a"), RECEIVE("a"), ACL_ALLOW},
    {RULE("allow: receive, topic: a"), SUBSCRIBE("a"), ACL_NONE},
    {RULE("allow: receive, topic: a"), RECEIVE("a"), ACL_ALLOW},
    {RULE("allow: [publish, receive], topic: a"), PUBLISH("a"), ACL_ALLOW},
    {RULE("allow: [publish, receive], topic: a"), SUBSCRIBE("a"), ACL_NONE},
    {RULE("deny: all, topic: a"), PUBLISH("a"), ACL_DENY},
    {RULE("deny: all, topic: a"), SUBSCRIBE("a"), ACL_DENY},
    {RULE("deny: all, topic: a"), RECEIVE("a"), ACL_DENY},
    /* the topic */
    {RULE("allow: all, topic: a/+"), PUBLISH("a/b"), ACL_ALLOW},
    {RULE("allow: all, topic: a/+"), PUBLISH("a/b/c"), ACL_NONE},
    {RULE("allow: all, topic: a/#"), PUBLISH("a"), ACL_ALLOW},
    {RULE("allow: all, topic: [b, abcdefgh1, abcdefgh2]"), PUBLISH("abcdefgh2"), ACL_ALLOW},
    {RULE("allow: all, topic: [abcdefgh1, abcdefgh2]"), PUBLISH("abcdefgh2"), ACL_ALLOW},
    {RULE("allow: all, topic: [abcdefgh1, abcdefgh2]"), PUBLISH("abcdefgh3"), ACL_NONE},
    {RULE("allow: all, topic: [abcd/x, abce/x]"), PUBLISH("abce/x"), ACL_ALLOW},
    {RULE("allow: all, topic: [ab, abc]"), PUBLISH("ab"), ACL_ALLOW},
    {RULE("allow: all, topic: [a/+, a/b/c]"), PUBLISH("a/d"), ACL_ALLOW},
    {RULE("allow: all, topic: '/#'"), PUBLISH("/"), ACL_ALLOW},
    {RULE("allow: all, topic: '#'"), PUBLISH("$SYS/x"), ACL_NONE},
    {RULE("allow: all, topic: '+/x'"), PUBLISH("$SYS/x"), ACL_NONE},
    {RULE("deny: all, topic: '#'"), SUBSCRIBE("$SYS/#"), ACL_NONE},
    {RULE("allow: all, topic: $SYS/#"), SUBSCRIBE("$SYS/+"), ACL_ALLOW},
    /* what an allow rule covers in part it does not allow, nor does a deny rule deny it */
    {RULE("allow: subscribe, topic: a/+"), SUBSCRIBE("a/#"), ACL_NONE},
    {RULE("allow: subscribe, topic: a/#"), SUBSCRIBE("a/+/b"), ACL_ALLOW},
    {RULE("deny: subscribe, topic: a/+"), SUBSCRIBE("a/#"), ACL_NONE},
    {RULE("deny: subscribe, topic: a/#"), SUBSCRIBE("a/+/b"), ACL_DENY},
    /* the user */
    {RULE("allow: all, topic: a, user: alice"), PUBLISH("a", .user = "alice"), ACL_ALLOW},
    {RULE("allow: all, topic: a, user: alice"), PUBLISH("a", .user = "bob"), ACL_NONE},
    {RULE("allow: all, topic: a, user: alice"), PUBLISH("a"), ACL_NONE},
    {RULE("allow: all, topic: a, user: [alice, carol]"), PUBLISH("a", .user = "carol"), ACL_ALLOW},
    {RULE("allow: all, topic: a, user: [carol, carol]"), PUBLISH("a", .user = "carol"), ACL_ALLOW},
    {RULE("allow: all, topic: a, user: '*'"), PUBLISH("a", .user = "x"), ACL_ALLOW},
    {RULE("allow: all, topic: a, user: '*'"), PUBLISH("a"), ACL_NONE},
    {RULE("allow: all, topic: a, user: [x, '*', y]"), PUBLISH("a", .user = "z"), ACL_ALLOW},
    /* the role: of the file, and brought along */
    {RULE("allow: all, topic: a, role: operators"), PUBLISH("a", .user = "bob"), ACL_ALLOW},
    {RULE("allow: all, topic: a, role: operators"), PUBLISH("a", .user = "carol"), ACL_NONE},
    {RULE("allow: all, topic: a, role: operators"), PUBLISH("a"), ACL_NONE},
    {RULE("allow: all, topic: a, role: operators"), PUBLISH("a", .user = "carol", .role = "operators"), ACL_ALLOW},
    {RULE("allow: all, topic: a, role: operators"), PUBLISH("a", .user = "carol", .role = "operator"), ACL_NONE},
    {RULE("allow: all, topic: a, role: [x, operators]"), PUBLISH("a", .user = "alice"), ACL_ALLOW},
    {RULE("allow: all, topic: a, role: nobody"), PUBLISH("a", .user = "alice"), ACL_NONE},
    {RULE("allow: all, topic: a, role: unheard"), PUBLISH("a", .role = "unheard"), ACL_ALLOW},
    /* the client id */
    {RULE("allow: all, topic: a, client_id: c1"), PUBLISH("a", .client_id = "c1"), ACL_ALLOW},
    {RULE("allow: all, topic: a, client_id: c1"), PUBLISH("a", .client_id = "c12"), ACL_NONE},
    {RULE("allow: all, topic: a, client_id: 'c1*'"), PUBLISH("a", .client_id = "c12"), ACL_ALLOW},
    {RULE("allow: all, topic: a, client_id: 'c1*'"), PUBLISH("a", .client_id = "c1"), ACL_ALLOW},
    {RULE("allow: all, topic: a, client_id: 'c1*'"), PUBLISH("a", .client_id = "c"), ACL_NONE},
    {RULE("allow: all, topic: a, client_id: ['x*', c]"), PUBLISH("a", .client_id = "c"), ACL_ALLOW},
    {RULE("allow: all, topic: a, client_id: '*'"), PUBLISH("a"), ACL_ALLOW},
    /* the address; where it is not known a deny rule fits */
    {RULE("allow: all, topic: a, address: 10.0.0.0/8"), PUBLISH("a", .address = "10.1.2.3"), ACL_ALLOW},
    {RULE("allow: all, topic: a, address: 10.0.0.0/8"), PUBLISH("a", .address = "11.1.2.3"), ACL_NONE},
    {RULE("allow: all, topic: a, address: 10.0.0.0/8"), PUBLISH("a"), ACL_NONE},
    {RULE("allow: all, topic: a, address: 0.0.0.0/0"), PUBLISH("a"), ACL_NONE},
    {RULE("allow: all, topic: a, address: ['::1', 10.0.0.1]"), PUBLISH("a", .address = "::1"), ACL_ALLOW},
    {RULE("deny: all, topic: a, address: 10.0.0.0/8"), PUBLISH("a", .address = "11.1.2.3"), ACL_NONE},
    {RULE("deny: all, topic: a, address: 10.0.0.0/8"), PUBLISH("a", .address = "10.1.2.3"), ACL_DENY},
    {RULE("deny: all, topic: a, address: 10.0.0.0/8"), PUBLISH("a"), ACL_DENY},
    /* the listener */
    {RULE("allow: all, topic: a, listener: public"), PUBLISH("a", .listener = "public"), ACL_ALLOW},
    {RULE("allow: all, topic: a, listener: public"), PUBLISH("a", .listener = "inside"), ACL_NONE},
    {RULE("allow: all, topic: a, listener: public"), PUBLISH("a"), ACL_NONE},
    /* QoS: what is published with or asked for; not at delivery, where an allow rule stands and a deny rule has spoken
     */
    {RULE("allow: all, topic: a, qos: [0, 1]"), PUBLISH("a", .qos = 1), ACL_ALLOW},
    {RULE("allow: all, topic: a, qos: [0, 1]"), PUBLISH("a", .qos = 2), ACL_NONE},
    {RULE("allow: all, topic: a, qos: 1"), SUBSCRIBE("a", .qos = 1), ACL_ALLOW},
    {RULE("allow: all, topic: a, qos: 1"), SUBSCRIBE("a", .qos = 0), ACL_NONE},
    {RULE("allow: all, topic: a, qos: 1"), RECEIVE("a", .qos = 0), ACL_ALLOW},
    {RULE("deny: all, topic: a, qos: 0"), RECEIVE("a", .qos = 0), ACL_NONE},
    {RULE("deny: all, topic: a, qos: [0, 1, 2]"), RECEIVE("a", .qos = 0), ACL_DENY},
    {RULE("deny: all, topic: a, qos: 2"), SUBSCRIBE("#", .qos = 2), ACL_DENY},
    {RULE("deny: all, topic: a, qos: 2"), SUBSCRIBE("#", .qos = 1), ACL_NONE},
    {RULE("deny: all, topic: a, qos: 2"), SUBSCRIBE("b/#", .qos = 2), ACL_NONE},
    /* retain: asked of publish alone */
    {RULE("allow: all, topic: a, retain: false"), PUBLISH("a"), ACL_ALLOW},
    {RULE("allow: all, topic: a, retain: false"), PUBLISH("a", .retain = true), ACL_NONE},
    {RULE("deny: all, topic: a, retain: true"), PUBLISH("a", .retain = true), ACL_DENY},
    {RULE("deny: all, topic: a, retain: true"), PUBLISH("a"), ACL_NONE},
    {RULE("allow: all, topic: a, retain: true"), SUBSCRIBE("a"), ACL_ALLOW},
    /* all conditions must hold */
    {RULE("allow: all, topic: a, user: alice, client_id: c"), PUBLISH("a", .user = "alice", .client_id = "c"),
     ACL_ALLOW},
    {RULE("allow: all, topic: a, user: alice, client_id: c"), PUBLISH("a", .user = "alice", .client_id = "d"),
     ACL_NONE},
    {RULE("allow: all, topic: a, user: alice, client_id: c"), PUBLISH("a", .user = "bob", .client_id = "c"), ACL_NONE},
    /* %u and %c */
    {RULE("allow: all, topic: s/%u/#"), PUBLISH("s/alice/x", .user = "alice"), ACL_ALLOW},
    {RULE("allow: all, topic: s/%u/#"), PUBLISH("s/bob/x", .user = "alice"), ACL_NONE},
    {RULE("allow: all, topic: dev-%c/x"), PUBLISH("dev-7/x", .client_id = "7"), ACL_ALLOW},
    {RULE("allow: all, topic: dev-%c/x"), PUBLISH("dev-7/x", .user = "7"), ACL_NONE},
    {RULE("allow: all, topic: 100%%"), PUBLISH("100%"), ACL_ALLOW},
    {RULE("allow: all, topic: s/%u/#"), SUBSCRIBE("s/+/x", .user = "alice"), ACL_NONE},
    /* nobody gets more by a name with wildcards in it, or by none, and nobody escapes by one */
    {RULE("allow: all, topic: s/%u/#"), SUBSCRIBE("s/+/#", .user = "+"), ACL_NONE},
    {RULE("allow: all, topic: s/%u/x"), PUBLISH("s/a/b/x", .user = "a/b"), ACL_NONE},
    {RULE("allow: all, topic: s/%u"), PUBLISH("s/"), ACL_NONE},
    {RULE("allow: all, topic: [s/%u, b]"), PUBLISH("b"), ACL_NONE},
    {RULE("deny: all, topic: s/%c"), PUBLISH("b", .client_id = "a/b"), ACL_DENY},
    {RULE("deny: all, topic: s/%c"), SUBSCRIBE("$SYS/#", .client_id = "#"), ACL_DENY},
    {RULE("deny: all, topic: s/%u"), PUBLISH("b"), ACL_DENY},
    {RULE("deny: all, topic: s/%u, listener: x"), PUBLISH("b"), ACL_NONE},
    /* nobody names a topic of the broker by being called so */
    {RULE("allow: all, topic: '%c/#'"), SUBSCRIBE("$SYS/#", .client_id = "$SYS"), ACL_NONE},
    {RULE("deny: all, topic: '%c/#'"), SUBSCRIBE("b", .client_id = "$SYS"), ACL_DENY},
    {RULE("allow: all, topic: 's/%c/#'"), PUBLISH("s/$x/a", .client_id = "$x"), ACL_ALLOW},
};

static void test_rules(void)
{
    for (size_t i = 0; i < COUNT_OF(rule_rows); i++) {
        struct acl *acl = rules_of(rule_rows[i].rule);
        char name[200];
        snprintf(name, sizeof(name), "row %zu: %s, asked for %s", i, strchr(rule_rows[i].rule, '\n') + 1,
                 rule_rows[i].question.topic);
        CHECK_CASE(name, ask(acl, &rule_rows[i].question, NULL) == rule_rows[i].want);
        acl_free(acl);
    }
}

/* ---- several rules: their order, and what is withheld ---- */

static const char several[] = "rules:\n"
                              "- {allow: all, topic: a/public/#}\n"
                              "- {allow: all, topic: '#', user: root}\n"
                              "- {deny: subscribe, topic: a/secret/+, listener: public}\n"
                              "- {deny: receive, topic: r/x}\n"
                              "- {deny: publish, topic: p/x}\n"
                              "- {deny: subscribe, topic: q/x, qos: 2}\n"
                              "- {deny: all, topic: k/#, user: carl}\n"
                              "- {deny: all, topic: m/%u, client_id: 'm*'}\n"
                              "- {deny: receive, topic: n/%u, client_id: 'w*'}\n"
                              "- {allow: all, topic: [a/#, r/#, p/#, q/#, k/#]}\n"
                              "- {deny: all, topic: a/b/c}\n";

static const struct {
    struct question question;
    enum acl_verdict want;
    bool partial;
} several_rows[] = {
    {SUBSCRIBE("a/public/x", .listener = "public"), ACL_ALLOW, false},
    {SUBSCRIBE("a/#", .listener = "public"), ACL_ALLOW, true},
    {SUBSCRIBE("a/#", .listener = "inside"), ACL_ALLOW, false},
    {SUBSCRIBE("a/#", .user = "root", .listener = "public"), ACL_ALLOW, false}, /* decided before */
    {SUBSCRIBE("a/secret/+", .listener = "public"), ACL_DENY, false},
    {SUBSCRIBE("a/secret/#", .listener = "public"), ACL_ALLOW, true},
    {SUBSCRIBE("a/b/c"), ACL_ALLOW, false}, /* the rule behind comes too late */
    {SUBSCRIBE("r/#"), ACL_ALLOW, true},
    {SUBSCRIBE("r/x"), ACL_ALLOW, true}, /* a rule for receive does not decide, but withholds */
    {SUBSCRIBE("r/y"), ACL_ALLOW, false},
    {SUBSCRIBE("p/#"), ACL_ALLOW, false},           /* a rule for publish withholds nothing */
    {SUBSCRIBE("q/#", .qos = 2), ACL_DENY, false},  /* QoS cannot be asked for at delivery */
    {SUBSCRIBE("q/#", .qos = 1), ACL_ALLOW, false}, /* the deny rule does not fit */
    {SUBSCRIBE("k/#", .user = "carl"), ACL_DENY, false},
    {SUBSCRIBE("k/#", .user = "carlo"), ACL_ALLOW, false},
    {SUBSCRIBE("#", .user = "carl"), ACL_NONE, true}, /* no rule decides */
    {SUBSCRIBE("#", .user = "root"), ACL_ALLOW, false},
    {SUBSCRIBE("+", .user = "carl"), ACL_NONE, true}, /* "k" */
    {SUBSCRIBE("+"), ACL_NONE, false},
    {SUBSCRIBE("x/#"), ACL_NONE, false},
    {SUBSCRIBE("m/+", .user = "u", .client_id = "m1"), ACL_NONE, true},
    {SUBSCRIBE("m/+", .user = "u", .client_id = "n1"), ACL_NONE, false},
    {SUBSCRIBE("a/b", .client_id = "m1"), ACL_DENY, false}, /* no user for %u */
    {SUBSCRIBE("a/b", .client_id = "w1"), ACL_ALLOW, true}, /* the same for receive: all is withheld */
    {RECEIVE("a/b", .client_id = "w1"), ACL_DENY, false},
    {RECEIVE("a/secret/x", .listener = "public"), ACL_DENY, false},
    {RECEIVE("a/secret/x/y", .listener = "public"), ACL_ALLOW, false},
    {RECEIVE("a/public/x", .listener = "public"), ACL_ALLOW, false},
    {RECEIVE("r/x"), ACL_DENY, false},
    {RECEIVE("r/y"), ACL_ALLOW, false},
    {RECEIVE("p/x"), ACL_ALLOW, false},
    {RECEIVE("q/x", .qos = 2), ACL_ALLOW, false},
    {PUBLISH("p/x"), ACL_DENY, false},
    {PUBLISH("k/x", .user = "carl"), ACL_DENY, false},
    {PUBLISH("k/x", .user = "root"), ACL_ALLOW, false},
    {PUBLISH("z"), ACL_NONE, false},
};

static void test_several(void)
{
    struct acl *acl = rules_of(several);

    CHECK(acl_count(acl) == 11);
    for (size_t i = 0; i < COUNT_OF(several_rows); i++) {
        bool partial = !several_rows[i].partial;
        char name[100];
        snprintf(name, sizeof(name), "row %zu: %s", i, several_rows[i].question.topic);
        CHECK_CASE(name, ask(acl, &several_rows[i].question, &partial) == several_rows[i].want);
        CHECK_CASE(name, partial == several_rows[i].partial);
    }
    acl_free(acl);
}

/* Rules of many users lie apart and are merged with the common ones in the order of the file. */
static void test_index(void)
{
    enum { USERS = 500 };
    size_t size = USERS * 120, len = 0;
    char *text = malloc(size);

    len += (size_t)snprintf(text + len, size - len, "rules:\n");
    for (unsigned i = 0; i < USERS; i++) {
        const char *verdict = i % 2 ? "allow" : "deny";
        len += (size_t)snprintf(text + len, size - len, "- {%s: publish, topic: t/%u, user: [u%u, u%u]}\n", verdict, i,
                                i, (i + 1) % USERS);
        if (i % 100 == 50) {
            len += (size_t)snprintf(text + len, size - len, "- {allow: publish, topic: t/%u}\n", i + 10);
        }
    }
    struct acl *acl = rules_of(text);
    free(text);
    CHECK(acl_count(acl) == USERS + USERS / 100);
    for (unsigned user = 0; user < USERS; user++) {
        for (unsigned topic = 0; topic < USERS; topic++) {
            char user_text[16], topic_text[16];
            snprintf(user_text, sizeof(user_text), "u%u", user);
            snprintf(topic_text, sizeof(topic_text), "t/%u", topic);
            bool common = topic % 100 == 60, own = topic == user || (topic + 1) % USERS == user;
            enum acl_verdict want = common ? ACL_ALLOW : !own ? ACL_NONE : topic % 2 ? ACL_ALLOW : ACL_DENY;
            struct question q = PUBLISH(topic_text, .user = user_text);
            if (ask(acl, &q, NULL) != want) {
                CHECK_CASE(topic_text, false);
            }
        }
    }
    acl_free(acl);
}

static void test_none(void)
{
    struct acl *acl = rules_of("");
    struct question q = SUBSCRIBE("#");
    bool partial = true;

    CHECK(acl_count(acl) == 0);
    CHECK(ask(acl, &q, &partial) == ACL_NONE && !partial);
    acl_free(acl);
    acl_free(NULL);
}

UNIT_MAIN("broker/auth/acl", {"one rule", test_rules}, {"several rules", test_several},
          {"the index of users", test_index}, {"no rules", test_none})
