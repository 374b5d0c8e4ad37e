/* acl_read_rule.c -- one rule: its keys, and what each makes of its values. */
#include "broker/auth/acl_read.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "proto/mqtt/topic.h"

enum { KEY_QOS = 8, KEY_RETAIN = 9, KEYS_MAX = 10 };

/* The rule that is being read. */
struct draft {
    struct acl_rule rule;
    struct acl_terms terms;
    bool conditional;         /* terms has something */
    unsigned lines[KEYS_MAX]; /* where each key was set; 0: not yet */
};

static int read_actions(struct acl_reader *r, struct draft *d, enum acl_verdict verdict, const char *what)
{
    static const struct {
        const char *word;
        uint8_t actions;
    } words[] = {
        {"publish", ACL_DO_PUBLISH},
        {"subscribe", ACL_DO_SUBSCRIBE | ACL_DO_RECEIVE},
        {"receive", ACL_DO_RECEIVE},
        {"all", ACL_DO_PUBLISH | ACL_DO_SUBSCRIBE | ACL_DO_RECEIVE},
    };

    if (d->rule.verdict != ACL_NONE) {
        return acl_reader_fail(r, acl_reader_line(r), "%s: a rule has either allow or deny", what);
    }
    d->rule.verdict = (uint8_t)verdict;
    for (uint32_t i = 0; i < r->item_count; i++) {
        size_t w = 0;
        while (w < COUNT_OF(words) && strcmp(words[w].word, acl_item_text(&r->items[i])) != 0) {
            w++;
        }
        if (w == COUNT_OF(words)) {
            return acl_reader_fail(r, r->items[i].line, "%s: %s is not publish, subscribe, receive or all", what,
                                   acl_item_text(&r->items[i]));
        }
        d->rule.actions |= words[w].actions;
    }
    return 0;
}

static int read_allow(struct acl_reader *r, struct draft *d)
{
    return read_actions(r, d, ACL_ALLOW, "allow");
}

static int read_deny(struct acl_reader *r, struct draft *d)
{
    return read_actions(r, d, ACL_DENY, "deny");
}

/* How many bytes all filters of the rule begin with, eight at most: only text counts. */
static void head_set(struct acl_rule *rule)
{
    struct slice first = rule->filters[0].text;
    size_t len = 0;

    for (bool same = true; same && len < sizeof(rule->head) && len < first.len; len += same) {
        uint8_t byte = first.ptr[len];
        same = byte != 0 && byte != '+';
        for (uint32_t i = 1; same && i < rule->filter_count; i++) {
            struct slice text = rule->filters[i].text;
            same = len < text.len && text.ptr[len] == byte;
        }
    }
    rule->head = acl_head(slice_of(first.ptr, len));
    memset(&rule->head_mask, 0xff, len);
}

static int read_filter(struct acl_reader *r, struct draft *d, struct acl_item *item, struct acl_filter *ret_filter)
{
    struct slice text = item->text, share, inner;
    size_t len = text.len;

    if (mqtt_share_split(text, &share, &inner) != 0) {
        return acl_reader_fail(r, item->line, "topic: %s: rules speak of topics, leave $share/NAME/ away",
                               acl_item_text(item));
    }
    if (!mqtt_filter_valid(text, UINT_MAX)) {
        return acl_reader_fail(r, item->line, "topic: %s is not a topic filter", acl_item_text(item));
    }
    if (acl_filter_compile((uint8_t *)text.ptr, &len, &d->rule.needs) != 0) {
        return acl_reader_fail(r, item->line,
                               "topic: after %% stands u for the user, c for the client id, or %% for itself");
    }
    *ret_filter = acl_filter_of(slice_of(text.ptr, len));
    return 0;
}

static int read_topic(struct acl_reader *r, struct draft *d)
{
    struct acl_filter *filters = acl_alloc(r->acl, r->item_count * sizeof(*filters));

    if (!filters) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < r->item_count; i++) {
        int rc = read_filter(r, d, &r->items[i], &filters[i]);
        if (rc) {
            return rc;
        }
    }
    d->rule.filters = filters;
    d->rule.filter_count = r->item_count;
    head_set(&d->rule);
    return 0;
}

static int read_user(struct acl_reader *r, struct draft *d)
{
    for (uint32_t i = 0; i < r->item_count; i++) {
        if (strcmp(acl_item_text(&r->items[i]), "*") == 0) {
            d->rule.named_only = true;
            r->items[i--] = r->items[--r->item_count];
        }
    }
    int rc = acl_refuse_star(r, false, "user: * stands alone, for any user that has a name");
    if (rc || d->rule.named_only) {
        return rc;
    }
    return acl_items_keep(r, &d->rule.users);
}

static int read_role(struct acl_reader *r, struct draft *d)
{
    int rc = acl_refuse_star(r, false, "role: * has no meaning here");

    d->conditional = true;
    return rc ? rc : acl_items_keep(r, &d->terms.roles);
}

static int read_client_id(struct acl_reader *r, struct draft *d)
{
    int rc = acl_refuse_star(r, true, "client_id: * stands at the end only, for any that begin so");

    d->conditional = true;
    return rc ? rc : acl_items_keep(r, &d->terms.client_ids);
}

static int read_listener(struct acl_reader *r, struct draft *d)
{
    int rc = acl_refuse_star(r, false, "listener: * has no meaning here");

    d->conditional = true;
    return rc ? rc : acl_items_keep(r, &d->terms.listeners);
}

