/* token_command.c -- ternctl token: a token for the admin port. It is printed once; the file keeps its hash alone, so
 * that who reads the file cannot use it. A token is 32 random bytes: one round of SHA-256 is enough for it. */
#include "broker/auth/base64.h"
#include "broker/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_BYTES 32
#define NAME_BYTES_MAX 64
#define FILE_BYTES_MAX ((size_t)16 << 20)
#define PREFIX "tern_" /* by which people, and programs that look for secrets in the wrong places, know it */

static bool is_name(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < len; i++) {
        unsigned char lower = (unsigned char)(name[i] | 0x20);
        if (!(lower >= 'a' && lower <= 'z') && !(name[i] >= '0' && name[i] <= '9') && !strchr("._-@", name[i])) {
            return false;
        }
    }
    return len > 0 && len <= NAME_BYTES_MAX;
}

/* Append a token, and NAME:ROLE:HASH with a newline. */
static int make_token(const char *name, const char *role, struct buf *token, struct buf *line)
{
    uint8_t bytes[TOKEN_BYTES], hash[EVP_MAX_MD_SIZE];
    unsigned hash_len = 0;
    bool good = RAND_bytes(bytes, sizeof(bytes)) == 1;

    buf_put(token, slice_str(PREFIX));
    base64_encode(slice_of(bytes, sizeof(bytes)), true, token);
    OPENSSL_cleanse(bytes, sizeof(bytes));
    good = good && !token->failed && EVP_Digest(token->ptr, token->len, hash, &hash_len, EVP_sha256(), NULL) == 1;
    cli_put(line, "%s:%s:", name, role);
    for (unsigned i = 0; i < hash_len; i++) {
        cli_put(line, "%02x", hash[i]);
    }
    buf_u8(line, '\n');
    return good && !line->failed ? CLI_DONE : cli_fail(CLI_FAILED, "no random bytes, or out of memory");
}

/* Append the line; the file is made for its owner alone. Names may not be there twice: a token that is not wanted any
 * more is found by its name. */
static int append_line(const char *path, const char *name, struct slice line)
{
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600), status = CLI_DONE;
    struct buf text = {0};

    if (fd < 0) {
        return cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
    }
    flock(fd, LOCK_EX);
    int rc = cli_read_file(path, FILE_BYTES_MAX, &text);
    if (rc == 0 && text.len > 0 && text.ptr[text.len - 1] != '\n') {
        rc = write(fd, "\n", 1) == 1 ? 0 : -errno;
    }
    buf_u8(&text, 0);
    size_t len = strlen(name);
    for (const char *at = (const char *)text.ptr; rc == 0 && !text.failed && at && *at;) {
        if (strncmp(at, name, len) == 0 && at[len] == ':') {
            status = cli_fail(CLI_FAILED, "%s has a token %s: take its line out first", path, name);
            break;
        }
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    if (status == CLI_DONE && rc == 0 && !text.failed) {
        ssize_t written = write(fd, line.ptr, line.len);
        rc = written == (ssize_t)line.len ? fsync(fd) == 0 ? 0 : -errno : written < 0 ? -errno : -ENOSPC;
    }
    if (rc || text.failed) {
        status = cli_fail(CLI_FAILED, "%s: %s", path, strerror(rc ? -rc : ENOMEM));
    }
    close(fd);
    buf_deinit(&text);
    return status;
}

static int take_arguments(int argc, char **argv, const char **ret_file)
{
    static const struct option options[] = {{"file", required_argument, NULL, 1}, {0}};
    int option;

    while ((option = cli_option(argc, argv, options)) != -1) {
        if (option == 0) {
            return CLI_ARGUMENTS;
        }
        *ret_file = optarg;
    }
    if (argc - optind != 2) {
        return cli_fail(CLI_ARGUMENTS, "needs a name and a role, viewer or operator");
    }
    if (!is_name(argv[optind])) {
        return cli_fail(CLI_ARGUMENTS, "%s: a name is 1 to %d letters, digits and . _ - @", argv[optind],
                        NAME_BYTES_MAX);
    }
    if (strcmp(argv[optind + 1], "viewer") != 0 && strcmp(argv[optind + 1], "operator") != 0) {
        return cli_fail(CLI_ARGUMENTS, "%s: a role is viewer or operator", argv[optind + 1]);
    }
    return CLI_DONE;
}

int token_main(int argc, char **argv)
{
    struct buf token = {0}, line = {0};
    const char *file = NULL;
    int status = take_arguments(argc, argv, &file);

    status = status ? status : make_token(argv[optind], argv[optind + 1], &token, &line);
    if (status == CLI_DONE && file) {
        status = append_line(file, argv[optind], buf_slice(&line));
    }
    if (status == CLI_DONE) {
        printf("%.*s\n", (int)token.len, token.ptr);
        if (!file) {
            printf("%.*s", (int)line.len, line.ptr);
        }
    }
    if (token.len > 0) {
        OPENSSL_cleanse(token.ptr, token.len);
    }
    buf_deinit(&token);
    buf_deinit(&line);
    return status;
}
