/* import_acl.c -- mosquitto's acl_file as rules of ours.
 *
 * mosquitto asks, for one message: the denials among the topics of this user (or of anonymous clients), the grants
 * among them, the denials among the patterns, the grants among them; the first that fits decides, and at the end it is
 * no. Our rules decide in their order, so that this order is written out:
 *
 *     of each user:     denials, grants
 *     of all:           pattern denials, pattern grants
 *
 * There is no condition "has no name". Topics of anonymous clients therefore come last, behind a rule that has said no
 * to everybody who has one; the patterns then stand twice, before it for those with a name, behind for those without.
 */
#include "broker/cli/cli.h"
#include "broker/cli/import.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/utf8.h"

#define ENTRIES_MAX 100000u

enum who { WHO_ANONYMOUS, WHO_USER, WHO_PATTERN };
enum grant { GRANT_DENY, GRANT_READ, GRANT_WRITE, GRANT_BOTH };

/* One line `topic` or `pattern`. */
struct entry {
    enum who who;
    enum grant grant;
    struct slice user, topic; /* borrowed from the text */
    unsigned line;
};

struct acl_file {
    const char *name, *listener; /* borrowed; listener NULL: all */
    struct import_notes *notes;
    struct entry *entries; /* owned */
    size_t count, cap;
    char *error;
    size_t error_size;
};

__attribute__((format(printf, 3, 4))) static int acl_fail(struct acl_file *f, unsigned line, const char *format, ...)
{
    char why[512];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    snprintf(f->error, f->error_size, "%s:%u: %s", f->name, line, why);
    return -EINVAL;
}

/* ---- reading ---- */

static struct slice trim(struct slice s)
{
    while (s.len > 0 && strchr(" \t\r", s.ptr[s.len - 1])) {
        s.len--;
    }
    while (s.len > 0 && strchr(" \t", s.ptr[0])) {
        s = slice_drop(s, 1);
    }
    return s;
}

/* The bytes up to the first blank, which are taken off *rest. */
static struct slice take_word(struct slice *rest)
{
    struct slice s = trim(*rest);
    size_t len = 0;

    while (len < s.len && s.ptr[len] != ' ' && s.ptr[len] != '\t') {
        len++;
    }
    *rest = trim(slice_drop(s, len));
    return slice_of(s.ptr, len);
}

/* Wildcards fill whole levels, and # is the last one. */
static bool is_filter(struct slice s)
{
    if (s.len == 0 || s.len > 65535 || !utf8_valid(s)) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        bool wild = s.ptr[i] == '+' || s.ptr[i] == '#';
        bool begins = i == 0 || s.ptr[i - 1] == '/', ends = i + 1 == s.len || s.ptr[i + 1] == '/';
        if (wild && (!begins || !ends || (s.ptr[i] == '#' && i + 1 < s.len))) {
            return false;
        }
    }
    return true;
}

static int add_entry(struct acl_file *f, struct entry entry)
{
    if (f->count == ENTRIES_MAX) {
        return acl_fail(f, entry.line, "more than %u topics", ENTRIES_MAX);
    }
    if (f->count == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 64;
        struct entry *grown = realloc(f->entries, cap * sizeof(*grown));
        if (!grown) {
            return -ENOMEM;
        }
        f->entries = grown;
        f->cap = cap;
    }
    f->entries[f->count++] = entry;
    return 0;
}

/* Behind `topic` or `pattern`: [read|write|readwrite|deny] TOPIC. The word may be left out if the topic has no blank.
 */
static int read_topic(struct acl_file *f, struct entry entry, struct slice rest)
{
    static const char *const grants[] = {"deny", "read", "write", "readwrite"};
    struct slice word = take_word(&rest);
    size_t grant = 0;

    entry.grant = GRANT_BOTH;
    entry.topic = word;
    if (rest.len > 0) {
        while (grant < COUNT_OF(grants) && !slice_eq(word, slice_str(grants[grant]))) {
            grant++;
        }
        if (grant == COUNT_OF(grants)) {
            return acl_fail(f, entry.line, "%.*s is not read, write, readwrite or deny", (int)word.len, word.ptr);
        }
        entry.grant = (enum grant)grant;
        entry.topic = rest;
    }
    if (!is_filter(entry.topic)) {
        return acl_fail(f, entry.line, "%.*s is no topic filter", (int)entry.topic.len, entry.topic.ptr);
    }
    return add_entry(f, entry);
}

