/* http1_test.c -- heads of HTTP/1.1: RFC 9112's, cut ones, and those that two readers would read differently. */
#include "proto/web/http1.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/base/buf.h"
#include "tests/lib/unit.h"

enum { MORE = 0, WHOLE = 1 };

static const struct {
    const char *name, *head;
    int want;
    const char *method, *path, *query;
    unsigned minor, fields;
} heads[] = {
    {"RFC 9112, 2.1", "GET /hello.txt HTTP/1.1\r\nUser-Agent: curl/7.64.1\r\nHost: www.example.com\r\n\r\n", WHOLE,
     "GET", "/hello.txt", "", 1, 2},
    {"RFC 9112, 3.2.1: query", "GET /where?q=now HTTP/1.1\r\nHost: a\r\n\r\n", WHOLE, "GET", "/where", "q=now", 1, 1},
    {"RFC 9112, 3.2.2: absolute form", "GET http://www.example.org/pub/a.html?x HTTP/1.1\r\n\r\n", WHOLE, "GET",
     "/pub/a.html", "x", 1, 0},
    {"absolute form, TLS, letters of either case", "GET HTTPS://h:443/p HTTP/1.1\r\n\r\n", WHOLE, "GET", "/p", "", 1,
     0},
    {"absolute form without path", "GET http://h?q HTTP/1.1\r\n\r\n", WHOLE, "GET", "", "q", 1, 0},
    {"RFC 9112, 3.2.4: asterisk", "OPTIONS * HTTP/1.1\r\n\r\n", WHOLE, "OPTIONS", "*", "", 1, 0},
    {"second question mark belongs to the query", "GET /?a?b HTTP/1.1\r\n\r\n", WHOLE, "GET", "/", "a?b", 1, 0},
    {"RFC 9112, 2.2: LF alone", "GET / HTTP/1.1\nHost: a\n\n", WHOLE, "GET", "/", "", 1, 1},
    {"RFC 9112, 2.2: an empty line before", "\r\nGET / HTTP/1.0\r\n\r\n", WHOLE, "GET", "/", "", 0, 0},
    {"RFC 9110, 2.5: a later minor version", "GET / HTTP/1.7\r\n\r\n", WHOLE, "GET", "/", "", 1, 0},
    {"an empty value", "GET / HTTP/1.1\r\nA:\r\nB: \t \r\n\r\n", WHOLE, "GET", "/", "", 1, 2},
    {"a value beyond ASCII", "GET / HTTP/1.1\r\nA: \xc3\xa9\xff\r\n\r\n", WHOLE, "GET", "/", "", 1, 1},
    {"all of tchar", "!#$%&'*+-.^_`|~09AZaz / HTTP/1.1\r\n\r\n", WHOLE, "!#$%&'*+-.^_`|~09AZaz", "/", "", 1, 0},
    {"nothing yet", "", MORE, NULL, NULL, NULL, 0, 0},
    {"no method yet", "GE", MORE, NULL, NULL, NULL, 0, 0},
    {"no version yet", "GET / HTTP", MORE, NULL, NULL, NULL, 0, 0},
    {"no field yet", "GET / HTTP/1.1\r\n", MORE, NULL, NULL, NULL, 0, 0},
    {"no empty line yet", "GET / HTTP/1.1\r\nHost: a\r\n", MORE, NULL, NULL, NULL, 0, 0},
    {"half an empty line", "GET / HTTP/1.1\r\nHost: a\r\n\r", MORE, NULL, NULL, NULL, 0, 0},
    {"MQTT", "\x10\x0c", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"TLS", "\x16\x03\x01", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"space first", " GET / HTTP/1.1\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"two spaces", "GET  / HTTP/1.1\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"tab for a space", "GET\t/ HTTP/1.1\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"space behind the version", "GET / HTTP/1.1 \r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"no version at all", "GET /\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"HTTP/2", "PRI * HTTP/2.0\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"lower case", "GET / http/1.1\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"two digits", "GET / HTTP/1.10\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"control character in the target", "GET /\x01 HTTP/1.1\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"target beyond ASCII", "GET /\xc3\xa9 HTTP/1.1\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"control character in the method", "G\x7fT / HTTP/1.1\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"control character in a value", "GET / HTTP/1.1\r\nA: \x01\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"DEL in a value", "GET / HTTP/1.1\r\nA: \x7f\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"RFC 9112, 2.2: a bare CR", "GET / HTTP/1.1\r\nA: b\rB: c\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"a bare CR for the empty line", "GET / HTTP/1.1\r\n\rA: b\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"RFC 9112, 5.1: space before a colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"RFC 9112, 5.2: a fold", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"RFC 9112, 2.2: space before the first field", "GET / HTTP/1.1\r\n A: b\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0,
     0},
    {"a field without a colon", "GET / HTTP/1.1\r\nHost\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
    {"a field without a name", "GET / HTTP/1.1\r\n: a\r\n\r\n", -EBADMSG, NULL, NULL, NULL, 0, 0},
};

/* Every beginning of data, in a copy of exact size: more is needed until the answer is there, and then it stays. */
static void check_prefixes(const char *name, struct slice data, int want)
{
    struct http1_request r;
    int settled = 0;

    for (size_t len = 0; len <= data.len; len++) {
        uint8_t *copy = malloc(len ? len : 1);
        memcpy(copy, data.ptr, len);
        int got = http1_request_parse(slice_of(copy, len), &r);
        CHECK_CASE(name, settled == 0 || got == settled);
        settled = got;
        free(copy);
    }
    CHECK_CASE(name, settled == want);
}

static void test_heads(void)
{
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        struct http1_request r;
        struct buf data = {0};
        struct slice head = slice_str(heads[i].head);
        int want = heads[i].want == WHOLE ? (int)head.len : heads[i].want;
        buf_put(&data, head);
        buf_put(&data, SLICE("\x82\x00"));
        data.len -= heads[i].want == WHOLE ? 0 : 2;
        check_prefixes(heads[i].name, slice_of(data.ptr, data.len), want);
        CHECK_CASE(heads[i].name, http1_request_parse(buf_slice(&data), &r) == want);
        if (heads[i].want == WHOLE) {
            CHECK_CASE(heads[i].name, slice_eq(r.method, slice_str(heads[i].method)));
            CHECK_CASE(heads[i].name, slice_eq(r.path, slice_str(heads[i].path)));
            CHECK_CASE(heads[i].name, slice_eq(r.query, slice_str(heads[i].query)));
            CHECK_CASE(heads[i].name, r.minor == heads[i].minor);
            CHECK_CASE(heads[i].name, r.field_count == heads[i].fields);
        }
        buf_deinit(&data);
    }
}

