/* options.c -- flags, what each takes, and the defaults of each scenario. */
#include "bench/load/options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/load/arguments.h"
#include "bench/load/payload.h"

#define DURATION_S 5
#define LIMIT_DURATION_S 86400 /* when the number of messages is given */
#define OPEN_INFLIGHT 1024     /* the schedule says when to send, not the window */

static const struct {
    const char *name, *what;
    uint32_t count, publishers, batch, inflight;
    uint8_t qos;
} scenarios[SCENARIO_COUNT] = {
    [SCENARIO_CONN] = {"conn", "connect COUNT clients and keep them; --storms cuts all and lets them come back", 200, 0,
                       1, 1, 0},
    [SCENARIO_PUB] = {"pub", "COUNT publishers, nobody listens here", 0, 200, 1, 64, 0},
    [SCENARIO_SUB] = {"sub", "COUNT subscribers; what comes is checked when tern-bench publishes it", 200, 0, 1, 1, 0},
    [SCENARIO_PAIR] = {"pair", "COUNT publishers, each with a subscriber of its own", 100, 0, 32, 256, 0},
    [SCENARIO_FANIN] = {"fanin", "PUBLISHERS publish to topics that COUNT subscribers follow with a wildcard", 1, 1000,
                        4, 16, 0},
    [SCENARIO_FANOUT] = {"fanout", "PUBLISHERS publish to one topic that COUNT subscribers follow", 1000, 1, 1, 4, 0},
    [SCENARIO_WILDCARD] = {"wildcard", "SUBSCRIPTIONS filters a/+/c/N/# at COUNT subscribers; PUBLISHERS go round them",
                           100, 20, 32, 256, 0},
    [SCENARIO_SHARE] = {"share", "PUBLISHERS publish, a shared subscription gives each message to one of COUNT members",
                        10, 100, 32, 64, 1},
    [SCENARIO_RETAIN] = {"retain", "store TOPICS retained messages, then replay all to each of COUNT subscribers", 1,
                         10, 32, 64, 1},
    [SCENARIO_SESSION] = {"session",
                          "COUNT sessions go offline, LIMIT messages are stored for each, then they come back", 100, 10,
                          32, 64, 1},
    [SCENARIO_MIX] = {"mix", "pairs of QoS 0, 1 and 2, fan-in, fan-out and a shared group at once, COUNT clients", 200,
                      0, 8, 32, 0},
};

const char *scenario_name(enum scenario scenario)
{
    return scenarios[scenario].name;
}

void options_list(FILE *out)
{
    for (unsigned i = 0; i < SCENARIO_COUNT; i++) {
        fprintf(out, "  %-9s %s\n", scenarios[i].name, scenarios[i].what);
    }
}

