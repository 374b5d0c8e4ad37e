/* markup.c -- escaping. */
#include <stdbool.h>
#include <string.h>

#include "bench/report/markup.h"

static void put_char(FILE *out, unsigned char c)
{
    switch (c) {
    case '&':
        fputs("&amp;", out);
        break;
    case '<':
        fputs("&lt;", out);
        break;
    case '>':
        fputs("&gt;", out);
        break;
    case '"':
        fputs("&quot;", out);
        break;
    case '\'':
        fputs("&#39;", out);
        break;
    default:
        if ((c < ' ' && c != '\t' && c != '\n') || c == 0x7f) {
            fputs("\xef\xbf\xbd", out); /* no such character in XML, nor in HTML */
        } else {
            fputc(c, out);
        }
    }
}

void markup_text(FILE *out, const char *text, size_t most)
{
    size_t shown = 0;

    for (const char *p = text; *p; p++) {
        bool begins = ((unsigned char)*p & 0xc0) != 0x80;
        if (begins && shown++ == most) {
            fputs("…", out);
            return;
        }
        put_char(out, (unsigned char)*p);
    }
}

/* The text of a number, or its first len bytes. */
static void put_figure(FILE *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == ' ') {
            fputs("\u202f", out);
        } else if (text[i] == '-') {
            fputs("−", out);
        } else if (text[i] == 'u') {
            fputs("µ", out);
        } else {
            fputc(text[i], out);
        }
    }
}

/* Whole numbers from 10000 on in groups of three digits. */
static void put_count(FILE *out, const char *text)
{
    size_t len = strlen(text);

    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0 && len > 4 && text[i - 1] != '-') {
            fputs("\u202f", out);
        }
        put_figure(out, text + i, 1);
    }
}

void markup_figure(FILE *out, enum figures_unit unit, double value)
{
    char text[FIGURES_TEXT_MAX];

    figures_text(text, unit, value);
    if (strcmp(text, "-") == 0) {
        fputs("<span class=\"none\">–</span>", out);
        return;
    }
    if (unit == FIGURES_COUNT) {
        put_count(out, text);
    } else {
        put_figure(out, text, strlen(text));
    }
}

void markup_range(FILE *out, enum figures_unit unit, double low, double high)
{
    char from[FIGURES_TEXT_MAX];
    char to[FIGURES_TEXT_MAX];

    figures_text(from, unit, low);
    figures_text(to, unit, high);
    size_t number = strcspn(from, " ");
    bool same_unit = strcmp(from + number, to + strcspn(to, " ")) == 0;
    put_figure(out, from, same_unit ? number : strlen(from));
    fputs("–", out);
    put_figure(out, to, strlen(to));
}
