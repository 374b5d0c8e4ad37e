/* written_vectors.h -- the golden bytes of what the store keeps: tests/vectors/written.hex.
 *
 * One row a line: `kind name | hex`. Blanks in the hex part fields for the reader. */
#ifndef TERN_TESTS_UNIT_BROKER_GROUP_WRITTEN_VECTORS_H
#define TERN_TESTS_UNIT_BROKER_GROUP_WRITTEN_VECTORS_H

#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/unit.h"

/* Call `seen` with each row of this kind. */
static inline void vectors_read(const char *kind, void (*seen)(void *arg, const char *name, const char *hex), void *arg)
{
    static char path[4096], line[16384];
    const char *source = getenv("TERN_SOURCE");

    snprintf(path, sizeof(path), "%s/tests/vectors/written.hex", source ? source : ".");
    FILE *in = fopen(path, "re");
    CHECK_CASE(path, in != NULL);
    while (in && fgets(line, sizeof(line), in)) {
        size_t len = strlen(kind);
        char *bar = strstr(line, " | ");
        if (line[0] == '#' || strncmp(line, kind, len) != 0 || line[len] != ' ' || !bar) {
            continue;
        }
        *bar = 0;
        char *hex = bar + 3;
        hex[strcspn(hex, "\r\n")] = 0;
        seen(arg, line + len + 1, hex);
    }
    if (in) {
        fclose(in);
    }
}

struct vectors_search {
    const char *name;
    struct slice found; /* the caller's */
    unsigned rows;
};

static inline void vectors_seen(void *arg, const char *name, const char *hex)
{
    struct vectors_search *search = arg;

    search->rows++;
    if (search->name && strcmp(name, search->name) == 0 && !search->found.ptr) {
        search->found = unit_hex(hex);
    }
}

static inline unsigned vectors_count(const char *kind)
{
    struct vectors_search search = {0};
    vectors_read(kind, vectors_seen, &search);
    return search.rows;
}

/* The bytes are those of this row. If not, the row as it should be is printed: a change of the form is a new version.
 */
static inline void vectors_check(const char *kind, const char *name, struct slice bytes)
{
    struct vectors_search search = {.name = name};

    vectors_read(kind, vectors_seen, &search);
    bool same = search.found.ptr && slice_eq(search.found, bytes);
    CHECK_CASE(name, same);
    if (!same) {
        printf("\n%s %s | ", kind, name);
        for (size_t i = 0; i < bytes.len; i++) {
            printf("%02x", bytes.ptr[i]);
        }
        printf("\n");
    }
    free((void *)search.found.ptr);
}

#endif
