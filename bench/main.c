/* main.c -- tern-bench: arguments and exit status.
 *
 * 0 every message came once and in order; 1 one did not, or a client was thrown out; 2 wrong arguments; 3 the scenario
 * could not be set up. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/report.h"
#include "bench/traffic.h"

#define SECONDS_MAX 3600
#define KEEP_ALIVE_S (2 * SECONDS_MAX) /* no run is so long that a client would have to send PINGREQ */
#define OUT_BYTES_MAX (64u << 20)      /* of one write */

static const char usage_text[] =
    "tern-bench -- load on an MQTT broker, every message checked\n"
    "\n"
    "usage: tern-bench pair|fanout|wildcard|idle [options]\n"
    "\n"
    "  pair       N publishers, each to a subscriber of its own\n"
    "  fanout     one publisher, N subscribers\n"
    "  wildcard   subscriptions a/+/c/<n>/# spread over N connections, and publishers to topics that match one each\n"
    "  idle       N clients that do nothing\n"
    "\n"
    "  -h, --host HOST         the broker (127.0.0.1)\n"
    "  -p, --port PORT         (1883)\n"
    "  -V, --mqtt 4|5          version 3.1.1 or 5.0 (4)\n"
    "  -n, --count N           pairs (100), subscribers (1000), connections with subscriptions (100), clients (10000)\n"
    "  -q, --qos 0|1|2         of messages and subscriptions (0); fanout 0 or 1\n"
    "  -s, --size BYTES        payload (16)\n"
    "  -b, --batch N           messages a write (32; fanout 1)\n"
    "  -w, --window N          messages that a publisher may have outstanding from end to end (256; fanout 4)\n"
    "      --publishers N      wildcard (20)\n"
    "      --subscriptions N   wildcard (100000)\n"
    "      --topics N          wildcard: different topics published to, all in turn (as many as subscriptions)\n"
    "      --seconds S         length of the measured part (3)\n"
    "      --warmup S          time under load before it (0.5)\n"
    "      --stall S           give up when nothing comes for so long (10)\n"
    "      --pid PID           the broker's process: measure its processor time and memory\n"
    "      --json              print one JSON object\n"
    "      --help              print this\n"
    "\n"
    "Exit status: 0 all came once and in order, 1 not so, 2 wrong arguments, 3 could not be set up.\n";

enum {
    OPT_PUBLISHERS = 256,
    OPT_SUBSCRIPTIONS,
    OPT_TOPICS,
    OPT_SECONDS,
    OPT_WARMUP,
    OPT_STALL,
    OPT_PID,
    OPT_JSON,
    OPT_HELP
};

static const struct option option_names[] = {
    {"host", required_argument, NULL, 'h'},
    {"port", required_argument, NULL, 'p'},
    {"mqtt", required_argument, NULL, 'V'},
    {"count", required_argument, NULL, 'n'},
    {"qos", required_argument, NULL, 'q'},
    {"size", required_argument, NULL, 's'},
    {"batch", required_argument, NULL, 'b'},
    {"window", required_argument, NULL, 'w'},
    {"publishers", required_argument, NULL, OPT_PUBLISHERS},
    {"subscriptions", required_argument, NULL, OPT_SUBSCRIPTIONS},
    {"topics", required_argument, NULL, OPT_TOPICS},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"stall", required_argument, NULL, OPT_STALL},
    {"pid", required_argument, NULL, OPT_PID},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static void die(const char *what, const char *text)
{
    fprintf(stderr, "tern-bench: %s%s (tern-bench --help lists the arguments)\n", what, text);
    exit(2);
}

static uint32_t number(const char *text, uint32_t min, uint32_t max)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);

    if (errno != 0 || end == text || *end != 0 || value < min || value > max) {
        die("not a number, or one that is not allowed here: ", text);
    }
    return (uint32_t)value;
}

static uint32_t milliseconds(const char *text)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end != 0 || !(seconds >= 0 && seconds <= SECONDS_MAX)) {
        die("not a number of seconds, or too many: ", text);
    }
    return (uint32_t)lround(seconds * 1000);
}

static enum scenario_kind kind_of(const char *name)
{
    for (int kind = SCENARIO_PAIR; kind <= SCENARIO_IDLE; kind++) {
        if (strcmp(name, scenario_name(kind)) == 0) {
            return kind;
        }
    }
    die("unknown scenario: ", name);
    return SCENARIO_PAIR;
}

static struct scenario_options defaults(enum scenario_kind kind)
{
    static const uint32_t counts[] = {100, 1000, 100, 10000};

