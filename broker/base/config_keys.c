/* config_keys.c -- the keys of the configuration. */
#include "broker/base/config_schema.h"

#include "proto/base/log.h"

#define FIELD(member) offsetof(struct config, member), sizeof(((struct config *)0)->member)

/* Sizes and times of the table, in the units that are stored. */
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define TIB(n) ((uint64_t)(n) << 40)
#define DAY_MS (24ull * 3600 * 1000)
#define YEAR_MS (365 * DAY_MS)

static const char *const names_backend[] = {"auto", "io_uring", "epoll", NULL};
static const char *const names_level[] = {"error", "warn", "info", "debug", NULL};
static const char *const names_format[] = {"text", "json", NULL};
static const char *const names_share[] = {"least_inflight", "round_robin", "sticky", "hash_topic", "random", NULL};
static const char *const names_overflow[] = {"drop_new", "drop_oldest", NULL};
static const char *const names_binding[] = {"refuse", "replace", "off", NULL};
static const char *const names_denied[] = {"drop", "close", NULL};
static const char *const names_suback[] = {"bounded", "strict", "local", NULL};
static const char *const names_admin_role[] = {"auto", "none", "viewer", "operator", NULL};
static const char *const names_token_in[] = {"password", "username", NULL};

const char *const config_algorithm_names[] = {"HS256", "RS256", "ES256", "EdDSA", NULL};

_Static_assert(LOG_DEBUG == 3 && LOG_JSON == 1, "names_level and names_format follow log.h");
_Static_assert(SHARE_RANDOM == 4 && OVERFLOW_DROP_OLDEST == 1, "names_share and names_overflow follow config.h");
_Static_assert(BINDING_OFF == 2 && DENIED_CLOSE == 1 && TOKEN_IN_USERNAME == 1 && SUBACK_LOCAL == 2,
               "names follow config.h");
_Static_assert(ADMIN_ROLE_OPERATOR == 3, "names_admin_role follows config.h");

