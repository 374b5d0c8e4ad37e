/* The arithmetic of a comparison: medians, ratios, bounds; the table they end in; and figures found in a result. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/compare/compare_run.h"
#include "tests/lib/unit.h"

static bool near(double a, double b)
{
    return isnan(b) ? isnan(a) : isinf(b) ? isinf(a) : fabs(a - b) < 1e-9;
}

/* --- spread ---------------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    double figures[4];
    uint32_t count;
    struct compare_spread want;
} spreads[] = {
    {"none", {0}, 0, {NAN, NAN, NAN, 0}},
    {"one", {5}, 1, {5, 5, 5, 1}},
    {"two", {5, 2}, 2, {3.5, 2, 5, 2}},
    {"three, not sorted", {9, 1, 4}, 3, {4, 1, 9, 3}},
    {"four", {4, 1, 3, 2}, 4, {2.5, 1, 4, 4}},
    {"a round without a figure", {9, NAN, 1, 4}, 4, {4, 1, 9, 3}},
    {"no round with a figure", {NAN, NAN}, 2, {NAN, NAN, NAN, 0}},
    {"infinity is large", {INFINITY, 1, 2}, 3, {2, 1, INFINITY, 3}},
};

static void test_spread(void)
{
    for (size_t i = 0; i < COUNT_OF(spreads); i++) {
        struct compare_spread got = compare_spread_of(spreads[i].figures, spreads[i].count);
        CHECK_CASE(spreads[i].name, near(got.median, spreads[i].want.median));
        CHECK_CASE(spreads[i].name, near(got.min, spreads[i].want.min));
        CHECK_CASE(spreads[i].name, near(got.max, spreads[i].want.max));
        CHECK_CASE(spreads[i].name, got.count == spreads[i].want.count);
    }
}

/* --- a table of one scenario, and three brokers: m (the reference), a and b
 * ------------------------------------------- */

static struct case_scenario scenario;
static struct case_broker brokers[3];
static struct cases cases;
static struct compare_table table;

/* Three rounds of each of the three. */
static void table_make(const double figures[3][3])
{
    scenario = (struct case_scenario){.name = "s"};
    brokers[0] = (struct case_broker){.name = "m", .reference = true};
    brokers[1] = (struct case_broker){.name = "a"};
    brokers[2] = (struct case_broker){.name = "b"};
    cases = (struct cases){.scenario_count = 1, .broker_count = 3, .scenarios = &scenario, .brokers = brokers};
    compare_table_init(&table, &cases, 3);
    table.scenario_on[0] = true;
    snprintf(table.units[0], sizeof(table.units[0]), "us");
    for (int b = 0; b < 3; b++) {
        table.broker_on[b] = true;
        for (int i = 0; i < 3; i++) {
            table.cells[0][b].figures[i] = figures[b][i];
        }
    }
}

static const struct {
    const char *name;
    double reference[3], broker[3], want;
} ratios[] = {
    {"the median of the ratios, not the ratio of the medians", {1, 10, 2}, {3, 5, 4}, 2},
    {"a round that the broker lacks", {1, 2, 4}, {2, NAN, 12}, 2.5},
    {"a round that the reference lacks", {NAN, 2, NAN}, {2, 5, 12}, 2.5},
    {"no round with both", {NAN, 2, NAN}, {2, NAN, 12}, NAN},
    {"both need nothing", {0, 0, 0}, {0, 0, 0}, 1},
    {"the reference needs nothing", {0, 0, 0}, {1, 1, 1}, INFINITY},
};

static void test_ratio(void)
{
    for (size_t i = 0; i < COUNT_OF(ratios); i++) {
        double figures[3][3] = {{0}};
        memcpy(figures[0], ratios[i].reference, sizeof(figures[0]));
        memcpy(figures[1], ratios[i].broker, sizeof(figures[1]));
        table_make(figures);
        CHECK_CASE(ratios[i].name, near(compare_ratio(&table, 0, 1, 0), ratios[i].want));
    }
}

