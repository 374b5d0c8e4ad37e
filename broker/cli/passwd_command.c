/* passwd_command.c -- ternctl passwd: one user of a password file added, replaced, taken out, or checked.
 *
 * The file of the admin port's users has a role in each line, NAME:ROLE:HASH. All that is done is done to the text
 * without roles, which is a password file, and they are put back at the end. */
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
    const char *role; /* NULL: none was given */
    char *path;       /* owned: the file itself, behind symbolic links */
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

enum { OPTION_KIND = 1, OPTION_ROLE, OPTION_ITERATIONS, OPTION_STDIN, OPTION_DELETE, OPTION_CHECK };

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

static const char *const role_names[] = {"viewer", "operator"};

static int take_role(struct passwd_command *c, const char *name)
{
    for (size_t i = 0; i < COUNT_OF(role_names); i++) {
        c->role = strcmp(name, role_names[i]) == 0 ? role_names[i] : c->role;
    }
    return c->role ? CLI_DONE : cli_fail(CLI_ARGUMENTS, "--role %s: must be viewer or operator", name);
}

static int take_option(struct passwd_command *c, int option)
{
    switch (option) {
    case OPTION_KIND:
        return take_kind(c, optarg);
    case OPTION_ROLE:
        return take_role(c, optarg);
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
        {"role", required_argument, NULL, OPTION_ROLE},
        {"kind", required_argument, NULL, OPTION_KIND},
        {"iterations", required_argument, NULL, OPTION_ITERATIONS},
        {"password-stdin", no_argument, NULL, OPTION_STDIN},
        {"delete", no_argument, NULL, OPTION_DELETE},
        {"check", no_argument, NULL, OPTION_CHECK},
        {0},
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
    if (c->role && (c->check || c->delete)) {
        return cli_fail(CLI_ARGUMENTS, "--role is for a new password");
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

/* Cut "ROLE:" off what follows the name in a line. Returns the role, NULL: it has none. */
static const char *cut_role(struct slice line, struct slice *ret_name, struct slice *ret_hash)
{
    const uint8_t *colon = memchr(line.ptr, ':', line.len);

    *ret_name = colon ? slice_of(line.ptr, (size_t)(colon - line.ptr)) : line;
    *ret_hash = colon ? slice_drop(line, ret_name->len + 1) : slice_of(NULL, 0);
    for (size_t i = 0; i < COUNT_OF(role_names) && colon && line.ptr[0] != '#'; i++) {
        size_t len = strlen(role_names[i]);
        if (ret_hash->len > len && memcmp(ret_hash->ptr, role_names[i], len) == 0 && ret_hash->ptr[len] == ':') {
            *ret_hash = slice_drop(*ret_hash, len + 1);
            return role_names[i];
        }
    }
    return NULL;
}

/* The text as a password file, without roles. Returns how many lines had one; *ret_lines: how many there are of users.
 */
static unsigned drop_roles(struct slice text, struct buf *out, unsigned *ret_lines)
{
    unsigned count = 0;

    *ret_lines = 0;
    while (text.len > 0) {
        struct slice line = next_line(&text), name, hash;
        const char *role = cut_role(line, &name, &hash);
        *ret_lines += line.len > 0 && line.ptr[0] != '#';
        count += role != NULL;
        buf_put(out, role ? name : line);
        buf_put(out, slice_str(role ? ":" : ""));
        buf_put(out, role ? hash : slice_of(NULL, 0));
        buf_u8(out, '\n');
    }
    return count;
}

static void put_user(const struct passwd_command *c, const char *role, struct slice hash, struct buf *out)
{
    cli_put(out, "%s:%s%s%.*s\n", c->user, role ? role : "", role ? ":" : "", (int)hash.len, hash.ptr);
}

/* The text with the user's line replaced by hash, in its place or at the end; hash empty: without it. */
static void rewrite(const struct passwd_command *c, struct slice text, struct slice hash, struct buf *out)
{
    bool found = false;

    while (text.len > 0) {
        struct slice line = next_line(&text), name, old;
        bool of_user = is_of_user(line, c->user);
        const char *role = cut_role(line, &name, &old);
        found |= of_user;
        if (of_user && hash.len > 0) {
            put_user(c, c->role ? c->role : role, hash, out);
        } else if (!of_user) {
            buf_put(out, line);
            buf_u8(out, '\n');
        }
    }
    if (!found && hash.len > 0) {
        put_user(c, c->role, hash, out);
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
        rewrite(c, text, buf_slice(&hash), &out);
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

/* All users have roles, or none: which it is must fit to what is asked. */
static int check_roles(const struct passwd_command *c, const struct passwd_entry *entry, unsigned with, unsigned users)
{
    if (with > 0 && with < users) {
        return cli_fail(CLI_FAILED, "%s has users with a role and users without", c->path);
    }
    if (c->role && with < users) {
        return cli_fail(CLI_FAILED, "%s is a file of users without roles", c->path);
    }
    if (!c->role && !c->check && !c->delete &&with > 0 && !entry) {
        return cli_fail(CLI_FAILED, "%s gives each user a role: --role viewer or --role operator", c->path);
    }
    return CLI_DONE;
}

static int work_on_entry(struct passwd_command *c, const struct passwd_entry *entry, struct slice text)
{
    if ((c->check || c->delete) && !entry) {
        return cli_fail(CLI_FAILED, "%s has no user %s", c->path, c->user);
    }
    if (!c->check) {
        return set_user(c, text);
    }
    return passwd_verify(entry, slice_str(c->password))
               ? CLI_DONE
               : cli_fail(CLI_FAILED, "this is not the password of %s", c->user);
}

/* Read the file, which must be right as a whole, and do what is asked. */
static int work_on(struct passwd_command *c)
{
    struct passwd *passwd = NULL;
    struct buf text = {0}, plain = {0};
    unsigned users = 0, with_role = 0;
    char error[512];
    int status, rc = cli_read_file(c->path, FILE_BYTES_MAX, &text);

    if (rc == -ENOENT && !c->check && !c->delete) {
        rc = 0;
    }
    if (rc == 0) {
        with_role = drop_roles(buf_slice(&text), &plain, &users);
        snprintf(error, sizeof(error), "%s", strerror(ENOMEM));
        rc = plain.failed ? -ENOMEM : passwd_parse(buf_slice(&plain), c->path, error, sizeof(error), &passwd);
    } else {
        snprintf(error, sizeof(error), "%s: %s", c->path, strerror(-rc));
    }
    const struct passwd_entry *entry = passwd ? passwd_find(passwd, slice_str(c->user)) : NULL;
    status = rc ? cli_fail(CLI_FAILED, "%s", error) : check_roles(c, entry, with_role, users);
    status = status ? status : work_on_entry(c, entry, buf_slice(&text));
    passwd_free(passwd);
    buf_deinit(&text);
    buf_deinit(&plain);
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
