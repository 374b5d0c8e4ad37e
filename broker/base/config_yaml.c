/* config_yaml.c -- the configuration file, read event by event so that each mistake has its line.
 *
 * A file is one mapping; its values are scalars, lists of words, the list of listeners, or sections: mappings one level
 * deeper. An entry of the listeners is such a mapping again, with keys of its own. Aliases and further documents are
 * refused, since whoever wrote one meant something that we would not do. */
#include "broker/base/config_schema.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <yaml.h>

#include "proto/base/buf.h"

#define WHY_MAX 512

/* What a mapping is read into. */
struct target {
    const struct config_table *table;
    void *base;
    const char *prefix;                      /* of its keys in messages */
    unsigned key_lines[CONFIG_KEYS_MAX];     /* where each key was set; 0: not yet */
    unsigned section_lines[CONFIG_KEYS_MAX]; /* where each section began, by the index of its first key */
};

struct reader {
    struct config *config;
    const char *name; /* of the file, borrowed */
    char *error;      /* borrowed */
    size_t error_size;
    yaml_parser_t parser;
    yaml_event_t event; /* the present one; valid while event_live */
    bool event_live;
};

static unsigned reader_line(const struct reader *r)
{
    return (unsigned)r->event.start_mark.line + 1;
}

__attribute__((format(printf, 3, 4))) static int reader_fail(struct reader *r, unsigned line, const char *format, ...)
{
    char why[WHY_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    snprintf(r->error, r->error_size, "%s:%u: %s", r->name, line, why);
    return -EINVAL;
}

static void reader_drop(struct reader *r)
{
    if (r->event_live) {
        yaml_event_delete(&r->event);
        r->event_live = false;
    }
}

/* Go on to the next event. */
static int reader_next(struct reader *r)
{
    reader_drop(r);
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        if (r->parser.error == YAML_MEMORY_ERROR) {
            return -ENOMEM;
        }
        return reader_fail(r, (unsigned)r->parser.problem_mark.line + 1, "this is not YAML: %s",
                           r->parser.problem ? r->parser.problem : "unreadable");
    }
    r->event_live = true;
    if (r->event.type == YAML_ALIAS_EVENT) {
        return reader_fail(r, reader_line(r), "aliases are not taken here");
    }
    return 0;
}

/* The text of the present scalar, or NULL if it holds a NUL character. */
static const char *scalar_text(const struct reader *r)
{
    const char *text = (const char *)r->event.data.scalar.value;

    assert(r->event.type == YAML_SCALAR_EVENT);
    return strlen(text) == r->event.data.scalar.length ? text : NULL;
}

