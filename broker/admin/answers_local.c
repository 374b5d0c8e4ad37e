/* What a node has for itself: listeners, bans, its log. Answered by its control shard. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/admin/desk.h"
#include "broker/admin/view.h"
#include "broker/flow/drain.h"
#include "broker/flow/reload.h"
#include "proto/base/log.h"

static const char *const ban_names[] = {
    [BAN_ADDRESS] = "ip_address", [BAN_USER] = "username", [BAN_CLIENT_ID] = "clientid"};
static const char *const levels[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

static int name_index(const char *const *names, size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_eq(name, slice_str(names[i]))) {
            return (int)i;
        }
    }
    return -1;
}

int desk_ban_kind(struct slice name)
{
    return name_index(ban_names, COUNT_OF(ban_names), name);
}

int desk_log_level(struct slice name)
{
    return name_index(levels, COUNT_OF(levels), name);
}

/* ---- listeners ---- */

static json_t *view_listener(const struct broker *b, const struct listener *l)
{
    static const char *const protocols[2][2] = {{"tcp", "tls"}, {"ws", "wss"}};
    const struct tls_context *context = atomic_load(&((struct listener *)l)->tls_context);
    const char *file = NULL;
    int64_t ends = context ? tls_context_expires(context, &file) : INT64_MAX;

    return json_pack(
        "{s:s, s:s, s:i, s:s, s:I, s:o, s:b, s:b, s:o, s:s}", "id", l->name, "address", l->address, "port",
        (int)l->port, "protocol", l->config->transport == TRANSPORT_UNIX ? "unix" : protocols[l->websocket][l->tls],
        "connections", (json_int_t)atomic_load(&((struct listener *)l)->count), "max_connections",
        l->config->max_connections ? json_integer(l->config->max_connections) : json_null(), "tls", l->tls, "proxy",
        l->proxy, "certificate_expires_at", view_time(ends == INT64_MAX || ends < 0 ? 0 : (uint64_t)ends * 1000),
        "node", b->config->node_name);
}

enum inquiry_progress desk_put(struct inquiry_out *out, struct slice name, json_t *object)
{
    struct buf text = {0};
    enum inquiry_progress progress = INQUIRY_FAILED;

    if (view_write(object, &text) == 0) {
        rows_write(&out->rows, &(struct row){.name = name, .text = buf_slice(&text)});
        out->count++;
        progress = INQUIRY_DONE;
    }
    buf_deinit(&text);
    return progress;
}

static enum inquiry_progress step_listeners(struct broker *b, void *work, struct inquiry_out *out)
{
    enum inquiry_progress progress = INQUIRY_DONE;

    (void)work;
    for (unsigned i = 0; i < b->node->listener_count && progress == INQUIRY_DONE && b->shard->index == CONTROL_SHARD;
         i++) {
        const struct listener *l = &b->node->listeners[i];
        progress = desk_put(out, slice_str(l->name), view_listener(b, l));
    }
    return progress;
}

/* ---- bans ---- */

struct ban_list_out {
    const struct broker *b;
    json_t *bans;
};

static void take_ban(void *context, const struct ban *ban)
{
    struct ban_list_out *list = context;
    char address[LOOK_ADDRESS] = "";
    struct slice who = ban->name;
    struct in6_addr in6;

    if (ban->kind == BAN_ADDRESS && ban->name.len == sizeof(in6)) {
        memcpy(&in6, ban->name.ptr, sizeof(in6));
        look_address(&in6, address);
        who = slice_str(address);
    }
    json_array_append_new(list->bans, json_pack("{s:s, s:o, s:o, s:o, s:s}", "as", ban_names[ban->kind], "who",
                                                view_text(who), "reason", view_text(ban->reason), "until",
                                                view_time(ban->until_ms == UINT64_MAX ? 0 : ban->until_ms), "node",
                                                list->b->config->node_name));
}

#define BANS_A_SLICE 256u

struct bans {
    json_t *list; /* owned */
    size_t at;
};

static void *begin_bans(struct broker *b, const json_t *question)
{
    struct bans *bans = calloc(1, sizeof(*bans));

    (void)b;
    (void)question;
    return bans;
}

static enum inquiry_progress step_bans(struct broker *b, void *work, struct inquiry_out *out)
{
    struct bans *bans = work;

    if (b->shard->index != CONTROL_SHARD) {
        return INQUIRY_DONE;
    }
    if (!bans->list) {
        bans->list = json_array();
        if (!bans->list) {
            return INQUIRY_FAILED;
        }
        ban_each(b->node->auth->bans, b->shard->wall_ms, take_ban, &(struct ban_list_out){b, bans->list});
        return INQUIRY_MORE;
    }
    for (unsigned n = 0; n < BANS_A_SLICE && bans->at < json_array_size(bans->list); n++) {
        json_t *ban = json_array_get(bans->list, bans->at++);
        if (desk_put(out, desk_text(ban, "who"), json_incref(ban)) != INQUIRY_DONE) {
            return INQUIRY_FAILED;
        }
    }
    return bans->at < json_array_size(bans->list) ? INQUIRY_MORE : INQUIRY_DONE;
}

static void end_bans(struct broker *b, void *work)
{
    struct bans *bans = work;

    (void)b;
    json_decref(bans->list);
    free(bans);
}

