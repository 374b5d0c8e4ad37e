/* process.h -- what a process has used, as the kernel counts it in /proc.
 *
 * Why: two processes share the processors of the machine that measures, so that a message's wall time says little and
 * its processor time much. */
#ifndef TERN_BENCH_PROCESS_H
#define TERN_BENCH_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCESS_THREADS_MAX 128
#define PROCESS_NAME_MAX 32

struct process_thread {
    pid_t tid;
    char name[PROCESS_NAME_MAX];
    uint64_t cpu_us;
};

struct process_usage {
    uint64_t user_us, system_us; /* of all threads, ended ones too; the kernel tells it in ticks of 10 ms */
    uint64_t rss_bytes;
    uint32_t thread_count; /* threads beyond the bound are left out of the list, not of the sums */
    struct process_thread threads[PROCESS_THREADS_MAX];
};

/* Returns 0 or -ESRCH when there is no such process or it may not be looked at. */
int process_usage(pid_t pid, struct process_usage *ret_usage);

/* Processor time from one moment to a later one, user and system. */
uint64_t process_cpu_us(const struct process_usage *from, const struct process_usage *to);

/* What the thread with this id had used at that moment; 0 when it did not exist. */
uint64_t process_thread_cpu_us(const struct process_usage *usage, pid_t tid);

#endif