/* Whether the present event is what YAML calls null: nothing at all, ~, or the bare word. */
static bool is_null(const struct reader *r)
{
    const char *text;

    if (r->event.type != YAML_SCALAR_EVENT || r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE) {
        return false;
    }
    text = (const char *)r->event.data.scalar.value;
    return text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

/* A name within a mapping; the present event must be its scalar. */
static int read_name(struct reader *r, const char *section, char *ret_name, size_t size)
{
    if (r->event.type != YAML_SCALAR_EVENT) {
        return reader_fail(r, reader_line(r), "a key must be a word");
    }
    const char *text = scalar_text(r);
    int len = text ? snprintf(ret_name, size, "%s%s%s", section, *section ? "." : "", text) : -1;
    if (len < 0 || (size_t)len >= size) {
        return reader_fail(r, reader_line(r), "unknown key (tern --print-config lists all)");
    }
    return 0;
}

static int read_mapping(struct reader *r, struct target *t, const char *section);

/* {address: ..., name: ...}, from behind its start to its end. */
static int read_listener_mapping(struct reader *r, struct config_listener *l)
{
    struct target t = {.table = &config_listener_keys, .base = l, .prefix = "listeners: "};
    unsigned line = reader_line(r);
    char why[WHY_MAX];

    int rc = read_mapping(r, &t, "");
    if (rc) {
        return rc;
    }
    if (!*l->address) {
        return reader_fail(r, line, "listeners: an entry lacks its address");
    }
    rc = config_listener_add(r->config, l, why, sizeof(why));
    return rc == -EINVAL ? reader_fail(r, line, "listeners: %s", why) : rc;
}

static int read_listener(struct reader *r)
{
    unsigned line = reader_line(r);
    struct config_listener l;
    char why[WHY_MAX];

    if (r->event.type == YAML_MAPPING_START_EVENT) {
        int rc = config_listener_init(&l);
        rc = rc ? rc : read_listener_mapping(r, &l);
        if (rc) {
            config_listener_deinit(&l);
        }
        return rc;
    }
    if (r->event.type != YAML_SCALAR_EVENT || !scalar_text(r)) {
        return reader_fail(r, line, "listeners: an entry must be an address or a mapping");
    }
    int rc = config_listener_add_word(r->config, scalar_text(r), why, sizeof(why));
    return rc == -EINVAL ? reader_fail(r, line, "listeners: %s", why) : rc;
}

static int read_listeners(struct reader *r)
{
    unsigned first = reader_line(r);
    int rc;

    if (r->event.type != YAML_SEQUENCE_START_EVENT) {
        return reader_fail(r, first, "listeners: must be a list of addresses");
    }
    config_listeners_clear(r->config);
    while ((rc = reader_next(r)) == 0 && r->event.type != YAML_SEQUENCE_END_EVENT) {
        rc = read_listener(r);
        if (rc) {
            return rc;
        }
    }
    if (rc == 0 && r->config->listener_count == 0) {
        return reader_fail(r, first, "listeners: the list is empty");
    }
    return rc;
}

static int value_set(struct reader *r, struct target *t, const struct config_key *key, const char *text, unsigned line)
{
    char why[WHY_MAX];

    int rc = config_value_set(t->base, key, text, why, sizeof(why));
    return rc == -EINVAL ? reader_fail(r, line, "%s%s: %s", t->prefix, key->name, why) : rc;
}

/* A sequence of words, from behind its start to its end, into out as one text. */
static int read_words(struct reader *r, struct target *t, const struct config_key *key, struct buf *out)
{
    int rc;

    while ((rc = reader_next(r)) == 0 && r->event.type != YAML_SEQUENCE_END_EVENT) {
        const char *text = r->event.type == YAML_SCALAR_EVENT ? scalar_text(r) : NULL;
        if (!text || !*text || strchr(text, ',')) {
            return reader_fail(r, reader_line(r), "%s%s: an entry must be one word without a comma", t->prefix,
                               key->name);
        }
        buf_put(out, out->len ? SLICE(", ") : slice_of(NULL, 0));
        buf_put(out, slice_str(text));
    }
    buf_put(out, slice_of("", 1));
    return rc == 0 && out->failed ? -ENOMEM : rc;
}

static int read_list(struct reader *r, struct target *t, const struct config_key *key)
{
    unsigned line = reader_line(r);
    struct buf text = {0};

    int rc = read_words(r, t, key, &text);
    rc = rc ? rc : value_set(r, t, key, (const char *)text.ptr, line);
    buf_deinit(&text);
    return rc;
}

/* The value of a known key; the present event is its first. */
static int read_value(struct reader *r, struct target *t, const struct config_key *key)
{
    unsigned line = reader_line(r), *set_before = &t->key_lines[key - t->table->keys];
    bool list = key->type == CONFIG_LIST || key->type == CONFIG_NETWORKS;

    if (*set_before) {
        return reader_fail(r, line, "%s%s: set a second time, first in line %u", t->prefix, key->name, *set_before);
    }
    *set_before = line;
    if (is_null(r)) {
        return reader_fail(r, line, "%s%s: has no value", t->prefix, key->name);
    }
    if (key->type == CONFIG_LISTENERS) {
        return read_listeners(r);
    }
    if (list && r->event.type == YAML_SEQUENCE_START_EVENT) {
        return read_list(r, t, key);
    }
    if (r->event.type != YAML_SCALAR_EVENT || !scalar_text(r)) {
        return reader_fail(r, line, "%s%s: must be a %s", t->prefix, key->name,
                           list ? "list of words" : "single value");
    }
    return value_set(r, t, key, scalar_text(r), line);
}

/* What follows the name of a section: its mapping, or nothing when all its keys are commented out. first: its first
 * key. */
static int read_section(struct reader *r, struct target *t, const char *name, const struct config_key *first)
{
    unsigned line = reader_line(r), *begun_before = &t->section_lines[first - t->table->keys];

    if (*begun_before) {
        return reader_fail(r, line, "%s%s: stands here a second time, first before line %u", t->prefix, name,
                           *begun_before);
    }
    *begun_before = line;
    if (is_null(r)) {
        return 0;
    }
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        return reader_fail(r, line, "%s%s: is a section of keys, not a value", t->prefix, name);
    }
    return read_mapping(r, t, name);
}

/* From behind the start of a mapping to its end. There are no sections within sections, and no listeners within
 * listeners: at most four of these are under way. */
static int read_mapping(struct reader *r, struct target *t, const char *section)
{
    char name[CONFIG_NAME_MAX], why[WHY_MAX];
    int rc;

    while ((rc = reader_next(r)) == 0 && r->event.type != YAML_MAPPING_END_EVENT) {
        unsigned line = reader_line(r);
        rc = read_name(r, section, name, sizeof(name));
        if (rc) {
            return rc;
        }
        const struct config_key *key = config_key_find(t->table, name);
        const struct config_key *first = key || *section ? NULL : config_section_find(t->table, name);
        if (!key && !first) {
            config_unknown_key(t->table, name, why, sizeof(why));
            return reader_fail(r, line, "%s%s: %s", t->prefix, name, why);
        }
        rc = reader_next(r);
        if (rc == 0) {
            rc = key ? read_value(r, t, key) : read_section(r, t, name, first);
        }
        if (rc) {
            return rc;
        }
    }
    return rc;
}

static int read_document(struct reader *r)
{
    struct target t = {.table = &config_keys, .base = r->config, .prefix = ""};
    int rc = reader_next(r); /* the stream's start */

    rc = rc ? rc : reader_next(r);
    if (rc || r->event.type == YAML_STREAM_END_EVENT) {
        return rc; /* an empty file sets nothing */
    }
    rc = reader_next(r);
    if (rc) {
        return rc;
    }
    if (r->event.type == YAML_MAPPING_START_EVENT) {
        rc = read_mapping(r, &t, "");
    } else if (!is_null(r)) {
        rc = reader_fail(r, reader_line(r), "the file must consist of keys and values");
    }
    rc = rc ? rc : reader_next(r); /* the document's end */
    rc = rc ? rc : reader_next(r);
    if (rc == 0 && r->event.type != YAML_STREAM_END_EVENT) {
        rc = reader_fail(r, reader_line(r), "a second document begins here, only one is read");
    }
    return rc;
}

int config_yaml_read(struct config *config, FILE *in, const char *name, char *error, size_t error_size)
{
    struct reader r = {.config = config, .name = name, .error = error, .error_size = error_size};

    if (!yaml_parser_initialize(&r.parser)) {
        return -ENOMEM;
    }
    yaml_parser_set_input_file(&r.parser, in);
    int rc = read_document(&r);
    reader_drop(&r);
    yaml_parser_delete(&r.parser);
    return rc;
}
