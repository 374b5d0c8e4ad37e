/* passwd_command.c -- ternctl passwd: one user of a password file added, replaced, taken out, or checked. */
#include "broker/auth/passwd.h"
#include "broker/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((size_t)256 << 20)
#define PASSWORD_BYTES_MAX 1024
#define ITERATIONS_MAX 10000000u

struct passwd_command {
    const char *user;
    char *path; /* owned: the file itself, behind symbolic links */
    enum passwd_kind kind;
    uint32_t iterations; /* 0: the kind's default */
    bool from_stdin, delete, check;
    char password[PASSWORD_BYTES_MAX + 2]; /* and a newline */
};

static const char *const kind_names[] = {
    [PASSWD_ARGON2ID] = "argon2id",
    [PASSWD_PBKDF2_SHA512] = "pbkdf2",
    [PASSWD_SCRAM_SHA_256] = "scram",
};

/* ---- arguments ---- */

enum { OPTION_KIND = 1, OPTION_ITERATIONS, OPTION_STDIN, OPTION_DELETE, OPTION_CHECK };

static int take_kind(struct passwd_command *c, const char *name)
{
    for (size_t i = 0; i < COUNT_OF(kind_names); i++) {
        if (strcmp(name, kind_names[i]) == 0) {
            c->kind = (enum passwd_kind)i;
            return CLI_DONE;
        }
    }
    return cli_fail(CLI_ARGUMENTS, "--kind %s: must be argon2id, pbkdf2 or scram", name);
}

static int take_option(struct passwd_command *c, int option)
{
    switch (option) {
    case OPTION_KIND:
        return take_kind(c, optarg);
    case OPTION_ITERATIONS:
        return cli_number(optarg, 1, ITERATIONS_MAX, &c->iterations)
                   ? CLI_DONE
                   : cli_fail(CLI_ARGUMENTS, "--iterations %s: must be from 1 to %u", optarg, ITERATIONS_MAX);
    case OPTION_STDIN:
        c->from_stdin = true;
        return CLI_DONE;
    case OPTION_DELETE:
        c->delete = true;
        return CLI_DONE;
    case OPTION_CHECK:
        c->check = true;
        return CLI_DONE;
    default:
        return CLI_ARGUMENTS;
    }
}

static int take_arguments(struct passwd_command *c, int argc, char **argv)
{
    static const struct option options[] = {
        {"kind", required_argument, NULL, OPTION_KIND},      {"iterations", required_argument, NULL, OPTION_ITERATIONS},
        {"password-stdin", no_argument, NULL, OPTION_STDIN}, {"delete", no_argument, NULL, OPTION_DELETE},
        {"check", no_argument, NULL, OPTION_CHECK},          {0},
    };
    int option, status = CLI_DONE;

    while (status == CLI_DONE && (option = cli_option(argc, argv, options)) != -1) {
        status = take_option(c, option);
    }
    if (status) {
        return status;
    }
    if (argc - optind != 2) {
        return cli_fail(CLI_ARGUMENTS,
                        "needs a file and a user's name (a password is never an argument: others see it)");
    }
    if (c->delete &&(c->check || c->from_stdin)) {
        return cli_fail(CLI_ARGUMENTS, "--delete needs no password");
    }
    c->user = argv[optind + 1];
    if (!passwd_name_valid(slice_str(c->user))) {
        return cli_fail(CLI_ARGUMENTS,
                        "%s cannot be a user's name: 1 to 1024 bytes without colon and control characters, "
                        "not beginning with #",
                        c->user);
    }
    c->path = realpath(argv[optind], NULL);
    if (!c->path && (errno != ENOENT || c->check || c->delete)) {
        return cli_fail(CLI_FAILED, "%s: %s", argv[optind], strerror(errno));
    }
    c->path = c->path ? c->path : strdup(argv[optind]); /* to be made */
    return c->path ? CLI_DONE : cli_fail(CLI_FAILED, "out of memory");
}

/* ---- the password ---- */

/* One line, without its newline. */
static int read_password(struct passwd_command *c)
{
    if (!fgets(c->password, sizeof(c->password), stdin)) {
        return cli_fail(CLI_FAILED, "standard input has no password");
    }
    size_t len = strcspn(c->password, "\n");
    if (c->password[len] == '\0' && len > PASSWORD_BYTES_MAX) {
        return cli_fail(CLI_FAILED, "the password is longer than %d bytes", PASSWORD_BYTES_MAX);
    }
    c->password[len] = '\0';
    return *c->password ? CLI_DONE : cli_fail(CLI_FAILED, "the password is empty");
}

/* On the terminal, without echo; twice when it is a new one. */
static int ask_password(struct passwd_command *c)
{
    if (c->from_stdin || !isatty(STDIN_FILENO)) {
        return read_password(c);
    }
    int rc = EVP_read_pw_string_min(c->password, 1, PASSWORD_BYTES_MAX + 1, "Password: ", c->check ? 0 : 1);
    return rc == 0 ? CLI_DONE : cli_fail(CLI_FAILED, "no password was given, or not the same one twice");
}

