/* config.h -- everything that can be set, in one struct made from one table of names, units, defaults and limits. */
#ifndef TERN_BROKER_BASE_CONFIG_H
#define TERN_BROKER_BASE_CONFIG_H

#include "proto/base/slice.h"

#include <stdio.h>

#define CONFIG_LISTENERS_MAX 32

enum config_overflow { OVERFLOW_DROP_NEW, OVERFLOW_DROP_OLDEST };
enum config_share { SHARE_LEAST_INFLIGHT, SHARE_ROUND_ROBIN, SHARE_STICKY, SHARE_HASH_TOPIC, SHARE_RANDOM };

struct config_listener {
    char *address;       /* owned: tcp://HOST:PORT as given */
    char *host;          /* owned: numeric address or name, IPv6 without brackets */
    unsigned port;       /* 0: any free one, told in the log */
    int allow_anonymous; /* -1: only when the address is a loopback one; 0; 1 */
};

/* In brackets: the key, if it is not the field's own name under its section. 0 is "no limit" only where it says so. */
struct config {
    unsigned shards;          /* [shards] 0 = auto: one for each CPU the process may use; at most 64 */
    bool pin_shards;          /* [pin_shards] */
    int io_backend;           /* [io_backend] enum io_backend's values: 0 auto, 1 io_uring, 2 epoll */
    char *data;               /* [data] directory for what must survive; made if missing. Owned */
    char *node_name;          /* [node.name] default: the host's name. Owned */
    uint64_t sys_interval_ms; /* [sys_interval] 10s; 0 = no $SYS */

    int log_level;  /* [log.level] error, warn, info, debug: enum log_level */
    int log_format; /* [log.format] text, json: enum log_format */

    /* [listeners] a list of addresses or {address, allow_anonymous}; default: tcp://127.0.0.1:1883 */
    struct config_listener listeners[CONFIG_LISTENERS_MAX];
    unsigned listener_count;

    struct {
        uint32_t max_packet_size;      /* 1MiB; 1 KiB .. 268435460 bytes */
        uint32_t max_inflight;         /* 1024; messages in flight to one client, 1..65535 */
        uint32_t receive_maximum;      /* 512; messages in flight from one client, told in CONNACK */
        uint32_t topic_alias_maximum;  /* 32; aliases a client may set up, told in CONNACK; 0..65535 */
        uint32_t topic_alias_out;      /* 32; aliases the broker sets up towards a client at most */
        uint64_t max_keep_alive_s;     /* [mqtt.max_keep_alive] 0 = as the client likes; told as Server Keep Alive */
        uint64_t max_session_expiry_s; /* [mqtt.max_session_expiry] infinity (MQTT_EXPIRY_NEVER); longer ones are cut */
        uint32_t max_topic_levels;     /* 128; 1..65535 */
        uint32_t max_client_id_bytes;  /* [mqtt.max_client_id_size] 1024; 23..65535 */
        bool retain_available;         /* true */
        bool wildcard_available;       /* true */
        bool shared_available;         /* true */
        uint32_t maximum_qos;          /* 2; 0..2 */
        bool validate_payload_format;  /* false; true: a payload marked UTF-8 that is not is refused with 0x99 */
        char *response_information;    /* "" = none; told to clients that ask. Owned */
        int share_strategy;            /* enum config_share */
    } mqtt;

    struct {
        uint32_t max_connections;             /* 0 = what the system's limit on descriptors allows */
        uint32_t max_connections_per_address; /* 0 = no limit */
        uint64_t connect_timeout_ms;          /* [limits.connect_timeout] 10s, from accept to CONNECT */
        uint32_t max_queued_messages;         /* 1000 per session, in flight ones not counted */
        uint64_t max_queued_bytes;            /* 16MiB per session */
        int queue_overflow;                   /* drop_new, drop_oldest: enum config_overflow */
        uint64_t max_outbox_bytes;            /* 1MiB waiting for one client's socket; QoS 0 beyond it is dropped */
        uint32_t max_subscriptions;           /* 100000 per session */
        uint64_t max_retained_messages;       /* 10000000 */
        uint64_t max_retained_bytes;          /* 4GiB */
        uint32_t max_sessions;                /* 0 = no limit */
        uint32_t max_user_properties;         /* 128 in one packet */
        uint32_t max_user_property_bytes;     /* 64KiB in one packet, names and values */
        uint32_t max_publish_rate; /* 0 = no limit; PUBLISH packets a second from one client, then reading pauses */
        uint64_t backpressure_ms;  /* [limits.backpressure] 2s: an acknowledgement waits so long for a slow reader */
    } limits;
};

/* What a command line asks for. */
enum config_action { CONFIG_RUN, CONFIG_TEST, CONFIG_PRINT, CONFIG_VERSION, CONFIG_HELP };

/* Read defaults, the file of --config, the environment (TERN_A__B=c), and the command line, in this order; later ones
 * win, --listen replaces the listeners of the file. Returns 0 and a new config, or -EINVAL with one sentence in error
 * (file, line, key, what is wrong), or -ENOMEM. Nothing is half-applied. */
int config_load(int argc, char *const argv[], char *const envp[], char *error, size_t error_size,
                enum config_action *ret_action, struct config **ret_config);
void config_free(struct config *config);

/* All keys with description, unit, limits and present value, as YAML that config_load accepts. */
void config_print(const struct config *config, FILE *out);

/* The text of --help. */
void config_help(FILE *out);

/* Names of keys that differ between the two and take effect only after a restart, comma separated, into out; empty if
 * none. */
void config_restart_needed(const struct config *now, const struct config *next, char *out, size_t out_size);

#endif
