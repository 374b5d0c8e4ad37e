/* fuzz_acl.c -- access rules from any text, and made-up rules asked everything.
 *
 * The first byte chooses. '[' begins a claim, 'r' ("rules", "roles") and '{' a file: an answer of 0, or -EINVAL with
 * one line; and a claim that is taken gives nothing when its last byte is cut off. Otherwise the bytes make rules,
 * which are written as a file, read, and asked by several subjects about many topics and filters: each answer must be
 * that of a plain evaluation, which puts %u and %c in and knows neither index nor compiled filters. The rules of a
 * prefix must decide the same wherever they decide, for the first rule that fits does. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/acl_rule.h"
#include "proto/mqtt/topic.h"
#include "tests/fuzz/ops.h"

#define RULES_MAX 6
#define FILTER_SIZE 64

/* ---- any text ---- */

static void check_text(struct slice text, bool claim)
{
    char error[1024] = "";
    struct acl *acl = NULL;
    uint8_t *copy = malloc(text.len + (text.len == 0)); /* exact size: one byte over is seen */
    const char *name = claim ? "claim:" : "t:";

    memcpy(copy, text.ptr, text.len);
    text.ptr = copy;
    int rc =
        claim ? acl_parse_claim(text, error, sizeof(error), &acl) : acl_parse(text, "t", error, sizeof(error), &acl);
    require((rc == 0) == (acl != NULL));
    require(rc == 0 || (rc == -EINVAL && strncmp(error, name, strlen(name)) == 0 && !strchr(error, '\n')));
    if (rc == 0 && claim && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']') {
        struct acl *cut = NULL;
        require(acl_parse_claim(slice_of(text.ptr, text.len - 1), error, sizeof(error), &cut) == -EINVAL);
    }
    acl_free(acl);
    free(copy);
}

/* ---- rules, and what they say by the letter of the contract ---- */

struct plain_rule {
    bool deny, named, any_named, by_role, by_client, by_listener, by_address, has_retain, retain;
    uint8_t actions, qos; /* masks; qos 0: no condition */
    const char *user;     /* named, beside "a" */
    unsigned filter_count;
    char filters[2][FILTER_SIZE];
};

static const char *const users[] = {"a", "b", "$s", "a/b", "+"};
static const char *const levels[] = {"a", "b", "+", "$s", "", "%u", "%c", "x%c", "%%"};

static void make_filter(struct slice *in, char text[FILTER_SIZE])
{
    unsigned count = 1 + ops_byte(in) % 3;

    text[0] = '\0';
    for (unsigned i = 0; i < count; i++) {
        strcat(text, i > 0 ? "/" : "");
        strcat(text, levels[ops_byte(in) % COUNT_OF(levels)]);
    }
    if (ops_byte(in) & 1) {
        strcat(text, "/#");
    }
    if (text[0] == '\0') {
        strcpy(text, "#");
    }
}

static struct plain_rule make_rule(struct slice *in)
{
    static const uint8_t actions[] = {ACL_DO_PUBLISH, ACL_DO_SUBSCRIBE | ACL_DO_RECEIVE, ACL_DO_RECEIVE,
                                      ACL_DO_PUBLISH | ACL_DO_SUBSCRIBE | ACL_DO_RECEIVE};
    uint8_t a = ops_byte(in), b = ops_byte(in);
    struct plain_rule r = {
        .deny = a & 1,
        .actions = actions[a >> 1 & 3],
        .named = (a >> 3 & 3) == 1,
        .any_named = (a >> 3 & 3) == 2,
        .user = users[(a >> 5) % COUNT_OF(users)],
        .by_role = (b & 3) == 3,
        .by_client = (b >> 2 & 3) == 3,
        .by_listener = (b >> 4 & 3) == 3,
        .by_address = (b >> 6 & 3) == 3,
    };
    uint8_t c = ops_byte(in);
    r.qos = r.actions != ACL_DO_RECEIVE && c & 1 ? c >> 1 & 7 : 0;
    r.has_retain = r.actions & ACL_DO_PUBLISH && c >> 4 & 1;
    r.retain = c >> 5 & 1;
    r.filter_count = 1 + (c >> 6 & 1);
    for (unsigned i = 0; i < r.filter_count; i++) {
        make_filter(in, r.filters[i]);
    }
    return r;
}

static const char *action_word(uint8_t actions)
{
    return actions == ACL_DO_PUBLISH                       ? "publish"
           : actions == ACL_DO_RECEIVE                     ? "receive"
           : actions & ACL_DO_PUBLISH /* and the others */ ? "all"
                                                           : "subscribe";
}