static const char help[] =
    "usage: tern-bench %s [options]\n"
    "  %s\n\n"
    "where to\n"
    "  -h, --host LIST          HOST or HOST:PORT, several with commas: clients go round them (127.0.0.1)\n"
    "  -p, --port N             port of hosts without one (1883, or as the transport says)\n"
    "  -V, --version 3|4|5      MQTT 3.1, 3.1.1 or 5.0 (4)\n"
    "      --ifaddr LIST        source addresses (to a loopback address: a thousand clients each from 127.0.1.1 on)\n"
    "  -u, --username NAME, -P, --password TEXT\n"
    "  -S, --ssl                TLS (port 8883); the broker's certificate is looked at only with --cacertfile\n"
    "      --cacertfile FILE, --certfile FILE, --keyfile FILE\n"
    "      --ws                 MQTT over WebSocket (port 8083, with -S 8084)\n"
    "      --path PATH          of the WebSocket (/mqtt)\n"
    "who\n"
    "  -c, --count N            clients, subscribers or pairs (%u)\n"
    "  -b, --publishers N       publishers where they are not as many as subscribers (%u)\n"
    "      --subscriptions N    wildcard: filters (100,000)\n"
    "      --topics N           wildcard: topics published to (one for each filter); retain: topics (100,000)\n"
    "  -n, --startnumber N      number of the first client (0)\n"
    "      --prefix TEXT        of client identifiers (tb-PID)\n"
    "  -k, --keepalive S        (300)\n"
    "  -C, --clean true|false   clean start (true; session: false)\n"
    "  -x, --session-expiry S   5.0: how long sessions stay (0; session: 3600)\n"
    "how they connect\n"
    "  -R, --connrate N         connections a second (as fast as 64 handshakes at a time allow)\n"
    "  -i, --interval MS        the same, as the time between two\n"
    "      --storms N           conn: cut all connections N times and let all come back\n"
    "what they send\n"
    "  -t, --topic T            %%i is the number of the stream, %%c the client identifier, %%u the user name\n"
    "  -s, --size N|A-B|exp:N   payload bytes: fixed, even between two, exponential around N; at least 16 (16)\n"
    "  -q, --qos N              (%u)\n"
    "  -L, --limit N            messages of each publisher (no limit; session: 100)\n"
    "how fast\n"
    "  closed loop, unless one of the next two is given: as fast as the broker answers\n"
    "  -F, --inflight N         messages of a publisher that may be on their way (%u)\n"
    "      --batch N            messages that leave in one write, never fewer (%u)\n"
    "  open loop: message k is due at t0 + k/rate, and its latency counts from then\n"
    "  -r, --rate N             messages a second of all publishers together (5k, 1M)\n"
    "  -I, --pubinterval MS     the same: one message of each publisher every MS\n"
    "      --ramp S             go up to that rate within S seconds before the measured part\n"
    "      --slow N             that many subscribers read slowly: some 20 times 4 KiB a second\n"
    "how long\n"
    "      --warmup S           before the measured part (0.3)\n"
    "  -d, --duration S         of the measured part (5)\n"
    "      --timeout S          give up what has not moved for so long (5)\n"
    "what to tell\n"
    "      --pid LIST           processes of the broker: processor time, memory, context switches\n"
    "      --expect LIST        objectives, such as p99<5ms,lost=0,cpu<1us; exit status 1 when one is missed\n"
    "      --json [FILE]        the result as one JSON object (standard output)\n"
    "      --label TEXT         name of this run in reports\n"
    "      --quiet              no line each second, no table\n"
    "this tool\n"
    "      --threads N          (half of the processors)\n"
    "      --io auto|io_uring|epoll\n"
    "Exit status: 0 fine, 1 messages lost, repeated, out of order or an objective missed, 2 wrong arguments, 3 not "
    "done.\n";

enum {
    OPT_IFADDR = 256,
    OPT_CA,
    OPT_CERTIFICATE,
    OPT_KEY,
    OPT_WS,
    OPT_PATH,
    OPT_SUBSCRIPTIONS,
    OPT_TOPICS,
    OPT_PREFIX,
    OPT_STORMS,
    OPT_BATCH,
    OPT_RAMP,
    OPT_SLOW,
    OPT_WARMUP,
    OPT_TIMEOUT,
    OPT_PID,
    OPT_EXPECT,
    OPT_JSON,
    OPT_LABEL,
    OPT_QUIET,
    OPT_THREADS,
    OPT_IO,
    OPT_HELP
};

static const struct option longs[] = {
    {"host", required_argument, NULL, 'h'},
    {"port", required_argument, NULL, 'p'},
    {"version", required_argument, NULL, 'V'},
    {"ifaddr", required_argument, NULL, OPT_IFADDR},
    {"ssl", no_argument, NULL, 'S'},
    {"cacertfile", required_argument, NULL, OPT_CA},
    {"certfile", required_argument, NULL, OPT_CERTIFICATE},
    {"keyfile", required_argument, NULL, OPT_KEY},
    {"ws", no_argument, NULL, OPT_WS},
    {"path", required_argument, NULL, OPT_PATH},
    {"username", required_argument, NULL, 'u'},
    {"password", required_argument, NULL, 'P'},
    {"count", required_argument, NULL, 'c'},
    {"publishers", required_argument, NULL, 'b'},
    {"subscriptions", required_argument, NULL, OPT_SUBSCRIPTIONS},
    {"topics", required_argument, NULL, OPT_TOPICS},
    {"startnumber", required_argument, NULL, 'n'},
    {"prefix", required_argument, NULL, OPT_PREFIX},
    {"keepalive", required_argument, NULL, 'k'},
    {"clean", required_argument, NULL, 'C'},
    {"session-expiry", required_argument, NULL, 'x'},
    {"connrate", required_argument, NULL, 'R'},
    {"interval", required_argument, NULL, 'i'},
    {"storms", required_argument, NULL, OPT_STORMS},
    {"topic", required_argument, NULL, 't'},
    {"size", required_argument, NULL, 's'},
    {"qos", required_argument, NULL, 'q'},
    {"limit", required_argument, NULL, 'L'},
    {"inflight", required_argument, NULL, 'F'},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"rate", required_argument, NULL, 'r'},
    {"pubinterval", required_argument, NULL, 'I'},
    {"ramp", required_argument, NULL, OPT_RAMP},
    {"slow", required_argument, NULL, OPT_SLOW},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"duration", required_argument, NULL, 'd'},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"pid", required_argument, NULL, OPT_PID},
    {"expect", required_argument, NULL, OPT_EXPECT},
    {"json", optional_argument, NULL, OPT_JSON},
    {"label", required_argument, NULL, OPT_LABEL},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"io", required_argument, NULL, OPT_IO},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static const char *flag_name(int flag)
{
    for (const struct option *o = longs; o->name; o++) {
        if (o->val == flag) {
            return o->name;
        }
    }
    return "?";
}

