/* chart.c -- axes, lines and bars.
 *
 * Coordinates: the view box is 460 wide whatever the screen is; the style sheet makes the letters larger on small
 * screens, for which the margins have room. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/chart.h"
#include "bench/report/markup.h"
#include "proto/base/slice.h"

#define VIEW_WIDTH 460.0
#define VIEW_HEIGHT 270.0
#define PLOT_LEFT 66.0
#define PLOT_RIGHT 448.0
#define PLOT_TOP 12.0
#define PLOT_BOTTOM 236.0
#define TICKS_MAX 16
#define PERCENT_TOP 99.999 /* further nines need more messages than a run has */

struct axis {
    enum chart_axis kind;
    double low, high; /* as drawn: the logarithm for two of the kinds */
    double from, to;  /* pixels */
    double ticks[TICKS_MAX];
    size_t tick_count;
};

/* A value in the space in which the axis is even. NAN: cannot be drawn. */
static double axis_even(enum chart_axis kind, double value)
{
    if (kind == CHART_LOG) {
        return value > 0 ? log10(value) : NAN;
    }
    if (kind == CHART_PERCENTILE) {
        return value >= 0 && value <= PERCENT_TOP + 1e-9 ? -log10(1 - value / 100) : NAN;
    }
    return value >= 0 ? value : NAN;
}

static double axis_pixel(const struct axis *axis, double value)
{
    double span = axis->high - axis->low;

    return axis->from + (axis_even(axis->kind, value) - axis->low) / span * (axis->to - axis->from);
}

static void axis_tick(struct axis *axis, double value)
{
    double even = axis_even(axis->kind, value);

    if (axis->tick_count < TICKS_MAX && even >= axis->low - 1e-9 && even <= axis->high + 1e-9) {
        axis->ticks[axis->tick_count++] = value;
    }
}

static void axis_fit_linear(struct axis *axis)
{
    static const double steps[] = {1, 2, 2.5, 5, 10};
    double high = axis->high > 0 ? axis->high : 1;
    double power = pow(10, floor(log10(high / 5)));
    double step = 10 * power;

    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        if (high / (steps[i] * power) <= 5.5) {
            step = steps[i] * power;
            break;
        }
    }
    axis->low = 0;
    axis->high = axis->to > axis->from ? high : ceil(high / step - 1e-9) * step; /* time ends where the run ends */
    for (double value = 0; axis->tick_count < TICKS_MAX && value <= axis->high * (1 + 1e-9); value += step) {
        axis_tick(axis, value);
    }
}

/* Bounds go out to the next 1, 2 or 5 of a decade. */
static double log_round(double even, bool up)
{
    static const double steps[] = {1, 2, 5, 10};
    double decade = floor(even + 1e-9);
    double rest = pow(10, even - decade);
    double best = up ? 10 : 1;

    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        if (up && steps[i] >= rest - 1e-6) {
            best = steps[i];
            break;
        }
        if (!up && steps[i] <= rest + 1e-6) {
            best = steps[i];
        }
    }
    return decade + log10(best);
}

static void axis_fit_log(struct axis *axis)
{
    axis->low = log_round(axis->low, false);
    axis->high = log_round(axis->high, true);
    if (axis->high - axis->low < 0.6) { /* a flat line stands in the middle of something */
        axis->low = log_round(axis->low - 0.3, false);
        axis->high = log_round(axis->high + 0.3, true);
    }
    double decades = axis->high - axis->low;
    double every = ceil(decades / 8);
    for (double decade = floor(axis->low); decade <= axis->high + 1e-9; decade += every) {
        axis_tick(axis, pow(10, decade));
        if (decades <= 3.2) {
            axis_tick(axis, pow(10, decade) * (decades <= 2.2 ? 2 : 3));
        }
        if (decades <= 2.2) {
            axis_tick(axis, pow(10, decade) * 5);
        }
    }
}

static void axis_fit_percentile(struct axis *axis)
{
    static const double ticks[] = {50, 90, 99, 99.9, 99.99, 99.999};

    axis->low = 0;
    axis->high = fmax(axis->high, 2);
    for (size_t i = 0; i < COUNT_OF(ticks); i++) {
        axis_tick(axis, ticks[i]);
    }
}

