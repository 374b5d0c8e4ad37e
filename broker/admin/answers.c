/* Questions that are answered at once, or a few things a turn. */
#include <stdlib.h>

#include "broker/admin/desk.h"
#include "broker/admin/view.h"
#include "broker/flow/operate.h"

#define KICKS_A_SLICE 32u

/* What has no other state than its question. */
struct asked {
    const json_t *question; /* borrowed */
    size_t at;
};

static void *begin_asked(struct broker *b, const json_t *question)
{
    struct asked *a = calloc(1, sizeof(*a));

    (void)b;
    if (a) {
        a->question = question;
    }
    return a;
}

static void end_asked(struct broker *b, void *work)
{
    (void)b;
    free(work);
}

static enum inquiry_progress put(struct inquiry_out *out, const char *name, uint64_t number, json_t *object)
{
    struct buf text = {0};
    enum inquiry_progress progress = INQUIRY_FAILED;

    if (view_write(object, &text) == 0) {
        rows_write(&out->rows, &(struct row){.number = number, .name = slice_str(name), .text = buf_slice(&text)});
        progress = INQUIRY_DONE;
    }
    buf_deinit(&text);
    return progress;
}

static enum inquiry_progress step_client(struct broker *b, void *work, struct inquiry_out *out)
{
    const struct asked *a = work;
    struct slice id = desk_text(a->question, "id");
    struct session *session = look_find(b, id);
    const struct mishap *m = mishap_find(b, broker_hash(b, id));
    enum inquiry_progress progress = INQUIRY_DONE;

    if (session) {
        progress = put(out, "session", session->since_s, view_client(b, session, true));
    }
    if (m && progress == INQUIRY_DONE) {
        progress = put(out, "mishap", m->at_ms, view_mishap(m));
    }
    return progress;
}

static enum inquiry_progress step_kick(struct broker *b, void *work, struct inquiry_out *out)
{
    struct asked *a = work;
    const json_t *ids = json_object_get(a->question, "ids"), *id;
    bool end = json_is_true(json_object_get(a->question, "end"));

    for (unsigned n = 0; n < KICKS_A_SLICE && (id = json_array_get(ids, a->at)) != NULL; n++, a->at++) {
        if (!json_is_string(id)) {
            continue;
        }
        struct slice name = slice_of(json_string_value(id), json_string_length(id));
        enum operate_kicked kicked = operate_kick(b, name, end);
        if (kicked != OPERATE_UNKNOWN) {
            out->count++;
            rows_write(&out->rows, &(struct row){.number = kicked, .name = name});
        }
    }
    return a->at < json_array_size(ids) ? INQUIRY_MORE : INQUIRY_DONE;
}

static enum inquiry_progress step_message(struct broker *b, void *work, struct inquiry_out *out)
{
    const struct asked *a = work;
    struct message *m = operate_retained(b, desk_text(a->question, "topic"));

    return m ? put(out, "message", 0, view_retained(m, true)) : INQUIRY_DONE;
}

static enum inquiry_progress step_node(struct broker *b, void *work, struct inquiry_out *out)
{
    const struct asked *a = work;

    if (b->shard->index != CONTROL_SHARD) {
        return INQUIRY_DONE;
    }
    return put(out, b->config->node_name, 0, view_node(b, json_is_true(json_object_get(a->question, "metrics"))));
}

static enum inquiry_progress step_alarms(struct broker *b, void *work, struct inquiry_out *out)
{
    (void)work;
    json_t *alarms = b->shard->index == CONTROL_SHARD ? view_alarms(b) : NULL, *alarm;
    enum inquiry_progress progress = INQUIRY_DONE;
    size_t i;

    json_array_foreach(alarms, i, alarm)
    {
        if (progress == INQUIRY_DONE) {
            progress = put(out, b->config->node_name, i, json_incref(alarm));
        }
    }
    json_decref(alarms);
    return progress;
}

const struct desk_kind desk_client = {begin_asked, step_client, end_asked};
const struct desk_kind desk_kick = {begin_asked, step_kick, end_asked};
const struct desk_kind desk_message = {begin_asked, step_message, end_asked};
const struct desk_kind desk_node = {begin_asked, step_node, end_asked};
const struct desk_kind desk_alarms = {begin_asked, step_alarms, end_asked};