static bool take_expect(struct options *o, const char *text)
{
    const char *why = expect_parse(&o->expect, text);

    return why ? argument_wrong("--expect: %s", why) : true;
}

/* --- flags ------------------------------------------------------------------------------------------------------- */

/* Lists are read when all flags are known: hosts need the port. */
struct lists {
    char *hosts, *sources, *pids;
};

/* Flags that only fill in a field, and what may stand there. */
enum field_kind { FIELD_TEXT, FIELD_WHOLE /* uint32_t */, FIELD_NUMBER /* double */ };

#define FIELD(flag, kind, name, least, most) \
    { \
        flag, kind, offsetof(struct options, name), least, most \
    }
static const struct {
    int flag;
    enum field_kind kind;
    size_t at;
    double least, most;
} fields[] = {
    FIELD('u', FIELD_TEXT, user_name, 0, 0),
    FIELD('P', FIELD_TEXT, password, 0, 0),
    FIELD('t', FIELD_TEXT, topic, 0, 0),
    FIELD(OPT_PREFIX, FIELD_TEXT, prefix, 0, 0),
    FIELD(OPT_LABEL, FIELD_TEXT, label, 0, 0),
    FIELD(OPT_CA, FIELD_TEXT, ca, 0, 0),
    FIELD(OPT_CERTIFICATE, FIELD_TEXT, certificate, 0, 0),
    FIELD(OPT_KEY, FIELD_TEXT, key, 0, 0),
    FIELD(OPT_PATH, FIELD_TEXT, path, 0, 0),
    FIELD('p', FIELD_WHOLE, port, 1, 65535),
    FIELD('k', FIELD_WHOLE, keep_alive_s, 0, 65535),
    FIELD('V', FIELD_WHOLE, version, 3, 5),
    FIELD('q', FIELD_WHOLE, qos, 0, 2),
    FIELD('c', FIELD_WHOLE, count, 1, CLIENTS_MAX),
    FIELD('b', FIELD_WHOLE, publishers, 1, CLIENTS_MAX),
    FIELD(OPT_SUBSCRIPTIONS, FIELD_WHOLE, subscriptions, 1, STREAMS_MAX),
    FIELD(OPT_TOPICS, FIELD_WHOLE, topics, 1, STREAMS_MAX),
    FIELD('n', FIELD_WHOLE, start_number, 0, CLIENTS_MAX),
    FIELD(OPT_SLOW, FIELD_WHOLE, members_slow, 0, CLIENTS_MAX),
    FIELD(OPT_STORMS, FIELD_WHOLE, storms, 0, STORMS_MAX),
    FIELD(OPT_BATCH, FIELD_WHOLE, batch, 1, BATCH_MAX),
    FIELD('F', FIELD_WHOLE, inflight, 1, INFLIGHT_MAX),
    FIELD(OPT_THREADS, FIELD_WHOLE, threads, 1, THREADS_MAX),
    FIELD('x', FIELD_WHOLE, session_expiry_s, 0, UINT32_MAX),
    FIELD('L', FIELD_WHOLE, limit, 0, UINT32_MAX),
    FIELD('R', FIELD_NUMBER, connrate, 0, 1e6),
    FIELD('r', FIELD_NUMBER, rate, 0.001, 1e9),
    FIELD('I', FIELD_NUMBER, pub_interval_ms, 0.001, 1e9),
    FIELD(OPT_RAMP, FIELD_NUMBER, ramp_s, 0, 86400),
    FIELD(OPT_WARMUP, FIELD_NUMBER, warmup_s, 0, 86400),
    FIELD('d', FIELD_NUMBER, duration_s, 0.05, 8640000),
    FIELD(OPT_TIMEOUT, FIELD_NUMBER, timeout_s, 0.1, 86400),
};

