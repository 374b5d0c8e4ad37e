/* report_section.c -- one group: table, warnings, charts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/chart.h"
#include "bench/report/markup.h"
#include "bench/report/report_page.h"
#include "proto/base/slice.h"

#define COLUMNS_MAX 24
#define FIRST_PERCENT 1.0 /* the few fastest would only stretch the axis */

/* Whether a column is what the group is judged by. */
static bool judged_is(const struct report_group *group, const struct figures_column *column)
{
    double judged = report_spread_of(&group->entries[0], &group->judged).median;
    double shown = report_spread_of(&group->entries[0], column).median;

    return fabs(judged - shown) <= 1e-6 * fabs(judged);
}

/* The columns that some entry has a figure for. Received is left out where nothing is delivered; what a client
 * costs is among the details, unless that is what is measured. */
static size_t columns_of(const struct report_group *group, const struct figures_column *columns[COLUMNS_MAX])
{
    size_t count = 0;

    for (size_t i = 0; i < figures_column_count && count < COLUMNS_MAX; i++) {
        bool any = false;
        for (size_t k = 0; k < group->entry_count && !any; k++) {
            double value = report_spread_of(&group->entries[k], &figures_columns[i]).median;
            any = figures_columns[i].path ? !isnan(value) : value > 0;
        }
        if (any && (i < figures_markdown_column_count || judged_is(group, &figures_columns[i]))) {
            columns[count++] = &figures_columns[i];
        }
    }
    return count;
}

static const char *kind_name(const struct report_group *group)
{
    const char *kind = figures_latency_kind(group->entries[0].middle);

    for (size_t i = 1; i < group->entry_count; i++) {
        const char *other = figures_latency_kind(group->entries[i].middle);
        if (kind && other && strcmp(kind, other) != 0) {
            return "Latency";
        }
    }
    if (!kind) {
        return "Latency";
    }
    return strcmp(kind, "delivery") == 0      ? "Latency of delivery"
           : strcmp(kind, "acknowledge") == 0 ? "Latency of acknowledgement"
           : strcmp(kind, "connect") == 0     ? "Latency of connecting"
                                              : "Latency of subscribing";
}

static void put_table_head(FILE *out, const struct report_group *group, const struct figures_column *const *columns,
                           size_t count)
{
    size_t before = 0;
    size_t latencies = 0;

    for (size_t i = 0; i < count; i++) {
        before += latencies == 0 && !columns[i]->latency;
        latencies += columns[i]->latency;
    }
    fputs("<thead>", out);
    if (latencies > 0) {
        fprintf(
            out,
            "<tr class=\"span\"><th colspan=\"%zu\"></th><th class=\"over\" colspan=\"%zu\" scope=\"colgroup\">%s</th>",
            before + 1, latencies, kind_name(group));
        if (count > before + latencies) {
            fprintf(out, "<th colspan=\"%zu\"></th>", count - before - latencies);
        }
        fputs("</tr>\n", out);
    }
    fputs("<tr><th scope=\"col\">Result</th>", out);
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "<th scope=\"col\" title=\"%s\">%s</th>", columns[i]->hint, columns[i]->name);
    }
    fputs("</tr></thead>\n", out);
}

static void put_cell(FILE *out, const struct report_entry *entry, const struct figures_column *column, double best)
{
    struct report_spread spread = report_spread_of(entry, column);
    char exact[FIGURES_TEXT_MAX];

    figures_exact(exact, column->unit, spread.median);
    const char *sort = report_is_best(spread.median, best)                ? " class=\"best\""
                       : column->unit == FIGURES_COUNT && spread.high > 0 ? " class=\"wrong\""
                                                                          : "";
    fprintf(out, "<td%s title=\"%s\">", sort, exact);
    markup_figure(out, column->unit, spread.median);
    if (entry->run_count > 1 && spread.high > spread.low) {
        fputs("<small>", out);
        markup_range(out, column->unit, spread.low, spread.high);
        fputs("</small>", out);
    }
    fputs("</td>", out);
}

static void put_table(FILE *out, const struct report_group *group)
{
    const struct figures_column *columns[COLUMNS_MAX];
    double best[COLUMNS_MAX];
    size_t count = columns_of(group, columns);
    bool several = false;

    for (size_t i = 0; i < count; i++) {
        best[i] = report_best_of(group, columns[i]);
    }
    fputs("<div class=\"scroll\"><table>", out);
    put_table_head(out, group, columns, count);
    fputs("<tbody>\n", out);
    for (size_t k = 0; k < group->entry_count; k++) {
        const struct report_entry *entry = &group->entries[k];
        fputs("<tr><th scope=\"row\">", out);
        chart_swatch(out, (unsigned)k);
        markup_text(out, entry->label, MARKUP_LABEL_MAX);
        if (entry->run_count > 1) {
            fprintf(out, "<small>%zu runs</small>", entry->run_count);
            several = true;
        }
        fputs("</th>", out);
        for (size_t i = 0; i < count; i++) {
            put_cell(out, entry, columns[i], best[i]);
        }
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table></div>\n<p class=\"note\">★ best in its column, or within 1 % of it.", out);
    if (several) {
        fputs(" Of several runs: the median, and below it the range; curves are those of the run in the middle.", out);
    }
    fputs("</p>\n", out);
}

