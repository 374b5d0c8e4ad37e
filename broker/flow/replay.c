/* Retained messages for a new subscription (3.3.1.3), in pages, at the pace of the subscriber.
 *
 * They lie with the home shards of their topics. The subscriber's shard asks one after the other for a page, delivers
 * it when the client can take it, and asks for the next: no shard stalls, no queue overflows, however many there are.
 *
 * A retained message that is published while somebody subscribes must reach him one way or the other, and one published
 * after his SUBACK one way only. The route of the subscription is in place before the replay begins, but a publisher
 * that has not seen it yet may still have mail on its way to the topic's home. So a barrier goes first: each shard,
 * when the barrier's mail reaches it, mails every home on; when a home has heard from all, everything published before
 * the route was seen has been stored there, and it notes the number of the last one: the snapshot. What is set later
 * has been delivered live. Then comes the SUBACK, then the pages.
 *
 *     asker -- BARRIER --> each shard -- PASSED --> each home -- READY --> asker: SUBACK -- PULL --> home -- PAGE -->
 * asker ... */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"
#include "proto/mqtt/topic.h"

#define PAGE_MESSAGES 512u /* a page costs two wakes when it comes from another shard */
#define AHEAD 6u           /* messages that are asked for ahead */
#define AHEAD_BYTES 16u    /* from the beginning of the topic to the next line of the cache */
#define PULL_STEPS 512u    /* nodes visited in one go */
#define PAGES_A_TURN 2u    /* of one replay: the first may be what was left of the last */

enum replay_phase {
    REPLAY_BARRIER, /* READY from every home is awaited */
    REPLAY_TAKEN,   /* the snapshot is taken; the SUBACK has to leave first */
    REPLAY_MINE,    /* the asker may go on */
    REPLAY_ASKED,   /* PAGE is awaited */
    REPLAY_CLOSING, /* CLOSED is awaited */
};

struct replay {
    struct list in_broker;     /* of the asker: broker.replays */
    struct list in_ready;      /* of the asker: broker.replays_ready */
    struct replay *next;       /* of the same session */
    struct session *session;   /* NULL: no longer wanted */
    struct subscribe_job *job; /* to be answered; NULL: it has been, and need not wait */
    unsigned asker, shard_count;
    unsigned home, home_end; /* the one that is asked, and behind the last */
    unsigned homes_unready;
    enum replay_phase phase;
    struct subscription_options options;
    bool exact, done;               /* done: the present home has no more */
    uint8_t passes[SHARDS_MAX];     /* [h] is touched by shard h alone */
    uint64_t snapshots[SHARDS_MAX]; /* [h]: retained_sequence of shard h; the same */
    struct retained_cursor *cursor; /* touched by `home` while ASKED or CLOSING */
    uint64_t filter_hash;
    uint32_t filter_len;
    unsigned page_max, page_count, page_at;
    struct message *page[]; /* page_max of them; the filter's bytes follow */
};

static struct slice filter_of(const struct replay *r)
{
    return slice_of(r->page + r->page_max, r->filter_len);
}

static void replay_free(struct replay *r)
{
    list_remove(&r->in_broker);
    list_remove(&r->in_ready);
    while (r->page_at < r->page_count) {
        message_unref(r->page[r->page_at++]);
    }
    retained_cursor_close(r->cursor);
    free(r);
}

static void post(struct broker *b, struct replay *r, unsigned to, enum mail_kind kind)
{
    struct mail mail = {.kind = (uint16_t)kind, .ptr = r};

    broker_answer(b, to, &mail);
}

static void make_ready(struct broker *b, struct replay *r)
{
    if (list_empty(&r->in_ready)) {
        list_append(&b->replays_ready, &r->in_ready);
    }
}

/* The job need not wait for this replay any longer. */
static void answer_job(struct broker *b, struct replay *r)
{
    struct subscribe_job *job = r->job;

    r->job = NULL;
    if (job) {
        subscribe_settled(b, job, 0, 0);
    }
}

