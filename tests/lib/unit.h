/* unit.h -- what every CUnit test file here shares: one table of tests, one main, a true exit status.
 *
 *     static void test_x(void) { CHECK(1 + 1 == 2); }
 *     UNIT_MAIN("proto/base/x", {"adds", test_x})
 *
 * CUnit exits 0 when tests fail; unit_main returns 1 then. CHECK_CASE names the row of a table that failed. */
#ifndef TERN_TESTS_LIB_UNIT_H
#define TERN_TESTS_LIB_UNIT_H

#include <CUnit/CUnit.h>

#include "proto/base/slice.h"

struct unit_test {
    const char *name;
    void (*run)(void);
};

int unit_main(const char *suite, const struct unit_test *tests, size_t count);

#define UNIT_MAIN(suite, ...) \
    int main(void) \
    { \
        static const struct unit_test tests[] = {__VA_ARGS__}; \
        return unit_main((suite), tests, COUNT_OF(tests)); \
    }

#define CHECK(condition) CU_ASSERT(condition)
#define CHECK_CASE(name, condition) unit_check_case((condition), (name), #condition, __FILE__, __LINE__)
void unit_check_case(bool ok, const char *name, const char *text, const char *file, unsigned line);

/* The bytes of a hex string ("30 05 0001", blanks ignored) in an exact-size heap copy, so that ASan sees one byte
 * over. Free with free((void *)s.ptr). */
struct slice unit_hex(const char *hex);

#endif