/* ---- the file ---- */

/* The line up to the first newline; *rest moves behind that. */
static struct slice next_line(struct slice *rest)
{
    const uint8_t *end = memchr(rest->ptr, '\n', rest->len);
    struct slice line = slice_of(rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len);

    *rest = slice_drop(*rest, line.len + (end ? 1 : 0));
    return line;
}

static bool is_of_user(struct slice line, const char *user)
{
    size_t len = strlen(user);

    return line.len > len && memcmp(line.ptr, user, len) == 0 && line.ptr[len] == ':';
}

/* The text with the user's line replaced by hash, in its place or at the end; hash empty: without it. */
static void rewrite(struct slice text, const char *user, struct slice hash, struct buf *out)
{
    bool found = false;

    while (text.len > 0) {
        struct slice line = next_line(&text);
        bool of_user = is_of_user(line, user);
        found |= of_user;
        if (of_user && hash.len > 0) {
            cli_put(out, "%s:%.*s\n", user, (int)hash.len, hash.ptr);
        } else if (!of_user) {
            buf_put(out, line);
            buf_u8(out, '\n');
        }
    }
    if (!found && hash.len > 0) {
        cli_put(out, "%s:%.*s\n", user, (int)hash.len, hash.ptr);
    }
}

/* Put the new text in the old one's place, with its mode and owner. */
static int replace_file(const struct passwd_command *c, struct slice text)
{
    struct cli_file file = {.path = c->path, .text = text, .mode = 0600};
    const struct cli_file *failed;
    struct stat st;

    if (stat(c->path, &st) == 0) {
        file.mode = st.st_mode & 07777;
        file.owned = st.st_uid != geteuid() || st.st_gid != getegid();
        file.owner = st.st_uid;
        file.group = st.st_gid;
    }
    int rc = cli_write_files(&file, 1, true, &failed);
    return rc ? cli_fail(CLI_FAILED, "%s: %s", c->path, strerror(-rc)) : CLI_DONE;
}

static int set_user(struct passwd_command *c, struct slice text)
{
    struct buf hash = {0}, out = {0};
    int rc = c->delete ? 0 : passwd_hash(c->kind, slice_str(c->password), c->iterations, &hash), status;

    if (rc == 0) {
        rewrite(text, c->user, buf_slice(&hash), &out);
    }
    if (rc || out.failed) {
        status = cli_fail(CLI_FAILED, "the password cannot be hashed: %s", strerror(rc ? -rc : ENOMEM));
    } else {
        status = replace_file(c, buf_slice(&out));
    }
    buf_deinit(&hash);
    buf_deinit(&out);
    return status;
}

/* Read the file, which must be right as a whole, and do what is asked. */
static int work_on(struct passwd_command *c)
{
    struct passwd *passwd = NULL;
    struct buf text = {0};
    char error[512];
    int status, rc = cli_read_file(c->path, FILE_BYTES_MAX, &text);

    if (rc == -ENOENT && !c->check && !c->delete) {
        rc = 0;
    }
    if (rc == 0) {
        snprintf(error, sizeof(error), "%s", strerror(ENOMEM));
        rc = passwd_parse(buf_slice(&text), c->path, error, sizeof(error), &passwd);
    } else {
        snprintf(error, sizeof(error), "%s: %s", c->path, strerror(-rc));
    }
    const struct passwd_entry *entry = passwd ? passwd_find(passwd, slice_str(c->user)) : NULL;
    if (rc) {
        status = cli_fail(CLI_FAILED, "%s", error);
    } else if ((c->check || c->delete) && !entry) {
        status = cli_fail(CLI_FAILED, "%s has no user %s", c->path, c->user);
    } else if (c->check) {
        status = passwd_verify(entry, slice_str(c->password))
                     ? CLI_DONE
                     : cli_fail(CLI_FAILED, "this is not the password of %s", c->user);
    } else {
        status = set_user(c, buf_slice(&text));
    }
    passwd_free(passwd);
    buf_deinit(&text);
    return status;
}

/* Two of us at a time must not undo each other's work: the folder is the lock, for the file itself is exchanged. */
static int lock_folder(const char *path)
{
    char *folder = strdup(path), *slash = folder ? strrchr(folder, '/') : NULL;

    if (slash) {
        slash[slash == folder ? 1 : 0] = '\0';
    }
    int fd = folder ? open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        flock(fd, LOCK_EX); /* a file system without locks is no reason not to work */
    }
    free(folder);
    return fd;
}

int passwd_main(int argc, char **argv)
{
    static struct passwd_command c = {.kind = PASSWD_ARGON2ID};
    int status = take_arguments(&c, argc, argv), lock = -1;

    if (status == CLI_DONE && !c.delete) {
        status = ask_password(&c);
    }
    if (status == CLI_DONE) {
        lock = c.check ? -1 : lock_folder(c.path);
        status = work_on(&c);
    }
    if (lock >= 0) {
        close(lock);
    }
    OPENSSL_cleanse(c.password, sizeof(c.password));
    free(c.path);
    return status;
}
