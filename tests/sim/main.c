/* tern-sim -- runs stories (world.h) and counts them.
 *
 *     tern-sim                              500 seeds, then each planted bug until it is found
 *     tern-sim --seeds FROM COUNT           only these seeds
 *     tern-sim --seed N [--verbose]         one, in this process: for a debugger
 *     tern-sim --hours H                    seeds from the time of day on, until the time is over or one has failed
 *     tern-sim --plants                     only the planted bugs
 *     ... --plant NAME                      with this bug put in (--list-plants)
 *     ... --strict                          without the one excuse (world.h)
 *
 * Each seed runs in a child of its own: one that ends by an assert is a failure like any other, and the heap is the
 * same each time (the order in which the broker serves subscribers depends on addresses). Every sixteenth runs twice:
 * its trace must be the same. */
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/cluster.h"
#include "tests/sim/plant.h"
#include "tests/sim/world.h"

#define SEEDS 500u
#define CPU_SECONDS 60 /* of one seed, of this process' own time: who takes longer turns in a circle */
#define TWICE 16u
#define REPORTED_MAX 10u /* failures are shown up to this number; then only counted */

static bool several; /* nodes: cluster.h, not world.h */

struct totals {
    struct world_result sum; /* its numbers only */
    unsigned seeds, failed;
};

static void run_story(uint64_t seed, bool verbose, struct world_result *ret_result)
{
    (several ? cluster_run : world_run)(seed, verbose, ret_result);
}

/* ---- the child ---- */

static void run_child(uint64_t seed, int to)
{
    struct itimerval limit = {.it_value = {.tv_sec = CPU_SECONDS}};
    struct world_result result;

    setitimer(ITIMER_VIRTUAL, &limit, NULL);
    run_story(seed, false, &result);
    _exit(write(to, &result, sizeof(result)) == sizeof(result) ? 0 : 1);
}

/* ---- its parent ---- */

static void add(struct totals *t, const struct world_result *r)
{
    t->seeds++;
    t->failed += r->violation[0] != '\0';
    t->sum.steps += r->steps;
    t->sum.sim_ms += r->sim_ms;
    t->sum.crashes += r->crashes;
    t->sum.stops += r->stops;
    t->sum.connects += r->connects;
    t->sum.sent += r->sent;
    t->sum.received += r->received;
    t->sum.acknowledged += r->acknowledged;
    t->sum.commits += r->commits;
    t->sum.checkpoints += r->checkpoints;
    t->sum.pages += r->pages;
    t->sum.trimmed += r->trimmed;
}

static bool read_result(int from, struct world_result *ret_result)
{
    size_t got = 0;

    while (got < sizeof(*ret_result)) {
        ssize_t n = read(from, (char *)ret_result + got, sizeof(*ret_result) - got);
        if (n <= 0) {
            return false;
        }
        got += (size_t)n;
    }
    return true;
}

static void show(const struct totals *t, const struct world_result *r)
{
    if (t->failed <= REPORTED_MAX) {
        printf("seed %llu: %s\n", (unsigned long long)r->seed, r->violation);
        fflush(stdout);
    }
}

/* The end of what a dead child has said. */
static void last_words(FILE *errors, int status, char *out, size_t size)
{
    char text[1000];
    long end = fseek(errors, 0, SEEK_END) == 0 ? ftell(errors) : 0;
    long from = end > (long)sizeof(text) - 1 ? end - (long)sizeof(text) + 1 : 0;

    fseek(errors, from, SEEK_SET);
    size_t len = fread(text, 1, sizeof(text) - 1, errors);
    text[len] = '\0';
    snprintf(out, size, "ended by %s %d: %s", WIFSIGNALED(status) ? "signal" : "status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), text);
}

static pid_t start_child(uint64_t seed, FILE *errors, int *ret_from)
{
    int ends[2];

    fflush(stdout);
    if (pipe(ends) != 0) {
        perror("pipe");
        exit(1);
    }
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        exit(1);
    }
    if (child == 0) {
        close(ends[0]);
        dup2(fileno(errors), STDERR_FILENO);
        run_child(seed, ends[1]);
    }
    close(ends[1]);
    *ret_from = ends[0];
    return child;
}

