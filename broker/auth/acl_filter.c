/* acl_filter.c -- filters compared with filters, and with topic names, which are filters without wildcards.
 *
 * Both questions are one walk from left to right: a '+' takes a level of the other side, everything else must be equal
 * byte by byte. That is exact, for a level is either text or '+' alone, and a '#' is not in the text (see acl_filter).
 * What %u and %c stand for holds neither, and is compared where it stands: nothing is put together. */
#include "broker/auth/acl_rule.h"

#include <errno.h>

/* Does not match a topic that begins with '$' [MQTT-4.7.2-1]. A filter of a rule that begins with %u or %c is asked
 * only about values that do not, either. */
static bool is_wild_first(const struct acl_filter *f)
{
    return f->text.len == 0 || f->text.ptr[0] == '+';
}

static bool is_dollar_first(const struct acl_filter *f)
{
    return f->text.len > 0 && f->text.ptr[0] == '$';
}

struct acl_filter acl_filter_of(struct slice filter)
{
    struct acl_filter f = {.text = filter};

    if (filter.len == 0 || filter.ptr[filter.len - 1] != '#') {
        return f;
    }
    f.below = true;
    f.text.len = filter.len == 1 ? 0 : filter.len - 2;
    if (slice_eq(filter, SLICE("/#"))) {
        f.text = SLICE("/+");
    }
    return f;
}

int acl_filter_compile(uint8_t *text, size_t *len, uint8_t *needs)
{
    size_t out = 0;

    for (size_t in = 0; in < *len; in++) {
        if (text[in] != '%') {
            text[out++] = text[in];
            continue;
        }
        uint8_t letter = ++in < *len ? text[in] : 0;
        if (letter == '%') {
            text[out++] = '%';
            continue;
        }
        if (letter != 'u' && letter != 'c') {
            return -EINVAL;
        }
        *needs |= letter == 'u' ? ACL_USER : ACL_CLIENT;
        if (out == 0) {
            *needs |= letter == 'u' ? ACL_USER_FIRST : ACL_CLIENT_FIRST;
        }
        text[out++] = 0;
        text[out++] = letter;
    }
    *len = out;
    return 0;
}

static bool is_usable(struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        uint8_t byte = value.ptr[i];
        if (byte == '+' || byte == '#' || byte == '/' || byte == 0) {
            return false;
        }
    }
    return value.len > 0;
}

uint8_t acl_values_lack(const struct acl_values *values)
{
    uint8_t lack = 0;

    lack |= is_usable(values->user) ? 0 : ACL_USER;
    lack |= is_usable(values->client_id) ? 0 : ACL_CLIENT;
    lack |= values->user.len > 0 && values->user.ptr[0] == '$' ? ACL_USER_FIRST : 0;
    lack |= values->client_id.len > 0 && values->client_id.ptr[0] == '$' ? ACL_CLIENT_FIRST : 0;
    return lack;
}

/* Take the text up to the next %u or %c, or what one of these stands for, off *rest. False when nothing is left. */
static inline bool run_next(struct slice *rest, const struct acl_values *values, struct slice *ret_run)
{
    if (rest->len == 0) {
        return false;
    }
    if (values && rest->ptr[0] == 0) {
        *ret_run = rest->ptr[1] == 'u' ? values->user : values->client_id;
        *rest = slice_drop(*rest, 2);
        return true;
    }
    const uint8_t *mark = values ? memchr(rest->ptr, 0, rest->len) : NULL;
    *ret_run = slice_of(rest->ptr, mark ? (size_t)(mark - rest->ptr) : rest->len);
    *rest = slice_drop(*rest, ret_run->len);
    return true;
}

/* The place behind the level that s goes on with at `at`. */
static inline size_t level_end(struct slice s, size_t at)
{
    while (at < s.len && s.ptr[at] != '/') {
        at++;
    }
    return at;
}

bool acl_covers(const struct acl_filter *by, const struct acl_values *values, const struct acl_filter *filter)
{
    struct slice rest = by->text, run, text = filter->text;
    size_t at = 0;

    if (is_wild_first(by) && is_dollar_first(filter)) {
        return false;
    }
    while (run_next(&rest, values, &run)) {
        for (size_t i = 0; i < run.len; i++) {
            if (run.ptr[i] == '+') {
                at = level_end(text, at);
            } else if (at == text.len || text.ptr[at++] != run.ptr[i]) {
                return false;
            }
        }
    }
    if (by->below) {
        return at == text.len || text.ptr[at] == '/' || by->text.len == 0;
    }
    return at == text.len && !filter->below;
}

bool acl_overlaps(const struct acl_filter *by, const struct acl_values *values, const struct acl_filter *filter)
{
    struct slice rest = by->text, run, text = filter->text;
    bool skip = false; /* the rest of by's level is taken by a '+' of the filter */
    size_t at = 0;

    if ((is_wild_first(by) && is_dollar_first(filter)) || (is_dollar_first(by) && is_wild_first(filter))) {
        return false;
    }
    if (by->text.len == 0 || text.len == 0) { /* one of them is "#" */
        return true;
    }
    while (run_next(&rest, values, &run)) {
        for (size_t i = 0; i < run.len; i++) {
            if (at < text.len && text.ptr[at] == '+') {
                skip = true;
                at++;
            }
            if (run.ptr[i] == '/') {
                skip = false;
            }
            if (skip) {
                continue;
            }
            if (run.ptr[i] == '+') {
                at = level_end(text, at);
            } else if (at == text.len) {
                return filter->below && run.ptr[i] == '/';
            } else if (text.ptr[at++] != run.ptr[i]) {
                return false;
            }
        }
    }
    if (at < text.len && text.ptr[at] == '+') { /* by's last level is empty */
        at++;
    }
    return at == text.len || (by->below && text.ptr[at] == '/');
}

bool acl_filter_covers(struct slice by, struct slice filter)
{
    struct acl_filter a = acl_filter_of(by), b = acl_filter_of(filter);

    return acl_covers(&a, NULL, &b);
}

bool acl_filter_overlaps(struct slice a, struct slice b)
{
    struct acl_filter f = acl_filter_of(a), g = acl_filter_of(b);

    return acl_overlaps(&f, NULL, &g);
}
