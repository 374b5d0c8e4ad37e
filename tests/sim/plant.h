/* plant.h -- bugs that are put into the broker on purpose, to see that the simulator finds them.
 *
 * Why: a simulator that finds nothing may be blind. Each plant breaks one promise, as a slip of the hand would, in the
 * simulator's binary only: the linker puts WRAP functions in the place of the product's (--wrap), and without a plant
 * in use they only call those. It must be found within so many seeds. */
#ifndef TERN_TESTS_SIM_PLANT_H
#define TERN_TESTS_SIM_PLANT_H

#include "storage/store.h"

enum plant_id {
    PLANT_NONE,
#define PLANT(id, name, seeds, what) PLANT_##id,
#include "tests/sim/plants.h"
    PLANTS_OF_ONE, /* behind those that a story of one node finds */
#include "tests/sim/cluster_plants.h"
#undef PLANT
};

struct plant {
    const char *name;
    const char *what;
    unsigned seeds_max;
};

extern const struct plant plants[]; /* [0]: none; the others by id */
extern const unsigned plant_count;  /* with [0] */

void plant_use(enum plant_id id); /* from now on, in this process */
void plant_reset(void);           /* a new story begins */
bool planted(enum plant_id id);
bool planted_once_in(enum plant_id id, unsigned n); /* each n-th time, if it is in use */

/* Bugs of the store itself: break the functions of the model. */
void plant_store(struct store *store);

/* What stands in for a function of the product; it calls __real_NAME, which is weak: there may be none yet. The
 * Makefile finds these lines. */
#define WRAP(type, name, ...) \
    __attribute__((weak)) type __real_##name(__VA_ARGS__); \
    _Static_assert(__builtin_types_compatible_p(__typeof__(name), __typeof__(__real_##name)), \
                   "as the product has it"); \
    type __wrap_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

#endif