    return (struct scenario_options){
        .kind = kind,
        .target = {.host = "127.0.0.1", .port = 1883, .version = MQTT_V311, .keep_alive_s = KEEP_ALIVE_S},
        .count = counts[kind],
        .publishers = 20,
        .subscriptions = 100000,
        .payload_bytes = 16,
        .batch = kind == SCENARIO_FANOUT ? 1 : 32,
        .window = kind == SCENARIO_FANOUT ? 4 : 256,
        .warmup_ms = 500,
        .measure_ms = 3000,
        .stall_ms = 10000,
    };
}

/* One argument into the options. Returns false when it is not about the scenario. */
static bool option_take(struct scenario_options *o, int option, const char *text)
{
    switch (option) {
    case 'h':
        o->target.host = text;
        return true;
    case 'p':
        o->target.port = (uint16_t)number(text, 1, UINT16_MAX);
        return true;
    case 'V':
        o->target.version = (enum mqtt_version)number(text, MQTT_V311, MQTT_V5);
        return true;
    case 'n':
        o->count = number(text, 1, CLIENT_COUNT_MAX);
        return true;
    case 'q':
        o->qos = (uint8_t)number(text, 0, 2);
        return true;
    case 's':
        o->payload_bytes = number(text, TRAFFIC_PAYLOAD_BYTES_MIN, TRAFFIC_PAYLOAD_BYTES_MAX);
        return true;
    case 'b':
        o->batch = number(text, 1, TRAFFIC_WINDOW_MAX);
        return true;
    case 'w':
        o->window = number(text, 1, TRAFFIC_WINDOW_MAX);
        return true;
    case OPT_PUBLISHERS:
        o->publishers = number(text, 1, CLIENT_COUNT_MAX);
        return true;
    case OPT_SUBSCRIPTIONS:
        o->subscriptions = number(text, 1, TRAFFIC_SUBSCRIPTIONS_MAX);
        return true;
    case OPT_TOPICS:
        o->topics = number(text, 1, TRAFFIC_SUBSCRIPTIONS_MAX);
        return true;
    case OPT_SECONDS:
        o->measure_ms = milliseconds(text);
        return true;
    case OPT_WARMUP:
        o->warmup_ms = milliseconds(text);
        return true;
    case OPT_STALL:
        o->stall_ms = milliseconds(text);
        return true;
    case OPT_PID:
        o->pid = (pid_t)number(text, 1, INT32_MAX);
        return true;
    default:
        return false;
    }
}

/* What one option cannot know of another. */
static void options_check(const struct scenario_options *o)
{
    uint32_t clients = o->kind == SCENARIO_PAIR       ? 2 * o->count
                       : o->kind == SCENARIO_FANOUT   ? o->count + 1
                       : o->kind == SCENARIO_WILDCARD ? o->count + o->publishers
                                                      : o->count;
    uint32_t topics = o->topics > 0 ? o->topics : o->subscriptions;

    if (clients > CLIENT_COUNT_MAX) {
        die("too many clients", "");
    }
    if (o->batch > o->window) {
        die("--batch must not be more than --window", "");
    }
    if ((uint64_t)o->batch * (o->payload_bytes + 64) > OUT_BYTES_MAX) {
        die("--batch times --size is too much for one write", "");
    }
    if (o->kind == SCENARIO_FANOUT && o->qos == 2) {
        die("fanout is for QoS 0 and 1", "");
    }
    if (o->kind == SCENARIO_WILDCARD && (topics > o->subscriptions || topics < o->publishers)) {
        die("--topics must lie between --publishers and --subscriptions", "");
    }
    if (o->kind == SCENARIO_WILDCARD && o->count > o->subscriptions) {
        die("more connections than subscriptions", "");
    }
}

int main(int argc, char *argv[])
{
    static struct scenario_result result; /* three snapshots of a process are too much for the stack's taste */
    bool json = false;
    int option;

    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        fputs(usage_text, argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    struct scenario_options options = defaults(kind_of(argv[1]));
    while ((option = getopt_long(argc - 1, argv + 1, "h:p:V:n:q:s:b:w:", option_names, NULL)) != -1) {
        if (option == OPT_HELP) {
            fputs(usage_text, stdout);
            return 0;
        }
        if (option == OPT_JSON) {
            json = true;
        } else if (!option_take(&options, option, optarg)) {
            return 2; /* getopt_long has said what is wrong */
        }
    }
    if (optind != argc - 1) {
        die("one argument too many: ", argv[optind + 1]);
    }
    options_check(&options);

    int rc = scenario_run(&options, &result);
    if (rc != 0) {
        fprintf(stderr, "tern-bench: could not be set up: %s\n", result.why);
    }
    (json ? report_json : report_text)(stdout, &options, &result);
    return rc != 0 ? 3 : scenario_clean(&result) ? 0 : 1;
}
