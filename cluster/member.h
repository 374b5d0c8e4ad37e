/* member.h -- one node of the cluster, as every other node knows it.
 *
 * Why: all of cluster/ and the shell speak of nodes, and all of them mean this record. It is what SWIM spreads
 * (swim.h). A node is known by its id alone: addresses change with each start of a container, and a name may come back
 * with an empty disk, which makes it another node.
 *
 * Order: what is said of a node with a higher (boot, incarnation) is newer. The boot counts starts of the process and
 * stands on the node's disk; the incarnation counts, within one boot, what the node had to say anew of itself. Nobody
 * but the node raises either. */
#ifndef TERN_CLUSTER_MEMBER_H
#define TERN_CLUSTER_MEMBER_H

#include "proto/base/slice.h"

/* Random, made once with the node's disk, and never all zero. */
struct node_id {
    uint8_t bytes[16];
};

/* Where a node takes datagrams and links. Of family 4 the first four bytes count, the others are zero. */
struct member_address {
    uint8_t family; /* 4 or 6 */
    uint8_t bytes[16];
    uint16_t port;
};

/* In this order they win over each other at the same (boot, incarnation). */
enum member_state {
    MEMBER_NONE, /* not in the table: before a node is known and after it has been forgotten */
    MEMBER_ALIVE,
    MEMBER_SUSPECT, /* did not answer; still counted as a member until a deadline */
    MEMBER_DEAD,    /* did not answer until then; remembered, and believed when it says otherwise */
    MEMBER_LEFT     /* went for good, by its operator's word */
};

#define MEMBER_NAME_MAX 63
#define MEMBER_CLUSTER_ID_SIZE 16
#define MEMBER_DRAINING (1ull << 63) /* among the features: it sends its clients away, and is to get no work */

struct member {
    struct node_id id;
    uint64_t boot;
    uint32_t incarnation;
    enum member_state state;
    struct member_address address;
    char name[MEMBER_NAME_MAX + 1];             /* for people; UTF-8 without control characters, may be empty */
    uint16_t wire_min, wire_max;                /* versions of the links' protocol that it speaks */
    uint64_t features;                          /* one bit for each feature it has */
    uint8_t shards;                             /* at least 1 */
    uint8_t cluster_id[MEMBER_CLUSTER_ID_SIZE]; /* all zero: it belongs to none yet */
    uint64_t wall_ms;                           /* its wall clock when it said load */
    uint32_t load;                              /* its connections then */
};

static inline bool node_id_eq(const struct node_id *a, const struct node_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static inline bool node_id_is_zero(const struct node_id *id)
{
    static const struct node_id zero;
    return node_id_eq(id, &zero);
}

static inline bool member_address_eq(const struct member_address *a, const struct member_address *b)
{
    return a->family == b->family && a->port == b->port && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* Whether it takes part: it is asked for signs of life and counted. */
static inline bool member_living(const struct member *m)
{
    return m->state == MEMBER_ALIVE || m->state == MEMBER_SUSPECT;
}

/* Below, at or above zero: (boot, incarnation) is older than what is known, the same, or newer. */
static inline int member_order(uint64_t boot, uint32_t incarnation, const struct member *known)
{
    if (boot != known->boot) {
        return boot < known->boot ? -1 : 1;
    }
    return incarnation == known->incarnation ? 0 : incarnation < known->incarnation ? -1 : 1;
}

#endif
