/* report.h -- a run's result, for people and for programs.
 *
 * Why: both must say the same. The figures that need arithmetic are therefore made once, here. */
#ifndef TERN_BENCH_REPORT_H
#define TERN_BENCH_REPORT_H

#include <stdio.h>

#include "bench/scenario.h"

/* Several lines of text. */
void report_text(FILE *out, const struct scenario_options *options, const struct scenario_result *result);

/* One JSON object on one line. Figures that were not measured are null. */
void report_json(FILE *out, const struct scenario_options *options, const struct scenario_result *result);

#endif
