/* spawn.h -- processes that live for a while: a broker on a port and in a directory of its own; a run of the load tool.
 *
 * Why: a broker that was just started is the same each time, and one that stays behind spoils whatever is measured
 * next. So every process leads a group of its own that ends with it, gets SIGKILL from the kernel should we be killed
 * ourselves, and the signals that ask us to end are only taken here, between two steps: no handler runs, spawn_wait()
 * returns -EINTR and the caller undoes what it did as in any other failure. For one thread. */
#ifndef TERN_BENCH_SPAWN_H
#define TERN_BENCH_SPAWN_H

#include <stdint.h>
#include <sys/types.h>

#include "bench/compare/cases.h"

#define SPAWN_PORT_FIRST 25000
#define SPAWN_PORT_LAST 25999
#define SPAWN_PATH_MAX 256
#define SPAWN_WHY_MAX 1024

/* Hold back SIGINT, SIGTERM, SIGHUP and SIGQUIT (but those that are ignored: nohup) until spawn_wait(); ignore SIGPIPE.
 * To be called once, before anything else here. */
void spawn_init(void);

/* Let the signals through again, when nothing is left to undo. Does not return if one of them has asked us to end:
 * whoever waits for us shall see which. */
void spawn_deinit(void);

/* Find a program: as it is when there is a / in it, else in PATH and /usr/sbin. Returns 0 or -ENOENT. */
int spawn_find(const char *program, char ret_path[SPAWN_PATH_MAX]);

/* Start argv[0], a path, with no input and its output in the file log. Returns 0 or a negative errno. */
int spawn_start(const char *path, char *const argv[], const char *log, pid_t *ret_pid);

/* Wait until a process ends. Returns 0 with its status as waitpid(2) has it, -ETIMEDOUT, or -EINTR: we are asked to
 * end. */
int spawn_wait(pid_t pid, uint32_t timeout_ms, int *ret_status);

/* End a process and all of its group: SIGTERM, and after grace_ms SIGKILL. Whatever asks us to end meanwhile waits. */
void spawn_stop(pid_t pid, uint32_t grace_ms);

/* The end of a file, its lines joined by blanks, as a text of at most size - 1 bytes; empty when it cannot be read. */
void spawn_log_tail(const char *path, char *out, size_t size);

/* A broker that accepts connections. */
struct spawn_broker {
    const struct case_broker *broker; /* borrowed */
    pid_t pid;
    uint16_t port;
    char directory[SPAWN_PATH_MAX]; /* gone after broker_stop */
    char log[SPAWN_PATH_MAX];
};

/* Make a directory, write the configuration, start the broker on a free port and wait until it accepts. Returns 0;
 * -EINTR: we are asked to end; or another negative errno with a sentence in why (SPAWN_WHY_MAX bytes). After a failure
 * nothing is left. */
int spawn_broker_start(const struct case_broker *broker, struct spawn_broker *ret_spawned, char *why);

/* Whether it is still there; when not, why (SPAWN_WHY_MAX bytes) says how it ended, and what it said. */
bool spawn_broker_runs(struct spawn_broker *spawned, char *why);

/* End it, and remove its directory. */
void spawn_broker_stop(struct spawn_broker *spawned);

#endif
