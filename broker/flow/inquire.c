/* Asking: who is asked, who has answered, and until when it is waited for. */
#include "broker/flow/inquire.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/flow/inquire_inside.h"
#include "proto/base/log.h"
#include "proto/wire/peer.pb-c.h"

void inquiry_free(struct inquiry *inquiry)
{
    free((void *)inquiry->terms.question.ptr);
    free(inquiry);
}

static void mask_clear(struct spread_mask *mask, unsigned n)
{
    mask->bits[n / 64] &= ~(1ull << n % 64);
}

static bool mask_empty(const struct spread_mask *mask)
{
    return (mask->bits[0] | mask->bits[1]) == 0;
}

static void answered(struct inquiry *inquiry, unsigned neighbour, bool whole)
{
    if (spread_mask_has(&inquiry->asked, neighbour)) {
        mask_clear(&inquiry->asked, neighbour);
        mask_clear(&inquiry->unsaid, neighbour);
        if (!whole) {
            spread_mask_set(&inquiry->missing, neighbour);
        }
    }
}

static int say(struct peer_link *link, const struct inquiry *inquiry, bool cancel)
{
    Tern__Inquiry message = TERN__INQUIRY__INIT;

    message.token = inquiry->token;
    message.kind = inquiry->terms.kind;
    message.wait_ms = inquiry->terms.wait_ms;
    message.cancel = cancel;
    if (!cancel) {
        message.question.data = (uint8_t *)inquiry->terms.question.ptr;
        message.question.len = inquiry->terms.question.len;
    }
    return peer_put_message(link, LINK_CONTROL, FRAME_INQUIRY, &message.base);
}

/* Those whose links are open by now. */
static void say_unsaid(struct broker *b, struct inquiry *inquiry)
{
    for (unsigned n = 0; n < NEIGHBOURS_MAX && !mask_empty(&inquiry->unsaid); n++) {
        struct peer_link *link = spread_mask_has(&inquiry->unsaid, n) ? b->cluster->links[n] : NULL;
        if (!link || !link->open) {
            continue;
        }
        if (!(link->features & PEER_FEATURE_INQUIRY)) {
            answered(inquiry, n, false);
        } else if (say(link, inquiry, false) == 0) {
            mask_clear(&inquiry->unsaid, n);
        }
    }
}

/* Who is to be asked. Returns whether it is anybody. */
static bool choose(struct broker *b, const struct inquiry_terms *terms, struct inquiry *inquiry, bool *ret_here)
{
    *ret_here = terms->here || !terms->node || strcmp(terms->node, b->config->node_name) == 0;
    for (unsigned n = 0; b->cluster && !terms->here && n < NEIGHBOURS_MAX; n++) {
        const struct neighbour *neighbour = &b->node->cluster->neighbours[n];
        if (neighbour->alive && (!terms->node || strcmp(terms->node, neighbour->name) == 0)) {
            spread_mask_set(&inquiry->asked, n);
        }
    }
    inquiry->unsaid = inquiry->asked;
    return *ret_here || !mask_empty(&inquiry->asked);
}

struct inquiry *inquire(struct broker *b, const struct inquiry_terms *terms, int *ret_error)
{
    struct inquiries *all = inquiries_of(b);
    struct inquiry *inquiry = all ? calloc(1, sizeof(*inquiry)) : NULL;
    uint8_t *question = inquiry ? malloc(terms->question.len + 1) : NULL;
    bool here;

    *ret_error = -ENOMEM;
    if (!question) {
        free(inquiry);
        return NULL;
    }
    if (terms->question.len > 0) {
        memcpy(question, terms->question.ptr, terms->question.len);
    }
    inquiry->terms = *terms;
    inquiry->terms.question = slice_of(question, terms->question.len);
    inquiry->terms.node = NULL; /* the caller's */
    inquiry->token = ++all->next;
    inquiry->due_ms = b->shard->now_ms + terms->wait_ms;
    if (!choose(b, terms, inquiry, &here)) {
        *ret_error = -ENOENT;
        inquiry_free(inquiry);
        return NULL;
    }
    if (here) {
        inquiry->errand = errand_new(b, terms->kind, inquiry->terms.question, terms->wait_ms);
        if (!inquiry->errand) {
            inquiry_free(inquiry);
            return NULL;
        }
        inquiry->errand->inquiry = inquiry;
    }
    list_append(&all->asked, &inquiry->in_all);
    b->shard->busy = true;
    return inquiry;
}

