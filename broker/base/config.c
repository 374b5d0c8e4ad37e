/* config.c -- where settings come from, and in which order. */
#include "broker/base/config.h"

#include "broker/base/config_schema.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENV_PREFIX "TERN_"
#define WHY_MAX 512

/* What may stand on the command line. A flag sets a key, asks for an action, or is one of the two special ones. */
static const struct flag {
    const char *name, *short_name, *value; /* value: its name in the help; NULL: takes none */
    enum { FLAG_FILE, FLAG_SET, FLAG_KEY, FLAG_ACTION } kind;
    const char *key;
    enum config_action action;
    const char *help;
} flags[] = {
    {"--config", "-c", "FILE", FLAG_FILE, NULL, CONFIG_RUN, "read this YAML file"},
    {"--set", NULL, "KEY=VALUE", FLAG_SET, NULL, CONFIG_RUN, "set one key, as in --set mqtt.max_packet_size=64KiB"},
    {"--listen", "-l", "ADDRESS", FLAG_KEY, "listeners", CONFIG_RUN,
     "take clients there instead of at the file's listeners; may be repeated"},
    {"--data", "-d", "DIRECTORY", FLAG_KEY, "data", CONFIG_RUN, "keep what must survive there"},
    {"--log-level", NULL, "LEVEL", FLAG_KEY, "log.level", CONFIG_RUN, "error, warn, info or debug"},
    {"--test-config", "-t", NULL, FLAG_ACTION, NULL, CONFIG_TEST, "say whether the configuration is right, and end"},
    {"--print-config", NULL, NULL, FLAG_ACTION, NULL, CONFIG_PRINT, "print the configuration with comments, and end"},
    {"--version", "-V", NULL, FLAG_ACTION, NULL, CONFIG_VERSION, "print the version, and end"},
    {"--help", "-h", NULL, FLAG_ACTION, NULL, CONFIG_HELP, "print this, and end"},
};

/* One argument taken apart, and where the next begins. */
struct arguments {
    int argc, next;
    char *const *argv;
    const struct flag *flag;
    const char *value; /* borrowed from argv; NULL if the flag takes none */
};

/* What every source needs to say what is wrong. */
struct loading {
    struct config *config; /* owned until config_load hands it out */
    char *error;           /* borrowed */
    size_t error_size;
};

static int loading_fail(struct loading *l, const char *source, const char *key, const char *why)
{
    snprintf(l->error, l->error_size, "%s: %s%s%s", source, key, *key ? ": " : "", why);
    return -EINVAL;
}

/* Set the key of that name; source says in the error where the setting came from. */
static int set_by_name(struct loading *l, const char *source, const char *name, const char *value)
{
    const struct config_key *key = config_key_find(&config_keys, name);
    char why[WHY_MAX];

    if (!key) {
        config_unknown_key(&config_keys, name, why, sizeof(why));
        return loading_fail(l, source, name, why);
    }
    int rc = config_value_set(l->config, key, value, why, sizeof(why));
    return rc == -EINVAL ? loading_fail(l, source, name, why) : rc;
}

static int load_defaults(struct loading *l)
{
    char host[HOST_NAME_MAX + 1] = "";

    int rc = config_values_default(&config_keys, l->config);
    if (rc) {
        return rc;
    }
    if (gethostname(host, sizeof(host) - 1) != 0 || set_by_name(l, "default", "node.name", host) != 0) {
        return set_by_name(l, "default", "node.name", "tern"); /* a host whose name is not one still gets a node */
    }
    return 0;
}

static int load_file(struct loading *l, const char *path)
{
    FILE *in = fopen(path, "re");
    struct stat st;

    if (!in) {
        return loading_fail(l, path, "", strerror(errno));
    }
    int rc;
    if (fstat(fileno(in), &st) == 0 && S_ISDIR(st.st_mode)) {
        rc = loading_fail(l, path, "", strerror(EISDIR));
    } else {
        rc = config_yaml_read(l->config, in, path, l->error, l->error_size);
    }
    fclose(in);
    return rc;
}

/* Kubernetes gives every pod TERN_PORT=tcp://..., TERN_SERVICE_HOST=... for a service called tern, and the like for
 * tern-x. A pod must not fail to start for the name of a service beside it; no key of ours looks like these. */