static void run_seed(uint64_t seed, FILE *errors, struct world_result *ret_result)
{
    int from, status = 0;
    pid_t child = start_child(seed, errors, &from);

    if (!read_result(from, ret_result)) {
        *ret_result = (struct world_result){.seed = seed};
    }
    close(from);
    waitpid(child, &status, 0);
    if (status != 0) {
        last_words(errors, status, ret_result->violation, sizeof(ret_result->violation));
    }
    if (ftruncate(fileno(errors), 0) != 0 || lseek(fileno(errors), 0, SEEK_SET) != 0) {
        perror("the file of what children say");
        exit(1);
    }
}

/* Run seeds until `count` are done or `failures_max` have failed. */
static void run_seeds(uint64_t from, unsigned count, unsigned failures_max, bool quiet, struct totals *t)
{
    FILE *errors = tmpfile();

    assert(errors);
    for (uint64_t seed = from; seed < from + count && t->failed < failures_max; seed++) {
        struct world_result result, again;
        run_seed(seed, errors, &result);
        if (seed % TWICE == 0 && !result.violation[0] && !quiet) {
            run_seed(seed, errors, &again);
            if (again.trace != result.trace) {
                snprintf(result.violation, sizeof(result.violation), "the same seed gave another history");
            }
        }
        add(t, &result);
        if (result.violation[0] && !quiet) {
            show(t, &result);
        }
    }
    fclose(errors);
}

static void report(const struct totals *t)
{
    const struct world_result *s = &t->sum;

    printf("%u seeds, %llu simulated seconds, %llu steps, %llu crashes, %llu orderly stops, %llu connections\n"
           "%llu messages sent, %llu acknowledged, %llu received; %llu commits, %llu checkpoints, %llu pages read, "
           "%llu batches trimmed\n",
           t->seeds, (unsigned long long)s->sim_ms / 1000, (unsigned long long)s->steps, (unsigned long long)s->crashes,
           (unsigned long long)s->stops, (unsigned long long)s->connects, (unsigned long long)s->sent,
           (unsigned long long)s->acknowledged, (unsigned long long)s->received, (unsigned long long)s->commits,
           (unsigned long long)s->checkpoints, (unsigned long long)s->pages, (unsigned long long)s->trimmed);
    fflush(stdout);
}

static unsigned first_plant(void)
{
    return several ? PLANTS_OF_ONE + 1 : 1;
}

static unsigned plants_end(void)
{
    return several ? plant_count : PLANTS_OF_ONE;
}

/* Each plant until it is found. Returns how many were not. */
static unsigned run_plants(uint64_t from)
{
    unsigned missed = 0;

    for (unsigned id = first_plant(); id < plants_end(); id++) {
        struct totals t = {0};
        plant_use((enum plant_id)id);
        run_seeds(from, plants[id].seeds_max, 1, true, &t);
        if (t.failed > 0) {
            printf("plant %-24s found at seed %u of %u\n", plants[id].name, t.seeds, plants[id].seeds_max);
        } else {
            printf("plant %-24s NOT FOUND in %u seeds: %s\n", plants[id].name, t.seeds, plants[id].what);
            missed++;
        }
        fflush(stdout);
    }
    plant_use(PLANT_NONE);
    return missed;
}

static int summary(unsigned passed, unsigned failed)
{
    printf("%u passed, %u failed, 0 skipped\n", passed, failed);
    return failed ? 1 : 0;
}

static int run_one(uint64_t seed, bool verbose)
{
    static struct totals t;
    struct world_result result;

    run_story(seed, verbose, &result);
    add(&t, &result);
    report(&t);
    printf("trace %016llx\n", (unsigned long long)result.trace);
    if (result.violation[0]) {
        show(&t, &result);
    }
    return summary(!t.failed, t.failed);
}