static void test_nul(void)
{
    struct http1_request r;

    CHECK(http1_request_parse(SLICE("GET / HTTP/1.1\r\nA: \0\r\n\r\n"), &r) == -EBADMSG);
    CHECK(http1_request_parse(SLICE("G\0T"), &r) == -EBADMSG);
    CHECK(http1_request_parse(SLICE("GET /\0"), &r) == -EBADMSG);
    CHECK(http1_request_parse(slice_of(NULL, 0), &r) == 0);
}

/* A head of exactly `bytes` with so many fields. */
static struct buf head_of(size_t bytes, unsigned fields)
{
    struct buf b = {0};

    buf_put(&b, SLICE("GET / HTTP/1.1\r\n"));
    for (unsigned i = 0; i < fields; i++) {
        buf_put(&b, SLICE("A: b\r\n"));
    }
    buf_put(&b, SLICE("B: "));
    while (b.len + 4 < bytes) {
        buf_u8(&b, 'x');
    }
    buf_put(&b, SLICE("\r\n\r\n"));
    return b;
}

static const struct {
    const char *name;
    size_t bytes;
    unsigned fields; /* and one more */
    int want;
} sizes[] = {
    {"as long as may be", HTTP1_HEAD_BYTES_MAX, 0, HTTP1_HEAD_BYTES_MAX},
    {"one byte longer", HTTP1_HEAD_BYTES_MAX + 1, 0, -EMSGSIZE},
    {"longer by a whole field", HTTP1_HEAD_BYTES_MAX + 500, 0, -EMSGSIZE},
    {"as many fields as may be", 1000, HTTP1_FIELDS_MAX - 1, 1000},
    {"one field more", 1000, HTTP1_FIELDS_MAX, -EMSGSIZE},
};

static void test_bounds(void)
{
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct buf head = head_of(sizes[i].bytes, sizes[i].fields);
        struct http1_request r;
        CHECK_CASE(sizes[i].name, head.len == sizes[i].bytes);
        CHECK_CASE(sizes[i].name, http1_request_parse(buf_slice(&head), &r) == sizes[i].want);
        check_prefixes(sizes[i].name, buf_slice(&head), sizes[i].want);
        if (head.len > HTTP1_HEAD_BYTES_MAX) { /* known as soon as no room is left for its end */
            CHECK_CASE(sizes[i].name, http1_request_parse(slice_of(head.ptr, HTTP1_HEAD_BYTES_MAX), &r) == -EMSGSIZE);
        }
        buf_deinit(&head);
    }
}