static const struct config_key keys[] = {
    {"shards", CONFIG_INT, FIELD(shards), "0", 0, 64, 0, false, NULL,
     "Threads that serve clients; 0 takes one for each CPU the process may use."},
    {"pin_shards", CONFIG_BOOL, FIELD(pin_shards), "false", 0, 1, 0, false, NULL,
     "Bind each shard to a CPU of its own."},
    {"io_backend", CONFIG_ENUM, FIELD(io_backend), "auto", 0, 0, 0, false, names_backend,
     "How sockets are served; auto takes io_uring where the system allows it, else epoll."},
    {"data", CONFIG_STRING, FIELD(data), "./tern-data", 0, CONFIG_PATH_MAX, 0, false, NULL,
     "Directory for what must survive a restart; made if it is missing; empty: nothing survives."},
    {"memory_users", CONFIG_LIST, FIELD(memory_users), "", 0, CONFIG_WORDS_MAX, 0, true, NULL,
     "Users whose sessions are kept in memory only, as on a listener with durability: memory."},
    {"sys_interval", CONFIG_MS, FIELD(sys_interval_ms), "10s", 0, DAY_MS, 0, true, NULL,
     "How often the $SYS topics are published; 0 turns them off."},
    {"listeners", CONFIG_LISTENERS, FIELD(listeners), "tcp://127.0.0.1:1883", 1, CONFIG_LISTENERS_MAX, 0, false, NULL,
     "Where clients connect: addresses, or mappings with the keys of a listener."},

    {"node.name", CONFIG_STRING, FIELD(node_name), NULL, 1, CONFIG_TEXT_MAX, 0, false, NULL,
     "Name of this node in logs and topics; by default the name of the host."},

    {"drain.rate", CONFIG_INT, FIELD(drain.rate), "1000", 0, CONFIG_COUNT_MAX, 0, true, NULL,
     "Clients that a node of several sends away each second before it ends, or more if drain.grace is short; 0 is no "
     "limit."},
    {"drain.wait", CONFIG_MS, FIELD(drain.wait_ms), "5s", 0, 3600000, 0, true, NULL,
     "How long a node that is to end says that it is not ready before it sends clients away, if anybody asks."},
    {"drain.grace", CONFIG_MS, FIELD(drain.grace_ms), "25s", 3000, DAY_MS, 0, true, NULL,
     "How long it may take from SIGTERM to the end of the process."},

    {"log.level", CONFIG_ENUM, FIELD(log_level), "info", 0, 0, 0, true, names_level,
     "The least important lines that are still written."},
    {"log.format", CONFIG_ENUM, FIELD(log_format), "text", 0, 0, 0, true, names_format,
     "Lines of key=value, or one JSON object a line."},

    {"mqtt.max_packet_size", CONFIG_BYTES, FIELD(mqtt.max_packet_size), "1MiB", KIB(1), CONFIG_PACKET_MAX, 0, true,
     NULL, "The longest packet taken from a client, told in CONNACK."},
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

    {"limits.max_connections", CONFIG_INT, FIELD(limits.max_connections), "0", 0, CONFIG_COUNT_MAX, 0, true, NULL,
     "Connections at one time; 0 takes what the system's limit on descriptors allows."},
    {"limits.max_connections_per_address", CONFIG_INT, FIELD(limits.max_connections_per_address), "0", 0,
     CONFIG_COUNT_MAX, 0, true, NULL, "Connections at one time from one address; 0 is no limit."},
    {"limits.connect_timeout", CONFIG_MS, FIELD(limits.connect_timeout_ms), "10s", 100, DAY_MS, 0, true, NULL,
     "Time from accepting a connection to its complete CONNECT."},
    {"limits.max_queued_messages", CONFIG_INT, FIELD(limits.max_queued_messages), "1000", 1, CONFIG_COUNT_MAX, 0, true,
     NULL, "Messages waiting in one session, those in flight not counted."},
    {"limits.max_queued_bytes", CONFIG_BYTES, FIELD(limits.max_queued_bytes), "16MiB", KIB(1), TIB(1), 0, true, NULL,
     "Bytes of the messages waiting in one session."},
    {"limits.queue_overflow", CONFIG_ENUM, FIELD(limits.queue_overflow), "drop_new", 0, 0, 0, true, names_overflow,
     "Which message goes when a session's queue is full."},
    {"limits.max_outbox_bytes", CONFIG_BYTES, FIELD(limits.max_outbox_bytes), "1MiB", KIB(4), GIB(1), 0, true, NULL,
     "Bytes waiting for one client's socket; QoS 0 beyond it is dropped and counted."},
    {"limits.max_subscriptions", CONFIG_INT, FIELD(limits.max_subscriptions), "100000", 1, CONFIG_COUNT_MAX, 0, true,
     NULL, "Subscriptions of one session."},
    {"limits.max_retained_messages", CONFIG_INT, FIELD(limits.max_retained_messages), "10000000", 0, CONFIG_COUNT_MAX,
     0, true, NULL, "Retained messages of this node."},
    {"limits.max_retained_bytes", CONFIG_BYTES, FIELD(limits.max_retained_bytes), "4GiB", 0, TIB(64), 0, true, NULL,
     "Bytes of the retained messages of this node."},
    {"limits.max_sessions", CONFIG_INT, FIELD(limits.max_sessions), "0", 0, CONFIG_COUNT_MAX, 0, true, NULL,
     "Sessions, connected or not; 0 is no limit."},
    {"limits.max_user_properties", CONFIG_INT, FIELD(limits.max_user_properties), "128", 0, CONFIG_COUNT_MAX, 0, true,
     NULL, "User properties in one packet."},
    {"limits.max_user_property_bytes", CONFIG_BYTES, FIELD(limits.max_user_property_bytes), "64KiB", 0,
     CONFIG_PACKET_MAX, 0, true, NULL, "Bytes of the names and values of the user properties in one packet."},
    {"limits.max_publish_rate", CONFIG_INT, FIELD(limits.max_publish_rate), "0", 0, CONFIG_COUNT_MAX, 0, true, NULL,
     "PUBLISH packets a second from one client, then reading from it pauses; 0 is no limit."},
    {"limits.backpressure", CONFIG_MS, FIELD(limits.backpressure_ms), "2s", 0, DAY_MS, 0, true, NULL,
     "How long the acknowledgement of a message may wait for a slow subscriber."},
    {"limits.max_publish_byte_rate", CONFIG_BYTES, FIELD(limits.max_publish_byte_rate), "0", 0, CONFIG_RATE_MAX, 0,
     true, NULL, "Bytes of PUBLISH packets a second from one client, then reading from it pauses; 0 is no limit."},
    {"limits.max_user_publish_rate", CONFIG_INT, FIELD(limits.max_user_publish_rate), "0", 0, CONFIG_COUNT_MAX, 0, true,
     NULL, "PUBLISH packets a second from all clients of one user; 0 is no limit."},
    {"limits.max_user_publish_byte_rate", CONFIG_BYTES, FIELD(limits.max_user_publish_byte_rate), "0", 0,
     CONFIG_RATE_MAX, 0, true, NULL, "Bytes of PUBLISH packets a second from all clients of one user; 0 is no limit."},
    {"limits.max_connection_rate_per_address", CONFIG_INT, FIELD(limits.max_connection_rate_per_address), "0", 0,
     CONFIG_COUNT_MAX, 0, true, NULL, "New connections a second from one address; 0 is no limit."},

    {"auth.password_file", CONFIG_STRING, FIELD(auth.password_file), "", 0, CONFIG_PATH_MAX, 0, true, NULL,
     "File of users and what their passwords are checked against; empty for none."},
    {"auth.acl_file", CONFIG_STRING, FIELD(auth.acl_file), "", 0, CONFIG_PATH_MAX, 0, true, NULL,
     "File of rules: who may publish and subscribe where; empty lets everybody who is let in do everything."},
    {"auth.client_id_binding", CONFIG_ENUM, FIELD(auth.client_id_binding), "refuse", 0, 0, 0, true, names_binding,
     "What happens to a client whose client id has the session of another user: refused, given a new session in its "
     "place, or, with off, given that one."},
    {"auth.denied_publish", CONFIG_ENUM, FIELD(auth.denied_publish), "drop", 0, 0, 0, true, names_denied,
     "What a 3.x client that may not publish gets: its message dropped with an acknowledgement, or its connection "
     "closed."},
    {"auth.workers", CONFIG_INT, FIELD(auth.workers), "2", 1, 64, 0, false, NULL,
     "Threads that hash passwords and check tokens."},
    {"auth.max_waiting", CONFIG_INT, FIELD(auth.max_waiting), "1000", 1, 1000000, 0, false, NULL,
     "Questions that may wait for them."},

    {"jwt.keys", CONFIG_STRING, FIELD(jwt.keys), "", 0, CONFIG_PATH_MAX, 0, true, NULL,
     "File of keys that tokens are signed with, PEM or a JWK Set; empty for none."},
    {"jwt.jwks_url", CONFIG_STRING, FIELD(jwt.jwks_url), "", 0, CONFIG_URL_MAX, 0, true, NULL,
     "Where a JWK Set with such keys is fetched; empty for nowhere."},
    {"jwt.jwks_refresh", CONFIG_MS, FIELD(jwt.jwks_refresh_ms), "5m", 10000, DAY_MS, 0, true, NULL,
     "How often it is fetched anew."},
    {"jwt.ca_file", CONFIG_STRING, FIELD(jwt.ca_file), "", 0, CONFIG_PATH_MAX, 0, true, NULL,
     "Who signs that server's certificate, PEM; empty for the system's."},
    {"jwt.algorithms", CONFIG_LIST, FIELD(jwt.algorithms), "HS256, RS256, ES256, EdDSA", 1, 4, 0, true,
     config_algorithm_names, "Algorithms of signatures that are taken."},
    {"jwt.issuer", CONFIG_STRING, FIELD(jwt.issuer), "", 0, CONFIG_URL_MAX, 0, true, NULL,
     "What iss must be; empty for anything."},
    {"jwt.audience", CONFIG_STRING, FIELD(jwt.audience), "", 0, CONFIG_URL_MAX, 0, true, NULL,
     "What aud must be or hold; empty for anything."},
    {"jwt.leeway", CONFIG_SECONDS, FIELD(jwt.leeway_s), "30s", 0, 3600, 0, true, NULL,
     "How far clocks may differ when exp and nbf are compared."},
    {"jwt.user_claim", CONFIG_STRING, FIELD(jwt.user_claim), "sub", 1, CONFIG_TEXT_MAX, 0, true, NULL,
     "Claim with the user's name; dots lead into objects, here and below."},
    {"jwt.client_id_claim", CONFIG_STRING, FIELD(jwt.client_id_claim), "", 0, CONFIG_TEXT_MAX, 0, true, NULL,
     "Claim that the client id must be equal to; empty for none."},
    {"jwt.roles_claim", CONFIG_STRING, FIELD(jwt.roles_claim), "roles", 0, CONFIG_TEXT_MAX, 0, true, NULL,
     "Claim with the user's roles; empty for none."},
    {"jwt.rules_claim", CONFIG_STRING, FIELD(jwt.rules_claim), "acl", 0, CONFIG_TEXT_MAX, 0, true, NULL,
     "Claim with rules for this client alone; empty for none."},
    {"jwt.token_in", CONFIG_ENUM, FIELD(jwt.token_in), "password", 0, 0, 0, true, names_token_in,
     "The field of CONNECT that holds the token."},

    {"http.connect_url", CONFIG_STRING, FIELD(http.connect_url), "", 0, CONFIG_URL_MAX, 0, true, NULL,
     "Service that is asked at each CONNECT whether the client may come in; empty for none."},
    {"http.rule_url", CONFIG_STRING, FIELD(http.rule_url), "", 0, CONFIG_URL_MAX, 0, true, NULL,
     "Service that is asked for what no rule decides; empty for none."},
    {"http.timeout", CONFIG_MS, FIELD(http.timeout_ms), "5s", 100, 60000, 0, true, NULL,
     "Time for one answer, connecting included."},
    {"http.max_requests", CONFIG_INT, FIELD(http.max_requests), "32", 1, 1000, 0, true, NULL,
     "Questions under way at one time; four times as many may wait."},
    {"http.ca_file", CONFIG_STRING, FIELD(http.ca_file), "", 0, CONFIG_PATH_MAX, 0, true, NULL,
     "Who signs the service's certificate, PEM; empty for the system's."},
    {"http.breaker_failures", CONFIG_INT, FIELD(http.breaker_failures), "5", 0, CONFIG_COUNT_MAX, 0, true, NULL,
     "Failures in a row after which the service is not asked for a while; 0 is never."},
    {"http.breaker_pause", CONFIG_MS, FIELD(http.breaker_pause_ms), "10s", 100, 3600000, 0, true, NULL,
     "How long it is not asked then."},
    {"http.default_max_age", CONFIG_SECONDS, FIELD(http.default_max_age_s), "0", 0, 86400, 0, true, NULL,
     "How long an answer without Cache-Control may be used again."},

    {"ban.auth_failures", CONFIG_INT, FIELD(ban.auth_failures), "0", 0, CONFIG_COUNT_MAX, 0, true, NULL,
     "Failed authentications of one address within ban.window after which it is banned; 0 is never."},
    {"ban.window", CONFIG_MS, FIELD(ban.window_ms), "1m", 1000, DAY_MS, 0, true, NULL,
     "The time in which they are counted."},
    {"ban.time", CONFIG_MS, FIELD(ban.time_ms), "5m", 1000, YEAR_MS, 0, true, NULL, "How long the ban lasts."},
    {"ban.flaps", CONFIG_INT, FIELD(ban.flaps), "0", 0, CONFIG_COUNT_MAX, 0, true, NULL,
     "Connections with one client id within ban.flap_window after which it is banned; 0 is never."},
    {"ban.flap_window", CONFIG_MS, FIELD(ban.flap_window_ms), "1m", 1000, DAY_MS, 0, true, NULL,
     "The time in which they are counted."},
    {"ban.flap_time", CONFIG_MS, FIELD(ban.flap_time_ms), "5m", 1000, YEAR_MS, 0, true, NULL,
     "How long that ban lasts."},

    {"cluster.listen", CONFIG_STRING, FIELD(cluster.listen), "", 0, CONFIG_TEXT_MAX, 0, false, NULL,
     "ADDRESS:PORT for the other nodes, TCP and UDP; empty: this node is alone."},
    {"cluster.advertise", CONFIG_STRING, FIELD(cluster.advertise), "", 0, CONFIG_TEXT_MAX, 0, false, NULL,
     "ADDRESS:PORT that other nodes reach this one by; empty: the address of cluster.listen."},
    {"cluster.name", CONFIG_STRING, FIELD(cluster.name), "tern", 1, 63, 0, false, NULL,
     "Name of the cluster; nodes of another one are refused, and node certificates must be made out to it."},
    {"cluster.seeds", CONFIG_LIST, FIELD(cluster.seeds), "", 0, CONFIG_WORDS_MAX, 0, false, NULL,
     "HOST:PORT of nodes to ask first; a name may stand for many, as that of a headless service does."},
    {"cluster.bootstrap_expect", CONFIG_INT, FIELD(cluster.bootstrap_expect), "0", 0, 128, 0, false, NULL,
     "So many nodes without data found a cluster when they see each other; 0: as many as cluster.seeds and this node "
     "are."},
    {"cluster.key_file", CONFIG_STRING, FIELD(cluster.key_file), "", 0, CONFIG_PATH_MAX, 0, true, NULL,
     "Keys that seal what nodes gossip: 64 hex digits a line; the first seals, up to four open. Read anew by SIGHUP."},
    {"cluster.certificate", CONFIG_STRING, FIELD(cluster.certificate), "", 0, CONFIG_PATH_MAX, 0, true, NULL,
     "PEM file of this node's certificate, made out to cluster.name."},
    {"cluster.key", CONFIG_STRING, FIELD(cluster.key), "", 0, CONFIG_PATH_MAX, 0, true, NULL, "And of its key."},
    {"cluster.ca", CONFIG_STRING, FIELD(cluster.ca), "", 0, CONFIG_PATH_MAX, 0, true, NULL,
     "PEM file of who signs the certificates of nodes, and of nobody else."},
    {"cluster.insecure", CONFIG_BOOL, FIELD(cluster.insecure), "false", 0, 1, 0, false, NULL,
     "Links without TLS, gossip under a key that anybody can make: for tests and networks of one's own."},
    {"cluster.suback", CONFIG_ENUM, FIELD(cluster.suback), "bounded", 0, 0, 0, true, names_suback,
     "What a SUBACK waits for: all living nodes for at most half a second, all without a bound, or only this one."},

    {"admin.listen", CONFIG_STRING, FIELD(admin.listen), "127.0.0.1:18083", 0, CONFIG_TEXT_MAX, 0, false, NULL,
     "ADDRESS:PORT of the admin port: /livez, /readyz, /metrics, the API and the dashboard; empty for none."},
    {"admin.certificate", CONFIG_STRING, FIELD(admin.certificate), "", 0, CONFIG_PATH_MAX, 0, true, NULL,
     "File of the admin port's certificate, PEM, with its chain; empty for plain HTTP."},
    {"admin.key", CONFIG_STRING, FIELD(admin.key), "", 0, CONFIG_PATH_MAX, 0, true, NULL, "And of its key."},
    {"admin.users_file", CONFIG_STRING, FIELD(admin.users_file), "", 0, CONFIG_PATH_MAX, 0, true, NULL,
     "File of who may log in to the admin port, NAME:ROLE:HASH a line, with the role viewer or operator; empty for "
     "none."},
    {"admin.tokens_file", CONFIG_STRING, FIELD(admin.tokens_file), "", 0, CONFIG_PATH_MAX, 0, true, NULL,
     "File of tokens that programs log in with, NAME:ROLE:SHA256 a line; empty for none."},
    {"admin.anonymous_role", CONFIG_ENUM, FIELD(admin.anonymous_role), "auto", 0, 0, 0, true, names_admin_role,
     "What who does not log in may do; auto is operator on a loopback address while there are neither users nor "
     "tokens, else none."},
    {"admin.metrics_open", CONFIG_BOOL, FIELD(admin.metrics_open), "true", 0, 1, 0, true, NULL,
     "Whether /metrics needs no login."},
};

_Static_assert(COUNT_OF(keys) <= CONFIG_KEYS_MAX, "readers remember so many keys");

const struct config_table config_keys = {keys, COUNT_OF(keys)};
