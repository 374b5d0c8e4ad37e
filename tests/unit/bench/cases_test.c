/* The files of a comparison: what is taken from good ones, and the sentence that each mistake gets. */
#include "bench/compare/cases.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/unit.h"

#define SCENARIO "- {name: a, run: pair}\n"
#define BROKER "- {name: x, command: x}\n"

struct files {
    char scenarios[64], brokers[64];
};

static void file_write(char *path, const char *text)
{
    int fd = mkstemp(path);

    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static struct files files_make(const char *scenarios, const char *brokers)
{
    struct files files = {"/tmp/tern-cases-s-XXXXXX", "/tmp/tern-cases-b-XXXXXX"};

    file_write(files.scenarios, scenarios);
    file_write(files.brokers, brokers);
    return files;
}

static void files_remove(const struct files *files)
{
    unlink(files->scenarios);
    unlink(files->brokers);
}

static void test_good(void)
{
    struct files files = files_make("- name: pairs\n"
                                    "  run: pair -t 'a b'\n"
                                    "  figure: latency_us.delivery.p99.9\n"
                                    "  bounds:\n"
                                    "    - ratio: 0.04\n"
                                    "    - &two {ratio: 1.25, to: \"T, 1\", brokers: [\"T, 2\"]}\n"
                                    "- {name: idle, run: conn, bounds: [limit: 600, *two]}\n",
                                    "- name: m\n"
                                    "  reference: true\n"
                                    "  skip_without: mosq\n"
                                    "  command: m -c {config}\n"
                                    "  config: |\n"
                                    "    listener {port}\n"
                                    "- {name: \"T, 1\", command: t 1}\n"
                                    "- {name: \"T, 2\", command: t 2, reference: false}\n");
    char why[CASES_WHY_MAX];
    struct cases c;

    CHECK(cases_read(files.scenarios, files.brokers, &c, why) == 0);
    CHECK(c.scenario_count == 2 && c.broker_count == 3);
    CHECK(strcmp(c.scenarios[0].name, "pairs") == 0 && c.scenarios[0].run.count == 3);
    CHECK(strcmp(c.scenarios[0].run.word[2], "a b") == 0 && !c.scenarios[0].run.word[3]);
    CHECK(strcmp(c.scenarios[0].figure, "latency_us.delivery.p99.9") == 0 && !c.scenarios[1].figure);
    CHECK(c.scenarios[0].bound_count == 2 && c.scenarios[0].bounds[0].most == 0.04);
    CHECK(!c.scenarios[0].bounds[0].absolute && !c.scenarios[0].bounds[0].reference);
    CHECK(c.scenarios[1].bound_count == 2 && c.scenarios[1].bounds[0].absolute);
    CHECK(c.scenarios[1].bounds[1].most == 1.25 && strcmp(c.scenarios[1].bounds[1].reference, "T, 1") == 0);
    CHECK(c.scenarios[1].bounds[1].broker_count == 1 && strcmp(c.scenarios[1].bounds[1].brokers[0], "T, 2") == 0);
    CHECK(c.brokers[0].reference && !c.brokers[1].reference && !c.brokers[2].reference);
    CHECK(strcmp(c.brokers[0].config, "listener {port}\n") == 0 && strcmp(c.brokers[0].skip_without, "mosq") == 0);
    cases_deinit(&c);
    files_remove(&files);
}

static const struct {
    const char *name, *scenarios, *brokers;
    char file; /* s or b, the one that is blamed */
    const char *want;
} bad[] = {
    {"no file", "", BROKER, 's', ": is empty"},
    {"no YAML", "- {name: a\n\n- b", BROKER, 's', ": this is not YAML: did not find expected ',' or '}'"},
    {"a second document", SCENARIO "---\n" SCENARIO, BROKER, 's',
     ":3: a second document begins here, and would be ignored"},
    {"no list", "name: a\n", BROKER, 's', ":1: a list is needed here"},
    {"an empty list", "[]\n", BROKER, 's', ":1: this list has 0 items, and must have 1 to 64"},
    {"an item that is a text", "- a\n", BROKER, 's', ":1: a mapping is needed here (name: value)"},
    {"an unknown member", SCENARIO "- name: b\n  runs: pair\n", BROKER, 's', ":3: nothing here is called runs"},
    {"a member twice", "- name: b\n  run: x\n  name: c\n", BROKER, 's', ":3: name is given twice"},
    {"no name", "- run: x\n", BROKER, 's', ":1: a scenario needs a name"},
    {"no run", "- name: x\n", BROKER, 's', ":1: a scenario needs run"},
    {"an empty name", "- name: ''\n", BROKER, 's', ":1: this text is empty"},
    {"a zero byte", "- name: \"a\\0b\"\n", BROKER, 's', ":1: this text is not plain: there is a zero byte in it"},
    {"a name that would break the table", "- name: a|b\n", BROKER, 's', ":1: a name must be one line without |"},
    {"a list for a name", "- name: [a]\n", BROKER, 's', ":1: a text is needed here, not a list or a mapping"},
    {"the same name", SCENARIO SCENARIO, BROKER, 's', ":2: there is a scenario called a in line 1"},
    {"a quote left open", "- name: a\n  run: \"pair 'x\"\n", BROKER, 's',
     ":2: this command has a quote that is not closed, or ends with a backslash"},
    {"blanks only", "- name: a\n  run: ' '\n", BROKER, 's', ":2: this command has no words"},
    {"no number", "- name: a\n  run: x\n  bounds: [ratio: 5%]\n", BROKER, 's', ":3: 5% is not a number above 0"},
    {"a number too small", "- name: a\n  run: x\n  bounds: [limit: -1]\n", BROKER, 's',
     ":3: -1 is not a number above 0"},
    {"no finite number", "- name: a\n  run: x\n  bounds: [limit: inf]\n", BROKER, 's',
     ":3: inf is not a number above 0"},
    {"ratio and limit", "- name: a\n  run: x\n  bounds: [{ratio: 1, limit: 1}]\n", BROKER, 's',
     ":3: a bound is either a ratio or a limit"},
    {"neither", "- name: a\n  run: x\n  bounds: [{brokers: [x]}]\n", BROKER, 's',
     ":3: a bound needs a ratio or a limit"},
    {"a limit to somebody", "- name: a\n  run: x\n  bounds: [{limit: 1, to: x}]\n", BROKER, 's',
     ":3: a limit is not compared with any broker: leave `to` out"},
    {"too many bounds", "- {name: a, run: x, bounds: [limit: 1, limit: 1, limit: 1, limit: 1, limit: 1]}\n", BROKER,
     's', ":1: this list has 5 items, and must have 1 to 4"},
    {"a bound on nobody", "- {name: a, run: x, bounds: [{limit: 1, brokers: [x, y]}]}\n", BROKER, 's',
     ":1: there is no broker called y in "},
    {"a bound to nobody", "- {name: a, run: x, bounds: [{ratio: 1, to: z}]}\n", BROKER, 's',
     ":1: there is no broker called z in "},
    {"a broker without command", SCENARIO, "- name: x\n", 'b', ":1: a broker needs a command"},
    {"a broker without name", SCENARIO, "- command: x\n", 'b', ":1: a broker needs a name"},
    {"two brokers of one name", SCENARIO, BROKER BROKER, 'b', ":2: there is a broker called x in line 1"},
    {"two references", SCENARIO, "- {name: x, command: x, reference: true}\n- {name: y, command: y, reference: true}\n",
     'b', ":2: there can be one reference: it is x already"},
    {"half a reference", SCENARIO, "- {name: x, command: x, reference: yes}\n", 'b',
     ":1: reference is true or false, not yes"},
    {"config named and not given", SCENARIO, "- {name: x, command: 'x {config}'}\n", 'b',
     ":1: the command names {config}, and there is no config"},
};

static void test_bad(void)
{
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct files files = files_make(bad[i].scenarios, bad[i].brokers);
        const char *blamed = bad[i].file == 's' ? files.scenarios : files.brokers;
        char why[CASES_WHY_MAX];
        struct cases c;

        CHECK_CASE(bad[i].name, cases_read(files.scenarios, files.brokers, &c, why) == -EINVAL);
        CHECK_CASE(bad[i].name, strncmp(why, blamed, strlen(blamed)) == 0);
        CHECK_CASE(bad[i].name, strstr(why, bad[i].want) != NULL);
        cases_deinit(&c);
        files_remove(&files);
    }
}

