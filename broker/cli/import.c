/* import.c -- ternctl import: mosquitto's files read, ours written. */
#include "broker/cli/import.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/auth/acl.h"
#include "broker/base/config.h"
#include "broker/cli/cli.h"

struct import {
    const char *conf, *out_directory;
    bool force;
    struct import_settings settings;
    struct import_notes notes;
    char *names[IMPORT_FILES_MAX];      /* owned */
    struct buf texts[IMPORT_FILES_MAX]; /* of the same; the settings borrow from them */
    unsigned file_count;
    struct buf listeners, rest, rules; /* the parts of the results */
    char acl_path[PATH_MAX];
    bool has_rules, names_users;
    char error[1024];
};

static void import_deinit(struct import *im)
{
    for (unsigned i = 0; i < im->file_count; i++) {
        free(im->names[i]);
        buf_deinit(&im->texts[i]);
    }
    buf_deinit(&im->notes.text);
    buf_deinit(&im->listeners);
    buf_deinit(&im->rest);
    buf_deinit(&im->rules);
}

__attribute__((format(printf, 2, 3))) static int refuse(struct import *im, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(im->error, sizeof(im->error), format, args);
    va_end(args);
    return -EINVAL;
}

/* ---- reading ---- */

static int include_directory(void *context, const char *directory);

/* One configuration file; the first is the main one. */
static int read_conf(struct import *im, const char *path)
{
    bool main_file = im->file_count == 0;

    if (im->file_count == IMPORT_FILES_MAX) {
        return refuse(im, "%s: more than %d files", path, IMPORT_FILES_MAX);
    }
    struct buf *text = &im->texts[im->file_count];
    char *name = strdup(path);
    im->names[im->file_count++] = name;
    int rc = name ? cli_read_file(path, IMPORT_FILE_BYTES_MAX, text) : -ENOMEM;
    if (rc) {
        return refuse(im, "%s: %s", path, strerror(-rc));
    }
    if (text->len > 0 && memchr(text->ptr, '\0', text->len)) {
        return refuse(im, "%s: is no text", path);
    }
    buf_u8(text, 0);
    if (text->failed) {
        return -ENOMEM;
    }
    return import_conf_read(&im->settings, (char *)text->ptr, name, &im->notes, im->error, sizeof(im->error),
                            main_file ? include_directory : NULL, im);
}

