/* remote_list.c -- verbs that only ask: lists with their pages, objects, the health of a node. */
#include "broker/cli/remote.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/cli/sheet.h"

#define ALL_LIMIT 1000 /* rows of a page when all are wanted: as many as a node gives */

/* Ask for path with the verb's method; *ret_json is the caller's, and an object or a list. */
static int ask(struct remote_call *call, const char *path, json_t **ret_json)
{
    struct remote_ask ask = {.method = call->verb->method, .path = path};

    return remote_ask(call, &ask, ret_json);
}

/* The verb's own path with its operand and options, and `more` behind; ended with NUL. */
static const char *path_of(const struct remote_call *call, const char *more, struct buf *out)
{
    remote_put_path(call, call->verb->path, call->operand_count ? call->operands[0] : "", out);
    if (*more) {
        cli_put(out, "%c%s", memchr(out->ptr, '?', out->len) ? '&' : '?', more);
    }
    return remote_text(out);
}

/* Parts that are not there are told, for a list must not look whole. */
static void tell_missing(const json_t *answer)
{
    const json_t *node, *missing = json_object_get(json_object_get(answer, "meta"), "missing");
    size_t i;

    json_array_foreach((json_t *)missing, i, node)
    {
        struct buf name = {0};
        sheet_put_safe(&name, json_is_string(node) ? json_string_value(node) : "a node");
        buf_u8(&name, 0);
        if (!name.failed) {
            cli_fail(CLI_DONE, "node %s did not answer: its part is missing", (const char *)name.ptr);
        }
        buf_deinit(&name);
    }
}

/* The rows of an answer: it is a list, or has one. Borrowed. */
static json_t *rows_of(json_t *answer)
{
    return json_is_array(answer) ? answer : json_object_get(answer, "data");
}

static bool has_next(const json_t *answer)
{
    return json_is_true(json_object_get(json_object_get(answer, "meta"), "hasnext"));
}

/* One answer with the rows of all pages; *ret_answer is the caller's. */
static int ask_all(struct remote_call *call, json_t **ret_answer)
{
    json_t *whole = NULL, *page = NULL;
    int status = CLI_DONE;

    for (unsigned number = 1; status == CLI_DONE; number++) {
        char more[64];
        struct buf path = {0};
        snprintf(more, sizeof(more), remote_value(call, "limit") ? "page=%u" : "page=%u&limit=%u", number, ALL_LIMIT);
        const char *text = path_of(call, more, &path);
        page = NULL;
        status = text ? ask(call, text, &page) : CLI_FAILED;
        buf_deinit(&path);
        if (status) {
            break;
        }
        tell_missing(page);
        bool next = has_next(page) && json_array_size(rows_of(page)) > 0;
        if (!whole) {
            whole = page;
        } else {
            bool good = json_array_extend(rows_of(whole), rows_of(page)) == 0;
            status = good ? CLI_DONE : cli_fail(CLI_FAILED, "out of memory");
            json_decref(page);
        }
        if (!next) {
            break;
        }
    }
    if (status) {
        json_decref(whole);
        return status;
    }
    json_t *meta = json_object_get(whole, "meta");
    if (meta) {
        json_object_set_new(meta, "hasnext", json_false());
        json_object_set_new(meta, "page", json_integer(1));
        json_object_set_new(meta, "limit", json_integer((json_int_t)json_array_size(rows_of(whole))));
    }
    *ret_answer = whole;
    return CLI_DONE;
}

static int ask_page(struct remote_call *call, json_t **ret_answer)
{
    struct buf path = {0};
    const char *text = path_of(call, "", &path);
    int status = text ? ask(call, text, ret_answer) : CLI_FAILED;

    buf_deinit(&path);
    if (status == CLI_DONE) {
        tell_missing(*ret_answer);
    }
    return status;
}