static const char fields_head[] = "GET / HTTP/1.1\r\n"
                                  "Host: \t a b \t \r\n"
                                  "CONNECTION: keep-alive ,, Upgrade\r\n"
                                  "Twice: 1\r\n"
                                  "connection:close\r\n"
                                  "twice: 2\r\n"
                                  "Empty: ,\t,\r\n"
                                  "None:\r\n"
                                  "\r\n";

static const struct {
    const char *name, *field, *want; /* NULL: ptr NULL */
} fields[] = {
    {"trimmed, inner space kept", "host", "a b"},
    {"name in any case", "HOST", "a b"},
    {"twice is none", "Twice", NULL},
    {"not there", "Absent", NULL},
    {"a beginning is not the name", "Hos", NULL},
    {"nor a longer one", "Hosts", NULL},
    {"there, and empty", "None", ""},
};

static const struct {
    const char *name, *field;
    unsigned index;
    const char *want;
} elements[] = {
    {"first", "Connection", 0, "keep-alive"},
    {"empty ones do not count", "Connection", 1, "Upgrade"},
    {"of the next field", "Connection", 2, "close"},
    {"behind the last", "Connection", 3, NULL},
    {"far behind the last", "Connection", 4000, NULL},
    {"two fields", "twice", 1, "2"},
    {"only empty ones", "Empty", 0, NULL},
    {"no value", "None", 0, NULL},
    {"not there", "Absent", 0, NULL},
};

static const struct {
    const char *name, *field, *token;
    bool want;
} tokens[] = {
    {"in the middle, any case", "connection", "upgrade", true},
    {"in the second field", "Connection", "CLOSE", true},
    {"a part of one", "Connection", "keep", false},
    {"more than one", "Connection", "closed", false},
    {"of another field", "Host", "close", false},
    {"empty", "Empty", "", false},
};

static void test_fields(void)
{
    struct http1_request r;

    CHECK(http1_request_parse(slice_str(fields_head), &r) == (int)strlen(fields_head));
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        struct slice got = http1_field(&r, fields[i].field);
        CHECK_CASE(fields[i].name, !got.ptr == !fields[i].want);
        CHECK_CASE(fields[i].name, slice_eq(got, slice_str(fields[i].want ? fields[i].want : "")));
    }
    for (size_t i = 0; i < COUNT_OF(elements); i++) {
        struct slice got = http1_element(&r, elements[i].field, elements[i].index);
        CHECK_CASE(elements[i].name, !got.ptr == !elements[i].want);
        CHECK_CASE(elements[i].name, slice_eq(got, slice_str(elements[i].want ? elements[i].want : "")));
    }
    for (size_t i = 0; i < COUNT_OF(tokens); i++) {
        CHECK_CASE(tokens[i].name, http1_has_token(&r, tokens[i].field, tokens[i].token) == tokens[i].want);
    }
}

static const struct {
    const char *name, *head;
    int want;
    unsigned status, fields;
} responses[] = {
    {"switching", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", WHOLE, 101, 1},
    {"an empty reason", "HTTP/1.1 404 \r\n\r\n", WHOLE, 404, 0},
    {"no reason and no space", "HTTP/1.0 200\r\n\r\n", WHOLE, 200, 0},
    {"no end yet", "HTTP/1.1 101 S\r\n", MORE, 0, 0},
    {"no status yet", "HTTP/1.1 10", MORE, 0, 0},
    {"two digits", "HTTP/1.1 20 OK\r\n\r\n", -EBADMSG, 0, 0},
    {"four digits", "HTTP/1.1 2000 OK\r\n\r\n", -EBADMSG, 0, 0},
    {"a letter", "HTTP/1.1 2x0 OK\r\n\r\n", -EBADMSG, 0, 0},
    {"HTTP/2", "HTTP/2 200 OK\r\n\r\n", -EBADMSG, 0, 0},
    {"a request", "GET / HTTP/1.1\r\n\r\n", -EBADMSG, 0, 0},
};

static void test_responses(void)
{
    for (size_t i = 0; i < COUNT_OF(responses); i++) {
        struct slice head = slice_str(responses[i].head);
        struct http1_request r;
        unsigned status = 0;
        int want = responses[i].want == WHOLE ? (int)head.len : responses[i].want;
        CHECK_CASE(responses[i].name, http1_response_parse(head, &status, &r) == want);
        CHECK_CASE(responses[i].name, status == responses[i].status);
        CHECK_CASE(responses[i].name, want <= 0 || r.field_count == responses[i].fields);
    }
}

UNIT_MAIN("proto/web/http1", {"heads", test_heads}, {"NUL", test_nul}, {"bounds", test_bounds}, {"fields", test_fields},
          {"responses", test_responses})