static void axis_fit(struct axis *axis)
{
    if (axis->kind == CHART_LOG) {
        axis_fit_log(axis);
    } else if (axis->kind == CHART_PERCENTILE) {
        axis_fit_percentile(axis);
    } else {
        axis_fit_linear(axis);
    }
}

static bool point_fits(const struct chart *chart, const struct chart_point *point)
{
    return !isnan(axis_even(chart->x_axis, point->x)) && !isnan(axis_even(chart->y_axis, point->y));
}

/* Both axes around all points. Returns how many there are. */
static size_t chart_axes(const struct chart *chart, struct axis *ret_x, struct axis *ret_y)
{
    struct axis x = {.kind = chart->x_axis, .low = INFINITY, .high = -INFINITY, .from = PLOT_LEFT, .to = PLOT_RIGHT};
    struct axis y = {.kind = chart->y_axis, .low = INFINITY, .high = -INFINITY, .from = PLOT_BOTTOM, .to = PLOT_TOP};
    size_t count = 0;

    for (size_t i = 0; i < chart->line_count; i++) {
        for (size_t k = 0; k < chart->lines[i].point_count; k++) {
            const struct chart_point *point = &chart->lines[i].points[k];
            if (!point_fits(chart, point)) {
                continue;
            }
            count++;
            x.low = fmin(x.low, axis_even(x.kind, point->x));
            x.high = fmax(x.high, axis_even(x.kind, point->x));
            y.low = fmin(y.low, axis_even(y.kind, point->y));
            y.high = fmax(y.high, axis_even(y.kind, point->y));
        }
    }
    if (count > 0) {
        axis_fit(&x);
        axis_fit(&y);
    }
    *ret_x = x;
    *ret_y = y;
    return count;
}

bool chart_has_points(const struct chart *chart)
{
    struct axis x, y;

    return chart_axes(chart, &x, &y) > 0;
}

/* The texts of ticks are shorter than those of figures: "1 ms", not "1.00 ms". */
static void put_tick_text(FILE *out, enum chart_axis kind, enum figures_unit unit, double value)
{
    char text[FIGURES_TEXT_MAX];

    if (kind == CHART_PERCENTILE) {
        fprintf(out, "%.6g\u202f%%", value);
        return;
    }
    figures_text(text, unit, value);
    double number = strtod(text, NULL);
    const char *suffix = strchr(text, ' ');
    fprintf(out, "%.4g", number);
    for (; suffix && *suffix; suffix++) {
        fputs(*suffix == ' ' ? "\u202f" : *suffix == 'u' ? "µ" : (char[]){*suffix, '\0'}, out);
    }
}

static void put_grid(FILE *out, const struct chart *chart, const struct axis *x, const struct axis *y)
{
    fputs("<g class=\"grid\">", out);
    for (size_t i = 0; i < y->tick_count; i++) {
        double at = axis_pixel(y, y->ticks[i]);
        fprintf(out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", PLOT_LEFT, PLOT_RIGHT, at, at);
    }
    for (size_t i = 0; i < x->tick_count; i++) {
        double at = axis_pixel(x, x->ticks[i]);
        fprintf(out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", at, at, PLOT_TOP, PLOT_BOTTOM);
    }
    fprintf(out, "</g><path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>\n<g class=\"ticks\">", PLOT_LEFT, PLOT_BOTTOM,
            PLOT_RIGHT);
    for (size_t i = 0; i < y->tick_count; i++) {
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" dy=\".33em\" text-anchor=\"end\">", PLOT_LEFT - 7,
                axis_pixel(y, y->ticks[i]));
        put_tick_text(out, y->kind, chart->y_unit, y->ticks[i]);
        fputs("</text>", out);
    }
    for (size_t i = 0; i < x->tick_count; i++) {
        double at = axis_pixel(x, x->ticks[i]);
        const char *anchor = at > PLOT_RIGHT - 16 ? "end" : "middle";
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", at > PLOT_RIGHT - 16 ? PLOT_RIGHT + 8 : at,
                PLOT_BOTTOM + 20, anchor);
        put_tick_text(out, x->kind, chart->x_unit, x->ticks[i]);
        fputs("</text>", out);
    }
    fputs("</g>\n", out);
}

