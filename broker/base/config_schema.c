#include "broker/base/config_schema.h"

#include "proto/base/log.h"

#define FIELD(member) offsetof(struct config, member), sizeof(((struct config *)0)->member)

/* Sizes and times of the table, in the units that are stored. */
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define TIB(n) ((uint64_t)(n) << 40)
#define DAY_MS (24ull * 3600 * 1000)
#define COUNT_MAX 4000000000u /* below UINT32_MAX, so that sums of one more do not wrap */
#define PACKET_MAX 268435460u /* the longest packet that MQTT's remaining length allows: 5 + 268,435,455 */

static const char *const names_backend[] = {"auto", "io_uring", "epoll", NULL};
static const char *const names_level[] = {"error", "warn", "info", "debug", NULL};
static const char *const names_format[] = {"text", "json", NULL};
static const char *const names_share[] = {"least_inflight", "round_robin", "sticky", "hash_topic", "random", NULL};
static const char *const names_overflow[] = {"drop_new", "drop_oldest", NULL};

_Static_assert(LOG_DEBUG == 3 && LOG_JSON == 1, "names_level and names_format follow log.h");
_Static_assert(SHARE_RANDOM == 4 && OVERFLOW_DROP_OLDEST == 1, "names_share and names_overflow follow config.h");

