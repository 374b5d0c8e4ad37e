/* report_details.c -- what was wrong with a group's results, and all that is folded away below them. */
#include <math.h>
#include <string.h>

#include "bench/report/markup.h"
#include "bench/report/report_page.h"
#include "proto/base/slice.h"

#define WARNINGS_MAX 40 /* of a group */
#define ROWS_MAX 64     /* of phases, threads, objectives of one result */
#define LATE_US 1000.0  /* a generator that is less late than this is not worth a sentence */

/* Warnings as they are found; counted even where they are not written. */
struct warnings {
    FILE *out; /* NULL: only counts */
    size_t count;
    const char *label;
    size_t run, run_count; /* which of several runs, from 1; 0: all */
};

/* Begins a sentence; true when the rest is to be written, ended by warn_end. */
static bool warn_begin(struct warnings *w)
{
    if (w->count++ >= WARNINGS_MAX || !w->out) {
        return false;
    }
    fputs(w->count == 1 ? "<ul class=\"warn\">\n<li><b>" : "<li><b>", w->out);
    markup_text(w->out, w->label, MARKUP_LABEL_MAX);
    fputs("</b>", w->out);
    if (w->run_count > 1 && w->run > 0) {
        fprintf(w->out, ", run %zu", w->run);
    }
    fputs(": ", w->out);
    return true;
}

static void warn_end(struct warnings *w)
{
    fputs("</li>\n", w->out);
}

static void warn_checks(struct warnings *w, const json_t *result)
{
    static const struct {
        const char *field, *text;
    } checks[] = {
        {"lost", "messages never came"},
        {"duplicate", "messages came more than once"},
        {"reordered", "messages came behind a later one of the same publisher"},
        {"misdelivered", "messages came to clients that had not asked for them"},
        {"unacknowledged", "messages were never acknowledged"},
        {"misacknowledged", "acknowledgements were for nothing that was sent"},
        {"refused", "connections or subscriptions were refused"},
        {"disconnected", "clients lost their connection"},
    };
    const json_t *check = figures_at(result, "check");

    for (size_t i = 0; i < COUNT_OF(checks); i++) {
        double count = figures_number(check, checks[i].field);
        double of = figures_number(check, "expected");
        if (count > 0 && warn_begin(w)) {
            markup_figure(w->out, FIGURES_COUNT, count);
            if (i == 0 && of > 0) {
                fputs(" of ", w->out);
                markup_figure(w->out, FIGURES_COUNT, of);
            }
            fprintf(w->out, " %s.", checks[i].text);
            warn_end(w);
        }
    }
}

static bool generator_was_slower(const json_t *result)
{
    return json_is_true(figures_at(result, "generator/slower"));
}

/* Its lateness is a good part of the latency. */
static bool generator_was_late(const json_t *result)
{
    const char *kind = figures_latency_kind(result);
    double late = figures_number(result, "generator/late_us/p99");
    double latency = kind ? figures_number(figures_at(figures_at(result, "latency_us"), kind), "p99") : NAN;

    return !generator_was_slower(result) && late >= LATE_US && late > latency / 2;
}

