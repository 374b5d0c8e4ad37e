/* process.c -- CPU clocks, and the small text files of /proc. A process may end between any two reads: what cannot be
 * read then is 0, and only the first read decides whether there is a process. */
#include "bench/load/process.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/slice.h"

#define PID_LARGEST (1 << 22) /* the kernel's PID_MAX_LIMIT */

/* --- processor time ---------------------------------------------------------------------------------------------- */

static int clock_read(clockid_t clock, uint64_t *ret_ns)
{
    struct timespec time;

    if (clock_gettime(clock, &time) != 0) {
        return -ESRCH;
    }
    *ret_ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    return 0;
}

int process_cpu(pid_t pid, uint64_t *ret_cpu_ns)
{
    clockid_t clock;

    /* 0 would mean ourselves, and so would a number whose upper bits do not fit into a clock's. */
    if (pid <= 0 || pid > PID_LARGEST || clock_getcpuclockid(pid, &clock) != 0) {
        return -ESRCH;
    }
    return clock_read(clock, ret_cpu_ns);
}

uint64_t process_own_cpu_ns(void)
{
    uint64_t cpu_ns = 0;

    clock_read(CLOCK_PROCESS_CPUTIME_ID, &cpu_ns); /* cannot fail for ourselves */
    return cpu_ns;
}

/* --- the files of a process -------------------------------------------------------------------------------------- */

/* The file's beginning as text. Returns whether it could be read. */
static bool text_read(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    size_t len = fread(out, 1, size - 1, file);
    out[len] = 0;
    fclose(file);
    return len > 0;
}

/* The number behind the name that a line begins with. Returns whether there is such a line. */
static bool line_number(const char *text, const char *name, uint64_t *ret_value)
{
    size_t len = strlen(name);

    for (const char *line = text; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        if (strncmp(line, name, len) == 0) {
            return sscanf(line + len, "%" SCNu64, ret_value) == 1;
        }
    }
    return false;
}

struct stat_line {
    char name[PROCESS_NAME_MAX];
    uint64_t user_ticks, system_ticks;
};

/* The one line about a process or a thread. */
static bool stat_read(const char *path, struct stat_line *ret_stat)
{
    char line[1024];
    struct stat_line stat = {0};

    if (!text_read(path, line, sizeof(line))) {
        return false;
    }
    const char *open = strchr(line, '('), *close = strrchr(line, ')'); /* a name may hold brackets and blanks itself */
    if (!open || !close || close < open) {
        return false;
    }
    /* Behind the name: state, ten numbers, then fields 14 and 15 of proc(5). */
    if (sscanf(close + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64, &stat.user_ticks,
               &stat.system_ticks) != 2) {
        return false;
    }
    snprintf(stat.name, sizeof(stat.name), "%.*s", (int)(close - open - 1), open + 1);
    *ret_stat = stat;
    return true;
}

/* The rollup is exact: statm may be off by many pages for each CPU, which is much when divided by idle clients. But the
 * rollup of somebody else's process is root's to read. */
static uint64_t rss_read(pid_t pid)
{
    char path[64], text[1024];
    uint64_t kib, pages;

    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    if (text_read(path, text, sizeof(text)) && line_number(text, "Rss:", &kib)) {
        return kib << 10;
    }
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    if (text_read(path, text, sizeof(text)) && sscanf(text, "%*u %" SCNu64, &pages) == 1) {
        return pages * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    return 0;
}

/* --- its threads ------------------------------------------------------------------------------------------------- */

/* Nanoseconds from schedstat. It lags behind the CPU clock by up to a scheduler tick while the thread runs. A kernel
 * without CONFIG_SCHED_INFO has the ticks alone. */
static uint64_t thread_cpu(pid_t pid, pid_t tid, const struct stat_line *stat)
{
    char path[64], text[128];
    uint64_t cpu_ns;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)pid, (int)tid);
    if (text_read(path, text, sizeof(text)) && sscanf(text, "%" SCNu64, &cpu_ns) == 1) {
        return cpu_ns;
    }
    return (stat->user_ticks + stat->system_ticks) * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

static void thread_switches(pid_t pid, pid_t tid, struct process_usage *usage)
{
    char path[64], text[4096];
    uint64_t voluntary, involuntary;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
    if (text_read(path, text, sizeof(text)) && line_number(text, "voluntary_ctxt_switches:", &voluntary) &&
        line_number(text, "nonvoluntary_ctxt_switches:", &involuntary)) {
        usage->voluntary_switches += voluntary;
        usage->involuntary_switches += involuntary;
    }
}

