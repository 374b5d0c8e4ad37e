/* acl_read.c -- rules read event by event, so that each mistake has its line, and no mistake leaves rules behind.
 *
 * A file is a mapping of at most two sections, `roles` and `rules`; a claim is what stands below `rules`. Every value
 * passes through acl_read_items, which bounds it. One that is missing is refused: it would be a condition that is none.
 */
#include "broker/auth/acl_read.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/utf8.h"

#define WHY_MAX 512

unsigned acl_reader_line(const struct acl_reader *r)
{
    return (unsigned)r->event.start_mark.line + 1;
}

int acl_reader_fail(struct acl_reader *r, unsigned line, const char *format, ...)
{
    char why[WHY_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    for (char *at = why; *at; at++) {
        *at = (unsigned char)*at < ' ' ? '?' : *at; /* one line, whatever the file holds */
    }
    snprintf(r->error, r->error_size, "%s:%u: %s", r->name, line, why);
    return -EINVAL;
}

static void reader_drop(struct acl_reader *r)
{
    if (r->event_live) {
        yaml_event_delete(&r->event);
        r->event_live = false;
    }
}

int acl_reader_next(struct acl_reader *r)
{
    reader_drop(r);
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        if (r->parser.error == YAML_MEMORY_ERROR) {
            return -ENOMEM;
        }
        return acl_reader_fail(r, (unsigned)r->parser.problem_mark.line + 1, "this is not YAML: %s",
                               r->parser.problem ? r->parser.problem : "unreadable");
    }
    r->event_live = true;
    if (r->event.type == YAML_ALIAS_EVENT) {
        return acl_reader_fail(r, acl_reader_line(r), "aliases are not taken here");
    }
    return 0;
}

/* Whether the present event is what YAML calls null: nothing at all, ~, or the bare word. */
static bool is_null(const struct acl_reader *r)
{
    const char *text;

    if (r->event.type != YAML_SCALAR_EVENT || r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE) {
        return false;
    }
    text = (const char *)r->event.data.scalar.value;
    return text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

/* ---- values ---- */

int acl_read_text(struct acl_reader *r, const char *what, struct slice *ret_text)
{
    if (r->event.type != YAML_SCALAR_EVENT) {
        return acl_reader_fail(r, acl_reader_line(r), "%s: must be a single word", what);
    }
    struct slice text = slice_of(r->event.data.scalar.value, r->event.data.scalar.length);
    if (is_null(r) || text.len == 0) {
        return acl_reader_fail(r, acl_reader_line(r), "%s: has no value", what);
    }
    if (text.len > ACL_TEXT_MAX) {
        return acl_reader_fail(r, acl_reader_line(r), "%s: a value is longer than %d bytes", what, ACL_TEXT_MAX);
    }
    if (!utf8_valid(text)) {
        return acl_reader_fail(r, acl_reader_line(r), "%s: a value is not UTF-8 or holds U+0000", what);
    }
    uint8_t *copy = acl_alloc(r->acl, text.len + 1);
    if (!copy) {
        return -ENOMEM;
    }
    memcpy(copy, text.ptr, text.len);
    *ret_text = slice_of(copy, text.len);
    return 0;
}

static int read_item(struct acl_reader *r, const char *what)
{
    if (r->item_count == ACL_LIST_MAX) {
        return acl_reader_fail(r, acl_reader_line(r), "%s: more than %d values", what, ACL_LIST_MAX);
    }
    struct acl_item *item = &r->items[r->item_count++];
    item->line = acl_reader_line(r);
    return acl_read_text(r, what, &item->text);
}

int acl_read_items(struct acl_reader *r, const char *what)
{
    int rc;

    r->item_count = 0;
    if (r->event.type == YAML_MAPPING_START_EVENT) {
        return acl_reader_fail(r, acl_reader_line(r), "%s: must be a value or a list of values", what);
    }
    if (r->event.type != YAML_SEQUENCE_START_EVENT) {
        return read_item(r, what);
    }
    while ((rc = acl_reader_next(r)) == 0 && r->event.type != YAML_SEQUENCE_END_EVENT) {
        rc = r->event.type == YAML_SCALAR_EVENT
                 ? read_item(r, what)
                 : acl_reader_fail(r, acl_reader_line(r), "%s: a list holds single values", what);
        if (rc) {
            return rc;
        }
    }
    return rc;
}

int acl_items_keep(struct acl_reader *r, struct acl_list *ret_list)
{
    struct slice *items = acl_alloc(r->acl, r->item_count * sizeof(*items));

    if (!items) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < r->item_count; i++) {
        items[i] = r->items[i].text;
    }
    *ret_list = (struct acl_list){.items = items, .count = r->item_count};
    return 0;
}

