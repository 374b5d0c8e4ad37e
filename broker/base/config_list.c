/* config_list.c -- lists of words, kept as one text "a, b". */
#include "broker/base/config_schema.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/base/network.h"

bool config_list_next(struct slice *rest, struct slice *ret_word)
{
    struct slice s = slice_trim(*rest);

    if (s.len == 0) {
        return false;
    }
    const uint8_t *comma = memchr(s.ptr, ',', s.len);
    size_t len = comma ? (size_t)(comma - s.ptr) : s.len;
    *ret_word = slice_trim(slice_of(s.ptr, len));
    *rest = slice_drop(s, comma ? len + 1 : len);
    return true;
}

size_t config_list_count(const char *list)
{
    struct slice rest = slice_str(list), word;
    size_t count = 0;

    while (config_list_next(&rest, &word)) {
        count++;
    }
    return count;
}

unsigned config_list_bits(const char *list, const char *const *names)
{
    struct slice rest = slice_str(list), word;
    unsigned bits = 0;
    char why[1];

    while (config_list_next(&rest, &word)) {
        int i = config_word_find(names, word, why, sizeof(why));
        bits |= i < 0 ? 0 : 1u << i;
    }
    return bits;
}

static int word_check(const struct config_key *key, struct slice word, char *error, size_t error_size)
{
    struct network network;

    if (word.len == 0) {
        snprintf(error, error_size, "an entry of the list is empty");
        return -EINVAL;
    }
    if (key->type == CONFIG_NETWORKS && network_parse(word, &network) != 0) {
        snprintf(error, error_size, "%.*s is not a network (examples: 10.0.0.0/8, 192.0.2.7, fd00::/8)", (int)word.len,
                 (const char *)word.ptr);
        return -EINVAL;
    }
    if (key->names && config_word_find(key->names, word, error, error_size) < 0) {
        return -EINVAL;
    }
    return 0;
}

/* Write the words with ", " between to out, which has room for twice the text. */
static int list_copy(const struct config_key *key, const char *text, char *out, char *error, size_t error_size)
{
    struct slice rest = slice_str(text), word = {0};
    size_t count = 0, used = 0;
    int rc;

    while (config_list_next(&rest, &word)) {
        if ((rc = word_check(key, word, error, error_size)) != 0) {
            return rc;
        }
        used += (size_t)sprintf(out + used, "%s%.*s", count ? ", " : "", (int)word.len, (const char *)word.ptr);
        count++;
    }
    out[used] = '\0';
    if (count > 0 && word.ptr[word.len + strspn((const char *)word.ptr + word.len, " \t")] == ',') {
        return word_check(key, slice_of(text, 0), error, error_size); /* a comma, and nothing behind it */
    }
    if (count < key->min || count > key->max) {
        snprintf(error, error_size, "%zu entries are not between %llu and %llu", count, (unsigned long long)key->min,
                 (unsigned long long)key->max);
        return -EINVAL;
    }
    return 0;
}

int config_list_set(void *base, const struct config_key *key, const char *text, char *error, size_t error_size)
{
    if (!config_text_printable(text)) {
        snprintf(error, error_size, "control characters and what is not UTF-8 are not allowed");
        return -EINVAL;
    }
    char *copy = malloc(2 * strlen(text) + 1);
    int rc = copy ? list_copy(key, text, copy, error, error_size) : -ENOMEM;
    if (rc) {
        free(copy);
        return rc;
    }
    char **value = config_value_string(base, key);
    free(*value);
    *value = copy;
    return 0;
}
