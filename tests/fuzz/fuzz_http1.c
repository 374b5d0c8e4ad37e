/* fuzz_http1.c -- any bytes as the head of a request.
 *
 * Oracles: a reader that cuts lines first and looks at each as a text; the same bytes come piece by piece; and what was
 * taken, written out again, reads back the same. */
#include "proto/web/http1.h"

#include <errno.h>

#include "proto/base/buf.h"
#include "tests/fuzz/ops.h"

static const char tchar[] = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* Cut the next line off; its CR, if any, is not part of it. Returns false when none is whole. */
static bool line_next(struct slice *rest, struct slice *ret_line)
{
    const uint8_t *end = rest->len > 0 ? memchr(rest->ptr, '\n', rest->len) : NULL;

    if (!end) {
        return false;
    }
    size_t len = (size_t)(end - rest->ptr);
    *ret_line = slice_of(rest->ptr, len > 0 && end[-1] == '\r' ? len - 1 : len);
    *rest = slice_drop(*rest, len + 1);
    return true;
}

static size_t token_len(struct slice s)
{
    size_t n = 0;

    while (n < s.len && s.ptr[n] != 0 && strchr(tchar, s.ptr[n])) {
        n++;
    }
    return n;
}

static bool request_line_good(struct slice line)
{
    size_t at = token_len(line), target;

    if (at == 0 || at == line.len || line.ptr[at] != ' ') {
        return false;
    }
    for (target = ++at; at < line.len && line.ptr[at] > 0x20 && line.ptr[at] < 0x7f; at++) {
    }
    struct slice version = slice_drop(line, at);
    return at > target && version.len == 9 && memcmp(version.ptr, " HTTP/1.", 8) == 0 && version.ptr[8] >= '0' &&
           version.ptr[8] <= '9';
}

static bool field_good(struct slice line)
{
    size_t name = token_len(line);

    if (name == 0 || name == line.len || line.ptr[name] != ':') {
        return false;
    }
    for (size_t i = name + 1; i < line.len; i++) {
        if ((line.ptr[i] < 0x20 && line.ptr[i] != '\t') || line.ptr[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

/* What must be answered; 1 if lines are whole so far and good, and no end is there: more, or wrong already. */
static int reference(struct slice data, unsigned *ret_fields)
{
    struct slice rest = slice_of(data.ptr, data.len < HTTP1_HEAD_BYTES_MAX ? data.len : HTTP1_HEAD_BYTES_MAX), line;
    bool got = line_next(&rest, &line);

    if (got && line.len == 0) {
        got = line_next(&rest, &line);
    }
    if (!got) {
        return 1;
    }
    if (!request_line_good(line)) {
        return -EBADMSG;
    }
    for (*ret_fields = 0; line_next(&rest, &line); ++*ret_fields) {
        if (line.len == 0) {
            return (int)(rest.ptr - data.ptr);
        }
        if (*ret_fields == HTTP1_FIELDS_MAX) {
            return -EMSGSIZE;
        }
        if (!field_good(line)) {
            return -EBADMSG;
        }
    }
    return 1;
}

static void check_round_trip(const struct http1_request *r)
{
    static struct http1_request again;
    struct buf b = {0};

    buf_put(&b, r->method);
    buf_u8(&b, ' ');
    buf_put(&b, r->target);
    buf_put(&b, r->minor ? SLICE(" HTTP/1.1\n") : SLICE(" HTTP/1.0\n"));
    for (unsigned i = 0; i < r->field_count; i++) {
        buf_put(&b, r->fields[i].name);
        buf_u8(&b, ':');
        buf_put(&b, r->fields[i].value);
        buf_u8(&b, '\n');
    }
    buf_u8(&b, '\n');
    require(http1_request_parse(buf_slice(&b), &again) == (int)b.len);
    require(slice_eq(again.method, r->method) && slice_eq(again.path, r->path) && slice_eq(again.query, r->query));
    require(again.field_count == r->field_count && again.minor == r->minor);
    for (unsigned i = 0; i < r->field_count; i++) {
        require(slice_eq(again.fields[i].name, r->fields[i].name));
        require(slice_eq(again.fields[i].value, r->fields[i].value));
    }
    buf_deinit(&b);
}

/* Walking a field's elements meets each once, and has_token knows them. */
static void check_elements(const struct http1_request *r)
{
    for (unsigned i = 0;; i++) {
        char token[64];
        struct slice e = http1_element(r, "a", i);
        if (!e.ptr) {
            break;
        }
        require(e.len > 0 && !memchr(e.ptr, ',', e.len) && e.ptr[0] != ' ' && e.ptr[e.len - 1] != '\t');
        if (e.len < sizeof(token)) {
            memcpy(token, e.ptr, e.len);
            token[e.len] = '\0';
            require(http1_has_token(r, "A", token));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http1_request r;
    struct slice all = slice_of(data, size);
    unsigned fields = 0, status;

    int got = http1_request_parse(all, &r), want = reference(all, &fields);
    for (size_t n = 0; n < size; n += 1 + n / 16) {
        int part = http1_request_parse(slice_of(data, n), &r);
        require(part == 0 || part == got);
    }
    require(want == 1 || got == want);
    require(want != 1 || got == (size >= HTTP1_HEAD_BYTES_MAX ? -EMSGSIZE : 0) || got == -EBADMSG || got == -EMSGSIZE);
    if (got > 0) {
        require(http1_request_parse(all, &r) == got);
        require(r.field_count == fields);
        check_round_trip(&r);
        check_elements(&r);
    }
    (void)http1_response_parse(all, &status, &r);
    return 0;
}
