/* Listeners, bans, the log and the configuration. Those of all nodes, unless ?node= names one. */
#include <stdio.h>
#include <time.h>

#include "broker/admin/api_tables.h"
#include "broker/admin/desk.h"
#include "broker/admin/view.h"

#define WHO_MAX 1024u

static void gather_at(struct admin_request *request, unsigned kind, json_t *question, const char *fallback,
                      void (*done)(struct api_gather *g))
{
    char node[128];

    if (!api_query(request, "node", node, sizeof(node))) {
        json_decref(question);
        return;
    }
    api_gather(request, kind, question, slice_str(node[0] ? node : fallback), done);
}

static void list_listeners(struct admin_request *request)
{
    gather_at(request, DESK_LISTENERS, json_object(), "", api_reply_rows);
}

/* ---- bans ---- */

static void list_bans(struct admin_request *request)
{
    gather_at(request, DESK_BANS, json_object(), "", api_reply_rows);
}

static void reply_banned(struct api_gather *g)
{
    if (json_array_size(g->rows) == 0) {
        api_error(&g->call, 503, "no node has taken the ban: too many bans, or memory is out");
        return;
    }
    api_reply_json(&g->call, 201,
                   json_pack("{s:I, s:O}", "nodes", (json_int_t)json_array_size(g->rows), "missing", g->missing));
}

static void reply_unbanned(struct api_gather *g)
{
    if (json_array_size(g->rows) == 0) {
        api_error(&g->call, json_array_size(g->missing) > 0 ? 503 : 404, "there is no such ban");
        return;
    }
    api_say_nothing(g->call.request);
    api_end(&g->call);
}

/* RFC 3339 in UTC, or Unix seconds; absent, null: for ever (0). False: neither. */
static bool read_until(const json_t *value, uint64_t *ret_ms)
{
    struct tm tm = {0};
    const char *rest;

    *ret_ms = 0;
    if (!value || json_is_null(value)) {
        return true;
    }
    if (json_is_integer(value) && json_integer_value(value) > 0) {
        *ret_ms = (uint64_t)json_integer_value(value) * 1000;
        return true;
    }
    rest = json_is_string(value) ? strptime(json_string_value(value), "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    if (rest && *rest == '.') {
        rest += 1 + strspn(rest + 1, "0123456789");
    }
    if (!rest || strcmp(rest, "Z") != 0) {
        return false;
    }
    *ret_ms = (uint64_t)timegm(&tm) * 1000;
    return true;
}

/* Whether this can be banned; else why not. */
static const char *check_ban(const char *as, const json_t *who)
{
    struct in6_addr address;

    if (desk_ban_kind(slice_str(as)) < 0) {
        return "as is clientid, username or ip_address";
    }
    if (!json_is_string(who) || json_string_length(who) == 0 || json_string_length(who) > WHO_MAX) {
        return "who is the client id, user name or address to be banned";
    }
    if (desk_ban_kind(slice_str(as)) == BAN_ADDRESS && !desk_address(json_string_value(who), &address)) {
        return "who is no IP address";
    }
    return NULL;
}

static void add_ban(struct admin_request *request)
{
    json_t *body = api_body(request, JSON_OBJECT);
    uint64_t until_ms = 0;

    if (!body) {
        return;
    }
    const char *as = json_string_value(json_object_get(body, "as"));
    const json_t *reason = json_object_get(body, "reason");
    const char *why = check_ban(as ? as : "", json_object_get(body, "who"));
    if (!why && reason && !json_is_string(reason) && !json_is_null(reason)) {
        why = "reason is a string";
    }
    if (!why && !read_until(json_object_get(body, "until"), &until_ms)) {
        why = "until is a time like 2026-01-31T12:00:00Z, or seconds since 1970";
    }
    if (!why && until_ms > 0 && until_ms <= request->broker->shard->wall_ms) {
        why = "until is over already";
    }
    if (why) {
        admin_fail(request, 400, "%s", why);
    } else {
        const char *text = json_string_value(reason);
        gather_at(request, DESK_BAN,
                  json_pack("{s:s, s:O, s:s, s:I}", "as", as, "who", json_object_get(body, "who"), "reason",
                            text ? text : "by an operator", "until_ms", (json_int_t)until_ms),
                  "", reply_banned);
    }
    json_decref(body);
}

static void remove_ban(struct admin_request *request)
{
    char as[32];
    json_t *who = view_text(request->params[1]);

    snprintf(as, sizeof(as), "%.*s", (int)request->params[0].len, (const char *)request->params[0].ptr);
    const char *why = check_ban(as, who);
    if (why) {
        admin_fail(request, 400, "%s", why);
    } else {
        gather_at(request, DESK_BAN, json_pack("{s:s, s:O, s:b}", "as", as, "who", who, "remove", 1), "",
                  reply_unbanned);
    }
    json_decref(who);
}

