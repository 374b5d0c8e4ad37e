/* Answering: every shard works on its part of a question, a slice a turn; the control shard gives what comes of it to
 * who has asked. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/dispatch.h"
#include "broker/flow/inquire_inside.h"
#include "proto/wire/peer.pb-c.h"

/* ---- on each shard ---- */

static void free_parts(struct list *parts)
{
    struct list *at;

    while ((at = list_pop(parts)) != NULL) {
        free(CONTAINER_OF(at, struct inquiry_part, in_list));
    }
}

static void work_free(struct broker *b, struct inquiry_work *w)
{
    if (w->work) {
        b->node->desk->end(b, w->work);
    }
    list_remove(&w->in_shard);
    free_parts(&w->unsent);
    free(w->end);
    free(w->note);
    free(w);
}

static void work_begin(struct broker *b, struct inquiry_note *note, struct inquiry_part *end)
{
    struct inquiry_work *w = calloc(1, sizeof(*w));
    struct mail mail = {.kind = MAIL_INQUIRED, .ptr = end};

    if (!w) {
        free(note);
        end->failed = true;
        broker_answer(b, CONTROL_SHARD, &mail);
        return;
    }
    w->note = note;
    w->end = end;
    list_init(&w->unsent);
    list_append(&b->inquiries, &w->in_shard);
    if (b->node->desk) {
        w->work = b->node->desk->begin(b, note->kind, slice_of(note->question, note->len));
    }
    end->failed = !w->work;
    b->shard->busy = true;
}

static void work_over(struct broker *b, struct inquiry_work *w, bool failed)
{
    if (w->work) {
        b->node->desk->end(b, w->work);
        w->work = NULL;
    }
    w->end->failed |= failed;
    list_append(&w->unsent, &w->end->in_list);
    w->end = NULL;
}

/* What one slice has brought becomes a part. */
static int put_part(struct inquiry_work *w, const struct inquiry_out *out)
{
    struct inquiry_part *part;

    if (out->rows.len == 0 && out->count == 0) {
        return 0;
    }
    part = out->rows.failed ? NULL : malloc(sizeof(*part) + out->rows.len);
    if (!part) {
        return -ENOMEM;
    }
    *part = (struct inquiry_part){.number = w->note->number, .count = out->count, .len = out->rows.len};
    if (part->len > 0) {
        memcpy(part->rows, out->rows.ptr, part->len);
    }
    list_append(&w->unsent, &part->in_list);
    return 0;
}

static enum inquiry_progress work_step(struct broker *b, struct inquiry_work *w)
{
    struct inquiry_out out = {.count = 0};
    enum inquiry_progress progress = w->work ? b->node->desk->step(b, w->work, &out) : INQUIRY_DONE;

    if (progress != INQUIRY_FAILED && put_part(w, &out) != 0) {
        progress = INQUIRY_FAILED;
    }
    buf_deinit(&out.rows);
    if (progress == INQUIRY_DONE || progress == INQUIRY_FAILED) {
        work_over(b, w, progress == INQUIRY_FAILED);
    }
    return progress;
}

/* Returns whether everything has left. */
static bool work_post(struct broker *b, struct inquiry_work *w)
{
    while (!list_empty(&w->unsent)) {
        struct list *at = w->unsent.next;
        struct mail mail = {.kind = MAIL_INQUIRED, .ptr = CONTAINER_OF(at, struct inquiry_part, in_list)};
        list_remove(at);
        if (shard_post(b->shard, CONTROL_SHARD, &mail) != 0) {
            at->next = w->unsent.next; /* back to the front */
            at->prev = &w->unsent;
            w->unsent.next->prev = at;
            w->unsent.next = at;
            return false;
        }
    }
    return true;
}

/* One of those that have much to do gets a slice; which, changes from turn to turn. */
static void work_turn(struct broker *b)
{
    struct inquiry_work *worked = NULL;

    for (struct list *at = b->inquiries.next, *next; at != &b->inquiries; at = next) {
        struct inquiry_work *w = CONTAINER_OF(at, struct inquiry_work, in_shard);
        next = at->next;
        if (!work_post(b, w)) {
            continue;
        }
        if (!w->end) {
            work_free(b, w);
            continue;
        }
        if (worked) {
            b->shard->busy = true;
            break;
        }
        enum inquiry_progress progress = work_step(b, w);
        (void)work_post(b, w);
        worked = progress == INQUIRY_IDLE ? NULL : w;
    }
    if (worked) {
        list_remove(&worked->in_shard);
        list_append(&b->inquiries, &worked->in_shard);
        b->shard->busy = true;
    }
}

