/* http1.h -- the head of an HTTP/1.1 request (RFC 9112), for the WebSocket handshake and the admin pages.
 *
 * Why our own: it is read once, in one buffer, with bounds that an open port needs; nothing is allocated and nothing
 * copied. The result borrows from the input. Bodies are for the caller. No IO, no clock. */
#ifndef TERN_PROTO_WEB_HTTP1_H
#define TERN_PROTO_WEB_HTTP1_H

#include "proto/base/slice.h"

#define HTTP1_HEAD_BYTES_MAX 8192u
#define HTTP1_FIELDS_MAX 64u

struct http1_field {
    struct slice name, value; /* value without the space around it */
};

struct http1_request {
    struct slice method, target; /* target as sent: path and query */
    struct slice path, query;    /* cut at the first '?', which belongs to neither; without "http://host" before it */
    unsigned minor;              /* HTTP/1.minor: 0 or 1 */
    unsigned field_count;
    struct http1_field fields[HTTP1_FIELDS_MAX];
};

/* Parse a request head. Returns its size in bytes, the empty line included, when it is whole; 0 when more is needed;
 * or with *ret_request unspecified:
 *   -EBADMSG   no HTTP/1.x head: also on folded lines, control characters, space before a colon, a bare CR
 *   -EMSGSIZE  longer than HTTP1_HEAD_BYTES_MAX, or more fields than HTTP1_FIELDS_MAX
 * Lines may end in CR LF or in LF alone. */
int http1_request_parse(struct slice data, struct http1_request *ret_request);

/* The same for the head of a response: the status, and of *ret_fields only minor and the fields. */
int http1_response_parse(struct slice data, unsigned *ret_status, struct http1_request *ret_fields);

/* The value of the only field of this name (case-insensitive); empty slice with ptr NULL when there is none or more
 * than one. */
struct slice http1_field(const struct http1_request *request, const char *name);

/* Whether some field of this name holds the token in its comma-separated list; both case-insensitive. */
bool http1_has_token(const struct http1_request *request, const char *name, const char *token);

/* Walk the comma-separated elements of all fields of this name, in order: the index-th (from 0), trimmed; ptr NULL
 * behind the last. Empty elements do not count. Each call walks from the beginning: bound the index. */
struct slice http1_element(const struct http1_request *request, const char *name, unsigned index);

bool http1_token_eq(struct slice a, const char *b); /* ASCII, case-insensitive */

#endif
