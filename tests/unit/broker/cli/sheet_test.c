/* Aligned columns: widths, what is cut, and what a hostile name may not do to a terminal. */
#include "broker/cli/sheet.h"

#include <locale.h>
#include <stdlib.h>

#include "tests/lib/unit.h"

static const char *const titles[] = {"CLIENT", "TOPIC", "QUEUE"};
static const bool right[] = {false, false, true};

/* One row under the titles, in a string of the caller's. */
static char *print(const char *const cells[3], unsigned width, bool bold)
{
    struct sheet *s = sheet_new(COUNT_OF(titles), titles, right);
    struct buf out = {0};

    CU_ASSERT_FATAL(s != NULL);
    for (unsigned i = 0; i < 3; i++) {
        sheet_cell(s, cells[i]);
    }
    CU_ASSERT_FATAL(sheet_put(s, width, bold, &out) == 0);
    buf_u8(&out, 0);
    sheet_free(s);
    return (char *)out.ptr;
}

static const struct {
    const char *name, *cells[3];
    unsigned width;
    bool bold;
    const char *want;
} cases[] = {
    {"aligned", {"a", "x/y", "12"}, 0, false, "CLIENT  TOPIC  QUEUE\na       x/y       12\n"},
    {"bold titles", {"a", "b", "1"}, 0, true, "\033[1mCLIENT  TOPIC  QUEUE\033[0m\na       b          1\n"},
    {"fits exactly", {"a", "x/y", "12"}, 20, false, "CLIENT  TOPIC  QUEUE\na       x/y       12\n"},
    {"the widest is cut",
     {"abc", "0123456789012345", "7"},
     26,
     false,
     "CLIENT  TOPIC        QUEUE\nabc     01234567...      7\n"},
    {"numbers are never cut",
     {"a", "b", "1234567890"},
     5,
     false,
     "CLIENT  TOPIC       QUEUE\na       b      1234567890\n"},
    {"two bytes, one column", {"\xc3\xa4", "b", "1"}, 0, false, "CLIENT  TOPIC  QUEUE\n\xc3\xa4       b          1\n"},
    {"one character, two columns",
     {"\xe4\xb8\xad", "b", "1"},
     0,
     false,
     "CLIENT  TOPIC  QUEUE\n\xe4\xb8\xad      b          1\n"},
    {"control characters",
     {"\033[2J", "a\nb", "\xc2\x9b"},
     0,
     false,
     "CLIENT   TOPIC   QUEUE\n\\x1b[2J  a\\x0ab   \\x9b\n"},
};

static void test_print(void)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *text = print(cases[i].cells, cases[i].width, cases[i].bold);
        CHECK_CASE(cases[i].name, text && strcmp(text, cases[i].want) == 0);
        free(text);
    }
}

static void test_too_many_columns(void)
{
    CHECK(sheet_new(1000, titles, right) == NULL);
    sheet_free(NULL);
}

int main(void)
{
    static const struct unit_test tests[] = {{"prints", test_print}, {"bounds", test_too_many_columns}};

    return setlocale(LC_CTYPE, "C.UTF-8") ? unit_main("broker/cli/sheet", tests, COUNT_OF(tests)) : 1;
}