/* Keys of one section stand together: config_print opens a section where the part before the dot changes. */
const struct config_key config_keys[] = {
    {"shards", CONFIG_INT, FIELD(shards), "0", 0, 64, 0, false, NULL,
     "Threads that serve clients; 0 takes one for each CPU the process may use."},
    {"pin_shards", CONFIG_BOOL, FIELD(pin_shards), "false", 0, 1, 0, false, NULL,
     "Bind each shard to a CPU of its own."},
    {"io_backend", CONFIG_ENUM, FIELD(io_backend), "auto", 0, 0, 0, false, names_backend,
     "How sockets are served; auto takes io_uring where the system allows it, else epoll."},
    {"data", CONFIG_STRING, FIELD(data), "./tern-data", 1, 4000, 0, false, NULL,
     "Directory for what must survive a restart; made if it is missing."},
    {"sys_interval", CONFIG_MS, FIELD(sys_interval_ms), "10s", 0, DAY_MS, 0, true, NULL,
     "How often the $SYS topics are published; 0 turns them off."},
    {"listeners", CONFIG_LISTENERS, FIELD(listeners), "tcp://127.0.0.1:1883", 1, CONFIG_LISTENERS_MAX, 0, false, NULL,
     "Where clients connect: addresses, or mappings of address and allow_anonymous, which is true by default on "
     "loopback "
     "addresses alone."},

    {"node.name", CONFIG_STRING, FIELD(node_name), NULL, 1, 255, 0, false, NULL,
     "Name of this node in logs and topics; by default the name of the host."},

    {"log.level", CONFIG_ENUM, FIELD(log_level), "info", 0, 0, 0, true, names_level,
     "The least important lines that are still written."},
    {"log.format", CONFIG_ENUM, FIELD(log_format), "text", 0, 0, 0, true, names_format,
     "Lines of key=value, or one JSON object a line."},

    {"mqtt.max_packet_size", CONFIG_BYTES, FIELD(mqtt.max_packet_size), "1MiB", KIB(1), PACKET_MAX, 0, true, NULL,
     "The longest packet taken from a client, told in CONNACK."},
    {"mqtt.max_inflight", CONFIG_INT, FIELD(mqtt.max_inflight), "1024", 1, 65535, 0, true, NULL,
     "QoS 1 and 2 messages in flight to one client; its Receive Maximum may lower this."},
    {"mqtt.receive_maximum", CONFIG_INT, FIELD(mqtt.receive_maximum), "512", 1, 65535, 0, true, NULL,
     "QoS 1 and 2 messages in flight from one client, told in CONNACK."},
    {"mqtt.topic_alias_maximum", CONFIG_INT, FIELD(mqtt.topic_alias_maximum), "32", 0, 65535, 0, true, NULL,
     "Topic aliases a client may set up, told in CONNACK."},
    {"mqtt.topic_alias_out", CONFIG_INT, FIELD(mqtt.topic_alias_out), "32", 0, 65535, 0, true, NULL,
     "Topic aliases the broker sets up towards one client at most."},
    {"mqtt.max_keep_alive", CONFIG_SECONDS, FIELD(mqtt.max_keep_alive_s), "0", 0, 65535, 0, true, NULL,
     "The longest Keep Alive, told as Server Keep Alive; 0 leaves it to the client."},
    {"mqtt.max_session_expiry", CONFIG_SECONDS, FIELD(mqtt.max_session_expiry_s), "infinity", 0, 0xFFFFFFFEu,
     0xFFFFFFFFu, true, NULL, "The longest time a session outlives its connection; longer wishes are cut in CONNACK."},
    {"mqtt.max_topic_levels", CONFIG_INT, FIELD(mqtt.max_topic_levels), "128", 1, 65535, 0, true, NULL,
     "Levels of a topic name or filter at most."},
    {"mqtt.max_client_id_size", CONFIG_BYTES, FIELD(mqtt.max_client_id_bytes), "1KiB", 23, 65535, 0, true, NULL,
     "The longest client identifier."},
    {"mqtt.retain_available", CONFIG_BOOL, FIELD(mqtt.retain_available), "true", 0, 1, 0, true, NULL,
     "Whether messages may be retained, told in CONNACK."},
    {"mqtt.wildcard_available", CONFIG_BOOL, FIELD(mqtt.wildcard_available), "true", 0, 1, 0, true, NULL,
     "Whether subscriptions may hold wildcards, told in CONNACK."},
    {"mqtt.shared_available", CONFIG_BOOL, FIELD(mqtt.shared_available), "true", 0, 1, 0, true, NULL,
     "Whether shared subscriptions are taken, told in CONNACK."},
    {"mqtt.maximum_qos", CONFIG_INT, FIELD(mqtt.maximum_qos), "2", 0, 2, 0, true, NULL,
     "The highest QoS, told in CONNACK."},
    {"mqtt.validate_payload_format", CONFIG_BOOL, FIELD(mqtt.validate_payload_format), "false", 0, 1, 0, true, NULL,
     "Refuse with 0x99 a payload that is marked as UTF-8 and is not."},
    {"mqtt.response_information", CONFIG_STRING, FIELD(mqtt.response_information), "", 0, 65535, 0, true, NULL,
     "Response Information for clients that ask for it; empty for none."},
    {"mqtt.share_strategy", CONFIG_ENUM, FIELD(mqtt.share_strategy), "least_inflight", 0, 0, 0, true, names_share,
     "How the member of a shared subscription that gets a message is picked."},

    {"limits.max_connections", CONFIG_INT, FIELD(limits.max_connections), "0", 0, COUNT_MAX, 0, true, NULL,
     "Connections at one time; 0 takes what the system's limit on descriptors allows."},
    {"limits.max_connections_per_address", CONFIG_INT, FIELD(limits.max_connections_per_address), "0", 0, COUNT_MAX, 0,
     true, NULL, "Connections at one time from one address; 0 is no limit."},
    {"limits.connect_timeout", CONFIG_MS, FIELD(limits.connect_timeout_ms), "10s", 100, DAY_MS, 0, true, NULL,
     "Time from accepting a connection to its complete CONNECT."},
    {"limits.max_queued_messages", CONFIG_INT, FIELD(limits.max_queued_messages), "1000", 1, COUNT_MAX, 0, true, NULL,
     "Messages waiting in one session, those in flight not counted."},
    {"limits.max_queued_bytes", CONFIG_BYTES, FIELD(limits.max_queued_bytes), "16MiB", KIB(1), TIB(1), 0, true, NULL,
     "Bytes of the messages waiting in one session."},
    {"limits.queue_overflow", CONFIG_ENUM, FIELD(limits.queue_overflow), "drop_new", 0, 0, 0, true, names_overflow,
     "Which message goes when a session's queue is full."},
    {"limits.max_outbox_bytes", CONFIG_BYTES, FIELD(limits.max_outbox_bytes), "1MiB", KIB(4), GIB(1), 0, true, NULL,
     "Bytes waiting for one client's socket; QoS 0 beyond it is dropped and counted."},
    {"limits.max_subscriptions", CONFIG_INT, FIELD(limits.max_subscriptions), "100000", 1, COUNT_MAX, 0, true, NULL,
     "Subscriptions of one session."},
    {"limits.max_retained_messages", CONFIG_INT, FIELD(limits.max_retained_messages), "10000000", 0, COUNT_MAX, 0, true,
     NULL, "Retained messages of this node."},
    {"limits.max_retained_bytes", CONFIG_BYTES, FIELD(limits.max_retained_bytes), "4GiB", 0, TIB(64), 0, true, NULL,
     "Bytes of the retained messages of this node."},
    {"limits.max_sessions", CONFIG_INT, FIELD(limits.max_sessions), "0", 0, COUNT_MAX, 0, true, NULL,
     "Sessions, connected or not; 0 is no limit."},
    {"limits.max_user_properties", CONFIG_INT, FIELD(limits.max_user_properties), "128", 0, COUNT_MAX, 0, true, NULL,
     "User properties in one packet."},
    {"limits.max_user_property_bytes", CONFIG_BYTES, FIELD(limits.max_user_property_bytes), "64KiB", 0, PACKET_MAX, 0,
     true, NULL, "Bytes of the names and values of the user properties in one packet."},
    {"limits.max_publish_rate", CONFIG_INT, FIELD(limits.max_publish_rate), "0", 0, COUNT_MAX, 0, true, NULL,
     "PUBLISH packets a second from one client, then reading from it pauses; 0 is no limit."},
    {"limits.backpressure", CONFIG_MS, FIELD(limits.backpressure_ms), "2s", 0, DAY_MS, 0, true, NULL,
     "How long the acknowledgement of a message may wait for a slow subscriber."},
};

