/* expect.c -- reads objectives and judges them. An objective is cut into name, relation, number and unit; each piece
 * that is wrong has its own sentence, because the line stands in a script that somebody else wrote. */
#include "bench/load/expect.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/slice.h"

#define BLANKS " \t\n"

/* --- names and units --------------------------------------------------------------------------------------------- */

/* What a figure counts decides which units fit. */
enum kind { KIND_NONE, KIND_TIME, KIND_PLAIN };

static const char *const latencies[] = {"p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"};
static const char *const latency_prefixes[] = {"ack-", "connect-", "late-"};
static const char *const times[] = {"cpu", "connection-cpu", "subscription-cpu"};
static const char *const plain[] = {
    "lost",         "duplicate", "reordered", "misdelivered", "refused", "unacknowledged", "misacknowledged",
    "disconnected", "sent",      "received",  "rate",         "rss"};

static bool among(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static enum kind name_kind(const char *name)
{
    if (among(plain, COUNT_OF(plain), name)) {
        return KIND_PLAIN;
    }
    if (among(times, COUNT_OF(times), name)) {
        return KIND_TIME;
    }
    for (size_t i = 0; i < COUNT_OF(latency_prefixes); i++) {
        size_t len = strlen(latency_prefixes[i]);
        if (strncmp(name, latency_prefixes[i], len) == 0) {
            name += len;
            break; /* one of them at most */
        }
    }
    return among(latencies, COUNT_OF(latencies), name) ? KIND_TIME : KIND_NONE;
}

bool expect_name_known(const char *name)
{
    return name_kind(name) != KIND_NONE;
}

/* A limit is number * times / parts: a division keeps 500 ns exactly half a microsecond. */
static const struct unit {
    const char *name;
    enum kind kind;
    double times, parts;
} units[] = {
    {"", KIND_TIME, 1, 1},    {"ns", KIND_TIME, 1, 1000}, {"us", KIND_TIME, 1, 1},    {"ms", KIND_TIME, 1000, 1},
    {"s", KIND_TIME, 1e6, 1}, {"", KIND_PLAIN, 1, 1},     {"k", KIND_PLAIN, 1000, 1}, {"M", KIND_PLAIN, 1e6, 1},
};

static const struct unit *unit_find(const char *name, enum kind kind)
{
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (units[i].kind == kind && strcmp(units[i].name, name) == 0) {
            return &units[i];
        }
    }
    return NULL;
}

/* --- one objective ----------------------------------------------------------------------------------------------- */

/* The text without blanks at its ends. */
static struct slice trimmed(const char *text, size_t len)
{
    while (len > 0 && strchr(BLANKS, text[0])) {
        text++;
        len--;
    }
    while (len > 0 && strchr(BLANKS, text[len - 1])) {
        len--;
    }
    return slice_of(text, len);
}

static void text_copy(char out[EXPECT_TEXT_MAX], struct slice from)
{
    memcpy(out, from.ptr, from.len);
    out[from.len] = 0;
}

__attribute__((format(printf, 1, 2))) static const char *mistake(const char *format, ...)
{
    static char sentence[256];
    va_list args;

    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    return sentence;
}

/* The relation at the front of text. Returns what is behind it. */
static const char *relation_take(const char *text, enum expect_relation *ret_relation)
{
    bool equal = text[1] == '=' && text[0] != '=';

    switch (text[0]) {
    case '<':
        *ret_relation = equal ? EXPECT_AT_MOST : EXPECT_LESS;
        break;
    case '>':
        *ret_relation = equal ? EXPECT_AT_LEAST : EXPECT_MORE;
        break;
    default:
        *ret_relation = EXPECT_EQUAL;
    }
    return text + (equal ? 2 : 1);
}

/* Digits with at most one point: strtod(3) alone would take "inf", "0x1p3" and a sign, and no figure is below 0.
 * Returns what is behind it, or NULL. */
static const char *number_take(const char *text, double *ret_number)
{
    size_t len = strspn(text, "0123456789."), whole = strcspn(text, ".");

    if (len == 0 || (whole < len && (len == 1 || memchr(text + whole + 1, '.', len - whole - 1)))) {
        return NULL;
    }
    *ret_number = strtod(text, NULL); /* stops where the digits do, or behind an exponent, which is no unit */
    return text + len;
}

/* What stands behind the relation. */
static const char *limit_parse(struct expectation *e, enum kind kind, const char *text)
{
    char unit_name[EXPECT_TEXT_MAX];
    double number;

    const char *behind = number_take(text + strspn(text, BLANKS), &number);
    if (!behind) {
        return mistake("\"%s\" needs a number behind the relation, such as 5 or 0.25", e->text);
    }
    text_copy(unit_name, trimmed(behind, strlen(behind)));
    const struct unit *unit = unit_find(unit_name, kind);
    if (!unit) {
        return mistake(kind == KIND_TIME ? "\"%s\" is about a time, so that its unit is one of ns, us, ms, s"
                                         : "\"%s\" is not about a time: it may end in k or M, and in nothing else",
                       e->text);
    }
    e->limit = number * unit->times / unit->parts;
    return NULL;
}

static const char *item_parse(struct expectation *e, struct slice item)
{
    if (item.len == 0) {
        return "an objective is empty; they look like p99<5ms,lost=0";
    }
    if (item.len >= EXPECT_TEXT_MAX) {
        return mistake("\"%.20s...\" is longer than %d bytes", (const char *)item.ptr, EXPECT_TEXT_MAX - 1);
    }
    text_copy(e->text, item);
    size_t name_len = strcspn(e->text, "<>=");
    if (e->text[name_len] == 0) {
        return mistake("\"%s\" has none of < <= > >= =", e->text);
    }
    text_copy(e->name, trimmed(e->text, name_len));
    enum kind kind = name_kind(e->name);
    if (kind == KIND_NONE) {
        return mistake("\"%s\" names no figure of a run, such as p99, ack-p99, lost, rate, cpu", e->text);
    }
    return limit_parse(e, kind, relation_take(e->text + name_len, &e->relation));
}

/* --- the list ---------------------------------------------------------------------------------------------------- */

const char *expect_parse(struct expect_list *list, const char *text)
{
    struct expect_list longer = *list;

    for (;;) {
        size_t len = strcspn(text, ",");
        if (longer.count == EXPECT_MAX) {
            return mistake("there are more than %d objectives", EXPECT_MAX);
        }
        struct expectation *e = &longer.items[longer.count++];
        *e = (struct expectation){0};
        const char *why = item_parse(e, trimmed(text, len));
        if (why) {
            return why;
        }
        if (text[len] == 0) {
            *list = longer;
            return NULL;
        }
        text += len + 1;
    }
}

/* A value that is not a number holds nothing. */
static bool holds(enum expect_relation relation, double value, double limit)
{
    switch (relation) {
    case EXPECT_LESS:
        return value < limit;
    case EXPECT_AT_MOST:
        return value <= limit;
    case EXPECT_MORE:
        return value > limit;
    case EXPECT_AT_LEAST:
        return value >= limit;
    case EXPECT_EQUAL:
        return value == limit;
    }
    return false;
}

bool expect_judge(struct expect_list *list, expect_lookup *lookup, void *context)
{
    bool all = true;

    for (size_t i = 0; i < list->count; i++) {
        struct expectation *e = &list->items[i];
        double value = 0;
        e->known = lookup(context, e->name, &value);
        e->value = e->known ? value : 0;
        e->met = e->known && holds(e->relation, value, e->limit);
        all = all && e->met;
    }
    return all;
}