/* One sentence for all runs. */
static void warn_generator(struct warnings *w, const struct report_entry *entry)
{
    static const struct {
        bool (*test)(const json_t *result);
        const char *text;
    } cases[] = {
        {generator_was_slower,
         "the generator was the slower one: rate and latency say what it can do, and the broker may do better"},
        {generator_was_late, "the generator itself was late, and half of the latency (p99) or more may be its own"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t count = 0;
        for (size_t k = 0; k < entry->run_count; k++) {
            count += cases[i].test(entry->runs[k]);
        }
        w->run = 0;
        if (count > 0 && warn_begin(w)) {
            fputs(cases[i].text, w->out);
            if (entry->run_count > 1) {
                fprintf(w->out, " (%zu of %zu runs)", count, entry->run_count);
            }
            fputs(".", w->out);
            warn_end(w);
        }
    }
}

static void put_objective(FILE *out, const json_t *objective)
{
    markup_text(out, figures_string(objective, "text"), MARKUP_LABEL_MAX);
    fputs(": ", out);
    double value = figures_number(objective, "value");
    if (isnan(value)) {
        fputs("not measured", out);
        return;
    }
    fprintf(out, "%.6g\u202f", value);
    markup_text(out, figures_string(objective, "unit"), 16);
}

static void warn_objectives(struct warnings *w, const json_t *result)
{
    const json_t *list = figures_at(result, "expect");

    for (size_t i = 0; i < json_array_size(list) && i < ROWS_MAX; i++) {
        const json_t *objective = json_array_get(list, i);
        if (json_is_false(figures_at(objective, "met")) && warn_begin(w)) {
            fputs("missed the objective ", w->out);
            put_objective(w->out, objective);
            fputs(".", w->out);
            warn_end(w);
        }
    }
}

size_t report_warnings(FILE *out, const struct report_group *group)
{
    struct warnings w = {.out = out};

    for (size_t i = 0; i < group->entry_count; i++) {
        const struct report_entry *entry = &group->entries[i];
        w.label = entry->label;
        w.run_count = entry->run_count;
        for (size_t k = 0; k < entry->run_count; k++) {
            const char *why = figures_string(entry->runs[k], "why");
            w.run = k + 1;
            if (*why && warn_begin(&w)) {
                markup_text(out, why, MARKUP_LINE_MAX);
                warn_end(&w);
            }
            warn_checks(&w, entry->runs[k]);
            warn_objectives(&w, entry->runs[k]);
        }
        warn_generator(&w, entry);
    }
    if (out && w.count > WARNINGS_MAX) {
        fprintf(out, "<li>and %zu more.</li>\n", w.count - WARNINGS_MAX);
    }
    if (out && w.count > 0) {
        fputs("</ul>\n", out);
    }
    return w.count;
}

/* --- tables of details
 * --------------------------------------------------------------------------------------------------- */

/* A table is opened by its first row, so that one without rows is not there at all. */
struct rows {
    FILE *out;
    const char *name;
    const char *const *heads; /* the first two are texts */
    size_t head_count;
    bool open;
};

static void row_begin(struct rows *rows, const char *label, const char *what)
{
    if (!rows->open) {
        rows->open = true;
        fprintf(rows->out, "<h3>%s</h3><div class=\"scroll\"><table><thead><tr>", rows->name);
        for (size_t i = 0; i < rows->head_count; i++) {
            fprintf(rows->out, "<th scope=\"col\"%s>%s</th>", i < 2 ? " class=\"text\"" : "", rows->heads[i]);
        }
        fputs("</tr></thead><tbody>\n", rows->out);
    }
    fputs("<tr><th scope=\"row\">", rows->out);
    markup_text(rows->out, label, MARKUP_LABEL_MAX);
    fputs("</th><td class=\"text\">", rows->out);
    markup_text(rows->out, *what ? what : "–", MARKUP_LABEL_MAX);
    fputs("</td>", rows->out);
}

static void row_figure(struct rows *rows, enum figures_unit unit, double value)
{
    fputs("<td>", rows->out);
    markup_figure(rows->out, unit, value);
    fputs("</td>", rows->out);
}

static void row_end(struct rows *rows)
{
    fputs("</tr>\n", rows->out);
}

static void rows_end(struct rows *rows)
{
    if (rows->open) {
        fputs("</tbody></table></div>\n", rows->out);
    }
}

static void put_latencies(FILE *out, const struct report_group *group)
{
    static const char *const heads[] = {"Result", "Of",  "Count", "Min",    "Mean", "p50",
                                        "p90",    "p99", "p99.9", "p99.99", "Max"};
    static const char *const fields[] = {"min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"};
    static const struct {
        const char *path, *name;
    } kinds[] = {{"latency_us/delivery", "delivery"},
                 {"latency_us/acknowledge", "acknowledgement"},
                 {"latency_us/connect", "connecting"},
                 {"latency_us/subscribe", "subscribing"},
                 {"generator/late_us", "generator’s lateness"}};
    struct rows rows = {out, "All latencies", heads, COUNT_OF(heads), false};

    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        for (size_t i = 0; i < group->entry_count; i++) {
            const json_t *histogram = figures_at(group->entries[i].middle, kinds[k].path);
            if (!json_is_object(histogram)) {
                continue;
            }
            row_begin(&rows, group->entries[i].label, kinds[k].name);
            row_figure(&rows, FIGURES_COUNT, figures_number(histogram, "count"));
            for (size_t f = 0; f < COUNT_OF(fields); f++) {
                row_figure(&rows, FIGURES_US, figures_number(histogram, fields[f]));
            }
            row_end(&rows);
        }
    }
    rows_end(&rows);
}

