/* rate.c -- one atomic number, moved on by whoever takes. */
#include "broker/base/rate.h"

#include <assert.h>

#define SECOND_NS 1000000000u
#define COST_NS_MAX (1ull << 62) /* a century and a half: sums of two stay below the end of the number */

uint64_t rate_take(struct rate *rate, uint64_t per_second, uint64_t n, uint64_t now_ns)
{
    assert(per_second > 0);
    assert(now_ns <= COST_NS_MAX);
    unsigned __int128 exact = (unsigned __int128)n * SECOND_NS / per_second;
    uint64_t cost_ns = exact < COST_NS_MAX ? (uint64_t)exact : COST_NS_MAX;
    uint64_t before = atomic_load_explicit(&rate->full_at_ns, memory_order_relaxed), after;

    do {
        uint64_t from = before > now_ns ? before : now_ns; /* a full bucket does not get fuller */
        after = from > 2 * COST_NS_MAX ? from : from + cost_ns;
    } while (!atomic_compare_exchange_weak_explicit(&rate->full_at_ns, &before, after, memory_order_relaxed,
                                                    memory_order_relaxed));
    return after - now_ns > SECOND_NS ? after - now_ns - SECOND_NS : 0;
}
