/* config.h -- everything that can be set, in one struct made from one table of names, units, defaults and limits. */
#ifndef TERN_BROKER_BASE_CONFIG_H
#define TERN_BROKER_BASE_CONFIG_H

#include "proto/base/slice.h"

#include <stdio.h>

#define CONFIG_LISTENERS_MAX 32

enum config_overflow { OVERFLOW_DROP_NEW, OVERFLOW_DROP_OLDEST };
enum config_durability { DURABILITY_DISK, DURABILITY_MEMORY };
enum config_share { SHARE_LEAST_INFLIGHT, SHARE_ROUND_ROBIN, SHARE_STICKY, SHARE_HASH_TOPIC, SHARE_RANDOM };

enum config_transport { TRANSPORT_TCP, TRANSPORT_TLS, TRANSPORT_WS, TRANSPORT_WSS, TRANSPORT_UNIX };
enum config_client_certificate { CLIENT_CERTIFICATE_NONE, CLIENT_CERTIFICATE_OPTIONAL, CLIENT_CERTIFICATE_REQUIRED };
enum config_name_from {
    NAME_FROM_NONE,
    NAME_FROM_CN,
    NAME_FROM_DN,
    NAME_FROM_SAN_DNS,
    NAME_FROM_SAN_EMAIL,
    NAME_FROM_SAN_URI
};
enum config_binding { BINDING_REFUSE, BINDING_REPLACE, BINDING_OFF };
enum config_suback { SUBACK_BOUNDED, SUBACK_STRICT, SUBACK_LOCAL }; /* what a SUBACK waits for */
enum config_denied { DENIED_DROP, DENIED_CLOSE };
enum config_admin_role { ADMIN_ROLE_AUTO, ADMIN_ROLE_NONE, ADMIN_ROLE_VIEWER, ADMIN_ROLE_OPERATOR };
enum config_token_in { TOKEN_IN_PASSWORD, TOKEN_IN_USERNAME };

/* Ways of proving who one is, as bits. */
enum config_method {
    METHOD_CERTIFICATE = 1,
    METHOD_PSK = 2,
    METHOD_PASSWORD = 4,
    METHOD_SCRAM = 8,
    METHOD_JWT = 16,
    METHOD_HTTP = 32,
};
enum config_version { VERSION_3_1 = 1, VERSION_3_1_1 = 2, VERSION_5_0 = 4 };

/* All texts are owned and never NULL; lists are kept as one text with commas between. In brackets: the key in the
 * listener's mapping, if it is not the field's name. */
struct config_listener {
    char *address;       /* as given: tcp://HOST:PORT, tls://, ws://, wss://, unix:///path */
    int transport;       /* [] enum config_transport, from the address */
    char *host;          /* [] numeric address or name, IPv6 without brackets; the path of a Unix socket */
    unsigned port;       /* [] 0: any free one, told in the log */
    char *name;          /* for rules, logs and metrics; "": the address */
    int allow_anonymous; /* -1: only when the address is a loopback one (or a Unix socket) and nothing else lets anybody
                            in; 0; 1 */
    bool anonymous;      /* [] what allow_anonymous comes to; set by config_check */
    char *authentication;     /* list of certificate, psk, password, scram, jwt, http; "": all that is configured */
    unsigned methods;         /* [] enum config_method bits of it: what is configured and wanted; set by config_check */
    char *versions;           /* list of 3.1, 3.1.1, 5.0; "": all */
    unsigned version_bits;    /* [] enum config_version; set by config_check */
    int durability;           /* enum config_durability: of the sessions of its clients */
    char *mount_point;        /* put in front of every topic of its clients; "": nothing */
    uint32_t max_connections; /* 0 = no limit */
    uint32_t max_packet_size; /* 0 = mqtt.max_packet_size */
    uint32_t max_publish_rate;      /* PUBLISH packets a second of all its clients; 0 = no limit */
    uint64_t max_publish_byte_rate; /* and bytes; 0 = no limit */
    bool proxy_protocol;            /* a PROXY header comes first, from trusted_proxies alone */
    char *trusted_proxies;          /* list of networks that are believed: PROXY headers, X-Forwarded-For */
    uint32_t mode;                  /* of a Unix socket: 0660, octal */
    struct {
        char *path;    /* "/mqtt" */
        char *origins; /* list; "": any */
    } websocket;
    struct {
        char *certificate, *key, *ocsp_response; /* lists; the n-th belong together */
        char *client_ca, *crl;
        int client_certificate;             /* enum config_client_certificate */
        int user_name_from, client_id_from; /* enum config_name_from: of the client certificate */
        char *psk_file, *psk_hint;
        int min_version;                       /* 0: 1.2, 1: 1.3 */
        char *ciphers, *ciphersuites, *groups; /* OpenSSL's words; "": its defaults */
        bool tickets;
    } tls;
};

