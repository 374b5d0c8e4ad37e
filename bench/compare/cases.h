/* cases.h -- what `tern-bench compare` measures: the scenarios of one YAML file, on the brokers of another.
 *
 * Why two files: who has other brokers takes our scenarios, and the other way round. Both are lists of mappings, small
 * and written by hand: so they are read whole, and each mistake is one sentence with the file and the line. The members
 * are explained where they are used, in scenarios.yaml and brokers.yaml.
 *
 * Commands are split into words as a shell would, but nothing is expanded in them, and no shell runs. */
#ifndef TERN_BENCH_CASES_H
#define TERN_BENCH_CASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/compare/words.h"

#define CASES_SCENARIOS_MAX 64
#define CASES_BROKERS_MAX 16
#define CASES_BOUNDS_MAX 4     /* of one scenario */
#define CASES_FILE_MAX 1048576 /* bytes of a file */
#define CASES_WHY_MAX 512

/* What is asked of the median of some brokers. */
struct case_bound {
    double most;
    bool absolute;                    /* most is the figure's own unit; else a ratio to the figure of `reference` */
    char *reference;                  /* owned; a broker's name, NULL: the reference of the brokers' file */
    uint32_t broker_count;            /* 0: it is asked of each broker but the reference */
    char *brokers[CASES_BROKERS_MAX]; /* each owned */
    unsigned line;
};

struct case_scenario {
    char *name;       /* owned */
    struct words run; /* arguments of tern-bench; the first is its scenario */
    char *figure;     /* owned; path in the result, NULL: the result's own figure */
    uint32_t bound_count;
    struct case_bound bounds[CASES_BOUNDS_MAX];
    unsigned line;
};

struct case_broker {
    char *name; /* owned */
    struct words command;
    char *config;       /* owned; NULL: none */
    char *skip_without; /* owned; NULL: never left out */
    bool reference;
    unsigned line;
};

struct cases {
    const char *scenarios_path, *brokers_path; /* borrowed from the caller of cases_read */
    uint32_t scenario_count, broker_count;
    struct case_scenario *scenarios; /* owned */
    struct case_broker *brokers;     /* owned */
};

/* Read both files. Returns 0; -EINVAL with a sentence in why (CASES_WHY_MAX bytes); or -ENOMEM. *ret_cases is to be
 * given to cases_deinit in any case. */
int cases_read(const char *scenarios_path, const char *brokers_path, struct cases *ret_cases, char *why);
void cases_deinit(struct cases *cases);

#endif
