/* terms.c -- who may come to the admin port, as the configuration and its files say. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "broker/admin/admin_inside.h"
#include "broker/auth/digest.h"
#include "broker/base/network.h"

#define FILE_BYTES_MAX (1u << 20)

/* A file of NAME:ROLE:PROOF being read. */
struct reading {
    const char *path;
    unsigned line;
    char *error;
    size_t error_size;
};

static int bad(const struct reading *r, const char *what)
{
    snprintf(r->error, r->error_size, "%s:%u: %s", r->path, r->line, what);
    return -EINVAL;
}

static int read_whole(const struct reading *r, struct buf *out)
{
    FILE *f = fopen(r->path, "re");
    struct stat st;
    int rc = 0;

    if (!f || fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode)) {
        snprintf(r->error, r->error_size, "%s: %s", r->path, f ? "is not a file" : strerror(errno));
        rc = -EINVAL;
    } else if (st.st_size > FILE_BYTES_MAX) {
        snprintf(r->error, r->error_size, "%s: is longer than 1 MiB", r->path);
        rc = -EINVAL;
    } else if (st.st_size > 0) {
        uint8_t *at = buf_extend(out, (size_t)st.st_size);
        rc = at ? 0 : -ENOMEM;
        out->len = at ? (uint32_t)fread(at, 1, (size_t)st.st_size, f) : 0;
    }
    if (f) {
        fclose(f);
    }
    return rc;
}

static struct slice take_line(struct slice *rest)
{
    const uint8_t *end = memchr(rest->ptr, '\n', rest->len);
    struct slice line = slice_of(rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len);

    *rest = slice_drop(*rest, end ? line.len + 1 : line.len);
    if (line.len > 0 && line.ptr[line.len - 1] == '\r') {
        line.len--;
    }
    return line;
}

/* NAME:ROLE: off the front of a line. */
static int take_user(const struct reading *r, struct slice *line, struct admin_user *user)
{
    const uint8_t *a = memchr(line->ptr, ':', line->len);
    const uint8_t *b = a ? memchr(a + 1, ':', line->len - (size_t)(a + 1 - line->ptr)) : NULL;

    if (!b) {
        return bad(r, "is not NAME:ROLE:PROOF");
    }
    struct slice name = slice_of(line->ptr, (size_t)(a - line->ptr)), role = slice_of(a + 1, (size_t)(b - a) - 1);
    if (!passwd_name_valid(name) || name.len >= sizeof(user->name)) {
        return bad(r, "the name is empty, too long, or not plain text");
    }
    memcpy(user->name, name.ptr, name.len);
    user->name[name.len] = '\0';
    if (slice_eq(role, SLICE("viewer"))) {
        user->role = ADMIN_VIEWER;
    } else if (slice_eq(role, SLICE("operator"))) {
        user->role = ADMIN_OPERATOR;
    } else {
        return bad(r, "the role is viewer or operator");
    }
    *line = slice_drop(*line, name.len + role.len + 2);
    return 0;
}

static bool is_comment(struct slice line)
{
    line = slice_trim(line);
    return line.len == 0 || line.ptr[0] == '#';
}

/* Users and tokens are lines alike. hashes: NAME:HASH of users, a line each as in the file, so that the numbers of
 * lines stay; NULL: tokens. */
static int read_users(struct reading *r, struct buf *hashes, struct admin_user **ret_users, size_t *ret_count)
{
    struct buf text = {0};
    int rc = read_whole(r, &text);
    struct slice rest = buf_slice(&text), line;

    while (rc == 0 && rest.len > 0) {
        r->line++;
        line = take_line(&rest);
        if (!is_comment(line)) {
            struct admin_user *more = realloc(*ret_users, (*ret_count + 1) * sizeof(**ret_users));
            if (!more) {
                rc = -ENOMEM;
                break;
            }
            *ret_users = more;
            memset(&more[*ret_count], 0, sizeof(*more));
            if (*ret_count == ADMIN_TOKENS_MAX) {
                rc = bad(r, "there are more than 1024");
            } else if ((rc = take_user(r, &line, &more[*ret_count])) == 0 && !hashes &&
                       digest_parse(slice_trim(line), more[*ret_count].digest) != 0) {
                rc = bad(r, "a token is kept as the 64 hex digits of its SHA-256");
            }
            if (rc == 0 && hashes) {
                admin_printf(hashes, "%s:", more[*ret_count].name);
                buf_put(hashes, line);
            }
            *ret_count += rc == 0;
        }
        if (hashes) {
            buf_put(hashes, SLICE("\n"));
        }
    }
    buf_deinit(&text);
    return rc == 0 && hashes && hashes->failed ? -ENOMEM : rc;
}

