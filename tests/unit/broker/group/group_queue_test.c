/* group_queue_test.c -- messages to a client: which acknowledgement ends what, and what happens when the queue is full.
 */
#include "tests/unit/broker/group/group_fixture.h"

#include <errno.h>

/* One message of a session, sent or not, then a row of acknowledgements. Letters: A PUBACK, J PUBREC with a failure, R
 * PUBREC, C PUBCOMP, D discard. Each has a wanted answer: '.' good, '?' no such identifier, '!' the wrong kind. */
static const struct {
    const char *name;
    uint8_t qos;
    bool sent;
    const char *given, *want;
    bool gone;           /* in the end */
    const char *settled; /* 's' where the share is told */
} acks[] = {
    {"qos 1", 1, true, "A", ".", true, "s"},
    {"qos 1, twice", 1, true, "AA", ".?", true, "s-"},
    {"qos 1, PUBREC", 1, true, "R", "!", false, "-"},
    {"qos 1, failed PUBREC", 1, true, "J", "!", false, "-"},
    {"qos 1, PUBCOMP", 1, true, "C", "!", false, "-"},
    {"qos 1, not sent yet", 1, false, "A", "?", false, "-"},
    {"qos 1, given up before it was sent", 1, false, "DA", ".?", true, "s-"},
    {"qos 1, given up after", 1, true, "DA", ".?", true, "s-"},
    {"qos 2", 2, true, "RC", "..", true, "-s"},
    {"qos 2, PUBREC twice", 2, true, "RRC", "...", true, "--s"},
    {"qos 2, PUBCOMP twice", 2, true, "RCC", "..?", true, "-s-"},
    {"qos 2, PUBCOMP first", 2, true, "CRC", "!..", true, "--s"},
    {"qos 2, PUBACK", 2, true, "A", "!", false, "-"},
    {"qos 2, PUBACK after PUBREC", 2, true, "RA", ".!", false, "--"},
    {"qos 2, failed PUBREC ends it [MQTT-4.4.0-2]", 2, true, "JC", ".?", true, "s-"},
    {"qos 2, not sent yet", 2, false, "RJC", "???", false, "---"},
    {"qos 2, given up between", 2, true, "RDC", "..?", true, "-s-"},
};

static struct outcome give(struct fixture *f, struct session *s, char what, uint16_t packet_id)
{
    static const struct {
        char letter;
        enum command_type type;
    } types[] = {{'A', COMMAND_ACK}, {'J', COMMAND_REJECTED}, {'R', COMMAND_RECEIVED}, {'C', COMMAND_COMPLETE}};

    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (types[i].letter == what) {
            return acknowledge(f, s, types[i].type, packet_id);
        }
    }
    return fixture_apply(f, &(struct command){.type = COMMAND_DISCARD, .session = s, .number = s->queue->head});
}

static void test_acks(void)
{
    for (size_t i = 0; i < COUNT_OF(acks); i++) {
        struct fixture f;
        fixture_init(&f);
        struct session *s = claim(&f, "c", false, 60, NULL).session;
        struct outcome out = publish(&f, s, SLICE("x"), acks[i].qos, 77);
        CHECK_CASE(acks[i].name, out.error == 0 && !out.replaced_oldest && out.share_settled == 0);
        uint16_t id = acks[i].sent ? send_next(s) : queue_packet_id(s->queue->head);
        CHECK_CASE(acks[i].name, id != 0);
        for (size_t k = 0; acks[i].given[k]; k++) {
            out = give(&f, s, acks[i].given[k], id);
            int want = acks[i].want[k] == '.' ? 0 : acks[i].want[k] == '?' ? -ENOENT : -EPROTO;
            CHECK_CASE(acks[i].name, out.error == want);
            CHECK_CASE(acks[i].name, out.share_settled == (acks[i].settled[k] == 's' ? 77 : 0));
        }
        CHECK_CASE(acks[i].name, queue_empty(s->queue) == acks[i].gone);
        CHECK_CASE(acks[i].name, s->queue->inflight == (!acks[i].gone && acks[i].sent));
        fixture_deinit(&f);
    }
}

/* Identifiers that stand for nothing: of a session without a queue, 0, and the neighbours of one that is in use. */
static void test_unknown_ids(void)
{
    static const char kinds[] = "AJRC";
    struct fixture f;
    fixture_init(&f);
    struct session *s = claim(&f, "c", false, 60, NULL).session;

    for (const char *kind = kinds; *kind; kind++) {
        CHECK(give(&f, s, *kind, 1).error == -ENOENT);
    }
    CHECK(s->queue == NULL); /* whoever acknowledges nothing costs nothing */
    publish(&f, s, SLICE("x"), 2, 0);
    uint16_t id = send_next(s);
    for (const char *kind = kinds; *kind; kind++) {
        CHECK(give(&f, s, *kind, 0).error == -ENOENT);
        CHECK(give(&f, s, *kind, (uint16_t)(id + 1)).error == -ENOENT);
        CHECK(give(&f, s, *kind, 65535).error == -ENOENT);
    }
    CHECK(s->queue->inflight == 1);
    fixture_deinit(&f);
}