/* --- the points of a line
 * ------------------------------------------------------------------------------------------------ */

struct points {
    struct chart_point path[CHART_POINTS_MAX];
    size_t path_count;
    struct chart_point marks[CHART_MARKS_MAX];
    size_t mark_count;
};

static void points_add(struct points *points, double x, double y)
{
    if (points->path_count < CHART_POINTS_MAX) {
        points->path[points->path_count++] = (struct chart_point){x, y};
    }
}

/* From the buckets: how many percent of the values were at most so large. */
static void points_of_buckets(struct points *points, const json_t *buckets, double count)
{
    size_t size = json_array_size(buckets);
    size_t every = size / (CHART_POINTS_MAX / 2) + 1;
    double seen = 0;
    double last = 0;

    for (size_t i = 0; i < size; i++) {
        const json_t *bucket = json_array_get(buckets, i);
        const json_t *top = json_array_get(bucket, 0);
        const json_t *times = json_array_get(bucket, 1);
        double value = json_is_number(top) ? json_number_value(top) : NAN;
        double more = json_is_number(times) ? json_number_value(times) : NAN;
        if (!(value >= last) || !(more >= 0)) {
            continue; /* buckets ascend */
        }
        seen += more;
        last = value;
        double percent = seen / count * 100;
        if (percent >= FIRST_PERCENT && percent <= 99.999 &&
            (i % every == 0 || percent > 99)) { /* the tail is what it is about */
            points_add(points, percent, value);
        }
    }
}

static void points_of_latency(const json_t *result, struct points *points)
{
    static const struct {
        const char *name;
        double percent;
    } marks[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}, {"p99.99", 99.99}};
    const char *kind = figures_latency_kind(result);
    const json_t *histogram = kind ? figures_at(figures_at(result, "latency_us"), kind) : NULL;
    double count = figures_number(histogram, "count");

    if (count > 0) {
        points_of_buckets(points, figures_at(histogram, "buckets"), count);
    }
    bool bare = points->path_count < 2; /* without buckets the percentiles are what there is */
    points->path_count = bare ? 0 : points->path_count;
    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        double value = figures_number(histogram, marks[i].name);
        if (!(value > 0) || (count > 0 && count * (1 - marks[i].percent / 100) < 1)) {
            continue; /* fewer values than this percentile needs */
        }
        points->marks[points->mark_count++] = (struct chart_point){marks[i].percent, value};
        if (bare) {
            points_add(points, marks[i].percent, value);
        }
    }
}

/* One field of "series". Long ones are drawn by their means, or by their worst. */
static void points_of_series(const json_t *result, const char *field, bool worst, struct points *points)
{
    const json_t *series = figures_at(result, "series");
    size_t size = json_array_size(series);
    size_t each = size / CHART_MARKS_MAX + (size % CHART_MARKS_MAX > 0);

    for (size_t i = 0; i < size; i += each) {
        struct chart_point point = {.x = NAN, .y = NAN};
        double sum = 0;
        double most = 0;
        size_t count = 0;
        for (size_t k = i; k < i + each && k < size; k++) {
            const json_t *second = json_array_get(series, k);
            double value = figures_number(second, field);
            double t = figures_number(second, "t");
            if (!isnan(value) && !isnan(t)) {
                sum += value;
                most = fmax(most, value);
                count++;
                point.x = t;
            }
        }
        if (count > 0) {
            point.y = worst ? most : sum / (double)count;
            points_add(points, point.x, point.y);
            points->marks[points->mark_count++] = point;
        }
    }
}

/* --- charts
 * -------------------------------------------------------------------------------------------------------------- */

enum plot { PLOT_LATENCY, PLOT_RECEIVED, PLOT_P99 };

static void put_figure(FILE *out, const char *name, const char *about, const struct chart *chart)
{
    fprintf(out, "<figure><figcaption>%s<small>%s</small></figcaption>\n", name, about);
    chart_draw(out, chart);
    fputs("</figure>\n", out);
}

