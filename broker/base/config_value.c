/* config_value.c -- text to value and back, one pair per type of the schema. */
#include "broker/base/config_schema.h"

#include "proto/base/utf8.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define TRI_AUTO 0xFFFFFFFFu /* -1 in the int that is stored */

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first within each kind: config_number_format takes the first that divides without rest. Decimal units are
 * read, not written, so they stand behind the binary ones. */
static const struct unit units_bytes[] = {
    {"TiB", 1ull << 40},
    {"GiB", 1ull << 30},
    {"MiB", 1ull << 20},
    {"KiB", 1ull << 10},
    {"B", 1},
    {"TB", 1000000000000ull},
    {"GB", 1000000000ull},
    {"MB", 1000000ull},
    {"KB", 1000ull},
    {"kB", 1000ull},
    {NULL, 0},
};
static const struct unit units_ms[] = {
    {"d", 86400000ull}, {"h", 3600000ull}, {"m", 60000ull}, {"s", 1000ull}, {"ms", 1}, {NULL, 0},
};
static const struct unit units_seconds[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}, {NULL, 0}};
static const struct unit units_none[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(enum config_type type)
{
    switch (type) {
    case CONFIG_BYTES:
        return units_bytes;
    case CONFIG_MS:
        return units_ms;
    case CONFIG_SECONDS:
        return units_seconds;
    default:
        return units_none;
    }
}

static const char *type_hint(enum config_type type)
{
    switch (type) {
    case CONFIG_BYTES:
        return "a size (examples: 64KiB, 2MB)";
    case CONFIG_MS:
        return "a duration (examples: 15s, 500ms, 2h)";
    case CONFIG_SECONDS:
        return "a duration in whole seconds (examples: 15s, 10m, 2h)";
    default:
        return "a whole number";
    }
}

bool config_is_text(const struct config_key *key)
{
    return key->type == CONFIG_STRING || key->type == CONFIG_LIST || key->type == CONFIG_NETWORKS;
}

/* Digits, then a unit of the type. It may be left out where bytes are meant, and behind 0. */
static bool number_parse(const char *text, enum config_type type, uint64_t *ret_number)
{
    const char *at = text;
    uint64_t number = 0;

    for (; isdigit((unsigned char)*at); at++) {
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number)) {
            return false;
        }
    }
    if (at == text) {
        return false;
    }
    if (*at == '\0' && (type == CONFIG_BYTES || number == 0)) {
        *ret_number = number;
        return true;
    }
    for (const struct unit *u = units_of(type); u->name; u++) {
        if (strcmp(at, u->name) == 0 && !__builtin_mul_overflow(number, u->factor, &number)) {
            *ret_number = number;
            return true;
        }
    }
    return false;
}

uint64_t config_value_number(const void *base, const struct config_key *key)
{
    const char *at = (const char *)base + key->offset;
    uint64_t wide;
    uint32_t narrow;

    assert(!config_is_text(key) && key->type != CONFIG_LISTENERS);
    switch (key->size) {
    case sizeof(bool):
        return *(const bool *)at;
    case sizeof(narrow):
        memcpy(&narrow, at, sizeof(narrow));
        return narrow;
    default:
        assert(key->size == sizeof(wide));
        memcpy(&wide, at, sizeof(wide));
        return wide;
    }
}

static void number_store(void *base, const struct config_key *key, uint64_t number)
{
    char *at = (char *)base + key->offset;
    uint32_t narrow = (uint32_t)number;

    switch (key->size) {
    case sizeof(bool):
        *(bool *)at = number != 0;
        break;
    case sizeof(narrow):
        assert(number <= UINT32_MAX);
        memcpy(at, &narrow, sizeof(narrow));
        break;
    default:
        assert(key->size == sizeof(number));
        memcpy(at, &number, sizeof(number));
    }
}

char **config_value_string(const void *base, const struct config_key *key)
{
    assert(config_is_text(key));
    return (char **)((uintptr_t)base + key->offset);
}

static int number_set(void *base, const struct config_key *key, const char *text, char *error, size_t error_size)
{
    uint64_t number;

    if (key->infinity && strcmp(text, "infinity") == 0) {
        number_store(base, key, key->infinity);
        return 0;
    }
    if (!number_parse(text, key->type, &number)) {
        snprintf(error, error_size, "%s is not %s%s", text, type_hint(key->type),
                 key->infinity ? ", nor the word infinity" : "");
        return -EINVAL;
    }
    if (number < key->min || number > key->max) {
        char min[32], max[32];
        config_number_format(key, key->min, min, sizeof(min));
        config_number_format(key, key->max, max, sizeof(max));
        snprintf(error, error_size, "%s is not between %s and %s", text, min, max);
        return -EINVAL;
    }
    number_store(base, key, number);
    return 0;
}

static int truth_set(void *base, const struct config_key *key, const char *text, char *error, size_t error_size)
{
    if (strcmp(text, "true") == 0) {
        number_store(base, key, 1);
    } else if (strcmp(text, "false") == 0) {
        number_store(base, key, 0);
    } else if (key->type == CONFIG_TRI && strcmp(text, "auto") == 0) {
        number_store(base, key, TRI_AUTO);
    } else {
        snprintf(error, error_size, "%s is not true or false%s", text, key->type == CONFIG_TRI ? ", nor auto" : "");
        return -EINVAL;
    }
    return 0;
}

static int octal_set(void *base, const struct config_key *key, const char *text, char *error, size_t error_size)
{
    uint64_t number = 0;
    size_t i = 0;

    for (; text[i] >= '0' && text[i] <= '7' && number <= key->max; i++) {
        number = number * 8 + (uint64_t)(text[i] - '0');
    }
    if (i == 0 || text[i] || number > key->max) {
        snprintf(error, error_size, "%s is not a mode in octal (0000 to %04o; example: 0660)", text,
                 (unsigned)key->max);
        return -EINVAL;
    }
    number_store(base, key, number);
    return 0;
}

