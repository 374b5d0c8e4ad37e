/* remote_work.c -- verbs that change something: kick, publish, ban, drain, the level of the log. */
#include "broker/cli/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "broker/auth/base64.h"

#define PAYLOAD_BYTES_MAX ((size_t)1 << 20) /* a node takes bodies up to this */

/* Send the verb's request with this body, which is taken over; *ret_json is the caller's. */
static int send_body(struct remote_call *call, const char *method, json_t *body, json_t **ret_json)
{
    struct buf path = {0};

    remote_put_path(call, call->verb->path, "", &path);
    const char *text = remote_text(&path);
    struct remote_ask ask = {.method = method, .path = text, .body = body};
    int status = text ? remote_ask(call, &ask, ret_json) : CLI_FAILED;
    buf_deinit(&path);
    json_decref(body);
    return status;
}

/* Print the answer, or this sentence for people. Takes the answer over. */
static int finish(struct remote_call *call, int status, json_t *answer, const char *sentence)
{
    if (status == CLI_DONE && remote_value(call, "json") && answer) {
        status = remote_print_json(answer);
    } else if (status == CLI_DONE && *sentence) {
        puts(sentence);
    }
    json_decref(answer);
    return status;
}

int remote_each(struct remote_call *call)
{
    int worst = CLI_DONE;

    for (unsigned i = 0; i < call->operand_count && worst != CLI_UNREACHED; i++) {
        struct buf path = {0};
        json_t *answer = NULL;
        remote_put_path(call, call->verb->path, call->operands[i], &path);
        const char *text = remote_text(&path);
        struct remote_ask ask = {.method = call->verb->method, .path = text};
        int status = text ? remote_ask(call, &ask, &answer) : CLI_FAILED;
        worst = status > worst ? status : worst;
        json_decref(answer);
        buf_deinit(&path);
    }
    return worst;
}

/* ---- publish ---- */

/* Put the string under the key if it was given. False when memory is out. */
static bool set_given(json_t *object, const char *key, const struct remote_call *call, const char *option)
{
    const char *value = remote_value(call, option);

    return !value || json_object_set_new(object, key, json_string(value)) == 0;
}

static int set_properties(const struct remote_call *call, json_t *message)
{
    json_t *properties = json_object(), *user = json_object();
    uint32_t expiry = remote_seconds(call, "message-expiry");
    bool good = properties && user && set_given(properties, "content_type", call, "content-type") &&
                set_given(properties, "response_topic", call, "response-topic") &&
                set_given(properties, "correlation_data", call, "correlation-data");

    if (good && remote_value(call, "message-expiry")) {
        good = json_object_set_new(properties, "message_expiry_interval", json_integer(expiry)) == 0;
    }
    for (unsigned i = 0; i < call->given_count && good; i++) {
        const char *value = call->given[i].value, *equals = strchr(value, '=');
        if (strcmp(call->given[i].option->name, "user-property") != 0) {
            continue;
        }
        if (!equals || equals == value) {
            json_decref(properties);
            json_decref(user);
            return cli_fail(CLI_ARGUMENTS, "--user-property %s: must be NAME=VALUE", value);
        }
        char *name = strndup(value, (size_t)(equals - value));
        good = name && json_object_set_new(user, name, json_string(equals + 1)) == 0;
        free(name);
    }
    if (good && json_object_size(user) > 0) {
        good = json_object_set(properties, "user_properties", user) == 0;
    }
    if (good && json_object_size(properties) > 0) {
        good = json_object_set(message, "properties", properties) == 0;
    }
    json_decref(properties);
    json_decref(user);
    return good ? CLI_DONE : cli_fail(CLI_ARGUMENTS, "a property is no UTF-8, or memory is out");
}

static int read_standard_input(struct buf *out)
{
    char bytes[4096];
    size_t len;

    while ((len = fread(bytes, 1, sizeof(bytes), stdin)) > 0) {
        buf_put(out, slice_of(bytes, len));
        if (out->len > PAYLOAD_BYTES_MAX) {
            return -EFBIG;
        }
    }
    return ferror(stdin) ? -EIO : out->failed ? -ENOMEM : 0;
}

