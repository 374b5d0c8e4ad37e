/* metrics.h -- counters and latency histograms of one shard, from one table.
 *
 * Why: a number is written in one place, by one thread, with a plain relaxed store; whoever wants the node's sums adds
 * the shards up. The table gives each metric its Prometheus name and help text; `$SYS` and the later HTTP page read the
 * same table. */
#ifndef TERN_BROKER_BASE_METRICS_H
#define TERN_BROKER_BASE_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(identifier, kind, "name", "help"): kind COUNTER only grows, GAUGE goes up and down. */
#define METRICS_TABLE(X) \
    X(BYTES_RECEIVED, COUNTER, "tern_bytes_received_total", "Bytes received from clients.") \
    X(BYTES_SENT, COUNTER, "tern_bytes_sent_total", "Bytes sent to clients.") \
    X(PACKETS_RECEIVED, COUNTER, "tern_packets_received_total", "MQTT control packets received.") \
    X(PACKETS_SENT, COUNTER, "tern_packets_sent_total", "MQTT control packets sent.") \
    X(PUBLISH_RECEIVED, COUNTER, "tern_publish_received_total", "PUBLISH packets received.") \
    X(PUBLISH_SENT, COUNTER, "tern_publish_sent_total", "PUBLISH packets sent.") \
    X(PUBLISH_BYTES_RECEIVED, COUNTER, "tern_publish_received_bytes_total", "Payload bytes of PUBLISH received.") \
    X(PUBLISH_BYTES_SENT, COUNTER, "tern_publish_sent_bytes_total", "Payload bytes of PUBLISH sent.") \
    X(SOCKETS_OPENED, COUNTER, "tern_sockets_opened_total", "Connections accepted.") \
    X(SOCKETS, GAUGE, "tern_sockets", "Connections open now, CONNECT seen or not.") \
    X(OUTBOXES, GAUGE, "tern_outboxes", "Connections with output that their socket has not taken yet.") \
    X(OUTBOX_BYTES, GAUGE, "tern_outbox_bytes", "Bytes of that output.") \
    X(SOCKETS_REFUSED, COUNTER, "tern_sockets_refused_total", "Connections closed at once because of a limit.") \
    X(CONNECTS, COUNTER, "tern_connects_total", "CONNECT packets answered with success.") \
    X(CONNECTS_REFUSED, COUNTER, "tern_connects_refused_total", "CONNECT packets refused.") \
    X(CONNECTED, GAUGE, "tern_clients_connected", "Clients connected now.") \
    X(SESSIONS, GAUGE, "tern_sessions", "Sessions, connected or not.") \
    X(SESSIONS_EXPIRED, COUNTER, "tern_sessions_expired_total", "Sessions that expired while disconnected.") \
    X(CLIENTS_DRAINED, COUNTER, "tern_clients_drained_total", "Clients sent away because the node is drained.") \
    X(TAKEOVERS, COUNTER, "tern_takeovers_total", "Connections closed because their client connected anew.") \
    X(SUBSCRIPTIONS, GAUGE, "tern_subscriptions", "Subscriptions, shared ones included.") \
    X(SHARED_SUBSCRIPTIONS, GAUGE, "tern_shared_subscriptions", "Shared subscriptions.") \
    X(RETAINED, GAUGE, "tern_retained_messages", "Retained messages.") \
    X(RETAINED_BYTES, GAUGE, "tern_retained_bytes", "Bytes of retained messages.") \
    X(RETAINED_GRAVES, GAUGE, "tern_retained_deleted", \
      "Deleted or expired retained messages that are remembered, so that no other node brings them back.") \
    X(RETAINED_CAUGHT_UP, COUNTER, "tern_retained_caught_up_total", \
      "Retained messages got from other nodes because they had others than this one.") \
    X(QUEUED, GAUGE, "tern_queued_messages", "Messages waiting in sessions, in flight ones included.") \
    X(QUEUED_BYTES, GAUGE, "tern_queued_bytes", "Bytes of the messages waiting in sessions.") \
    X(DROPPED_DISK_FULL, COUNTER, "tern_dropped_disk_full_total", "Deliveries refused: no room on the disk.") \
    X(DROPPED_LINK_FULL, COUNTER, "tern_dropped_link_full_total", \
      "Messages not given to another node: no link to it, or that is full.") \
    X(GOSSIP_REFUSED, COUNTER, "tern_gossip_refused_total", "Datagrams that no node of this cluster has sealed.") \
    X(FORWARDED, COUNTER, "tern_messages_forwarded_total", "Messages given to other nodes.") \
    X(FORWARDED_IN, COUNTER, "tern_messages_forwarded_received_total", "Messages that other nodes have given.") \
    X(DROPPED_QUEUE_FULL, COUNTER, "tern_dropped_queue_full_total", "Deliveries dropped: session queue full.") \
    X(DROPPED_OUTBOX_FULL, COUNTER, "tern_dropped_outbox_full_total", "QoS 0 deliveries dropped: slow reader.") \
    X(DROPPED_OFFLINE, COUNTER, "tern_dropped_offline_total", "QoS 0 deliveries dropped: client not connected.") \
    X(DROPPED_EXPIRED, COUNTER, "tern_dropped_expired_total", "Deliveries dropped: message expiry interval passed.") \
    X(DROPPED_TOO_LARGE, COUNTER, "tern_dropped_too_large_total", "Deliveries dropped: above Maximum Packet Size.") \
    X(DROPPED_NO_MEMORY, COUNTER, "tern_dropped_no_memory_total", "Deliveries dropped: allocation failed.") \
    X(DROPPED_RETAIN_QUOTA, COUNTER, "tern_dropped_retain_quota_total", \
      "Messages not retained: count or bytes used up.") \
    X(DROPPED_NO_MEMBER, COUNTER, "tern_dropped_no_member_total", "Shared deliveries dropped: no member left.") \
    X(DROPPED_DENIED, COUNTER, "tern_dropped_denied_total", "Deliveries dropped: the client may not read the topic.") \
    X(HANDSHAKES, COUNTER, "tern_handshakes_total", \
      "Handshakes of TLS, WebSocket or the PROXY protocol that succeeded.") \
    X(HANDSHAKES_FAILED, COUNTER, "tern_handshakes_failed_total", "And that failed.") \
    X(HANDSHAKES_WAITING, GAUGE, "tern_handshakes_waiting", \
      "Connections with bytes of a handshake that wait their turn.") \
    X(TLS_RESUMED, COUNTER, "tern_tls_resumed_total", "TLS handshakes that resumed a session by its ticket.") \
    X(CHANNELS_BROKEN, COUNTER, "tern_channels_broken_total", \
      "Connections closed for breaking the rules of TLS or WebSocket.") \
    X(AUTH_FAILED, COUNTER, "tern_authentication_failed_total", "Clients that did not prove who they are.") \
    X(PUBLISH_DENIED, COUNTER, "tern_publish_denied_total", "PUBLISH packets and wills that the rules forbade.") \
    X(SUBSCRIBE_DENIED, COUNTER, "tern_subscribe_denied_total", "Filters of SUBSCRIBE that the rules forbade.") \
    X(SUBSCRIPTIONS_REVOKED, COUNTER, "tern_subscriptions_revoked_total", \
      "Subscriptions ended because the rules have changed.") \
    X(CLIENTS_REVOKED, COUNTER, "tern_clients_revoked_total", \
      "Clients sent away because they may no longer be connected.") \
    X(HTTP_ASKED, COUNTER, "tern_http_questions_total", "Questions to the HTTP service about clients and rules.") \
    X(HTTP_FAILED, COUNTER, "tern_http_questions_failed_total", "Those without a usable answer.") \
    X(HTTP_REFUSED, COUNTER, "tern_http_questions_refused_total", \
      "Those not asked: too many at once, or the service is taken for dead.") \
    X(HTTP_UNDERWAY, GAUGE, "tern_http_questions_underway", "Those that wait for their answer.") \
    X(CERTIFICATE_EXPIRES, GAUGE, "tern_certificate_expiry_timestamp_seconds", \
      "When the first of the listeners' certificates expires; 0: there is none.") \
    X(UNROUTED, COUNTER, "tern_publish_unrouted_total", "PUBLISH packets with no matching subscriber.") \
    X(TURNS, COUNTER, "tern_turns_total", "Turns of the shards' loops.") \
    X(ADMIN_REQUESTS, COUNTER, "tern_admin_requests_total", "Requests to the admin port.") \
    X(ADMIN_DENIED, COUNTER, "tern_admin_denied_total", "Those that were not let in.") \
    X(ADMIN_REFUSED, COUNTER, "tern_admin_connections_refused_total", \
      "Connections of the admin port closed because there were too many.") \
    X(READS_PAUSED, COUNTER, "tern_reads_paused_total", \
      "Times that reading from a client was stopped for back pressure.") \
    X(FEATURE_TOPIC_ALIAS_IN, COUNTER, "tern_feature_topic_alias_received_total", \
      "PUBLISH received with a topic alias.") \
    X(FEATURE_TOPIC_ALIAS_OUT, COUNTER, "tern_feature_topic_alias_sent_total", "PUBLISH sent with a topic alias.") \
    X(FEATURE_MESSAGE_EXPIRY, COUNTER, "tern_feature_message_expiry_total", \
      "PUBLISH received with an expiry interval.") \
    X(FEATURE_SESSION_EXPIRY, COUNTER, "tern_feature_session_expiry_total", \
      "CONNECT 5.0 with a session expiry interval.") \
    X(FEATURE_RESPONSE_TOPIC, COUNTER, "tern_feature_response_topic_total", "PUBLISH received with a response topic.") \
    X(FEATURE_USER_PROPERTY, COUNTER, "tern_feature_user_property_total", "PUBLISH received with user properties.") \
    X(FEATURE_SHARED, COUNTER, "tern_feature_shared_subscribe_total", "Shared subscriptions made.") \
    X(FEATURE_SUBSCRIPTION_ID, COUNTER, "tern_feature_subscription_id_total", \
      "SUBSCRIBE with a subscription identifier.") \
    X(FEATURE_RECEIVE_MAX, COUNTER, "tern_feature_receive_maximum_total", "CONNECT 5.0 with a receive maximum.") \
    X(FEATURE_WILL_DELAY, COUNTER, "tern_feature_will_delay_total", "CONNECT 5.0 with a will delay interval.")

