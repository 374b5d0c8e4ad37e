/* acl.c -- rules asked: from the first to the last, until one decides.
 *
 * A publish that is not cached waits for this, so it allocates nothing and touches little: rules that name users are
 * found by the user's name and merged, by their number, with those that name none; most of what is left fails on the
 * action or on the first eight bytes of the topic, which lie in the rule. */
#include "broker/auth/acl.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "broker/auth/acl_rule.h"
#include "proto/base/clock.h"

/* ---- memory ---- */

#define CHUNK_MIN 1024u /* a token's few rules */
#define CHUNK_MAX 65536u

struct acl_chunk {
    struct acl_chunk *next;
    size_t used, size;
    max_align_t bytes[];
};

struct acl *acl_new(void)
{
    struct acl *acl = calloc(1, sizeof(*acl));

    if (acl) {
        clock_random(&acl->key, sizeof(acl->key)); /* a user may have chosen the name that the file holds */
    }
    return acl;
}

void *acl_alloc(struct acl *acl, size_t size)
{
    struct acl_chunk *c = acl->chunks;

    size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (!c || c->size - c->used < size) {
        size_t want = !c ? CHUNK_MIN : c->size < CHUNK_MAX ? 2 * c->size : CHUNK_MAX;
        want = want < size ? size : want;
        c = calloc(1, sizeof(*c) + want);
        if (!c) {
            return NULL;
        }
        c->size = want;
        c->next = acl->chunks;
        acl->chunks = c;
    }
    void *at = (uint8_t *)c->bytes + c->used;
    c->used += size;
    return at;
}

struct slice acl_claim(const struct acl *acl)
{
    return slice_of(acl->claim, acl->claim_len);
}

void acl_free(struct acl *acl)
{
    if (!acl) {
        return;
    }
    while (acl->chunks) {
        struct acl_chunk *c = acl->chunks;
        acl->chunks = c->next;
        free(c);
    }
    map_deinit(&acl->users);
    free(acl->claim);
    free(acl->rules);
    free(acl);
}

size_t acl_count(const struct acl *acl)
{
    return acl->rule_count;
}

/* ---- the index of users ---- */

static bool is_named(const void *value, const void *key)
{
    return slice_eq(((const struct acl_user *)value)->name, *(const struct slice *)key);
}

static struct acl_user *user_find(const struct acl *acl, struct slice name)
{
    return acl->users.count ? map_find(&acl->users, hash_keyed(&acl->key, name), is_named, &name) : NULL;
}

static struct acl_user *user_have(struct acl *acl, struct slice name)
{
    struct acl_user *user = user_find(acl, name);

    if (user) {
        return user;
    }
    user = acl_alloc(acl, sizeof(*user));
    if (!user) {
        return NULL;
    }
    user->name = name;
    return map_add(&acl->users, hash_keyed(&acl->key, name), user) == 0 ? user : NULL;
}

/* Count what each user gets, so that its lists can be made. */
static int count_all(struct acl *acl, const struct acl_role *roles)
{
    for (uint32_t i = 0; i < acl->rule_count; i++) {
        const struct acl_list *names = &acl->rules[i].users;
        acl->general_count += names->count == 0;
        for (uint32_t n = 0; n < names->count; n++) {
            struct acl_user *user = user_have(acl, names->items[n]);
            if (!user) {
                return -ENOMEM;
            }
            user->rule_count++;
        }
    }
    for (const struct acl_role *role = roles; role; role = role->next) {
        for (uint32_t n = 0; n < role->users.count; n++) {
            struct acl_user *user = user_have(acl, role->users.items[n]);
            if (!user) {
                return -ENOMEM;
            }
            user->role_count++;
        }
    }
    return 0;
}

