/* process_test.c -- this process looked at from outside, where its own clocks tell what must be found. Nothing here
 * waits for wall time: on a busy machine that would say nothing. */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/load/process.h"
#include "tests/lib/unit.h"

#define BURN_NS 60000000u /* some scheduler ticks, so that coarse kernels count too */
#define LAG_NS 40000000u  /* what schedstat may lag behind, with much to spare */
#define THREADS_MANY (PROCESS_THREADS_MAX + 20)
#define SOCKETS 300

/* --- threads that do as they are told ---------------------------------------------------------------------------- */

struct worker {
    pthread_t thread;
    const char *name;
    uint64_t burn_ns; /* of its own processor time, by its own clock */
    sem_t ready, leave;
    pid_t tid;
};

static uint64_t thread_cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void *worker_main(void *context)
{
    struct worker *worker = context;

    pthread_setname_np(pthread_self(), worker->name);
    worker->tid = gettid();
    while (thread_cpu_ns() < worker->burn_ns) {
    }
    sem_post(&worker->ready);
    sem_wait(&worker->leave);
    return NULL;
}

/* Returns when it has burned what it should. */
static bool worker_start(struct worker *worker, const char *name, uint64_t burn_ns)
{
    *worker = (struct worker){.name = name, .burn_ns = burn_ns};
    sem_init(&worker->ready, 0, 0);
    sem_init(&worker->leave, 0, 0);
    if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
        return false;
    }
    sem_wait(&worker->ready);
    return true;
}

static void worker_end(struct worker *worker)
{
    sem_post(&worker->leave);
    pthread_join(worker->thread, NULL);
    sem_destroy(&worker->ready);
    sem_destroy(&worker->leave);
}

static const struct process_thread *thread_find(const struct process_usage *usage, pid_t tid)
{
    for (uint32_t i = 0; i < usage->thread_count; i++) {
        if (usage->threads[i].tid == tid) {
            return &usage->threads[i];
        }
    }
    return NULL;
}

/* --- processor time ---------------------------------------------------------------------------------------------- */

static void test_cpu_of_ourselves(void)
{
    struct worker worker;
    uint64_t before, after, own_before = process_own_cpu_ns();

    CHECK(process_cpu(getpid(), &before) == 0);
    CHECK(own_before <= before);
    CHECK(worker_start(&worker, "burner", BURN_NS));
    worker_end(&worker); /* a thread that has ended is still counted */
    CHECK(process_cpu(getpid(), &after) == 0);
    CHECK(after >= before + BURN_NS);
    CHECK(process_own_cpu_ns() >= after);
}