int acl_refuse_star(struct acl_reader *r, bool last_allowed, const char *why)
{
    for (uint32_t i = 0; i < r->item_count; i++) {
        const char *text = acl_item_text(&r->items[i]), *star = strchr(text, '*');
        if (star && !(last_allowed && star[1] == '\0')) {
            return acl_reader_fail(r, r->items[i].line, "%s", why);
        }
    }
    return 0;
}

/* ---- roles ---- */

static bool is_role(const void *value, const void *key)
{
    return slice_eq(((const struct acl_role *)value)->name, *(const struct slice *)key);
}

/* From the role's name to the end of its users. An empty list is a role that nobody has. */
static int read_role_entry(struct acl_reader *r)
{
    unsigned line = acl_reader_line(r);
    struct slice name;
    int rc = acl_read_text(r, "a role's name", &name);

    if (rc) {
        return rc;
    }
    uint64_t hash = hash_keyed(&r->acl->key, name);
    if (map_find(&r->role_names, hash, is_role, &name)) {
        return acl_reader_fail(r, line, "roles: %s stands here a second time", (const char *)name.ptr);
    }
    if (r->role_names.count == ACL_RULES_MAX) {
        return acl_reader_fail(r, line, "roles: more than %d", ACL_RULES_MAX);
    }
    struct acl_role *role = acl_alloc(r->acl, sizeof(*role));
    if (!role || map_add(&r->role_names, hash, role) != 0) {
        return -ENOMEM;
    }
    role->name = name;
    role->next = r->roles;
    r->roles = role;
    rc = acl_reader_next(r);
    rc = rc ? rc : acl_read_items(r, "roles");
    rc = rc ? rc : acl_refuse_star(r, false, "roles: * has no meaning here, a role lists its users");
    return rc ? rc : acl_items_keep(r, &role->users);
}

static int read_roles(struct acl_reader *r)
{
    int rc;

    if (r->event.type != YAML_MAPPING_START_EVENT) {
        return acl_reader_fail(r, acl_reader_line(r), "roles: must be a mapping from each role to its users");
    }
    while ((rc = acl_reader_next(r)) == 0 && r->event.type != YAML_MAPPING_END_EVENT) {
        rc = read_role_entry(r);
        if (rc) {
            return rc;
        }
    }
    return rc;
}

/* ---- the whole ---- */

static int read_rules(struct acl_reader *r)
{
    int rc;

    if (r->event.type != YAML_SEQUENCE_START_EVENT) {
        return acl_reader_fail(r, acl_reader_line(r), "rules: must be a list");
    }
    while ((rc = acl_reader_next(r)) == 0 && r->event.type != YAML_SEQUENCE_END_EVENT) {
        rc = acl_read_rule(r);
        if (rc) {
            return rc;
        }
    }
    return rc;
}

static int read_file(struct acl_reader *r)
{
    static const struct {
        const char *name;
        int (*read)(struct acl_reader *r);
    } sections[] = {{"roles", read_roles}, {"rules", read_rules}};
    unsigned lines[COUNT_OF(sections)] = {0};
    int rc;

    if (is_null(r)) { /* nothing but comments */
        return 0;
    }
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        return acl_reader_fail(r, acl_reader_line(r), "the file must consist of roles and rules");
    }
    while ((rc = acl_reader_next(r)) == 0 && r->event.type != YAML_MAPPING_END_EVENT) {
        unsigned line = acl_reader_line(r);
        struct slice name;
        size_t s = 0;
        rc = acl_read_text(r, "a key", &name);
        if (rc) {
            return rc;
        }
        while (s < COUNT_OF(sections) && strcmp(sections[s].name, (const char *)name.ptr) != 0) {
            s++;
        }
        if (s == COUNT_OF(sections)) {
            return acl_reader_fail(r, line, "%s: is unknown; a file has roles and rules", (const char *)name.ptr);
        }
        if (lines[s]) {
            return acl_reader_fail(r, line, "%s: set a second time, first in line %u", sections[s].name, lines[s]);
        }
        lines[s] = line;
        rc = acl_reader_next(r);
        rc = rc || is_null(r) ? rc : sections[s].read(r);
        if (rc) {
            return rc;
        }
    }
    return rc;
}