static void put_costs(FILE *out, const struct report_group *group)
{
    static const char *const heads[] = {"Result",
                                        "Run",
                                        "CPU each message",
                                        "CPU each connection",
                                        "CPU each subscription",
                                        "RSS each client",
                                        "Kernel sockets each client"};
    struct rows rows = {out, "Costs", heads, COUNT_OF(heads), false};

    for (size_t i = 0; i < group->entry_count; i++) {
        for (size_t k = 0; k < group->entries[i].run_count; k++) {
            const json_t *cost = figures_at(group->entries[i].runs[k], "cost");
            char run[FIGURES_TEXT_MAX];
            if (!json_is_object(cost)) {
                continue;
            }
            snprintf(run, sizeof(run), "%zu", k + 1);
            row_begin(&rows, group->entries[i].label, run);
            row_figure(&rows, FIGURES_US, figures_number(cost, "cpu_us_per_message"));
            row_figure(&rows, FIGURES_US, figures_number(cost, "cpu_us_per_connection"));
            row_figure(&rows, FIGURES_US, figures_number(cost, "cpu_us_per_subscription"));
            row_figure(&rows, FIGURES_BYTES, figures_number(cost, "rss_bytes_per_client"));
            row_figure(&rows, FIGURES_BYTES, figures_number(cost, "kernel_bytes_per_client"));
            row_end(&rows);
        }
    }
    rows_end(&rows);
}

static void put_phases(FILE *out, const struct report_group *group)
{
    static const char *const heads[] = {"Result",      "Phase",         "Time",         "Sent",    "Received",
                                        "Connections", "Subscriptions", "Broker’s CPU", "CPU each"};
    struct rows rows = {out, "Phases", heads, COUNT_OF(heads), false};

    for (size_t i = 0; i < group->entry_count; i++) {
        const json_t *phases = figures_at(group->entries[i].middle, "phases");
        for (size_t k = 0; k < json_array_size(phases) && k < ROWS_MAX; k++) {
            const json_t *phase = json_array_get(phases, k);
            row_begin(&rows, group->entries[i].label, figures_string(phase, "name"));
            row_figure(&rows, FIGURES_SECONDS, figures_number(phase, "seconds"));
            row_figure(&rows, FIGURES_COUNT, figures_number(phase, "sent"));
            row_figure(&rows, FIGURES_COUNT, figures_number(phase, "received"));
            row_figure(&rows, FIGURES_COUNT, figures_number(phase, "connections"));
            row_figure(&rows, FIGURES_COUNT, figures_number(phase, "subscriptions"));
            row_figure(&rows, FIGURES_SECONDS, figures_number(phase, "cpu_s"));
            row_figure(&rows, FIGURES_US, figures_number(phase, "cpu_us_each"));
            row_end(&rows);
        }
    }
    rows_end(&rows);
}

static void put_broker(struct rows *rows, const char *label, const json_t *broker)
{
    const json_t *threads = figures_at(broker, "threads");

    row_begin(rows, label, figures_string(broker, "name"));
    row_figure(rows, FIGURES_SECONDS, figures_number(broker, "cpu_s"));
    row_figure(rows, FIGURES_SECONDS, figures_number(broker, "user_s"));
    row_figure(rows, FIGURES_SECONDS, figures_number(broker, "system_s"));
    row_figure(rows, FIGURES_BYTES, figures_number(broker, "rss_before"));
    row_figure(rows, FIGURES_BYTES, figures_number(broker, "rss_after"));
    row_figure(rows, FIGURES_COUNT, figures_number(broker, "voluntary_switches"));
    row_figure(rows, FIGURES_COUNT, figures_number(broker, "involuntary_switches"));
    fputs("<td>", rows->out);
    for (size_t i = 0; i < json_array_size(threads) && i < ROWS_MAX; i++) {
        const json_t *thread = json_array_get(threads, i);
        fputs(i > 0 ? ", " : "", rows->out);
        markup_text(rows->out, figures_string(thread, "name"), 32);
        fputs("\u00a0", rows->out);
        markup_figure(rows->out, FIGURES_SECONDS, figures_number(thread, "cpu_s"));
    }
    fputs("</td>", rows->out);
    row_end(rows);
}