/* [MQTT-4.4.0-1]: after a lost connection everything that was in flight is sent again, and may be acknowledged again.
 */
static void test_detach_rewinds(void)
{
    struct fixture f;
    fixture_init(&f);
    struct session *s = claim(&f, "c", false, 60, NULL).session;

    for (int i = 0; i < 4; i++) {
        publish(&f, s, SLICE("x"), 2, 0);
    }
    uint16_t first = send_next(s), second = send_next(s);
    acknowledge(&f, s, COMMAND_RECEIVED, first);
    detach(&f, s);
    CHECK(s->queue->inflight == 0 && session_waiting(s) == 2);
    claim(&f, "c", false, 60, NULL);
    CHECK(acknowledge(&f, s, COMMAND_COMPLETE, first).error ==
          -ENOENT); /* PUBREL was not sent on this connection yet */
    CHECK(send_next(s) == first && send_next(s) == second);
    CHECK(acknowledge(&f, s, COMMAND_COMPLETE, first).error == 0);
    CHECK(acknowledge(&f, s, COMMAND_RECEIVED, second).error == 0);
    CHECK(send_next(s) != 0 && send_next(s) != 0 && send_next(s) == 0);
    CHECK(s->queue->inflight == 3 && session_waiting(s) == 0);
    fixture_deinit(&f);
}

/* Messages up to the limits go in; the next one does not, or pushes the oldest waiting one out. */
static const struct {
    const char *name;
    uint32_t waiting_max;
    unsigned bytes_max;  /* in messages of 10 bytes of payload */
    unsigned bytes_more; /* and so many bytes besides */
    unsigned sent;       /* of the first ones */
    unsigned before;     /* messages of 10 bytes that are there */
    unsigned payload;    /* of the one that comes then */
    bool drop_oldest;
    int want_error;
    bool want_replaced;
} limits[] = {
    {"room for one more", 3, 100, 0, 0, 2, 10, false, 0, false},
    {"count, the new one goes", 3, 100, 0, 0, 3, 10, false, -ENOBUFS, false},
    {"count, the oldest goes", 3, 100, 0, 0, 3, 10, true, 0, true},
    {"count, in flight ones are not counted", 3, 100, 0, 2, 5, 10, false, -ENOBUFS, false},
    {"count, in flight ones do not go", 3, 100, 0, 2, 5, 10, true, 0, true},
    {"count, all but two in flight", 3, 100, 0, 3, 5, 10, false, 0, false},
    {"bytes, exactly", 100, 4, 0, 0, 3, 10, false, 0, false},
    {"bytes, one too many", 100, 4, 0, 0, 3, 11, false, -ENOBUFS, false},
    {"bytes, one too many, the oldest goes", 100, 4, 0, 0, 3, 11, true, 0, true},
    {"bytes, in flight ones are counted", 100, 4, 0, 2, 4, 10, false, -ENOBUFS, false},
    {"bytes, all in flight: none can go", 100, 4, 0, 4, 4, 10, true, -ENOBUFS, false},
    {"bytes, the oldest is not enough: it stays", 100, 4, 9, 0, 4, 20, true, -ENOBUFS, false},
    {"bytes, the oldest is just enough", 100, 4, 10, 0, 4, 20, true, 0, true},
    {"larger than all the room", 100, 4, 0, 0, 1, 4000, true, -ENOBUFS, false},
    {"larger than all the room, nothing there", 100, 4, 0, 0, 0, 4000, true, -ENOBUFS, false},
    {"both limits", 3, 3, 0, 0, 3, 10, true, 0, true},
};

static void test_limits(void)
{
    const uint64_t one = sizeof(struct message) + 1 + 10;
    static const uint8_t payload[4000];

    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        const char *name = limits[i].name;
        struct fixture f;
        fixture_init(&f);
        struct session *s = claim(&f, "c", false, 60, NULL).session;
        for (unsigned k = 0; k < limits[i].before; k++) {
            CHECK_CASE(name, publish(&f, s, slice_of(payload, 10), 1, 100 + k).error == 0);
        }
        for (unsigned k = 0; k < limits[i].sent; k++) {
            CHECK_CASE(name, send_next(s) != 0);
        }
        f.context.waiting_max = limits[i].waiting_max;
        f.context.waiting_bytes_max = limits[i].bytes_max * one + limits[i].bytes_more;
        f.context.drop_oldest = limits[i].drop_oldest;
        uint64_t before = s->queue ? s->queue->bytes : 0;
        struct outcome out = publish(&f, s, slice_of(payload, limits[i].payload), 1, 99);
        CHECK_CASE(name, out.error == limits[i].want_error);
        CHECK_CASE(name, out.replaced_oldest == limits[i].want_replaced);
        CHECK_CASE(name, out.share_settled == (out.replaced_oldest ? 100 + limits[i].sent : 0));
        CHECK_CASE(name, s->queue->bytes <= f.context.waiting_bytes_max);
        CHECK_CASE(name, session_waiting(s) <= limits[i].waiting_max);
        CHECK_CASE(name, !out.error || s->queue->bytes == before);
        CHECK_CASE(name, s->queue->inflight == limits[i].sent);
        fixture_deinit(&f);
    }
}

