/* http_request.c -- one request: its head and body, the rules that hold for all, and the answer. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/admin/admin_inside.h"
#include "proto/base/utf8.h"

#define SMALL_BYTES 16384u /* a body that is sent along with its head */

/* ---- texts ---- */

void admin_printf(struct buf *out, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < (int)sizeof(text)) {
        buf_put(out, slice_of(text, n > 0 ? (size_t)n : 0));
        return;
    }
    uint8_t *at = buf_extend(out, (size_t)n + 1);
    if (at) {
        va_start(args, format);
        vsnprintf((char *)at, (size_t)n + 1, format, args);
        va_end(args);
        out->len--;
    }
}

void admin_json_string(struct buf *out, struct slice text)
{
    buf_put(out, SLICE("\""));
    for (size_t i = 0; i < text.len;) {
        uint8_t c = text.ptr[i];
        if (c == '"' || c == '\\') {
            uint8_t two[2] = {'\\', c};
            buf_put(out, slice_of(two, 2));
            i++;
        } else if (c < 0x20 || c == 0x7F) {
            admin_printf(out, "\\u%04x", c);
            i++;
        } else if (c < 0x80) {
            buf_u8(out, c);
            i++;
        } else {
            size_t n = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
            if (n <= text.len - i && utf8_valid(slice_of(text.ptr + i, n))) {
                buf_put(out, slice_of(text.ptr + i, n));
                i += n;
            } else {
                buf_put(out, SLICE("\xEF\xBF\xBD"));
                i++;
            }
        }
    }
    buf_put(out, SLICE("\""));
}

static int hex(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

int admin_percent_decode(struct slice text, bool plus, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c == '%') {
            int high = i + 2 < text.len ? hex(text.ptr[i + 1]) : -1;
            int low = high >= 0 ? hex(text.ptr[i + 2]) : -1;
            if (low < 0) {
                return -EINVAL;
            }
            c = (uint8_t)(high << 4 | low);
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        buf_u8(out, c);
    }
    return out->failed ? -ENOMEM : 0;
}

int admin_query(const struct admin_request *r, const char *name, struct buf *out)
{
    struct slice rest = r->query;
    size_t n = strlen(name);

    while (rest.len > 0) {
        const uint8_t *end = memchr(rest.ptr, '&', rest.len);
        struct slice word = slice_of(rest.ptr, end ? (size_t)(end - rest.ptr) : rest.len);
        rest = slice_drop(rest, end ? word.len + 1 : word.len);
        if (word.len > n && memcmp(word.ptr, name, n) == 0 && word.ptr[n] == '=') {
            int rc = admin_percent_decode(slice_drop(word, n + 1), true, out);
            return rc ? rc : 1;
        }
        if (word.len == n && memcmp(word.ptr, name, n) == 0) {
            return 1; /* a flag: ?verbose */
        }
    }
    return 0;
}

/* ---- answers ---- */

static const char *reason_of(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 304:
        return "Not Modified";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 411:
        return "Length Required";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 417:
        return "Expectation Failed";
    case 421:
        return "Misdirected Request";
    case 431:
        return "Request Header Fields Too Large";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    default:
        return "Internal Server Error";
    }
}

static const char *code_of(unsigned status)
{
    switch (status) {
    case 401:
        return "UNAUTHORIZED";
    case 403:
        return "FORBIDDEN";
    case 404:
        return "NOT_FOUND";
    case 405:
        return "METHOD_NOT_ALLOWED";
    case 409:
        return "CONFLICT";
    case 413:
        return "PAYLOAD_TOO_LARGE";
    case 500:
        return "INTERNAL_ERROR";
    case 501:
        return "NOT_IMPLEMENTED";
    case 503:
        return "UNAVAILABLE";
    default:
        return "BAD_REQUEST";
    }
}

void admin_header(struct admin_request *r, const char *name, const char *value)
{
    admin_printf(&admin_conn_of(r)->headers, "%s: %s\r\n", name, value);
}

static bool answerable(const struct admin_conn *conn)
{
    return conn->state == ADMIN_READING || (conn->state == ADMIN_BUSY && !conn->streaming);
}