int replay_start(struct broker *b, struct session *session, struct slice filter,
                 const struct subscription_options *options, struct subscribe_job *job)
{
    bool exact = !mqtt_filter_has_wildcard(filter);
    unsigned page_max = exact ? 2 : PAGE_MESSAGES; /* with room left the page tells that it was the last */
    struct replay *r = calloc(1, sizeof(*r) + page_max * sizeof(r->page[0]) + filter.len);
    if (!r) {
        return -ENOMEM;
    }
    list_init(&r->in_ready);
    list_append(&b->replays, &r->in_broker);
    r->page_max = page_max;
    memcpy(r->page + page_max, filter.ptr, filter.len);
    r->filter_len = (uint32_t)filter.len;
    r->filter_hash = broker_hash(b, filter);
    r->session = session;
    r->job = job;
    r->options = *options;
    r->asker = b->shard->index;
    r->shard_count = b->shard->count;
    r->exact = exact;
    r->home = r->exact ? broker_home(b, r->filter_hash) : 0;
    r->home_end = r->exact ? r->home + 1 : b->shard->count;
    r->next = session->replays;
    session->replays = r;
    if (b->shard->count == 1) {
        r->phase = REPLAY_TAKEN;
        r->snapshots[0] = retained_sequence(b->retained);
        subscribe_settled(b, job, 0, 0);
        return 0;
    }
    r->homes_unready = r->home_end - r->home;
    for (unsigned i = 0; i < b->shard->count; i++) {
        post(b, r, i, MAIL_RETAINED_BARRIER);
    }
    return 0;
}

unsigned replay_release(struct broker *b, struct session *session, const struct subscribe_job *job)
{
    unsigned count = 0;

    for (struct replay *r = session->replays; r; r = r->next) {
        if (r->job == job) {
            assert(r->phase == REPLAY_TAKEN);
            r->phase = REPLAY_MINE;
            make_ready(b, r);
            count++;
        }
    }
    return count;
}

unsigned replay_disown(struct session *session, const struct subscribe_job *job)
{
    unsigned count = 0;

    for (struct replay *r = session->replays; r; r = r->next) {
        if (r->job == job) {
            r->job = NULL;
            if (r->phase == REPLAY_TAKEN) { /* it has answered once already */
                r->phase = REPLAY_MINE;
            } else {
                count++;
            }
        }
    }
    return count;
}

/* On the home that is asked: fill the page. Returns false when the steps ran out with nothing found. */
static bool pull(struct broker *b, struct replay *r)
{
    uint64_t now_ms = b->shard->wall_ms;

    r->page_at = r->page_count = 0;
    if (!r->cursor && retained_cursor_open(b->retained, filter_of(r), r->snapshots[b->shard->index], &r->cursor) != 0) {
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
        r->done = true;
        return true;
    }
    r->page_count = retained_cursor_next(r->cursor, now_ms, PULL_STEPS, r->page, r->page_max, &r->done);
    if (r->done) {
        retained_cursor_close(r->cursor);
        r->cursor = NULL;
    }
    return r->page_count > 0 || r->done;
}

/* Whether the client can take one more without overflowing anything. */
static bool can_take(const struct broker *b, const struct session *session)
{
    const struct conn *conn = session->front;
    uint32_t waiting_max = b->config->limits.max_queued_messages / 2;

    return conn && conn->state == CONN_OPEN && conn_out_bytes(conn) < b->config->limits.max_outbox_bytes / 4 &&
           session_waiting(session) < (waiting_max ? waiting_max : 1);
}

static void deliver_one(struct broker *b, struct replay *r, struct message *m)
{
    struct publication pub;
    uint8_t id[8];
    struct buf ids = {.ptr = id, .cap = sizeof(id)};

    if (r->options.id) {
        buf_u8(&ids, MQTT_PROP_SUBSCRIPTION_ID);
        buf_varint(&ids, r->options.id);
    }
    publication_of_message(&pub, m);
    struct delivery how = {.ids = buf_slice(&ids), .qos = r->options.qos, .retain = true}; /* [MQTT311-3.3.1-8] */
    deliver(b, r->session, &pub, &how);
}

static void unlink_from_session(struct replay *r)
{
    struct replay *first = r->session->replays;

    if (first == r) {
        r->session->replays = r->next;
    } else {
        while (first->next != r) {
            first = first->next;
        }
        first->next = r->next;
    }
    r->session = NULL;
}

/* Nobody wants it any more, and it is the asker's. */
static void give_up(struct broker *b, struct replay *r)
{
    list_remove(&r->in_ready);
    if (r->cursor && r->home != b->shard->index) {
        r->phase = REPLAY_CLOSING;
        post(b, r, r->home, MAIL_RETAINED_CLOSE);
        return;
    }
    replay_free(r);
}

/* The messages of a page from another shard are in that core's cache: ask for one before it is needed. */
static void look_ahead(const struct message *m)
{
    __builtin_prefetch(m, 1); /* its count of references is changed */
    __builtin_prefetch(m->bytes + AHEAD_BYTES);
}

