/* acl_rule.h -- access rules as they lie in memory. Private to acl*.c: acl_read.c builds them, acl.c asks them.
 *
 * Everything belongs to the arena of its acl and is freed with it. A rule is small and lies beside its neighbours,
 * since a check walks many and most of them fail on the first bytes of the topic. */
#ifndef TERN_BROKER_AUTH_ACL_RULE_H
#define TERN_BROKER_AUTH_ACL_RULE_H

#include "broker/auth/acl.h"
#include "broker/base/network.h"
#include "proto/base/hash.h"
#include "proto/base/map.h"

#define ACL_TEXT_MAX 65535 /* bytes of a filter or a name: what MQTT can carry */
#define ACL_LIST_MAX 1000
#define ACL_RULES_MAX 100000
#define ACL_CLAIM_RULES_MAX 256
#define ACL_BYTES_MAX ((size_t)16 << 20)

/* ---- filters (acl_filter.c) ---- */

/* A filter without its '#', which is `below`: "a/#" is "a" and all below it. Only "#" has no text: as there is no empty
 * topic,
 * "/#" matches what "/+/#" does, and becomes that. %u and %c are a NUL, which no filter holds, and a letter. */
struct acl_filter {
    struct slice text; /* borrowed */
    bool below;
};

struct acl_filter acl_filter_of(struct slice filter);

/* What %u and %c stand for. */
struct acl_values {
    struct slice user, client_id;
};

/* What a rule's filters ask of the values. The same bits say of a subject what its values lack. */
enum {
    ACL_USER = 1,       /* %u: there is a user, without '+', '#', '/' and NUL */
    ACL_CLIENT = 2,     /* %c: the same of the client id */
    ACL_USER_FIRST = 4, /* the filter begins with %u: the user does not begin with '$' */
    ACL_CLIENT_FIRST = 8,
};

uint8_t acl_values_lack(const struct acl_values *values);

/* Rewrite %u, %c and %% of a rule's filter in place; the text gets no longer. Adds to *needs. Returns 0, or -EINVAL at
 * another % (the text is spoiled then). */
int acl_filter_compile(uint8_t *text, size_t *len, uint8_t *needs);

/* As acl_filter_covers and acl_filter_overlaps. `by` may hold compiled %u and %c if there are values (else NULL). */
bool acl_covers(const struct acl_filter *by, const struct acl_values *values, const struct acl_filter *filter);
bool acl_overlaps(const struct acl_filter *by, const struct acl_values *values, const struct acl_filter *filter);

/* The first eight bytes of a text as a number that differs wherever they do; zeros behind its end. */
static inline uint64_t acl_head(struct slice text)
{
    uint64_t head = 0;

    memcpy(&head, text.len > 0 ? text.ptr : (const uint8_t *)"", text.len < sizeof(head) ? text.len : sizeof(head));
    return head;
}

/* ---- rules (acl.c) ---- */

enum { ACL_DO_PUBLISH = 1 << ACL_PUBLISH, ACL_DO_SUBSCRIBE = 1 << ACL_SUBSCRIBE, ACL_DO_RECEIVE = 1 << ACL_RECEIVE };

#define ACL_ANY 0xff /* all of a mask of QoS levels or retain flags: no condition */

struct acl_list {
    struct slice *items;
    uint32_t count; /* 0: no condition */
};

/* Conditions of a rule beyond flags. */
struct acl_terms {
    struct acl_list roles, client_ids, listeners; /* a client id that ends with '*' is a prefix */
    struct network *networks;
    uint32_t network_count;
};

struct acl_rule {
    uint64_t head, head_mask;         /* the bytes that all its filters begin with, eight at most */
    const struct acl_filter *filters; /* at least one */
    const struct acl_terms *terms;    /* NULL: none */
    struct acl_list users;            /* exact names; only for the index */
    uint32_t filter_count;
    uint8_t verdict, actions;
    uint8_t qos, retain; /* masks, ACL_ANY: no condition */
    uint8_t needs;
    bool named_only; /* user: `*` */
};

/* A user that rules or roles name. */
struct acl_user {
    struct slice name;
    uint32_t *rules; /* that name it, ascending */
    struct slice *roles;
    uint32_t rule_count, role_count;
};

struct acl_chunk;

struct acl {
    struct acl_chunk *chunks; /* the arena */
    struct acl_rule *rules;   /* owned, not of the arena, for it grows */
    uint32_t rule_count, rule_cap;
    uint8_t needs;     /* of any rule */
    uint32_t *general; /* rules that name no user, ascending */
    uint32_t general_count;
    struct hash_key key;
    struct map users;
    uint8_t *claim; /* owned: the text of a token's claim; NULL: it is of a file */
    size_t claim_len;
};

/* A role and its users, as read. */
struct acl_role {
    struct slice name;
    struct acl_list users;
    struct acl_role *next;
};

struct acl *acl_new(void);
void *acl_alloc(struct acl *acl, size_t size); /* zeroed, aligned; freed with the acl. NULL when memory is out */

/* Index what has been read; nothing may be added afterwards. Returns 0 or -ENOMEM. */
int acl_seal(struct acl *acl, const struct acl_role *roles);

#endif