int remote_list(struct remote_call *call)
{
    json_t *answer = NULL;

    if (remote_value(call, "all") && remote_value(call, "page")) {
        return cli_fail(CLI_ARGUMENTS, "either --all or --page");
    }
    if (remote_value(call, "top") && (remote_value(call, "sort") || remote_value(call, "order"))) {
        return cli_fail(CLI_ARGUMENTS, "--top says already what --sort and --order say");
    }
    int status = remote_value(call, "all") ? ask_all(call, &answer) : ask_page(call, &answer);
    if (status == CLI_DONE && remote_value(call, "json")) {
        status = remote_print_json(answer);
    } else if (status == CLI_DONE && !json_is_array(rows_of(answer))) {
        status = cli_fail(CLI_FAILED, "the node's answer has no rows");
    } else if (status == CLI_DONE) {
        status = remote_print_rows(rows_of(answer), call->verb->columns);
    }
    if (status == CLI_DONE && !remote_value(call, "json") && has_next(answer)) {
        cli_fail(CLI_DONE, "there is more: --all, or --page %lld",
                 json_integer_value(json_object_get(json_object_get(answer, "meta"), "page")) + 1);
    }
    json_decref(answer);
    return status;
}

int remote_show(struct remote_call *call)
{
    json_t *answer = NULL;
    int status = ask_page(call, &answer);

    if (status == CLI_DONE && answer) {
        status = remote_value(call, "json") || !json_is_object(answer) ? remote_print_json(answer)
                                                                       : remote_print_object(answer);
    }
    json_decref(answer);
    return status;
}

int remote_status(struct remote_call *call)
{
    json_t *answer = NULL;
    struct buf path = {0};
    const char *text = path_of(call, "", &path);
    struct remote_ask ask = {.method = "GET", .path = text, .any_status = true};
    int status = text ? remote_ask(call, &ask, &answer) : CLI_FAILED;

    buf_deinit(&path);
    const char *state = json_string_value(json_object_get(answer, "status"));
    if (status == CLI_DONE && !state) { /* an error after all */
        const char *message = json_string_value(json_object_get(answer, "message"));
        struct buf safe = {0};
        sheet_put_safe(&safe, message ? message : "the node's answer has no status");
        message = remote_text(&safe);
        status = message ? cli_fail(CLI_FAILED, "%s", message) : CLI_FAILED;
        buf_deinit(&safe);
    } else if (status == CLI_DONE) {
        status = remote_value(call, "json") ? remote_print_json(answer) : remote_print_object(answer);
        status = status == CLI_DONE && strcmp(state, "running") != 0 ? CLI_FAILED : status;
    }
    json_decref(answer);
    return status;
}

int remote_cluster(struct remote_call *call)
{
    json_t *cluster = NULL, *nodes = NULL;
    struct buf path = {0};
    int status = ask(call, call->verb->path, &cluster);

    remote_put_path(call, "/nodes", "", &path);
    const char *text = remote_text(&path);
    status = status ? status : text ? ask(call, text, &nodes) : CLI_FAILED;
    buf_deinit(&path);
    if (status == CLI_DONE) {
        tell_missing(nodes);
    }
    if (status == CLI_DONE && remote_value(call, "json")) {
        json_t *both = json_pack("{sOsO}", "cluster", cluster, "nodes", rows_of(nodes));
        status = both ? remote_print_json(both) : cli_fail(CLI_FAILED, "out of memory");
        json_decref(both);
    } else if (status == CLI_DONE) {
        status = remote_print_object(cluster);
        fputc('\n', stdout);
        status = status ? status : remote_print_rows(rows_of(nodes), call->verb->columns);
    }
    json_decref(cluster);
    json_decref(nodes);
    return status;
}

int remote_metrics(struct remote_call *call)
{
    const char *prefix = call->operand_count ? call->operands[0] : "", *name;
    json_t *answer = NULL, *value;
    int status = ask_page(call, &answer);
    unsigned found = 0;

    if (status == CLI_DONE && remote_value(call, "json") && !*prefix) {
        status = remote_print_json(answer);
        json_decref(answer);
        return status;
    }
    json_object_foreach(answer, name, value)
    {
        if (strncmp(name, prefix, strlen(prefix)) == 0) {
            struct buf text = {0};
            remote_put_value(&text, value, FORM_TEXT);
            const char *shown = remote_text(&text);
            printf("%s %s\n", name, shown ? shown : "?");
            found++;
            buf_deinit(&text);
        }
    }
    json_decref(answer);
    if (status == CLI_DONE && found == 0) {
        status = cli_fail(CLI_FAILED, "no metric begins with %s", prefix);
    }
    return status;
}