static int make_lists(struct acl *acl)
{
    struct acl_user *user;

    acl->general = acl_alloc(acl, acl->general_count * sizeof(*acl->general));
    if (!acl->general) {
        return -ENOMEM;
    }
    acl->general_count = 0;
    for (size_t i = 0; (user = map_next(&acl->users, &i)) != NULL;) {
        user->rules = acl_alloc(acl, user->rule_count * sizeof(*user->rules));
        user->roles = acl_alloc(acl, user->role_count * sizeof(*user->roles));
        if (!user->rules || !user->roles) {
            return -ENOMEM;
        }
        user->rule_count = 0;
        user->role_count = 0;
    }
    return 0;
}

int acl_seal(struct acl *acl, const struct acl_role *roles)
{
    int rc = count_all(acl, roles);

    rc = rc ? rc : make_lists(acl);
    if (rc) {
        return rc;
    }
    for (uint32_t i = 0; i < acl->rule_count; i++) {
        const struct acl_list *names = &acl->rules[i].users;
        if (names->count == 0) {
            acl->general[acl->general_count++] = i;
        }
        for (uint32_t n = 0; n < names->count; n++) {
            struct acl_user *user = user_find(acl, names->items[n]);
            user->rules[user->rule_count++] = i;
        }
    }
    for (const struct acl_role *role = roles; role; role = role->next) {
        for (uint32_t n = 0; n < role->users.count; n++) {
            struct acl_user *user = user_find(acl, role->users.items[n]);
            user->roles[user->role_count++] = role->name;
        }
    }
    return 0;
}

/* ---- the rules of one subject, in their order ---- */

struct question {
    const struct acl_subject *subject;
    const struct acl_request *request;
    const struct acl_user *user; /* NULL: the file does not name it */
    struct acl_values values;
    struct acl_filter filter; /* the topic is one, too */
    uint64_t head;
    uint8_t lack;
    bool address_known;
};

struct walk {
    uint32_t general, named; /* taken so far */
};

static inline const struct acl_rule *walk_next(struct walk *w, const struct acl *acl, const struct acl_user *user)
{
    uint32_t general = w->general < acl->general_count ? acl->general[w->general] : UINT32_MAX;
    uint32_t named = user && w->named < user->rule_count ? user->rules[w->named] : UINT32_MAX;

    if (general == UINT32_MAX && named == UINT32_MAX) {
        return NULL;
    }
    assert(general != named);
    if (named < general) {
        w->named++;
        return &acl->rules[named];
    }
    w->general++;
    return &acl->rules[general];
}

/* ---- conditions ---- */

static bool has_item(const struct slice *items, uint32_t count, struct slice item)
{
    for (uint32_t i = 0; i < count; i++) {
        if (slice_eq(items[i], item)) {
            return true;
        }
    }
    return false;
}

static bool has_role(const struct acl_list *roles, const struct question *q)
{
    for (uint32_t i = 0; i < roles->count; i++) {
        if (has_item(q->subject->roles, q->subject->role_count, roles->items[i]) ||
            (q->user && has_item(q->user->roles, q->user->role_count, roles->items[i]))) {
            return true;
        }
    }
    return false;
}

static bool has_client_id(const struct acl_list *patterns, struct slice client_id)
{
    for (uint32_t i = 0; i < patterns->count; i++) {
        struct slice p = patterns->items[i];
        if (p.ptr[p.len - 1] != '*' ? slice_eq(p, client_id)
                                    : p.len - 1 <= client_id.len &&
                                          slice_eq(slice_of(p.ptr, p.len - 1), slice_of(client_id.ptr, p.len - 1))) {
            return true;
        }
    }
    return false;
}

static bool has_address(const struct acl_rule *rule, const struct question *q)
{
    if (!q->address_known) {
        return rule->verdict == ACL_DENY;
    }
    for (uint32_t i = 0; i < rule->terms->network_count; i++) {
        if (network_has(&rule->terms->networks[i], &q->subject->address)) {
            return true;
        }
    }
    return false;
}

