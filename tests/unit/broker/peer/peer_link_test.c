#include "tests/unit/broker/peer/peer_fixture.h"

static struct node a, b;
static struct middleman between;

static void begin(unsigned shards)
{
    fixture_now_ns = UINT64_C(1000000000000);
    clock_set(&fixture_clock);
    log_setup(STDERR_FILENO, LOG_ERROR, LOG_TEXT);
    node_start(&a, 1, 1, shards, 0);
    node_start(&b, 2, 1, shards, 0);
}

static void end(void)
{
    node_end(&b);
    node_end(&a);
    clock_set(NULL);
}

/* ---- between two nodes ---- */

static void test_both_directions(void)
{
    begin(2);
    struct peer_link *out[2] = {dial_to(&a, 1, &b, &b.address), dial_to(&b, 0, &a, &a.address)};
    struct notebook *said[2] = {&a.rooms[1].dialled, &b.rooms[0].dialled};
    struct notebook *heard[2] = {&b.rooms[1].accepted, &a.rooms[0].accepted};

    for (unsigned i = 0; i < 300; i++) {
        for (unsigned way = 0; way < 2; way++) {
            CHECK(put_next(out[way], i % LINK_LANES, i * 50) == 0);
        }
    }
    for (unsigned way = 0; way < 2; way++) {
        UNTIL(all_came(said[way], heard[way]) && heard[way]->frames == 300);
        CHECK(heard[way]->missing == 0 && said[way]->opened == 1 && heard[way]->opened == 1);
        CHECK(said[way]->reset == 0 && heard[way]->reset == 0 && said[way]->lost == 0);
    }
    /* The one who was dialled answers on the same link. */
    struct peer_link *back = b.rooms[1].last;
    CHECK(put_next(back, LINK_LIVE, 10) == 0);
    UNTIL(all_came(&b.rooms[1].accepted, &a.rooms[1].dialled));
    UNTIL(link_flow_held(&back->flow, LINK_LIVE) == 0); /* and is acknowledged */
    end();
}

/* Wherever the connection breaks, in either direction: nothing is lost, twice or out of order. */
static void test_cut_anywhere(void)
{
    begin(1);
    middleman_begin(&between, &b);
    struct peer_link *out = dial_to(&a, 0, &b, &between.address);

    UNTIL(out->open);
    for (unsigned cut = 1; cut < 600; cut += cut < 250 ? 1 : 37) {
        unsigned before = between.cuts;
        between.left[cut % 2] = cut;
        while (between.cuts == before) {
            for (unsigned lane = 0; lane < LINK_LANES; lane++) {
                CHECK(put_next(out, lane, cut % 7 * 30) == 0);
                CHECK(!b.rooms[0].last || put_next(b.rooms[0].last, lane, cut % 5 * 30) == 0);
            }
            pass(STEP_MS);
        }
    }
    UNTIL(all_came(&a.rooms[0].dialled, &b.rooms[0].accepted) && all_came(&b.rooms[0].accepted, &a.rooms[0].dialled));
    CHECK(a.rooms[0].dialled.reset == 0 && b.rooms[0].accepted.reset == 0 && b.rooms[0].accepted.ended == 0);
    CHECK(a.rooms[0].dialled.lost > 50 && a.rooms[0].dialled.opened > 50);
    middleman_end(&between);
    end();
}

/* The same in the midst of HELLO and of its answer. */
static void test_cut_in_the_greeting(void)
{
    begin(1);
    middleman_begin(&between, &b);
    struct peer_link *out = dial_to(&a, 0, &b, &between.address);

    for (unsigned cut = 1; cut < 60; cut++) {
        unsigned before = between.cuts;
        between.left[cut % 2] = cut;
        out->retry_ms = 0; /* it need not be patient */
        CHECK(put_next(out, LINK_LIVE, 3) == 0);
        UNTIL(between.cuts > before);
    }
    UNTIL(all_came(&a.rooms[0].dialled, &b.rooms[0].accepted));
    CHECK(a.rooms[0].dialled.reset + b.rooms[0].accepted.ended == 0);
    UNTIL(knocking(&a) + knocking(&b) == 0);
    middleman_end(&between);
    end();
}

