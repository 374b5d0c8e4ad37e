/* compare.h -- `tern-bench compare`: the same load on several brokers, in rounds.
 *
 * Every round runs every scenario on every broker before the next round begins, each time on a broker just started and
 * by a tern-bench of its own: nothing of one run is left in the next, and what disturbs the machine for a while
 * disturbs all brokers. Between rounds the order of the brokers is rotated, so that none is always behind the same
 * other. */
#ifndef TERN_BENCH_COMPARE_H
#define TERN_BENCH_COMPARE_H

/* The whole command; argv[0] is "compare". Returns the exit status: 0 measured; 1 a broker lost, repeated or reordered
 * something, or with --strict missed a bound; 2 wrong arguments or files; 3 something did not run. Of several the
 * largest. */
int compare_main(int argc, char **argv);

#endif