static void print_rule(FILE *out, const struct plain_rule *r)
{
    fprintf(out, "- %s: %s\n  topic: ['%s', '%s']\n", r->deny ? "deny" : "allow", action_word(r->actions),
            r->filters[0], r->filters[r->filter_count - 1]);
    if (r->named) {
        fprintf(out, "  user: [nobody, '%s', a]\n", r->user);
    }
    fputs(r->any_named ? "  user: '*'\n" : "", out);
    fputs(r->by_role ? "  role: r\n" : "", out);
    fputs(r->by_client ? "  client_id: [q, 'b*']\n" : "", out);
    fputs(r->by_listener ? "  listener: l\n" : "", out);
    fputs(r->by_address ? "  address: 10.0.0.0/8\n" : "", out);
    if (r->qos) {
        fprintf(out, "  qos: [%s%s%s]\n", r->qos & 1 ? "0, " : "", r->qos & 2 ? "1, " : "", r->qos & 4 ? "2" : "");
    }
    if (r->has_retain) {
        fprintf(out, "  retain: %s\n", r->retain ? "true" : "false");
    }
}

static struct acl *read_rules(const struct plain_rule *rules, unsigned count)
{
    char *text = NULL, error[1024] = "";
    size_t len = 0;
    struct acl *acl = NULL;
    FILE *out = open_memstream(&text, &len);

    assert(out);
    fputs("roles: {r: [b, a/b]}\nrules:\n", out);
    for (unsigned i = 0; i < count; i++) {
        print_rule(out, &rules[i]);
    }
    fclose(out);
    if (acl_parse(slice_of(text, len), "t", error, sizeof(error), &acl) != 0) {
        fprintf(stderr, "%s\n%s", error, text);
        abort();
    }
    require(acl_count(acl) == count);
    free(text);
    return acl;
}

/* ---- the plain evaluation ---- */

struct asker {
    const char *user, *client_id, *role, *listener;
    int address; /* 0: not known, 10: within the network, 11: outside */
};

static const struct asker askers[] = {
    {"", "", NULL, "l", 0},    {"a", "b", NULL, "l", 10}, {"b", "x", NULL, "m", 11}, {"a/b", "bb", "r", "l", 10},
    {"$s", "$s", "q", "m", 0}, {"+", "#", "r", "l", 11},  {"a", "+", NULL, "m", 10}, {"%c", "a", "r", "l", 11},
};

/* Put the values in. False if one lacks, or may not stand here. */
static bool put_values(const char *template, const struct asker *who, char text[FILTER_SIZE])
{
    size_t len = 0;

    for (const char *at = template; *at; at++) {
        if (*at != '%' || *++at == '%') {
            text[len++] = *at;
            continue;
        }
        const char *value = *at == 'u' ? who->user : who->client_id;
        if (!*value || strpbrk(value, "+#/") || (len == 0 && *value == '$')) {
            return false;
        }
        len += (size_t)sprintf(text + len, "%s", value);
    }
    text[len] = '\0';
    return true;
}

/* The comparing functions have a test of their own, against all small topics. Here they are asked about texts with the
 * values in them, and must agree with the definition about whatever topic comes along. */
static void compare(struct slice by, const struct acl_request *request, struct slice topic, bool *ret_covers,
                    bool *ret_overlaps)
{
    bool matches = mqtt_filter_matches(by, topic);

    if (request->action != ACL_SUBSCRIBE) {
        *ret_covers = *ret_overlaps = matches;
        return;
    }
    *ret_covers = acl_filter_covers(by, request->topic);
    *ret_overlaps = acl_filter_overlaps(by, request->topic);
    require(*ret_overlaps == acl_filter_overlaps(request->topic, by));
    require(*ret_overlaps || !*ret_covers);
    if (mqtt_filter_matches(request->topic, topic)) {
        require(matches ? *ret_overlaps : !*ret_covers);
    }
}

static bool plain_suits(const struct plain_rule *r, const struct asker *who)
{
    if ((r->named && strcmp(who->user, r->user) != 0 && strcmp(who->user, "a") != 0) || (r->any_named && !*who->user)) {
        return false;
    }
    if (r->by_role && !(who->role && strcmp(who->role, "r") == 0) && strcmp(who->user, "b") != 0 &&
        strcmp(who->user, "a/b") != 0) {
        return false;
    }
    if ((r->by_client && who->client_id[0] != 'b') || (r->by_listener && strcmp(who->listener, "l") != 0)) {
        return false;
    }
    return !r->by_address || who->address == 10 || (who->address == 0 && r->deny);
}