/* One item more than the bound, in either file. */
static void test_too_many(void)
{
    char scenarios[65 * 32] = "", brokers[17 * 32] = "", why[CASES_WHY_MAX];
    struct cases c;

    for (unsigned i = 0; i <= CASES_SCENARIOS_MAX; i++) {
        snprintf(scenarios + strlen(scenarios), 32, "- {name: s%u, run: x}\n", i);
    }
    for (unsigned i = 0; i <= CASES_BROKERS_MAX; i++) {
        snprintf(brokers + strlen(brokers), 32, "- {name: b%u, command: x}\n", i);
    }
    struct files files = files_make(scenarios, BROKER);
    CHECK(cases_read(files.scenarios, files.brokers, &c, why) == -EINVAL);
    CHECK(strstr(why, ":1: this list has 65 items, and must have 1 to 64") != NULL);
    cases_deinit(&c);
    files_remove(&files);

    files = files_make(SCENARIO, brokers);
    CHECK(cases_read(files.scenarios, files.brokers, &c, why) == -EINVAL);
    CHECK(strstr(why, ":1: this list has 17 items, and must have 1 to 16") != NULL);
    cases_deinit(&c);
    files_remove(&files);
}

/* A list that contains itself, which YAML allows. */
static void test_cycle(void)
{
    struct files files = files_make("&a [*a]\n", BROKER);
    char why[CASES_WHY_MAX];
    struct cases c;

    CHECK(cases_read(files.scenarios, files.brokers, &c, why) == -EINVAL);
    cases_deinit(&c);
    files_remove(&files);
}

static void test_missing_file(void)
{
    char why[CASES_WHY_MAX];
    struct cases c;

    CHECK(cases_read("/nowhere/s", "/nowhere/b", &c, why) == -EINVAL);
    CHECK(strcmp(why, "/nowhere/s: cannot be opened: No such file or directory") == 0);
    cases_deinit(&c);
}

UNIT_MAIN("bench/cases", {"good files", test_good}, {"a sentence for each mistake", test_bad},
          {"more than the bounds", test_too_many}, {"a list in itself", test_cycle},
          {"no such file", test_missing_file})