/* Whether the rule speaks of this subject, the topic aside. */
static bool rule_suits(const struct acl_rule *rule, const struct question *q)
{
    const struct acl_terms *t = rule->terms;

    if (rule->named_only && q->subject->user.len == 0) {
        return false;
    }
    if (!t) {
        return true;
    }
    return (t->roles.count == 0 || has_role(&t->roles, q)) &&
           (t->client_ids.count == 0 || has_client_id(&t->client_ids, q->subject->client_id)) &&
           (t->listeners.count == 0 || has_item(t->listeners.items, t->listeners.count, q->subject->listener)) &&
           (t->network_count == 0 || has_address(rule, q));
}

/* ---- topics ---- */

static bool any_covers(const struct acl_rule *rule, const struct question *q)
{
    const struct acl_values *values = rule->needs ? &q->values : NULL;

    if ((q->head & rule->head_mask) != rule->head) {
        return false;
    }
    for (uint32_t i = 0; i < rule->filter_count; i++) {
        if (acl_covers(&rule->filters[i], values, &q->filter)) {
            return true;
        }
    }
    return false;
}

static bool any_overlaps(const struct acl_rule *rule, const struct question *q)
{
    const struct acl_values *values = rule->needs ? &q->values : NULL;

    for (uint32_t i = 0; i < rule->filter_count; i++) {
        if (acl_overlaps(&rule->filters[i], values, &q->filter)) {
            return true;
        }
    }
    return false;
}

/* A rule that says of which QoS it speaks does so of what is asked for; at delivery nothing is asked. So an allow rule
 * lets through what was subscribed by it, and a deny rule has had its say: it denied all that it overlaps. */
static bool qos_fits(const struct acl_rule *rule, const struct acl_request *request)
{
    if (request->action == ACL_RECEIVE) {
        return rule->qos == ACL_ANY || rule->verdict == ACL_ALLOW;
    }
    return rule->qos >> (request->qos & 7) & 1;
}

static bool rule_decides(const struct acl_rule *rule, const struct question *q)
{
    const struct acl_request *request = q->request;

    if (!(rule->actions >> request->action & 1)) {
        return false;
    }
    if (rule->needs & q->lack) {
        if (rule->verdict == ACL_ALLOW) {
            return false;
        }
    } else if (rule->verdict == ACL_DENY && rule->qos != ACL_ANY && request->action == ACL_SUBSCRIBE) {
        if (!any_overlaps(rule, q)) {
            return false;
        }
    } else if (!any_covers(rule, q)) {
        return false;
    }
    return qos_fits(rule, request) && (request->action != ACL_PUBLISH || rule->retain >> request->retain & 1) &&
           rule_suits(rule, q);
}

/* Whether the rule, which does not decide about the filter as a whole, keeps some of its messages back. */
static bool rule_withholds(const struct acl_rule *rule, const struct question *q)
{
    return rule->verdict == ACL_DENY && rule->actions & ACL_DO_RECEIVE && rule->qos == ACL_ANY &&
           (rule->needs & q->lack || any_overlaps(rule, q)) && rule_suits(rule, q);
}

enum acl_verdict acl_check(const struct acl *acl, const struct acl_subject *subject, const struct acl_request *request,
                           bool *ret_partial)
{
    static const struct in6_addr unknown;
    struct question q = {
        .subject = subject,
        .request = request,
        .user = user_find(acl, subject->user),
        .values = {.user = subject->user, .client_id = subject->client_id},
        .filter = acl_filter_of(request->topic),
        .address_known = memcmp(&subject->address, &unknown, sizeof(unknown)) != 0,
    };
    struct walk walk = {0};
    enum acl_verdict verdict = ACL_NONE;
    const struct acl_rule *rule;
    bool partial = false;

    q.head = acl_head(q.filter.text);
    q.lack = acl->needs ? acl_values_lack(&q.values) : 0;
    while (verdict == ACL_NONE && (rule = walk_next(&walk, acl, q.user)) != NULL) {
        if (rule_decides(rule, &q)) {
            verdict = rule->verdict;
        } else if (ret_partial && !partial && request->action == ACL_SUBSCRIBE) {
            partial = rule_withholds(rule, &q);
        }
    }
    if (ret_partial) {
        *ret_partial = partial;
    }
    return verdict;
}