static void test_cpu_of_a_child(void)
{
    uint64_t used = 0;
    int pipes[2];
    char byte;

    CHECK(pipe(pipes) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        while (process_own_cpu_ns() < BURN_NS) {
        }
        _exit(write(pipes[1], "x", 1) == 1 && pause() ? 0 : 1);
    }
    CHECK(pid > 0);
    close(pipes[1]); /* should the child die, the read ends */
    CHECK(read(pipes[0], &byte, 1) == 1);
    CHECK(process_cpu(pid, &used) == 0);
    CHECK(used >= BURN_NS);
    struct process_usage usage;
    CHECK(process_usage(pid, &usage) == 0);
    CHECK(usage.pid == pid && usage.cpu_ns >= used && usage.thread_count == 1);
    CHECK(usage.rss_bytes > 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(pipes[0]);
    CHECK(process_cpu(pid, &used) == -ESRCH); /* it is gone, and waited for */
}

/* A number that was a process a moment ago. */
static pid_t pid_gone(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    return pid;
}

static void test_no_such_process(void)
{
    const struct {
        const char *name;
        pid_t pid;
    } cases[] = {{"gone", pid_gone()},
                 {"0 is not ourselves", 0},
                 {"-1", -1},
                 {"our group", -getpgrp()},
                 {"beyond pid_max", 1 << 30}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct process_usage usage = {.cpu_ns = 7};
        uint64_t cpu_ns = 7;

        CHECK_CASE(cases[i].name, process_cpu(cases[i].pid, &cpu_ns) == -ESRCH);
        CHECK_CASE(cases[i].name, cpu_ns == 7);
        CHECK_CASE(cases[i].name, process_usage(cases[i].pid, &usage) == -ESRCH);
        CHECK_CASE(cases[i].name, usage.cpu_ns == 7);
    }
}

/* --- all of it --------------------------------------------------------------------------------------------------- */

static void test_usage_of_ourselves(void)
{
    struct process_usage usage;
    uint64_t low = process_own_cpu_ns();

    CHECK(process_usage(getpid(), &usage) == 0);
    CHECK(usage.pid == getpid());
    CHECK(usage.cpu_ns >= low && usage.cpu_ns <= process_own_cpu_ns());
    CHECK(usage.user_ns + usage.system_ns == usage.cpu_ns);
    CHECK(usage.rss_bytes >= 100000 && usage.rss_bytes % 1024 == 0);
    CHECK(usage.thread_count >= 1);
    const struct process_thread *main_thread = thread_find(&usage, getpid());
    CHECK(main_thread && strcmp(main_thread->name, usage.name) == 0);
    CHECK(usage.name[0] != 0); /* whatever the program was called */
}

/* Memory that is touched is seen. */
static void test_rss_grows(void)
{
    const size_t size = 16u << 20;
    struct process_usage before, after;

    CHECK(process_usage(getpid(), &before) == 0);
    char *memory = malloc(size);
    for (size_t i = 0; memory && i < size; i += 512) {
        ((volatile char *)memory)[i] = 1;
    }
    CHECK(process_usage(getpid(), &after) == 0);
    CHECK(after.rss_bytes >= before.rss_bytes + size - (size >> 3));
    free(memory);
}

static const char *const thread_names[] = {"shard-0",       "a",         "with blank",
                                           "(odd) name) 1", ") S 1 2 3", "fifteen letters"};

static void test_thread_names(void)
{
    struct worker workers[COUNT_OF(thread_names)];
    struct process_usage usage;

    for (size_t i = 0; i < COUNT_OF(thread_names); i++) {
        CHECK(worker_start(&workers[i], thread_names[i], 0));
    }
    CHECK(process_usage(getpid(), &usage) == 0);
    for (size_t i = 0; i < COUNT_OF(thread_names); i++) {
        const struct process_thread *thread = thread_find(&usage, workers[i].tid);
        CHECK_CASE(thread_names[i], thread != NULL);
        CHECK_CASE(thread_names[i], thread && strcmp(thread->name, thread_names[i]) == 0);
        worker_end(&workers[i]);
    }
}

/* More threads than the list holds: it ends at its bound, and the sums go on. */
static void test_many_threads(void)
{
    static struct worker workers[THREADS_MANY];
    struct process_usage usage;
    unsigned started = 0;

    while (started < THREADS_MANY && worker_start(&workers[started], "one of many", 0)) {
        started++;
    }
    CHECK(started == THREADS_MANY);
    CHECK(process_usage(getpid(), &usage) == 0);
    CHECK(usage.thread_count == PROCESS_THREADS_MAX);
    CHECK(usage.cpu_ns > 0);
    for (unsigned i = 0; i < started; i++) {
        worker_end(&workers[i]);
    }
    CHECK(process_usage(getpid(), &usage) == 0);
    CHECK(usage.thread_count < PROCESS_THREADS_MAX);
}

/* Comes before threads are made: one that has ended takes its switches with it. A sleep whose end overtakes its
 * beginning is no switch, hence not all twenty. */
static void test_switches(void)
{
    const struct timespec moment = {.tv_nsec = 500000};
    struct process_usage from, to, used;

    CHECK(process_usage(getpid(), &from) == 0);
    for (unsigned i = 0; i < 20; i++) {
        nanosleep(&moment, NULL);
    }
    CHECK(process_usage(getpid(), &to) == 0);
    process_usage_between(&from, &to, &used);
    CHECK(used.voluntary_switches >= 10);
    CHECK(to.involuntary_switches >= from.involuntary_switches);
}

/* --- between two looks ------------------------------------------------------------------------------------------- */

static void test_between_two_looks(void)
{
    static struct process_usage from, to, used;
    struct worker early, late;

    CHECK(worker_start(&early, "early", BURN_NS));
    CHECK(process_usage(getpid(), &from) == 0);
    CHECK(worker_start(&late, "late", 2 * BURN_NS));
    CHECK(process_usage(getpid(), &to) == 0);
    process_usage_between(&from, &to, &used);

    CHECK(used.cpu_ns >= 2 * BURN_NS && used.cpu_ns == to.cpu_ns - from.cpu_ns);
    CHECK(used.user_ns + used.system_ns == used.cpu_ns);
    CHECK(used.rss_bytes == to.rss_bytes);
    CHECK(used.thread_count == to.thread_count);
    const struct process_thread *idle = thread_find(&used, early.tid), *busy = thread_find(&used, late.tid);
    CHECK(idle && busy);
    CHECK(idle && idle->cpu_ns < BURN_NS); /* it has waited since the first look */
    CHECK(busy && busy->cpu_ns + LAG_NS >= 2 * BURN_NS && busy->cpu_ns <= used.cpu_ns + LAG_NS);
    const struct process_thread *whole = thread_find(&to, early.tid);
    CHECK(whole && whole->cpu_ns + LAG_NS >= BURN_NS);
    worker_end(&early);
    worker_end(&late);
}

static const struct {
    const char *name;
    struct process_usage from, to, want;
} betweens[] = {
    {"nothing happened",
     {.cpu_ns = 5, .user_ns = 2, .system_ns = 3, .thread_count = 1, .threads = {{.tid = 1, .cpu_ns = 5}}},
     {.cpu_ns = 5, .user_ns = 2, .system_ns = 3, .thread_count = 1, .threads = {{.tid = 1, .cpu_ns = 5}}},
     {.thread_count = 1, .threads = {{.tid = 1}}}},
    {"by number, not by place",
     {.cpu_ns = 30, .thread_count = 2, .threads = {{.tid = 1, .cpu_ns = 10}, {.tid = 2, .cpu_ns = 20}}},
     {.cpu_ns = 37, .user_ns = 7, .thread_count = 2, .threads = {{.tid = 2, .cpu_ns = 25}, {.tid = 1, .cpu_ns = 12}}},
     {.cpu_ns = 7, .user_ns = 7, .thread_count = 2, .threads = {{.tid = 2, .cpu_ns = 5}, {.tid = 1, .cpu_ns = 2}}}},
    {"one began",
     {.cpu_ns = 10, .thread_count = 1, .threads = {{.tid = 1, .cpu_ns = 10}}},
     {.cpu_ns = 19, .thread_count = 2, .threads = {{.tid = 1, .cpu_ns = 11}, {.tid = 9, .cpu_ns = 8}}},
     {.cpu_ns = 9, .system_ns = 9, .thread_count = 2, .threads = {{.tid = 1, .cpu_ns = 1}, {.tid = 9, .cpu_ns = 8}}}},
    {"one ended, and took its switches with it",
     {.cpu_ns = 30,
      .voluntary_switches = 9,
      .involuntary_switches = 8,
      .thread_count = 2,
      .threads = {{.tid = 1, .cpu_ns = 10}, {.tid = 2, .cpu_ns = 20}}},
     {.cpu_ns = 33,
      .voluntary_switches = 4,
      .involuntary_switches = 9,
      .thread_count = 1,
      .threads = {{.tid = 1, .cpu_ns = 12}}},
     {.cpu_ns = 3, .system_ns = 3, .involuntary_switches = 1, .thread_count = 1, .threads = {{.tid = 1, .cpu_ns = 2}}}},
    {"a number given anew",
     {.cpu_ns = 20, .thread_count = 1, .threads = {{.tid = 2, .cpu_ns = 20}}},
     {.cpu_ns = 26, .thread_count = 1, .threads = {{.tid = 2, .cpu_ns = 6}}},
     {.cpu_ns = 6, .system_ns = 6, .thread_count = 1, .threads = {{.tid = 2, .cpu_ns = 6}}}},
    {"user time told anew as less",
     {.cpu_ns = 10, .user_ns = 10},
     {.cpu_ns = 15, .user_ns = 4, .system_ns = 11},
     {.cpu_ns = 5, .system_ns = 5}},
    {"user time told anew as more than there was",
     {.cpu_ns = 10, .system_ns = 10},
     {.cpu_ns = 15, .user_ns = 14},
     {.cpu_ns = 5, .user_ns = 5}},
    {"memory is that of the later", {.rss_bytes = 900}, {.rss_bytes = 400}, {.rss_bytes = 400}},
    {"another process altogether", {.cpu_ns = 10, .user_ns = 10}, {.cpu_ns = 3, .user_ns = 3}, {.cpu_ns = 0}},
};

static bool usages_equal(const struct process_usage *a, const struct process_usage *b)
{
    bool equal = a->cpu_ns == b->cpu_ns && a->user_ns == b->user_ns && a->system_ns == b->system_ns &&
                 a->rss_bytes == b->rss_bytes && a->voluntary_switches == b->voluntary_switches &&
                 a->involuntary_switches == b->involuntary_switches && a->thread_count == b->thread_count;
    for (uint32_t i = 0; equal && i < a->thread_count; i++) {
        equal = a->threads[i].tid == b->threads[i].tid && a->threads[i].cpu_ns == b->threads[i].cpu_ns;
    }
    return equal;
}

static void test_between_table(void)
{
    for (size_t i = 0; i < COUNT_OF(betweens); i++) {
        struct process_usage used = {.cpu_ns = 77, .thread_count = 3}, in_place = betweens[i].to;

        process_usage_between(&betweens[i].from, &betweens[i].to, &used);
        CHECK_CASE(betweens[i].name, usages_equal(&used, &betweens[i].want));
        process_usage_between(&betweens[i].from, &in_place, &in_place);
        CHECK_CASE(betweens[i].name, usages_equal(&in_place, &betweens[i].want));
    }
}

/* --- memory of sockets in the kernel ----------------------------------------------------------------------------- */

/* Each socket takes a TCP control block and an inode, more than 1 KiB on any kernel. */
static void test_kernel_socket_bytes(void)
{
    int sockets[SOCKETS];
    bool open = true;

    for (size_t i = 0; i < SOCKETS; i++) {
        sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
        open = open && sockets[i] >= 0;
    }
    uint64_t bytes = process_kernel_socket_bytes();
    CHECK(open);
    if (access("/proc/slabinfo", R_OK) == 0) {
        CHECK(bytes >= SOCKETS * 1024);
        CHECK(bytes < 1ull << 40);
    } else {
        CHECK(bytes == 0);
    }
    for (size_t i = 0; i < SOCKETS; i++) {
        close(sockets[i]);
    }
}

UNIT_MAIN("bench/process", {"switches", test_switches}, {"cpu of ourselves", test_cpu_of_ourselves},
          {"cpu of a child", test_cpu_of_a_child}, {"no such process", test_no_such_process},
          {"usage of ourselves", test_usage_of_ourselves}, {"rss grows", test_rss_grows},
          {"thread names", test_thread_names}, {"many threads", test_many_threads},
          {"between two looks", test_between_two_looks}, {"between: table", test_between_table},
          {"kernel socket bytes", test_kernel_socket_bytes})
