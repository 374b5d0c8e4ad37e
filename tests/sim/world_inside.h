/* world_inside.h -- what world.c (life and end of a story), world_link.c (clients and their connections) and
 * world_fault.c (steps that go wrong) share. */
#ifndef TERN_TESTS_SIM_WORLD_INSIDE_H
#define TERN_TESTS_SIM_WORLD_INSIDE_H

#include "proto/base/prng.h"
#include "tests/lib/mem_store.h"
#include "tests/lib/sim_node.h"
#include "tests/sim/guest.h"
#include "tests/sim/world.h"

#define SETTINGS_MAX 16u
#define OPERATIONS_MAX 40u

/* A client and its connection, if it has one. */
struct link {
    unsigned index;
    struct sim_socket *socket; /* borrowed from the net of this life of the node; NULL: not connected */
    struct buf out;            /* written by the client, not yet sent */
    uint64_t ended_ms;         /* when the broker was seen to be done with it; 0: not yet */
};

struct world {
    struct prng prng;
    uint64_t trace, step;
    bool verbose;

    struct sim_node node;
    bool up;
    unsigned shard_count;
    const char *settings[SETTINGS_MAX + 1];
    unsigned settings_count;
    struct mem_store *disk; /* owned; NULL: nothing survives a crash */
    enum mem_room room;
    bool small_queues; /* messages are dropped by rule */
    bool can_damage;   /* in this story the disk may be damaged: nothing is claimed */

    struct link links[GUESTS_MAX];
    unsigned link_count;
    struct party party; /* whom the links belong to */
    unsigned weights[OPERATIONS_MAX], weight_sum;
    struct world_result *result;
};

/* ---- world.c ---- */

uint32_t chance(struct world *w, uint32_t bound); /* 0 .. bound - 1 */
static inline bool once_in(struct world *w, uint32_t n)
{
    return chance(w, n) == 0;
}

/* Every event goes into the trace, and is shown if the story is told aloud. */
void trace_bytes(struct world *w, const char *what, unsigned who, struct slice bytes);
void trace_number(struct world *w, const char *what, uint64_t number);

/* Something is wrong: the first sentence counts. */
void violated(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

void node_start(struct world *w);
uint64_t now_ms(void); /* of the story */

/* ---- world_link.c: each returns whether anything was done ---- */

/* The broker's side of it, while its socket has a stream. */
static inline const struct conn *link_conn(const struct link *l)
{
    return CONTAINER_OF(l->socket->stream, struct conn, stream);
}

void links_init(struct world *w);
void links_deinit(struct world *w);
bool link_connect(struct world *w, struct link *l);
struct party *party_now(struct world *w); /* with the time of the world */
bool link_act(struct world *w, struct link *l);
bool link_send(struct world *w, struct link *l, bool whole);
bool link_receive(struct world *w, struct link *l, size_t bytes_max);
void link_lost(struct world *w, struct link *l);
void links_look(struct world *w); /* after each step */
bool links_pump(struct world *w); /* all that is on its way, in both directions */

/* ---- world_fault.c ---- */

void crash(struct world *w); /* and start again */
void stop(struct world *w);  /* in the ordinary way, and start again */
void heal(struct world *w);

struct operation {
    const char *name;
    bool (*run)(struct world *w); /* whether it could do anything */
    unsigned weight;              /* beside the others */
    unsigned rare;                /* only one in so many seeds has it; 0: all have */
};
extern const struct operation operations[];
extern const unsigned operation_count;

#endif
