/* process.h -- what a process has used, as the kernel counts it.
 *
 * Why: generator and broker share the processors of the machine that measures, so that a message's wall time says
 * little and its processor time much. The sum over a process comes from its CPU clock (clock_getcpuclockid(3),
 * nanoseconds, ended threads included), the split by thread from /proc/PID/task/TID/schedstat, user and system from
 * /proc/PID/stat (ticks of 10 ms, scaled to the sum), memory from smaps_rollup. */
#ifndef TERN_BENCH_PROCESS_H
#define TERN_BENCH_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCESS_THREADS_MAX 128
#define PROCESS_NAME_MAX 32
#define PROCESSES_MAX 16

struct process_thread {
    pid_t tid;
    char name[PROCESS_NAME_MAX];
    uint64_t cpu_ns;
};

struct process_usage {
    pid_t pid;
    char name[PROCESS_NAME_MAX];
    uint64_t cpu_ns, user_ns, system_ns; /* of all threads, ended ones too */
    uint64_t rss_bytes;
    uint64_t voluntary_switches, involuntary_switches; /* of the living threads */
    uint32_t thread_count; /* threads beyond the bound are left out of the list, not of the sums */
    struct process_thread threads[PROCESS_THREADS_MAX];
};

/* Processor time alone: cheap enough to stand at both ends of a measured second. Returns 0 or -ESRCH when there is no
 * such process or it may not be looked at. */
int process_cpu(pid_t pid, uint64_t *ret_cpu_ns);

/* All of it. Returns 0 or -ESRCH. */
int process_usage(pid_t pid, struct process_usage *ret_usage);

/* What was used between two looks at one process: the counters subtracted (threads by tid), rss_bytes of the later. */
void process_usage_between(const struct process_usage *from, const struct process_usage *to,
                           struct process_usage *ret_used);

/* Bytes that the kernel holds for sockets of the whole machine: the slabs of sockets, their inodes, epoll items,
 * io_uring requests and packet heads, and the buffers of /proc/net/sockstat. 0 when it may not be read. */
uint64_t process_kernel_socket_bytes(void);

/* This process: processor time of all threads. */
uint64_t process_own_cpu_ns(void);

#endif
