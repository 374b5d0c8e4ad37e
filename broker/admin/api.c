#include "broker/admin/api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/admin/view.h"
#include "broker/flow/driver_inside.h"
#include "cluster/swim.h"
#include "proto/mqtt/topic.h"

#define JSON_TYPE "application/json"

/* ---- a call ---- */

static void client_gone(struct admin_request *request)
{
    struct api_call *call = request->context;

    call->request = NULL;
    api_end(call);
}

void api_call_init(struct api_call *call, struct admin_request *request, void (*free)(struct api_call *call))
{
    *call = (struct api_call){.b = request->broker, .request = request, .free = free};
    request->context = call;
    request->gone = client_gone;
}

void api_end(struct api_call *call)
{
    if (call->inquiry) {
        inquire_cancel(call->b, call->inquiry);
    }
    call->free(call);
}

void api_reply(struct api_call *call, unsigned status, struct buf *body)
{
    admin_reply(call->request, status, JSON_TYPE, body);
    api_end(call);
}

void api_reply_json(struct api_call *call, unsigned status, json_t *object)
{
    api_say(call->request, status, object);
    api_end(call);
}

void api_no_memory(struct api_call *call)
{
    api_error(call, 500, "memory is out");
}

void api_error(struct api_call *call, unsigned status, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    admin_fail(call->request, status, "%s", text);
    api_end(call);
}

/* ---- answers at once ---- */

void api_say(struct admin_request *request, unsigned status, json_t *object)
{
    struct buf body = {0};

    if (view_write(object, &body) != 0) {
        buf_deinit(&body);
        admin_fail(request, 500, "memory is out");
        return;
    }
    admin_reply(request, status, JSON_TYPE, &body);
}

void api_say_nothing(struct admin_request *request)
{
    admin_reply(request, 204, NULL, NULL);
}

/* ---- parameters ---- */

bool api_query(struct admin_request *request, const char *name, char *ret_value, size_t size)
{
    struct buf value = {0};
    int rc = admin_query(request, name, &value);
    bool fits =
        rc >= 0 && !value.failed && value.len < size && !memchr(value.len ? value.ptr : (uint8_t *)"x", 0, value.len);

    ret_value[0] = '\0';
    if (fits && value.len > 0) {
        memcpy(ret_value, value.ptr, value.len);
        ret_value[value.len] = '\0';
    }
    buf_deinit(&value);
    if (!fits) {
        admin_fail(request, rc == -ENOMEM ? 500 : 400, "the parameter \"%s\" is ill-formed or too long", name);
    }
    return fits;
}

bool api_query_number(struct admin_request *request, const char *name, uint64_t absent, uint64_t min, uint64_t max,
                      uint64_t *ret_value)
{
    char text[24], *end;

    if (!api_query(request, name, text, sizeof(text))) {
        return false;
    }
    *ret_value = absent;
    if (!text[0]) {
        return true;
    }
    errno = 0;
    *ret_value = strtoull(text, &end, 10);
    if (errno || *end || text[0] < '0' || text[0] > '9' || *ret_value < min || *ret_value > max) {
        admin_fail(request, 400, "the parameter \"%s\" is a number from %llu to %llu", name, (unsigned long long)min,
                   (unsigned long long)max);
        return false;
    }
    return true;
}

json_t *api_body(struct admin_request *request, json_type type)
{
    json_error_t error;
    json_t *body = json_loadb(request->body.len ? (const char *)request->body.ptr : "", request->body.len,
                              JSON_REJECT_DUPLICATES, &error);

    if (!body) {
        admin_fail(request, 400, "the body is not JSON: %s (line %d)", error.text, error.line);
    } else if (json_typeof(body) != type) {
        admin_fail(request, 400, "the body is to be a JSON %s", type == JSON_ARRAY ? "array" : "object");
        json_decref(body);
        body = NULL;
    }
    return body;
}

/* ---- questions ---- */

bool api_inquire(struct api_call *call, unsigned kind, const json_t *question, const char *node, bool here,
                 void (*part)(void *context, unsigned from, uint64_t count, struct slice rows),
                 void (*done)(void *context), void *context)
{
    char *text = json_dumps(question, JSON_COMPACT);
    int error = -ENOMEM;

    call->inquiry = NULL;
    call->all = !node && !here;
    if (text && strlen(text) > INQUIRY_QUESTION_MAX) {
        free(text);
        api_error(call, 413, "that is more than can be asked at one time");
        return false;
    }
    if (text) {
        call->inquiry = inquire(call->b,
                                &(struct inquiry_terms){.kind = kind,
                                                        .question = slice_str(text),
                                                        .wait_ms = call->wait_ms ? call->wait_ms : INQUIRY_WAIT_MS,
                                                        .node = node,
                                                        .here = here,
                                                        .part = part,
                                                        .done = done,
                                                        .context = context},
                                &error);
    }
    free(text);
    if (call->inquiry) {
        return true;
    }
    if (error == -ENOENT) {
        api_error(call, 404, "no node of the cluster has the name \"%s\"", node ? node : "");
    } else {
        api_no_memory(call);
    }
    return false;
}

static bool has_name(const json_t *list, const char *name)
{
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
    {
        if (strcmp(json_string_value(one), name) == 0) {
            return true;
        }
    }
    return false;
}

void api_missing(struct api_call *call, json_t *list)
{
    const char *name;
    unsigned at = 0;

    while ((name = inquire_missing(call->b, call->inquiry, &at)) != NULL) {
        json_array_append_new(list, json_string(name));
    }
    const struct driver *d = call->all && call->b->cluster ? driver_of(call->b) : NULL;
    const struct member *m;
    for (at = 0; d && (m = swim_next(d->swim, &at)) != NULL;) {
        if (m->state == MEMBER_DEAD && !has_name(list, m->name)) { /* nobody has asked it */
            json_array_append_new(list, json_string(m->name));
        }
    }
}

void api_share_split(struct slice name, struct slice *ret_share, struct slice *ret_filter)
{
    (void)mqtt_share_split(name, ret_share, ret_filter);
}