static void put_plot(FILE *out, const struct report_group *group, enum plot plot, const char *name, const char *about)
{
    struct chart_line lines[CHART_LINES_MAX];
    size_t count = group->entry_count < CHART_LINES_MAX ? group->entry_count : CHART_LINES_MAX;
    struct points *points = calloc(count, sizeof(*points));

    for (size_t i = 0; points && i < count; i++) {
        if (plot == PLOT_LATENCY) {
            points_of_latency(group->entries[i].middle, &points[i]);
        } else {
            points_of_series(group->entries[i].middle, plot == PLOT_P99 ? "p99_us" : "received", plot == PLOT_P99,
                             &points[i]);
        }
        lines[i] = (struct chart_line){.label = group->entries[i].label,
                                       .style = (unsigned)i,
                                       .points = points[i].path,
                                       .point_count = points[i].path_count,
                                       .marks = points[i].marks,
                                       .mark_count = points[i].mark_count};
    }
    struct chart chart = {.name = name,
                          .x_before = plot == PLOT_LATENCY ? "" : "second ",
                          .x_after = plot == PLOT_LATENCY ? " % within" : "",
                          .x_axis = plot == PLOT_LATENCY ? CHART_PERCENTILE : CHART_LINEAR,
                          .y_axis = plot == PLOT_RECEIVED ? CHART_LINEAR : CHART_LOG,
                          .x_unit = FIGURES_SECONDS,
                          .y_unit = plot == PLOT_RECEIVED ? FIGURES_RATE : FIGURES_US,
                          .lines = lines,
                          .line_count = points ? count : 0};
    if (chart_has_points(&chart)) {
        put_figure(out, name, about, &chart);
    }
    free(points);
}

/* Bars of one column, where two entries or more can be compared. */
static void put_bars(FILE *out, const struct report_group *group, const struct figures_column *column, const char *name,
                     const char *about)
{
    struct chart_bar bars[CHART_LINES_MAX];
    size_t count = group->entry_count < CHART_LINES_MAX ? group->entry_count : CHART_LINES_MAX;
    bool any = false;

    for (size_t i = 0; i < count; i++) {
        struct report_spread spread = report_spread_of(&group->entries[i], column);
        bars[i] = (struct chart_bar){group->entries[i].label, (unsigned)i, spread.median, spread.low, spread.high};
        any = any || spread.median > 0;
    }
    if (!any) {
        return;
    }
    fputs("<figure><figcaption>", out);
    markup_text(out, name, MARKUP_LABEL_MAX);
    fprintf(out, "<small>%s</small></figcaption>\n", about);
    chart_bars(out, name, column->unit, bars, count);
    fputs("</figure>\n", out);
}

static void put_charts(FILE *out, const struct report_group *group)
{
    static const struct figures_column cpu = {"", "", FIGURES_US, FIGURES_LESS, "cost/cpu_us_per_message", false};
    static const struct figures_column memory = {"",   "", FIGURES_BYTES, FIGURES_LESS, "cost/rss_bytes_per_client",
                                                 false};

    fputs("<div class=\"plots\">\n", out);
    put_plot(out, group, PLOT_LATENCY, kind_name(group),
             "How many per cent were how fast; each further nine has the same room");
    fputs("<div class=\"stack\">\n", out);
    if (!judged_is(group, &cpu)) {
        put_bars(out, group, &group->judged, group->judged_name,
                 "What this scenario is judged by, and the ratio to the first");
    }
    put_bars(out, group, &cpu, "CPU of the broker per message",
             "Processor time, messages in plus out, and the ratio to the first");
    if (!judged_is(group, &memory)) {
        put_bars(out, group, &memory, "Memory of the broker per client", "Resident memory, and the ratio to the first");
    }
    fputs("</div>\n", out);
    put_plot(out, group, PLOT_RECEIVED, "Messages received", "In each second");
    put_plot(out, group, PLOT_P99, "p99 in each second", "99 % of the second's messages were this fast or faster");
    fputs("</div>\n", out);
    if (group->entry_count > CHART_LINES_MAX) {
        fprintf(out, "<p class=\"note\">Charts show the first %d of %zu results.</p>\n", CHART_LINES_MAX,
                group->entry_count);
    }
}

void report_section(FILE *out, const struct report_group *group, size_t number)
{
    fprintf(out, "<section id=\"g%zu\">\n<h2>", number);
    markup_text(out, group->key, MARKUP_LABEL_MAX * 2);
    fputs("</h2>\n", out);
    if (strcmp(group->key, group->about) != 0) {
        fputs("<p class=\"about\">", out);
        markup_text(out, group->about, MARKUP_LINE_MAX);
        fputs("</p>\n", out);
    }
    report_warnings(out, group);
    put_table(out, group);
    put_charts(out, group);
    report_details(out, group);
    fputs("</section>\n", out);
}
