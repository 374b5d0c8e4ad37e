/* compare.c -- the command: arguments, files, what is switched on, and the exit status. */
#include "bench/compare/compare.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/compare/compare_run.h"
#include "bench/compare/spawn.h"
#include "bench/report/report.h"

#define ROUNDS 3
#define TEXTS_MAX 64 /* of --only, and of --brokers-only */
#define DURATION_S_MAX 3600

enum { EXIT_UNCLEAN = 1, EXIT_WRONG = 2, EXIT_NOT_RUN = 3 };

static const char usage_text[] =
    "usage: tern-bench compare --scenarios FILE --brokers FILE [options]\n"
    "\n"
    "      --scenarios FILE       what to run (YAML; see the comments of bench/scenarios.yaml)\n"
    "      --brokers FILE         on what (YAML; see bench/brokers.yaml)\n"
    "      --rounds N             1 to 20 (3)\n"
    "      --duration S           measured part of every run (what the scenario says, or 1)\n"
    "      --only TEXT            only scenarios with TEXT in their name; may be repeated\n"
    "      --brokers-only TEXT    only brokers with TEXT in their name; may be repeated\n"
    "      --json FILE            write medians, ratios and every single result\n"
    "      --html FILE            write a page with every result, one group a scenario\n"
    "      --strict               a missed bound, and a missing reference, are failures\n"
    "      --bench PROGRAM        the load tool to run (this one)\n"
    "      --help                 print this\n"
    "\n"
    "Exit status: 0 measured; 1 a broker lost, repeated or reordered something, or with --strict missed a bound;\n"
    "2 wrong arguments or files; 3 something did not run.\n";

/* What --only and its like have gathered: any of the texts, or all there is when there is none. */
struct texts {
    uint32_t count;
    const char *text[TEXTS_MAX];
};

struct options {
    const char *scenarios, *brokers, *bench, *json, *html, *duration;
    struct texts only, brokers_only;
    uint32_t rounds;
    bool strict, help;
};

__attribute__((format(printf, 1, 2))) static int wrong(const char *format, ...)
{
    va_list args;

    fputs("tern-bench compare: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return EXIT_WRONG;
}

/* --- arguments ------------------------------------------------------------------------------------------------------
 */

enum {
    OPT_SCENARIOS = 256,
    OPT_BROKERS,
    OPT_ROUNDS,
    OPT_DURATION,
    OPT_ONLY,
    OPT_BROKERS_ONLY,
    OPT_JSON,
    OPT_HTML,
    OPT_STRICT,
    OPT_BENCH,
    OPT_HELP
};

static const struct option option_names[] = {
    {"scenarios", required_argument, NULL, OPT_SCENARIOS},
    {"brokers", required_argument, NULL, OPT_BROKERS},
    {"rounds", required_argument, NULL, OPT_ROUNDS},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"only", required_argument, NULL, OPT_ONLY},
    {"brokers-only", required_argument, NULL, OPT_BROKERS_ONLY},
    {"json", required_argument, NULL, OPT_JSON},
    {"html", required_argument, NULL, OPT_HTML},
    {"strict", no_argument, NULL, OPT_STRICT},
    {"bench", required_argument, NULL, OPT_BENCH},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static int texts_add(struct texts *texts, const char *text)
{
    if (texts->count == TEXTS_MAX) {
        return wrong("more than %d names of one kind", TEXTS_MAX);
    }
    texts->text[texts->count++] = text;
    return 0;
}

static int rounds_take(const char *text, uint32_t *ret_rounds)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end != 0 || value < 1 || value > COMPARE_ROUNDS_MAX) {
        return wrong("--rounds is a number from 1 to %d, not %s", COMPARE_ROUNDS_MAX, text);
    }
    *ret_rounds = (uint32_t)value;
    return 0;
}

static int duration_take(const char *text, const char **ret_duration)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != 0 || !(value > 0 && value <= DURATION_S_MAX)) {
        return wrong("--duration is a number of seconds up to %d, not %s", DURATION_S_MAX, text);
    }
    *ret_duration = text;
    return 0;
}

static int option_take(struct options *o, int option, const char *text)
{
    switch (option) {
    case OPT_SCENARIOS:
        o->scenarios = text;
        return 0;
    case OPT_BROKERS:
        o->brokers = text;
        return 0;
    case OPT_ROUNDS:
        return rounds_take(text, &o->rounds);
    case OPT_DURATION:
        return duration_take(text, &o->duration);
    case OPT_ONLY:
        return texts_add(&o->only, text);
    case OPT_BROKERS_ONLY:
        return texts_add(&o->brokers_only, text);
    case OPT_JSON:
        o->json = text;
        return 0;
    case OPT_HTML:
        o->html = text;
        return 0;
    case OPT_STRICT:
        o->strict = true;
        return 0;
    case OPT_BENCH:
        o->bench = text;
        return 0;
    case OPT_HELP:
        o->help = true;
        return 0;
    default:
        return EXIT_WRONG; /* getopt_long has said what is wrong */
    }
}

/* The arguments over what options holds already. */
static int options_read(int argc, char **argv, struct options *options)
{
    int option;

    optind = 0; /* main may have used it before */
    while ((option = getopt_long(argc, argv, "", option_names, NULL)) != -1) {
        int rc = option_take(options, option, optarg);
        if (rc) {
            return rc;
        }
    }
    if (optind < argc) {
        return wrong("one argument too many: %s", argv[optind]);
    }
    if (!options->help && (!options->scenarios || !options->brokers)) {
        return wrong("--scenarios and --brokers are needed");
    }
    return 0;
}

/* --- what is measured -----------------------------------------------------------------------------------------------
 */