static bool env_is_service_link(const char *name)
{
    if (strstr(name, "__")) {
        return false;
    }
    const char *port = strstr(name, "_PORT");
    return strstr(name, "_SERVICE_HOST") || (port && (port[5] == '\0' || port[5] == '_'));
}

/* TERN_LOG__LEVEL -> log.level */
static bool env_key_name(const char *name, size_t len, char *ret_name, size_t size)
{
    size_t used = 0;

    for (size_t i = sizeof(ENV_PREFIX) - 1; i < len; i++) {
        if (used + 1 >= size) {
            return false;
        }
        if (name[i] == '_' && i + 1 < len && name[i + 1] == '_') {
            ret_name[used++] = '.';
            i++;
        } else {
            ret_name[used++] = (char)tolower((unsigned char)name[i]);
        }
    }
    ret_name[used] = '\0';
    return true;
}

static int load_environment(struct loading *l, char *const envp[])
{
    for (; envp && *envp; envp++) {
        const char *value = strchr(*envp, '=');
        char variable[128], name[CONFIG_NAME_MAX];

        if (!value || strncmp(*envp, ENV_PREFIX, sizeof(ENV_PREFIX) - 1) != 0) {
            continue;
        }
        size_t len = (size_t)(value - *envp);
        snprintf(variable, sizeof(variable), "%.*s", (int)(len < sizeof(variable) ? len : sizeof(variable) - 1), *envp);
        if (env_is_service_link(variable)) {
            continue;
        }
        if (!env_key_name(*envp, len, name, sizeof(name))) {
            return loading_fail(l, variable, "", "unknown key (tern --print-config lists all)");
        }
        int rc = set_by_name(l, variable, name, value + 1);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

/* The flag that arg names, with its value if that is glued on by an equals sign; NULL if there is none. */
static const struct flag *flag_find(const char *arg, const char **ret_glued)
{
    for (size_t i = 0; i < COUNT_OF(flags); i++) {
        size_t len = strlen(flags[i].name);
        if (strcmp(arg, flags[i].name) == 0 || (flags[i].short_name && strcmp(arg, flags[i].short_name) == 0)) {
            *ret_glued = NULL;
            return &flags[i];
        }
        if (strncmp(arg, flags[i].name, len) == 0 && arg[len] == '=') {
            *ret_glued = arg + len + 1;
            return &flags[i];
        }
    }
    return NULL;
}

/* Take the next argument apart. Returns 1, 0 at the end, or -EINVAL. */
static int arguments_next(struct arguments *a, struct loading *l)
{
    const char *glued = NULL;

    if (a->next >= a->argc) {
        return 0;
    }
    const char *arg = a->argv[a->next++];
    a->flag = flag_find(arg, &glued);
    if (!a->flag) {
        return loading_fail(l, arg, "", "unknown argument (tern --help lists all)");
    }
    if (!a->flag->value) {
        a->value = NULL;
        return glued ? loading_fail(l, arg, "", "takes no value") : 1;
    }
    a->value = glued;
    if (!glued) {
        if (a->next >= a->argc) {
            return loading_fail(l, arg, "", "needs a value");
        }
        a->value = a->argv[a->next++];
    }
    return 1;
}

/* First look at the arguments: are they known, what is asked for, which file. */
static int arguments_survey(struct arguments a, struct loading *l, enum config_action *ret_action,
                            const char **ret_file)
{
    int rc;

    while ((rc = arguments_next(&a, l)) > 0) {
        if (a.flag->kind == FLAG_FILE && *ret_file) {
            return loading_fail(l, a.flag->name, "", "given twice");
        }
        if (a.flag->kind == FLAG_FILE) {
            *ret_file = a.value;
        } else if (a.flag->kind == FLAG_ACTION && *ret_action < a.flag->action) {
            *ret_action = a.flag->action; /* of several, the one that needs least */
        }
    }
    return rc;
}

/* --set a.b=c */
static int apply_set(struct loading *l, const char *value)
{
    const char *equals = strchr(value, '=');
    char name[CONFIG_NAME_MAX];

    if (!equals || equals == value || (size_t)(equals - value) >= sizeof(name)) {
        return loading_fail(l, "--set", value, "is not of the form KEY=VALUE");
    }
    snprintf(name, sizeof(name), "%.*s", (int)(equals - value), value);
    return set_by_name(l, "--set", name, equals + 1);
}

/* The first --listen replaces what the other sources said, a further one adds. */
static int apply_listen(struct loading *l, const char *value, bool first)
{
    char why[WHY_MAX];

    if (first) {
        config_listeners_clear(l->config);
    }
    int rc = config_listeners_add(l->config, value, why, sizeof(why));
    return rc == -EINVAL ? loading_fail(l, "--listen", "listeners", why) : rc;
}

/* The arguments of one kind, in order: all --set come before all flags. */
static int arguments_apply(struct arguments a, struct loading *l, int kind)
{
    bool listened = false;
    int rc;

    while ((rc = arguments_next(&a, l)) > 0) {
        if ((int)a.flag->kind != kind) {
            continue;
        }
        if (kind == FLAG_SET) {
            rc = apply_set(l, a.value);
        } else if (strcmp(a.flag->key, "listeners") == 0) {
            rc = apply_listen(l, a.value, !listened);
            listened = true;
        } else {
            rc = set_by_name(l, a.flag->name, a.flag->key, a.value);
        }
        if (rc) {
            return rc;
        }
    }
    return rc;
}

/* What was quoted in the sentence came from outside: keep it one line that no terminal acts upon. */
static void sentence_clean(char *text)
{
    for (; *text; text++) {
        if (iscntrl((unsigned char)*text)) {
            *text = '?';
        }
    }
}

int config_load(int argc, char *const argv[], char *const envp[], char *error, size_t error_size,
                enum config_action *ret_action, struct config **ret_config)
{
    struct loading l = {.config = calloc(1, sizeof(*l.config)), .error = error, .error_size = error_size};
    struct arguments a = {.argc = argc, .next = 1, .argv = argv};
    enum config_action action = CONFIG_RUN;
    const char *file = NULL;

    int rc = l.config ? load_defaults(&l) : -ENOMEM;
    rc = rc ? rc : arguments_survey(a, &l, &action, &file);
    if (rc == 0 && action < CONFIG_VERSION) { /* who asks for help gets it, whatever the sources hold */
        rc = file ? load_file(&l, file) : 0;
        rc = rc ? rc : load_environment(&l, envp);
        rc = rc ? rc : arguments_apply(a, &l, FLAG_SET);
        rc = rc ? rc : arguments_apply(a, &l, FLAG_KEY);
        rc = rc ? rc : config_check(l.config, error, error_size);
    }
    if (rc) {
        if (rc == -ENOMEM) {
            snprintf(error, error_size, "out of memory");
        }
        sentence_clean(error);
        config_free(l.config);
        return rc;
    }
    *ret_action = action;
    *ret_config = l.config;
    return 0;
}

void config_free(struct config *config)
{
    if (!config) {
        return;
    }
    config_values_free(&config_keys, config);
    config_listeners_clear(config);
    free(config);
}

void config_help(FILE *out)
{
    fprintf(out, "tern -- an MQTT broker\n\nusage: tern [options]\n\n");
    for (size_t i = 0; i < COUNT_OF(flags); i++) {
        char left[64];
        snprintf(left, sizeof(left), "%s%s%s%s%s", flags[i].short_name ? flags[i].short_name : "",
                 flags[i].short_name ? ", " : "", flags[i].name, flags[i].value ? " " : "",
                 flags[i].value ? flags[i].value : "");
        fprintf(out, "  %-26s %s\n", left, flags[i].help);
    }
    fprintf(
        out,
        "\nAn address is tcp://HOST:PORT, tls://HOST:PORT, ws://HOST:PORT/PATH, wss://HOST:PORT/PATH or unix:///PATH;\n"
        "?KEY=VALUE&KEY=VALUE behind it sets the listener's keys, as in "
        "tls://[::]:8883?tls.certificate=a.pem&tls.key=b.pem\n"
        "\nSettings come from the file, then the environment (TERN_LOG__LEVEL=debug sets log.level), then --set,\n"
        "then the options above; later ones win. tern --print-config lists every key. SIGHUP reads all of it\n"
        "anew, SIGTERM ends the broker.\n");
}
