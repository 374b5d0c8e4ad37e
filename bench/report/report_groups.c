/* report_groups.c -- sorting results into groups and entries. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/report_groups.h"
#include "proto/base/slice.h"

#define BEST_MARGIN 0.01   /* what is this near to the best is as good */
#define ABOUT_WORD_MAX 100 /* bytes of a text of the file */

static void put_version(FILE *out, double version)
{
    fprintf(out, ", MQTT %s", version == 3 ? "3.1" : version == 4 ? "3.1.1" : version == 5 ? "5" : "?");
}

static void put_number(FILE *out, const json_t *options, const char *name, const char *before, const char *after)
{
    double number = figures_number(options, name);

    if (number > 0) {
        fprintf(out, ", %s%.10g%s", before, number, after);
        fputs(number != 1 && *after ? "s" : "", out);
    }
}

static void put_about(FILE *out, const json_t *result)
{
    const json_t *options = figures_at(result, "options");
    const char *scenario = figures_string(result, "scenario");
    const char *size = figures_string(options, "size");
    char rate[FIGURES_TEXT_MAX];

    scenario = *scenario ? scenario : "unknown scenario";
    fprintf(out, "%.*s", figures_clip(scenario, ABOUT_WORD_MAX), scenario);
    put_number(out, options, "count", "", " client");
    put_number(out, options, "publishers", "", " publisher");
    if (!isnan(figures_number(options, "qos"))) {
        fprintf(out, ", QoS %.0f", figures_number(options, "qos"));
    }
    if (!isnan(figures_number(options, "mqtt"))) {
        put_version(out, figures_number(options, "mqtt"));
    }
    if (*size) {
        fprintf(out, ", payload %.*s bytes", figures_clip(size, ABOUT_WORD_MAX), size);
    }
    put_number(out, options, "size", "payload ", " byte"); /* where it is a number */
    put_number(out, options, "batch", "batches of ", "");
    double messages_a_second = figures_number(options, "rate");
    if (messages_a_second > 0) {
        figures_text(rate, FIGURES_RATE, messages_a_second);
        fprintf(out, ", open loop at %s", rate);
    } else if (strcmp(figures_string(result, "mode"), "closed") == 0 && strcmp(scenario, "conn") != 0) {
        put_number(out, options, "inflight", "closed loop with a window of ", "");
    }
}

char *report_about(const json_t *result)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    if (!out) {
        return NULL;
    }
    put_about(out, result);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

char *report_key(const json_t *result)
{
    const char *group = figures_string(result, "group");

    return *group ? strdup(group) : report_about(result);
}

/* One more element at the end, all zero. NULL when memory is out. */
static void *array_add(void **array, size_t *count, size_t size)
{
    char *grown = realloc(*array, (*count + 1) * size);

    if (!grown) {
        return NULL;
    }
    *array = grown;
    memset(grown + *count * size, 0, size);
    return grown + (*count)++ * size;
}

static struct report_group *group_for(struct report_groups *groups, const json_t *result)
{
    char *key = report_key(result);

    for (size_t i = 0; key && i < groups->count; i++) {
        if (strcmp(groups->groups[i].key, key) == 0) {
            free(key);
            return &groups->groups[i];
        }
    }
    char *about = report_about(result);
    void *array = groups->groups;
    struct report_group *group = key && about ? array_add(&array, &groups->count, sizeof(*groups->groups)) : NULL;
    groups->groups = array;
    if (!group) {
        free(key);
        free(about);
        return NULL;
    }
    group->key = key;
    group->about = about;
    return group;
}

static struct report_entry *entry_for(struct report_group *group, const char *label)
{
    for (size_t i = 0; i < group->entry_count; i++) {
        if (strcmp(group->entries[i].label, label) == 0) {
            return &group->entries[i];
        }
    }
    void *array = group->entries;
    struct report_entry *entry = array_add(&array, &group->entry_count, sizeof(*group->entries));
    group->entries = array;
    if (entry) {
        entry->label = label;
    }
    return entry;
}

static int groups_add(struct report_groups *groups, const json_t *result)
{
    const char *label = figures_string(result, "label");
    struct report_group *group = group_for(groups, result);
    struct report_entry *entry = group ? entry_for(group, *label ? label : "unnamed") : NULL;

    if (!entry) {
        return -ENOMEM;
    }
    void *array = entry->runs;
    const json_t **run = array_add(&array, &entry->run_count, sizeof(*entry->runs));
    entry->runs = array;
    if (!run) {
        return -ENOMEM;
    }
    *run = result;
    groups->run_count++;
    return 0;
}

struct report_spread report_spread_of(const struct report_entry *entry, const struct figures_column *column)
{
    struct report_spread spread = {.median = NAN, .low = NAN, .high = NAN};
    double values[REPORT_RESULTS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < entry->run_count; i++) {
        double value = figures_column_value(column, entry->runs[i]);
        if (!isnan(value)) {
            values[count++] = value;
        }
    }
    if (count > 0) {
        spread.median = figures_median(values, count);
        spread.low = values[0];
        spread.high = values[count - 1];
    }
    return spread;
}