/* Whether the rule decides; and whether it holds back some of what is subscribed to. */
static bool plain_decides(const struct plain_rule *r, const struct asker *who, const struct acl_request *request,
                          struct slice topic, bool *ret_withholds)
{
    bool covers = false, overlaps = false, lacks = false, qos = r->qos != 0 && r->qos != 7;
    bool subscribe = request->action == ACL_SUBSCRIBE;

    *ret_withholds = false;
    for (unsigned i = 0; i < r->filter_count; i++) {
        char text[FILTER_SIZE];
        bool one_covers, one_overlaps;
        if (!put_values(r->filters[i], who, text)) {
            lacks = true;
            continue;
        }
        compare(slice_str(text), request, topic, &one_covers, &one_overlaps);
        covers = covers || one_covers;
        overlaps = overlaps || one_overlaps;
    }
    if (lacks) {
        covers = overlaps = r->deny;
    }
    if (!plain_suits(r, who)) {
        return false;
    }
    *ret_withholds = subscribe && r->deny && r->actions & ACL_DO_RECEIVE && !qos && overlaps;
    if (!(r->actions >> request->action & 1)) {
        return false;
    }
    if (qos && (request->action == ACL_RECEIVE ? r->deny : !(r->qos >> request->qos & 1))) {
        return false;
    }
    if (r->has_retain && request->action == ACL_PUBLISH && r->retain != request->retain) {
        return false;
    }
    return qos && subscribe && r->deny ? overlaps : covers;
}

static enum acl_verdict plain_check(const struct plain_rule *rules, unsigned count, const struct asker *who,
                                    const struct acl_request *request, struct slice topic, bool *ret_partial)
{
    *ret_partial = false;
    for (unsigned i = 0; i < count; i++) {
        bool withholds;
        if (plain_decides(&rules[i], who, request, topic, &withholds)) {
            return rules[i].deny ? ACL_DENY : ACL_ALLOW;
        }
        *ret_partial |= withholds;
    }
    return ACL_NONE;
}

/* ---- both asked ---- */

struct rule_sets {
    struct plain_rule rules[RULES_MAX];
    unsigned count, part_count;
    struct acl *all, *part; /* part: the first part_count rules */
};

/* topic: some topic, the one asked about if it is one. */
static void check_request(const struct rule_sets *sets, const struct asker *who, const struct acl_request *request,
                          struct slice topic)
{
    struct slice role = slice_str(who->role ? who->role : "");
    struct acl_subject subject = {
        .user = slice_str(who->user),
        .client_id = slice_str(who->client_id),
        .listener = slice_str(who->listener),
        .roles = &role,
        .role_count = who->role != NULL,
    };
    bool partial = false, want_partial;

    if (who->address) {
        uint8_t mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, (uint8_t)who->address, 0, 0, 1};
        memcpy(&subject.address, mapped, sizeof(mapped));
    }
    enum acl_verdict got = acl_check(sets->all, &subject, request, &partial);
    require(got == plain_check(sets->rules, sets->count, who, request, topic, &want_partial));
    require(partial == want_partial);
    require(got == acl_check(sets->all, &subject, request, NULL));
    enum acl_verdict part = acl_check(sets->part, &subject, request, NULL);
    require(part == ACL_NONE || part == got);
}

static void check_rules(struct slice in)
{
    struct rule_sets sets = {.count = 1 + ops_byte(&in) % RULES_MAX};

    sets.part_count = ops_byte(&in) % (sets.count + 1);
    for (unsigned i = 0; i < sets.count; i++) {
        sets.rules[i] = make_rule(&in);
    }
    sets.all = read_rules(sets.rules, sets.count);
    sets.part = read_rules(sets.rules, sets.part_count);
    for (unsigned round = 0; round < 8; round++) {
        char topic[OPS_TEXT_MAX], filter[OPS_TEXT_MAX];
        uint8_t byte = ops_byte(&in), how = ops_byte(&in);
        struct slice name = ops_text(byte, false, topic), wild = ops_text(byte, true, filter);
        for (size_t i = 0; i < COUNT_OF(askers); i++) {
            struct acl_request request = {ACL_PUBLISH, name, how % 3, how >> 7};
            check_request(&sets, &askers[i], &request, name);
            request.action = ACL_RECEIVE;
            check_request(&sets, &askers[i], &request, name);
            request = (struct acl_request){ACL_SUBSCRIBE, wild, how % 3, false};
            check_request(&sets, &askers[i], &request, name);
        }
    }
    acl_free(sets.all);
    acl_free(sets.part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    uint8_t first = ops_byte(&in);

    if (first == '[') {
        check_text(slice_of(data, size), true);
    } else if (first == 'r' || first == '{') {
        check_text(slice_of(data, size), false);
    } else {
        check_rules(in);
    }
    return 0;
}
