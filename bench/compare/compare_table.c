/* compare_table.c -- medians, spread, ratios, bounds; and their table in Markdown and JSON. */
#include "bench/compare/compare_table.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- arithmetic -----------------------------------------------------------------------------------------------------
 */

void compare_table_init(struct compare_table *table, const struct cases *cases, uint32_t round_count)
{
    assert(round_count <= COMPARE_ROUNDS_MAX);
    *table = (struct compare_table){.cases = cases, .round_count = round_count};
    for (uint32_t s = 0; s < CASES_SCENARIOS_MAX; s++) {
        for (uint32_t b = 0; b < CASES_BROKERS_MAX; b++) {
            for (uint32_t i = 0; i < COMPARE_ROUNDS_MAX; i++) {
                table->cells[s][b].figures[i] = NAN;
            }
        }
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct compare_spread compare_spread_of(const double *figures, uint32_t count)
{
    double sorted[COMPARE_ROUNDS_MAX];
    struct compare_spread spread = {.median = NAN, .min = NAN, .max = NAN};
    uint32_t n = 0;

    assert(count <= COMPARE_ROUNDS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (!isnan(figures[i])) {
            sorted[n++] = figures[i];
        }
    }
    if (n == 0) {
        return spread;
    }
    qsort(sorted, n, sizeof(sorted[0]), by_size);
    double median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    return (struct compare_spread){.median = median, .min = sorted[0], .max = sorted[n - 1], .count = n};
}

static double ratio_of(double value, double reference)
{
    return value == 0 && reference == 0 ? 1 : value / reference; /* NAN with either of them, INFINITY to 0 */
}

double compare_ratio(const struct compare_table *table, uint32_t scenario, uint32_t broker, uint32_t reference)
{
    const struct compare_cell *cells = table->cells[scenario];
    double ratios[COMPARE_ROUNDS_MAX] = {0};

    for (uint32_t i = 0; i < table->round_count; i++) {
        ratios[i] = ratio_of(cells[broker].figures[i], cells[reference].figures[i]);
    }
    return compare_spread_of(ratios, table->round_count).median;
}

static struct compare_spread cell_spread(const struct compare_table *table, uint32_t scenario, uint32_t broker)
{
    return compare_spread_of(table->cells[scenario][broker].figures, table->round_count);
}

int compare_reference(const struct compare_table *table)
{
    for (uint32_t b = 0; b < table->cases->broker_count; b++) {
        if (table->cases->brokers[b].reference) {
            return table->broker_on[b] ? (int)b : -1;
        }
    }
    return -1;
}

/* --- bounds ---------------------------------------------------------------------------------------------------------
 */

static bool bound_is_about(const struct case_bound *bound, const struct case_broker *broker)
{
    if (bound->broker_count == 0) {
        return !broker->reference && (!bound->reference || strcmp(bound->reference, broker->name) != 0);
    }
    for (uint32_t i = 0; i < bound->broker_count; i++) {
        if (strcmp(bound->brokers[i], broker->name) == 0) {
            return true;
        }
    }
    return false;
}

/* Whom a ratio is held against: the place of the broker, or -1 when it is not measured. */
static int bound_reference(const struct compare_table *table, const struct case_bound *bound)
{
    if (!bound->reference) {
        return compare_reference(table);
    }
    for (uint32_t b = 0; b < table->cases->broker_count; b++) {
        if (strcmp(table->cases->brokers[b].name, bound->reference) == 0) {
            return table->broker_on[b] ? (int)b : -1;
        }
    }
    return -1;
}

enum compare_verdict compare_judge(const struct compare_table *table, uint32_t scenario, const struct case_bound *bound,
                                   uint32_t broker, double *ret_value)
{
    int reference = bound_reference(table, bound);

    *ret_value = NAN;
    if (!table->broker_on[broker] || !bound_is_about(bound, &table->cases->brokers[broker])) {
        return COMPARE_UNASKED;
    }
    if (bound->absolute) {
        *ret_value = cell_spread(table, scenario, broker).median;
    } else if (reference >= 0) {
        *ret_value = compare_ratio(table, scenario, broker, (uint32_t)reference);
    }
    return isnan(*ret_value) ? COMPARE_UNKNOWN : *ret_value <= bound->most ? COMPARE_MET : COMPARE_MISSED;
}

uint32_t compare_missed(const struct compare_table *table)
{
    uint32_t missed = 0;
    double value;

    for (uint32_t s = 0; s < table->cases->scenario_count; s++) {
        const struct case_scenario *scenario = &table->cases->scenarios[s];
        for (uint32_t i = 0; table->scenario_on[s] && i < scenario->bound_count; i++) {
            for (uint32_t b = 0; b < table->cases->broker_count; b++) {
                missed += compare_judge(table, s, &scenario->bounds[i], b, &value) == COMPARE_MISSED;
            }
        }
    }
    return missed;
}

/* --- Markdown -------------------------------------------------------------------------------------------------------
 */

/* Three digits that matter, no more than anybody can believe. */
static void print_figure(FILE *out, double value)
{
    double size = fabs(value);

    fprintf(out, "%.*f", size < 10 ? 3 : size < 100 ? 2 : size < 1000 ? 1 : 0, value);
}

static void print_head(const struct compare_table *table, int reference, FILE *out)
{
    uint32_t columns = 3;

    fputs("| scenario | figure |", out);
    if (reference >= 0) {
        fprintf(out, " %s |", table->cases->brokers[reference].name);
        columns++;
    }
    for (uint32_t b = 0; b < table->cases->broker_count; b++) {
        if (table->broker_on[b] && (int)b != reference) {
            fprintf(out, " %s |", table->cases->brokers[b].name);
            columns++;
        }
    }
    fputs(" bounds |\n|", out);
    while (columns-- > 0) {
        fputs("---|", out);
    }
    fputc('\n', out);
}

/* The median; of all but the reference also the smallest and the largest, and the ratio to it. */
static void print_cell(const struct compare_table *table, uint32_t scenario, uint32_t broker, int reference, FILE *out)
{
    struct compare_spread spread = cell_spread(table, scenario, broker);

    if (spread.count == 0) {
        fputs(" not measured |", out);
        return;
    }
    fputc(' ', out);
    print_figure(out, spread.median);
    if ((int)broker != reference) {
        fputs(" (", out);
        print_figure(out, spread.min);
        fputs("..", out);
        print_figure(out, spread.max);
        fputc(')', out);
        double ratio = reference >= 0 ? compare_ratio(table, scenario, broker, (uint32_t)reference) : NAN;
        if (!isnan(ratio)) {
            fprintf(out, " **%.3f**", ratio);
        }
    }
    fputs(" |", out);
}

/* What is asked, and of whom when it is not of all. */
static void print_bound_head(const struct case_bound *bound, FILE *out)
{
    for (uint32_t i = 0; i < bound->broker_count; i++) {
        fprintf(out, "%s%s", i > 0 ? " and " : "", bound->brokers[i]);
    }
    fprintf(out, "%sat most %.10g", bound->broker_count > 0 ? " " : "", bound->most);
    if (bound->reference) {
        fprintf(out, " of %s", bound->reference);
    }
    fputc(':', out);
}

/* One bound: met, or who missed it and with what. */
static void print_bound(const struct compare_table *table, uint32_t scenario, const struct case_bound *bound, FILE *out)
{
    uint32_t counts[COMPARE_MISSED + 1] = {0};

    print_bound_head(bound, out);
    for (uint32_t b = 0; b < table->cases->broker_count; b++) {
        double value;
        enum compare_verdict verdict = compare_judge(table, scenario, bound, b, &value);
        if (verdict == COMPARE_MISSED) {
            fprintf(out, "%s **missed** by %s (%.4g)", counts[COMPARE_MISSED] > 0 ? "," : "",
                    table->cases->brokers[b].name, value);
        } else if (verdict == COMPARE_MET && bound->reference) {
            fprintf(out, " %.3f", value); /* stands in no column */
        }
        counts[verdict]++;
    }
    if (counts[COMPARE_MISSED] == 0) {
        fputs(counts[COMPARE_MET] > 0 && counts[COMPARE_UNKNOWN] == 0 ? " met" : " not measured", out);
    }
}

static void print_row(const struct compare_table *table, uint32_t s, int reference, FILE *out)
{
    const struct case_scenario *scenario = &table->cases->scenarios[s];

    fprintf(out, "| %s | %s |", scenario->name, *table->units[s] ? table->units[s] : "-");
    if (reference >= 0) {
        print_cell(table, s, (uint32_t)reference, reference, out);
    }
    for (uint32_t b = 0; b < table->cases->broker_count; b++) {
        if (table->broker_on[b] && (int)b != reference) {
            print_cell(table, s, b, reference, out);
        }
    }
    for (uint32_t i = 0; i < scenario->bound_count; i++) {
        fputs(i > 0 ? "; " : " ", out);
        print_bound(table, s, &scenario->bounds[i], out);
    }
    fputs(scenario->bound_count > 0 ? " |\n" : " - |\n", out);
}

void compare_table_print(const struct compare_table *table, FILE *out)
{
    int reference = compare_reference(table);

    fprintf(out, "Median of %u round%s; (smallest..largest)", table->round_count, table->round_count == 1 ? "" : "s");
    if (reference >= 0) {
        fprintf(out, "; **ratio** to %s", table->cases->brokers[reference].name);
    }
    fputs(".\n\n", out);
    print_head(table, reference, out);
    for (uint32_t s = 0; s < table->cases->scenario_count; s++) {
        if (table->scenario_on[s]) {
            print_row(table, s, reference, out);
        }
    }
}

/* --- JSON -----------------------------------------------------------------------------------------------------------
 */

/* null where nothing was measured: JSON has no other word for it. */
static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *bounds_json(const struct compare_table *table, uint32_t s, uint32_t b)
{
    static const char *const words[] = {"", "unknown", "met", "missed"};
    const struct case_scenario *scenario = &table->cases->scenarios[s];
    json_t *list = json_array();
    double value;

    for (uint32_t i = 0; list && i < scenario->bound_count; i++) {
        const struct case_bound *bound = &scenario->bounds[i];
        enum compare_verdict verdict = compare_judge(table, s, bound, b, &value);
        if (verdict != COMPARE_UNASKED) {
            json_array_append_new(list,
                                  json_pack("{s:s, s:s?, s:f, s:o, s:s}", "kind", bound->absolute ? "limit" : "ratio",
                                            "to", bound->reference, "most", bound->most, "value", number_or_null(value),
                                            "verdict", words[verdict]));
        }
    }
    return list;
}

static json_t *cell_json(const struct compare_table *table, uint32_t s, uint32_t b, int reference)
{
    struct compare_spread spread = cell_spread(table, s, b);
    double ratio = reference >= 0 ? compare_ratio(table, s, b, (uint32_t)reference) : NAN;

    return json_pack("{s:s, s:s, s:s, s:i, s:o, s:o, s:o, s:o, s:o}", "scenario", table->cases->scenarios[s].name,
                     "broker", table->cases->brokers[b].name, "figure", table->units[s], "rounds", (int)spread.count,
                     "median", number_or_null(spread.median), "min", number_or_null(spread.min), "max",
                     number_or_null(spread.max), "ratio", number_or_null(ratio), "bounds", bounds_json(table, s, b));
}

json_t *compare_table_json(const struct compare_table *table)
{
    int reference = compare_reference(table);
    json_t *list = json_array();

    for (uint32_t s = 0; s < table->cases->scenario_count; s++) {
        for (uint32_t b = 0; b < table->cases->broker_count; b++) {
            if (!list || !table->scenario_on[s] || !table->broker_on[b]) {
                continue;
            }
            if (json_array_append_new(list, cell_json(table, s, b, reference)) != 0) {
                json_decref(list);
                return NULL;
            }
        }
    }
    return list;
}