static int read_line(struct acl_file *f, struct slice line, unsigned number, struct slice *user)
{
    struct slice word = take_word(&line);
    struct entry entry = {.who = user->len > 0 ? WHO_USER : WHO_ANONYMOUS, .user = *user, .line = number};

    if (word.len == 0) {
        return 0;
    }
    if (slice_eq(word, SLICE("topic"))) {
        return read_topic(f, entry, line);
    }
    if (slice_eq(word, SLICE("pattern"))) {
        entry.who = WHO_PATTERN;
        return read_topic(f, entry, line);
    }
    if (!slice_eq(word, SLICE("user")) || line.len == 0 || !utf8_valid(line)) {
        return acl_fail(f, number, "is not `user NAME`, `topic ...` or `pattern ...`");
    }
    *user = line;
    return 0;
}

static int read_file(struct acl_file *f, struct slice text)
{
    struct slice user = {0};
    unsigned number = 0;
    int rc = 0;

    while (rc == 0 && text.len > 0) {
        const uint8_t *end = memchr(text.ptr, '\n', text.len);
        struct slice line = slice_of(text.ptr, end ? (size_t)(end - text.ptr) : text.len);
        text = slice_drop(text, line.len + (end ? 1 : 0));
        number++;
        if (line.len > 0 && line.ptr[0] != '#') {
            rc = read_line(f, line, number, &user);
        }
    }
    return rc;
}

/* ---- writing ---- */

void import_quote(struct buf *out, struct slice text)
{
    buf_u8(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i], next = i + 1 < text.len ? text.ptr[i + 1] : 0;
        if (c == '"' || c == '\\') {
            cli_put(out, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            cli_put(out, "\\x%02x", c);
        } else if (c == 0xc2 && next < 0xa0) { /* a control character of two bytes; YAML takes it by its number alone */
            cli_put(out, "\\x%02x", next);
            i++;
        } else {
            buf_u8(out, c);
        }
    }
    buf_u8(out, '"');
}

/* In our filters every % begins %u, %c or %%; in mosquitto's only those of patterns mean anything. */
static void put_topic(struct buf *out, struct slice topic, bool pattern)
{
    struct buf plain = {0};

    for (size_t i = 0; i < topic.len; i++) {
        uint8_t next = i + 1 < topic.len ? topic.ptr[i + 1] : 0;
        buf_u8(&plain, topic.ptr[i]);
        if (topic.ptr[i] == '%' && !(pattern && (next == 'u' || next == 'c'))) {
            buf_u8(&plain, '%');
        }
    }
    out->failed |= plain.failed;
    import_quote(out, buf_slice(&plain));
    buf_deinit(&plain);
}

static bool names_user(struct slice topic)
{
    return topic.len > 1 && memmem(topic.ptr, topic.len, "%u", 2) != NULL;
}

static void put_listener(const struct acl_file *f, struct buf *out)
{
    if (f->listener) {
        cli_put(out, "    listener: ");
        import_quote(out, slice_str(f->listener));
        buf_u8(out, '\n');
    }
}

/* named: for clients that have a name alone. */
static void put_entry(const struct acl_file *f, const struct entry *e, bool named, struct buf *out)
{
    static const char *const verdicts[] = {"deny: all", "allow: subscribe", "allow: publish", "allow: all"};

    cli_put(out, "  - %s # line %u\n    topic: ", verdicts[e->grant], e->line);
    put_topic(out, e->topic, e->who == WHO_PATTERN);
    buf_u8(out, '\n');
    if (e->who == WHO_USER) {
        cli_put(out, "    user: ");
        import_quote(out, e->user);
        buf_u8(out, '\n');
    } else if (named) {
        cli_put(out, "    user: \"*\"\n");
    }
    put_listener(f, out);
}

/* For whom a group is written. */
enum audience { EVERYBODY, NAMED, NAMELESS };

/* Denials, then grants. A pattern with %u is not asked about clients without a name, while a denial of ours would hit
 * them all. */
