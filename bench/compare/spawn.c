/* spawn.c -- starting, waiting, ending. The brokers are in spawn_broker.c. */
#include "bench/compare/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/clock.h"

#define NS_PER_MS 1000000u
#define FALLBACK_PATH "/usr/local/bin:/usr/bin:/bin"

static sigset_t taken;       /* the signals that ask us to end, and SIGCHLD: blocked, and fetched by sigtimedwait */
static sigset_t before_init; /* what was blocked when we came, for our children and for our own end */
static int asked_by;         /* the signal that asked us to end; 0: none did */

void spawn_init(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction present;

    sigemptyset(&taken);
    sigaddset(&taken, SIGCHLD);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (sigaction(ends[i], NULL, &present) == 0 && present.sa_handler != SIG_IGN) {
            sigaddset(&taken, ends[i]);
        }
    }
    signal(SIGCHLD, SIG_DFL); /* ignored, it would take the exit statuses with it */
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &taken, &before_init);
}

void spawn_deinit(void)
{
    if (asked_by) {
        signal(asked_by, SIG_DFL);
        raise(asked_by); /* pending until the next line */
    }
    sigprocmask(SIG_SETMASK, &before_init, NULL);
    signal(SIGPIPE, SIG_DFL);
}

int spawn_find(const char *program, char ret_path[SPAWN_PATH_MAX])
{
    const char *path = getenv("PATH");
    char places[4096];

    if (strchr(program, '/')) {
        return snprintf(ret_path, SPAWN_PATH_MAX, "%s", program) < SPAWN_PATH_MAX && access(program, X_OK) == 0
                   ? 0
                   : -ENOENT;
    }
    snprintf(places, sizeof(places), "%s:/usr/sbin", path && strlen(path) < sizeof(places) - 16 ? path : FALLBACK_PATH);
    for (char *rest = places, *place; (place = strsep(&rest, ":"));) {
        int len = snprintf(ret_path, SPAWN_PATH_MAX, "%s/%s", *place ? place : ".", program);
        if (len < SPAWN_PATH_MAX && access(ret_path, X_OK) == 0) {
            return 0;
        }
    }
    return -ENOENT;
}

/* In the child, between fork and exec. parent: who may have died before prctl could say that we care. */
static void become(const char *path, char *const argv[], int log, pid_t parent)
{
    int null = open("/dev/null", O_RDONLY);

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0) {
        _exit(127);
    }
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before_init, NULL);
    execv(path, argv);
    dprintf(2, "%s: %s\n", path, strerror(errno));
    _exit(127);
}

int spawn_start(const char *path, char *const argv[], const char *log, pid_t *ret_pid)
{
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    pid_t parent = getpid();

    if (fd < 0) {
        return -errno;
    }
    pid_t pid = fork();
    if (pid == 0) {
        become(path, argv, fd, parent);
    }
    int rc = pid < 0 ? -errno : 0;
    close(fd);
    if (rc == 0) {
        setpgid(pid, pid); /* whoever of the two comes first: spawn_stop must find the group */
        *ret_pid = pid;
    }
    return rc;
}

/* spawn_wait, in which only SIGCHLD counts when quiet. */
static int wait_until(pid_t pid, uint32_t timeout_ms, bool quiet, int *ret_status)
{
    uint64_t end_ns = clock_mono_ns() + (uint64_t)timeout_ms * NS_PER_MS;
    sigset_t set = taken;

    if (quiet) {
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
    }
    for (;;) {
        uint64_t now_ns = clock_mono_ns();
        if (!quiet && asked_by) {
            return -EINTR;
        }
        if (waitpid(pid, ret_status, WNOHANG) == pid) {
            kill(-pid, SIGKILL); /* what it started and left; the group has this number as long as somebody is in it */
            return 0;
        }
        if (now_ns >= end_ns) {
            return -ETIMEDOUT;
        }
        struct timespec left = {(time_t)((end_ns - now_ns) / 1000000000), (long)((end_ns - now_ns) % 1000000000)};
        int got = sigtimedwait(&set, NULL, &left);
        if (got > 0 && got != SIGCHLD) {
            asked_by = got;
        }
    }
}

int spawn_wait(pid_t pid, uint32_t timeout_ms, int *ret_status)
{
    return wait_until(pid, timeout_ms, false, ret_status);
}

void spawn_stop(pid_t pid, uint32_t grace_ms)
{
    int status;

    kill(-pid, SIGTERM);
    if (wait_until(pid, grace_ms, true, &status) != 0) {
        kill(-pid, SIGKILL);
        wait_until(pid, grace_ms, true, &status);
    }
}

void spawn_log_tail(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "re");

    out[0] = 0;
    if (!file) {
        return;
    }
    if (fseek(file, 0, SEEK_END) == 0 && ftell(file) >= (long)size) {
        fseek(file, 1 - (long)size, SEEK_END);
    } else {
        rewind(file);
    }
    size_t len = fread(out, 1, size - 1, file);
    fclose(file);
    while (len > 0 && (unsigned char)out[len - 1] <= ' ') {
        len--;
    }
    out[len] = 0;
    for (size_t i = 0; i < len; i++) {
        out[i] = (unsigned char)out[i] < ' ' ? ' ' : out[i];
    }
}
