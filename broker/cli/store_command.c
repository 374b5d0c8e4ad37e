/* store_command.c -- ternctl store: its arguments, and copies of whole stores. */
#include "broker/cli/store_command.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/log.h"

/* ---- a directory that is filled whole or not at all ---- */

static int is_empty(const char *dir, bool *ret_empty)
{
    const struct dirent *e;
    DIR *d = opendir(dir);

    if (!d) {
        return -errno;
    }
    *ret_empty = true;
    while ((e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            *ret_empty = false;
        }
    }
    closedir(d);
    return 0;
}

/* Remove what a store has: files, and directories of files. */
static void remove_store(const char *dir, unsigned depth)
{
    char path[4096];
    const struct dirent *e;
    DIR *d = opendir(dir);

    while (d && (e = readdir(d)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlink(path) != 0 && depth > 0) {
            remove_store(path, depth - 1);
        }
    }
    if (d) {
        closedir(d);
    }
    rmdir(dir);
}

static int sync_folder(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = fd >= 0 && fsync(fd) == 0 ? 0 : -errno;

    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

static int move_one(const char *from, const char *to, const char *name)
{
    char old[4096 + 16], new[4096 + 16];

    snprintf(old, sizeof(old), "%s/%s", from, name);
    snprintf(new, sizeof(new), "%s/%s", to, name);
    return rename(old, new) == 0 || errno == ENOENT ? 0 : -errno;
}

/* The identity last: what lies in a directory without it is no store, and is not taken for one. */
static int move_store(const char *from, const char *to)
{
    static const char *const names[] = {"state", "log", "identity"};
    int rc = 0;

    for (size_t i = 0; i < COUNT_OF(names) && rc == 0; i++) {
        rc = move_one(from, to, names[i]);
        rc = rc ? rc : sync_folder(to);
    }
    return rc;
}

static int fill_and_move(const char *to, int (*fill)(void *arg, const char *dir), void *arg)
{
    char temporary[4096];

    snprintf(temporary, sizeof(temporary), "%s/.partial-XXXXXX", to);
    if (!mkdtemp(temporary)) {
        return cli_fail(CLI_FAILED, "%s cannot be written: %s", to, strerror(errno));
    }
    int status = fill(arg, temporary);
    if (status == CLI_DONE) {
        int rc = move_store(temporary, to);
        status = rc ? cli_fail(CLI_FAILED, "%s cannot be written: %s", to, strerror(-rc)) : CLI_DONE;
    }
    remove_store(temporary, 1);
    return status;
}

int store_make(const char *to, int (*fill)(void *arg, const char *dir), void *arg)
{
    bool empty = true;
    char *above = strdup(to);

    if (!above || strlen(to) > 4000) {
        free(above);
        return cli_fail(CLI_FAILED, "%s", above ? "the path is too long" : "out of memory");
    }
    bool made = mkdir(to, 0700) == 0;
    int rc = made ? 0 : errno == EEXIST ? is_empty(to, &empty) : -errno, status;
    if (rc) {
        status = cli_fail(CLI_FAILED, "%s cannot be made: %s", to, strerror(-rc));
    } else if (!empty) {
        status = cli_fail(CLI_FAILED, "%s is not empty", to);
    } else {
        status = fill_and_move(to, fill, arg);
    }
    if (made) {
        for (size_t n = strlen(above); n > 1 && above[n - 1] == '/'; n--) {
            above[n - 1] = '\0';
        }
        char *slash = strrchr(above, '/');
        if (slash) {
            slash[slash == above ? 1 : 0] = '\0';
        }
        if (status) {
            rmdir(to);
        } else {
            sync_folder(slash ? above : ".");
        }
    }
    free(above);
    return status;
}

/* ---- backup, restore ---- */

static int copy(void *arg, const char *dir)
{
    struct store_refusal refusal;

    return store_lmdb_copy(arg, dir, &refusal) ? cli_fail(CLI_FAILED, "%s", refusal.sentence) : CLI_DONE;
}

static int copy_store(const char *from, const char *to)
{
    struct store_refusal refusal;
    struct store *store;

    if (store_lmdb_open_readonly(from, &store, &refusal) != 0) { /* before anything is made */
        return cli_fail(CLI_FAILED, "%s", refusal.sentence);
    }
    store_close(store);
    int status = store_make(to, copy, (void *)(uintptr_t)from);
    if (status == CLI_DONE) {
        printf("%s is a copy of %s; it is that node's: start one of the two\n", to, from);
    }
    return status;
}

/* ---- arguments ---- */

static int import_from_stdin(const char *dir)
{
    return store_import(dir, stdin);
}

int store_main(int argc, char **argv)
{
    static const struct option none[] = {{0}};
    static const struct {
        const char *name;
        int (*one)(const char *dir);
        int (*two)(const char *from, const char *to);
    } actions[] = {
        {"verify", store_verify, NULL}, {"backup", NULL, copy_store},        {"restore", NULL, copy_store},
        {"export", store_export, NULL}, {"import", import_from_stdin, NULL},
    };

    if (cli_option(argc, argv, none) != -1) {
        return CLI_ARGUMENTS;
    }
    const char *what = optind < argc ? argv[optind] : "";
    int rest = argc - optind - 1;
    log_setup(STDERR_FILENO, LOG_ERROR, LOG_TEXT);
    for (size_t i = 0; i < COUNT_OF(actions); i++) {
        if (strcmp(what, actions[i].name) == 0 && rest == (actions[i].one ? 1 : 2)) {
            return actions[i].one ? actions[i].one(argv[optind + 1])
                                  : actions[i].two(argv[optind + 1], argv[optind + 2]);
        }
    }
    return cli_fail(CLI_ARGUMENTS, "say `verify DIRECTORY`, `backup DIRECTORY TO`, `restore FROM DIRECTORY`, "
                                   "`export DIRECTORY` or `import DIRECTORY`");
}