static int read_payload(const struct remote_call *call, struct buf *out)
{
    const char *file = remote_value(call, "file");

    if (!file == (call->operand_count < 2)) {
        return cli_fail(CLI_ARGUMENTS, "needs a payload, as an argument ('' for none) or by --file, and not both");
    }
    if (!file) {
        buf_put(out, slice_str(call->operands[1]));
        return CLI_DONE;
    }
    int rc = strcmp(file, "-") == 0 ? read_standard_input(out) : cli_read_file(file, PAYLOAD_BYTES_MAX, out);
    return rc ? cli_fail(CLI_FAILED, "%s: %s", file, strerror(-rc)) : CLI_DONE;
}

int remote_publish(struct remote_call *call)
{
    struct buf payload = {0}, text = {0};
    const char *qos = remote_value(call, "qos");
    json_t *message = NULL, *answer = NULL;
    int status = read_payload(call, &payload);

    base64_encode(buf_slice(&payload), false, &text);
    const char *encoded = status == CLI_DONE ? remote_text(&text) : NULL;
    if (encoded) {
        message = json_pack("{sssisbssss}", "topic", call->operands[0], "qos", qos ? atoi(qos) : 0, "retain",
                            remote_value(call, "retain") != NULL, "payload", encoded, "payload_encoding", "base64");
        status = message ? set_properties(call, message) : cli_fail(CLI_ARGUMENTS, "the topic is no UTF-8");
    } else if (status == CLI_DONE) {
        status = CLI_FAILED;
    }
    if (status == CLI_DONE) {
        status = send_body(call, "POST", message, &answer);
    } else {
        json_decref(message);
    }
    bool nobody = json_integer_value(json_object_get(answer, "reason_code")) == 16; /* MQTT 5.0, section 3.4.2.1 */
    buf_deinit(&payload);
    buf_deinit(&text);
    return finish(call, status, answer, nobody ? "Published; nobody has subscribed to it." : "Published.");
}

int remote_retained_get(struct remote_call *call)
{
    struct buf path = {0}, payload = {0};
    json_t *answer = NULL;

    remote_put_path(call, call->verb->path, call->operands[0], &path);
    const char *text = remote_text(&path);
    struct remote_ask ask = {.method = "GET", .path = text};
    int status = text ? remote_ask(call, &ask, &answer) : CLI_FAILED;
    buf_deinit(&path);
    const char *encoded = json_string_value(json_object_get(answer, "payload"));
    if (status == CLI_DONE && remote_value(call, "raw")) {
        int rc = encoded ? base64_decode(slice_str(encoded), false, &payload) : -EINVAL;
        bool good = rc == 0 && fwrite(payload.ptr, 1, payload.len, stdout) == payload.len;
        status = good ? CLI_DONE : cli_fail(CLI_FAILED, "the payload cannot be read or written");
    } else if (status == CLI_DONE) {
        status = remote_value(call, "json") ? remote_print_json(answer) : remote_print_object(answer);
    }
    buf_deinit(&payload);
    json_decref(answer);
    return status;
}

/* ---- bans ---- */

static int check_kind(const char *as)
{
    bool known = strcmp(as, "clientid") == 0 || strcmp(as, "username") == 0 || strcmp(as, "ip_address") == 0;

    return known ? CLI_DONE : cli_fail(CLI_ARGUMENTS, "%s: must be clientid, username or ip_address", as);
}

