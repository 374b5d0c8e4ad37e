/* config_schema.h -- the tables behind config.h: what each key is called, means, may be, and where its value lives.
 *
 * Why: the file, the environment, --set, --print-config, the reference in the README and the answer "needs a restart"
 * all read these tables, so none of them can forget a key or disagree about a limit. There are two: the keys of the
 * configuration, and those of one listener; one set of code serves both, on the struct (`base`) that a table is about.
 * Touched by: config_*.c alone, on the thread that loads the configuration. */
#ifndef TERN_BROKER_BASE_CONFIG_SCHEMA_H
#define TERN_BROKER_BASE_CONFIG_SCHEMA_H

#include "broker/base/config.h"

enum config_type {
    CONFIG_BOOL,
    CONFIG_TRI, /* true, false, or auto, kept as -1 */
    CONFIG_INT,
    CONFIG_OCTAL, /* the mode of a file */
    CONFIG_BYTES,
    CONFIG_MS,      /* a duration, kept in milliseconds */
    CONFIG_SECONDS, /* a duration, kept in whole seconds */
    CONFIG_ENUM,
    CONFIG_STRING,   /* min and max are its length in bytes */
    CONFIG_LIST,     /* of words, kept as one text "a, b"; min and max are the number of words */
    CONFIG_NETWORKS, /* a list of networks */
    CONFIG_LISTENERS,
};

struct config_key {
    const char *name; /* dotted: section.key, or the key alone */
    enum config_type type;
    size_t offset, size;    /* of the value in its struct */
    const char *by_default; /* as a person would write it; NULL: none that could be written down */
    uint64_t min, max;      /* in the unit that is stored */
    uint64_t infinity;      /* what the word infinity stands for; 0: not allowed */
    bool reload;            /* SIGHUP takes a new value */
    const char *const
        *names; /* the words, NULL at the end: of CONFIG_ENUM by value, of CONFIG_LIST by bit, if it has any */
    const char *description; /* one sentence */
};

struct config_table {
    const struct config_key *keys;
    size_t count;
};

/* More than either table has. */
#define CONFIG_KEYS_MAX 128

/* Limits that both tables know. */
#define CONFIG_COUNT_MAX 4000000000u /* below UINT32_MAX, so that sums of one more do not wrap */
#define CONFIG_PACKET_MAX 268435460u /* the longest packet that MQTT's remaining length allows: 5 + 268,435,455 */
#define CONFIG_RATE_MAX (1ull << 40) /* bytes a second */
#define CONFIG_PATH_MAX 4000
#define CONFIG_URL_MAX 2000
#define CONFIG_TEXT_MAX 255
#define CONFIG_WORDS_MAX 64 /* of a list */

/* The keys of struct config, and of struct config_listener. Those of one section stand together. */
extern const struct config_table config_keys, config_listener_keys;

/* Words of the lists that have an enum of bits in config.h (of algorithms: in auth/jwt.h), in the order of the bits. */
extern const char *const config_method_names[], *const config_version_names[], *const config_algorithm_names[];

/* The key of that name, or NULL. */
const struct config_key *config_key_find(const struct config_table *table, const char *name);

/* The first key of the section of that name, or NULL. */
const struct config_key *config_section_find(const struct config_table *table, const char *name);

/* Room for the longest name of a key, with its NUL. */
#define CONFIG_NAME_MAX 64

/* "unknown key; did you mean X?" for a name that is none. */
void config_unknown_key(const struct config_table *table, const char *name, char *out, size_t out_size);

/* ---- values; base is the struct that the key's table is about ---- */

/* Parse text and put it in its place. Returns 0, -ENOMEM, or -EINVAL with in error what is wrong with the text ("12XB
 * is not a size (examples: 64KiB, 2MB)"). Listeners replace the former ones. */
int config_value_set(void *base, const struct config_key *key, const char *text, char *error, size_t error_size);

/* Set all keys to their defaults; those without one to an empty text. Returns 0 or -ENOMEM. */
int config_values_default(const struct config_table *table, void *base);

/* Free all texts. */
void config_values_free(const struct config_table *table, void *base);

/* Whether the key's value is kept as a text, which knows no bound. */
bool config_is_text(const struct config_key *key);

/* The value as text that config_value_set takes. Not for texts and listeners. */
void config_value_format(const void *base, const struct config_key *key, char *out, size_t out_size);

/* A number of the key's type and unit as text, as its limits are shown. */
void config_number_format(const struct config_key *key, uint64_t value, char *out, size_t out_size);

/* The stored number of a key that has one (all but texts and listeners). */
uint64_t config_value_number(const void *base, const struct config_key *key);

/* The stored text of a key for which config_is_text. */
char **config_value_string(const void *base, const struct config_key *key);

bool config_value_eq(const void *a, const void *b, const struct config_key *key);

/* The word's place among names, which end with NULL; or -EINVAL with a sentence that lists them. */
int config_word_find(const char *const *names, struct slice word, char *error, size_t error_size);

/* Strings end up in packets, logs and --print-config: no control characters, nothing but UTF-8. */
bool config_text_printable(const char *text);

/* ---- lists ---- */

/* As config_value_set, for CONFIG_LIST and CONFIG_NETWORKS. */
int config_list_set(void *base, const struct config_key *key, const char *text, char *error, size_t error_size);

/* Bit i for each names[i] in the list. */
unsigned config_list_bits(const char *list, const char *const *names);

size_t config_list_count(const char *list);

/* ---- listeners ---- */

/* A listener with defaults and no address. Returns 0 or -ENOMEM; deinit it in both cases, unless it was added. */
int config_listener_init(struct config_listener *listener);
void config_listener_deinit(struct config_listener *listener);

/* Take its address apart and move the listener to the end of the list, which owns it then. Returns as config_value_set;
 * the listener is the caller's still if not 0. */
int config_listener_add(struct config *config, struct config_listener *listener, char *error, size_t error_size);

/* Add what one word says: an address, or ADDRESS?KEY=VALUE&KEY=VALUE with %XX for bytes that would end a value. */
int config_listener_add_word(struct config *config, const char *word, char *error, size_t error_size);

/* Add each word of a comma-separated text. */
int config_listeners_add(struct config *config, const char *text, char *error, size_t error_size);
void config_listeners_clear(struct config *config);

/* Read YAML from in, which is called name in messages, into config. Returns 0, -ENOMEM, or -EINVAL with one whole
 * sentence in error; config may then hold part of the file. */
int config_yaml_read(struct config *config, FILE *in, const char *name, char *error, size_t error_size);

#endif
