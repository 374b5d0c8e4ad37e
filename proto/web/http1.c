/* http1.c -- one pass over the head, byte by byte; the first wrong one ends it.
 *
 * What two readers of one head may take differently (a folded line, a bare CR, space before a colon) is refused, not
 * mended: a proxy before us may have understood it otherwise (RFC 9112, 11.2). */
#include "proto/web/http1.h"

#include <errno.h>

/* Reading stops for good at the first byte that is wrong (failed) or not there yet (short_of). */
struct scan {
    const uint8_t *at, *end;
    bool failed, short_of;
};

/* tchar (RFC 9110, 5.6.2). */
static bool is_token(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_visible(uint8_t c)
{
    return c > ' ' && c < 0x7f;
}

/* What a field's value is made of (RFC 9110, 5.5). */
static bool is_text(uint8_t c)
{
    return (c >= ' ' && c != 0x7f) || c == '\t';
}

static bool scan_over(const struct scan *s)
{
    return s->failed || s->short_of;
}

/* The next byte without taking it; 0 when reading has stopped. */
static uint8_t scan_peek(struct scan *s)
{
    if (scan_over(s)) {
        return 0;
    }
    s->short_of = s->at == s->end;
    return s->short_of ? 0 : *s->at;
}

static void scan_expect(struct scan *s, uint8_t c)
{
    uint8_t next = scan_peek(s);

    if (scan_over(s)) {
        return;
    }
    s->failed = next != c;
    s->at += !s->failed;
}

static void scan_literal(struct scan *s, const char *text)
{
    for (; *text; text++) {
        scan_expect(s, (uint8_t)*text);
    }
}

/* The longest run of bytes of a kind. What follows it is the caller's to judge. */
static struct slice scan_while(struct scan *s, bool (*is_kind)(uint8_t))
{
    const uint8_t *from = s->at;

    while (!s->failed && s->at < s->end && is_kind(*s->at)) {
        s->at++;
    }
    s->short_of = s->short_of || (!s->failed && s->at == s->end);
    return slice_of(from, (size_t)(s->at - from));
}

/* At least one of the kind. */
static struct slice scan_some(struct scan *s, bool (*is_kind)(uint8_t))
{
    struct slice run = scan_while(s, is_kind);

    s->failed = s->failed || (run.len == 0 && !s->short_of);
    return run;
}

/* CR LF, or LF alone (RFC 9112, 2.2). */
static void scan_line_end(struct scan *s)
{
    if (scan_peek(s) == '\r') {
        s->at++;
    }
    scan_expect(s, '\n');
}

/* HTTP-version: any 1.x is read as the highest that we know (RFC 9110, 2.5). */
static unsigned scan_version(struct scan *s)
{
    scan_literal(s, "HTTP/1.");
    uint8_t digit = scan_peek(s);
    if (scan_over(s)) {
        return 0;
    }
    s->failed = digit < '0' || digit > '9';
    s->at += !s->failed;
    return digit > '0';
}

/* field-line = field-name ":" OWS field-value OWS (RFC 9112, 5). No space before the colon (5.1); a line that begins
 * with space would be a fold (5.2): neither is a token. */
static struct http1_field scan_field(struct scan *s)
{
    struct http1_field field;

    field.name = scan_some(s, is_token);
    scan_expect(s, ':');
    field.value = slice_trim(scan_while(s, is_text));
    scan_line_end(s);
    return field;
}

/* All fields and the empty line. Returns 0 or -EMSGSIZE. */
static int scan_fields(struct scan *s, struct http1_request *r)
{
    r->field_count = 0;
    for (;;) {
        uint8_t next = scan_peek(s);
        if (scan_over(s)) {
            return 0;
        }
        if (next == '\r' || next == '\n') {
            scan_line_end(s);
            return 0;
        }
        if (r->field_count == HTTP1_FIELDS_MAX) {
            return -EMSGSIZE;
        }
        r->fields[r->field_count] = scan_field(s);
        if (scan_over(s)) {
            return 0;
        }
        r->field_count++;
    }
}

static struct scan scan_of(struct slice data)
{
    size_t len = data.len < HTTP1_HEAD_BYTES_MAX ? data.len : HTTP1_HEAD_BYTES_MAX;

    return (struct scan){.at = data.ptr, .end = slice_drop(data, len).ptr};
}

static int scan_result(const struct scan *s, struct slice data)
{
    if (s->failed) {
        return -EBADMSG;
    }
    if (s->short_of) {
        return data.len >= HTTP1_HEAD_BYTES_MAX ? -EMSGSIZE : 0;
    }
    return (int)(s->at - data.ptr);
}

/* Path and query out of the target: "/path?query", or in absolute form "http://host/path?query", which a server has to
 * take too (RFC 9112, 3.2.2). */
static void target_split(struct http1_request *r)
{
    static const char *const schemes[] = {"http://", "https://"};
    struct slice rest = r->target;

    for (size_t i = 0; i < COUNT_OF(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if (rest.len >= n && http1_token_eq(slice_of(rest.ptr, n), schemes[i])) {
            rest = slice_drop(rest, n);
            while (rest.len > 0 && rest.ptr[0] != '/' && rest.ptr[0] != '?') {
                rest = slice_drop(rest, 1);
            }
            break;
        }
    }
    const uint8_t *mark = memchr(rest.ptr, '?', rest.len);
    size_t len = mark ? (size_t)(mark - rest.ptr) : rest.len;
    r->path = slice_of(rest.ptr, len);
    r->query = slice_drop(rest, mark ? len + 1 : len);
}

int http1_request_parse(struct slice data, struct http1_request *ret_request)
{
    struct http1_request *r = ret_request;
    struct scan s = scan_of(data);

    uint8_t first = scan_peek(&s);
    if (first == '\r' || first == '\n') { /* one empty line before it is let pass (RFC 9112, 2.2) */
        scan_line_end(&s);
    }
    r->method = scan_some(&s, is_token);
    scan_expect(&s, ' ');
    r->target = scan_some(&s, is_visible);
    scan_expect(&s, ' ');
    r->minor = scan_version(&s);
    scan_line_end(&s);
    int rc = scan_over(&s) ? 0 : scan_fields(&s, r);
    if (rc == 0) {
        rc = scan_result(&s, data);
    }
    if (rc > 0) {
        target_split(r);
    }
    return rc;
}

int http1_response_parse(struct slice data, unsigned *ret_status, struct http1_request *ret_fields)
{
    struct scan s = scan_of(data);
    unsigned status = 0;

    ret_fields->minor = scan_version(&s);
    scan_expect(&s, ' ');
    for (unsigned i = 0; i < 3; i++) {
        uint8_t digit = scan_peek(&s);
        s.failed = s.failed || (!s.short_of && (digit < '0' || digit > '9'));
        s.at += !scan_over(&s);
        status = status * 10 + (digit - '0');
    }
    if (scan_peek(&s) == ' ') { /* some leave it out together with the reason */
        scan_while(&s, is_text);
    }
    scan_line_end(&s);
    int rc = scan_over(&s) ? 0 : scan_fields(&s, ret_fields);
    if (rc == 0) {
        rc = scan_result(&s, data);
    }
    if (rc > 0) {
        *ret_status = status;
    }
    return rc;
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

bool http1_token_eq(struct slice a, const char *b)
{
    for (size_t i = 0; i < a.len; i++) {
        if (b[i] == '\0' || lower(a.ptr[i]) != lower((uint8_t)b[i])) {
            return false;
        }
    }
    return b[a.len] == '\0';
}

struct slice http1_field(const struct http1_request *request, const char *name)
{
    struct slice found = {NULL, 0};

    for (unsigned i = 0; i < request->field_count; i++) {
        if (http1_token_eq(request->fields[i].name, name)) {
            if (found.ptr) {
                return (struct slice){NULL, 0};
            }
            found = request->fields[i].value;
        }
    }
    return found;
}

/* Where a walk over the elements of a list stands (RFC 9110, 5.6.1.2: empty elements are passed over). */
struct walk {
    const struct http1_request *request;
    const char *name;
    unsigned field;    /* the next to look at */
    struct slice rest; /* of the present one */
};

static struct slice walk_next(struct walk *w)
{
    for (;;) {
        while (w->rest.len > 0) {
            const uint8_t *comma = memchr(w->rest.ptr, ',', w->rest.len);
            size_t len = comma ? (size_t)(comma - w->rest.ptr) : w->rest.len;
            struct slice element = slice_trim(slice_of(w->rest.ptr, len));
            w->rest = slice_drop(w->rest, comma ? len + 1 : len);
            if (element.len > 0) {
                return element;
            }
        }
        if (w->field == w->request->field_count) {
            return (struct slice){NULL, 0};
        }
        const struct http1_field *f = &w->request->fields[w->field++];
        if (http1_token_eq(f->name, w->name)) {
            w->rest = f->value;
        }
    }
}

bool http1_has_token(const struct http1_request *request, const char *name, const char *token)
{
    struct walk w = {.request = request, .name = name};
    struct slice element;

    while ((element = walk_next(&w)).ptr) {
        if (http1_token_eq(element, token)) {
            return true;
        }
    }
    return false;
}

struct slice http1_element(const struct http1_request *request, const char *name, unsigned index)
{
    struct walk w = {.request = request, .name = name};
    struct slice element = walk_next(&w);

    while (element.ptr && index-- > 0) {
        element = walk_next(&w);
    }
    return element;
}
