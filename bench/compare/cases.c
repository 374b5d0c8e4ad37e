/* cases.c -- the two YAML files of a comparison, as a document each.
 *
 * A document and not events, as for the broker's configuration: aliases are welcome here, since many scenarios share
 * their bounds. An alias is the node that it names, so nobody below has to know of them; and no depth is followed that
 * is not written down in this file, so one that contains itself does no harm. */
#include "bench/compare/cases.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct reader {
    const char *path;
    char *why; /* borrowed, CASES_WHY_MAX bytes */
    yaml_document_t document;
};

/* A member that a mapping may have. Its reader gets the object that is filled. */
struct member {
    const char *name;
    int (*read)(struct reader *r, yaml_node_t *node, void *object);
};

static unsigned node_line(const yaml_node_t *node)
{
    return (unsigned)node->start_mark.line + 1;
}

__attribute__((format(printf, 3, 4))) static int fail(struct reader *r, unsigned line, const char *format, ...)
{
    va_list args;
    int len = line ? snprintf(r->why, CASES_WHY_MAX, "%s:%u: ", r->path, line)
                   : snprintf(r->why, CASES_WHY_MAX, "%s: ", r->path);

    if (len >= 0 && len < CASES_WHY_MAX) {
        va_start(args, format);
        vsnprintf(r->why + len, (size_t)(CASES_WHY_MAX - len), format, args);
        va_end(args);
    }
    return -EINVAL;
}

static yaml_node_t *node_at(struct reader *r, int index)
{
    yaml_node_t *node = yaml_document_get_node(&r->document, index);

    assert(node);
    return node;
}

/* --- scalars --------------------------------------------------------------------------------------------------------
 */

/* The text of a scalar that is not empty, or NULL with the mistake told. Borrowed from the document. */
static const char *text_of(struct reader *r, yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE) {
        fail(r, node_line(node), "a text is needed here, not a list or a mapping");
        return NULL;
    }
    const char *text = (const char *)node->data.scalar.value;
    size_t len = node->data.scalar.length;

    if (len == 0 || len > WORD_BYTES_MAX || strlen(text) != len) {
        fail(r, node_line(node), "this text is %s",
             len == 0               ? "empty"
             : len > WORD_BYTES_MAX ? "too long"
                                    : "not plain: there is a zero byte in it");
        return NULL;
    }
    return text;
}

static int read_text(struct reader *r, yaml_node_t *node, char **ret_text)
{
    const char *text = text_of(r, node);

    if (!text) {
        return -EINVAL;
    }
    *ret_text = strdup(text);
    return *ret_text ? 0 : -ENOMEM;
}

/* A name stands in one line of a table. */
static int read_name(struct reader *r, yaml_node_t *node, char **ret_name)
{
    const char *text = text_of(r, node);

    if (text && strpbrk(text, "|\n\r")) {
        return fail(r, node_line(node), "a name must be one line without |");
    }
    return text ? read_text(r, node, ret_name) : -EINVAL;
}

static int read_number(struct reader *r, yaml_node_t *node, double *ret_number)
{
    const char *text = text_of(r, node);
    char *end;

    if (!text) {
        return -EINVAL;
    }
    double number = strtod(text, &end);
    if (*end != 0 || !isfinite(number) || number <= 0) {
        return fail(r, node_line(node), "%s is not a number above 0", text);
    }
    *ret_number = number;
    return 0;
}

static int read_words(struct reader *r, yaml_node_t *node, struct words *ret_words)
{
    const char *text = text_of(r, node);

    if (!text) {
        return -EINVAL;
    }
    switch (words_split(text, ret_words)) {
    case 0:
        return ret_words->count > 0 ? 0 : fail(r, node_line(node), "this command has no words");
    case -EINVAL:
        return fail(r, node_line(node), "this command has a quote that is not closed, or ends with a backslash");
    case -E2BIG:
        return fail(r, node_line(node), "this command has more than %d words", WORDS_MAX);
    default:
        return -ENOMEM;
    }
}

/* --- mappings and lists ---------------------------------------------------------------------------------------------
 */

static const struct member *member_find(const struct member *members, const char *name)
{
    while (members->name && strcmp(members->name, name) != 0) {
        members++;
    }
    return members->name ? members : NULL;
}

