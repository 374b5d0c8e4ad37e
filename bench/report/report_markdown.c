/* report_markdown.c -- the table for terminals and for pages that take Markdown. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/figures.h"
#include "bench/report/report.h"
#include "bench/report/report_groups.h"

#define TEXT_COLUMNS 3
#define COLUMNS_MAX 24
#define CELL_MAX 160 /* bytes: a label that is cut, escaped */

/* A table of texts, so that its columns can be made as wide as their longest. */
struct table {
    char (*cells)[CELL_MAX]; /* owned: rows * columns */
    size_t rows, columns;
};

static char *cell_of(const struct table *table, size_t row, size_t column)
{
    return table->cells[row * table->columns + column];
}

/* A text of the file as text, not as Markdown or HTML, and without what would move a terminal's cursor. */
static void put_escaped(char *out, const char *text)
{
    size_t len = (size_t)figures_clip(text, CELL_MAX / 2 - 1);

    if (len == 0) {
        strcpy(out, "-");
        return;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (strchr("|\\`*_<>[]", c)) {
            *out++ = '\\';
        }
        *out++ = c < ' ' || c == 0x7f ? ' ' : (char)c;
    }
    *out = '\0';
}

static size_t width_of(const char *text)
{
    size_t width = 0;

    for (; *text; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static void table_fill(const struct table *table, const json_t *results)
{
    static const char *const names[TEXT_COLUMNS] = {"label", "scenario", "mode"};

    for (size_t column = 0; column < TEXT_COLUMNS; column++) {
        strcpy(cell_of(table, 0, column), names[column]);
    }
    for (size_t column = TEXT_COLUMNS; column < table->columns; column++) {
        strcpy(cell_of(table, 0, column), figures_columns[column - TEXT_COLUMNS].name);
    }
    for (size_t row = 1; row < table->rows; row++) {
        const json_t *result = json_array_get(results, row - 1);
        for (size_t column = 0; column < TEXT_COLUMNS; column++) {
            put_escaped(cell_of(table, row, column), figures_string(result, names[column]));
        }
        for (size_t column = TEXT_COLUMNS; column < table->columns; column++) {
            const struct figures_column *figure = &figures_columns[column - TEXT_COLUMNS];
            figures_text(cell_of(table, row, column), figure->unit, figures_column_value(figure, result));
        }
    }
}

static void table_print(FILE *out, const struct table *table)
{
    size_t widths[COLUMNS_MAX] = {0};

    for (size_t row = 0; row < table->rows; row++) {
        for (size_t column = 0; column < table->columns; column++) {
            size_t width = width_of(cell_of(table, row, column));
            widths[column] = width > widths[column] ? width : widths[column];
        }
    }
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t column = 0; column < table->columns; column++) {
            const char *text = cell_of(table, row, column);
            int blanks = (int)(widths[column] - width_of(text));
            bool left = column < TEXT_COLUMNS;
            fprintf(out, "| %*s%s%*s ", left ? 0 : blanks, "", text, left ? blanks : 0, "");
        }
        fputs("|\n", out);
        for (size_t column = 0; row == 0 && column < table->columns; column++) {
            fputs(column < TEXT_COLUMNS ? "|-" : "|-", out);
            for (size_t i = 0; i < widths[column]; i++) {
                fputc('-', out);
            }
            fputs(column < TEXT_COLUMNS ? "-" : ":", out);
        }
        if (row == 0) {
            fputs("|\n", out);
        }
    }
}

/* Not every scenario delivers messages. */
static void print_other_latencies(FILE *out, const json_t *results, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *kind = figures_latency_kind(json_array_get(results, i));
        if (kind && strcmp(kind, "delivery") != 0) {
            fputs("\nLatencies are those of delivery; in a row without deliveries, of acknowledgements, else of "
                  "connecting, "
                  "else of subscribing.\n",
                  out);
            return;
        }
    }
}

void report_print_markdown(FILE *out, const json_t *results)
{
    size_t count = json_array_size(results);
    count = count < REPORT_RESULTS_MAX ? count : REPORT_RESULTS_MAX;
    struct table table = {.rows = count + 1, .columns = TEXT_COLUMNS + figures_markdown_column_count};

    table.cells = calloc(table.rows * table.columns, sizeof(*table.cells));
    if (!table.cells) {
        fputs("out of memory\n", out);
        return;
    }
    table_fill(&table, results);
    table_print(out, &table);
    free(table.cells);
    print_other_latencies(out, results, count);
}
