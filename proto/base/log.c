/* log.c -- build one line on the stack, write it at once.
 *
 * A line is made of whole fields: one that does not fit is taken back and the line says cut=1. What is said about the
 * line itself (suppressed, cut) has its room reserved. A line that cannot be written is lost, for there is nowhere to
 * say so, and no caller waits. */
#include "proto/base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/utf8.h"

#define LINE_BYTES_MAX 4096u /* PIPE_BUF: lines of several threads do not mix in a pipe */
#define LINE_RESERVE 64u     /* ,"suppressed":18446744073709551615,"cut":1}\n */
#define VALUE_BYTES_MAX 256u /* of a value; the rest is cut and "..." says so */
#define EVENTS_PER_SECOND 20u
#define EVENT_SLOTS 256u
#define EVENT_PROBES 8u

static atomic_int log_fd = STDERR_FILENO;
static atomic_int log_level = LOG_INFO;
static atomic_int log_format = LOG_TEXT;

struct line {
    char at[LINE_BYTES_MAX];
    size_t len, max;
    bool json, first, cut;
};

/* How often an event name was seen by this thread in its present second. */
struct event_rate {
    uint64_t hash; /* of the name; 0: free */
    uint64_t second;
    uint64_t suppressed;
    unsigned count;
};

static _Thread_local struct event_rate event_rates[EVENT_SLOTS];

enum log_level log_level_now(void)
{
    return (enum log_level)atomic_load_explicit(&log_level, memory_order_relaxed);
}

void log_setup(int fd, enum log_level level, enum log_format format)
{
    atomic_store(&log_fd, fd);
    atomic_store(&log_format, (int)format);
    atomic_store(&log_level, (int)level);
}

/* The entry of this event name. Where all its places are taken the one silent for longest is given up; what it had
 * suppressed is then never told, but there are more places than event names in the program. */
static struct event_rate *event_rate_find(struct slice event, uint64_t second)
{
    static const struct hash_key key = {0, 0}; /* event names are ours, nobody makes them collide */
    uint64_t hash = hash_keyed(&key, event) | 1;
    struct event_rate *oldest = NULL;

    for (uint64_t i = 0; i < EVENT_PROBES; i++) {
        struct event_rate *rate = &event_rates[((hash >> 8) + i) % EVENT_SLOTS];
        if (rate->hash == hash) {
            return rate;
        }
        if (!oldest || rate->second < oldest->second) {
            oldest = rate;
        }
    }
    *oldest = (struct event_rate){.hash = hash, .second = second};
    return oldest;
}

/* Whether this line may be written; *ret_suppressed is then the number of lines left out before it. */
static bool event_admit(struct slice event, uint64_t *ret_suppressed)
{
    uint64_t second = clock_mono_ns() / 1000000000u;
    struct event_rate *rate = event_rate_find(event, second);

    if (rate->second != second) {
        rate->second = second;
        rate->count = 0;
    }
    if (rate->count >= EVENTS_PER_SECOND) {
        rate->suppressed++;
        return false;
    }
    rate->count++;
    *ret_suppressed = rate->suppressed;
    rate->suppressed = 0;
    return true;
}

static void line_put(struct line *l, const char *text, size_t len)
{
    if (l->cut || l->max - l->len < len) {
        l->cut = true;
        return;
    }
    memcpy(l->at + l->len, text, len);
    l->len += len;
}

static void line_text(struct line *l, const char *text)
{
    line_put(l, text, strlen(text));
}

/* Length of the well-formed character at p that may be printed as it is, or 0. Control characters, C1 among them, are
 * a terminal's commands. */
static size_t printable_len(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80) {
        return p[0] >= 0x20 && p[0] != 0x7f;
    }
    size_t len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (len > left || !utf8_valid(slice_of(p, len))) {
        return 0;
    }
    return p[0] == 0xc2 && p[1] < 0xa0 ? 0 : len;
}

/* Text needs no quotes if nobody could take it for something else. */
static bool is_plain(struct slice s)
{
    for (size_t i = 0; i < s.len;) {
        size_t len = printable_len(s.ptr + i, s.len - i);
        if (len == 0 || s.ptr[i] == ' ' || s.ptr[i] == '=' || s.ptr[i] == '"' || s.ptr[i] == '\\') {
            return false;
        }
        i += len;
    }
    return s.len > 0 && s.len <= VALUE_BYTES_MAX;
}

