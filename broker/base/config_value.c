/* config_value.c -- text to value and back, one pair per type of the schema. */
#include "broker/base/config_schema.h"

#include "proto/base/utf8.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

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

int config_bool_parse(const char *text)
{
    if (strcmp(text, "true") == 0) {
        return 1;
    }
    return strcmp(text, "false") == 0 ? 0 : -1;
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

uint64_t config_value_number(const struct config *config, const struct config_key *key)
{
    const char *at = (const char *)config + key->offset;
    uint64_t wide;
    uint32_t narrow;

    assert(key->type != CONFIG_STRING && key->type != CONFIG_LISTENERS);
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

static void number_store(struct config *config, const struct config_key *key, uint64_t number)
{
    char *at = (char *)config + key->offset;
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

char **config_value_string(const struct config *config, const struct config_key *key)
{
    assert(key->type == CONFIG_STRING);
    return (char **)((uintptr_t)config + key->offset);
}

static int number_set(struct config *config, const struct config_key *key, const char *text, char *error,
                      size_t error_size)
{
    uint64_t number;

    if (key->infinity && strcmp(text, "infinity") == 0) {
        number_store(config, key, key->infinity);
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
    number_store(config, key, number);
    return 0;
}

static int enum_set(struct config *config, const struct config_key *key, const char *text, char *error,
                    size_t error_size)
{
    char words[128] = "";

    for (unsigned i = 0; key->names[i]; i++) {
        if (strcmp(text, key->names[i]) == 0) {
            number_store(config, key, i);
            return 0;
        }
        size_t len = strlen(words);
        snprintf(words + len, sizeof(words) - len, "%s%s", i ? ", " : "", key->names[i]);
    }
    snprintf(error, error_size, "%s is not one of %s", text, words);
    return -EINVAL;
}

/* Strings end up in packets, logs and --print-config: no control characters (C1 included), no non-characters. */
static bool string_printable(const char *text)
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

static int string_set(struct config *config, const struct config_key *key, const char *text, char *error,
                      size_t error_size)
{
    size_t len = strlen(text);

    if (len < key->min || len > key->max) {
        snprintf(error, error_size, "%zu bytes are not between %llu and %llu", len, (unsigned long long)key->min,
                 (unsigned long long)key->max);
        return -EINVAL;
    }
    if (!string_printable(text)) {
        snprintf(error, error_size, "control characters and what is not UTF-8 are not allowed");
        return -EINVAL;
    }
    char *copy = strdup(text);
    if (!copy) {
        return -ENOMEM;
    }
    char **value = config_value_string(config, key);
    free(*value);
    *value = copy;
    return 0;
}

/* "tcp://a:1,tcp://[::1]:2?allow_anonymous=true": all or nothing. */
static int listeners_set(struct config *config, const char *text, char *error, size_t error_size)
{
    static const char option[] = "?allow_anonymous=";
    char *copy = strdup(text), *rest = copy, *part;
    int rc = copy ? 0 : -ENOMEM;

    config_listeners_clear(config);
    while (rc == 0 && (part = strsep(&rest, ",")) != NULL) {
        int anonymous = -1;
        char *query = strchr(part, '?');

        part += strspn(part, " ");
        if (query) {
            anonymous =
                strncmp(query, option, sizeof(option) - 1) == 0 ? config_bool_parse(query + sizeof(option) - 1) : -1;
            if (anonymous < 0) {
                snprintf(error, error_size, "%s is not an option of a listener (allow_anonymous=true or false)", query);
                rc = -EINVAL;
                break;
            }
            *query = '\0';
        }
        rc = config_listener_add(config, part, anonymous, error, error_size);
    }
    free(copy);
    return rc;
}

int config_value_set(struct config *config, const struct config_key *key, const char *text, char *error,
                     size_t error_size)
{
    int truth;

    switch (key->type) {
    case CONFIG_BOOL:
        truth = config_bool_parse(text);
        if (truth < 0) {
            snprintf(error, error_size, "%s is not true or false", text);
            return -EINVAL;
        }
        number_store(config, key, (uint64_t)truth);
        return 0;
    case CONFIG_ENUM:
        return enum_set(config, key, text, error, error_size);
    case CONFIG_STRING:
        return string_set(config, key, text, error, error_size);
    case CONFIG_LISTENERS:
        return listeners_set(config, text, error, error_size);
    default:
        return number_set(config, key, text, error, error_size);
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

void config_value_format(const struct config *config, const struct config_key *key, char *out, size_t out_size)
{
    uint64_t number = config_value_number(config, key);

    if (key->type == CONFIG_BOOL) {
        snprintf(out, out_size, "%s", number ? "true" : "false");
    } else if (key->type == CONFIG_ENUM) {
        snprintf(out, out_size, "%s", key->names[number]);
    } else {
        config_number_format(key, number, out, out_size);
    }
}

static bool listeners_eq(const struct config *a, const struct config *b)
{
    if (a->listener_count != b->listener_count) {
        return false;
    }
    for (unsigned i = 0; i < a->listener_count; i++) {
        if (strcmp(a->listeners[i].address, b->listeners[i].address) != 0 ||
            a->listeners[i].allow_anonymous != b->listeners[i].allow_anonymous) {
            return false;
        }
    }
    return true;
}

bool config_value_eq(const struct config *a, const struct config *b, const struct config_key *key)
{
    switch (key->type) {
    case CONFIG_LISTENERS:
        return listeners_eq(a, b);
    case CONFIG_STRING:
        return strcmp(*config_value_string(a, key), *config_value_string(b, key)) == 0;
    default:
        return config_value_number(a, key) == config_value_number(b, key);
    }
}
