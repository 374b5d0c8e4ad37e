/* report_html.c -- the page: head, overview, one section a group. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "bench/report/chart.h"
#include "bench/report/markup.h"
#include "bench/report/report.h"
#include "bench/report/report_page.h"

#define LABELS_MAX 8 /* columns of the overview */
#define GENERAL_TITLE "MQTT broker measurements"

/* The labels of all groups in order of appearance. Returns how many, at most LABELS_MAX. */
static size_t labels_of(const struct report_groups *groups, const char *labels[LABELS_MAX])
{
    size_t count = 0;

    for (size_t i = 0; i < groups->count; i++) {
        for (size_t k = 0; k < groups->groups[i].entry_count; k++) {
            const char *label = groups->groups[i].entries[k].label;
            size_t at = 0;
            while (at < count && strcmp(labels[at], label) != 0) {
                at++;
            }
            if (at == count && count < LABELS_MAX) {
                labels[count++] = label;
            }
        }
    }
    return count;
}

static double judged_of(const struct report_group *group, const char *label)
{
    for (size_t i = 0; i < group->entry_count; i++) {
        if (strcmp(group->entries[i].label, label) == 0) {
            return report_spread_of(&group->entries[i], &group->judged).median;
        }
    }
    return NAN;
}

static void put_overview_row(FILE *out, const struct report_group *group, size_t number, const char *const *labels,
                             size_t count)
{
    double first = judged_of(group, labels[0]);
    double best = report_best_of(group, &group->judged);

    fprintf(out, "<tr><th scope=\"row\"><a href=\"#g%zu\">", number);
    markup_text(out, group->key, MARKUP_LABEL_MAX);
    fputs("</a><small>", out);
    markup_text(out, group->judged_name, MARKUP_LABEL_MAX);
    size_t warnings = report_warnings(NULL, group);
    if (warnings > 0) {
        fprintf(out, ", %zu warning%s", warnings, warnings == 1 ? "" : "s");
    }
    fputs("</small></th>", out);
    for (size_t i = 0; i < count; i++) {
        double value = judged_of(group, labels[i]);
        fputs(report_is_best(value, best) ? "<td class=\"best\">" : "<td>", out);
        markup_figure(out, group->judged.unit, value);
        if (i > 0 && value > 0 && first > 0) {
            fprintf(out, "<small>%.*f×</small>", value / first < 9.95 ? 2 : 1, value / first);
        } else {
            fputs("<small>&#160;</small>", out);
        }
        fputs("</td>", out);
    }
    fputs("</tr>\n", out);
}

/* What each group is judged by, all on one screen. */
static void put_overview(FILE *out, const struct report_groups *groups)
{
    const char *labels[LABELS_MAX];
    size_t count = labels_of(groups, labels);

    if (groups->count < 2) {
        return;
    }
    fputs("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Scenario</th>", out);
    for (size_t i = 0; i < count; i++) {
        fputs("<th scope=\"col\">", out);
        markup_text(out, labels[i], MARKUP_LABEL_MAX);
        fputs("</th>", out);
    }
    fputs("</tr></thead><tbody>\n", out);
    for (size_t i = 0; i < groups->count; i++) {
        put_overview_row(out, &groups->groups[i], i + 1, labels, count);
    }
    fputs("</tbody></table></div>\n", out);
    if (count > 1) {
        fputs("<p class=\"note\">Ratios are to ", out);
        markup_text(out, labels[0], MARKUP_LABEL_MAX);
        fputs(".</p>\n", out);
    }
}

/* Day and minute; what does not look like a time is shown as it is. */
static void put_time(FILE *out, const char *text)
{
    if (strlen(text) == 20 && text[10] == 'T' && text[19] == 'Z') {
        char time[24];
        snprintf(time, sizeof(time), "%.10s %.5s UTC", text, text + 11);
        markup_text(out, time, sizeof(time));
    } else {
        markup_text(out, text, 32);
    }
}

static void put_started(FILE *out, const struct report_groups *groups)
{
    const char *first = "";
    const char *last = "";

    for (size_t i = 0; i < groups->count; i++) {
        for (size_t k = 0; k < groups->groups[i].entry_count; k++) {
            const struct report_entry *entry = &groups->groups[i].entries[k];
            for (size_t n = 0; n < entry->run_count; n++) {
                const char *started = figures_string(entry->runs[n], "started");
                if (*started) {
                    first = !*first || strcmp(started, first) < 0 ? started : first;
                    last = strcmp(started, last) > 0 ? started : last;
                }
            }
        }
    }
    if (*first) {
        fputs(", begun ", out);
        put_time(out, first);
        if (strcmp(first, last) != 0) {
            fputs(" to ", out);
            put_time(out, last);
        }
    }
}

static void put_head(FILE *out, const char *title, const struct report_groups *groups)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
          "'unsafe-inline'\"/>\n<title>",
          out);
    markup_text(out, title, MARKUP_LABEL_MAX);
    fprintf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n<h1>", report_style);
    markup_text(out, title, MARKUP_LABEL_MAX);
    fprintf(out, "</h1>\n<p class=\"about\">%zu run%s in %zu scenario%s", groups->run_count,
            groups->run_count == 1 ? "" : "s", groups->count, groups->count == 1 ? "" : "s");
    put_started(out, groups);
    fputs("</p>\n", out);
    if (groups->left_out > 0) {
        fprintf(out, "<p class=\"about\">%zu more results are not shown.</p>\n", groups->left_out);
    }
    fputs("</header>\n<main>\n", out);
}

static void put_page(FILE *out, const char *title, const struct report_groups *groups)
{
    put_head(out, title, groups);
    put_overview(out, groups);
    for (size_t i = 0; i < groups->count; i++) {
        report_section(out, &groups->groups[i], i + 1);
    }
    fputs("</main>\n<footer>Measured with tern-bench. In a closed loop a message is sent when an earlier one has come, "
          "so that the "
          "broker sets the pace; in an open loop messages are due at fixed times and latency counts from then, whether "
          "or not the "
          "broker keeps up.</footer>\n</body>\n</html>\n",
          out);
}

int report_write_html(const char *path, const char *title, const json_t *results)
{
    struct report_groups groups;
    int rc = report_groups_init(&groups, results);

    if (rc) {
        return rc;
    }
    FILE *out = fopen(path, "w");
    if (!out) {
        rc = -errno;
        goto done;
    }
    put_page(out, title ? title : GENERAL_TITLE, &groups);
    rc = ferror(out) ? -EIO : 0;
    if (fclose(out) != 0) {
        rc = -errno;
    }

done:
    report_groups_deinit(&groups);
    return rc;
}