static bool take_field(struct options *o, int flag, const char *value)
{
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        void *at = (char *)o + fields[i].at;
        if (fields[i].flag != flag) {
            continue;
        }
        if (fields[i].kind == FIELD_TEXT) {
            *(const char **)at = value;
            return true;
        }
        if (fields[i].kind == FIELD_WHOLE) {
            return argument_whole(flag_name(flag), value, (uint32_t)fields[i].least, (uint32_t)fields[i].most, at);
        }
        return argument_number(flag_name(flag), value, fields[i].least, fields[i].most, at);
    }
    return argument_wrong("--%s cannot be taken", flag_name(flag));
}

static bool take_flag(struct options *o, struct lists *lists, int flag, char *value)
{
    double interval_ms;

    switch (flag) {
    case 'h':
        lists->hosts = value;
        return true;
    case OPT_IFADDR:
        lists->sources = value;
        return true;
    case OPT_PID:
        lists->pids = value;
        return true;
    case 'S':
        o->tls = true;
        return true;
    case OPT_WS:
        o->websocket = true;
        return true;
    case OPT_QUIET:
        o->quiet = true;
        return true;
    case OPT_JSON:
        o->json = true;
        o->json_path = value;
        return true;
    case 'C':
        return argument_bool(flag_name(flag), value, &o->clean);
    case 's':
        return argument_size(o, value);
    case OPT_IO:
        return argument_io(o, value);
    case OPT_EXPECT:
        return take_expect(o, value);
    case 'i':
        if (!argument_number(flag_name(flag), value, 0, 1e6, &interval_ms)) {
            return false;
        }
        o->connrate = interval_ms > 0 ? 1000 / interval_ms : 0;
        return true;
    default:
        return take_field(o, flag, value);
    }
}

static uint32_t threads_default(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN) / 2;

    return cpus < 1 ? 1 : cpus > THREADS_MAX ? THREADS_MAX : (uint32_t)cpus;
}

static void defaults(struct options *o, enum scenario scenario)
{
    static char prefix[16];

    snprintf(prefix, sizeof(prefix), "tb-%x", (unsigned)getpid());
    *o = (struct options){
        .scenario = scenario,
        .path = "/mqtt",
        .version = MQTT_V311,
        .count = scenarios[scenario].count,
        .publishers = scenarios[scenario].publishers,
        .subscriptions = 100000,
        .prefix = prefix,
        .size = {SIZE_FIXED, PAYLOAD_HEAD_BYTES, PAYLOAD_HEAD_BYTES},
        .size_text = "16",
        .qos = scenarios[scenario].qos,
        .batch = scenarios[scenario].batch,
        .limit = scenario == SCENARIO_SESSION ? 100 : 0,
        .keep_alive_s = 300,
        .clean = scenario != SCENARIO_SESSION,
        .session_expiry_s = scenario == SCENARIO_SESSION ? 3600 : 0,
        .threads = threads_default(),
        .warmup_s = 0.3,
        .timeout_s = 5,
    };
}

/* The transport: its usual port, and its certificates. */
static bool transport_ready(struct options *o)
{
    char error[512];

    if (o->port == 0) {
        o->port = o->websocket ? (o->tls ? 8084 : 8083) : o->tls ? 8883 : 1883;
    }
    if (!o->tls) {
        return o->ca || o->certificate || o->key ? argument_wrong("certificates are for --ssl") : true;
    }
    if (!o->certificate != !o->key) {
        return argument_wrong("--certfile and --keyfile belong together");
    }
    if (tls_client_context_new(o->ca, o->certificate, o->key, o->ca == NULL, error, sizeof(error), &o->tls_context)) {
        return argument_wrong("%s", error);
    }
    return true;
}

