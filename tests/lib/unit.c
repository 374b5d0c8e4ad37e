/* unit.c -- the runner behind UNIT_MAIN, and bytes from hex. */
#include "tests/lib/unit.h"

#include <CUnit/Basic.h>
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

int unit_main(const char *suite_name, const struct unit_test *tests, size_t count)
{
    if (CU_initialize_registry() != CUE_SUCCESS) {
        fprintf(stderr, "%s: %s\n", suite_name, CU_get_error_msg());
        return 1;
    }
    CU_pSuite suite = CU_add_suite(suite_name, NULL, NULL);
    bool ready = suite != NULL;
    for (size_t i = 0; ready && i < count; i++) {
        ready = CU_add_test(suite, tests[i].name, tests[i].run) != NULL;
    }
    bool good = ready && CU_basic_run_tests() == CUE_SUCCESS && CU_get_number_of_failures() == 0 &&
                CU_get_number_of_tests_run() == count; /* a test that did not run has not passed */
    if (!good) {
        fprintf(stderr, "%s: FAILED\n", suite_name);
    }
    CU_cleanup_registry();
    return good ? 0 : 1;
}

void unit_check_case(bool ok, const char *name, const char *text, const char *file, unsigned line)
{
    char message[512];
    snprintf(message, sizeof(message), "case \"%s\": %s", name, text);
    CU_assertImplementation(ok, line, message, file, "", CU_FALSE);
}

static unsigned hex_digit(char c)
{
    assert(isxdigit((unsigned char)c));
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(tolower((unsigned char)c) - 'a') + 10;
}

struct slice unit_hex(const char *hex)
{
    size_t digits = 0;
    for (const char *p = hex; *p; p++) {
        digits += *p != ' ';
    }
    assert(digits % 2 == 0);

    uint8_t *bytes = malloc(digits / 2);
    assert(bytes || digits == 0);
    size_t i = 0;
    for (const char *p = hex; *p; p++) {
        if (*p != ' ') {
            unsigned digit = hex_digit(*p);
            bytes[i / 2] = (uint8_t)(i % 2 == 0 ? digit << 4 : bytes[i / 2] | digit);
            i++;
        }
    }
    return slice_of(bytes, digits / 2);
}
