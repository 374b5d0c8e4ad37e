/* Each allocation fails once while a neighbour comes, is linked, and is told: it is linked all the same, later. */
#include "tests/lib/alloc_fail.h"

#include "broker/flow/forward.c"
#include "broker/flow/neighbour.c"
#include "broker/peer/peer_link.c"

#undef malloc
#undef calloc
#undef realloc
#undef aligned_alloc
#include "tests/unit/broker/flow/neighbour_fixture.h"

#include "tests/lib/unit.h"

static void test_comes(void)
{
    static const char *const settings[] = {"sys_interval=0", NULL};
    bool failed = true;

    for (unsigned n = 1; failed; n++) {
        town_open(settings);
        neighbour_changed(town_broker(), &town.member, false);
        sim_node_settle(&town.node);
        alloc_fail_at = n;
        neighbour_changed(town_broker(), &town.member, true);
        failed = alloc_fail_at == 0;
        alloc_fail_at = 0;
        town_dials();
        Tern__Routes routes = TERN__ROUTES__INIT; /* what it tells must not go where another's lies */
        routes.begin = routes.end = true;
        CHECK(failed || town_out() != NULL);
        sim_node_settle(&town.node);
        CU_ASSERT_FATAL(town_out() != NULL);
        CHECK(town_says_message(town.in, FRAME_ROUTES, &routes.base) == 0);
        CHECK(feed_of(town_broker())->peers[0].used && feed_of(town_broker())->dead_count <= 1);
        sim_node_settle(&town.node);
        /* And once more without having been linked: it goes before there is memory. */
        neighbour_changed(town_broker(), &town.member, false);
        alloc_fail_at = n;
        neighbour_changed(town_broker(), &town.member, true);
        neighbour_changed(town_broker(), &town.member, false);
        alloc_fail_at = 0;
        sim_node_settle(&town.node);
        CHECK(town_out() == NULL && town_broker()->cluster->unlinked_count == 0 &&
              list_empty(&town_broker()->cluster->room.links));
        town_close();
    }
}

/* The first of its number, and it speaks before there was memory for the way back: what it says is its own. */
static void test_speaks_before(void)
{
    static const char *const settings[] = {"sys_interval=0", NULL};
    struct member second;
    struct peer_link *in;
    struct broker *b = town_broker();
    Tern__Routes routes = TERN__ROUTES__INIT;
    uint64_t hash = 7;

    town_open(settings);
    town_wants(5);
    second = town.member;
    memset(second.id.bytes, 3, sizeof(second.id.bytes));
    alloc_fail_at = 1;
    neighbour_changed(b, &second, true);
    alloc_fail_at = 0;
    in = peer_link_new(&b->cluster->room, &second.id);
    in->boot = 1;
    CHECK(cluster_peer_handler.opened(in) == 0);
    routes.begin = routes.end = true;
    routes.added = &hash;
    routes.n_added = 1;
    CHECK(town_says_message(in, FRAME_ROUTES, &routes.base) == 0);
    CHECK(route_table_slot_digest(town.node.tables.routes, feed_of(b)->peers[0].slot).count == 1);
    CHECK(feed_of(b)->dead_count == 0);
    CHECK(feed_of(b)->peers[0].slot != feed_of(b)->peers[1].slot);
    sim_node_settle(&town.node);
    CHECK(b->cluster->links[1] != NULL && feed_of(b)->peers[1].used);
    CHECK(route_table_slot_digest(town.node.tables.routes, feed_of(b)->peers[1].slot).count == 1);
    town_close();
}

UNIT_MAIN("broker/flow/neighbour, memory", {"a neighbour comes", test_comes},
          {"and speaks before it is linked", test_speaks_before})