static void put_group(const struct acl_file *f, enum who who, enum audience audience, struct buf *out)
{
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < f->count; i++) {
            const struct entry *e = &f->entries[i];
            bool of_named = who == WHO_PATTERN && names_user(e->topic);
            if (e->who == who && (e->grant == GRANT_DENY) == (pass == 0) && !(of_named && audience == NAMELESS)) {
                put_entry(f, e, of_named || audience == NAMED, out);
            }
        }
    }
}

/* No to everybody with a name, about everything that a rule behind this one may allow: "#" leaves out topics with $. */
static void put_end_of_named(const struct acl_file *f, struct buf *out)
{
    cli_put(out, "  # From here on for clients without a name.\n  - deny: all\n    topic:\n      - \"#\"\n");
    for (size_t i = 0; i < f->count; i++) {
        const struct entry *e = &f->entries[i];
        if (e->topic.ptr[0] == '$' && e->who != WHO_USER && e->grant != GRANT_DENY) {
            cli_put(out, "      - ");
            put_topic(out, e->topic, e->who == WHO_PATTERN);
            buf_u8(out, '\n');
        }
    }
    cli_put(out, "    user: \"*\"\n");
    put_listener(f, out);
}

static void put_all(const struct acl_file *f, bool anonymous, struct buf *out)
{
    put_group(f, WHO_USER, EVERYBODY, out);
    put_group(f, WHO_PATTERN, anonymous ? NAMED : EVERYBODY, out);
    if (anonymous) {
        put_end_of_named(f, out);
        put_group(f, WHO_ANONYMOUS, NAMELESS, out);
        put_group(f, WHO_PATTERN, NAMELESS, out);
    }
}

static bool is_shared(struct slice topic)
{
    return topic.len >= 7 && memcmp(topic.ptr, "$share/", 7) == 0;
}

/* Leave out what no rule of ours can say. A filter that begins with $share/ is the topic of no message. A * in a name
 * is refused, for it would be taken for more than a character; but a denial cannot be left out, as somebody would get
 * more than before. */
static int drop_unsayable(struct acl_file *f)
{
    size_t kept = 0;

    for (size_t i = 0; i < f->count; i++) {
        struct entry *e = &f->entries[i];
        struct import_place place = {f->name, e->line};
        bool star = e->who == WHO_USER && memchr(e->user.ptr, '*', e->user.len);
        if (is_shared(e->topic)) {
            import_missing(f->notes, place, "topic", "begins with $share/, as no message's topic does");
        } else if (star && e->grant == GRANT_DENY) {
            return acl_fail(f, e->line, "denies something to a user with * in its name, which no rule of Tern can say");
        } else if (star) {
            import_missing(
                f->notes, place, "topic",
                "of a user with * in its name; mosquitto means just that name, and no rule of Tern can say so");
        } else {
            f->entries[kept++] = *e;
        }
    }
    f->count = kept;
    return 0;
}

int import_acl(struct slice text, const char *name, const char *listener, struct import_notes *notes, struct buf *out,
               bool *ret_named, char *error, size_t error_size)
{
    struct acl_file f = {.name = name, .listener = listener, .notes = notes, .error = error, .error_size = error_size};
    bool anonymous = false;
    int rc = read_file(&f, text);

    rc = rc ? rc : drop_unsayable(&f);
    if (rc == 0) {
        for (size_t i = 0; i < f.count; i++) {
            anonymous |= f.entries[i].who == WHO_ANONYMOUS;
            *ret_named |= f.entries[i].who == WHO_USER || names_user(f.entries[i].topic);
        }
        cli_put(out, "  # %s%s%s\n", name, listener ? ", for the listener " : "", listener ? listener : "");
        put_all(&f, anonymous, out);
        rc = out->failed ? -ENOMEM : 0;
    }
    free(f.entries);
    return rc;
}

void import_acl_open(const char *listener, struct buf *out)
{
    struct acl_file f = {.listener = listener};

    cli_put(
        out,
        "  # The listener %s has no acl_file: everything is allowed.\n  - allow: all\n    topic: [\"#\", \"$SYS/#\"]\n",
        listener);
    put_listener(&f, out);
}