enum metric {
#define METRICS_ID(identifier, kind, name, help) METRIC_##identifier,
    METRICS_TABLE(METRICS_ID)
#undef METRICS_ID
        METRIC_COUNT
};

#define METRIC_PEERS_MAX 128 /* other nodes, by number */

/* X(identifier, count, "label", "name", "help"): counters that differ by one label, with so many values. What a value
 * is called, broker/admin knows. */
#define METRICS_FAMILIES(X) \
    X(RECEIVED_BY_QOS, 3, "qos", "tern_publish_received_total", "PUBLISH packets received.") \
    X(SENT_BY_QOS, 3, "qos", "tern_publish_sent_total", "PUBLISH packets sent.") \
    X(CONNECTS_BY_VERSION, 3, "version", "tern_connects_total", "CONNECT packets answered with success.") \
    X(REFUSED_BY_REASON, 256, "reason", "tern_connects_refused_total", "CONNECT packets refused.") \
    X(DISCONNECTS_BY_REASON, 256, "reason", "tern_disconnects_total", \
      "Clients that were connected and are not any more.") \
    X(RECEIVED_BY_PACKET, 16, "packet", "tern_packets_received_total", "MQTT control packets received.") \
    X(SENT_BY_PACKET, 16, "packet", "tern_packets_sent_total", "MQTT control packets sent.") \
    X(SENT_BY_LINK, METRIC_PEERS_MAX, "peer", "tern_link_sent_bytes_total", "Bytes sent to another node.") \
    X(RECEIVED_BY_LINK, METRIC_PEERS_MAX, "peer", "tern_link_received_bytes_total", "Bytes received from it.")

