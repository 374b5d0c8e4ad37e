/* remote_verbs.c -- the rows: what each verb asks and how its answer is shown. Fields and parameters are those of the
 * admin API. */
#include "broker/cli/remote.h"

#define PAGES \
    {"page", "N", "page", "which page, from 1 on"}, {"limit", "N", "limit", "rows of a page, up to 1000 (100)"}, \
    { \
        "all", NULL, NULL, "all pages" \
    }

/* ---- nodes ---- */

static const struct remote_column node_columns[] = {
    {"NODE", "node", FORM_TEXT},
    {"STATE", "state", FORM_TEXT},
    {"READY", "ready", FORM_TEXT},
    {"DRAINING", "draining", FORM_TEXT},
    {"VERSION", "version", FORM_TEXT},
    {"UP", "uptime_seconds", FORM_SECONDS},
    {"CLIENTS", "connections", FORM_NUMBER},
    {"SESSIONS", "sessions", FORM_NUMBER},
    {"QUEUED", "queued_messages", FORM_NUMBER},
    {"IN/S", "received_per_second", FORM_NUMBER},
    {"OUT/S", "sent_per_second", FORM_NUMBER},
    {"MEMORY", "memory_bytes", FORM_BYTES},
    {0},
};

static const struct remote_column listener_columns[] = {
    {"ID", "id", FORM_TEXT},
    {"NODE", "node", FORM_TEXT},
    {"ADDRESS", "address", FORM_TEXT},
    {"PROTOCOL", "protocol", FORM_TEXT},
    {"CLIENTS", "connections", FORM_NUMBER},
    {"MOST", "max_connections", FORM_NUMBER},
    {"TLS", "tls", FORM_TEXT},
    {"CERTIFICATE UNTIL", "certificate_expires_at", FORM_TEXT},
    {0},
};

static const struct remote_option pages[] = {PAGES, {0}};

/* ---- clients ---- */

static const struct remote_column client_columns[] = {
    {"CLIENT", "clientid", FORM_TEXT},
    {"USER", "username", FORM_TEXT},
    {"ADDRESS", "ip_address", FORM_TEXT},
    {"NODE", "node", FORM_TEXT},
    {"VERSION", "proto_ver", FORM_NUMBER},
    {"CONNECTED", "connected", FORM_TEXT},
    {"SUBS", "subscriptions_cnt", FORM_NUMBER},
    {"INFLIGHT", "inflight_cnt", FORM_NUMBER},
    {"QUEUE", "mqueue_len", FORM_NUMBER},
    {"DROPPED", "mqueue_dropped", FORM_NUMBER},
    {"RECEIVED", "recv_msg", FORM_NUMBER},
    {"SENT", "send_msg", FORM_NUMBER},
    {0},
};

static const struct remote_option client_options[] = {
    {"top", "queue|inflight|dropped|received|sent", "order=desc&sort", "those with most of it first"},
    {"sort", "clientid|connected_at|queue|inflight|dropped|received|sent", "sort", "by what (clientid)"},
    {"order", "asc|desc", "order", "rising or falling (asc)"},
    {"username", "NAME", "username", "of this user"},
    {"ip-address", "ADDRESS", "ip_address", "from this address"},
    {"conn-state", "connected|disconnected", "conn_state", "those that are there, or those that are not"},
    {"like-clientid", "TEXT", "like_clientid", "with this in the client id"},
    {"like-username", "TEXT", "like_username", "with this in the user name"},
    {"proto-ver", "3|4|5", "proto_ver", "of MQTT 3.1, 3.1.1 or 5.0"},
    {"listener", "ID", "listener", "of this listener"},
    PAGES,
    {0},
};

static const struct remote_option kick_options[] = {
    {"end-session", NULL, "session=delete", "its session goes too, with what waits in it"},
    {0},
};