/* Beyond the colours there are, the same colour comes with other dashes and another mark. */
static unsigned shape_of(unsigned style)
{
    return (style + style / CHART_COLORS) % CHART_COLORS;
}

static void put_line_begin(FILE *out, unsigned style)
{
    fprintf(out, "<path class=\"line s%u d%u\" d=\"", style % CHART_COLORS, shape_of(style));
}

static void put_marks_begin(FILE *out, unsigned style)
{
    fprintf(out, "<g class=\"mark s%u%s\">", style % CHART_COLORS, shape_of(style) >= 4 ? " hollow" : "");
}

/* Points that fall on the same spot are drawn once; a gap where one cannot be drawn. */
static void put_path(FILE *out, const struct chart *chart, const struct chart_line *line, const struct axis *x,
                     const struct axis *y)
{
    double last_x = -INFINITY;
    double last_y = -INFINITY;
    bool pen_down = false;

    put_line_begin(out, line->style);
    for (size_t i = 0; i < line->point_count; i++) {
        if (!point_fits(chart, &line->points[i])) {
            pen_down = false;
            continue;
        }
        double at_x = axis_pixel(x, line->points[i].x);
        double at_y = axis_pixel(y, line->points[i].y);
        if (pen_down && i + 1 < line->point_count && fabs(at_x - last_x) < 0.4 && fabs(at_y - last_y) < 0.4) {
            continue;
        }
        fprintf(out, "%s%.1f %.1f", pen_down ? "L" : "M", at_x, at_y);
        last_x = at_x;
        last_y = at_y;
        pen_down = true;
    }
    fputs("\"/>\n", out);
}

/* Circle, square, triangle, diamond; the second four shapes have them hollow. */
static void put_mark(FILE *out, unsigned style, double x, double y, double r)
{
    switch (shape_of(style) % 4) {
    case 0:
        fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>", x, y, r);
        break;
    case 1:
        fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", x - r * .9, y - r * .9, r * 1.8,
                r * 1.8);
        break;
    case 2:
        fprintf(out, "<path d=\"M%.1f %.1fl%.1f %.1fh%.1fz\"/>", x, y - r * 1.25, r * 1.2, r * 2.1, -r * 2.4);
        break;
    default:
        fprintf(out, "<path d=\"M%.1f %.1fl%.1f %.1fl%.1f %.1fl%.1f %.1fz\"/>", x, y - r * 1.35, r * 1.35, r * 1.35,
                -r * 1.35, r * 1.35, -r * 1.35, -r * 1.35);
    }
}

static void put_tooltip(FILE *out, const struct chart *chart, const char *label, const struct chart_point *point)
{
    char exact[FIGURES_TEXT_MAX];

    fputs("<title>", out);
    markup_text(out, label, MARKUP_LABEL_MAX);
    fprintf(out, "\n%s%.6g%s: ", chart->x_before, point->x, chart->x_after);
    markup_figure(out, chart->y_unit, point->y);
    figures_exact(exact, chart->y_unit, point->y);
    fprintf(out, " (%s)</title>", exact);
}

static void put_marks(FILE *out, const struct chart *chart, const struct chart_line *line, const struct axis *x,
                      const struct axis *y)
{
    double radius = line->mark_count > 40 ? 1.6 : line->mark_count > 20 ? 2.2 : 3.2;

    put_marks_begin(out, line->style);
    for (size_t i = 0; i < line->mark_count && i < CHART_MARKS_MAX; i++) {
        const struct chart_point *point = &line->marks[i];
        if (!point_fits(chart, point) || axis_even(x->kind, point->x) > x->high + 1e-9) {
            continue;
        }
        double at_x = axis_pixel(x, point->x);
        double at_y = fmax(fmin(axis_pixel(y, point->y), PLOT_BOTTOM), PLOT_TOP);
        fputs("<g>", out);
        put_tooltip(out, chart, line->label, point);
        fprintf(out, "<circle class=\"hit\" cx=\"%.1f\" cy=\"%.1f\" r=\"8\"/>", at_x, at_y);
        put_mark(out, line->style, at_x, at_y, radius);
        fputs("</g>", out);
    }
    fputs("</g>\n", out);
}

