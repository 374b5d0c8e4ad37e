/* words.c -- commands: texts into words, and places into texts. */
#include "bench/compare/words.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One step within a word: append what *at stands for to out, which has room for it, and advance both. *quote is ' or "
 * within such a pair, else 0. Returns 0, or -EINVAL at a backslash with nothing behind it. */
static int word_step(const char **at, char *quote, char **out)
{
    char c = *(*at)++;

    if (c == *quote && *quote) {
        *quote = 0;
    } else if (!*quote && (c == '\'' || c == '"')) {
        *quote = c;
    } else if (c == '\\' && *quote != '\'' && (!*quote || (**at && strchr("\"\\$`", **at)))) {
        if (!**at) {
            return -EINVAL;
        }
        *(*out)++ = *(*at)++;
    } else {
        *(*out)++ = c;
    }
    return 0;
}

/* The word that begins at *at, which is not blank, into buffer. Advances *at behind it. */
static int word_take(const char **at, char *buffer)
{
    char quote = 0;

    while (**at && (quote || !is_blank(**at))) {
        int rc = word_step(at, &quote, &buffer);
        if (rc) {
            return rc;
        }
    }
    *buffer = 0;
    return quote ? -EINVAL : 0;
}

static int words_add(struct words *words, const char **at, char *buffer)
{
    int rc = word_take(at, buffer);

    if (rc) {
        return rc;
    }
    if (words->count == WORDS_MAX) {
        return -E2BIG;
    }
    words->word[words->count] = strdup(buffer);
    if (!words->word[words->count]) {
        return -ENOMEM;
    }
    words->count++;
    return 0;
}

int words_split(const char *text, struct words *ret_words)
{
    char *buffer = malloc(strlen(text) + 1); /* no word is longer than the whole */
    int rc = buffer ? 0 : -ENOMEM;

    *ret_words = (struct words){0};
    while (rc == 0) {
        while (is_blank(*text)) {
            text++;
        }
        if (!*text) {
            break;
        }
        rc = words_add(ret_words, &text, buffer);
    }
    free(buffer);
    if (rc) {
        words_deinit(ret_words);
    }
    return rc;
}

void words_deinit(struct words *words)
{
    for (uint32_t i = 0; i < words->count; i++) {
        free(words->word[i]);
    }
    *words = (struct words){0};
}

/* What stands for the name in braces at text, and how long that is; NULL when it is none of the three. */
static const char *place_at(const char *text, const struct word_places *places, const char *port, size_t *ret_len)
{
    const struct {
        const char *name, *value;
    } table[] = {{"{port}", port}, {"{directory}", places->directory}, {"{config}", places->config}};

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        size_t len = strlen(table[i].name);
        if (table[i].value && strncmp(text, table[i].name, len) == 0) {
            *ret_len = len;
            return table[i].value;
        }
    }
    return NULL;
}

int word_expand(const char *text, const struct word_places *places, char *out, size_t size)
{
    char port[8];
    size_t at = 0;

    snprintf(port, sizeof(port), "%u", places->port);
    while (*text) {
        size_t taken = 1;
        const char *value = *text == '{' ? place_at(text, places, port, &taken) : NULL;
        size_t len = value ? strlen(value) : 1;
        if (at + len + 1 > size) {
            return -E2BIG;
        }
        memcpy(out + at, value ? value : text, len);
        at += len;
        text += taken;
    }
    if (at >= size) {
        return -E2BIG;
    }
    out[at] = 0;
    return 0;
}
