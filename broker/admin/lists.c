/* Lists of a shard: its sessions, or its retained messages, are walked a slice a turn; the best rows are kept, and
 * their objects are made at the end, some a turn. */
#include <errno.h>
#include <stdlib.h>

#include "broker/admin/desk.h"
#include "broker/admin/view.h"
#include "broker/flow/operate.h"
#include "proto/mqtt/topic.h"

#define SESSIONS_A_SLICE 1024u
#define STEPS_A_SLICE 512u /* of a cursor of retained messages; subscriptions in one slice */
#define OBJECTS_A_SLICE 32u
#define KEEP_MAX 100000u

enum client_sort { BY_NAME, BY_QUEUE, BY_INFLIGHT, BY_DROPPED, BY_RECEIVED, BY_SENT, BY_CONNECTED_AT };

struct list_work {
    struct broker *b;
    const json_t *question; /* borrowed */
    struct rows rows;
    struct look_walk walk;
    struct retained_cursor *cursor; /* DESK_RETAINED */
    enum client_sort by;
    bool text, failed, walked;
    uint64_t count;
    uint32_t written;
    unsigned slice;  /* subscriptions looked at in this one */
    struct buf name; /* scratch */
    struct buf object;
    /* filters; empty or 0: none */
    struct slice user, address, like_id, like_user, listener, client_id, topic, match_topic, share;
    uint64_t proto_ver;
    int connected; /* -1: either */
    int qos;       /* -1: any */
};

static void read_bound(const json_t *question, const char *field, struct row *ret_row, bool *ret_has)
{
    const json_t *bound = json_object_get(question, field), *name = json_array_get(bound, 1);

    *ret_has = json_is_string(name);
    if (*ret_has) {
        ret_row->number = (uint64_t)json_integer_value(json_array_get(bound, 0));
        ret_row->name = slice_of(json_string_value(name), json_string_length(name));
    }
}

static enum client_sort sort_of(struct slice by)
{
    static const char *const names[] = {[BY_NAME] = "",
                                        [BY_QUEUE] = "queue",
                                        [BY_INFLIGHT] = "inflight",
                                        [BY_DROPPED] = "dropped",
                                        [BY_RECEIVED] = "received",
                                        [BY_SENT] = "sent",
                                        [BY_CONNECTED_AT] = "connected_at"};

    for (unsigned i = 0; i < COUNT_OF(names); i++) {
        if (slice_eq(by, slice_str(names[i]))) {
            return (enum client_sort)i;
        }
    }
    return BY_NAME;
}

static struct list_work *begin_list(struct broker *b, const json_t *q, bool combine)
{
    struct list_work *w = calloc(1, sizeof(*w));
    uint64_t keep = desk_number(q, "keep");
    const json_t *connected = json_object_get(q, "connected"), *qos = json_object_get(q, "qos");

    if (!w) {
        return NULL;
    }
    w->b = b;
    w->question = q;
    w->by = sort_of(desk_text(q, "by"));
    w->text = json_is_true(json_object_get(q, "text"));
    w->walk.group = b->shard->index;
    rows_init(&w->rows, &(struct rows_order){.keep = (uint32_t)(keep < KEEP_MAX ? keep : KEEP_MAX),
                                             .by_number = w->by != BY_NAME && !combine,
                                             .descending = json_is_true(json_object_get(q, "desc")),
                                             .combine = combine,
                                             .key = &b->node->key});
    read_bound(q, "lo", &w->rows.lo, &w->rows.has_lo);
    read_bound(q, "hi", &w->rows.hi, &w->rows.has_hi);
    w->user = desk_text(q, "username");
    w->address = desk_text(q, "ip_address");
    w->like_id = desk_text(q, "like_clientid");
    w->like_user = desk_text(q, "like_username");
    w->listener = desk_text(q, "listener");
    w->client_id = desk_text(q, "clientid");
    w->topic = desk_text(q, "topic");
    w->match_topic = desk_text(q, "match_topic");
    w->share = desk_text(q, "share");
    w->proto_ver = desk_number(q, "proto_ver");
    w->connected = json_is_boolean(connected) ? json_is_true(connected) : -1;
    w->qos = json_is_integer(qos) ? (int)json_integer_value(qos) : -1;
    return w;
}

static void end_list(struct broker *b, void *work)
{
    struct list_work *w = work;

    (void)b;
    rows_deinit(&w->rows);
    look_walk_end(&w->walk);
    retained_cursor_close(w->cursor);
    buf_deinit(&w->name);
    buf_deinit(&w->object);
    free(w);
}

static void offer(struct list_work *w, uint64_t number, struct slice name, struct slice text)
{
    if (rows_offer(&w->rows, &(struct row){.number = number, .name = name, .text = text}) != 0) {
        w->failed = true;
    }
}