void chart_swatch(FILE *out, unsigned style)
{
    fputs("<svg class=\"swatch\" viewBox=\"0 0 34 12\" aria-hidden=\"true\">", out);
    put_line_begin(out, style);
    fputs("M1 6H33\"/>", out);
    put_marks_begin(out, style);
    put_mark(out, style, 17, 6, 3.2);
    fputs("</g></svg>", out);
}

static void put_legend(FILE *out, const struct chart *chart)
{
    fputs("<ul class=\"legend\">", out);
    for (size_t i = 0; i < chart->line_count; i++) {
        fputs("<li>", out);
        chart_swatch(out, chart->lines[i].style);
        markup_text(out, chart->lines[i].label, MARKUP_LABEL_MAX);
        fputs("</li>", out);
    }
    fputs("</ul>\n", out);
}

void chart_draw(FILE *out, const struct chart *chart)
{
    struct axis x, y;

    if (chart_axes(chart, &x, &y) == 0) {
        return;
    }
    fprintf(out, "<svg class=\"chart\" viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"", VIEW_WIDTH, VIEW_HEIGHT);
    markup_text(out, chart->name, MARKUP_LABEL_MAX);
    fputs("\">\n", out);
    put_grid(out, chart, &x, &y);
    for (size_t i = chart->line_count; i-- > 0;) { /* the first, to which the others are compared, lies on top */
        put_path(out, chart, &chart->lines[i], &x, &y);
        put_marks(out, chart, &chart->lines[i], &x, &y);
    }
    fputs("</svg>\n", out);
    put_legend(out, chart);
}

/* The ratio to the first bar; nothing behind the first itself. */
static void put_ratio(FILE *out, double value, double first)
{
    if (first > 0 && value > 0) {
        double ratio = value / first;
        fprintf(out, "<tspan class=\"ratio\" dx=\"8\">%.*f×</tspan>", ratio < 9.95 ? 2 : ratio < 99.5 ? 1 : 0, ratio);
    }
}

static void put_bar(FILE *out, enum figures_unit unit, const struct chart_bar *bar, double top, double scale,
                    double first)
{
    double width = bar->value > 0 ? fmax(bar->value * scale, 1) : 0;
    char exact[FIGURES_TEXT_MAX];

    figures_exact(exact, unit, bar->value);
    fputs("<g><title>", out);
    markup_text(out, bar->label, MARKUP_LABEL_MAX);
    fprintf(out, ": %s</title><text class=\"name\" x=\"2\" y=\"%.1f\">", exact, top + 12);
    markup_text(out, bar->label, 48);
    fprintf(out, "</text><rect class=\"bar s%u\" x=\"2\" y=\"%.1f\" width=\"%.1f\" height=\"14\" rx=\"2\"/>",
            bar->style % CHART_COLORS, top + 19, width);
    if (bar->high > bar->low) {
        fprintf(out, "<path class=\"spread\" d=\"M%.1f %.1fv8m0 -4H%.1fm0 -4v8\"/>", 2 + bar->low * scale, top + 22,
                2 + bar->high * scale);
    }
    fprintf(out, "<text class=\"value\" x=\"%.1f\" y=\"%.1f\" dy=\".35em\">",
            10 + fmax(width, bar->high > bar->low ? bar->high * scale : 0), top + 26);
    if (isnan(bar->value)) {
        fputs("not measured", out);
    } else {
        markup_figure(out, unit, bar->value);
        put_ratio(out, bar->value, first);
    }
    fputs("</text></g>\n", out);
}

void chart_bars(FILE *out, const char *name, enum figures_unit unit, const struct chart_bar *bars, size_t count)
{
    double most = 0;

    for (size_t i = 0; i < count; i++) {
        most = fmax(most, fmax(bars[i].value, bars[i].high)); /* fmax passes over NAN */
    }
    double scale = most > 0 ? (VIEW_WIDTH - 150) / most : 0;
    fprintf(out, "<svg class=\"chart bars\" viewBox=\"0 0 %g %.0f\" role=\"img\" aria-label=\"", VIEW_WIDTH,
            42.0 * (double)count);
    markup_text(out, name, MARKUP_LABEL_MAX);
    fputs("\">\n", out);
    for (size_t i = 0; i < count; i++) {
        put_bar(out, unit, &bars[i], 42.0 * (double)i, scale, i > 0 ? bars[0].value : NAN);
    }
    fputs("</svg>\n", out);
}