/* What no single flag can know. */
static bool consistent(struct options *o)
{
    bool publishes = o->scenario != SCENARIO_CONN && o->scenario != SCENARIO_SUB;

    if (o->rate > 0 && o->pub_interval_ms > 0) {
        return argument_wrong("--rate and --pubinterval say the same thing: give one of them");
    }
    if ((o->rate > 0 || o->pub_interval_ms > 0) &&
        (!publishes || o->scenario == SCENARIO_RETAIN || o->scenario == SCENARIO_SESSION)) {
        return argument_wrong("--%s: %s has no schedule", o->rate > 0 ? "rate" : "pubinterval",
                              scenarios[o->scenario].name);
    }
    if (o->ramp_s > 0 && o->rate <= 0 && o->pub_interval_ms <= 0) {
        return argument_wrong("--ramp: there is no --rate to go up to");
    }
    if (o->scenario == SCENARIO_PAIR) {
        o->publishers = o->count;
    }
    if (o->scenario == SCENARIO_PUB && o->count > 0) {
        o->publishers = o->count; /* as emqtt-bench has it */
    }
    if (o->rate <= 0 && o->pub_interval_ms <= 0) {
        o->inflight = o->inflight ? o->inflight : scenarios[o->scenario].inflight;
    } else if (o->inflight == 0) {
        o->inflight = OPEN_INFLIGHT;
    }
    if (o->duration_s <= 0) {
        o->duration_s = o->limit > 0 ? LIMIT_DURATION_S : DURATION_S;
    }
    if (o->batch > o->inflight && (o->qos > 0 || o->scenario != SCENARIO_PUB)) {
        return argument_wrong("--batch: a write of %u messages needs an --inflight of as many", o->batch);
    }
    if (o->storms > 0 && o->scenario != SCENARIO_CONN) {
        return argument_wrong("--storms: only of conn");
    }
    if (o->scenario == SCENARIO_SESSION && o->qos == 0) {
        return argument_wrong("--qos: messages of QoS 0 are not stored for who is offline");
    }
    if (o->scenario == SCENARIO_SESSION && o->clean) {
        return argument_wrong("--clean: there would be no session to come back to");
    }
    if (o->members_slow > o->count) {
        return argument_wrong("--slow: there are only %u subscribers", o->count);
    }
    if (o->topics > o->subscriptions && o->scenario == SCENARIO_WILDCARD) {
        return argument_wrong("--topics: more than --subscriptions");
    }
    return true;
}

/* Whether argument i is, or holds, the password. */
static const char *argument_shown(int i, char **argv)
{
    if (i > 0 && (strcmp(argv[i - 1], "-P") == 0 || strcmp(argv[i - 1], "--password") == 0)) {
        return "***";
    }
    if (strncmp(argv[i], "-P", 2) == 0 && argv[i][2]) {
        return "-P***";
    }
    return strncmp(argv[i], "--password=", 11) == 0 ? "--password=***" : argv[i];
}

/* The command line as a shell would take it again. */
static void command_keep(struct options *o, int argc, char **argv)
{
    size_t at = (size_t)snprintf(o->command, sizeof(o->command), "tern-bench");

    for (int i = 0; i < argc && at < sizeof(o->command); i++) {
        const char *text = argument_shown(i, argv);
        const char *quote = text[0] == 0 || strpbrk(text, " \t\n\"\\$`&|;<>*?()[]{}#~!") ? "'" : "";
        at += (size_t)snprintf(o->command + at, sizeof(o->command) - at, " %s%s%s", quote, text, quote);
    }
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
    struct options *o = ret_options;
    struct lists lists = {0};
    char local[] = "127.0.0.1";
    unsigned scenario = 0;
    int flag;

    while (scenario < SCENARIO_COUNT && strcmp(argv[0], scenarios[scenario].name) != 0) {
        scenario++;
    }
    if (scenario == SCENARIO_COUNT) {
        argument_wrong("there is no scenario %s (tern-bench --help names them)", argv[0]);
        return 2;
    }
    defaults(o, (enum scenario)scenario);
    command_keep(o, argc, argv);
    optind = 1;
    opterr = 0;
    while ((flag = getopt_long(argc, argv, ":Sh:p:V:u:P:c:b:n:k:C:x:R:i:t:s:q:L:F:r:I:d:", longs, NULL)) != -1) {
        if (flag == OPT_HELP) {
            printf(help, argv[0], scenarios[scenario].what, o->count, o->publishers, o->qos,
                   scenarios[scenario].inflight, o->batch);
            return 1;
        }
        if (flag == '?' || flag == ':') {
            argument_wrong(flag == ':' ? "%s needs a value" : "%s is no option that can be had (--help lists them)",
                           argv[optind - 1]);
            return 2;
        }
        if (flag == OPT_JSON && !optarg && optind < argc && argv[optind][0] != '-') {
            optarg = argv[optind++];
        }
        if (!take_flag(o, &lists, flag, optarg)) {
            return 2;
        }
    }
    if (optind < argc) {
        argument_wrong("%s is no option (--help lists them)", argv[optind]);
        return 2;
    }
    if (!transport_ready(o) || !argument_hosts(o, lists.hosts ? lists.hosts : local) ||
        (lists.sources && !argument_sources(o, lists.sources)) || (lists.pids && !argument_pids(o, lists.pids)) ||
        !consistent(o)) {
        return 2;
    }
    return 0;
}