/* length: of the body; SIZE_MAX: it comes bit by bit. */
static void put_head(struct admin_conn *conn, unsigned status, const char *content_type, size_t length)
{
    struct buf *out = &conn->plain;

    admin_printf(out, "HTTP/1.1 %u %s\r\nX-Content-Type-Options: nosniff\r\n", status, reason_of(status));
    if (conn->headers.len == 0 || !memmem(conn->headers.ptr, conn->headers.len, "Cache-Control: ", 15)) {
        buf_put(out, SLICE("Cache-Control: no-store\r\n"));
    }
    if (content_type) {
        admin_printf(out, "Content-Type: %s\r\n", content_type);
    }
    if (length != SIZE_MAX && status != 204 && status != 304) {
        admin_printf(out, "Content-Length: %zu\r\n", length);
    } else if (length == SIZE_MAX && conn->chunked) {
        buf_put(out, SLICE("Transfer-Encoding: chunked\r\n"));
    }
    buf_put(out, buf_slice(&conn->headers));
    if (conn->close || conn->head.minor == 0) {
        admin_printf(out, "Connection: %s\r\n", conn->close ? "close" : "keep-alive");
    }
    buf_put(out, SLICE("\r\n"));
    conn->failed = conn->failed || out->failed || conn->headers.failed;
    conn->headers.len = 0;
}

static void answered(struct admin_conn *conn)
{
    conn->request.gone = NULL;
    conn->request.room = conn->request.step = NULL;
    conn->state = ADMIN_WRITING;
    admin_conn_ready(conn);
}

void admin_reply_static(struct admin_request *r, unsigned status, const char *content_type, struct slice body)
{
    struct admin_conn *conn = admin_conn_of(r);

    assert(answerable(conn));
    put_head(conn, status, content_type, body.len);
    if (!conn->head_only) {
        conn->body = body;
    }
    answered(conn);
}

void admin_reply(struct admin_request *r, unsigned status, const char *content_type, struct buf *body)
{
    struct admin_conn *conn = admin_conn_of(r);
    struct buf none = {0};

    assert(answerable(conn));
    body = body ? body : &none;
    if (body->failed) {
        buf_deinit(body);
        admin_fail(r, 500, "memory is out");
        return;
    }
    put_head(conn, status, content_type, body->len);
    if (conn->head_only) {
        buf_deinit(body);
    } else if (body->len <= SMALL_BYTES) {
        buf_put(&conn->plain, buf_slice(body));
        conn->failed = conn->failed || conn->plain.failed;
        buf_deinit(body);
    } else {
        conn->body_owned = *body;
        *body = none;
        conn->body = buf_slice(&conn->body_owned);
    }
    answered(conn);
}

void admin_fail(struct admin_request *r, unsigned status, const char *format, ...)
{
    struct buf body = {0};
    char text[600];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    admin_printf(&body, "{\"code\":\"%s\",\"message\":", code_of(status));
    admin_json_string(&body, slice_str(text));
    buf_put(&body, SLICE("}\n"));
    if (body.failed) { /* not even this much: the connection is cut off */
        buf_deinit(&body);
        admin_conn_of(r)->failed = true;
        admin_reply_static(r, status, NULL, SLICE(""));
        return;
    }
    admin_reply(r, status, "application/json", &body);
}

void admin_stream_begin(struct admin_request *r, const char *content_type)
{
    struct admin_conn *conn = admin_conn_of(r);

    assert(answerable(conn) && conn->state == ADMIN_BUSY);
    conn->chunked = conn->head.minor > 0;
    conn->close = conn->close || !conn->chunked;
    put_head(conn, 200, content_type, SIZE_MAX);
    conn->streaming = true;
    admin_conn_ready(conn);
}

size_t admin_stream_room(const struct admin_request *r)
{
    const struct admin_conn *conn = CONTAINER_OF(r, struct admin_conn, request);
    size_t used = conn->plain.len - conn->plain_at + 16;

    return used < ADMIN_STREAM_BYTES_MAX ? ADMIN_STREAM_BYTES_MAX - used : 0;
}

bool admin_stream_write(struct admin_request *r, struct slice data)
{
    struct admin_conn *conn = admin_conn_of(r);

    assert(conn->streaming);
    if (admin_stream_room(r) < data.len) {
        conn->stalled = true;
        return false;
    }
    if (data.len == 0 || conn->head_only) {
        return true;
    }
    if (conn->chunked) {
        admin_printf(&conn->plain, "%zx\r\n", data.len);
    }
    buf_put(&conn->plain, data);
    if (conn->chunked) {
        buf_put(&conn->plain, SLICE("\r\n"));
    }
    conn->failed = conn->failed || conn->plain.failed;
    admin_conn_ready(conn);
    return true;
}

