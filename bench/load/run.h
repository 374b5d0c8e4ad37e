/* run.h -- one run from the first connection to the verdict.
 *
 *   connect -> subscribe -> warm-up -> measure -> drain -> quiet        pair, fanin, fanout, wildcard, share, mix, pub,
 * sub connect -> storms -> hold                                           conn connect -> store -> subscribe = replay
 * -> clear                     retain connect, subscribe, leave -> store -> connect = drain -> clear      session
 *
 * Only `measure` (and the phases with a cost of their own) count for speed; what was lost, repeated or out of order is
 * judged over the whole run. Drain waits until nothing is outstanding or nothing has moved for the timeout; quiet waits
 * a little longer, for a duplicate may come after the last message. Touched by: the main thread, which gives the
 * workers their orders. */
#ifndef TERN_BENCH_RUN_H
#define TERN_BENCH_RUN_H

#include "bench/load/result.h"

/* Run it. Returns 0 when it was done, whatever the broker did in it; else a negative errno, and ret_result->why says
 * more. ret_result is written in both cases; result_deinit frees it. */
int run_scenario(struct options *options, struct result *ret_result);

#endif