static void thread_read(pid_t pid, pid_t tid, struct process_usage *usage)
{
    char path[64];
    struct stat_line stat;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)pid, (int)tid);
    if (!stat_read(path, &stat)) {
        return; /* it has ended */
    }
    thread_switches(pid, tid, usage);
    if (usage->thread_count < PROCESS_THREADS_MAX) {
        struct process_thread *thread = &usage->threads[usage->thread_count++];
        thread->tid = tid;
        thread->cpu_ns = thread_cpu(pid, tid, &stat);
        memcpy(thread->name, stat.name, sizeof(thread->name));
    }
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
    while ((entry = readdir(dir))) {
        pid_t tid = (pid_t)atoi(entry->d_name);
        if (tid > 0) { /* not . and .. */
            thread_read(pid, tid, usage);
        }
    }
    closedir(dir);
}

/* --- a process --------------------------------------------------------------------------------------------------- */

int process_usage(pid_t pid, struct process_usage *ret_usage)
{
    char path[64];
    struct stat_line stat;
    struct process_usage usage = {.pid = pid};

    int rc = process_cpu(pid, &usage.cpu_ns);
    if (rc != 0) {
        return rc;
    }
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (!stat_read(path, &stat)) {
        return -ESRCH;
    }
    memcpy(usage.name, stat.name, sizeof(usage.name));
    uint64_t ticks = stat.user_ticks + stat.system_ticks;
    double user_part = ticks ? (double)stat.user_ticks / (double)ticks : 0.5; /* less than a tick: nobody knows */
    usage.user_ns = (uint64_t)((double)usage.cpu_ns * user_part);
    usage.system_ns = usage.cpu_ns - usage.user_ns;
    usage.rss_bytes = rss_read(pid);
    threads_read(pid, &usage);
    *ret_usage = usage;
    return 0;
}

/* Switches go down when a thread ends, and user time can when its part is told anew; neither may become a huge number.
 */
static uint64_t grown(uint64_t from, uint64_t to)
{
    return to > from ? to - from : 0;
}

static uint64_t thread_cpu_before(const struct process_usage *from, const struct process_thread *thread)
{
    for (uint32_t i = 0; i < from->thread_count; i++) {
        if (from->threads[i].tid == thread->tid) {
            /* Time that went back belongs to another thread, which was given the number anew. */
            return from->threads[i].cpu_ns <= thread->cpu_ns ? from->threads[i].cpu_ns : 0;
        }
    }
    return 0; /* it began in between */
}

void process_usage_between(const struct process_usage *from, const struct process_usage *to,
                           struct process_usage *ret_used)
{
    struct process_usage used = *to;

    used.cpu_ns = grown(from->cpu_ns, to->cpu_ns);
    used.user_ns = grown(from->user_ns, to->user_ns);
    if (used.user_ns > used.cpu_ns) {
        used.user_ns = used.cpu_ns;
    }
    used.system_ns = used.cpu_ns - used.user_ns;
    used.voluntary_switches = grown(from->voluntary_switches, to->voluntary_switches);
    used.involuntary_switches = grown(from->involuntary_switches, to->involuntary_switches);
    for (uint32_t i = 0; i < used.thread_count; i++) {
        used.threads[i].cpu_ns -= thread_cpu_before(from, &used.threads[i]);
    }
    *ret_used = used;
}

/* --- memory of sockets in the kernel ----------------------------------------------------------------------------- */

/* What a connection takes. Names that a kernel lacks, because it merged them with others of one size, are not there. */
static const char *const slabs[] = {"TCP",           "TCPv6",    "sock_inode_cache",   "eventpoll_epi",
                                    "eventpoll_pwq", "io_kiocb", "skbuff_head_cache",  "skbuff_small_head",
                                    "UNIX",          "filp",     "skbuff_fclone_cache"};

static bool slab_wanted(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(slabs); i++) {
        if (strcmp(name, slabs[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Whole objects, used or not: a slab that is held is memory that is gone. */
static uint64_t slab_bytes(FILE *slabinfo)
{
    char line[512], name[64];
    uint64_t count, size, bytes = 0;

    while (fgets(line, sizeof(line), slabinfo)) {
        if (sscanf(line, "%63s %*u %" SCNu64 " %" SCNu64, name, &count, &size) == 3 && slab_wanted(name)) {
            bytes += count * size;
        }
    }
    return bytes;
}

/* Pages of buffers, of IPv4 and IPv6 together; the heads of queued packets are in here and in their slab. */
static uint64_t buffer_bytes(void)
{
    char text[1024];
    uint64_t pages;

    if (!text_read("/proc/net/sockstat", text, sizeof(text))) {
        return 0;
    }
    const char *tcp = strstr(text, "TCP:"), *mem = tcp ? strstr(tcp, " mem ") : NULL;
    if (!mem || sscanf(mem, " mem %" SCNu64, &pages) != 1) {
        return 0;
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t process_kernel_socket_bytes(void)
{
    FILE *slabinfo = fopen("/proc/slabinfo", "re"); /* root's to read */
    if (!slabinfo) {
        return 0;
    }
    uint64_t bytes = slab_bytes(slabinfo) + buffer_bytes();
    fclose(slabinfo);
    return bytes;
}