/* Who was started anew knows nothing: everything is put anew, and numbers begin at 0 on both sides. */
static void test_restart(void)
{
    begin(1);
    struct peer_link *out = dial_to(&a, 0, &b, &b.address);
    struct notebook *said = &a.rooms[0].dialled;

    for (unsigned i = 0; i < 10; i++) {
        CHECK(put_next(out, LINK_LIVE, 100) == 0);
    }
    UNTIL(all_came(said, &b.rooms[0].accepted));
    uint16_t port = b.address.port;
    node_end(&b);
    UNTIL(said->lost == 1);
    CHECK(put_next(out, LINK_LIVE, 100) == 0); /* while nobody is there */
    node_start(&b, 2, 2, 1, port);
    UNTIL(said->reset == 1 && said->opened == 2);
    CHECK(out->boot == 2 && b.rooms[0].accepted.frames == 0);
    memset(said->told, 0, sizeof(said->told));
    CHECK(put_next(out, LINK_LIVE, 100) == 0 && put_next(out, LINK_CONTROL, 0) == 0);
    UNTIL(all_came(said, &b.rooms[0].accepted));
    /* And who has dialled: what it had accepted ends with it. */
    node_end(&a);
    node_start(&a, 1, 2, 1, 0);
    out = dial_to(&a, 0, &b, &b.address);
    memset(&b.rooms[0].accepted, 0, sizeof(b.rooms[0].accepted));
    CHECK(put_next(out, LINK_LIVE, 5) == 0);
    UNTIL(all_came(&a.rooms[0].dialled, &b.rooms[0].accepted));
    CHECK(b.rooms[0].accepted.ended == 1 && a.rooms[0].dialled.reset == 0);
    end();
}

/* It runs on, but took us for dead: the link is new to it. */
static void test_forgotten(void)
{
    begin(1);
    struct peer_link *out = dial_to(&a, 0, &b, &b.address);
    struct notebook *said = &a.rooms[0].dialled, *heard = &b.rooms[0].accepted;

    CHECK(put_next(out, LINK_LIVE, 5) == 0);
    UNTIL(all_came(said, heard));
    CHECK(put_next(b.rooms[0].last, LINK_LIVE, 5) == 0); /* so that this side has received something, too */
    UNTIL(all_came(heard, said));
    peer_forget(&b.rooms[0].peer, &a.terms.node_id, 1);
    CHECK(heard->ended == 1);
    memset(heard, 0, sizeof(*heard));
    UNTIL(said->reset == 1 && said->opened == 2);
    memset(said->told, 0, sizeof(said->told));
    CHECK(put_next(out, LINK_LIVE, 5) == 0);
    UNTIL(all_came(said, heard));
    /* Of an earlier start: this one is not meant. */
    peer_forget(&b.rooms[0].peer, &a.terms.node_id, 0);
    CHECK(heard->ended == 0);
    end();
}

static void test_drained(void)
{
    begin(1);
    struct peer_link *out = dial_to(&a, 0, &b, &b.address);
    struct notebook *said = &a.rooms[0].dialled;
    int rc;

    while ((rc = put_next(out, LINK_LIVE, FRAME_MAX - 4)) == 0) {
    }
    CHECK(rc == -ENOBUFS && said->drained == 0);
    CHECK(put_next(out, LINK_CONTROL, 10) == 0); /* another lane is not concerned */
    UNTIL(said->drained == 1);
    CHECK(link_flow_held(&out->flow, LINK_LIVE) <= out->flow.lanes[LINK_LIVE].bound / 2);
    CHECK(put_next(out, LINK_LIVE, 0) == 0);
    UNTIL(all_came(said, &b.rooms[0].accepted));
    CHECK(said->drained == 1);
    end();
}