static void put_brokers(FILE *out, const struct report_group *group)
{
    static const char *const heads[] = {"Result",     "Process",   "CPU",         "User",          "System",
                                        "RSS before", "RSS after", "Gave up CPU", "Was preempted", "CPU by thread"};
    struct rows rows = {out, "Processes of the broker", heads, COUNT_OF(heads), false};

    for (size_t i = 0; i < group->entry_count; i++) {
        const json_t *brokers = figures_at(group->entries[i].middle, "brokers");
        for (size_t k = 0; k < json_array_size(brokers) && k < ROWS_MAX; k++) {
            put_broker(&rows, group->entries[i].label, json_array_get(brokers, k));
        }
    }
    rows_end(&rows);
}

static void put_objectives(FILE *out, const struct report_group *group)
{
    bool open = false;

    for (size_t i = 0; i < group->entry_count; i++) {
        const json_t *list = figures_at(group->entries[i].middle, "expect");
        for (size_t k = 0; k < json_array_size(list) && k < ROWS_MAX; k++) {
            const json_t *objective = json_array_get(list, k);
            fputs(open ? "" : "<h3>Objectives</h3><ul>\n", out);
            open = true;
            fputs("<li>", out);
            markup_text(out, group->entries[i].label, MARKUP_LABEL_MAX);
            fputs(json_is_true(figures_at(objective, "met")) ? " kept " : " missed ", out);
            put_objective(out, objective);
            fputs("</li>\n", out);
        }
    }
    fputs(open ? "</ul>\n" : "", out);
}

static void put_environment(FILE *out, const struct report_group *group)
{
    static const char *const heads[] = {"Result", "Begun", "Measured", "Kernel", "CPUs", "Threads", "IO", "tern-bench"};
    struct rows rows = {out, "Machine and generator", heads, COUNT_OF(heads), false};

    for (size_t i = 0; i < group->entry_count; i++) {
        const json_t *result = group->entries[i].middle;
        row_begin(&rows, group->entries[i].label, figures_string(result, "started"));
        row_figure(&rows, FIGURES_SECONDS, figures_number(result, "seconds"));
        fputs("<td>", out);
        markup_text(out, figures_string(result, "machine/kernel"), 64);
        fputs("</td>", out);
        row_figure(&rows, FIGURES_COUNT, figures_number(result, "machine/cpus"));
        row_figure(&rows, FIGURES_COUNT, figures_number(result, "machine/threads"));
        fputs("<td>", out);
        markup_text(out, figures_string(result, "machine/io"), 32);
        fputs("</td><td>", out);
        markup_text(out, figures_string(result, "version"), 32);
        fputs("</td>", out);
        row_end(&rows);
    }
    rows_end(&rows);
    fputs("<h3>Command lines</h3>\n", out);
    for (size_t i = 0; i < group->entry_count; i++) {
        const char *command = figures_string(group->entries[i].middle, "command");
        if (*command) {
            fputs("<pre># ", out);
            markup_text(out, group->entries[i].label, MARKUP_LABEL_MAX);
            fputs("\n", out);
            markup_text(out, command, MARKUP_LINE_MAX);
            fputs("</pre>\n", out);
        }
    }
}

void report_details(FILE *out, const struct report_group *group)
{
    fputs("<details><summary>All latencies, costs, phases, processes of the broker, objectives</summary>\n", out);
    put_latencies(out, group);
    put_costs(out, group);
    put_phases(out, group);
    put_brokers(out, group);
    put_objectives(out, group);
    fputs("</details>\n<details><summary>Machine and command lines</summary>\n", out);
    put_environment(out, group);
    fputs("</details>\n", out);
}
