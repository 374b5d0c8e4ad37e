/* config_yaml.c -- the configuration file, read event by event so that each mistake has its line.
 *
 * A file is one mapping; its values are scalars, the list of listeners, or sections: mappings one level deeper. Aliases
 * and further documents are refused, since whoever wrote one meant something that we would not do. */
#include "broker/base/config_schema.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <yaml.h>

#define KEYS_MAX 128 /* more than the schema has; asserted */
#define WHY_MAX 512

struct reader {
    struct config *config;
    const char *name; /* of the file, borrowed */
    char *error;      /* borrowed */
    size_t error_size;
    yaml_parser_t parser;
    yaml_event_t event; /* the present one; valid while event_live */
    bool event_live;
    unsigned key_lines[KEYS_MAX];     /* where each key was set; 0: not yet */
    unsigned section_lines[KEYS_MAX]; /* where each section began, by the index of its first key */
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

/* {address: ..., allow_anonymous: ...}, from behind its start to its end. */
static int read_listener_mapping(struct reader *r, unsigned line)
{
    char name[CONFIG_NAME_MAX], why[WHY_MAX], address[300] = "";
    int anonymous = -1, rc;

    while ((rc = reader_next(r)) == 0 && r->event.type != YAML_MAPPING_END_EVENT) {
        rc = read_name(r, "", name, sizeof(name));
        rc = rc ? rc : reader_next(r);
        if (rc) {
            return rc;
        }
        const char *text = r->event.type == YAML_SCALAR_EVENT && !is_null(r) ? scalar_text(r) : NULL;
        if (!text) {
            return reader_fail(r, reader_line(r), "listeners: %s needs a word", name);
        }
        if (strcmp(name, "address") == 0 && !*address) {
            snprintf(address, sizeof(address), "%s", text);
        } else if (strcmp(name, "allow_anonymous") == 0 && anonymous < 0) {
            anonymous = config_bool_parse(text);
            if (anonymous < 0) {
                return reader_fail(r, reader_line(r), "listeners: allow_anonymous: %s is not true or false", text);
            }
        } else {
            return reader_fail(r, reader_line(r), "listeners: %s is unknown or given twice (address, allow_anonymous)",
                               name);
        }
    }
    if (rc) {
        return rc;
    }
    if (!*address) {
        return reader_fail(r, line, "listeners: an entry lacks its address");
    }
    rc = config_listener_add(r->config, address, anonymous, why, sizeof(why));
    return rc == -EINVAL ? reader_fail(r, line, "listeners: %s", why) : rc;
}

static int read_listeners(struct reader *r)
{
    unsigned first = reader_line(r);
    char why[WHY_MAX];
    int rc;

    if (r->event.type != YAML_SEQUENCE_START_EVENT) {
        return reader_fail(r, first, "listeners: must be a list of addresses");
    }
    config_listeners_clear(r->config);
    while ((rc = reader_next(r)) == 0 && r->event.type != YAML_SEQUENCE_END_EVENT) {
        unsigned line = reader_line(r);
        if (r->event.type == YAML_MAPPING_START_EVENT) {
            rc = read_listener_mapping(r, line);
        } else if (r->event.type == YAML_SCALAR_EVENT && scalar_text(r)) {
            rc = config_listener_add(r->config, scalar_text(r), -1, why, sizeof(why));
            rc = rc == -EINVAL ? reader_fail(r, line, "listeners: %s", why) : rc;
        } else {
            rc = reader_fail(r, line, "listeners: an entry must be an address or a mapping");
        }
        if (rc) {
            return rc;
        }
    }
    if (rc == 0 && r->config->listener_count == 0) {
        return reader_fail(r, first, "listeners: the list is empty");
    }
    return rc;
}

/* The value of a known key; the present event is its first. */
static int read_value(struct reader *r, const struct config_key *key)
{
    size_t index = (size_t)(key - config_keys);
    unsigned line = reader_line(r);
    char why[WHY_MAX];

    if (r->key_lines[index]) {
        return reader_fail(r, line, "%s: set a second time, first in line %u", key->name, r->key_lines[index]);
    }
    r->key_lines[index] = line;
    if (is_null(r)) {
        return reader_fail(r, line, "%s: has no value", key->name);
    }
    if (key->type == CONFIG_LISTENERS) {
        return read_listeners(r);
    }
    if (r->event.type != YAML_SCALAR_EVENT || !scalar_text(r)) {
        return reader_fail(r, line, "%s: must be a single value", key->name);
    }
    int rc = config_value_set(r->config, key, scalar_text(r), why, sizeof(why));
    return rc == -EINVAL ? reader_fail(r, line, "%s: %s", key->name, why) : rc;
}

static int read_mapping(struct reader *r, const char *section);

/* What follows the name of a section: its mapping, or nothing when all its keys are commented out. */
static int read_section(struct reader *r, const char *name)
{
    unsigned line = reader_line(r);
    size_t len = strlen(name), first = 0;

    while (strncmp(config_keys[first].name, name, len) != 0 || config_keys[first].name[len] != '.') {
        first++;
    }
    if (r->section_lines[first]) {
        return reader_fail(r, line, "%s: stands here a second time, first before line %u", name,
                           r->section_lines[first]);
    }
    r->section_lines[first] = line;
    if (is_null(r)) {
        return 0;
    }
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        return reader_fail(r, line, "%s: is a section of keys, not a value", name);
    }
    return read_mapping(r, name);
}

/* From behind the start of a mapping to its end. Calls itself once at most: there are no sections within sections. */
static int read_mapping(struct reader *r, const char *section)
{
    char name[CONFIG_NAME_MAX], why[WHY_MAX];
    int rc;

    while ((rc = reader_next(r)) == 0 && r->event.type != YAML_MAPPING_END_EVENT) {
        unsigned line = reader_line(r);
        rc = read_name(r, section, name, sizeof(name));
        if (rc) {
            return rc;
        }
        const struct config_key *key = config_key_find(name);
        bool is_section = !key && !*section && config_section_exists(name);
        if (!key && !is_section) {
            config_unknown_key(name, why, sizeof(why));
            return reader_fail(r, line, "%s: %s", name, why);
        }
        rc = reader_next(r);
        if (rc == 0) {
            rc = key ? read_value(r, key) : read_section(r, name);
        }
        if (rc) {
            return rc;
        }
    }
    return rc;
}

static int read_document(struct reader *r)
{
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
        rc = read_mapping(r, "");
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

    assert(config_key_count <= KEYS_MAX);
    if (!yaml_parser_initialize(&r.parser)) {
        return -ENOMEM;
    }
    yaml_parser_set_input_file(&r.parser, in);
    int rc = read_document(&r);
    reader_drop(&r);
    yaml_parser_delete(&r.parser);
    return rc;
}
