/* sheet.c -- aligned columns. Widths are counted in characters of UTF-8, wide ones as two. */
#include "broker/cli/sheet.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#define COLUMNS_MAX 24u
#define GAP 2u
#define WIDTH_LEAST 8u /* a text is not cut below this */
#define DOTS "..."

struct sheet {
    unsigned column_count;
    const char *const *titles;
    const bool *right;
    struct buf text;    /* cells, each ended by NUL */
    struct buf offsets; /* uint32_t each, where a cell begins */
};

struct sheet *sheet_new(unsigned column_count, const char *const *titles, const bool *right)
{
    struct sheet *t = column_count <= COLUMNS_MAX ? calloc(1, sizeof(*t)) : NULL;

    if (t) {
        *t = (struct sheet){.column_count = column_count, .titles = titles, .right = right};
    }
    return t;
}

void sheet_free(struct sheet *t)
{
    if (t) {
        buf_deinit(&t->text);
        buf_deinit(&t->offsets);
        free(t);
    }
}

void sheet_put_safe(struct buf *out, const char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (const uint8_t *at = (const uint8_t *)text; *at; at++) {
        bool control1 = at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0; /* U+0080 to U+009F */
        if (*at < 0x20 || *at == 0x7f || control1) {
            at += control1;
            const uint8_t shown[] = {'\\', 'x', (uint8_t)digits[*at >> 4], (uint8_t)digits[*at & 15]};
            buf_put(out, slice_of(shown, sizeof(shown)));
        } else {
            buf_u8(out, *at);
        }
    }
}

void sheet_cell(struct sheet *t, const char *text)
{
    uint32_t offset = t->text.len;

    buf_put(&t->offsets, slice_of(&offset, sizeof(offset)));
    sheet_put_safe(&t->text, text);
    buf_u8(&t->text, 0);
}

static unsigned cell_count(const struct sheet *t)
{
    return t->offsets.len / (unsigned)sizeof(uint32_t);
}

static const char *cell_at(const struct sheet *t, unsigned index)
{
    uint32_t offset;

    memcpy(&offset, t->offsets.ptr + index * sizeof(offset), sizeof(offset));
    return (const char *)t->text.ptr + offset;
}

/* The character at *at, which moves behind it; its columns. What is no UTF-8 counts one byte and one column. */
static unsigned next_width(const char **at)
{
    mbstate_t state = {0};
    wchar_t c;
    size_t len = mbrtowc(&c, *at, strlen(*at), &state);

    if (len == 0 || len > 8) { /* the errors are huge numbers */
        *at += 1;
        return 1;
    }
    *at += len;
    int width = wcwidth(c);
    return width < 0 ? 1 : (unsigned)width;
}

static unsigned width_of(const char *text)
{
    unsigned width = 0;

    while (*text) {
        width += next_width(&text);
    }
    return width;
}

/* The widest text first, a column at a time, until the row fits or nothing more can go. */
static void shrink(const struct sheet *t, unsigned *widths, unsigned width)
{
    unsigned total = (t->column_count - 1) * GAP;

    for (unsigned i = 0; i < t->column_count; i++) {
        total += widths[i];
    }
    while (total > width) {
        unsigned widest = t->column_count;
        for (unsigned i = 0; i < t->column_count; i++) {
            bool can_go = !t->right[i] && widths[i] > WIDTH_LEAST && widths[i] > width_of(t->titles[i]);
            if (can_go && (widest == t->column_count || widths[i] > widths[widest])) {
                widest = i;
            }
        }
        if (widest == t->column_count) {
            return;
        }
        widths[widest]--;
        total--;
    }
}

static void put_spaces(struct buf *out, unsigned count)
{
    while (count-- > 0) {
        buf_u8(out, ' ');
    }
}

/* One cell in its width; the last of a row is not filled up. */
static void put_cell(struct buf *out, const char *text, unsigned width, bool right, bool last)
{
    unsigned own = width_of(text), used = 0, room = width - (own > width ? (unsigned)strlen(DOTS) : 0);

    if (own <= width) {
        put_spaces(out, right ? width - own : 0);
        buf_put(out, slice_str(text));
        put_spaces(out, right || last ? 0 : width - own);
        return;
    }
    for (const char *at = text, *next = text; *at; at = next) {
        unsigned columns = next_width(&next);
        if (used + columns > room) {
            break;
        }
        used += columns;
        buf_put(out, slice_of(at, (size_t)(next - at)));
    }
    buf_put(out, slice_str(DOTS));
    put_spaces(out, last ? 0 : room - used);
}

int sheet_put(const struct sheet *t, unsigned width, bool bold, struct buf *out)
{
    unsigned widths[COLUMNS_MAX], count = cell_count(t);

    if (t->text.failed || t->offsets.failed) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < t->column_count; i++) {
        widths[i] = width_of(t->titles[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        unsigned own = width_of(cell_at(t, i)), *column = &widths[i % t->column_count];
        *column = own > *column ? own : *column;
    }
    if (width > 0) {
        shrink(t, widths, width);
    }
    buf_put(out, slice_str(bold ? "\033[1m" : ""));
    for (unsigned i = 0; i < t->column_count + count; i++) {
        unsigned column = i % t->column_count;
        bool title = i < t->column_count, last = column == t->column_count - 1;
        put_spaces(out, column > 0 ? GAP : 0);
        put_cell(out, title ? t->titles[column] : cell_at(t, i - t->column_count), widths[column], t->right[column],
                 last);
        if (last) {
            buf_put(out, slice_str(title && bold ? "\033[0m\n" : "\n"));
        }
    }
    return out->failed ? -ENOMEM : 0;
}

unsigned sheet_terminal_width(void)
{
    struct winsize size;

    if (!isatty(STDOUT_FILENO)) {
        return 0;
    }
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}