static int read_document(struct acl_reader *r, bool claim)
{
    int rc = acl_reader_next(r); /* the stream's start */

    rc = rc ? rc : acl_reader_next(r);
    if (rc || r->event.type == YAML_STREAM_END_EVENT) {
        return rc || !claim ? rc : acl_reader_fail(r, 1, "rules: must be a list");
    }
    rc = acl_reader_next(r);
    rc = rc ? rc : claim ? read_rules(r) : read_file(r);
    rc = rc ? rc : acl_reader_next(r); /* the document's end */
    rc = rc ? rc : acl_reader_next(r);
    if (rc == 0 && r->event.type != YAML_STREAM_END_EVENT) {
        rc = acl_reader_fail(r, acl_reader_line(r), "a second document begins here, only one is read");
    }
    return rc;
}

static int parse(struct acl_reader *r, struct slice text, bool claim)
{
    r->acl = acl_new();
    if (!r->acl || !yaml_parser_initialize(&r->parser)) {
        return -ENOMEM;
    }
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->parser, text.len > 0 ? text.ptr : (const uint8_t *)"", text.len);
    int rc = read_document(r, claim);
    reader_drop(r);
    yaml_parser_delete(&r->parser);
    return rc ? rc : acl_seal(r->acl, r->roles);
}

static int parse_bounded(struct slice text, const char *name, bool claim, char *error, size_t error_size,
                         struct acl **ret_acl)
{
    if (text.len > ACL_BYTES_MAX) {
        snprintf(error, error_size, "%s: is larger than 16 MiB", name);
        return -EINVAL;
    }
    struct acl_reader *r = calloc(1, sizeof(*r));
    if (!r) {
        return -ENOMEM;
    }
    r->name = name;
    r->error = error;
    r->error_size = error_size;
    r->rules_max = claim ? ACL_CLAIM_RULES_MAX : ACL_RULES_MAX;
    int rc = parse(r, text, claim);
    map_deinit(&r->role_names);
    if (rc) {
        acl_free(r->acl);
    } else {
        *ret_acl = r->acl;
    }
    free(r);
    return rc;
}

int acl_parse(struct slice text, const char *name, char *error, size_t error_size, struct acl **ret_acl)
{
    return parse_bounded(text, name, false, error, error_size, ret_acl);
}

int acl_parse_claim(struct slice json, char *error, size_t error_size, struct acl **ret_acl)
{
    int rc = parse_bounded(json, "claim", true, error, error_size, ret_acl);

    if (rc == 0 && json.len > 0) {
        (*ret_acl)->claim = malloc(json.len);
        if (!(*ret_acl)->claim) {
            acl_free(*ret_acl);
            *ret_acl = NULL;
            return -ENOMEM;
        }
        memcpy((*ret_acl)->claim, json.ptr, json.len);
        (*ret_acl)->claim_len = json.len;
    }
    return rc;
}

int acl_read(const char *path, char *error, size_t error_size, struct acl **ret_acl)
{
    uint8_t *text = malloc(ACL_BYTES_MAX + 1); /* untouched memory costs nothing */
    FILE *in = text ? fopen(path, "re") : NULL;

    if (!text) {
        return -ENOMEM;
    }
    size_t len = in ? fread(text, 1, ACL_BYTES_MAX + 1, in) : 0;
    int rc = 0;
    if (!in || ferror(in)) {
        snprintf(error, error_size, "%s: cannot be read: %s", path, strerror(errno));
        rc = -EINVAL;
    }
    if (in) {
        fclose(in);
    }
    rc = rc ? rc : acl_parse(slice_of(text, len), path, error, error_size, ret_acl);
    free(text);
    return rc;
}
