/* acl_read.h -- how access rules are read. Private to acl_read.c (events, values, sections) and acl_read_rule.c (the
 * keys of a rule). Functions return 0, -ENOMEM, or -EINVAL with the sentence written. */
#ifndef TERN_BROKER_AUTH_ACL_READ_H
#define TERN_BROKER_AUTH_ACL_READ_H

#include <yaml.h>

#include "broker/auth/acl_rule.h"

struct acl_item {
    struct slice text; /* the arena's; a NUL follows, and there is no other */
    unsigned line;
};

struct acl_reader {
    struct acl *acl;
    const char *name; /* of the file, borrowed */
    char *error;      /* borrowed */
    size_t error_size;
    uint32_t rules_max;
    struct acl_role *roles; /* the arena's */
    struct map role_names;  /* the same by name */
    yaml_parser_t parser;
    yaml_event_t event; /* the present one; valid while event_live */
    bool event_live;
    struct acl_item items[ACL_LIST_MAX]; /* the value of the present key */
    uint32_t item_count;
};

unsigned acl_reader_line(const struct acl_reader *r);

/* Write "FILE:LINE: why" as the error. Returns -EINVAL. */
__attribute__((format(printf, 3, 4))) int acl_reader_fail(struct acl_reader *r, unsigned line, const char *format, ...);

/* Go on to the next event. */
int acl_reader_next(struct acl_reader *r);

/* The present scalar, copied: at least one byte. what: for the error. */
int acl_read_text(struct acl_reader *r, const char *what, struct slice *ret_text);

/* One value or a list of them, possibly empty, from its first event to its last, into r->items. */
int acl_read_items(struct acl_reader *r, const char *what);

/* Keep r->items in the arena. */
int acl_items_keep(struct acl_reader *r, struct acl_list *ret_list);

/* Refuse a '*' in r->items where it would be taken for a character, and its writer meant something else. */
int acl_refuse_star(struct acl_reader *r, bool last_allowed, const char *why);

/* The rule whose mapping begins with the present event. */
int acl_read_rule(struct acl_reader *r);

static inline const char *acl_item_text(const struct acl_item *item)
{
    return (const char *)item->text.ptr;
}

#endif