/* What the other side cannot take now comes again; what makes no sense to it ends no more than the connection. */
static void test_frames_that_are_not_taken(void)
{
    static const struct {
        const char *name;
        int answer;
    } cases[] = {{"memory is out", -ENOMEM}, {"no sense", -EPROTO}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        begin(1);
        struct peer_link *out = dial_to(&a, 0, &b, &b.address);
        for (unsigned n = 0; n < 3; n++) {
            b.rooms[0].accepted.answers[b.rooms[0].accepted.answer_count++] = cases[i].answer;
        }
        for (unsigned n = 0; n < 8; n++) {
            CHECK_CASE(cases[i].name, put_next(out, n % LINK_KEPT_LANES, n * 100) == 0);
        }
        UNTIL(all_came(&a.rooms[0].dialled, &b.rooms[0].accepted));
        CHECK_CASE(cases[i].name, b.rooms[0].accepted.lost == 3 && a.rooms[0].dialled.lost == 3);
        CHECK_CASE(cases[i].name, b.rooms[0].accepted.frames == 8 && a.rooms[0].dialled.reset == 0);
        end();
    }
}

/* Nothing is heard for 3 s: the other side is gone, whatever its kernel says; and an idle link is not silent. */
static void test_silence(void)
{
    begin(1);
    middleman_begin(&between, &b);
    struct peer_link *out = dial_to(&a, 0, &b, &between.address);

    UNTIL(out->open);
    pass(10000);
    CHECK(out->open && a.rooms[0].dialled.lost == 0 && b.rooms[0].accepted.lost == 0);
    between.deaf = true;
    CHECK(put_next(out, LINK_LIVE, 10) == 0);
    pass(PEER_SILENCE_MS + 2 * PEER_BEAT_MS);
    CHECK(a.rooms[0].dialled.lost == 1 && b.rooms[0].accepted.lost == 1);
    middleman_cut(&between);
    between.deaf = false;
    UNTIL(out->open && all_came(&a.rooms[0].dialled, &b.rooms[0].accepted));
    middleman_end(&between);
    end();
}

/* Frames as long as may be come; longer ones end the connection before their bytes are kept. */
static void test_longest_frame(void)
{
    begin(1);
    struct peer_link *out = dial_to(&a, 0, &b, &b.address);

    CHECK(put_next(out, LINK_LIVE, FRAME_MAX - 4) == 0);
    CHECK(put_next(out, LINK_QOS0, FRAME_MAX - 4) == 0);
    UNTIL(all_came(&a.rooms[0].dialled, &b.rooms[0].accepted));
    CHECK(b.rooms[0].accepted.lost == 0);
    CHECK(put_next(out, LINK_QOS0, FRAME_MAX - 3) == 0);
    UNTIL(b.rooms[0].accepted.lost == 1 && out->open);
    CHECK(put_next(out, LINK_LIVE, 4) == 0);
    UNTIL(all_came(&a.rooms[0].dialled, &b.rooms[0].accepted));
    end();
}

/* It is somewhere else now; and where it was, another node lives, which does not take its link. */
static void test_moved(void)
{
    static struct node c;

    begin(1);
    struct peer_link *out = dial_to(&a, 0, &b, &b.address);
    UNTIL(out->open);
    node_start(&c, 3, 1, 1, 0);
    peer_redial(out, &c.address);
    CHECK(a.rooms[0].dialled.lost == 1);
    UNTIL(out->turned_away);
    CHECK(c.rooms[0].accepted.opened == 0);
    CHECK(put_next(out, LINK_LIVE, 1) == 0);
    peer_redial(out, &b.address);
    UNTIL(all_came(&a.rooms[0].dialled, &b.rooms[0].accepted) && out->open);
    CHECK(a.rooms[0].dialled.reset == 0 && !out->turned_away);
    node_end(&c);
    end();
}

UNIT_MAIN("broker/peer/peer_link", {"both directions, several shards", test_both_directions},
          {"cut at any byte", test_cut_anywhere}, {"cut in the greeting", test_cut_in_the_greeting},
          {"the other side was started anew", test_restart}, {"the other side has forgotten", test_forgotten},
          {"a full lane drains", test_drained}, {"frames that are not taken", test_frames_that_are_not_taken},
          {"silence", test_silence}, {"the longest frame", test_longest_frame}, {"moved", test_moved})
