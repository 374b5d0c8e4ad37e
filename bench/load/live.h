/* live.h -- the line that says each second how a run goes.
 *
 * Why: a run of a minute that says nothing looks like one that hangs. On a terminal there is one line with a progress
 * bar that is written over; elsewhere one line a second. Goes to standard error, so that --json stays clean. Touched
 * by: the main thread. */
#ifndef TERN_BENCH_LIVE_H
#define TERN_BENCH_LIVE_H

#include <stdbool.h>
#include <stdint.h>

struct live {
    bool enabled, terminal;
    unsigned width; /* columns that may be written; 0: not a terminal */
    bool open;      /* an unfinished line stands on the terminal */
};

/* What happened in the last second, and how far the phase is. */
struct live_sample {
    const char *phase;       /* "connect", "measure" ... */
    double elapsed_s;        /* since the run began */
    double done, total;      /* of the phase: seconds or things; total 0: unknown, no bar */
    uint64_t sent, received; /* messages a second */
    uint64_t clients_up;
    uint64_t lost, duplicate, reordered; /* so far; shown when not 0 */
    uint64_t p50_us, p99_us, max_us;     /* delivery latency of this second; all 0: none */
    uint64_t late_us;                    /* the generator's own p99 lateness; shown from 1000 on */
};

/* enabled false: nothing is ever written. */
void live_init(struct live *live, bool enabled);
void live_show(struct live *live, const struct live_sample *sample);

/* Finish an open line, before anything else is written. */
void live_end(struct live *live);

/* The line itself, without the bar's colours: at most size - 1 bytes and width columns, parts that do not fit left out.
 * width 0: as long as needed, and no bar. Returns its length. For the tests too. */
unsigned live_format(char *out, unsigned size, const struct live_sample *sample, unsigned width);

#endif