static const struct remote_column subscription_columns[] = {
    {"CLIENT", "clientid", FORM_TEXT}, {"FILTER", "topic", FORM_TEXT}, {"SHARE", "share", FORM_TEXT},
    {"QOS", "qos", FORM_NUMBER},       {"NL", "nl", FORM_TEXT},        {"RAP", "rap", FORM_TEXT},
    {"RH", "rh", FORM_NUMBER},         {"NODE", "node", FORM_TEXT},    {0},
};

static const struct remote_option subscription_options[] = {
    {"clientid", "ID", "clientid", "of this client"},
    {"topic", "FILTER", "topic", "of exactly this filter"},
    {"match-topic", "TOPIC", "match_topic", "that a message of this topic meets"},
    {"share", "NAME", "share", "of this shared subscription"},
    {"qos", "0|1|2", "qos", "granted with it"},
    PAGES,
    {0},
};

/* ---- topics and messages ---- */

static const struct remote_column topic_columns[] = {
    {"FILTER", "topic", FORM_TEXT},
    {"SHARE", "share", FORM_TEXT},
    {"NODES", "nodes", FORM_TEXT},
    {"SUBSCRIBERS", "subscribers", FORM_NUMBER},
    {0},
};

static const struct remote_column retained_columns[] = {
    {"TOPIC", "topic", FORM_TEXT},
    {"QOS", "qos", FORM_NUMBER},
    {"BYTES", "payload_bytes", FORM_NUMBER},
    {"PUBLISHED", "publish_at", FORM_TEXT},
    {"EXPIRES", "expires_at", FORM_TEXT},
    {"FROM", "from_clientid", FORM_TEXT},
    {0},
};

static const struct remote_option retained_options[] = {
    {"topic", "FILTER", "topic", "that this filter meets"},
    PAGES,
    {0},
};

static const struct remote_option retained_get_options[] = {
    {"raw", NULL, NULL, "the payload alone, as it is"},
    {0},
};

static const struct remote_option publish_options[] = {
    {"qos", "0|1|2", NULL, "(0)"},
    {"retain", NULL, NULL, "keep it for later subscribers; an empty payload removes what is kept"},
    {"file", "FILE", NULL, "the payload is in this file; - is standard input"},
    {"content-type", "TEXT", NULL, "a property of MQTT 5.0, as are those below"},
    {"response-topic", "TOPIC", NULL, "where an answer is to go"},
    {"correlation-data", "TEXT", NULL, "what an answer is to bring back"},
    {"message-expiry", "DURATION", NULL, "undelivered after this, it is dropped"},
    {"user-property", "NAME=VALUE", NULL, "may be repeated"},
    {0},
};

/* ---- order ---- */

static const struct remote_column ban_columns[] = {
    {"AS", "as", FORM_TEXT},       {"WHO", "who", FORM_TEXT},   {"REASON", "reason", FORM_TEXT},
    {"UNTIL", "until", FORM_TEXT}, {"NODE", "node", FORM_TEXT}, {0},
};

static const struct remote_option ban_options[] = {
    {"reason", "TEXT", NULL, "why, for those who read the list"},
    {"for", "DURATION", NULL, "how long"},
    {"until", "TIME", NULL, "until when, as 2030-01-31T12:00:00Z (for ever)"},
    {0},
};

static const struct remote_column alarm_columns[] = {
    {"SEVERITY", "severity", FORM_TEXT}, {"NODE", "node", FORM_TEXT},       {"ALARM", "name", FORM_TEXT},
    {"SINCE", "since", FORM_TEXT},       {"MESSAGE", "message", FORM_TEXT}, {0},
};

static const struct remote_option trace_options[] = {
    {"clientid", "ID", NULL, "what this client does"},
    {"topic", "FILTER", NULL, "messages that this filter meets"},
    {"ip-address", "ADDRESS", NULL, "clients from this address"},
    {"duration", "DURATION", NULL, "how long, up to 1h (60s)"},
    {"payload", "none|text|base64", NULL, "whether payloads are shown, and how (none)"},
    {0},
};

