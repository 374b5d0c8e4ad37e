/* session_test.c -- a session begins empty and takes all that is its own with it. */
#include "broker/session/session.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

static void test_new(void)
{
    static const size_t lengths[] = {1,  2,    23,
                                     24, 1000, 65535}; /* of client ids; the broker itself makes up what is empty */

    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        uint8_t *id = malloc(lengths[i]);
        memset(id, 'c', lengths[i]);
        struct session *s = session_new(slice_of(id, lengths[i]), 77, 5);
        CHECK(s != NULL);
        CHECK(slice_eq(session_client_id(s), slice_of(id, lengths[i])));
        memset(id, 'x', lengths[i]);
        CHECK(session_client_id(s).ptr[lengths[i] - 1] == 'c'); /* its own copy */
        CHECK(s->hash == 77 && s->uid == 5);
        CHECK(s->front == NULL && s->queue == NULL && s->will == NULL);
        CHECK(list_empty(&s->subscriptions) && list_empty(&s->shares) && s->subscription_count == 0);
        CHECK(s->due_index == SESSION_NOT_DUE);
        CHECK(session_waiting(s) == 0);
        session_free(s);
        free(id);
    }
    session_free(NULL);
}

/* What a session leaves behind in others' hands is only a count: its queue, its identifiers and its will go. */
static void test_free(void)
{
    struct message *m = make_message(SLICE("t"), SLICE("x"), MESSAGE_NEVER);
    struct session *s = session_new(SLICE("c"), 1, 1);

    s->queue = queue_new();
    for (int i = 0; i < 10; i++) {
        CHECK(queue_push(s->queue, &(struct queue_item){.message = m, .qos = 2, .ids = SLICE("\x0b\x01")}) == 0);
    }
    CHECK(session_waiting(s) == 10);
    CHECK(packet_ids_add(&s->qos2, 9) == 0);
    s->will = calloc(1, sizeof(*s->will));
    s->will->message = message_ref(m);
    CHECK(atomic_load(&m->refs) == 12);
    session_free(s);
    CHECK(atomic_load(&m->refs) == 1);
    message_unref(m);
}

static void test_share_texts(void)
{
    struct session_share *share = calloc(1, sizeof(*share) + 7);

    memcpy(share->text, "namea/#", 7);
    share->name_len = 4;
    share->filter_len = 3;
    CHECK(slice_eq(session_share_name(share), SLICE("name")));
    CHECK(slice_eq(session_share_filter(share), SLICE("a/#")));
    free(share);
}

UNIT_MAIN("broker/session/session", {"new", test_new}, {"free", test_free}, {"share texts", test_share_texts})
