/* compare_run.c -- one run after the other: a broker is started, tern-bench runs against it, its result is read. */
#include "bench/compare/compare_run.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "bench/compare/spawn.h"

#define RUN_MS_MAX 180000 /* of one run; tern-bench gives up by itself long before */
#define STOP_MS 2000
#define TAIL_BYTES 500
#define KEY_MAX 64
#define ADDED_WORDS 20 /* beside those of the scenario */

/* One run: which it is, and what came of it. */
struct run {
    struct compare_run *all;
    uint32_t scenario, broker, round;
    struct spawn_broker spawned;
    char log[SPAWN_PATH_MAX], json[SPAWN_PATH_MAX]; /* of tern-bench, in the broker's directory */
    json_t *result;                                 /* owned */
    double figure;
    bool clean;
    char why[SPAWN_WHY_MAX];
};

__attribute__((format(printf, 3, 4))) static int fail(struct run *run, int rc, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(run->why, sizeof(run->why), format, args);
    va_end(args);
    return rc;
}

/* --- results --------------------------------------------------------------------------------------------------------
 */

/* A member of an object; or of a list the item that is called so. */
static const json_t *step(const json_t *at, const char *key)
{
    size_t i;
    json_t *item;

    if (json_is_object(at)) {
        return json_object_get(at, key);
    }
    json_array_foreach(at, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && strcmp(name, key) == 0) {
            return item;
        }
    }
    return NULL;
}

double compare_figure_at(const json_t *result, const char *path)
{
    const json_t *at = result;
    char key[KEY_MAX];

    while (at && !json_is_number(step(at, path))) {
        const char *dot = strchr(path, '.');
        if (!dot || dot - path >= KEY_MAX) {
            return NAN;
        }
        memcpy(key, path, (size_t)(dot - path));
        key[dot - path] = 0;
        at = step(at, key);
        path = dot + 1;
    }
    return at ? json_number_value(step(at, path)) : NAN;
}

/* What the figure is called, for the table; borrowed or in unit. */
static void unit_of(const json_t *result, const char *path, char unit[COMPARE_UNIT_MAX])
{
    const char *name = "figure", *of = "", *per = NULL;

    if (path) {
        snprintf(unit, COMPARE_UNIT_MAX, "%s", path);
        return;
    }
    json_unpack(json_object_get(result, "figure"), "{s:s, s:s, s?s}", "name", &name, "unit", &of, "per", &per);
    snprintf(unit, COMPARE_UNIT_MAX, "%s, %s%s%s", name, of, per && *per ? " a " : "", per ? per : "");
}

/* Everything that was counted and should not have been; then the result's own words. */
static void tell_unclean(struct run *run)
{
    json_t *check = json_object_get(run->result, "check"), *count;
    const char *name, *why = json_string_value(json_object_get(run->result, "why"));
    size_t len = 0;

    run->why[0] = 0;
    json_object_foreach(check, name, count)
    {
        bool fine = strcmp(name, "sent") == 0 || strcmp(name, "expected") == 0 || strcmp(name, "received") == 0;
        if (!fine && json_number_value(count) > 0 && len < sizeof(run->why)) {
            len += (size_t)snprintf(run->why + len, sizeof(run->why) - len, "%s%.0f %s", len > 0 ? ", " : "",
                                    json_number_value(count), name);
        }
    }
    if (why && *why && len < sizeof(run->why)) {
        snprintf(run->why + len, sizeof(run->why) - len, "%s%s", len > 0 ? ": " : "", why);
    }
}

/* The result file into run, and its figure. */
static int result_take(struct run *run)
{
    const char *path = run->all->cases->scenarios[run->scenario].figure;
    json_error_t error;

    run->result = json_load_file(run->json, 0, &error);
    if (!run->result) {
        return fail(run, -EIO, "tern-bench left no result: %s", error.text);
    }
    run->figure = compare_figure_at(run->result, path ? path : "figure.value");
    if (!isfinite(run->figure)) {
        return fail(run, -EIO, "the result has no number at %s", path ? path : "figure.value");
    }
    unit_of(run->result, path, run->all->table->units[run->scenario]);
    json_object_set_new(run->result, "group", json_string(run->all->cases->scenarios[run->scenario].name));
    json_object_set_new(run->result, "label", json_string(run->spawned.broker->name));
    json_object_set_new(run->result, "round", json_integer(run->round + 1));
    if (path) { /* the page is to show what is compared, not what the scenario is usually judged by */
        bool bytes = strstr(path, "_bytes") != NULL, times = strstr(path, "_us.") != NULL;
        json_object_set_new(run->result, "figure",
                            json_pack("{s:s, s:f, s:s, s:s}", "name", path, "value", run->figure, "unit",
                                      bytes   ? "B"
                                      : times ? "us"
                                              : "",
                                      "per", bytes ? "client" : ""));
    }
    if (!run->clean) {
        tell_unclean(run);
    }
    return 0;
}

/* --- one run --------------------------------------------------------------------------------------------------------
 */