int remote_ban(struct remote_call *call)
{
    const char *until = remote_value(call, "until"), *reason = remote_value(call, "reason");
    time_t end = time(NULL) + (time_t)remote_seconds(call, "for");
    char when[sizeof("2030-01-31T12:00:00Z") + 8];
    json_t *answer = NULL;
    struct tm utc;

    if (check_kind(call->operands[0]) != CLI_DONE) {
        return CLI_ARGUMENTS;
    }
    if (until && remote_value(call, "for")) {
        return cli_fail(CLI_ARGUMENTS, "either --for or --until");
    }
    if (remote_value(call, "for") && gmtime_r(&end, &utc) && strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc)) {
        until = when;
    }
    json_t *ban =
        json_pack("{ssssss*ss*}", "as", call->operands[0], "who", call->operands[1], "reason", reason, "until", until);
    if (!ban) {
        return cli_fail(CLI_ARGUMENTS, "a text is no UTF-8, or memory is out");
    }
    int status = send_body(call, "POST", ban, &answer);
    return finish(call, status, answer, "");
}

int remote_unban(struct remote_call *call)
{
    struct buf path = {0}, whole = {0};
    json_t *answer = NULL;

    if (check_kind(call->operands[0]) != CLI_DONE) {
        return CLI_ARGUMENTS;
    }
    cli_put(&path, "%s/%s/%%s", call->verb->path, call->operands[0]);
    const char *text = remote_text(&path);
    if (text) {
        remote_put_path(call, text, call->operands[1], &whole);
    }
    text = text ? remote_text(&whole) : NULL;
    struct remote_ask ask = {.method = "DELETE", .path = text};
    int status = text ? remote_ask(call, &ask, &answer) : CLI_FAILED;
    buf_deinit(&path);
    buf_deinit(&whole);
    return finish(call, status, answer, "");
}

/* ---- the rest ---- */

int remote_log_level(struct remote_call *call)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    const char *level = call->operand_count ? call->operands[0] : NULL;
    json_t *answer = NULL;
    bool known = !level;

    for (size_t i = 0; i < COUNT_OF(levels) && level; i++) {
        known |= strcmp(level, levels[i]) == 0;
    }
    if (!known) {
        return cli_fail(CLI_ARGUMENTS, "%s: must be error, warn, info or debug", level);
    }
    int status = send_body(call, level ? "PUT" : "GET", level ? json_pack("{ss}", "level", level) : NULL, &answer);
    if (status == CLI_DONE && !level && !remote_value(call, "json")) {
        const char *now = json_string_value(json_object_get(answer, "level"));
        puts(now ? now : "?");
    }
    return finish(call, status, answer, "");
}

int remote_drain(struct remote_call *call)
{
    const char *rate = remote_value(call, "rate");
    json_t *body = json_object(), *answer = NULL;

    if (!body || (rate && json_object_set_new(body, "rate", json_integer(atoll(rate)))) ||
        (remote_value(call, "wait") &&
         json_object_set_new(body, "wait_seconds", json_integer(remote_seconds(call, "wait"))))) {
        json_decref(body);
        return cli_fail(CLI_FAILED, "out of memory");
    }
    int status = send_body(call, "POST", body, &answer);
    if (status == CLI_DONE && json_is_object(answer) && !remote_value(call, "json")) {
        status = remote_print_object(answer);
    }
    return finish(call, status, answer, "");
}

int remote_bench(struct remote_call *call)
{
    json_t *answer = NULL, *row, *rows;
    int status = send_body(call, "GET", NULL, &answer);
    size_t i;

    rows = json_is_array(answer) ? answer : json_object_get(answer, "data");
    json_array_foreach(rows, i, row)
    {
        const char *address = json_string_value(json_object_get(row, "address"));
        const char *protocol = json_string_value(json_object_get(row, "protocol"));
        const char *host = address ? strstr(address, "://") : NULL;
        if (!address || !protocol || strcmp(protocol, "tcp") != 0) {
            continue;
        }
        host = host ? host + 3 : address;
        printf("# %s\n"
               "tern-bench conn -h %s -c 1000                  # how fast clients come, and what each costs\n"
               "tern-bench pair -h %s -c 100 -q 1 -d 10        # pairs that send and receive; nothing may be lost\n"
               "tern-bench fanout -h %s -c 1000 -b 1           # one message to a thousand\n",
               address, host, host, host);
    }
    json_decref(answer);
    return status;
}
