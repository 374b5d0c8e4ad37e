/* main.c -- tern-bench: one of the scenarios, or what is done with their results. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/compare/compare.h"
#include "bench/load/run.h"
#include "bench/report/report.h"
#include "broker/base/version.h"
#include "proto/base/log.h"

enum { EXIT_CLEAN, EXIT_UNCLEAN, EXIT_ARGUMENTS, EXIT_NOT_DONE };

static int usage(FILE *out, int status)
{
    fputs("usage: tern-bench SCENARIO [options]        put a load on an MQTT broker, check every message, tell what it "
          "cost\n"
          "       tern-bench report FILE...            results of --json as an HTML page and a Markdown table\n"
          "       tern-bench compare --scenarios FILE --brokers FILE\n"
          "                                            several brokers side by side, interleaved and repeated\n\n"
          "scenarios (`tern-bench SCENARIO --help` lists the options)\n",
          out);
    options_list(out);
    return status;
}

static bool json_write(const struct result *result)
{
    const char *path = result->options->json_path;
    json_t *json = result_json(result);
    FILE *out = path ? fopen(path, "w") : stdout;
    bool good =
        json && out && json_dumpf(json, out, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0 && fputc('\n', out) != EOF;

    if (out && path) {
        good = fclose(out) == 0 && good;
    }
    if (!good) {
        fprintf(stderr, "tern-bench: --json: %s cannot be written: %s\n", path ? path : "the result", strerror(errno));
    }
    json_decref(json);
    return good;
}

static int run(int argc, char **argv)
{
    static struct options options;
    static struct result result;
    int status = options_parse(argc, argv, &options);

    if (status != 0) {
        return status == 1 ? EXIT_CLEAN : EXIT_ARGUMENTS;
    }
    int rc = run_scenario(&options, &result);
    if (rc == -EINVAL) { /* the plan was refused, with a sentence */
        result_deinit(&result);
        return EXIT_ARGUMENTS;
    }
    bool met = expect_judge(&options.expect, result_lookup, &result);
    bool written = !options.json || json_write(&result);
    if (!options.quiet && !(options.json && !options.json_path)) {
        result_print(&result, stdout);
    }
    if (rc != 0) {
        fprintf(stderr, "tern-bench: %s\n", result.why);
    }
    status = rc != 0 || !written ? EXIT_NOT_DONE : result_clean(&result) && met ? EXIT_CLEAN : EXIT_UNCLEAN;
    result_deinit(&result);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        return usage(stderr, EXIT_ARGUMENTS);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        return usage(stdout, EXIT_CLEAN);
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("tern-bench " TERN_VERSION);
        return EXIT_CLEAN;
    }
    if (strcmp(argv[1], "report") == 0) {
        return report_main(argc - 1, argv + 1);
    }
    if (strcmp(argv[1], "compare") == 0) {
        return compare_main(argc - 1, argv + 1);
    }
    return run(argc - 1, argv + 1);
}