static void test_reference(void)
{
    table_make((double[3][3]){{1, 1, 1}, {1, 1, 1}, {1, 1, 1}});
    CHECK(compare_reference(&table) == 0);
    table.broker_on[0] = false; /* not installed */
    CHECK(compare_reference(&table) == -1);
    table.broker_on[0] = true;
    brokers[0].reference = false;
    CHECK(compare_reference(&table) == -1);
}

/* --- bounds: m needs 10, a 5, b 8 -----------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    struct case_bound bound;
    uint32_t broker;
    enum compare_verdict want;
    double value;
} verdicts[] = {
    {"a ratio met", {.most = 0.6}, 1, COMPARE_MET, 0.5},
    {"a ratio just met", {.most = 0.5}, 1, COMPARE_MET, 0.5},
    {"a ratio missed", {.most = 0.6}, 2, COMPARE_MISSED, 0.8},
    {"the reference is not asked", {.most = 0.6}, 0, COMPARE_UNASKED, NAN},
    {"a limit met", {.most = 5, .absolute = true}, 1, COMPARE_MET, 5},
    {"a limit missed", {.most = 5, .absolute = true}, 2, COMPARE_MISSED, 8},
    {"a limit for another",
     {.most = 5, .absolute = true, .brokers = {"a"}, .broker_count = 1},
     2,
     COMPARE_UNASKED,
     NAN},
    {"a limit for the reference",
     {.most = 5, .absolute = true, .brokers = {"m"}, .broker_count = 1},
     0,
     COMPARE_MISSED,
     10},
    {"to another, met", {.most = 2, .reference = "a"}, 2, COMPARE_MET, 1.6},
    {"to another, missed",
     {.most = 1.25, .reference = "a", .brokers = {"b"}, .broker_count = 1},
     2,
     COMPARE_MISSED,
     1.6},
    {"to oneself is not asked", {.most = 1, .reference = "a"}, 1, COMPARE_UNASKED, NAN},
    {"to another that is unknown", {.most = 1, .reference = "z"}, 1, COMPARE_UNKNOWN, NAN},
};

static void test_verdicts(void)
{
    for (size_t i = 0; i < COUNT_OF(verdicts); i++) {
        double value = 0;

        table_make((double[3][3]){{10, 20, 10}, {5, 10, 5}, {8, 16, 8}});
        CHECK_CASE(verdicts[i].name,
                   compare_judge(&table, 0, &verdicts[i].bound, verdicts[i].broker, &value) == verdicts[i].want);
        CHECK_CASE(verdicts[i].name, near(value, verdicts[i].value));
    }
}

/* What is not there can neither be met nor missed. */
static void test_verdict_without_figures(void)
{
    const struct case_bound ratio = {.most = 1}, limit = {.most = 1, .absolute = true};
    double value;

    table_make((double[3][3]){{10, 10, 10}, {NAN, NAN, NAN}, {8, 8, 8}});
    CHECK(compare_judge(&table, 0, &ratio, 1, &value) == COMPARE_UNKNOWN);
    CHECK(compare_judge(&table, 0, &limit, 1, &value) == COMPARE_UNKNOWN);
    table.broker_on[0] = false;
    CHECK(compare_judge(&table, 0, &ratio, 2, &value) == COMPARE_UNKNOWN);
    table.broker_on[2] = false;
    CHECK(compare_judge(&table, 0, &ratio, 2, &value) == COMPARE_UNASKED);
}

static void bounds_make(void)
{
    scenario.bounds[0] = (struct case_bound){.most = 0.6};
    scenario.bounds[1] = (struct case_bound){.most = 1.25, .reference = "a", .brokers = {"b"}, .broker_count = 1};
    scenario.bound_count = 2;
}

static void test_missed(void)
{
    table_make((double[3][3]){{10, 10, 10}, {5, 5, 5}, {8, 8, 8}});
    bounds_make();
    CHECK(compare_missed(&table) == 2);
    table.scenario_on[0] = false;
    CHECK(compare_missed(&table) == 0);
}

/* --- what is written ------------------------------------------------------------------------------------------------
 */