void admin_stream_end(struct admin_request *r)
{
    struct admin_conn *conn = admin_conn_of(r);

    assert(conn->streaming);
    if (conn->chunked && !conn->head_only) {
        buf_put(&conn->plain, SLICE("0\r\n\r\n"));
        conn->failed = conn->failed || conn->plain.failed;
    }
    conn->streaming = false;
    answered(conn);
}

/* ---- the life of a request ---- */

void admin_request_abandon(struct admin_conn *conn)
{
    void (*gone)(struct admin_request *) = conn->request.gone;

    admin_check_forget(conn);
    conn->request.gone = NULL;
    conn->request.room = conn->request.step = NULL;
    if (gone) {
        gone(&conn->request);
    }
}

void admin_request_finish(struct admin_conn *conn)
{
    if (conn->in.len > conn->request_bytes) {
        buf_consume(&conn->in, conn->request_bytes);
    } else {
        buf_deinit(&conn->in);
    }
    buf_deinit(&conn->body_owned);
    conn->request_bytes = 0;
    conn->body = (struct slice){0};
    conn->words.len = 0;
    conn->streaming = conn->chunked = conn->head_only = conn->continued = conn->stalled = false;
    conn->request = (struct admin_request){.broker = conn->admin->broker};
}

/* The framing is not understood, or not wanted: nothing behind it can be read. */
static void refuse(struct admin_conn *conn, unsigned status, const char *why)
{
    conn->close = true;
    admin_fail(&conn->request, status, "%s", why);
}

/* How long the body is: 0 with *ret_length set, or the status of a refusal with *ret_why. */
static unsigned body_length(const struct http1_request *head, size_t *ret_length, const char **ret_why)
{
    struct slice text = http1_field(head, "Content-Length");
    bool given = http1_element(head, "Content-Length", 0).ptr != NULL;
    size_t length = 0;

    if (http1_element(head, "Transfer-Encoding", 0).ptr) {
        *ret_why = "a body needs Content-Length; chunks are not taken";
        return given ? 400 : 411;
    }
    if (given && (text.len == 0 || text.len > 18)) {
        *ret_why = "Content-Length is not one number";
        return 400;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (!isdigit(text.ptr[i])) {
            *ret_why = "Content-Length is not one number";
            return 400;
        }
        length = length * 10 + (size_t)(text.ptr[i] - '0');
    }
    if (length > ADMIN_BODY_MAX) {
        *ret_why = "a body has 1 MiB at most";
        return 413;
    }
    *ret_length = length;
    return 0;
}

static bool method_of(struct admin_conn *conn, struct slice word)
{
    static const struct {
        const char *word;
        enum admin_method method;
    } all[] = {
        {"GET", ADMIN_GET}, {"HEAD", ADMIN_GET}, {"POST", ADMIN_POST}, {"PUT", ADMIN_PUT}, {"DELETE", ADMIN_DELETE}};

    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (slice_eq(word, slice_str(all[i].word))) {
            conn->request.method = all[i].method;
            conn->head_only = i == 1;
            return true;
        }
    }
    return false;
}

/* "host:port" without the port and the brackets. */
static struct slice host_of(struct slice text)
{
    const uint8_t *end;

    if (text.len > 0 && text.ptr[0] == '[' && (end = memchr(text.ptr, ']', text.len)) != NULL) {
        return slice_of(text.ptr + 1, (size_t)(end - text.ptr) - 1);
    }
    end = text.len ? memchr(text.ptr, ':', text.len) : NULL;
    return slice_of(text.ptr, end ? (size_t)(end - text.ptr) : text.len);
}

/* A page of somewhere else makes a browser on this machine ask: by a name that leads here (its Host tells), or across
 * (its Origin tells). */
static bool from_here(struct admin_conn *conn)
{
    const struct admin_terms *t = conn->admin->terms;
    struct slice field = http1_field(&conn->head, "Host"), host = host_of(field);
    struct slice origin = http1_field(&conn->head, "Origin");

    if (t->guarded && host.len > 0 && !http1_token_eq(host, "localhost") && !http1_token_eq(host, "127.0.0.1") &&
        !http1_token_eq(host, "::1") && !http1_token_eq(host, t->host)) {
        admin_fail(&conn->request, 421, "this port is for requests to localhost");
        return false;
    }
    if (origin.len == 0) {
        return true;
    }
    struct slice scheme = conn->tls ? SLICE("https://") : SLICE("http://");
    if (origin.len == scheme.len + field.len && memcmp(origin.ptr, scheme.ptr, scheme.len) == 0 &&
        slice_eq(slice_drop(origin, scheme.len), field)) {
        return true;
    }
    admin_fail(&conn->request, 403, "the request comes from another page");
    return false;
}