/* In brackets: the key, if it is not the field's own name under its section. 0 is "no limit" only where it says so. */
struct config {
    unsigned shards;          /* [shards] 0 = auto: one for each CPU the process may use; at most 64 */
    bool pin_shards;          /* [pin_shards] */
    int io_backend;           /* [io_backend] enum io_backend's values: 0 auto, 1 io_uring, 2 epoll */
    char *data;               /* [data] directory for what must survive; made if missing; "": nothing does. Owned */
    char *memory_users;       /* [memory_users] list: users whose sessions are kept in memory only. Owned */
    char *node_name;          /* [node.name] default: the host's name. Owned */
    uint64_t sys_interval_ms; /* [sys_interval] 10s; 0 = no $SYS */

    struct {
        uint32_t rate;     /* 1000; clients a second; 0 = as fast as it can be */
        uint64_t wait_ms;  /* [drain.wait] 5s; only when somebody looks at the readiness */
        uint64_t grace_ms; /* [drain.grace] 25s; from SIGTERM to the end */
    } drain;

    int log_level;  /* [log.level] error, warn, info, debug: enum log_level */
    int log_format; /* [log.format] text, json: enum log_format */

    /* [listeners] a list of addresses or mappings; default: tcp://127.0.0.1:1883 */
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
        uint64_t max_publish_byte_rate;      /* 0 = no limit; bytes of PUBLISH packets a second from one client */
        uint32_t max_user_publish_rate;      /* 0 = no limit; PUBLISH packets a second of all clients of one user */
        uint64_t max_user_publish_byte_rate; /* 0 = no limit; and bytes */
        uint32_t max_connection_rate_per_address; /* 0 = no limit; new connections a second from one address */
    } limits;

    struct {
        char *password_file;   /* "" = none */
        char *acl_file;        /* "" = none: everything is allowed to who is let in */
        int client_id_binding; /* enum config_binding: refuse, replace, off */
        int denied_publish;    /* enum config_denied, for 3.x clients: drop, close */
        uint32_t workers;      /* 2; threads that hash passwords and check tokens, 1..64 */
        uint32_t max_waiting;  /* 1000; questions that may wait for them, 1..1000000 */
    } auth;

    struct {
        char *keys;               /* file: PEM or JWK Set; "" = none */
        char *jwks_url;           /* "" = none */
        uint64_t jwks_refresh_ms; /* [jwt.jwks_refresh] 5m; 10s..1d */
        char *ca_file;            /* for the URL; "" = the system's */
        char *algorithms;         /* list of HS256, RS256, ES256, EdDSA: all */
        unsigned algorithm_bits;  /* [] enum jwt_algorithm; set by config_check */
        char *issuer, *audience;  /* "" = any */
        uint64_t leeway_s;        /* [jwt.leeway] 30s; 0..1h */
        char *user_claim;         /* "sub" */
        char *client_id_claim;    /* "" */
        char *roles_claim;        /* "roles" */
        char *rules_claim;        /* "acl" */
        int token_in;             /* enum config_token_in: password, username */
    } jwt;

    struct {
        char *connect_url;          /* "" = none: asked at each CONNECT */
        char *rule_url;             /* "" = none: asked for what acl_file has no rule for */
        uint64_t timeout_ms;        /* [http.timeout] 5s; 100ms..1m */
        uint32_t max_requests;      /* 32 at one time; 1..1000 */
        char *ca_file;              /* "" = the system's */
        uint32_t breaker_failures;  /* 5; 0 = no breaker */
        uint64_t breaker_pause_ms;  /* [http.breaker_pause] 10s */
        uint64_t default_max_age_s; /* [http.default_max_age] 0; for answers without Cache-Control */
    } http;

    struct {
        uint32_t auth_failures;  /* 0 = never; failed authentications of an address within ban.window that ban it */
        uint64_t window_ms;      /* [ban.window] 1m */
        uint64_t time_ms;        /* [ban.time] 5m */
        uint32_t flaps;          /* 0 = never; connections of one client id within ban.flap_window that ban it */
        uint64_t flap_window_ms; /* [ban.flap_window] 1m */
        uint64_t flap_time_ms;   /* [ban.flap_time] 5m */
    } ban;

    struct {
        char *listen;              /* "": no cluster; else ADDRESS:PORT, of TCP links and UDP gossip */
        char *advertise;           /* "" = as listen; ADDRESS:PORT that others reach this node by */
        char *name;                /* "tern"; nodes of another name are refused */
        char *seeds;               /* list of HOST:PORT; a name may stand for many addresses */
        uint32_t bootstrap_expect; /* 0 = as many as the seeds and this node are; so many empty ones found a cluster */
        char *key_file;            /* "" = only with insecure; up to four keys of 64 hex digits, a line each */
        char *certificate, *key, *ca; /* PEM files */
        bool insecure;                /* links without TLS */
        int suback;                   /* enum config_suback */
    } cluster;

    struct {
        char *listen;            /* "127.0.0.1:18083"; "": no admin port */
        char *certificate, *key; /* PEM files; "": plain HTTP */
        char *users_file;        /* "" = none */
        char *tokens_file;       /* "" = none */
        int anonymous_role;      /* enum config_admin_role: of who does not log in */
        bool metrics_open;       /* true: /metrics needs no login */
    } admin;
};