static int read_address(struct acl_reader *r, struct draft *d)
{
    struct network *networks = acl_alloc(r->acl, r->item_count * sizeof(*networks));

    if (!networks) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < r->item_count; i++) {
        if (network_parse(r->items[i].text, &networks[i]) != 0) {
            return acl_reader_fail(r, r->items[i].line, "address: %s is not an address or a network such as 10.0.0.0/8",
                                   acl_item_text(&r->items[i]));
        }
    }
    d->conditional = true;
    d->terms.networks = networks;
    d->terms.network_count = r->item_count;
    return 0;
}

static int read_qos(struct acl_reader *r, struct draft *d)
{
    d->rule.qos = 0;
    for (uint32_t i = 0; i < r->item_count; i++) {
        const char *text = acl_item_text(&r->items[i]);
        if (text[0] < '0' || text[0] > '2' || text[1] != '\0') {
            return acl_reader_fail(r, r->items[i].line, "qos: %s is not 0, 1 or 2", text);
        }
        d->rule.qos |= (uint8_t)(1 << (text[0] - '0'));
    }
    d->rule.qos = d->rule.qos == 7 ? ACL_ANY : d->rule.qos;
    return 0;
}

static int read_retain(struct acl_reader *r, struct draft *d)
{
    const char *text = acl_item_text(&r->items[0]);
    bool retain = strcmp(text, "true") == 0;

    if (r->item_count > 1 || (!retain && strcmp(text, "false") != 0)) {
        return acl_reader_fail(r, r->items[0].line, "retain: must be true or false");
    }
    d->rule.retain = (uint8_t)(1 << retain);
    return 0;
}

/* ---- rules ---- */

static const struct rule_key {
    const char *name;
    int (*read)(struct acl_reader *r, struct draft *d); /* of r->items */
} rule_keys[KEYS_MAX] = {
    {"allow", read_allow},         {"deny", read_deny},
    {"topic", read_topic},         {"user", read_user},
    {"role", read_role},           {"client_id", read_client_id},
    {"address", read_address},     {"listener", read_listener},
    [KEY_QOS] = {"qos", read_qos}, [KEY_RETAIN] = {"retain", read_retain},
};

static int read_key(struct acl_reader *r, struct draft *d)
{
    unsigned line = acl_reader_line(r);
    struct slice name;
    size_t k = 0;
    int rc = acl_read_text(r, "a key", &name);

    if (rc) {
        return rc;
    }
    while (k < COUNT_OF(rule_keys) && strcmp(rule_keys[k].name, (const char *)name.ptr) != 0) {
        k++;
    }
    if (k == COUNT_OF(rule_keys)) {
        return acl_reader_fail(r, line,
                               "%s: is unknown; a rule has allow or deny, topic, and may have user, role, client_id, "
                               "address, listener, qos, retain",
                               (const char *)name.ptr);
    }
    if (d->lines[k]) {
        return acl_reader_fail(r, line, "%s: set a second time, first in line %u", rule_keys[k].name, d->lines[k]);
    }
    d->lines[k] = line;
    rc = acl_reader_next(r);
    rc = rc ? rc : acl_read_items(r, rule_keys[k].name);
    if (rc == 0 && r->item_count == 0) {
        return acl_reader_fail(r, line, "%s: the list is empty", rule_keys[k].name);
    }
    return rc ? rc : rule_keys[k].read(r, d);
}

/* What can be said only when all keys have been read. */
static int draft_check(struct acl_reader *r, const struct draft *d, unsigned line)
{
    if (d->rule.verdict == ACL_NONE) {
        return acl_reader_fail(r, line, "the rule lacks allow or deny");
    }
    if (d->rule.filter_count == 0) {
        return acl_reader_fail(r, line, "the rule lacks its topic");
    }
    if (d->lines[KEY_QOS] && !(d->rule.actions & (ACL_DO_PUBLISH | ACL_DO_SUBSCRIBE))) {
        return acl_reader_fail(r, d->lines[KEY_QOS],
                               "qos: is asked of publish and subscribe, the rule is about neither");
    }
    if (d->lines[KEY_RETAIN] && !(d->rule.actions & ACL_DO_PUBLISH)) {
        return acl_reader_fail(r, d->lines[KEY_RETAIN], "retain: is asked of publish, the rule is not about that");
    }
    return 0;
}

static int rule_add(struct acl_reader *r, struct draft *d)
{
    struct acl *acl = r->acl;

    if (acl->rule_count == acl->rule_cap) {
        uint32_t cap = acl->rule_cap ? 2 * acl->rule_cap : 8;
        struct acl_rule *rules = realloc(acl->rules, cap * sizeof(*rules));
        if (!rules) {
            return -ENOMEM;
        }
        acl->rules = rules;
        acl->rule_cap = cap;
    }
    if (d->conditional) {
        struct acl_terms *terms = acl_alloc(acl, sizeof(*terms));
        if (!terms) {
            return -ENOMEM;
        }
        *terms = d->terms;
        d->rule.terms = terms;
    }
    acl->needs |= d->rule.needs;
    acl->rules[acl->rule_count++] = d->rule;
    return 0;
}

int acl_read_rule(struct acl_reader *r)
{
    struct draft draft = {.rule = {.qos = ACL_ANY, .retain = ACL_ANY}};
    unsigned line = acl_reader_line(r);
    int rc;

    if (r->event.type != YAML_MAPPING_START_EVENT) {
        return acl_reader_fail(r, line, "rules: an entry must be a mapping such as {allow: publish, topic: a/#}");
    }
    if (r->acl->rule_count == r->rules_max) {
        return acl_reader_fail(r, line, "rules: more than %u", r->rules_max);
    }
    while ((rc = acl_reader_next(r)) == 0 && r->event.type != YAML_MAPPING_END_EVENT) {
        rc = read_key(r, &draft);
        if (rc) {
            return rc;
        }
    }
    rc = rc ? rc : draft_check(r, &draft, line);
    return rc ? rc : rule_add(r, &draft);
}
