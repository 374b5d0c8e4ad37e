/* report_page.h -- the parts of the HTML page, which only report_html.c puts together. */
#ifndef TERN_BENCH_REPORT_PAGE_H
#define TERN_BENCH_REPORT_PAGE_H

#include <stdio.h>

#include "bench/report/report_groups.h"

extern const char report_style[]; /* the style sheet */

/* One group: its table, what was wrong, its charts. number: of the group, for links. */
void report_section(FILE *out, const struct report_group *group, size_t number);

/* Everything else that was measured, folded. */
void report_details(FILE *out, const struct report_group *group);

/* What the reader must know before believing the figures. Returns how many there are; out NULL: only counts. */
size_t report_warnings(FILE *out, const struct report_group *group);

#endif