/* What a command line asks for. */
enum config_action { CONFIG_RUN, CONFIG_TEST, CONFIG_PRINT, CONFIG_VERSION, CONFIG_HELP };

/* Read defaults, the file of --config, the environment (TERN_A__B=c), and the command line, in this order; later ones
 * win, --listen replaces the listeners of the file. Returns 0 and a new config, or -EINVAL with one sentence in error
 * (file, line, key, what is wrong), or -ENOMEM. Nothing is half-applied. */
int config_load(int argc, char *const argv[], char *const envp[], char *error, size_t error_size,
                enum config_action *ret_action, struct config **ret_config);
void config_free(struct config *config);

/* Derive what listeners and lists come to (methods, bits, anonymous), and see that the parts fit together; config_load
 * ends with it. Again after listeners were exchanged. May ask the resolver for the addresses of named hosts. Returns 0,
 * -ENOMEM, or -EINVAL with one sentence in error. */
int config_check(struct config *config, char *error, size_t error_size);

/* Walk a list kept as text: the next word without the space around it into *ret_word, *rest moved behind it. False at
 * the end. */
bool config_list_next(struct slice *rest, struct slice *ret_word);

/* All keys with description, unit, limits and present value, as YAML that config_load accepts. */
void config_print(const struct config *config, FILE *out);

/* The text of --help. */
void config_help(FILE *out);

/* Names of keys that differ between the two and take effect only after a restart, comma separated, into out; empty if
 * none. */
void config_restart_needed(const struct config *now, const struct config *next, char *out, size_t out_size);

#endif
