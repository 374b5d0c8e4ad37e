/* sheet.h -- rows and columns for people: aligned, no wider than the terminal, and safe to look at.
 *
 * Why safe: a topic or a client id may hold anything that is UTF-8, escape sequences of a terminal included. Control
 * characters are shown as \xNN, so that no client writes on an operator's screen. */
#ifndef TERN_BROKER_CLI_SHEET_H
#define TERN_BROKER_CLI_SHEET_H

#include "proto/base/buf.h"

#include <stdio.h>

struct sheet;

/* NULL when memory is out. right: for numbers; borrowed as titles are, until sheet_free. */
struct sheet *sheet_new(unsigned column_count, const char *const *titles, const bool *right);
void sheet_free(struct sheet *t); /* NULL is allowed */

/* Add the next cell, row by row; copied. Memory that is out shows in table_print. */
void sheet_cell(struct sheet *t, const char *text);

/* Append all rows below their titles. width: columns of the terminal, 0: as wide as it gets; a row that is too wide has
 * its widest texts cut, never its numbers, and "..." where something is missing. bold: the titles, by escape sequences.
 * Returns 0 or -ENOMEM. */
int sheet_put(const struct sheet *t, unsigned width, bool bold, struct buf *out);

/* Columns of the terminal behind standard output; 0: it is none. */
unsigned sheet_terminal_width(void);

/* Append text with every control character as \xNN. */
void sheet_put_safe(struct buf *out, const char *text);

#endif