const size_t config_key_count = COUNT_OF(config_keys);

const struct config_key *config_key_find(const char *name)
{
    for (size_t i = 0; i < config_key_count; i++) {
        if (strcmp(config_keys[i].name, name) == 0) {
            return &config_keys[i];
        }
    }
    return NULL;
}

bool config_section_exists(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < config_key_count; i++) {
        if (strncmp(config_keys[i].name, name, len) == 0 && config_keys[i].name[len] == '.') {
            return true;
        }
    }
    return false;
}

/* How many letters must be added, dropped or changed to come from a to b; only the first NEAREST_MAX letters count,
 * which keeps the row on the stack. */
#define NEAREST_MAX 64u

static unsigned edit_distance(const char *a, const char *b)
{
    size_t a_len = strnlen(a, NEAREST_MAX), b_len = strnlen(b, NEAREST_MAX);
    unsigned row[NEAREST_MAX + 1];

    for (size_t j = 0; j <= b_len; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned change = diagonal + (a[i - 1] != b[j - 1]);
            unsigned drop = row[j] + 1, add = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = change < drop ? change : drop;
            row[j] = row[j] < add ? row[j] : add;
        }
    }
    return row[b_len];
}

const char *config_key_nearest(const char *name)
{
    size_t len = strnlen(name, NEAREST_MAX);
    unsigned best = (unsigned)(len / 3 < 2 ? 2 : len / 3) + 1;
    const char *nearest = NULL;

    for (size_t i = 0; i < config_key_count; i++) {
        const char *key = config_keys[i].name, *dot = strchr(key, '.');
        unsigned distance = edit_distance(name, key);
        /* Who forgot the section wrote the rest right: nearer than any misspelling. */
        if (dot && strcmp(dot + 1, name) == 0) {
            distance = 0;
        }
        if (distance < best) {
            best = distance;
            nearest = key;
        }
    }
    return nearest;
}

void config_unknown_key(const char *name, char *out, size_t out_size)
{
    const char *nearest = config_key_nearest(name);

    if (nearest) {
        snprintf(out, out_size, "unknown key; did you mean %s?", nearest);
    } else {
        snprintf(out, out_size, "unknown key (tern --print-config lists all)");
    }
}
