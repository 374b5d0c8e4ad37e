/* options.h -- the command line of a run, read and checked.
 *
 * Why: the flags are those that people know from emqtt-bench; a wrong one is told in one sentence and nothing is
 * started. Each scenario brings its own defaults (`tern-bench pair --help` prints them). Touched by: the main thread,
 * before the workers start; read by all afterwards. */
#ifndef TERN_BENCH_OPTIONS_H
#define TERN_BENCH_OPTIONS_H

#include <netinet/in.h>
#include <stdio.h>
#include <sys/types.h>

#include "bench/load/expect.h"
#include "bench/load/process.h"
#include "broker/loop/io.h"
#include "broker/transport/tls.h"
#include "proto/mqtt/mqtt.h"

#define HOSTS_MAX 64
#define SOURCES_MAX 256
#define THREADS_MAX 64
#define CLIENTS_MAX 1000000u
#define STREAMS_MAX 10000000u
#define BATCH_MAX 1024u
#define STORMS_MAX 1000u
#define INFLIGHT_MAX 32767u /* half of the packet identifiers */

enum scenario {
    SCENARIO_CONN,
    SCENARIO_PUB,
    SCENARIO_SUB,
    SCENARIO_PAIR,
    SCENARIO_FANIN,
    SCENARIO_FANOUT,
    SCENARIO_WILDCARD,
    SCENARIO_SHARE,
    SCENARIO_RETAIN,
    SCENARIO_SESSION,
    SCENARIO_MIX,
    SCENARIO_COUNT
};

struct host {
    char name[256]; /* as given, with the port */
    struct sockaddr_storage address;
    socklen_t address_len;
};

/* Bytes of a payload: all the same, even between two bounds, or exponential around a mean. */
enum size_kind { SIZE_FIXED, SIZE_RANGE, SIZE_EXPONENTIAL };
struct size_plan {
    enum size_kind kind;
    uint32_t least, most; /* SIZE_EXPONENTIAL: least is the mean, most the bound */
};

struct options {
    enum scenario scenario;
    struct host hosts[HOSTS_MAX]; /* clients go round them */
    uint32_t host_count;
    struct sockaddr_storage sources[SOURCES_MAX]; /* --ifaddr; clients go round them */
    uint32_t source_count;
    uint32_t port; /* 0 until it is known */
    bool tls, websocket;
    const char *ca, *certificate, *key, *path; /* path: of WebSocket */
    struct tls_context *tls_context;           /* owned until the process ends */
    uint32_t version;                          /* enum mqtt_version */
    uint32_t count, publishers, subscriptions, topics, members_slow, storms;
    uint32_t start_number;
    double connrate, rate; /* a second; 0: as fast as it goes */
    double pub_interval_ms;
    const char *topic, *prefix, *user_name, *password, *label;
    struct size_plan size;
    char size_text[32];
    uint32_t qos;
    uint32_t batch, inflight;
    uint32_t limit; /* messages of each publisher; 0: none */
    uint32_t keep_alive_s;
    bool clean;
    uint32_t session_expiry_s;
    uint32_t threads;
    enum io_backend io;
    double ramp_s, warmup_s, duration_s, timeout_s; /* duration_s 0 until it is known: not given */
    pid_t pids[PROCESSES_MAX];
    uint32_t pid_count;
    struct expect_list expect;
    bool json, quiet;
    const char *json_path; /* NULL: standard output */
    char command[1024];    /* as it was called */
};

const char *scenario_name(enum scenario scenario);

/* Read argv, of which argv[0] is the scenario's name. Returns 0; 1 when help was printed and there is nothing to do; or
 * 2 after a sentence on standard error. */
int options_parse(int argc, char **argv, struct options *ret_options);

/* The scenarios, one a line. */
void options_list(FILE *out);

#endif
