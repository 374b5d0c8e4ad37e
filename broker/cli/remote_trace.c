/* remote_trace.c -- ternctl trace start: events as they come, a line each. */
#include "broker/cli/remote.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/cli/sheet.h"

#define LINE_BYTES_MAX (4u << 20)
#define DURATION_DEFAULT 60u
#define DURATION_MAX 3600u

struct trace {
    struct buf line; /* what came of the next event */
    bool raw;        /* JSON as it came */
};

static const char *text_at(const json_t *event, const char *name)
{
    const char *text = json_string_value(json_object_get(event, name));

    return text ? text : "";
}

/* "12:00:00.123 n1  publish_in  client  a/b  qos=1 payload=..." */
static void put_event(struct buf *out, const json_t *event)
{
    static const char *const first[] = {"at", "node", "event", "clientid", "topic"};
    struct buf text = {0};
    const char *name;
    json_t *value;

    cli_put(&text, "%s %-8s %-12s %-16s %s", text_at(event, "at"), text_at(event, "node"), text_at(event, "event"),
            text_at(event, "clientid"), text_at(event, "topic"));
    json_object_foreach((json_t *)event, name, value)
    {
        bool shown = json_is_null(value);
        for (size_t i = 0; i < COUNT_OF(first); i++) {
            shown |= strcmp(name, first[i]) == 0;
        }
        if (!shown) {
            cli_put(&text, " %s=", name);
            remote_put_value(&text, value, FORM_TEXT);
        }
    }
    buf_u8(&text, 0);
    if (!text.failed) {
        sheet_put_safe(out, (const char *)text.ptr);
    }
    out->failed |= text.failed;
    buf_u8(out, '\n');
    buf_deinit(&text);
}

/* One event, without its newline. Returns false when nobody reads us any more. */
static bool show_line(struct trace *t, struct slice line)
{
    json_t *event = t->raw ? NULL : json_loadb((const char *)line.ptr, line.len, 0, NULL);
    struct buf out = {0};

    if (line.len == 0) {
        return true;
    }
    if (event) {
        put_event(&out, event);
    } else if (t->raw) {
        buf_put(&out, line);
        buf_u8(&out, '\n');
    }
    bool good = !out.failed && fwrite(out.ptr, 1, out.len, stdout) == out.len && fflush(stdout) == 0;
    buf_deinit(&out);
    json_decref(event);
    return good;
}

static bool take_events(void *context, const char *bytes, size_t len)
{
    struct trace *t = context;
    const uint8_t *end;

    buf_put(&t->line, slice_of(bytes, len));
    while (t->line.len > 0 && (end = memchr(t->line.ptr, '\n', t->line.len)) != NULL) {
        size_t line = (size_t)(end - t->line.ptr);
        if (!show_line(t, slice_of(t->line.ptr, line))) {
            return false;
        }
        buf_consume(&t->line, line + 1);
    }
    return !t->line.failed && t->line.len <= LINE_BYTES_MAX;
}

/* Ctrl-C is how a trace ends. Every line has been written by then. */
static void on_interrupt(int signal_number)
{
    (void)signal_number;
    _exit(CLI_DONE);
}

int remote_trace(struct remote_call *call)
{
    static const char *const kinds[][2] = {{"clientid", "clientid"}, {"topic", "topic"}, {"ip-address", "ip_address"}};
    struct trace trace = {.raw = remote_value(call, "json") != NULL};
    const char *payload = remote_value(call, "payload");
    uint32_t duration = remote_value(call, "duration") ? remote_seconds(call, "duration") : DURATION_DEFAULT;
    json_t *body = json_object(), *answer = NULL;
    struct buf path = {0};
    bool good = body != NULL;
    unsigned given = 0;

    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        const char *value = remote_value(call, kinds[i][0]);
        good = good && (!value || json_object_set_new(body, kinds[i][1], json_string(value)) == 0);
        given += value != NULL;
    }
    good = good && json_object_set_new(body, "duration", json_integer(duration)) == 0 &&
           (!payload || json_object_set_new(body, "payload", json_string(payload)) == 0);
    if (given != 1 || duration < 1 || duration > DURATION_MAX) {
        json_decref(body);
        return given != 1 ? cli_fail(CLI_ARGUMENTS, "needs one of --clientid, --topic and --ip-address")
                          : cli_fail(CLI_ARGUMENTS, "--duration: must be from 1s to 1h");
    }
    remote_put_path(call, call->verb->path, "", &path);
    const char *text = remote_text(&path);
    struct remote_ask ask = {.method = "POST", .path = text, .body = body, .taker = take_events, .context = &trace};
    signal(SIGINT, on_interrupt);
    int status = !text ? CLI_FAILED : good ? remote_ask(call, &ask, &answer) : cli_fail(CLI_FAILED, "out of memory");
    signal(SIGINT, SIG_DFL);
    if (status == CLI_DONE && ask.ended) {
        status = cli_fail(CLI_FAILED, "standard output cannot be written, or an event is too long");
    }
    buf_deinit(&path);
    buf_deinit(&trace.line);
    json_decref(answer);
    json_decref(body);
    return status;
}