/* Where each family begins among the counters, and how many there are. */
enum metric_family_cell {
#define METRICS_ID(identifier, count, label, name, help) \
    METRIC_CELL_##identifier, METRIC_CELL_##identifier##_LAST = METRIC_CELL_##identifier + (count)-1,
    METRICS_FAMILIES(METRICS_ID)
#undef METRICS_ID
        METRIC_CELL_COUNT
};

enum metric_family {
#define METRICS_ID(identifier, count, label, name, help) METRIC_FAMILY_##identifier,
    METRICS_FAMILIES(METRICS_ID)
#undef METRICS_ID
        METRIC_FAMILY_COUNT
};

/* Values of DISCONNECTS_BY_REASON that are no reason codes of a broker. */
#define METRIC_DISCONNECT_NORMAL 0u /* the client has sent DISCONNECT */
#define METRIC_DISCONNECT_LOST 1u   /* its connection broke, or it closed it without a word */

/* X(identifier, "name", "help"): latencies in nanoseconds, shown in seconds. */
#define METRICS_HISTOGRAMS(X) \
    X(PUBLISH_ACK, "tern_publish_ack_seconds", "From a QoS 1 or 2 PUBLISH to its PUBACK or PUBREC.") \
    X(CONNECT, "tern_connect_seconds", "From accept to CONNACK.") \
    X(TURN, "tern_shard_turn_seconds", "Length of a shard's turn, sleep excluded.") \
    X(COMMIT, "tern_commit_seconds", \
      "From the end of a turn to its log being on the disk, while somebody waits for it.") \
    X(TAKEOVER, "tern_takeover_seconds", \
      "From accept to CONNACK of a client that ends an earlier connection of its own.") \
    X(ROUTE, "tern_route_propagation_seconds", \
      "From a SUBSCRIBE to its SUBACK, which waits until all nodes know the filters.")