/* Fill object from a mapping whose members are those of the table, each once at most. */
static int read_mapping(struct reader *r, yaml_node_t *node, const struct member *members, void *object)
{
    uint64_t seen = 0;

    if (node->type != YAML_MAPPING_NODE) {
        return fail(r, node_line(node), "a mapping is needed here (name: value)");
    }
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *key = node_at(r, pair->key);
        const char *name = text_of(r, key);
        if (!name) {
            return -EINVAL;
        }
        const struct member *member = member_find(members, name);
        if (!member) {
            return fail(r, node_line(key), "nothing here is called %s", name);
        }
        if (seen & UINT64_C(1) << (member - members)) {
            return fail(r, node_line(key), "%s is given twice", name);
        }
        seen |= UINT64_C(1) << (member - members);
        int rc = member->read(r, node_at(r, pair->value), object);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

/* Call read for each item of a list of 1 to max items. */
static int read_list(struct reader *r, yaml_node_t *node, uint32_t max,
                     int (*read)(struct reader *r, yaml_node_t *node, void *object), void *object)
{
    if (node->type != YAML_SEQUENCE_NODE) {
        return fail(r, node_line(node), "a list is needed here");
    }
    yaml_node_item_t *first = node->data.sequence.items.start, *end = node->data.sequence.items.top;

    if (first == end || end - first > max) {
        return fail(r, node_line(node), "this list has %td items, and must have 1 to %u", end - first, max);
    }
    for (yaml_node_item_t *item = first; item < end; item++) {
        int rc = read(r, node_at(r, *item), object);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

/* --- scenarios ------------------------------------------------------------------------------------------------------
 */

static int bound_most(struct reader *r, yaml_node_t *node, struct case_bound *bound, bool absolute)
{
    if (bound->most > 0) {
        return fail(r, node_line(node), "a bound is either a ratio or a limit");
    }
    bound->absolute = absolute;
    return read_number(r, node, &bound->most);
}

static int bound_ratio(struct reader *r, yaml_node_t *node, void *object)
{
    return bound_most(r, node, object, false);
}

static int bound_limit(struct reader *r, yaml_node_t *node, void *object)
{
    return bound_most(r, node, object, true);
}

static int bound_to(struct reader *r, yaml_node_t *node, void *object)
{
    return read_name(r, node, &((struct case_bound *)object)->reference);
}

static int bound_broker(struct reader *r, yaml_node_t *node, void *object)
{
    struct case_bound *bound = object;
    int rc = read_name(r, node, &bound->brokers[bound->broker_count]);

    bound->broker_count += rc == 0;
    return rc;
}

static int bound_brokers(struct reader *r, yaml_node_t *node, void *object)
{
    return read_list(r, node, CASES_BROKERS_MAX, bound_broker, object);
}

static int scenario_bound(struct reader *r, yaml_node_t *node, void *object)
{
    static const struct member members[] = {
        {"ratio", bound_ratio}, {"limit", bound_limit}, {"to", bound_to}, {"brokers", bound_brokers}, {NULL, NULL},
    };
    struct case_scenario *scenario = object;
    struct case_bound *bound = &scenario->bounds[scenario->bound_count++];

    bound->line = node_line(node);
    int rc = read_mapping(r, node, members, bound);
    if (rc == 0 && bound->most <= 0) {
        return fail(r, bound->line, "a bound needs a ratio or a limit");
    }
    if (rc == 0 && bound->absolute && bound->reference) {
        return fail(r, bound->line, "a limit is not compared with any broker: leave `to` out");
    }
    return rc;
}

static int scenario_bounds(struct reader *r, yaml_node_t *node, void *object)
{
    return read_list(r, node, CASES_BOUNDS_MAX, scenario_bound, object);
}

static int scenario_name(struct reader *r, yaml_node_t *node, void *object)
{
    return read_name(r, node, &((struct case_scenario *)object)->name);
}

static int scenario_run(struct reader *r, yaml_node_t *node, void *object)
{
    return read_words(r, node, &((struct case_scenario *)object)->run);
}

static int scenario_figure(struct reader *r, yaml_node_t *node, void *object)
{
    return read_name(r, node, &((struct case_scenario *)object)->figure);
}

static int read_scenario(struct reader *r, yaml_node_t *node, void *object)
{
    static const struct member members[] = {
        {"name", scenario_name},     {"run", scenario_run}, {"figure", scenario_figure},
        {"bounds", scenario_bounds}, {NULL, NULL},
    };
    struct cases *cases = object;
    struct case_scenario *scenario = &cases->scenarios[cases->scenario_count++];

    scenario->line = node_line(node);
    int rc = read_mapping(r, node, members, scenario);
    if (rc) {
        return rc;
    }
    if (!scenario->name || scenario->run.count == 0) {
        return fail(r, scenario->line, "a scenario needs %s", scenario->name ? "run" : "a name");
    }
    for (struct case_scenario *other = cases->scenarios; other < scenario; other++) {
        if (strcmp(other->name, scenario->name) == 0) {
            return fail(r, scenario->line, "there is a scenario called %s in line %u", other->name, other->line);
        }
    }
    return 0;
}

static int read_scenarios(struct reader *r, yaml_node_t *root, struct cases *cases)
{
    return read_list(r, root, CASES_SCENARIOS_MAX, read_scenario, cases);
}

/* --- brokers --------------------------------------------------------------------------------------------------------
 */

static int broker_name(struct reader *r, yaml_node_t *node, void *object)
{
    return read_name(r, node, &((struct case_broker *)object)->name);
}

static int broker_command(struct reader *r, yaml_node_t *node, void *object)
{
    return read_words(r, node, &((struct case_broker *)object)->command);
}

static int broker_config(struct reader *r, yaml_node_t *node, void *object)
{
    return read_text(r, node, &((struct case_broker *)object)->config);
}

static int broker_skip_without(struct reader *r, yaml_node_t *node, void *object)
{
    return read_name(r, node, &((struct case_broker *)object)->skip_without);
}

static int broker_reference(struct reader *r, yaml_node_t *node, void *object)
{
    const char *text = text_of(r, node);

    if (!text) {
        return -EINVAL;
    }
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
        return fail(r, node_line(node), "reference is true or false, not %s", text);
    }
    ((struct case_broker *)object)->reference = strcmp(text, "true") == 0;
    return 0;
}

static bool uses_config(const struct case_broker *broker)
{
    for (uint32_t i = 0; i < broker->command.count; i++) {
        if (strstr(broker->command.word[i], "{config}")) {
            return true;
        }
    }
    return false;
}

/* What one member cannot know of another, nor one broker. */
static int broker_check(struct reader *r, const struct cases *cases, const struct case_broker *broker)
{
    if (!broker->config && uses_config(broker)) {
        return fail(r, broker->line, "the command names {config}, and there is no config");
    }
    for (const struct case_broker *other = cases->brokers; other < broker; other++) {
        if (strcmp(other->name, broker->name) == 0) {
            return fail(r, broker->line, "there is a broker called %s in line %u", other->name, other->line);
        }
        if (other->reference && broker->reference) {
            return fail(r, broker->line, "there can be one reference: it is %s already", other->name);
        }
    }
    return 0;
}

static int read_broker(struct reader *r, yaml_node_t *node, void *object)
{
    static const struct member members[] = {
        {"name", broker_name},           {"command", broker_command},
        {"config", broker_config},       {"skip_without", broker_skip_without},
        {"reference", broker_reference}, {NULL, NULL},
    };
    struct cases *cases = object;
    struct case_broker *broker = &cases->brokers[cases->broker_count++];

    broker->line = node_line(node);
    int rc = read_mapping(r, node, members, broker);
    if (rc) {
        return rc;
    }
    if (!broker->name || broker->command.count == 0) {
        return fail(r, broker->line, "a broker needs a %s", broker->name ? "command" : "name");
    }
    return broker_check(r, cases, broker);
}

static int read_brokers(struct reader *r, yaml_node_t *root, struct cases *cases)
{
    return read_list(r, root, CASES_BROKERS_MAX, read_broker, cases);
}

static bool has_broker(const struct cases *cases, const char *name)
{
    for (uint32_t i = 0; i < cases->broker_count; i++) {
        if (strcmp(cases->brokers[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* A bound on a broker that is nowhere would be kept for ever. */
static int bound_check(struct reader *r, const struct cases *cases, const struct case_bound *bound)
{
    const char *unknown = bound->reference && !has_broker(cases, bound->reference) ? bound->reference : NULL;

    for (uint32_t i = 0; i < bound->broker_count && !unknown; i++) {
        unknown = has_broker(cases, bound->brokers[i]) ? NULL : bound->brokers[i];
    }
    return unknown ? fail(r, bound->line, "there is no broker called %s in %s", unknown, cases->brokers_path) : 0;
}

static int bounds_check(const struct cases *cases, char *why)
{
    struct reader r = {.path = cases->scenarios_path, .why = why};

    for (uint32_t i = 0; i < cases->scenario_count; i++) {
        for (uint32_t k = 0; k < cases->scenarios[i].bound_count; k++) {
            int rc = bound_check(&r, cases, &cases->scenarios[i].bounds[k]);
            if (rc) {
                return rc;
            }
        }
    }
    return 0;
}

/* --- files ----------------------------------------------------------------------------------------------------------
 */

/* The whole file in memory, so that what libyaml is given has a bound. */
static int file_read(struct reader *r, char **ret_text, size_t *ret_len)
{
    FILE *file = fopen(r->path, "re");

    if (!file) {
        return fail(r, 0, "cannot be opened: %s", strerror(errno));
    }
    char *text = malloc(CASES_FILE_MAX + 1);
    size_t len = text ? fread(text, 1, CASES_FILE_MAX + 1, file) : 0;
    int rc = !text                  ? -ENOMEM
             : ferror(file)         ? fail(r, 0, "cannot be read: %s", strerror(errno))
             : len > CASES_FILE_MAX ? fail(r, 0, "is longer than %d bytes", CASES_FILE_MAX)
                                    : 0;
    fclose(file);
    if (rc) {
        free(text);
        return rc;
    }
    *ret_text = text;
    *ret_len = len;
    return 0;
}

static int document_load(struct reader *r, yaml_parser_t *parser)
{
    if (yaml_parser_load(parser, &r->document)) {
        return 0;
    }
    if (parser->error == YAML_MEMORY_ERROR) {
        return -ENOMEM;
    }
    return fail(r, (unsigned)parser->problem_mark.line + 1, "this is not YAML: %s",
                parser->problem ? parser->problem : "unreadable");
}

/* The first document, to be given to read, must be the only one. */
static int parser_read(struct reader *r, yaml_parser_t *parser,
                       int (*read)(struct reader *r, yaml_node_t *root, struct cases *cases), struct cases *cases)
{
    int rc = document_load(r, parser);

    if (rc) {
        return rc;
    }
    yaml_node_t *root = yaml_document_get_root_node(&r->document);
    rc = root ? read(r, root, cases) : fail(r, 0, "is empty");
    yaml_document_delete(&r->document);
    if (rc) {
        return rc;
    }
    rc = document_load(r, parser);
    if (rc) {
        return rc;
    }
    root = yaml_document_get_root_node(&r->document);
    rc = root ? fail(r, node_line(root), "a second document begins here, and would be ignored") : 0;
    yaml_document_delete(&r->document);
    return rc;
}

static int path_read(const char *path, char *why, int (*read)(struct reader *r, yaml_node_t *root, struct cases *cases),
                     struct cases *cases)
{
    struct reader r = {.path = path, .why = why};
    yaml_parser_t parser;
    char *text = NULL;
    size_t len = 0;
    int rc = file_read(&r, &text, &len);

    if (rc == 0 && !yaml_parser_initialize(&parser)) {
        free(text);
        return -ENOMEM;
    }
    if (rc == 0) {
        yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
        rc = parser_read(&r, &parser, read, cases);
        yaml_parser_delete(&parser);
    }
    free(text);
    return rc;
}

int cases_read(const char *scenarios_path, const char *brokers_path, struct cases *ret_cases, char *why)
{
    *ret_cases = (struct cases){
        .scenarios_path = scenarios_path,
        .brokers_path = brokers_path,
        .scenarios = calloc(CASES_SCENARIOS_MAX, sizeof(struct case_scenario)),
        .brokers = calloc(CASES_BROKERS_MAX, sizeof(struct case_broker)),
    };
    why[0] = 0;
    if (!ret_cases->scenarios || !ret_cases->brokers) {
        return -ENOMEM;
    }
    int rc = path_read(scenarios_path, why, read_scenarios, ret_cases);
    rc = rc ? rc : path_read(brokers_path, why, read_brokers, ret_cases);
    return rc ? rc : bounds_check(ret_cases, why);
}

static void scenario_deinit(struct case_scenario *scenario)
{
    free(scenario->name);
    free(scenario->figure);
    words_deinit(&scenario->run);
    for (uint32_t i = 0; i < scenario->bound_count; i++) {
        struct case_bound *bound = &scenario->bounds[i];
        free(bound->reference);
        for (uint32_t k = 0; k < bound->broker_count; k++) {
            free(bound->brokers[k]);
        }
    }
}

void cases_deinit(struct cases *cases)
{
    for (uint32_t i = 0; i < cases->scenario_count; i++) {
        scenario_deinit(&cases->scenarios[i]);
    }
    for (uint32_t i = 0; i < cases->broker_count; i++) {
        struct case_broker *broker = &cases->brokers[i];
        free(broker->name);
        free(broker->config);
        free(broker->skip_without);
        words_deinit(&broker->command);
    }
    free(cases->scenarios);
    free(cases->brokers);
    *cases = (struct cases){0};
}
