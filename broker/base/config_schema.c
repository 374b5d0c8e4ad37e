/* config_schema.c -- finding a key in a table, and the one that was meant by a name that is none. */
#include "broker/base/config_schema.h"

const struct config_key *config_key_find(const struct config_table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->keys[i].name, name) == 0) {
            return &table->keys[i];
        }
    }
    return NULL;
}

const struct config_key *config_section_find(const struct config_table *table, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < table->count; i++) {
        if (strncmp(table->keys[i].name, name, len) == 0 && table->keys[i].name[len] == '.') {
            return &table->keys[i];
        }
    }
    return NULL;
}

/* How many letters must be added, dropped or changed to come from a to b; only the first NEAREST_MAX letters count,
 * which keeps the row on the stack. */
#define NEAREST_MAX 64u

static unsigned edit_distance(const char *a, const char *b)
{
    size_t a_len = strnlen(a, NEAREST_MAX), b_len = strnlen(b, NEAREST_MAX);
    unsigned row[NEAREST_MAX + 1];

    for (size_t j = 0; j <= b_len; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned change = diagonal + (a[i - 1] != b[j - 1]);
            unsigned drop = row[j] + 1, add = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = change < drop ? change : drop;
            row[j] = row[j] < add ? row[j] : add;
        }
    }
    return row[b_len];
}

/* The name of the key that a person who wrote `name` most likely meant; NULL if none is near. */
static const char *key_nearest(const struct config_table *table, const char *name)
{
    size_t len = strnlen(name, NEAREST_MAX);
    unsigned best = (unsigned)(len / 3 < 2 ? 2 : len / 3) + 1;
    const char *nearest = NULL;

    for (size_t i = 0; i < table->count; i++) {
        const char *key = table->keys[i].name, *dot = strchr(key, '.');
        unsigned distance = edit_distance(name, key);
        /* Who forgot the section wrote the rest right: nearer than any misspelling. */
        if (dot && strcmp(dot + 1, name) == 0) {
            distance = 0;
        }
        if (distance < best) {
            best = distance;
            nearest = key;
        }
    }
    return nearest;
}

void config_unknown_key(const struct config_table *table, const char *name, char *out, size_t out_size)
{
    const char *nearest = key_nearest(table, name);

    if (nearest) {
        snprintf(out, out_size, "unknown key; did you mean %s?", nearest);
    } else {
        snprintf(out, out_size, "unknown key (tern --print-config lists all)");
    }
}
