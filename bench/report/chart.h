/* chart.h -- plots as inline SVG.
 *
 * Why: a report is one file that opens anywhere, so the drawing is done here and not by a script of somebody else.
 * Every line has a style (a number): its colour, its dashes and its mark, so that nobody needs to see colours; the same
 * number means the same thing in all charts and tables of a group. Colours and fonts come from the page's style sheet.
 * Marks carry a <title> with the exact figures. Touched by: one thread. */
#ifndef TERN_BENCH_CHART_H
#define TERN_BENCH_CHART_H

#include <stdbool.h>
#include <stdio.h>

#include "bench/report/figures.h"

#define CHART_COLORS 8       /* styles beyond have a colour again, with other dashes and marks */
#define CHART_LINES_MAX 24   /* more cannot be told apart; who draws says so in words */
#define CHART_MARKS_MAX 120  /* of one line */
#define CHART_POINTS_MAX 600 /* of one line */

enum chart_axis {
    CHART_LINEAR,    /* from 0 */
    CHART_LOG,       /* values that are not above 0 are left out */
    CHART_PERCENTILE /* 0..100, drawn as log 1/(1 - q), so that each further nine has the same room */
};

struct chart_point {
    double x, y;
};

struct chart_line {
    const char *label; /* borrowed */
    unsigned style;
    struct chart_point *points, *marks; /* borrowed; x ascending; marks are the points with a tooltip */
    size_t point_count, mark_count;
};

struct chart {
    const char *name;               /* for those who hear the page */
    const char *x_before, *x_after; /* around x in a tooltip: "second ", "" */
    enum chart_axis x_axis, y_axis;
    enum figures_unit x_unit, y_unit;
    const struct chart_line *lines; /* borrowed, at most CHART_LINES_MAX */
    size_t line_count;
};

struct chart_bar {
    const char *label; /* borrowed */
    unsigned style;
    double value;     /* NAN: a label without a bar */
    double low, high; /* of several runs; equal: none is drawn */
};

/* Whether there is anything to draw. */
bool chart_has_points(const struct chart *chart);

/* The plot, and below it which line is which. */
void chart_draw(FILE *out, const struct chart *chart);

/* Horizontal bars, each with its value and its ratio to the first. */
void chart_bars(FILE *out, const char *name, enum figures_unit unit, const struct chart_bar *bars, size_t count);

/* The sign of a style, to stand before a label. */
void chart_swatch(FILE *out, unsigned style);

#endif