/* Deliver what is there and fetch more, up to some pages. */
static void step(struct broker *b, struct replay *r)
{
    bool remote = r->home != b->shard->index;

    for (unsigned pages = 0; pages < PAGES_A_TURN; pages++) {
        while (r->page_at < r->page_count) {
            if (!can_take(b, r->session)) {
                answer_job(b, r);
                return; /* replay_wake brings it back */
            }
            if (remote && r->page_at + AHEAD < r->page_count) {
                look_ahead(r->page[r->page_at + AHEAD]);
            }
            struct message *m = r->page[r->page_at++];
            deliver_one(b, r, m);
            message_unref(m);
        }
        if (r->done) {
            r->done = false;
            if (++r->home == r->home_end) {
                unlink_from_session(r);
                answer_job(b, r);
                replay_free(r);
                return;
            }
        }
        if (r->home != b->shard->index) {
            r->phase = REPLAY_ASKED;
            post(b, r, r->home, MAIL_RETAINED_PULL);
            return;
        }
        pull(b, r);
    }
    answer_job(b, r); /* long: what the client sends next is not to wait for it */
    make_ready(b, r);
    b->shard->busy = true;
}

void replay_run(struct broker *b)
{
    struct list batch;
    struct list *at;

    list_init(&batch);
    list_splice(&batch, &b->replays_ready);
    while ((at = list_pop(&batch)) != NULL) {
        step(b, CONTAINER_OF(at, struct replay, in_ready));
    }
}

void replay_wake(struct broker *b, struct session *session)
{
    for (struct replay *r = session->replays; r; r = r->next) {
        if (r->phase == REPLAY_MINE && can_take(b, session)) {
            make_ready(b, r);
        }
    }
}

static void forget(struct broker *b, struct replay *r)
{
    unlink_from_session(r);
    answer_job(b, r);
    if (r->phase == REPLAY_MINE || r->phase == REPLAY_TAKEN) {
        give_up(b, r);
    } /* else when the answer comes */
}

void replay_forget(struct broker *b, struct session *session)
{
    while (session->replays) {
        forget(b, session->replays);
    }
}

void replay_cancel(struct broker *b, struct session *session, struct slice filter)
{
    for (struct replay *r = session->replays, *next; r; r = next) {
        next = r->next;
        if (slice_eq(filter_of(r), filter)) {
            forget(b, r);
        }
    }
}

/* The asker has it again. */
static void returned(struct broker *b, struct replay *r, enum replay_phase phase)
{
    r->phase = r->job ? phase : REPLAY_MINE;
    if (!r->session) {
        give_up(b, r);
    } else if (r->phase == REPLAY_MINE) {
        make_ready(b, r);
    } else {
        subscribe_settled(b, r->job, 0, 0); /* which comes back by replay_release */
    }
}

void replay_mail(struct broker *b, const struct mail *mail)
{
    struct replay *r = mail->ptr;

    switch (mail->kind) {
    case MAIL_RETAINED_BARRIER:
        for (unsigned h = r->exact ? r->home : 0, end = r->exact ? r->home + 1 : r->shard_count; h < end; h++) {
            post(b, r, h, MAIL_RETAINED_PASSED);
        }
        break;
    case MAIL_RETAINED_PASSED:
        if (++r->passes[b->shard->index] == r->shard_count) {
            r->snapshots[b->shard->index] = retained_sequence(b->retained);
            post(b, r, r->asker, MAIL_RETAINED_READY);
        }
        break;
    case MAIL_RETAINED_READY:
        if (--r->homes_unready == 0) {
            returned(b, r, REPLAY_TAKEN);
        }
        break;
    case MAIL_RETAINED_PULL:
        if (pull(b, r)) {
            post(b, r, r->asker, MAIL_RETAINED_PAGE);
        } else {
            post(b, r, b->shard->index, MAIL_RETAINED_PULL); /* go on in the next turn */
        }
        break;
    case MAIL_RETAINED_CLOSE:
        retained_cursor_close(r->cursor);
        r->cursor = NULL;
        post(b, r, r->asker, MAIL_RETAINED_CLOSED);
        break;
    case MAIL_RETAINED_PAGE:
        returned(b, r, REPLAY_MINE);
        break;
    case MAIL_RETAINED_CLOSED:
        replay_free(r);
        break;
    default:
        assert(!"a mail of a replay");
    }
}

void replay_deinit(struct broker *b)
{
    while (!list_empty(&b->replays)) {
        struct replay *r = CONTAINER_OF(b->replays.next, struct replay, in_broker);
        if (r->session) {
            unlink_from_session(r);
        }
        replay_free(r);
    }
}