/* A row whose object is made now: the thing itself is at hand, later it would have to be found again. */
static void offer_object(struct list_work *w, struct slice name, json_t *(*make)(struct list_work *, const void *),
                         const void *of)
{
    w->count++;
    if (!rows_wants(&w->rows, &(struct row){.name = name})) {
        return;
    }
    w->object.len = 0;
    if (w->text && view_write(make(w, of), &w->object) != 0) {
        w->failed = true;
        return;
    }
    offer(w, 0, name, buf_slice(&w->object));
}

/* ---- clients ---- */

static bool has_part(struct slice s, struct slice part)
{
    return part.len == 0 || (s.len >= part.len && memmem(s.ptr, s.len, part.ptr, part.len));
}

static bool client_fits(const struct list_work *w, const struct session *s)
{
    const struct principal *p = s->principal;
    const struct conn *conn = s->front;
    struct slice user = p ? p->user : SLICE("");
    char address[LOOK_ADDRESS] = "";

    if ((w->connected >= 0 && w->connected != (conn != NULL)) || !has_part(session_client_id(s), w->like_id) ||
        !has_part(user, w->like_user) || (w->user.len > 0 && !slice_eq(user, w->user)) ||
        (w->proto_ver > 0 && (!conn || conn->version != w->proto_ver)) ||
        (w->client_id.len > 0 && !slice_eq(session_client_id(s), w->client_id))) {
        return false;
    }
    if (w->listener.len > 0) {
        const char *listener = conn ? conn->listener->name : p && p->listener ? p->listener : "";
        if (!slice_eq(w->listener, slice_str(listener))) {
            return false;
        }
    }
    if (w->address.len > 0) {
        if (conn || p) {
            look_address(conn ? &conn->peer : &p->address, address);
        }
        return slice_eq(w->address, slice_str(address));
    }
    return true;
}

static uint64_t client_number(const struct list_work *w, const struct session *s)
{
    const struct conn *conn = s->front;

    switch (w->by) {
    case BY_NAME:
        return 0;
    case BY_QUEUE:
        return session_waiting(s);
    case BY_INFLIGHT:
        return s->queue ? s->queue->inflight : 0;
    case BY_DROPPED:
        return s->dropped;
    case BY_RECEIVED:
        return conn ? conn->recv_msg : 0;
    case BY_SENT:
        return conn ? conn->send_msg : 0;
    case BY_CONNECTED_AT:
        return conn ? s->since_s : 0;
    }
    return 0;
}

static bool visit_client(void *arg, struct session *s)
{
    struct list_work *w = arg;

    if (client_fits(w, s)) {
        w->count++;
        offer(w, client_number(w, s), session_client_id(s), SLICE(""));
    }
    return !w->failed;
}

static void *begin_clients(struct broker *b, const json_t *question)
{
    return begin_list(b, question, false);
}

/* The objects of those that are kept; who has gone meanwhile is left out. */
static enum inquiry_progress write_rows(struct broker *b, struct list_work *w, struct inquiry_out *out, bool clients)
{
    for (unsigned n = 0; w->written < w->rows.count; n++) {
        if (out->rows.len > INQUIRY_PART_BYTES || (w->text && clients && n == OBJECTS_A_SLICE)) {
            return INQUIRY_MORE;
        }
        struct row row = w->rows.kept[w->written++]->row;
        if (w->text && clients) {
            struct session *session = look_find(b, row.name);
            w->object.len = 0;
            if (!session) {
                continue;
            }
            if (view_write(view_client(b, session, false), &w->object) != 0) {
                return INQUIRY_FAILED;
            }
            row.text = buf_slice(&w->object);
        }
        rows_write(&out->rows, &row);
    }
    return INQUIRY_DONE;
}

static enum inquiry_progress step_sessions(struct broker *b, struct list_work *w, struct inquiry_out *out,
                                           look_visit *visit)
{
    if (w->walked) {
        return write_rows(b, w, out, visit == visit_client);
    }
    w->slice = 0;
    enum look_progress progress = look_sessions(b, &w->walk, SESSIONS_A_SLICE, visit, w);
    if (w->failed || w->name.failed || w->object.failed || progress == LOOK_NO_MEMORY) {
        return INQUIRY_FAILED;
    }
    if (progress == LOOK_DONE) {
        w->walked = true;
        out->count = w->count;
    }
    return INQUIRY_MORE;
}

static enum inquiry_progress step_clients(struct broker *b, void *work, struct inquiry_out *out)
{
    return step_sessions(b, work, out, visit_client);
}

/* ---- subscriptions and topics ---- */

static void put_filter(struct buf *name, const struct look_subscription *s)
{
    if (s->share.len > 0) {
        buf_put(name, SLICE("$share/"));
        buf_put(name, s->share);
        buf_put(name, SLICE("/"));
    }
    buf_put(name, s->filter);
}

