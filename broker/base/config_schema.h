/* config_schema.h -- the table behind config.h: what each key is called, means, may be, and where its value lives.
 *
 * Why: the file, the environment, --set, --print-config, the reference in the README and the answer "needs a restart"
 * all read this one table, so none of them can forget a key or disagree about a limit.
 * Touched by: config_*.c alone, on the thread that loads the configuration. */
#ifndef TERN_BROKER_BASE_CONFIG_SCHEMA_H
#define TERN_BROKER_BASE_CONFIG_SCHEMA_H

#include "broker/base/config.h"

enum config_type {
    CONFIG_BOOL,
    CONFIG_INT,
    CONFIG_BYTES,
    CONFIG_MS,      /* a duration, kept in milliseconds */
    CONFIG_SECONDS, /* a duration, kept in whole seconds */
    CONFIG_ENUM,
    CONFIG_STRING, /* min and max are its length in bytes */
    CONFIG_LISTENERS,
};

struct config_key {
    const char *name; /* dotted: section.key, or the key alone */
    enum config_type type;
    size_t offset, size;      /* of the value in struct config */
    const char *by_default;   /* as a person would write it; NULL: set by config_defaults */
    uint64_t min, max;        /* in the unit that is stored */
    uint64_t infinity;        /* what the word infinity stands for; 0: not allowed */
    bool reload;              /* SIGHUP takes a new value */
    const char *const *names; /* CONFIG_ENUM: words, indexed by value, NULL at the end */
    const char *description;  /* one sentence */
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

/* The key of that name, or NULL. */
const struct config_key *config_key_find(const char *name);

/* Whether name is the part before the dot of some key. */
bool config_section_exists(const char *name);

/* The name of the key that a person who wrote `name` most likely meant; NULL if none is
 * near. */
const char *config_key_nearest(const char *name);

/* Parse text and put it in its place in config. Returns 0, -ENOMEM, or -EINVAL with in error what is wrong with the
 * text
 * ("12XB is not a size (examples: 64KiB, 2MB)"). A listener list is comma separated and replaces the former one. */
int config_value_set(struct config *config, const struct config_key *key, const char *text, char *error,
                     size_t error_size);

/* Add one listener. allow_anonymous as in struct config_listener. Returns as config_value_set. */
int config_listener_add(struct config *config, const char *address, int allow_anonymous, char *error,
                        size_t error_size);
void config_listeners_clear(struct config *config);

/* The value as text that config_value_set takes. Not for strings and listeners, which know no bound. */
void config_value_format(const struct config *config, const struct config_key *key, char *out, size_t out_size);

/* A number of the key's type and unit as text, as its limits are shown. */
void config_number_format(const struct config_key *key, uint64_t value, char *out, size_t out_size);

/* The stored number of a key that has one (all but strings and listeners). */
uint64_t config_value_number(const struct config *config, const struct config_key *key);

/* The stored string of a CONFIG_STRING key. */
char **config_value_string(const struct config *config, const struct config_key *key);

bool config_value_eq(const struct config *a, const struct config *b, const struct config_key *key);

/* "true", "false"; -1 otherwise. */
int config_bool_parse(const char *text);

/* Room for the longest name of a key, with its NUL. */
#define CONFIG_NAME_MAX 64

/* "unknown key; did you mean X?" for a name that is none. */
void config_unknown_key(const char *name, char *out, size_t out_size);

/* Read YAML from in, which is called name in messages, into config. Returns 0, -ENOMEM, or -EINVAL with one whole
 * sentence in error; config may then hold part of the file. */
int config_yaml_read(struct config *config, FILE *in, const char *name, char *error, size_t error_size);

#endif
