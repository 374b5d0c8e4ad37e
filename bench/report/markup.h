/* markup.h -- text into HTML and SVG.
 *
 * Why: labels, command lines and names of threads come from files that anybody may have written; whatever the page
 * shows of them goes through here. Touched by: one thread. */
#ifndef TERN_BENCH_MARKUP_H
#define TERN_BENCH_MARKUP_H

#include <stdio.h>

#include "bench/report/figures.h"

#define MARKUP_LABEL_MAX 120 /* characters of a label that are shown */
#define MARKUP_LINE_MAX 2000 /* of a command line */

/* At most `most` characters of UTF-8, then an ellipsis; safe inside elements and quoted attributes. */
void markup_text(FILE *out, const char *text, size_t most);

/* A number as figures_text says it, but set well: a true minus and mu, and a narrow space that does not break. */
void markup_figure(FILE *out, enum figures_unit unit, double value);

/* "1.2–1.3 ms": two numbers, the unit once if it is the same. */
void markup_range(FILE *out, enum figures_unit unit, double low, double high);

#endif