static bool subscription_fits(const struct list_work *w, const struct look_subscription *s)
{
    return (w->qos < 0 || w->qos == s->options.qos) && (w->share.len == 0 || slice_eq(w->share, s->share)) &&
           (w->topic.len == 0 || slice_eq(w->topic, s->filter)) &&
           (w->match_topic.len == 0 || mqtt_filter_matches(s->filter, w->match_topic));
}

struct pair {
    struct list_work *work;
    const struct session *session;
    const struct look_subscription *subscription;
};

static json_t *make_subscription(struct list_work *w, const void *of)
{
    const struct pair *pair = of;

    return view_subscription(w->b, pair->session, pair->subscription);
}

static void take_subscription(void *arg, const struct look_subscription *s)
{
    struct pair *pair = arg;
    struct list_work *w = pair->work;

    w->slice++;
    if (!subscription_fits(w, s)) {
        return;
    }
    w->name.len = 0;
    buf_put(&w->name, session_client_id(pair->session));
    buf_u8(&w->name, 0);
    put_filter(&w->name, s);
    if (w->name.failed || w->name.len > UINT16_MAX) { /* two texts of the greatest length */
        w->name.len = w->name.len > UINT16_MAX ? UINT16_MAX : w->name.len;
    }
    pair->subscription = s;
    offer_object(w, buf_slice(&w->name), make_subscription, pair);
}

static bool visit_subscriptions(void *arg, struct session *session)
{
    struct list_work *w = arg;

    if (w->client_id.len == 0 || slice_eq(w->client_id, session_client_id(session))) {
        look_subscriptions(session, take_subscription, &(struct pair){.work = w, .session = session});
    }
    return !w->failed && w->slice < STEPS_A_SLICE;
}

static enum inquiry_progress step_subscriptions(struct broker *b, void *work, struct inquiry_out *out)
{
    return step_sessions(b, work, out, visit_subscriptions);
}

static void take_topic(void *arg, const struct look_subscription *s)
{
    struct list_work *w = arg;

    w->slice++;
    if (subscription_fits(w, s)) {
        w->name.len = 0;
        put_filter(&w->name, s);
        uint32_t before = w->rows.count;
        offer(w, 1, buf_slice(&w->name), SLICE(""));
        w->count += w->rows.count != before;
    }
}

static bool visit_topics(void *arg, struct session *session)
{
    struct list_work *w = arg;

    look_subscriptions(session, take_topic, w);
    return !w->failed && w->slice < STEPS_A_SLICE;
}

static void *begin_topics(struct broker *b, const json_t *question)
{
    return begin_list(b, question, true);
}

/* How many there are is known exactly while all of them are kept; of more, the table knows those without a share. */
static enum inquiry_progress step_topics(struct broker *b, void *work, struct inquiry_out *out)
{
    struct list_work *w = work;
    enum inquiry_progress progress = step_sessions(b, w, out, visit_topics);

    if (out->count > 0 && w->rows.count == w->rows.order.keep &&
        w->topic.len + w->match_topic.len + w->share.len == 0 && topic_tree_filter_count(b->tree) > out->count) {
        out->count = topic_tree_filter_count(b->tree);
    }
    return progress;
}

/* ---- retained messages ---- */

static json_t *make_retained(struct list_work *w, const void *of)
{
    (void)w;
    return view_retained(of, false);
}

static void *begin_retained(struct broker *b, const json_t *question)
{
    struct list_work *w = begin_list(b, question, false);
    struct slice filter = desk_text(question, "filter");

    if (w && retained_cursor_open(b->retained, filter.len > 0 ? filter : SLICE("#"), retained_sequence(b->retained),
                                  &w->cursor) != 0) {
        end_list(b, w);
        return NULL;
    }
    return w;
}

static enum inquiry_progress step_retained(struct broker *b, void *work, struct inquiry_out *out)
{
    struct list_work *w = work;
    struct message *found[64];

    if (w->walked) {
        return write_rows(b, w, out, false);
    }
    unsigned n = retained_cursor_next(w->cursor, b->shard->wall_ms, STEPS_A_SLICE, found, COUNT_OF(found), &w->walked);
    for (unsigned i = 0; i < n; i++) {
        offer_object(w, message_topic(found[i]), make_retained, found[i]);
        message_unref(found[i]);
    }
    if (w->walked) {
        out->count = w->count;
    }
    return w->failed || w->object.failed ? INQUIRY_FAILED : INQUIRY_MORE;
}

const struct desk_kind desk_clients = {begin_clients, step_clients, end_list};
const struct desk_kind desk_subscriptions = {begin_clients, step_subscriptions, end_list};
const struct desk_kind desk_topics = {begin_topics, step_topics, end_list};
const struct desk_kind desk_retained = {begin_retained, step_retained, end_list};
