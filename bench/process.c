/* process.c -- reads /proc/PID/stat, /proc/PID/task/TID/stat and /proc/PID/smaps_rollup. */
#include "bench/process.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The line of one process or thread: its name and its two times. */
static int stat_read(const char *path, char name[PROCESS_NAME_MAX], uint64_t *ret_user_us, uint64_t *ret_system_us)
{
    char line[1024];
    uint64_t user, system;
    FILE *file = fopen(path, "re");
    if (!file) {
        return -ESRCH;
    }
    size_t len = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[len] = 0;
    char *open = strchr(line, '('), *close = strrchr(line, ')'); /* a name may hold brackets and blanks itself */
    if (!open || !close || close < open) {
        return -ESRCH;
    }
    /* Behind the name: state, ten numbers, then fields 14 and 15 of proc(5). */
    if (sscanf(close + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64, &user, &system) != 2) {
        return -ESRCH;
    }
    snprintf(name, PROCESS_NAME_MAX, "%.*s", (int)(close - open - 1), open + 1);
    uint64_t tick_us = 1000000u / (uint64_t)sysconf(_SC_CLK_TCK);
    *ret_user_us = user * tick_us;
    *ret_system_us = system * tick_us;
    return 0;
}

/* The exact count: statm's may be off by many pages for each CPU, which is much when divided by idle clients. */
static uint64_t rss_read(pid_t pid)
{
    char path[64], line[256];
    uint64_t kib = 0;

    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) {
        return 0;
    }
    while (fgets(line, sizeof(line), file) && sscanf(line, "Rss: %" SCNu64 " kB", &kib) != 1) {
    }
    fclose(file);
    return kib << 10;
}

static void threads_read(pid_t pid, struct process_usage *usage)
{
    char path[64];
    const struct dirent *entry;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    if (!dir) {
        return;
    }
    while (usage->thread_count < PROCESS_THREADS_MAX && (entry = readdir(dir))) {
        struct process_thread *thread = &usage->threads[usage->thread_count];
        uint64_t user, system;

        thread->tid = (pid_t)atoi(entry->d_name);
        if (thread->tid == 0) { /* . and .. */
            continue;
        }
        snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)pid, (int)thread->tid);
        if (stat_read(path, thread->name, &user, &system) == 0) {
            thread->cpu_us = user + system;
            usage->thread_count++;
        }
    }
    closedir(dir);
}

int process_usage(pid_t pid, struct process_usage *ret_usage)
{
    char path[64], name[PROCESS_NAME_MAX];
    struct process_usage usage = {0};

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int rc = stat_read(path, name, &usage.user_us, &usage.system_us);
    if (rc != 0) {
        return rc;
    }
    usage.rss_bytes = rss_read(pid);
    threads_read(pid, &usage);
    *ret_usage = usage;
    return 0;
}

uint64_t process_cpu_us(const struct process_usage *from, const struct process_usage *to)
{
    return to->user_us + to->system_us - from->user_us - from->system_us;
}

uint64_t process_thread_cpu_us(const struct process_usage *usage, pid_t tid)
{
    for (uint32_t i = 0; i < usage->thread_count; i++) {
        if (usage->threads[i].tid == tid) {
            return usage->threads[i].cpu_us;
        }
    }
    return 0;
}
