/* config_print.c -- a configuration as a file that explains itself, and what changed between two of them. */
#include "broker/base/config_schema.h"

/* In double quotes, so that nothing in it means something to YAML. Control characters never got in:
 * config_text_printable. */
static void print_quoted(struct slice text, FILE *out)
{
    fputc('"', out);
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\') {
            fputc('\\', out);
        }
        fputc(text.ptr[i], out);
    }
    fputc('"', out);
}

static const char *type_name(enum config_type type)
{
    switch (type) {
    case CONFIG_BOOL:
        return "true or false";
    case CONFIG_TRI:
        return "true, false or auto";
    case CONFIG_INT:
        return "number";
    case CONFIG_OCTAL:
        return "octal number";
    case CONFIG_BYTES:
        return "size";
    case CONFIG_MS:
    case CONFIG_SECONDS:
        return "duration";
    case CONFIG_STRING:
        return "text";
    case CONFIG_LIST:
    case CONFIG_LISTENERS:
        return "list";
    case CONFIG_NETWORKS:
        return "list of networks";
    case CONFIG_ENUM:
        break;
    }
    return "word";
}

static void print_limits(const struct config_key *key, FILE *out)
{
    char min[32], max[32];

    if (key->type == CONFIG_BOOL || key->type == CONFIG_TRI) {
        return;
    }
    if (key->names) {
        for (unsigned i = 0; key->names[i]; i++) {
            fprintf(out, "%s%s", i ? ", " : ": ", key->names[i]);
        }
    } else if (config_is_text(key) || key->type == CONFIG_LISTENERS) {
        fprintf(out, ", %llu to %llu %s", (unsigned long long)key->min, (unsigned long long)key->max,
                key->type == CONFIG_STRING ? "bytes" : "entries");
    } else if (key->type == CONFIG_OCTAL) {
        fprintf(out, ", %04o to %04o", (unsigned)key->min, (unsigned)key->max);
    } else {
        config_number_format(key, key->min, min, sizeof(min));
        config_number_format(key, key->max, max, sizeof(max));
        fprintf(out, ", %s to %s%s", min, max, key->infinity ? ", or infinity" : "");
    }
}

/* Two lines of comment: the meaning; and type, limits, default, whether a reload takes it. */
static void print_comment(const struct config_key *key, const char *indent, FILE *out)
{
    const char *by_default = key->by_default;

    if (!by_default) {
        by_default = strcmp(key->name, "node.name") == 0 ? "the host's name" : "none";
    }
    fprintf(out, "%s# %s\n%s# %s", indent, key->description, indent, type_name(key->type));
    print_limits(key, out);
    fprintf(out, "; default %s; %s\n", *by_default ? by_default : "\"\"", key->reload ? "reload" : "restart");
}

static void print_list(const char *list, FILE *out)
{
    struct slice rest = slice_str(list), word;
    const char *between = "";

    fputc('[', out);
    while (config_list_next(&rest, &word)) {
        fputs(between, out);
        print_quoted(word, out);
        between = ", ";
    }
    fputc(']', out);
}

static void print_value(const void *base, const struct config_key *key, FILE *out)
{
    char value[32];

    if (key->type == CONFIG_STRING) {
        print_quoted(slice_str(*config_value_string(base, key)), out);
    } else if (config_is_text(key)) {
        print_list(*config_value_string(base, key), out);
    } else {
        config_value_format(base, key, value, sizeof(value));
        fputs(value, out);
    }
    fputc('\n', out);
}

/* The part of a key's name before the dot; empty if there is none. */
static struct slice section_of(const struct config_key *key)
{
    const char *dot = strchr(key->name, '.');
    return slice_of(key->name, dot ? (size_t)(dot - key->name) : 0);
}

static const char *name_within(const struct config_key *key)
{
    const char *dot = strchr(key->name, '.');
    return dot ? dot + 1 : key->name;
}

/* All keys of a listener with their defaults, as an entry that is commented out: it explains them, and is one to start
 * from. */
static void print_listener_keys(const struct config_listener *defaults, FILE *out)
{
    struct slice section = {0};

    for (size_t i = 0; i < config_listener_keys.count; i++) {
        const struct config_key *key = &config_listener_keys.keys[i];
        struct slice here = section_of(key);
        const char *indent = here.len ? "  #     " : "  #   ";

        if (!slice_eq(here, section)) {
            fprintf(out, "  #   %.*s:\n", (int)here.len, key->name);
            section = here;
        }
        print_comment(key, indent, out);
        if (i == 0) {
            fprintf(out, "  # - %s: tcp://HOST:PORT\n", key->name);
            continue;
        }
        fprintf(out, "%s%s: ", indent, name_within(key));
        print_value(defaults, key, out);
    }
}

/* The address, and what differs from the defaults. */
static void print_listener(const struct config_listener *l, const struct config_listener *defaults, FILE *out)
{
    struct slice section = {0};

    for (size_t i = 0; i < config_listener_keys.count; i++) {
        const struct config_key *key = &config_listener_keys.keys[i];
        struct slice here = section_of(key);

        if (i > 0 && config_value_eq(l, defaults, key)) {
            continue;
        }
        if (!slice_eq(here, section)) {
            fprintf(out, "    %.*s:\n", (int)here.len, key->name);
            section = here;
        }
        fprintf(out, "%s%s: ", i == 0 ? "  - " : here.len ? "      " : "    ", name_within(key));
        print_value(l, key, out);
    }
}

static void print_listeners(const struct config *config, FILE *out)
{
    struct config_listener defaults;

    if (config_listener_init(&defaults) == 0) {
        print_listener_keys(&defaults, out);
        for (unsigned i = 0; i < config->listener_count; i++) {
            print_listener(&config->listeners[i], &defaults, out);
        }
    }
    config_listener_deinit(&defaults);
}

static void print_key(const struct config *config, const struct config_key *key, const char *indent, FILE *out)
{
    print_comment(key, indent, out);
    fprintf(out, "%s%s:", indent, name_within(key));
    if (key->type == CONFIG_LISTENERS) {
        fputc('\n', out);
        print_listeners(config, out);
        return;
    }
    fputc(' ', out);
    print_value(config, key, out);
}

void config_print(const struct config *config, FILE *out)
{
    struct slice section = {0};

    fprintf(out, "# Configuration of Tern. \"reload\": SIGHUP takes a new value; \"restart\": only a new start does.\n"
                 "# Sizes: B, KiB, MiB, GiB, TiB (KB, MB, GB, TB are decimal). Durations: ms, s, m, h, d.\n");
    for (size_t i = 0; i < config_keys.count; i++) {
        const struct config_key *key = &config_keys.keys[i];
        struct slice here = section_of(key);

        fputc('\n', out);
        if (!slice_eq(here, section)) {
            fprintf(out, "%.*s:\n", (int)here.len, key->name);
            section = here;
        }
        print_key(config, key, here.len ? "  " : "", out);
    }
}

void config_restart_needed(const struct config *now, const struct config *next, char *out, size_t out_size)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < config_keys.count; i++) {
        if (!config_keys.keys[i].reload && !config_value_eq(now, next, &config_keys.keys[i]) && used < out_size) {
            int n = snprintf(out + used, out_size - used, "%s%s", used ? ", " : "", config_keys.keys[i].name);
            used += n > 0 ? (size_t)n : 0;
        }
    }
}