/* The command line. What the scenario says goes behind our default and before what must be so. */
static int bench_start(struct run *run, pid_t *ret_pid)
{
    const struct words *words = &run->all->cases->scenarios[run->scenario].run;
    char port[8], pid[16], json[SPAWN_PATH_MAX + 8], label[SPAWN_PATH_MAX];
    char *argv[WORDS_MAX + ADDED_WORDS + 1] = {"tern-bench", words->word[0], "--duration", COMPARE_DURATION_S};
    uint32_t n = 4;

    snprintf(port, sizeof(port), "%u", run->spawned.port);
    snprintf(pid, sizeof(pid), "%d", (int)run->spawned.pid);
    snprintf(json, sizeof(json), "--json=%s", run->json); /* one word: the file is optional there */
    snprintf(label, sizeof(label), "%s", run->spawned.broker->name);
    for (uint32_t i = 1; i < words->count; i++) {
        argv[n++] = words->word[i];
    }
    char *ours[] = {"--host", "127.0.0.1", "--port", port, "--pid", pid, "--label", label, json, "--quiet"};
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        argv[n++] = ours[i];
    }
    if (run->all->duration) {
        argv[n++] = "--duration";
        argv[n++] = (char *)run->all->duration;
    }
    assert(n <= WORDS_MAX + ADDED_WORDS);
    int rc = spawn_start(run->all->program, argv, run->log, ret_pid);
    return rc ? fail(run, rc, "%s cannot be started: %s", run->all->program, strerror(-rc)) : 0;
}

/* Why tern-bench ended as it did, unless it measured. 1 means that it did, and found something. */
static int bench_judge(struct run *run, int status)
{
    char tail[TAIL_BYTES];

    run->clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (run->clean || (WIFEXITED(status) && WEXITSTATUS(status) == 1)) {
        return 0;
    }
    spawn_log_tail(run->log, tail, sizeof(tail));
    if (WIFSIGNALED(status)) {
        return fail(run, -EIO, "tern-bench ended with signal %d: %s", WTERMSIG(status), tail);
    }
    return fail(run, WEXITSTATUS(status) == 2 ? -EINVAL : -EIO, "%s",
                *tail ? tail : "tern-bench failed without a word");
}

static int bench_run(struct run *run)
{
    pid_t pid = 0;
    int status, rc = bench_start(run, &pid);

    if (rc) {
        return rc;
    }
    rc = spawn_wait(pid, RUN_MS_MAX, &status);
    if (rc) {
        spawn_stop(pid, STOP_MS);
        return fail(run, rc, rc == -EINTR ? "interrupted" : "tern-bench did not end in %d s", RUN_MS_MAX / 1000);
    }
    rc = bench_judge(run, status);
    if (rc != -EINVAL && !spawn_broker_runs(&run->spawned, run->why)) {
        return -EIO; /* says more than whatever tern-bench noticed of it */
    }
    return rc ? rc : result_take(run);
}

/* From the start of the broker to its end. */
static int run_do(struct run *run)
{
    int rc = spawn_broker_start(&run->all->cases->brokers[run->broker], &run->spawned, run->why);

    if (rc) {
        return rc == -EINTR ? rc : -EIO;
    }
    snprintf(run->log, sizeof(run->log), "%.200s/bench.log", run->spawned.directory);
    snprintf(run->json, sizeof(run->json), "%.200s/bench.json", run->spawned.directory);
    rc = bench_run(run);
    spawn_broker_stop(&run->spawned);
    return rc;
}

/* --- all runs -------------------------------------------------------------------------------------------------------
 */

/* One run into the table, with its line of progress. Fails only when there is no use in going on. */
static int run_next(struct compare_run *all, uint32_t round, uint32_t scenario, uint32_t broker)
{
    struct run run = {.all = all, .scenario = scenario, .broker = broker, .round = round};
    const struct case_scenario *s = &all->cases->scenarios[scenario];

    fprintf(stderr, "round %u/%u  %-32s %-16s ", round + 1, all->table->round_count, s->name,
            all->cases->brokers[broker].name);
    fflush(stderr);
    int rc = run_do(&run);
    if (rc == 0) {
        all->table->cells[scenario][broker].figures[round] = run.figure;
        all->unclean += !run.clean;
        fprintf(stderr, "%10.3f %s%s%s\n", run.figure, all->table->units[scenario],
                run.clean ? "" : "  NOT CLEAN: ", run.why);
    } else if (rc == -EINTR) {
        fputs("interrupted\n", stderr);
    } else {
        all->failed++;
        fprintf(stderr, "FAILED: %s\n", run.why);
    }
    if (rc == -EINVAL) {
        fprintf(stderr, "%s:%u: tern-bench does not take these arguments\n", all->cases->scenarios_path, s->line);
    }
    if (run.result && rc == 0 && all->results) {
        json_array_append(all->results, run.result);
    }
    json_decref(run.result);
    return rc == -EINTR || rc == -EINVAL ? rc : 0;
}

/* The brokers that are switched on, beginning with another one each round. */
static uint32_t order_of(const struct compare_table *table, uint32_t round, uint32_t ret_order[CASES_BROKERS_MAX])
{
    uint32_t on[CASES_BROKERS_MAX], count = 0;

    for (uint32_t b = 0; b < table->cases->broker_count; b++) {
        if (table->broker_on[b]) {
            on[count++] = b;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        ret_order[i] = on[(i + round) % count];
    }
    return count;
}

int compare_run_all(struct compare_run *run)
{
    uint32_t order[CASES_BROKERS_MAX];

    for (uint32_t round = 0; round < run->table->round_count; round++) {
        uint32_t count = order_of(run->table, round, order);
        for (uint32_t s = 0; s < run->cases->scenario_count; s++) {
            for (uint32_t i = 0; run->table->scenario_on[s] && i < count; i++) {
                int rc = run_next(run, round, s, order[i]);
                if (rc) {
                    return rc;
                }
            }
        }
    }
    return 0;
}