bool desk_address(const char *text, struct in6_addr *ret_address)
{
    struct in_addr four;

    if (inet_pton(AF_INET, text, &four) == 1) {
        *ret_address = (struct in6_addr){{{0}}};
        ret_address->s6_addr[10] = ret_address->s6_addr[11] = 0xff;
        memcpy(&ret_address->s6_addr[12], &four, sizeof(four));
        return true;
    }
    return inet_pton(AF_INET6, text, ret_address) == 1;
}

static void *begin_small(struct broker *b, const json_t *question)
{
    (void)b;
    return json_incref((json_t *)question);
}

static void end_small(struct broker *b, void *work)
{
    (void)b;
    json_decref(work);
}

/* Add a ban, or take it away. */
static enum inquiry_progress step_ban(struct broker *b, void *work, struct inquiry_out *out)
{
    const json_t *q = work;
    struct ban_list *list = b->node->auth->bans;
    int kind = desk_ban_kind(desk_text(q, "as"));
    struct slice who = desk_text(q, "who");
    uint64_t until_ms = desk_number(q, "until_ms");
    struct in6_addr address;

    if (b->shard->index != CONTROL_SHARD || kind < 0 || who.len == 0) {
        return INQUIRY_DONE;
    }
    if (kind == BAN_ADDRESS) {
        if (!desk_address(json_string_value(json_object_get(q, "who")), &address)) {
            return INQUIRY_DONE;
        }
        who = ban_address(&address);
    }
    int rc = json_is_true(json_object_get(q, "remove"))
                 ? ban_remove(list, (enum ban_kind)kind, who)
                 : ban_add(list, (enum ban_kind)kind, who, until_ms ? until_ms : UINT64_MAX, desk_text(q, "reason"));
    if (rc == 0) {
        return desk_put(out, SLICE("done"), json_object());
    }
    return rc == -ENOENT ? INQUIRY_DONE : INQUIRY_FAILED;
}

/* ---- the log ---- */

static enum inquiry_progress step_log(struct broker *b, void *work, struct inquiry_out *out)
{
    const json_t *q = work;
    int level = desk_log_level(desk_text(q, "level"));

    if (b->shard->index != CONTROL_SHARD) {
        return INQUIRY_DONE;
    }
    if (level >= 0) {
        log_setup(STDERR_FILENO, (enum log_level)level, (enum log_format)b->config->log_format);
        log_event(LOG_WARN, "log_level", {"level", LOG_STR(levels[level])}, {"reason", LOG_STR("an operator's word")});
    }
    return desk_put(out, slice_str(b->config->node_name),
                    json_pack("{s:s, s:s}", "node", b->config->node_name, "level", levels[log_level_now()]));
}

/* ---- reload ---- */

struct reloading {
    bool asked;
};

static void *begin_reload(struct broker *b, const json_t *question)
{
    (void)b;
    (void)question;
    return calloc(1, sizeof(struct reloading));
}

/* "a, b" as a list. */
static json_t *split(const char *text)
{
    json_t *list = json_array();

    while (*text) {
        size_t len = strcspn(text, ", ");
        if (len > 0) {
            json_array_append_new(list, json_stringn(text, len));
        }
        text += len + strspn(text + len, ", ");
    }
    return list;
}

static enum inquiry_progress step_reload(struct broker *b, void *work, struct inquiry_out *out)
{
    struct reloading *r = work;

    if (b->shard->index != CONTROL_SHARD) {
        return INQUIRY_DONE;
    }
    if (!r->asked) {
        r->asked = true;
        reload_ask(b);
        return INQUIRY_IDLE;
    }
    struct reload_outcome *outcome = reload_taken(b);
    if (!outcome) {
        return INQUIRY_IDLE;
    }
    json_t *object = json_pack("{s:b, s:o}", "reloaded", outcome->done, "restart_needed", split(outcome->restart));
    if (object && !outcome->done) {
        json_object_set_new(object, "error", json_string(outcome->error));
    }
    free(outcome);
    return desk_put(out, slice_str(b->config->node_name), object);
}

static void end_reload(struct broker *b, void *work)
{
    (void)b;
    free(work);
}

/* ---- draining ---- */

static enum inquiry_progress step_drain(struct broker *b, void *work, struct inquiry_out *out)
{
    const json_t *q = work, *rate = json_object_get(q, "rate");
    struct slice op = desk_text(q, "op");

    if (b->shard->index != CONTROL_SHARD) {
        return INQUIRY_DONE;
    }
    if (slice_eq(op, SLICE("begin"))) {
        drain_begin(b->node, rate ? (uint32_t)desk_number(q, "rate") : b->config->drain.rate,
                    desk_number(q, "wait_ms"));
    } else if (slice_eq(op, SLICE("stop"))) {
        drain_stop(b->node);
    }
    struct drain_state state = drain_state(b->node);
    return desk_put(out, slice_str(b->config->node_name),
                    json_pack("{s:s, s:s, s:f, s:I, s:I, s:I}", "node", b->config->node_name, "state",
                              drain_stage_name(state.stage), "wait_seconds_left", (double)state.wait_left_ms / 1000,
                              "rate", (json_int_t)state.rate, "sent_away", (json_int_t)state.sent, "connections",
                              (json_int_t)state.left));
}

const struct desk_kind desk_drain = {begin_small, step_drain, end_small};
const struct desk_kind desk_reload = {begin_reload, step_reload, end_reload};
const struct desk_kind desk_listeners = {begin_small, step_listeners, end_small};
const struct desk_kind desk_bans = {begin_bans, step_bans, end_bans};
const struct desk_kind desk_ban = {begin_small, step_ban, end_small};
const struct desk_kind desk_log = {begin_small, step_log, end_small};