static void check_table(const char *name, const char *want)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    compare_table_print(&table, out);
    fclose(out);
    CHECK_CASE(name, strcmp(text, want) == 0);
    free(text);
}

static void test_print(void)
{
    table_make((double[3][3]){{10, 12, 11}, {5, 6, 5.5}, {2200, 2400, NAN}});
    bounds_make();
    check_table("with a reference",
                "Median of 3 rounds; (smallest..largest); **ratio** to m.\n\n"
                "| scenario | figure | m | a | b | bounds |\n"
                "|---|---|---|---|---|---|\n"
                "| s | us | 11.00 | 5.500 (5.000..6.000) **0.500** | 2300 (2200..2400) **210.000** | "
                "at most 0.6: **missed** by b (210); b at most 1.25 of a: **missed** by b (420) |\n");
    table.broker_on[0] = false;
    check_table("without", "Median of 3 rounds; (smallest..largest).\n\n"
                           "| scenario | figure | a | b | bounds |\n"
                           "|---|---|---|---|---|\n"
                           "| s | us | 5.500 (5.000..6.000) | 2300 (2200..2400) | "
                           "at most 0.6: not measured; b at most 1.25 of a: **missed** by b (420) |\n");
}

static void test_json(void)
{
    table_make((double[3][3]){{10, 10, 10}, {5, 5, 5}, {NAN, NAN, NAN}});
    bounds_make();
    json_t *list = compare_table_json(&table), *cell = json_array_get(list, 1), *bound;

    CHECK(json_array_size(list) == 3);
    CHECK(strcmp(json_string_value(json_object_get(cell, "broker")), "a") == 0);
    CHECK(json_real_value(json_object_get(cell, "median")) == 5);
    CHECK(json_real_value(json_object_get(cell, "ratio")) == 0.5);
    CHECK(json_array_size(json_object_get(cell, "bounds")) == 1);
    bound = json_array_get(json_object_get(cell, "bounds"), 0);
    CHECK(strcmp(json_string_value(json_object_get(bound, "verdict")), "met") == 0);
    cell = json_array_get(list, 2);
    CHECK(json_is_null(json_object_get(cell, "median")) && json_is_null(json_object_get(cell, "ratio")));
    bound = json_array_get(json_object_get(cell, "bounds"), 1);
    CHECK(strcmp(json_string_value(json_object_get(bound, "verdict")), "unknown") == 0);
    json_decref(list);
}

/* --- figures --------------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *path;
    double want;
} figures[] = {
    {"seconds", 2},
    {"figure.value", 0.5},
    {"latency_us.delivery.p99", 7},
    {"latency_us.delivery.p99.9", 8},
    {"phases.drain.cpu_s", 3},
    {"phases.missing.cpu_s", NAN},
    {"figure.name", NAN},
    {"figure.none", NAN},
    {"figure", NAN},
    {"latency_us..p99", NAN},
    {"", NAN},
    {"a_name_that_is_longer_than_any_that_a_result_of_this_tool_would_ever_have.x", NAN},
};

static void test_figures(void)
{
    json_t *result = json_loads("{\"seconds\":2, \"figure\":{\"name\":\"CPU\",\"value\":0.5,\"none\":null},"
                                "\"latency_us\":{\"delivery\":{\"p99\":7,\"p99.9\":8}},"
                                "\"phases\":[{\"name\":\"store\",\"cpu_s\":1},{\"name\":\"drain\",\"cpu_s\":3},4]}",
                                0, NULL);

    CHECK(result != NULL);
    for (size_t i = 0; i < COUNT_OF(figures); i++) {
        CHECK_CASE(figures[i].path, near(compare_figure_at(result, figures[i].path), figures[i].want));
    }
    json_decref(result);
}

UNIT_MAIN("bench/compare", {"median and spread", test_spread}, {"ratios of each round", test_ratio},
          {"the reference", test_reference}, {"bounds", test_verdicts},
          {"bounds without figures", test_verdict_without_figures}, {"how many were missed", test_missed},
          {"the table", test_print}, {"the table as JSON", test_json}, {"figures of a result", test_figures})