double report_best_of(const struct report_group *group, const struct figures_column *column)
{
    double best = NAN;
    double worst = NAN;

    if (!column->path && figures_number(group->entries[0].middle, "options/rate") > 0) {
        return NAN; /* in an open loop the generator sets the rate */
    }
    for (size_t i = 0; i < group->entry_count && column->better != FIGURES_NEITHER; i++) {
        double value = report_spread_of(&group->entries[i], column).median;
        bool less = column->better == FIGURES_LESS;
        best = less ? fmin(best, value) : fmax(best, value);
        worst = less ? fmax(worst, value) : fmin(worst, value);
    }
    return fabs(best - worst) > BEST_MARGIN * fabs(best) ? best : NAN;
}

bool report_is_best(double value, double best)
{
    return fabs(value - best) <= BEST_MARGIN * fabs(best);
}

static enum figures_unit unit_of(const char *text)
{
    static const struct {
        const char *text;
        enum figures_unit unit;
    } names[] = {{"us", FIGURES_US},   {"s", FIGURES_SECONDS}, {"bytes", FIGURES_BYTES},
                 {"B", FIGURES_BYTES}, {"/s", FIGURES_RATE},   {"msg/s", FIGURES_RATE}};

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(text, names[i].text) == 0) {
            return names[i].unit;
        }
    }
    return FIGURES_PLAIN;
}

/* The field "figure" of the first result that has one; else CPU, else p99, else the rate. */
static void group_judge(struct report_group *group)
{
    static const struct figures_column others[] = {
        {"CPU per message", "", FIGURES_US, FIGURES_LESS, "cost/cpu_us_per_message", false},
        {"p99", "", FIGURES_US, FIGURES_LESS, "p99", true},
    };
    for (size_t i = 0; i < group->entry_count; i++) {
        const json_t *figure = figures_at(group->entries[i].runs[0], "figure");
        if (isnan(figures_number(figure, "value"))) {
            continue;
        }
        const char *name = figures_string(figure, "name");
        const char *per = figures_string(figure, "per");
        const char *unit_name = figures_string(figure, "unit");
        enum figures_unit unit = unit_of(unit_name);
        bool told = unit != FIGURES_PLAIN || !*unit_name;
        snprintf(group->judged_name, sizeof(group->judged_name), "%.*s%s%.*s%s%.*s", figures_clip(name, 30), name,
                 *per ? " per " : "", figures_clip(per, 30), per, told ? "" : ", ",
                 told ? 0 : figures_clip(unit_name, 20), unit_name);
        group->judged = (struct figures_column){
            "", "", unit, unit == FIGURES_RATE ? FIGURES_MORE : FIGURES_LESS, "figure/value", false};
        return;
    }
    group->judged = figures_columns[0];
    for (size_t i = COUNT_OF(others); i-- > 0;) {
        if (!isnan(report_spread_of(&group->entries[0], &others[i]).median)) {
            group->judged = others[i];
        }
    }
    snprintf(group->judged_name, sizeof(group->judged_name), "%s", group->judged.name);
}

/* The run whose judged figure is nearest to the median. */
static void entry_find_middle(struct report_entry *entry, const struct figures_column *column)
{
    double median = report_spread_of(entry, column).median;
    double nearest = INFINITY;

    entry->middle = entry->runs[0];
    for (size_t i = 0; i < entry->run_count; i++) {
        double distance = fabs(figures_column_value(column, entry->runs[i]) - median);
        if (distance < nearest) { /* never of NAN */
            nearest = distance;
            entry->middle = entry->runs[i];
        }
    }
}

int report_groups_init(struct report_groups *groups, const json_t *results)
{
    *groups = (struct report_groups){0};
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *result = json_array_get(results, i);
        if (!json_is_object(result) || groups->run_count == REPORT_RESULTS_MAX) {
            groups->left_out++;
            continue;
        }
        int rc = groups_add(groups, result);
        if (rc) {
            report_groups_deinit(groups);
            return rc;
        }
    }
    for (size_t i = 0; i < groups->count; i++) {
        struct report_group *group = &groups->groups[i];
        group_judge(group);
        for (size_t k = 0; k < group->entry_count; k++) {
            entry_find_middle(&group->entries[k], &group->judged);
        }
    }
    return 0;
}

void report_groups_deinit(struct report_groups *groups)
{
    for (size_t i = 0; i < groups->count; i++) {
        struct report_group *group = &groups->groups[i];
        for (size_t k = 0; k < group->entry_count; k++) {
            free(group->entries[k].runs);
        }
        free(group->entries);
        free(group->key);
        free(group->about);
    }
    free(groups->groups);
    *groups = (struct report_groups){0};
}