static void work_end(struct broker *b, uint64_t number)
{
    for (struct list *at = b->inquiries.next; at != &b->inquiries; at = at->next) {
        struct inquiry_work *w = CONTAINER_OF(at, struct inquiry_work, in_shard);
        if (w->note->number == number) {
            work_free(b, w);
            return;
        }
    }
}

/* ---- on the control shard ---- */

struct inquiries *inquiries_of(struct broker *b)
{
    if (!b->asked && (b->asked = calloc(1, sizeof(*b->asked))) != NULL) {
        list_init(&b->asked->asked);
        list_init(&b->asked->errands);
    }
    return b->asked;
}

static struct errand *find_errand(const struct broker *b, uint64_t number)
{
    for (struct list *at = b->asked->errands.next; at != &b->asked->errands; at = at->next) {
        struct errand *e = CONTAINER_OF(at, struct errand, in_all);
        if (e->number == number) {
            return e;
        }
    }
    return NULL;
}

static void to_shard(struct broker *b, struct errand *e, unsigned shard, unsigned kind, struct slice question)
{
    struct inquiry_note *note = malloc(sizeof(*note) + question.len);
    struct inquiry_part *end = malloc(sizeof(*end));
    struct mail mail = {.kind = MAIL_INQUIRE, .ptr = note, .ptr2 = end};

    if (note && end) {
        *note = (struct inquiry_note){.number = e->number, .kind = kind, .len = (uint32_t)question.len};
        if (question.len > 0) {
            memcpy(note->question, question.ptr, question.len);
        }
        *end = (struct inquiry_part){.number = e->number, .last = true};
        if (shard_post(b->shard, shard, &mail) == 0) {
            e->left++;
            return;
        }
    }
    free(note);
    free(end);
    e->failed = true;
}

struct errand *errand_new(struct broker *b, unsigned kind, struct slice question, uint32_t wait_ms)
{
    struct inquiries *all = inquiries_of(b);
    struct errand *e = all && all->errand_count < ERRANDS_MAX ? calloc(1, sizeof(*e)) : NULL;

    if (!e) {
        return NULL;
    }
    e->number = ++all->next;
    e->due_ms = b->shard->now_ms + wait_ms;
    list_init(&e->parts);
    list_append(&all->errands, &e->in_all);
    all->errand_count++;
    for (unsigned i = 0; i < b->shard->count; i++) {
        to_shard(b, e, i, kind, question);
    }
    return e;
}

void errand_end(struct broker *b, struct errand *e)
{
    struct mail mail = {.kind = MAIL_INQUIRE_END, .a = e->number};

    for (unsigned i = 0; i < b->shard->count && e->left > 0; i++) {
        broker_answer(b, i, &mail);
    }
    if (e->inquiry) {
        e->inquiry->errand = NULL;
    }
    list_remove(&e->in_all);
    free_parts(&e->parts);
    free(e);
    b->asked->errand_count--;
}

/* A part for another node, or the word that it was the last. Returns false when the link has no room now. */
static bool send_part(struct broker *b, const struct errand *e, const struct inquiry_part *part, bool last)
{
    int n = b->cluster ? neighbour_find(b->node->cluster, &e->asker) : -1;
    struct peer_link *link = n >= 0 ? b->cluster->links[n] : NULL;
    Tern__InquiryAnswer answer = TERN__INQUIRY_ANSWER__INIT;

    if (!link || !link->open || link_flow_held(&link->flow, LINK_CONTROL) > INQUIRY_LANE_BYTES) {
        return false;
    }
    answer.token = e->token;
    answer.last = last;
    answer.failed = last && e->failed;
    if (part) {
        answer.count = part->count;
        answer.rows.len = part->len;
        answer.rows.data = (uint8_t *)part->rows;
    }
    return peer_put_message(link, LINK_CONTROL, FRAME_INQUIRY_ANSWER, &answer.base) == 0;
}