enum metric_histogram {
#define METRICS_ID(identifier, name, help) METRIC_HISTOGRAM_##identifier,
    METRICS_HISTOGRAMS(METRICS_ID)
#undef METRICS_ID
        METRIC_HISTOGRAM_COUNT
};

#define METRIC_BUCKETS 112 /* log-linear: 4 a power of two, from 1 us to 240 s; see metric_bucket_ns */

struct metrics {
    uint64_t values[METRIC_COUNT]; /* gauges too; one shard's may be negative as int64_t, the sum is not */
    uint64_t cells[METRIC_CELL_COUNT];
    uint64_t buckets[METRIC_HISTOGRAM_COUNT][METRIC_BUCKETS];
    uint64_t sum_ns[METRIC_HISTOGRAM_COUNT];
};

static inline void metric_add(struct metrics *m, enum metric metric, int64_t n)
{
    uint64_t value = __atomic_load_n(&m->values[metric], __ATOMIC_RELAXED) + (uint64_t)n;
    __atomic_store_n(&m->values[metric], value, __ATOMIC_RELAXED);
}

static inline void metric_inc(struct metrics *m, enum metric metric)
{
    metric_add(m, metric, 1);
}

/* More with the label's at-th value. */
static inline void metric_add_at(struct metrics *m, enum metric_family_cell family, unsigned at, uint64_t n)
{
    uint64_t *cell = &m->cells[(unsigned)family + at];
    __atomic_store_n(cell, __atomic_load_n(cell, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

/* One more: metric_inc_at(m, METRIC_CELL_SENT_BY_QOS, qos). */
static inline void metric_inc_at(struct metrics *m, enum metric_family_cell family, unsigned at)
{
    metric_add_at(m, family, at, 1);
}

struct metric_family_terms {
    const char *name, *label, *help;
    unsigned first, count; /* of struct metrics.cells */
};

const struct metric_family_terms *metric_family_terms(enum metric_family family);

void metric_observe(struct metrics *m, enum metric_histogram histogram, uint64_t ns);

/* Upper bound of a bucket in nanoseconds. */
uint64_t metric_bucket_ns(unsigned bucket);

/* Add what `from` holds at this moment to `sum`; from may belong to a running shard. */
void metrics_sum(struct metrics *sum, const struct metrics *from);

/* The q-quantile (0..1) in nanoseconds, 0 when empty. */
uint64_t metrics_quantile(const struct metrics *m, enum metric_histogram histogram, double q);

const char *metric_name(enum metric metric);
const char *metric_help(enum metric metric);
bool metric_is_gauge(enum metric metric);
const char *metric_histogram_name(enum metric_histogram histogram);
const char *metric_histogram_help(enum metric_histogram histogram);

#endif