static const struct remote_option drain_options[] = {
    {"rate", "N", NULL, "clients sent away a second (drain.rate)"},
    {"wait", "DURATION", NULL, "before the first goes, so that the load balancer sends no more"},
    {0},
};

const struct remote_verb remote_verbs[] = {
    {"status", NULL, "GET", "/status", NULL, NULL, remote_status, "How the node is; exit status 1 unless it is ready."},
    {"cluster status", NULL, "GET", "/cluster", node_columns, NULL, remote_cluster, "The cluster and its nodes."},
    {"nodes list", NULL, "GET", "/nodes", node_columns, NULL, remote_list, "The nodes, and how much each has to do."},
    {"nodes show", "NODE", "GET", "/nodes/%s", NULL, NULL, remote_show, "All that is known of a node."},
    {"clients list", NULL, "GET", "/clients", client_columns, client_options, remote_list,
     "Clients and the sessions of those that are away."},
    {"clients show", "ID", "GET", "/clients/%s", NULL, NULL, remote_show,
     "All of one client: its subscriptions, queues and errors, and why it may be getting nothing."},
    {"clients kick", "ID...", "DELETE", "/clients/%s", NULL, kick_options, remote_each,
     "Send clients away; they may come back."},
    {"sub list", NULL, "GET", "/subscriptions", subscription_columns, subscription_options, remote_list,
     "Subscriptions of all clients."},
    {"topics list", NULL, "GET", "/topics", topic_columns, pages, remote_list,
     "Filters that messages are looked up in, and which nodes want them."},
    {"retained list", NULL, "GET", "/retained", retained_columns, retained_options, remote_list, "Retained messages."},
    {"retained get", "TOPIC", "GET", "/retained/%s", NULL, retained_get_options, remote_retained_get,
     "One retained message with its payload."},
    {"retained delete", "TOPIC...", "DELETE", "/retained/%s", NULL, NULL, remote_each, "Remove retained messages."},
    {"publish", "TOPIC [PAYLOAD]", "POST", "/publish", NULL, publish_options, remote_publish,
     "Publish a message; the payload is an argument or in a --file."},
    {"listeners list", NULL, "GET", "/listeners", listener_columns, NULL, remote_list,
     "Addresses that clients come to, and when their certificates end."},
    {"bans list", NULL, "GET", "/banned", ban_columns, pages, remote_list, "Who is kept out."},
    {"bans add", "AS WHO", "POST", "/banned", NULL, ban_options, remote_ban,
     "Keep somebody out and send him away; AS is clientid, username or ip_address."},
    {"bans remove", "AS WHO", "DELETE", "/banned", NULL, NULL, remote_unban, "Let somebody in again."},
    {"alarms", NULL, "GET", "/alarms", alarm_columns, NULL, remote_list, "What is wrong now."},
    {"log level", "[LEVEL]", "PUT", "/log", NULL, NULL, remote_log_level,
     "Show the level of the log, or set it: error, warn, info, debug."},
    {"reload", NULL, "POST", "/reload", NULL, NULL, remote_show,
     "Read the configuration and the files it names anew, as SIGHUP does."},
    {"trace start", NULL, "POST", "/trace", NULL, trace_options, remote_trace,
     "Follow a client, a topic or an address over the whole cluster, until Ctrl-C or the duration's end."},
    {"drain start", NULL, "POST", "/drain", NULL, drain_options, remote_drain,
     "Send the node's clients to the others, a few at a time, before it is stopped."},
    {"drain status", NULL, "GET", "/drain", NULL, NULL, remote_show, "How far draining is."},
    {"drain stop", NULL, "DELETE", "/drain", NULL, NULL, remote_show, "Drain no further: clients may come again."},
    {"metrics", "[PREFIX]", "GET", "/metrics", NULL, NULL, remote_metrics, "The node's numbers, a line each."},
    {"bench", NULL, "GET", "/listeners", NULL, NULL, remote_bench,
     "Command lines of tern-bench for this node's listeners."},
};

const size_t remote_verb_count = COUNT_OF(remote_verbs);
