/* Each allocation of the links fails once, from the first dialling to messages both ways: a connection may be lost over
 * it, but no message, and none comes twice. */
#include "tests/lib/alloc_fail.h"

#include "broker/peer/peer_hello.c"
#include "broker/peer/peer_link.c"
#include "broker/peer/peer_wire.c"
#include "cluster/link_flow.c"
#include "proto/base/buf.c"
#include "proto/wire/wire.c"

#undef malloc
#undef calloc
#undef realloc
#undef aligned_alloc
#include "tests/unit/broker/peer/peer_fixture.h"

static struct node a, b;

/* Put a frame, again if there was no memory for it. */
static void insist(struct peer_link *link, unsigned lane, size_t more)
{
    int rc = put_next(link, lane, more);

    CHECK(rc == 0 || rc == -ENOMEM);
    CHECK(rc == 0 || put_next(link, lane, more) == 0);
}

/* Returns whether the failure was reached. period: each such one fails. */
static bool story(unsigned fail_at)
{
    fixture_now_ns = UINT64_C(1000000000000);
    clock_set(&fixture_clock);
    log_setup(STDERR_FILENO, LOG_ERROR, LOG_TEXT);
    node_start(&a, 1, 1, 2, 0);
    node_start(&b, 2, 1, 2, 0);
    alloc_fail_at = fail_at;
    struct peer_link *out = peer_dial(&a.rooms[1].peer, &b.terms.node_id, &b.address);
    if (!out) {
        CHECK(alloc_fail_at == 0);
        out = dial_to(&a, 1, &b, &b.address);
    }
    for (unsigned i = 0; i < 40; i++) {
        insist(out, i % LINK_KEPT_LANES, i * 400);
        pass(STEP_MS);
        if (b.rooms[1].last) {
            insist(b.rooms[1].last, i % LINK_KEPT_LANES, i * 300);
        }
    }
    UNTIL(all_came(&a.rooms[1].dialled, &b.rooms[1].accepted) && all_came(&b.rooms[1].accepted, &a.rooms[1].dialled));
    CHECK(a.rooms[1].dialled.missing + b.rooms[1].accepted.missing == 0);
    CHECK(a.rooms[1].dialled.reset == 0 && b.rooms[1].accepted.ended == 0);
    CHECK(knocking(&a) + knocking(&b) == 0);
    bool reached = alloc_fail_at == 0;
    alloc_fail_at = 0;
    node_end(&b);
    node_end(&a);
    clock_set(NULL);
    return reached;
}

static void test_each_allocation(void)
{
    unsigned n = 1;

    while (story(n)) {
        n++;
    }
    CHECK(n > 20);
}

UNIT_MAIN("broker/peer, memory", {"each allocation", test_each_allocation})
