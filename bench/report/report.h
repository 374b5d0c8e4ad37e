/* report.h -- `tern-bench report`: result files as a Markdown table and as one HTML page.
 *
 * Why: figures are believed when they can be looked at: side by side, with their distribution, their course and what
 * was wrong with them. The page is one file without scripts and without links, so that it can be mailed and kept.
 * Result files are untrusted: what is missing or of the wrong type shows as "-". Touched by: one thread. */
#ifndef TERN_BENCH_REPORT_H
#define TERN_BENCH_REPORT_H

#include <jansson.h>
#include <stdio.h>

/* argv[0] is "report". A file holds one result, several one behind the other, or an array of them. Returns the exit
 * status: 0, or 2 with one sentence on standard error. */
int report_main(int argc, char **argv);

/* Write the page of an array of results, which stays the caller's. title NULL: a general one. Returns 0 or a negative
 * errno. */
int report_write_html(const char *path, const char *title, const json_t *results);

/* One row a result. */
void report_print_markdown(FILE *out, const json_t *results);

/* Append the results in text (len bytes of a file) to the array results. Returns NULL, or what is wrong and where, in a
 * buffer that the next call overwrites; then some of them may have been appended. */
const char *report_parse(const char *text, size_t len, json_t *results);

#endif