static int is_conf(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len > 5 && strcmp(entry->d_name + len - 5, ".conf") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* All its files that end in .conf, capital letters first, as mosquitto reads them. */
static int include_directory(void *context, const char *directory)
{
    struct import *im = context;
    struct dirent **entries;
    int count = scandir(directory, &entries, is_conf, by_bytes), rc = 0;

    if (count < 0) {
        return refuse(im, "include_dir: %s: %s", directory, strerror(errno));
    }
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
        rc = rc ? rc : read_conf(im, path);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

/* The rules of one acl_file, for one listener or for all. */
static int read_rules(struct import *im, const struct import_value *file, const char *listener)
{
    struct buf text = {0};
    int rc = cli_read_file(file->text, IMPORT_FILE_BYTES_MAX, &text);

    if (rc) {
        rc = refuse(im, "%s:%u: acl_file: %s: %s", file->place.file, file->place.line, file->text, strerror(-rc));
    } else {
        rc = import_acl(buf_slice(&text), file->text, listener, &im->notes, &im->rules, &im->names_users, im->error,
                        sizeof(im->error));
    }
    buf_deinit(&text);
    return rc;
}

static int read_all_rules(struct import *im)
{
    const struct import_settings *s = &im->settings;
    char name[32];
    int rc = 0;

    for (unsigned i = 0; i < s->listener_count; i++) {
        im->has_rules |= import_value(s, &s->listeners[i], KEY_ACL_FILE)->text != NULL;
    }
    if (!im->has_rules) {
        return 0;
    }
    if (!s->per_listener) {
        return read_rules(im, &s->all.values[KEY_ACL_FILE], NULL);
    }
    for (unsigned i = 0; i < s->listener_count && rc == 0; i++) {
        const struct import_value *file = import_value(s, &s->listeners[i], KEY_ACL_FILE);
        import_listener_name(s, &s->listeners[i], name, sizeof(name));
        if (file->text) {
            rc = read_rules(im, file, name);
        } else {
            import_acl_open(name, &im->rules);
        }
    }
    return rc;
}

/* ---- writing ---- */

static void remark_rules(struct import *im)
{
    struct import_place nowhere = {0};

    if (!im->has_rules) {
        return;
    }
    import_remark(
        &im->notes, nowhere, "acl_file",
        "mosquitto grants every SUBSCRIBE and withholds messages; Tern refuses a SUBSCRIBE to a filter that "
        "reaches beyond what may be read. Clients that subscribe to more than they may read need narrower filters");
    if (im->names_users && !import_password_file(&im->settings, NULL)) {
        import_remark(&im->notes, nowhere, "acl_file",
                      "has rules for names, and mosquitto believes any name when it has no password_file; here a name "
                      "counts only when it is proved");
    }
}

/* The notes as comments. */
static void put_notes(const struct import_notes *notes, struct buf *out)
{
    struct slice rest = buf_slice(&notes->text);

    while (rest.len > 0) {
        const uint8_t *end = memchr(rest.ptr, '\n', rest.len);
        size_t len = end ? (size_t)(end - rest.ptr) + 1 : rest.len;
        cli_put(out, "# %.*s", (int)len, rest.ptr);
        rest = slice_drop(rest, len);
    }
}

static int convert(struct import *im)
{
    int rc = read_conf(im, im->conf);

    rc = rc ? rc : import_conf_finish(&im->settings, im->error, sizeof(im->error));
    rc = rc ? rc : read_all_rules(im);
    if (rc) {
        return rc;
    }
    import_put_listeners(&im->settings, im->has_rules && im->settings.per_listener, &im->notes, &im->listeners);
    import_put_rest(&im->settings, im->has_rules ? im->acl_path : NULL, &im->notes, &im->rest);
    remark_rules(im);
    return im->listeners.failed || im->rest.failed || im->rules.failed || im->notes.text.failed ? -ENOMEM : 0;
}

/* Put the parts together, have the rules read by those who will have to, and write the files. */
static int write_results(struct import *im, const char *tern_path)
{
    struct buf tern = {0}, acl = {0};
    struct acl *parsed = NULL;
    const struct cli_file *failed = NULL;
    int rc = 0;

    cli_put(&tern, "# Taken over from %s by ternctl import. Check it: tern --config %s --test-config\n", im->conf,
            tern_path);
    cli_put(&tern, "# Keys that stand nowhere have Tern's defaults (tern --print-config), not mosquitto's.\n#\n");
    put_notes(&im->notes, &tern);
    cli_put(&tern, "\n");
    buf_put(&tern, buf_slice(&im->listeners));
    buf_put(&tern, buf_slice(&im->rest));
    cli_put(&acl,
            "# Taken over from mosquitto by ternctl import. The first rule that fits decides; if none does, it is no.\n"
            "rules:%s\n",
            im->rules.len > 0 && memmem(im->rules.ptr, im->rules.len, "  - ", 4) ? "" : " []");
    buf_put(&acl, buf_slice(&im->rules));
    struct cli_file files[] = {{.path = tern_path, .text = buf_slice(&tern), .mode = 0644},
                               {.path = im->acl_path, .text = buf_slice(&acl), .mode = 0644}};
    if (tern.failed || acl.failed) {
        rc = -ENOMEM;
    } else if (im->has_rules) {
        rc = acl_parse(buf_slice(&acl), im->acl_path, im->error, sizeof(im->error), &parsed);
        acl_free(parsed);
    }
    if (rc == 0) {
        rc = cli_write_files(files, im->has_rules ? 2 : 1, im->force, &failed);
        if (rc == -EEXIST) {
            rc = refuse(im, "%s is there already and stays (--force replaces it)", failed->path);
        } else if (rc) {
            rc = refuse(im, "%s: %s", failed->path, strerror(-rc));
        }
    }
    buf_deinit(&tern);
    buf_deinit(&acl);
    return rc;
}

/* Have the result read as the broker will. What mosquitto took and Tern does not is for the user to mend, in the file.
 */
static int check_result(struct import *im, const char *tern_path)
{
    char *argv[] = {"tern", "--config", (char *)tern_path, "--test-config", NULL}, *envp[] = {NULL}, error[768];
    enum config_action action;
    struct config *config = NULL;
    int rc = config_load((int)COUNT_OF(argv) - 1, argv, envp, error, sizeof(error), &action, &config);

    config_free(config);
    return rc ? refuse(im, "%s is written, but Tern does not take it as it is: %s", tern_path, error) : 0;
}

/* ---- the command ---- */

enum { OPTION_OUT = 1, OPTION_FORCE };

static int take_arguments(struct import *im, int argc, char **argv)
{
    static const struct option options[] = {
        {"out", required_argument, NULL, OPTION_OUT}, {"force", no_argument, NULL, OPTION_FORCE}, {0}};
    int option;

    im->out_directory = ".";
    while ((option = cli_option(argc, argv, options)) != -1) {
        switch (option) {
        case OPTION_OUT:
            im->out_directory = optarg;
            break;
        case OPTION_FORCE:
            im->force = true;
            break;
        default:
            return CLI_ARGUMENTS;
        }
    }
    if (argc - optind != 1) {
        return cli_fail(CLI_ARGUMENTS, "needs mosquitto's configuration file, and only that");
    }
    im->conf = argv[optind];
    return CLI_DONE;
}

static void show(const struct import *im, const char *tern_path)
{
    fflush(stdout);
    fwrite(im->notes.text.ptr ? (const char *)im->notes.text.ptr : "", 1, im->notes.text.len, stderr);
    printf("%s%s%s written; %u not taken over, %u with a difference\n", tern_path, im->has_rules ? " and " : "",
           im->has_rules ? im->acl_path : "", im->notes.missing, im->notes.remarks);
}

int import_main(int argc, char **argv)
{
    static struct import im; /* too large for the stack */
    char directory[PATH_MAX], tern_path[PATH_MAX + 16];
    int status = take_arguments(&im, argc, argv);

    if (status) {
        return status;
    }
    bool made = mkdir(im.out_directory, 0755) == 0;
    if (!realpath(im.out_directory, directory) || strlen(directory) > PATH_MAX - 16) {
        return cli_fail(CLI_FAILED, "%s: %s", im.out_directory, strerror(errno));
    }
    snprintf(tern_path, sizeof(tern_path), "%s/tern.yaml", directory);
    snprintf(im.acl_path, sizeof(im.acl_path), "%.*s/acl.yaml", PATH_MAX - 16, directory);
    int rc = convert(&im);
    rc = rc ? rc : write_results(&im, tern_path);
    if (rc == 0) {
        show(&im, tern_path);
        rc = check_result(&im, tern_path);
    } else if (made) {
        rmdir(directory);
    }
    import_deinit(&im);
    return rc == 0 ? CLI_DONE : cli_fail(CLI_FAILED, "%s", rc == -ENOMEM ? strerror(ENOMEM) : im.error);
}