int config_word_find(const char *const *names, struct slice word, char *error, size_t error_size)
{
    char words[128] = "";

    for (int i = 0; names[i]; i++) {
        if (slice_eq(word, slice_str(names[i]))) {
            return i;
        }
        size_t len = strlen(words);
        snprintf(words + len, sizeof(words) - len, "%s%s", i ? ", " : "", names[i]);
    }
    snprintf(error, error_size, "%.*s is not one of %s", (int)word.len, (const char *)word.ptr, words);
    return -EINVAL;
}

static int enum_set(void *base, const struct config_key *key, const char *text, char *error, size_t error_size)
{
    int i = config_word_find(key->names, slice_str(text), error, error_size);

    if (i < 0) {
        return i;
    }
    number_store(base, key, (uint64_t)i);
    return 0;
}

/* C1 counts as control characters; non-characters do not pass either. */
bool config_text_printable(const char *text)
{
    if (!utf8_valid(slice_str(text))) {
        return false;
    }
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at < 0x20 || *at == 0x7F || (at[0] == 0xC2 && at[1] < 0xA0) ||
            (at[0] == 0xEF && at[1] == 0xBF && at[2] >= 0xBE)) {
            return false;
        }
    }
    return true;
}

static int string_set(void *base, const struct config_key *key, const char *text, char *error, size_t error_size)
{
    size_t len = strlen(text);

    if (len < key->min || len > key->max) {
        snprintf(error, error_size, "%zu bytes are not between %llu and %llu", len, (unsigned long long)key->min,
                 (unsigned long long)key->max);
        return -EINVAL;
    }
    if (!config_text_printable(text)) {
        snprintf(error, error_size, "control characters and what is not UTF-8 are not allowed");
        return -EINVAL;
    }
    char *copy = strdup(text);
    if (!copy) {
        return -ENOMEM;
    }
    char **value = config_value_string(base, key);
    free(*value);
    *value = copy;
    return 0;
}

int config_value_set(void *base, const struct config_key *key, const char *text, char *error, size_t error_size)
{
    switch (key->type) {
    case CONFIG_BOOL:
    case CONFIG_TRI:
        return truth_set(base, key, text, error, error_size);
    case CONFIG_OCTAL:
        return octal_set(base, key, text, error, error_size);
    case CONFIG_ENUM:
        return enum_set(base, key, text, error, error_size);
    case CONFIG_STRING:
        return string_set(base, key, text, error, error_size);
    case CONFIG_LIST:
    case CONFIG_NETWORKS:
        return config_list_set(base, key, text, error, error_size);
    case CONFIG_LISTENERS:
        config_listeners_clear(base);
        return config_listeners_add(base, text, error, error_size);
    default:
        return number_set(base, key, text, error, error_size);
    }
}

int config_values_default(const struct config_table *table, void *base)
{
    char error[256];

    for (size_t i = 0; i < table->count; i++) {
        const struct config_key *key = &table->keys[i];
        int rc = 0;
        if (key->by_default) {
            rc = config_value_set(base, key, key->by_default, error, sizeof(error));
            assert(rc != -EINVAL);
        } else {
            char **value = config_value_string(base, key);
            *value = strdup("");
            rc = *value ? 0 : -ENOMEM;
        }
        if (rc) {
            return rc;
        }
    }
    return 0;
}

void config_values_free(const struct config_table *table, void *base)
{
    for (size_t i = 0; i < table->count; i++) {
        if (config_is_text(&table->keys[i])) {
            free(*config_value_string(base, &table->keys[i]));
        }
    }
}

void config_number_format(const struct config_key *key, uint64_t value, char *out, size_t out_size)
{
    if (key->infinity && value == key->infinity) {
        snprintf(out, out_size, "infinity");
        return;
    }
    if (value == 0) {
        snprintf(out, out_size, "0");
        return;
    }
    const struct unit *u = units_of(key->type);
    while (value % u->factor) {
        u++;
    }
    snprintf(out, out_size, "%llu%s", (unsigned long long)(value / u->factor), u->name);
}

void config_value_format(const void *base, const struct config_key *key, char *out, size_t out_size)
{
    uint64_t number = config_value_number(base, key);

    switch (key->type) {
    case CONFIG_BOOL:
    case CONFIG_TRI:
        snprintf(out, out_size, "%s", number == TRI_AUTO ? "auto" : number ? "true" : "false");
        break;
    case CONFIG_OCTAL:
        snprintf(out, out_size, "%04o", (unsigned)number);
        break;
    case CONFIG_ENUM:
        snprintf(out, out_size, "%s", key->names[number]);
        break;
    default:
        config_number_format(key, number, out, out_size);
    }
}

static bool listeners_eq(const struct config *a, const struct config *b)
{
    if (a->listener_count != b->listener_count) {
        return false;
    }
    for (unsigned i = 0; i < a->listener_count; i++) {
        for (size_t k = 0; k < config_listener_keys.count; k++) {
            if (!config_value_eq(&a->listeners[i], &b->listeners[i], &config_listener_keys.keys[k])) {
                return false;
            }
        }
    }
    return true;
}

bool config_value_eq(const void *a, const void *b, const struct config_key *key)
{
    if (key->type == CONFIG_LISTENERS) {
        return listeners_eq(a, b);
    }
    if (config_is_text(key)) {
        return strcmp(*config_value_string(a, key), *config_value_string(b, key)) == 0;
    }
    return config_value_number(a, key) == config_value_number(b, key);
}