static bool texts_match(const struct texts *texts, const char *name)
{
    for (uint32_t i = 0; i < texts->count; i++) {
        if (strcasestr(name, texts->text[i])) {
            return true;
        }
    }
    return texts->count == 0;
}

static int scenarios_choose(const struct options *o, const struct cases *cases, struct compare_table *table)
{
    uint32_t count = 0;

    for (uint32_t s = 0; s < cases->scenario_count; s++) {
        table->scenario_on[s] = texts_match(&o->only, cases->scenarios[s].name);
        count += table->scenario_on[s];
    }
    return count > 0 ? 0 : wrong("no scenario of %s has a name that --only asks for", o->scenarios);
}

/* Those asked for, and installed. Without a reference there is nothing to compare with, which --strict does not
 * forgive. */
static int brokers_choose(const struct options *o, const struct cases *cases, struct compare_table *table)
{
    uint32_t asked = 0, count = 0;
    char path[SPAWN_PATH_MAX];
    bool lacks_reference = false;

    for (uint32_t b = 0; b < cases->broker_count; b++) {
        const struct case_broker *broker = &cases->brokers[b];
        if (!texts_match(&o->brokers_only, broker->name)) {
            continue;
        }
        asked++;
        if (broker->skip_without && spawn_find(broker->skip_without, path) != 0) {
            fprintf(stderr, "%s is left out: %s is not installed\n", broker->name, broker->skip_without);
            lacks_reference |= broker->reference;
            continue;
        }
        table->broker_on[b] = true;
        count++;
    }
    if (asked == 0) {
        return wrong("no broker of %s has a name that --brokers-only asks for", o->brokers);
    }
    if (count == 0 || (lacks_reference && o->strict)) {
        wrong(count == 0 ? "no broker is installed" : "the reference is not installed, so no ratio can be checked");
        return EXIT_NOT_RUN;
    }
    return 0;
}

/* --- what is written ------------------------------------------------------------------------------------------------
 */

static int write_json(const struct options *o, const struct compare_run *run)
{
    json_t *table = compare_table_json(run->table);
    json_t *all = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:o, s:O}", "tool", "tern-bench compare", "scenarios",
                            o->scenarios, "brokers", o->brokers, "rounds", (int)o->rounds, "unclean", (int)run->unclean,
                            "failed", (int)run->failed, "table", table, "results", run->results);
    int rc = all ? json_dump_file(all, o->json, JSON_INDENT(1)) : -1;

    json_decref(all);
    if (rc) {
        wrong("%s cannot be written", o->json);
        return EXIT_NOT_RUN;
    }
    return 0;
}

static int write_html(const struct options *o, const struct compare_run *run)
{
    int rc = report_write_html(o->html, "Brokers under the same load", run->results);

    if (rc) {
        wrong("%s cannot be written: %s", o->html, strerror(-rc));
        return EXIT_NOT_RUN;
    }
    return 0;
}

/* Whether a file can be written, to be known before ten minutes are spent on it. */
static int output_check(const char *path)
{
    FILE *file = path ? fopen(path, "ae") : NULL;

    if (!path) {
        return 0;
    }
    return file && fclose(file) == 0 ? 0 : wrong("%s cannot be written: %s", path, strerror(errno));
}

/* Table and files; then how the whole ended. */
static int finish(const struct options *o, const struct compare_run *run)
{
    uint32_t missed = compare_missed(run->table);
    int status = run->failed > 0 ? EXIT_NOT_RUN : run->unclean > 0 || (o->strict && missed > 0) ? EXIT_UNCLEAN : 0;

    compare_table_print(run->table, stdout);
    fflush(stdout);
    int json = o->json ? write_json(o, run) : 0, html = o->html ? write_html(o, run) : 0;
    if (run->failed + run->unclean + missed > 0) {
        fprintf(stderr, "runs that failed: %u, that were not clean: %u; bounds missed: %u\n", run->failed, run->unclean,
                missed);
    }
    return json || html ? EXIT_NOT_RUN : status;
}

static int measure(const struct options *o, const struct cases *cases, struct compare_table *table)
{
    char program[SPAWN_PATH_MAX];
    struct compare_run run = {.cases = cases, .program = program, .duration = o->duration, .table = table};

    if (spawn_find(o->bench, program) != 0) {
        return wrong("%s is not a program", o->bench);
    }
    if (output_check(o->json) != 0 || output_check(o->html) != 0) {
        return EXIT_WRONG;
    }
    if (o->json || o->html) {
        run.results = json_array();
    }
    spawn_init();
    int rc = compare_run_all(&run);
    spawn_deinit();
    rc = rc == 0 ? finish(o, &run) : rc == -EINVAL ? EXIT_WRONG : EXIT_NOT_RUN;
    json_decref(run.results);
    return rc;
}

int compare_main(int argc, char **argv)
{
    static struct compare_table table; /* too large for the stack's taste */
    struct options options = {.rounds = ROUNDS, .bench = "/proc/self/exe"};
    struct cases cases;
    char why[CASES_WHY_MAX];
    int rc = options_read(argc, argv, &options);

    if (rc) {
        return rc;
    }
    if (options.help) {
        fputs(usage_text, stdout);
        return 0;
    }
    rc = cases_read(options.scenarios, options.brokers, &cases, why);
    if (rc) {
        fprintf(stderr, "%s\n", rc == -EINVAL ? why : strerror(-rc));
        rc = EXIT_WRONG;
    } else {
        compare_table_init(&table, &cases, options.rounds);
        rc = scenarios_choose(&options, &cases, &table);
        rc = rc ? rc : brokers_choose(&options, &cases, &table);
        rc = rc ? rc : measure(&options, &cases, &table);
    }
    cases_deinit(&cases);
    return rc;
}
