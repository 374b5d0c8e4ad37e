/* What two nodes agree on in their first words: which version they speak, what they can, and who is sent away. */
#include "tests/unit/broker/peer/peer_nodes.h"

/* The sentence with which `to` answers a HELLO of `from`, as who dials has it; the caller's. */
static char *refusal_of(struct peer_node *from, struct peer_node *to)
{
    struct peer_link *link = connect_nodes(from, to);
    char *text = NULL;

    UNTIL(link->turned_away);
    text = strdup(link->refusal);
    CU_ASSERT_FATAL(text != NULL);
    return text;
}

static void test_versions(void)
{
    static const struct {
        const char *name;
        uint32_t min[2], max[2]; /* of who dials, of who is dialled */
        uint64_t features[2];
        uint32_t version; /* 0: they have none in common */
        uint64_t both;
    } rows[] = {
        {"the same", {1, 1}, {1, 1}, {1, 1}, 1, 1},          {"an older one dials", {1, 1}, {1, 2}, {1, 3}, 1, 1},
        {"a newer one dials", {1, 1}, {2, 1}, {3, 1}, 1, 1}, {"both are newer", {1, 2}, {3, 2}, {7, 6}, 2, 6},
        {"too old to dial", {1, 2}, {1, 3}, {0, 0}, 0, 0},   {"too old to be dialled", {3, 1}, {4, 2}, {0, 0}, 0, 0},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct peer_node *a = add_node(rows[i].min[0], rows[i].max[0], rows[i].features[0]);
        struct peer_node *b = add_node(rows[i].min[1], rows[i].max[1], rows[i].features[1]);
        if (rows[i].version == 0) {
            char *why = refusal_of(a, b);
            CHECK_CASE(rows[i].name, strstr(why, "no version of the protocol in common: who dials speaks ") != NULL);
            CHECK_CASE(rows[i].name, a->opened == 0 && b->opened == 0);
            free(why);
        } else {
            struct peer_link *link = connect_nodes(a, b);
            UNTIL(a->opened == 1 && b->opened == 1);
            struct peer_link *other = peer_link_find(&b->room, &a->terms.node_id, 0);
            CHECK_CASE(rows[i].name, link->version == rows[i].version && other->version == rows[i].version);
            CHECK_CASE(rows[i].name, link->features == rows[i].both && other->features == rows[i].both);
        }
        end_nodes();
    }
}

/* What a later version has to say is passed over: frames beside the lanes here, those in them by who handles them. */
static void test_unknown_frames(void)
{
    struct peer_node *a = add_node(1, 2, 1), *b = add_node(1, 1, 0);
    struct peer_link *link = connect_nodes(a, b);

    UNTIL(a->opened == 1 && b->opened == 1);
    peer_wire_say(link->wire, 200, SLICE("what nobody knows"));
    peer_wire_say(link->wire, PEER_ASIDE_LAST + 1, slice_of(NULL, 0));
    struct slice body = SLICE("known");
    CHECK(peer_put(link, LINK_CONTROL, 250, 0, &body, 1) == 0);
    UNTIL(b->frames == 1);
    CHECK(b->last_type == 250 && slice_eq(buf_slice(&b->heard), body));
    CHECK(a->lost == 0 && b->lost == 0);
    UNTIL(link_flow_held(&link->flow, LINK_CONTROL) == 0); /* it is acknowledged */
    end_nodes();
}

static void test_strangers(void)
{
    static const struct {
        const char *name, *want;
        uint8_t cluster_id, node_id, barred;
        const char *cluster;
    } rows[] = {
        {"another cluster of the same name", "another cluster of the same name", 8, 1, 0, "c"},
        {"another name", "the cluster has another name", 7, 1, 0, "d"},
        {"the id of who is dialled", "two nodes with one id", 7, 2, 0, "c"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct peer_node *a = add_node(1, 1, 0), *b = add_node(1, 1, 0);
        a->terms.cluster_id[0] = rows[i].cluster_id;
        a->terms.node_id.bytes[0] = rows[i].node_id;
        snprintf(a->terms.cluster, sizeof(a->terms.cluster), "%s", rows[i].cluster);
        char *why = refusal_of(a, b);
        CHECK_CASE(rows[i].name, strstr(why, rows[i].want) != NULL);
        CHECK_CASE(rows[i].name, a->opened == 0 && b->opened == 0);
        free(why);
        end_nodes();
    }
}

/* Who is not a member yet, or has no cluster yet, is told to come again, and does. */
static void test_not_yet(void)
{
    for (unsigned i = 0; i < 2; i++) {
        struct peer_node *a = add_node(1, 1, 0), *b = add_node(1, 1, 0);
        if (i == 0) {
            b->barred = a->terms.node_id;
        } else {
            atomic_store(&b->terms.has_id, false);
        }
        struct peer_link *link = connect_nodes(a, b);
        UNTIL(link->retry_ms > PEER_RETRY_FIRST_MS);
        CHECK(a->opened == 0 && !link->turned_away);
        b->barred = (struct node_id){{0}};
        atomic_store(&b->terms.has_id, true);
        UNTIL(a->opened == 1 && b->opened == 1);
        end_nodes();
    }
}

UNIT_MAIN("broker/peer/hello", {"versions", test_versions}, {"frames of later versions", test_unknown_frames},
          {"strangers", test_strangers}, {"not yet", test_not_yet})