/* Inside quotes: `\` and `"` behind a backslash, what may not be printed as \xHH. JSON knows no such escape, so there
 * the backslash itself is escaped and the reader sees \xHH as well. */
static void line_quoted(struct line *l, struct slice s)
{
    bool too_long = s.len > VALUE_BYTES_MAX;
    if (too_long) {
        s.len = VALUE_BYTES_MAX;
        while (s.len > VALUE_BYTES_MAX - 3 && (s.ptr[s.len] & 0xc0) == 0x80) {
            s.len--; /* not in the middle of a character */
        }
    }
    line_text(l, "\"");
    for (size_t i = 0; i < s.len;) {
        size_t len = printable_len(s.ptr + i, s.len - i);
        if (len == 0) {
            char escape[8];
            snprintf(escape, sizeof(escape), "%s\\x%02x", l->json ? "\\" : "", s.ptr[i]);
            line_text(l, escape);
            len = 1;
        } else {
            if (s.ptr[i] == '"' || s.ptr[i] == '\\') {
                line_text(l, "\\");
            }
            line_put(l, (const char *)s.ptr + i, len);
        }
        i += len;
    }
    line_text(l, too_long ? "...\"" : "\"");
}

static void line_key(struct line *l, const char *key)
{
    if (!l->first) {
        line_text(l, l->json ? "," : " ");
    }
    l->first = false;
    line_text(l, l->json ? "\"" : "");
    line_text(l, key);
    line_text(l, l->json ? "\":" : "=");
}

static void line_field(struct line *l, const char *key, const struct log_value *value)
{
    size_t start = l->len;
    if (l->cut) {
        return;
    }
    line_key(l, key);
    if (value->kind == LOG_KIND_INT) {
        char digits[24];
        snprintf(digits, sizeof(digits), "%lld", (long long)value->number);
        line_text(l, digits);
    } else if (!l->json && is_plain(value->slice)) {
        line_put(l, (const char *)value->slice.ptr, value->slice.len);
    } else {
        line_quoted(l, value->slice);
    }
    if (l->cut) {
        l->len = start;
    }
}

static void line_string_field(struct line *l, const char *key, const char *text)
{
    line_field(l, key, &LOG_STR(text));
}

static void line_head(struct line *l, enum log_level level)
{
    static const char *const level_names[] = {"error", "warn", "info", "debug"};
    uint64_t now_ms = clock_wall_ms();
    time_t now_s = (time_t)(now_ms / 1000);
    struct tm tm;
    char date[32], ts[48];

    gmtime_r(&now_s, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ts, sizeof(ts), "%s.%03uZ", date, (unsigned)(now_ms % 1000));

    line_text(l, l->json ? "{" : "");
    line_string_field(l, "ts", ts);
    line_string_field(l, "level", level_names[level]);
}

static void line_tail(struct line *l, uint64_t suppressed)
{
    bool cut = l->cut;
    l->cut = false;
    l->max = LINE_BYTES_MAX;
    if (suppressed) {
        line_field(l, "suppressed", &LOG_INT(suppressed));
    }
    if (cut) {
        line_field(l, "cut", &LOG_INT(1));
    }
    line_text(l, l->json ? "}\n" : "\n");
}

void log_write(enum log_level level, const struct log_field *fields)
{
    uint64_t suppressed;
    if (!event_admit(fields[0].value.slice, &suppressed)) {
        return;
    }
    struct line l;
    l.len = 0;
    l.max = LINE_BYTES_MAX - LINE_RESERVE;
    l.json = atomic_load_explicit(&log_format, memory_order_relaxed) == LOG_JSON;
    l.first = true;
    l.cut = false;

    line_head(&l, level);
    for (const struct log_field *f = fields; f->key; f++) {
        line_field(&l, f->key, &f->value);
    }
    line_tail(&l, suppressed);
    if (write(atomic_load_explicit(&log_fd, memory_order_relaxed), l.at, l.len) < 0) {
        return; /* see the head of this file */
    }
}