/* Nobody is to work for it any more. */
static void call_off(struct broker *b, struct inquiry *inquiry)
{
    if (inquiry->errand) {
        inquiry->here_missing = true;
        errand_end(b, inquiry->errand);
    }
    for (unsigned n = 0; n < NEIGHBOURS_MAX; n++) {
        if (spread_mask_has(&inquiry->asked, n)) {
            struct peer_link *link = b->cluster->links[n];
            if (link && link->open && !spread_mask_has(&inquiry->unsaid, n)) {
                (void)say(link, inquiry, true); /* else its own deadline ends it */
            }
            answered(inquiry, n, false);
        }
    }
}

void inquire_cancel(struct broker *b, struct inquiry *inquiry)
{
    inquiry->over = true;
    call_off(b, inquiry);
}

static void inquiry_turn(struct broker *b, struct inquiry *inquiry)
{
    if (!inquiry->over && !mask_empty(&inquiry->unsaid)) {
        say_unsaid(b, inquiry);
    }
    if (!inquiry->over && b->shard->now_ms >= inquiry->due_ms) {
        call_off(b, inquiry);
    }
    if (inquiry->errand || !mask_empty(&inquiry->asked)) {
        return;
    }
    if (!inquiry->over) {
        inquiry->over = true;
        inquiry->terms.done(inquiry->terms.context);
    }
    list_remove(&inquiry->in_all);
    inquiry_free(inquiry);
}

void inquire_turn(struct broker *b)
{
    inquire_work_turn(b);
    if (!b->asked) {
        return;
    }
    inquire_errands_turn(b);
    for (struct list *at = b->asked->asked.next, *next; at != &b->asked->asked; at = next) {
        struct inquiry *inquiry = CONTAINER_OF(at, struct inquiry, in_all);
        next = at->next;
        inquiry_turn(b, inquiry);
    }
}

int inquire_taken(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    int n = neighbour_find(b->node->cluster, &link->id);
    ProtobufCMessage *decoded;
    int rc = wire_decode(&tern__inquiry_answer__descriptor, body, &link->room->arena, &decoded);

    if (rc || n < 0 || !b->asked) {
        return rc;
    }
    const Tern__InquiryAnswer *answer = (const Tern__InquiryAnswer *)decoded;
    for (struct list *at = b->asked->asked.next; at != &b->asked->asked; at = at->next) {
        struct inquiry *inquiry = CONTAINER_OF(at, struct inquiry, in_all);
        if (inquiry->token != answer->token || !spread_mask_has(&inquiry->asked, (unsigned)n)) {
            continue;
        }
        bool last = answer->last, failed = answer->failed; /* the arena may be another's after the call */
        if (!inquiry->over && (answer->rows.len > 0 || answer->count > 0)) {
            inquiry->terms.part(inquiry->terms.context, (unsigned)n, answer->count,
                                slice_of(answer->rows.data, answer->rows.len));
        }
        if (last) {
            answered(inquiry, (unsigned)n, !failed);
        }
        break;
    }
    return 0;
}

void inquire_neighbour_gone(struct broker *b, unsigned neighbour)
{
    if (!b->asked) {
        return;
    }
    for (struct list *at = b->asked->asked.next; at != &b->asked->asked; at = at->next) {
        answered(CONTAINER_OF(at, struct inquiry, in_all), neighbour, false);
    }
}

const char *inquire_node_name(const struct broker *b, unsigned from)
{
    if (from == INQUIRY_HERE) {
        return b->config->node_name;
    }
    return b->cluster && from < NEIGHBOURS_MAX ? b->node->cluster->neighbours[from].name : "";
}

const char *inquire_missing(const struct broker *b, const struct inquiry *inquiry, unsigned *at)
{
    while (*at < NEIGHBOURS_MAX) {
        unsigned n = (*at)++;
        if (spread_mask_has(&inquiry->missing, n)) {
            return inquire_node_name(b, n);
        }
    }
    if (*at == NEIGHBOURS_MAX) {
        (*at)++;
        return inquiry->here_missing ? b->config->node_name : NULL;
    }
    return NULL;
}