/* ---- the log ---- */

static void reply_one(struct api_gather *g)
{
    if (json_array_size(g->rows) == 0) {
        api_error(&g->call, 503, "the node has not answered");
        return;
    }
    api_reply_json(&g->call, 200, json_incref(json_array_get(g->rows, 0)));
}

static void show_log(struct admin_request *request)
{
    gather_at(request, DESK_LOG, json_object(), request->broker->config->node_name, reply_one);
}

static void set_log(struct admin_request *request)
{
    json_t *body = api_body(request, JSON_OBJECT);
    const char *level = json_string_value(json_object_get(body, "level"));

    if (!body) {
        return;
    }
    if (!level || desk_log_level(slice_str(level)) < 0) {
        admin_fail(request, 400, "level is error, warn, info or debug");
    } else {
        gather_at(request, DESK_LOG, json_pack("{s:s}", "level", level), request->broker->config->node_name, reply_one);
    }
    json_decref(body);
}

/* ---- reload ---- */

static void reply_reload(struct api_gather *g)
{
    const json_t *outcome = json_array_get(g->rows, 0);
    const char *error = json_string_value(json_object_get(outcome, "error"));

    if (!outcome) {
        api_error(&g->call, 503, "the node has not said in time how it went; its log will");
    } else if (error) {
        api_error(&g->call, 409, "nothing was changed: %s", error);
    } else {
        api_reply_json(&g->call, 200, json_incref((json_t *)outcome));
    }
}

static void reload(struct admin_request *request)
{
    gather_at(request, DESK_RELOAD, json_object(), request->broker->config->node_name, reply_reload);
}

/* ---- draining ---- */

#define DRAIN_RATE_MAX 1000000u
#define DRAIN_WAIT_MAX_S 86400u

/* A number of the body into the question. False: it is none, which was answered. */
static bool copy_count(struct admin_request *request, const json_t *body, const char *name, json_t *question,
                       const char *field, json_int_t max, json_int_t scale)
{
    const json_t *value = json_object_get(body, name);
    json_int_t n = json_integer_value(value);

    if (value && (!json_is_integer(value) || n < 0 || n > max)) {
        admin_fail(request, 400, "%s is a number from 0 to %lld", name, (long long)max);
        return false;
    }
    if (value) {
        json_object_set_new(question, field, json_integer(n * scale));
    }
    return true;
}

static void begin_drain(struct admin_request *request)
{
    json_t *body = request->body.len > 0 ? api_body(request, JSON_OBJECT) : json_object();
    json_t *question = body ? json_pack("{s:s}", "op", "begin") : NULL;

    if (body && question && copy_count(request, body, "rate", question, "rate", DRAIN_RATE_MAX, 1) &&
        copy_count(request, body, "wait_seconds", question, "wait_ms", DRAIN_WAIT_MAX_S, 1000)) {
        gather_at(request, DESK_DRAIN, json_incref(question), request->broker->config->node_name, reply_one);
    } else if (body && !question) {
        api_say(request, 200, NULL);
    }
    json_decref(question);
    json_decref(body);
}

static void show_drain(struct admin_request *request)
{
    gather_at(request, DESK_DRAIN, json_pack("{s:s}", "op", "look"), request->broker->config->node_name, reply_one);
}

static void stop_drain(struct admin_request *request)
{
    gather_at(request, DESK_DRAIN, json_pack("{s:s}", "op", "stop"), request->broker->config->node_name, reply_one);
}

static const struct admin_route routes[] = {
    {ADMIN_GET, "/api/v1/drain", ADMIN_VIEWER, show_drain},
    {ADMIN_POST, "/api/v1/drain", ADMIN_OPERATOR, begin_drain},
    {ADMIN_DELETE, "/api/v1/drain", ADMIN_OPERATOR, stop_drain},
    {ADMIN_GET, "/api/v1/listeners", ADMIN_VIEWER, list_listeners},
    {ADMIN_GET, "/api/v1/banned", ADMIN_VIEWER, list_bans},
    {ADMIN_POST, "/api/v1/banned", ADMIN_OPERATOR, add_ban},
    {ADMIN_DELETE, "/api/v1/banned/:as/:who", ADMIN_OPERATOR, remove_ban},
    {ADMIN_GET, "/api/v1/log", ADMIN_VIEWER, show_log},
    {ADMIN_PUT, "/api/v1/log", ADMIN_OPERATOR, set_log},
    {ADMIN_POST, "/api/v1/reload", ADMIN_OPERATOR, reload},
};

const struct admin_table admin_local_table = {routes, COUNT_OF(routes)};