static int read_files(const struct config *config, struct admin_terms *t, char *error, size_t error_size)
{
    struct reading users = {.path = config->admin.users_file, .error = error, .error_size = error_size};
    struct reading tokens = {.path = config->admin.tokens_file, .error = error, .error_size = error_size};
    struct buf hashes = {0};
    int rc = 0;

    if (*users.path) {
        rc = read_users(&users, &hashes, &t->users, &t->user_count);
        rc = rc ? rc : passwd_parse(buf_slice(&hashes), users.path, error, error_size, &t->passwd);
    }
    if (rc == 0 && *tokens.path) {
        rc = read_users(&tokens, NULL, &t->tokens, &t->token_count);
    }
    buf_deinit(&hashes);
    return rc;
}

static int read_tls(const struct config *config, struct admin_terms *t, char *error, size_t error_size)
{
    const struct tls_settings settings = {
        .certificates = config->admin.certificate,
        .keys = config->admin.key,
        .min_version = 12,
        .alpn = "http/1.1",
        .tickets = true,
    };
    char why[900];

    if (!config->admin.certificate[0]) {
        return 0;
    }
    int rc = tls_server_context_new(&settings, why, sizeof(why), &t->tls);
    if (rc) {
        snprintf(error, error_size, "admin: %s", rc == -ENOMEM ? "out of memory" : why);
    }
    return rc;
}

/* The host of admin.listen in lower case, and whether it is a loopback one. */
static bool take_host(const char *listen, char *out, size_t size)
{
    const char *colon = strrchr(listen, ':');
    struct in6_addr address;
    size_t n = 0;

    for (const char *at = listen; at < colon && n + 1 < size; at++) {
        if (*at != '[' && *at != ']') {
            out[n++] = (char)(*at >= 'A' && *at <= 'Z' ? *at | 32 : *at);
        }
    }
    out[n] = '\0';
    return strcmp(out, "localhost") == 0 ||
           (address_parse(slice_str(out), &address) == 0 && address_is_loopback(&address));
}

int admin_terms_read(const struct config *config, char *error, size_t error_size, struct admin_terms **ret_terms)
{
    struct admin_terms *t = calloc(1, sizeof(*t));

    if (!t) {
        return -ENOMEM;
    }
    atomic_init(&t->refs, 1);
    bool local = take_host(config->admin.listen, t->host, sizeof(t->host));
    int rc = read_files(config, t, error, error_size);
    rc = rc ? rc : read_tls(config, t, error, error_size);
    bool open = t->user_count == 0 && t->token_count == 0;
    if (rc == 0 && config->admin.listen[0] && open && !local && config->admin.anonymous_role == ADMIN_ROLE_AUTO) {
        snprintf(error, error_size,
                 "admin.listen: %s can be reached from elsewhere: admin.users_file or admin.tokens_file is needed, or "
                 "admin.anonymous_role",
                 config->admin.listen);
        rc = -EINVAL;
    }
    if (rc) {
        admin_terms_unref(t);
        return rc;
    }
    switch ((enum config_admin_role)config->admin.anonymous_role) {
    case ADMIN_ROLE_AUTO:
        t->anonymous = open ? ADMIN_OPERATOR : ADMIN_ANYBODY;
        break;
    case ADMIN_ROLE_NONE:
        t->anonymous = ADMIN_ANYBODY;
        break;
    case ADMIN_ROLE_VIEWER:
        t->anonymous = ADMIN_VIEWER;
        break;
    case ADMIN_ROLE_OPERATOR:
        t->anonymous = ADMIN_OPERATOR;
        break;
    }
    t->guarded = local && t->anonymous != ADMIN_ANYBODY;
    t->metrics_open = config->admin.metrics_open;
    *ret_terms = t;
    return 0;
}

void admin_terms_unref(struct admin_terms *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) > 1) {
        return;
    }
    tls_context_unref(t->tls);
    passwd_free(t->passwd);
    free(t->users);
    free(t->tokens);
    free(t);
}

int64_t admin_certificate_expires(const struct admin_terms *t, const char **ret_file)
{
    return t && t->tls ? tls_context_expires(t->tls, ret_file) : INT64_MAX;
}