/* Returns whether it is freed. */
static bool errand_turn(struct broker *b, struct errand *e)
{
    if (e->due_ms <= b->shard->now_ms || e->waiting > ERRAND_WAITING_MAX) {
        e->failed = true;
        (void)send_part(b, e, NULL, true);
        errand_end(b, e);
        return true;
    }
    while (!list_empty(&e->parts)) {
        struct inquiry_part *part = CONTAINER_OF(e->parts.next, struct inquiry_part, in_list);
        if (!send_part(b, e, part, false)) {
            return false;
        }
        e->waiting -= part->len;
        list_remove(&part->in_list);
        free(part);
    }
    if (e->left == 0 && send_part(b, e, NULL, true)) {
        errand_end(b, e);
        return true;
    }
    return false;
}

/* A shard has answered. */
static void inquired(struct broker *b, struct inquiry_part *part)
{
    struct errand *e = b->asked ? find_errand(b, part->number) : NULL;

    if (!e) { /* nobody waits any more */
        free(part);
        return;
    }
    e->left -= part->last;
    e->failed |= part->failed;
    struct inquiry *inquiry = e->inquiry;
    if (!inquiry && (part->len > 0 || part->count > 0)) {
        e->waiting += part->len;
        list_append(&e->parts, &part->in_list);
        return;
    }
    if (inquiry && !inquiry->over && (part->len > 0 || part->count > 0)) {
        inquiry->terms.part(inquiry->terms.context, INQUIRY_HERE, part->count, slice_of(part->rows, part->len));
        e = find_errand(b, part->number); /* unless that was enough for who asks */
    }
    free(part);
    if (inquiry && e && e->left == 0) {
        inquiry->here_missing |= e->failed;
        errand_end(b, e);
    }
}

/* Another node asks, or does not any more. */
int inquire_take(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    struct inquiries *all = inquiries_of(b);
    ProtobufCMessage *decoded;
    int rc = wire_decode(&tern__inquiry__descriptor, body, &link->room->arena, &decoded);

    if (rc || !all) {
        return rc ? rc : -ENOMEM;
    }
    const Tern__Inquiry *asked = (const Tern__Inquiry *)decoded;
    if (asked->question.len > INQUIRY_QUESTION_MAX) {
        return -EPROTO;
    }
    if (asked->cancel) {
        for (struct list *at = all->errands.next; at != &all->errands; at = at->next) {
            struct errand *e = CONTAINER_OF(at, struct errand, in_all);
            if (!e->inquiry && e->token == asked->token && node_id_eq(&e->asker, &link->id)) {
                errand_end(b, e);
                break;
            }
        }
        return 0;
    }
    struct errand *e = errand_new(b, asked->kind, slice_of(asked->question.data, asked->question.len), asked->wait_ms);
    if (e) { /* else who asks learns it by its deadline */
        e->asker = link->id;
        e->token = asked->token;
    }
    return 0;
}

void inquire_errands_turn(struct broker *b)
{
    for (struct list *at = b->asked->errands.next, *next; at != &b->asked->errands; at = next) {
        struct errand *e = CONTAINER_OF(at, struct errand, in_all);
        next = at->next;
        if (!e->inquiry) {
            errand_turn(b, e);
        }
    }
}

void inquire_mail(struct broker *b, const struct mail *mail)
{
    if (mail->kind == MAIL_INQUIRE) {
        work_begin(b, mail->ptr, mail->ptr2);
    } else if (mail->kind == MAIL_INQUIRED) {
        inquired(b, mail->ptr);
    } else {
        work_end(b, mail->a);
    }
}

void inquire_work_turn(struct broker *b)
{
    if (!list_empty(&b->inquiries)) {
        work_turn(b);
    }
}

void inquire_stop(struct broker *b)
{
    struct inquiries *all = b->asked;
    struct list *at;

    while (!list_empty(&b->inquiries)) {
        work_free(b, CONTAINER_OF(b->inquiries.next, struct inquiry_work, in_shard));
    }
    while (all && (at = list_pop(&all->asked)) != NULL) {
        inquiry_free(CONTAINER_OF(at, struct inquiry, in_all));
    }
    while (all && (at = list_pop(&all->errands)) != NULL) {
        struct errand *e = CONTAINER_OF(at, struct errand, in_all);
        free_parts(&e->parts);
        free(e);
    }
    free(all);
    b->asked = NULL;
}
