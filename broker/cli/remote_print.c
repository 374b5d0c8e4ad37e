/* remote_print.c -- JSON for people: objects as lines, lists as tables; numbers in units that can be read. */
#include "broker/cli/remote.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/cli/sheet.h"

#define COLUMNS_MAX 24u
#define INDENT 2u

const char *remote_text(struct buf *out)
{
    buf_u8(out, 0);
    if (out->failed) {
        cli_fail(CLI_FAILED, "out of memory");
        return NULL;
    }
    return (const char *)out->ptr;
}

static void put_bytes(struct buf *out, double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    unsigned unit = 0;

    while (bytes >= 1024 && unit + 1 < COUNT_OF(units)) {
        bytes /= 1024;
        unit++;
    }
    cli_put(out, unit == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

/* The two largest units: "3d 4h". */
static void put_seconds(struct buf *out, double value)
{
    static const struct {
        const char *name;
        uint64_t seconds;
    } units[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}};
    uint64_t seconds = value > 0 ? (uint64_t)value : 0;
    unsigned shown = 0;

    for (unsigned i = 0; i < COUNT_OF(units) && shown < 2; i++) {
        uint64_t count = seconds / units[i].seconds;
        if (count > 0 || shown > 0 || units[i].seconds == 1) {
            cli_put(out, "%s%" PRIu64 "%s", shown ? " " : "", count, units[i].name);
            shown++;
        }
        seconds %= units[i].seconds;
    }
}

static void put_list(struct buf *out, const json_t *list, enum remote_form form)
{
    const json_t *value;
    size_t i;

    json_array_foreach((json_t *)list, i, value)
    {
        buf_put(out, slice_str(i ? ", " : ""));
        remote_put_value(out, value, form);
    }
}

/* What is in an object, on one line: "up=yes bytes_sent=12"; what is null is left out. */
static void put_fields(struct buf *out, const json_t *object)
{
    const char *name, *separator = "";
    json_t *value;

    json_object_foreach((json_t *)object, name, value)
    {
        if (json_is_null(value)) {
            continue;
        }
        cli_put(out, "%s%s=", separator, name);
        remote_put_value(out, value, FORM_TEXT);
        separator = " ";
    }
}

void remote_put_value(struct buf *out, const json_t *value, enum remote_form form)
{
    if (json_is_number(value) && form == FORM_BYTES) {
        put_bytes(out, json_number_value(value));
    } else if (json_is_number(value) && form == FORM_SECONDS) {
        put_seconds(out, json_number_value(value));
    } else if (json_is_integer(value)) {
        cli_put(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_real(value)) {
        cli_put(out, form == FORM_NUMBER ? "%.1f" : "%.6g", json_real_value(value));
    } else if (json_is_string(value)) {
        buf_put(out, slice_str(json_string_value(value)));
    } else if (json_is_boolean(value)) {
        buf_put(out, slice_str(json_is_true(value) ? "yes" : "no"));
    } else if (json_is_array(value)) {
        put_list(out, value, form);
    } else if (json_is_object(value)) {
        put_fields(out, value);
    }
}

int remote_print_json(const json_t *json)
{
    bool good = json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) == 0 && fputc('\n', stdout) != EOF;

    return good ? CLI_DONE : cli_fail(CLI_FAILED, "standard output cannot be written");
}

/* ---- one object ---- */

/* The unit is in the name. */
static enum remote_form form_of(const char *name)
{
    size_t len = strlen(name);

    if (len >= 6 && strcmp(name + len - 6, "_bytes") == 0) {
        return FORM_BYTES;
    }
    return len >= 8 && strcmp(name + len - 8, "_seconds") == 0 ? FORM_SECONDS : FORM_TEXT;
}

static size_t longest_name(const json_t *object)
{
    const char *name;
    json_t *value;
    size_t longest = 0;

    json_object_foreach((json_t *)object, name, value)
    {
        longest = strlen(name) > longest ? strlen(name) : longest;
    }
    return longest;
}

/* A value behind its name; NULL: there is none. */
static void put_line(struct buf *out, unsigned indent, const json_t *value, enum remote_form form)
{
    struct buf text = {0};

    if (value) {
        remote_put_value(&text, value, form);
    } else {
        buf_u8(&text, '-');
    }
    buf_u8(&text, 0);
    cli_put(out, "%*s", (int)indent, "");
    sheet_put_safe(out, text.failed ? "" : (const char *)text.ptr);
    buf_u8(out, '\n');
    out->failed |= text.failed;
    buf_deinit(&text);
}

/* Whether a list gets a line for each entry: sentences and objects do, short words stand in one. */
static bool is_long_list(const json_t *value)
{
    const json_t *first = json_array_get(value, 0);

    return json_is_object(first) || (json_is_string(first) && strchr(json_string_value(first), ' '));
}

static void put_object(struct buf *out, const json_t *object, unsigned indent)
{
    int width = (int)longest_name(object);
    const char *name;
    json_t *value, *entry;
    size_t i;

    json_object_foreach((json_t *)object, name, value)
    {
        if (json_is_object(value) && json_object_size(value) > 0) {
            cli_put(out, "%*s%s\n", (int)indent, "", name);
            put_object(out, value, indent + INDENT);
        } else if (is_long_list(value)) {
            cli_put(out, "%*s%s\n", (int)indent, "", name);
            json_array_foreach(value, i, entry)
            {
                put_line(out, indent + INDENT, entry, FORM_TEXT);
            }
        } else {
            cli_put(out, "%*s%-*s", (int)indent, "", width, name);
            put_line(out, 2, json_is_null(value) ? NULL : value, form_of(name));
        }
    }
}

static int print_text(struct buf *out)
{
    bool good = !out->failed && fwrite(out->ptr, 1, out->len, stdout) == out->len;
    int status = out->failed ? cli_fail(CLI_FAILED, "out of memory")
                 : good      ? CLI_DONE
                             : cli_fail(CLI_FAILED, "standard output cannot be written");

    buf_deinit(out);
    return status;
}

int remote_print_object(const json_t *object)
{
    struct buf out = {0};

    put_object(&out, object, 0);
    return print_text(&out);
}

/* ---- lists ---- */

static void put_rows(struct sheet *t, const json_t *rows, const struct remote_column *columns)
{
    const json_t *row;
    size_t i;

    json_array_foreach((json_t *)rows, i, row)
    {
        for (unsigned c = 0; columns[c].title; c++) {
            struct buf text = {0};
            remote_put_value(&text, json_object_get(row, columns[c].field), columns[c].form);
            buf_u8(&text, 0);
            sheet_cell(t, text.failed ? "?" : (const char *)text.ptr);
            buf_deinit(&text);
        }
    }
}

int remote_print_rows(const json_t *rows, const struct remote_column *columns)
{
    const char *titles[COLUMNS_MAX], *no_color = getenv("NO_COLOR");
    bool right[COLUMNS_MAX];
    unsigned count = 0, width = sheet_terminal_width();
    struct buf out = {0};

    for (; count < COLUMNS_MAX && columns[count].title; count++) {
        titles[count] = columns[count].title;
        right[count] = columns[count].form != FORM_TEXT;
    }
    struct sheet *t = sheet_new(count, titles, right);
    if (!t) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    put_rows(t, rows, columns);
    out.failed |= sheet_put(t, width, width > 0 && !(no_color && *no_color), &out) != 0;
    sheet_free(t);
    return print_text(&out);
}
