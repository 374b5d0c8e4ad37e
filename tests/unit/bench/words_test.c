/* Commands split like a shell's, and the places in them. */
#include "bench/compare/words.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/lib/unit.h"

/* want: the words, each in brackets; NULL with the error. */
static const struct {
    const char *name, *text, *want;
    int rc;
} splits[] = {
    {"nothing", "", "", 0},
    {"blanks", " \t\n ", "", 0},
    {"words", " a  bc\td\n", "[a][bc][d]", 0},
    {"single quotes", "'a b' c'd e'f", "[a b][cd ef]", 0},
    {"double quotes", "\"a b\" \"\"", "[a b][]", 0},
    {"quotes in quotes", "'\"' \"'\"", "[\"][']", 0},
    {"backslash outside", "a\\ b \\\\ \\'", "[a b][\\][']", 0},
    {"backslash in single quotes", "'a\\b'", "[a\\b]", 0},
    {"backslash in double quotes", "\"\\\" \\\\ \\$ \\` \\n\"", "[\" \\ $ ` \\n]", 0},
    {"nothing is expanded", "$HOME *.c ~ `x` {a,b} a;b|c>d #e", "[$HOME][*.c][~][`x`][{a,b}][a;b|c>d][#e]", 0},
    {"single quote open", "a 'b", NULL, -EINVAL},
    {"double quote open", "a \"b", NULL, -EINVAL},
    {"escaped quote open", "\"a\\\"", NULL, -EINVAL},
    {"backslash at the end", "a\\", NULL, -EINVAL},
};

static void test_split(void)
{
    for (size_t i = 0; i < COUNT_OF(splits); i++) {
        struct words words;
        char got[256] = "";

        CHECK_CASE(splits[i].name, words_split(splits[i].text, &words) == splits[i].rc);
        for (uint32_t k = 0; k < words.count; k++) {
            strcat(strcat(strcat(got, "["), words.word[k]), "]");
        }
        CHECK_CASE(splits[i].name, strcmp(got, splits[i].want ? splits[i].want : "") == 0);
        CHECK_CASE(splits[i].name, words.word[words.count] == NULL);
        words_deinit(&words);
    }
}

static void test_split_bound(void)
{
    char text[2 * (WORDS_MAX + 1) + 1] = "";
    struct words words;

    for (int i = 0; i < WORDS_MAX; i++) {
        strcat(text, "a ");
    }
    CHECK(words_split(text, &words) == 0 && words.count == WORDS_MAX && !words.word[WORDS_MAX]);
    words_deinit(&words);
    strcat(text, "b");
    CHECK(words_split(text, &words) == -E2BIG && words.count == 0);
}

static const struct {
    const char *name, *text, *want;
} expansions[] = {
    {"nothing", "", ""},
    {"no place", "a{b}c{", "a{b}c{"},
    {"all three", "{port} {directory}/x -c {config}", "25001 /d/x -c /d/c"},
    {"within and twice", "tcp://h:{port}{port}", "tcp://h:2500125001"},
    {"cut short", "{port {Port} {{port}}", "{port {Port} {25001}"},
};

static void test_expand(void)
{
    const struct word_places places = {.port = 25001, .directory = "/d", .config = "/d/c"};
    char out[64];

    for (size_t i = 0; i < COUNT_OF(expansions); i++) {
        size_t len = strlen(expansions[i].want);
        char *exact = malloc(len + 1); /* one byte over is seen by ASan */

        CHECK_CASE(expansions[i].name, word_expand(expansions[i].text, &places, out, sizeof(out)) == 0);
        CHECK_CASE(expansions[i].name, strcmp(out, expansions[i].want) == 0);
        CHECK_CASE(expansions[i].name, word_expand(expansions[i].text, &places, exact, len + 1) == 0);
        CHECK_CASE(expansions[i].name, word_expand(expansions[i].text, &places, exact, len) == -E2BIG);
        free(exact);
    }
}

static void test_expand_without_config(void)
{
    const struct word_places places = {.port = 1, .directory = "/d"};
    char out[64];

    CHECK(word_expand("{config}", &places, out, sizeof(out)) == 0 && strcmp(out, "{config}") == 0);
}

UNIT_MAIN("bench/words", {"splits", test_split}, {"bound of words", test_split_bound}, {"places", test_expand},
          {"no config", test_expand_without_config})