static bool body_is_json(const struct http1_request *head)
{
    struct slice type = http1_field(head, "Content-Type");
    const uint8_t *end = type.len ? memchr(type.ptr, ';', type.len) : NULL;

    return http1_token_eq(slice_trim(slice_of(type.ptr, end ? (size_t)(end - type.ptr) : type.len)),
                          "application/json");
}

/* The request is whole: find out what it is about, and whether it may be. */
static void handle(struct admin_conn *conn)
{
    struct admin_request *r = &conn->request;
    unsigned methods = 0;
    bool known = method_of(conn, conn->head.method);

    metric_inc(conn->admin->shard->metrics, METRIC_ADMIN_REQUESTS);
    r->head = &conn->head;
    r->path = conn->head.path;
    r->query = conn->head.query;
    if (!from_here(conn)) {
        return;
    }
    conn->route = admin_route_find(r, r->path, &conn->words, &methods);
    if (conn->words.failed) {
        conn->failed = true;
    } else if (!conn->route && methods) {
        char allow[64];
        snprintf(allow, sizeof(allow), "%s%s%s%s", methods & ADMIN_GET ? "GET, HEAD, " : "",
                 methods & ADMIN_POST ? "POST, " : "", methods & ADMIN_PUT ? "PUT, " : "",
                 methods & ADMIN_DELETE ? "DELETE, " : "");
        allow[strlen(allow) - 2] = '\0';
        admin_header(r, "Allow", allow);
        admin_fail(r, 405, "this path takes %s", allow);
    } else if (!known) {
        admin_fail(r, 501, "the method is not known");
    } else if (!conn->route) {
        admin_fail(r, 404, "there is no %.*s", (int)(r->path.len < 200 ? r->path.len : 200), (const char *)r->path.ptr);
    } else if (r->method != ADMIN_GET && r->body.len > 0 && !body_is_json(&conn->head)) {
        admin_fail(r, 415, "a body has Content-Type: application/json");
    } else if (admin_login(conn, conn->route->role) == ADMIN_LET_IN) {
        admin_request_run(conn);
    }
}

void admin_request_run(struct admin_conn *conn)
{
    conn->state = ADMIN_BUSY;
    conn->route->handler(&conn->request);
    if (conn->request.step) {
        admin_conn_ready(conn);
    }
}

void admin_request_step(struct admin_conn *conn)
{
    struct http1_request *head = &conn->head;
    const char *why = "";
    size_t length = 0;

    size_t blank = 0;
    while (blank < conn->in.len && (conn->in.ptr[blank] == '\r' || conn->in.ptr[blank] == '\n')) {
        blank++; /* RFC 9112, 2.2 */
    }
    if (blank > 0) {
        buf_consume(&conn->in, blank);
    }
    int n = conn->in.len ? http1_request_parse(buf_slice(&conn->in), head) : 0;
    if (n <= 0) {
        if (n < 0) {
            refuse(conn, n == -EMSGSIZE ? 431 : 400, n == -EMSGSIZE ? "the head is too long" : "this is no HTTP/1.1");
        }
        return;
    }
    unsigned status = body_length(head, &length, &why);
    if (status) {
        refuse(conn, status, why);
        return;
    }
    if (head->minor > 0 && http1_field(head, "Host").ptr == NULL) {
        refuse(conn, 400, "there is not one Host");
        return;
    }
    conn->close = http1_has_token(head, "Connection", "close") ||
                  (head->minor == 0 && !http1_has_token(head, "Connection", "keep-alive"));
    conn->request_bytes = (size_t)n + length;
    if (conn->in.len < conn->request_bytes) {
        if (!conn->continued && head->minor > 0 && http1_has_token(head, "Expect", "100-continue")) {
            conn->continued = true;
            buf_put(&conn->plain, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
        }
        return;
    }
    conn->request.body = slice_of(conn->in.ptr + n, length);
    handle(conn);
}