static int run_hours(double hours)
{
    struct totals t = {0};
    time_t end = time(NULL) + (time_t)(hours * 3600);
    uint64_t seed = (uint64_t)time(NULL) * 1000;

    printf("from seed %llu\n", (unsigned long long)seed);
    while (t.failed == 0 && (hours <= 0 || time(NULL) < end)) {
        run_seeds(seed, 1000, REPORTED_MAX, false, &t);
        seed += 1000;
        report(&t);
    }
    return summary(t.seeds - t.failed, t.failed);
}

static int run_range(uint64_t from, unsigned count, bool with_plants)
{
    struct totals t = {0};
    unsigned missed = 0;

    run_seeds(from, count, UINT32_MAX, false, &t);
    report(&t);
    if (with_plants) {
        missed = run_plants(from);
    }
    unsigned tried = with_plants ? plants_end() - first_plant() : 0;
    return summary(t.seeds - t.failed + tried - missed, t.failed + missed);
}

static int list_plants(void)
{
    for (unsigned i = first_plant(); i < plants_end(); i++) {
        printf("%-24s %4u seeds  %s\n", plants[i].name, plants[i].seeds_max, plants[i].what);
    }
    return 0;
}

static enum plant_id find_plant(const char *name)
{
    for (unsigned i = 1; i < plant_count; i++) {
        if (strcmp(plants[i].name, name) == 0) {
            return (enum plant_id)i;
        }
    }
    fprintf(stderr, "no such plant: %s\n", name);
    exit(2);
}

static int usage(void)
{
    fprintf(stderr, "tern-sim [--seeds FROM COUNT | --seed N [--verbose] | --hours H | --plants | --list-plants] "
                    "[--plant NAME] [--strict]\n");
    return 2;
}

/* Addresses are the same each time then, and so are traces. Where it is forbidden, failures still show. */
static void fix_addresses(char **argv)
{
    int now = personality(0xffffffff);

    if (now >= 0 && !(now & ADDR_NO_RANDOMIZE) && personality((unsigned long)now | ADDR_NO_RANDOMIZE) >= 0) {
        execv("/proc/self/exe", argv);
    }
}

int main(int argc, char **argv)
{
    uint64_t from = 1, one = 0;
    unsigned count = SEEDS;
    bool verbose = false, only_plants = false, single = false, with_plants = true;
    double hours = -1;

    fix_addresses(argv);
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        int left = argc - i - 1;
        if (strcmp(arg, "--seeds") == 0 && left >= 2) {
            from = strtoull(argv[i + 1], NULL, 10);
            count = (unsigned)strtoul(argv[i + 2], NULL, 10);
            with_plants = false;
            i += 2;
        } else if (strcmp(arg, "--seed") == 0 && left >= 1) {
            one = strtoull(argv[++i], NULL, 10);
            single = true;
        } else if (strcmp(arg, "--hours") == 0 && left >= 1) {
            hours = strtod(argv[++i], NULL);
        } else if (strcmp(arg, "--plant") == 0 && left >= 1) {
            plant_use(find_plant(argv[++i]));
            with_plants = false;
        } else if (strcmp(arg, "--cluster") == 0) {
            several = true;
        } else if (strcmp(arg, "--strict") == 0) {
            world_strict = true;
        } else if (strcmp(arg, "--verbose") == 0) {
            verbose = true;
        } else if (strcmp(arg, "--plants") == 0) {
            only_plants = true;
        } else if (strcmp(arg, "--list-plants") == 0) {
            return list_plants();
        } else {
            return usage();
        }
    }
    if (only_plants) {
        unsigned missed = run_plants(from);
        return summary(plants_end() - first_plant() - missed, missed);
    }
    return single ? run_one(one, verbose) : hours >= 0 ? run_hours(hours) : run_range(from, count, with_plants);
}
