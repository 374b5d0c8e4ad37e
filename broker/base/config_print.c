/* config_print.c -- a configuration as a file that explains itself, and what changed between two of them. */
#include "broker/base/config_schema.h"

/* In double quotes, so that nothing in it means something to YAML. Control characters never got in: see string_set. */
static void print_quoted(const char *text, FILE *out)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', out);
        }
        fputc(*text, out);
    }
    fputc('"', out);
}

static const char *type_name(enum config_type type)
{
    switch (type) {
    case CONFIG_BOOL:
        return "true or false";
    case CONFIG_INT:
        return "number";
    case CONFIG_BYTES:
        return "size";
    case CONFIG_MS:
    case CONFIG_SECONDS:
        return "duration";
    case CONFIG_STRING:
        return "text";
    case CONFIG_LISTENERS:
        return "list";
    case CONFIG_ENUM:
        break;
    }
    return "word";
}

/* The second line of comment: type, limits, default, whether a reload takes it. */
static void print_facts(const struct config_key *key, const char *indent, FILE *out)
{
    char min[32], max[32];

    fprintf(out, "%s# %s", indent, type_name(key->type));
    if (key->type == CONFIG_ENUM) {
        for (unsigned i = 0; key->names[i]; i++) {
            fprintf(out, "%s%s", i ? ", " : ": ", key->names[i]);
        }
    } else if (key->type == CONFIG_STRING || key->type == CONFIG_LISTENERS) {
        fprintf(out, ", %llu to %llu %s", (unsigned long long)key->min, (unsigned long long)key->max,
                key->type == CONFIG_STRING ? "bytes" : "entries");
    } else if (key->type != CONFIG_BOOL) {
        config_number_format(key, key->min, min, sizeof(min));
        config_number_format(key, key->max, max, sizeof(max));
        fprintf(out, ", %s to %s%s", min, max, key->infinity ? ", or infinity" : "");
    }
    const char *by_default = key->by_default ? key->by_default : "the host's name";
    fprintf(out, "; default %s; %s\n", *by_default ? by_default : "\"\"", key->reload ? "reload" : "restart");
}

static void print_listeners(const struct config *config, FILE *out)
{
    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];
        fprintf(out, "  - address: ");
        print_quoted(l->address, out);
        fputc('\n', out);
        if (l->allow_anonymous >= 0) {
            fprintf(out, "    allow_anonymous: %s\n", l->allow_anonymous ? "true" : "false");
        }
    }
}

static void print_key(const struct config *config, const struct config_key *key, const char *indent, FILE *out)
{
    const char *dot = strchr(key->name, '.'), *name = dot ? dot + 1 : key->name;
    char value[32];

    fprintf(out, "%s# %s\n", indent, key->description);
    print_facts(key, indent, out);
    if (key->type == CONFIG_LISTENERS) {
        fprintf(out, "%s%s:\n", indent, name);
        print_listeners(config, out);
        return;
    }
    fprintf(out, "%s%s: ", indent, name);
    if (key->type == CONFIG_STRING) {
        print_quoted(*config_value_string(config, key), out);
    } else {
        config_value_format(config, key, value, sizeof(value));
        fputs(value, out);
    }
    fputc('\n', out);
}

void config_print(const struct config *config, FILE *out)
{
    struct slice section = {0};

    fprintf(out, "# Configuration of Tern. \"reload\": SIGHUP takes a new value; \"restart\": only a new start does.\n"
                 "# Sizes: B, KiB, MiB, GiB, TiB (KB, MB, GB, TB are decimal). Durations: ms, s, m, h, d.\n");
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        const char *dot = strchr(key->name, '.');
        struct slice here = slice_of(key->name, dot ? (size_t)(dot - key->name) : 0);

        fputc('\n', out);
        if (!slice_eq(here, section)) {
            fprintf(out, "%.*s:\n", (int)here.len, key->name);
            section = here;
        }
        print_key(config, key, dot ? "  " : "", out);
    }
}

void config_restart_needed(const struct config *now, const struct config *next, char *out, size_t out_size)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < config_key_count; i++) {
        if (!config_keys[i].reload && !config_value_eq(now, next, &config_keys[i]) && used < out_size) {
            int n = snprintf(out + used, out_size - used, "%s%s", used ? ", " : "", config_keys[i].name);
            used += n > 0 ? (size_t)n : 0;
        }
    }
}