/* A limit that is lowered while more than that waits: nothing is thrown away for it, and the queue does not grow. */
static void test_limit_lowered(void)
{
    for (int drop_oldest = 0; drop_oldest < 2; drop_oldest++) {
        struct fixture f;
        fixture_init(&f);
        struct session *s = claim(&f, "c", false, 60, NULL).session;
        for (int i = 0; i < 10; i++) {
            publish(&f, s, SLICE("0123456789"), 1, 0);
        }
        uint64_t before = s->queue->bytes;
        f.context.waiting_max = 5;
        f.context.waiting_bytes_max = before / 2;
        f.context.drop_oldest = drop_oldest;
        for (int i = 0; i < 10; i++) {
            CHECK(publish(&f, s, SLICE("9876543210"), 1, 0).error == (drop_oldest ? 0 : -ENOBUFS));
            CHECK(publish(&f, s, SLICE("98765432100"), 1, 0).error == -ENOBUFS);
            CHECK(session_waiting(s) == 10 && s->queue->bytes == before);
        }
        uint64_t number;
        const struct queue_entry *e = queue_next(s->queue, 1, &number);
        CHECK(slice_eq(message_payload(e->message), drop_oldest ? SLICE("9876543210") : SLICE("0123456789")));
        fixture_deinit(&f);
    }
}

/* A queue of three rows, 0, 2 and 3: number 1 has gone back to its share. Full; and the oldest gives way to each new
 * one. */
static struct session *full_and_cold(struct fixture *f)
{
    fixture_init(f);
    f->context.waiting_max = 3;
    f->context.drop_oldest = true;
    struct session *s = claim(f, "c", false, 60, NULL).session;
    struct message *m = make_message(SLICE("t"), SLICE("x"), MESSAGE_NEVER);

    s->front = NULL;
    s->queue = queue_new();
    CHECK(queue_restore(s->queue, 0, 4, 3, 3 * message_size(m), 0) == 0);
    message_unref(m);
    return s;
}

/* What of the rows is not dropped comes into memory. */
static void read_back(struct session *s)
{
    static const uint64_t rows[] = {0, 2, 3};
    struct queue_page_entry page[COUNT_OF(rows)];
    uint32_t count = 0;

    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        if (rows[i] >= s->queue->cold && rows[i] < s->queue->cold_end) {
            struct message *m = make_message(SLICE("t"), SLICE("x"), MESSAGE_NEVER);
            page[count++] = (struct queue_page_entry){.number = rows[i], .entry = {.message = m, .qos = 1}};
        }
    }
    if (s->queue->cold != s->queue->cold_end) {
        CHECK(queue_load(s->queue, page, count, s->queue->cold_end) == 0);
    }
}

/* What a full queue has dropped while its rows were cold, number by number, is dropped again when the log is read. */
static void test_dropped_while_cold(void)
{
    struct fixture live, later;
    struct session *s = full_and_cold(&live), *again = full_and_cold(&later);
    struct message *m = make_message(SLICE("t"), SLICE("x"), MESSAGE_NEVER);

    read_back(again);
    for (unsigned i = 0; i < 3; i++) {
        struct command c = {.type = COMMAND_PUBLISH, .session = s, .publish = {.message = m, .qos = 1}};
        struct outcome out = fixture_apply(&live, &c);
        struct decided decided = {.number = out.number, .dropped = out.dropped};
        CHECK(out.error == 0);
        c.session = again;
        c.decided = &decided;
        CHECK(fixture_apply(&later, &c).error == 0);
        CHECK(again->queue->tail == s->queue->tail);
    }
    read_back(s); /* only then it is known what they were */
    CHECK(session_waiting(again) == session_waiting(s) && again->queue->bytes == s->queue->bytes);
    message_unref(m);
    fixture_deinit(&live);
    fixture_deinit(&later);
}

UNIT_MAIN("broker/group/group (queue)", {"acknowledgements", test_acks}, {"unknown identifiers", test_unknown_ids},
          {"detach rewinds", test_detach_rewinds}, {"limits", test_limits}, {"limit lowered", test_limit_lowered},
          {"dropped while cold", test_dropped_while_cold})
