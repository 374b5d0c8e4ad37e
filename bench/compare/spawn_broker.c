/* spawn_broker.c -- a broker from its command line: directory, configuration, port, and the wait until it accepts. */
#include "bench/compare/spawn.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 10000
#define STOP_MS 10000
#define LOOK_MS 20 /* between two attempts to connect */
#define TAIL_BYTES 500
#define DEPTH_MAX 16 /* of directories that a broker makes in its own */

__attribute__((format(printf, 3, 4))) static int fail(char *why, int rc, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, SPAWN_WHY_MAX, format, args);
    va_end(args);
    return rc;
}

/* Bind or connect a socket of 127.0.0.1:port for a moment. */
static bool port_try(uint16_t port, int (*attempt)(int fd, const struct sockaddr *address, socklen_t len))
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0) {
        return false;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    bool done = attempt(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return done;
}

/* The ports in turn, so that the thousands of connections that a run leaves behind are not in the way of the next;
 * beginning anywhere, so that two comparisons at once hardly meet. 0: none is free. */
static uint16_t port_free(void)
{
    static uint32_t next;
    uint32_t count = SPAWN_PORT_LAST - SPAWN_PORT_FIRST + 1;

    if (next == 0) {
        next = (uint32_t)getpid();
    }
    for (uint32_t i = 0; i < count; i++) {
        uint16_t port = (uint16_t)(SPAWN_PORT_FIRST + next++ % count);
        if (port_try(port, bind)) {
            return port;
        }
    }
    return 0;
}

/* Empty the directory fd, which is closed; no link is followed. What cannot be removed stays, the rest goes. */
static void directory_empty(int fd, unsigned depth)
{
    DIR *dir = fdopendir(fd);

    if (!dir) {
        close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        int sub = depth > 0 ? openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (sub >= 0) {
            directory_empty(sub, depth - 1);
        }
        unlinkat(fd, entry->d_name, sub >= 0 ? AT_REMOVEDIR : 0);
    }
    closedir(dir);
}

static void directory_remove(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd >= 0) {
        directory_empty(fd, DEPTH_MAX);
        rmdir(directory);
    }
}

static int directory_make(char ret_directory[SPAWN_PATH_MAX])
{
    const char *parent = getenv("TMPDIR");

    /* Files in it have short names, and must fit into a path as well. */
    parent = parent && *parent && strlen(parent) < SPAWN_PATH_MAX / 2 ? parent : "/tmp";
    snprintf(ret_directory, SPAWN_PATH_MAX, "%s/tern-compare-XXXXXX", parent);
    return mkdtemp(ret_directory) ? 0 : -errno;
}

static int config_write(const char *path, const char *text, const struct word_places *places)
{
    char out[WORD_BYTES_MAX + 1];
    int rc = word_expand(text, places, out, sizeof(out));
    FILE *file = rc ? NULL : fopen(path, "wxe");

    if (!file) {
        return rc ? rc : -errno;
    }
    rc = fputs(out, file) < 0 ? -EIO : 0;
    return fclose(file) != 0 ? -errno : rc;
}

/* The words, with what stands for their places. */
static int words_expand(const struct words *words, const struct word_places *places, struct words *ret_words)
{
    char out[WORD_BYTES_MAX + 1];

    *ret_words = (struct words){0};
    for (uint32_t i = 0; i < words->count; i++) {
        int rc = word_expand(words->word[i], places, out, sizeof(out));
        char *word = rc ? NULL : strdup(out);
        if (!word) {
            words_deinit(ret_words);
            return rc ? rc : -ENOMEM;
        }
        ret_words->word[ret_words->count++] = word;
    }
    return 0;
}

static int process_start(struct spawn_broker *s, char *why)
{
    const struct case_broker *broker = s->broker;
    char config[SPAWN_PATH_MAX + 16], path[SPAWN_PATH_MAX];
    const struct word_places places = {.port = s->port, .directory = s->directory, .config = config};
    struct words words;

    snprintf(config, sizeof(config), "%s/config", s->directory);
    int rc = broker->config ? config_write(config, broker->config, &places) : 0;
    if (rc) {
        return fail(why, rc, "%s: its configuration cannot be written: %s", broker->name, strerror(-rc));
    }
    rc = words_expand(&broker->command, &places, &words);
    if (rc) {
        return fail(why, rc, "%s: its command cannot be made: %s", broker->name, strerror(-rc));
    }
    rc = spawn_find(words.word[0], path);
    rc = rc ? rc : spawn_start(path, words.word, s->log, &s->pid);
    if (rc) {
        fail(why, rc, "%s: %s cannot be started: %s", broker->name, words.word[0], strerror(-rc));
    }
    words_deinit(&words);
    return rc;
}

/* How a broker that we did not stop has ended, and its last words. */
static void tell_end(struct spawn_broker *s, int status, char *why)
{
    char tail[TAIL_BYTES];

    s->pid = 0;
    spawn_log_tail(s->log, tail, sizeof(tail));
    fail(why, 0, "%s ended by itself with %s %d%s%s", s->broker->name, WIFSIGNALED(status) ? "signal" : "exit status",
         WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), *tail ? ": " : "", tail);
}

/* Until its port accepts, or it ends, or it has taken too long. */
static int wait_accept(struct spawn_broker *s, char *why)
{
    char tail[TAIL_BYTES];
    int status;

    for (uint32_t waited_ms = 0; waited_ms < START_MS; waited_ms += LOOK_MS) {
        int rc = spawn_wait(s->pid, LOOK_MS, &status);
        if (rc == 0) {
            tell_end(s, status, why);
            return -ECHILD;
        }
        if (rc == -EINTR) {
            return fail(why, rc, "interrupted");
        }
        if (port_try(s->port, connect)) {
            return 0;
        }
    }
    spawn_log_tail(s->log, tail, sizeof(tail));
    return fail(why, -ETIMEDOUT, "%s does not accept on port %u after %d s%s%s", s->broker->name, s->port,
                START_MS / 1000, *tail ? ": " : "", tail);
}

int spawn_broker_start(const struct case_broker *broker, struct spawn_broker *ret_spawned, char *why)
{
    struct spawn_broker *s = ret_spawned;

    *s = (struct spawn_broker){.broker = broker, .port = port_free()};
    if (s->port == 0) {
        return fail(why, -EADDRINUSE, "no port is free in %d-%d", SPAWN_PORT_FIRST, SPAWN_PORT_LAST);
    }
    int rc = directory_make(s->directory);
    if (rc) {
        return fail(why, rc, "%s cannot be made: %s", s->directory, strerror(-rc));
    }
    snprintf(s->log, sizeof(s->log), "%.200s/log", s->directory);
    rc = process_start(s, why);
    rc = rc ? rc : wait_accept(s, why);
    if (rc) {
        spawn_broker_stop(s);
    }
    return rc;
}

bool spawn_broker_runs(struct spawn_broker *spawned, char *why)
{
    int status;

    if (spawned->pid > 0 && spawn_wait(spawned->pid, 0, &status) == 0) {
        tell_end(spawned, status, why);
    }
    return spawned->pid > 0;
}

void spawn_broker_stop(struct spawn_broker *spawned)
{
    if (spawned->pid > 0) {
        spawn_stop(spawned->pid, STOP_MS);
        spawned->pid = 0;
    }
    directory_remove(spawned->directory);
}
