#include "broker/admin/desk.h"

#include <stdlib.h>

static const struct desk_kind *const kinds[DESK_KINDS] = {
    [DESK_CLIENTS] = &desk_clients, [DESK_SUBSCRIPTIONS] = &desk_subscriptions,
    [DESK_TOPICS] = &desk_topics,   [DESK_RETAINED] = &desk_retained,
    [DESK_CLIENT] = &desk_client,   [DESK_KICK] = &desk_kick,
    [DESK_MESSAGE] = &desk_message, [DESK_NODE] = &desk_node,
    [DESK_ALARMS] = &desk_alarms,   [DESK_LISTENERS] = &desk_listeners,
    [DESK_BANS] = &desk_bans,       [DESK_BAN] = &desk_ban,
    [DESK_LOG] = &desk_log,         [DESK_RELOAD] = &desk_reload,
    [DESK_TRACE] = &desk_trace,     [DESK_DRAIN] = &desk_drain,
};

struct desk_work {
    const struct desk_kind *kind;
    json_t *question; /* owned; the kind's work may borrow from it */
    void *own;
};

static void *begin(struct broker *b, unsigned kind, struct slice question)
{
    struct desk_work *w = kind < DESK_KINDS && kinds[kind] ? calloc(1, sizeof(*w)) : NULL;

    if (!w) {
        return NULL;
    }
    w->kind = kinds[kind];
    w->question = json_loadb((const char *)question.ptr, question.len, JSON_ALLOW_NUL, NULL);
    w->own = json_is_object(w->question) ? w->kind->begin(b, w->question) : NULL;
    if (!w->own) {
        json_decref(w->question);
        free(w);
        return NULL;
    }
    return w;
}

static enum inquiry_progress step(struct broker *b, void *work, struct inquiry_out *out)
{
    struct desk_work *w = work;

    return w->kind->step(b, w->own, out);
}

static void end(struct broker *b, void *work)
{
    struct desk_work *w = work;

    w->kind->end(b, w->own);
    json_decref(w->question);
    free(w);
}

const struct inquiry_desk admin_desk = {begin, step, end};

struct slice desk_text(const json_t *question, const char *field)
{
    const json_t *value = json_object_get(question, field);

    return json_is_string(value) ? slice_of(json_string_value(value), json_string_length(value)) : SLICE("");
}

uint64_t desk_number(const json_t *question, const char *field)
{
    json_int_t n = json_integer_value(json_object_get(question, field));

    return n > 0 ? (uint64_t)n : 0;
}
