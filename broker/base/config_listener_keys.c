/* config_listener_keys.c -- the keys of one listener's mapping. */
#include "broker/base/config_schema.h"

#define FIELD(member) offsetof(struct config_listener, member), sizeof(((struct config_listener *)0)->member)

const char *const config_method_names[] = {"certificate", "psk", "password", "scram", "jwt", "http", NULL};
const char *const config_version_names[] = {"3.1", "3.1.1", "5.0", NULL};
static const char *const names_certificate[] = {"none", "optional", "required", NULL};
static const char *const names_from[] = {"none", "cn", "dn", "san_dns", "san_email", "san_uri", NULL};
static const char *const names_tls[] = {"1.2", "1.3", NULL};
static const char *const names_durability[] = {"disk", "memory", NULL};

_Static_assert(METHOD_CERTIFICATE == 1 << 0 && METHOD_PASSWORD == 1 << 2, "config_method_names follows config.h");
_Static_assert(METHOD_HTTP == 1 << 5 && VERSION_5_0 == 1 << 2, "names follow config.h");
_Static_assert(CLIENT_CERTIFICATE_REQUIRED == 2 && NAME_FROM_SAN_URI == 5 && DURABILITY_MEMORY == 1,
               "names follow config.h");

/* The address comes first: it is what --print-config writes before the others. */
static const struct config_key keys[] = {
    {"address", CONFIG_STRING, FIELD(address), NULL, 1, CONFIG_PATH_MAX, 0, false, NULL,
     "tcp://HOST:PORT, tls://HOST:PORT, ws://HOST:PORT/PATH, wss://HOST:PORT/PATH, or unix:///PATH; the port may be "
     "left "
     "out for 1883, 8883, 8083, 8084."},
    {"name", CONFIG_STRING, FIELD(name), "", 0, CONFIG_TEXT_MAX, 0, false, NULL,
     "Name for rules, logs and metrics; empty for the address."},
    {"allow_anonymous", CONFIG_TRI, FIELD(allow_anonymous), "auto", 0, 1, 0, false, NULL,
     "Whether clients that do not say who they are may come in; auto: on loopback addresses and Unix sockets, if "
     "nothing "
     "else lets anybody in."},
    {"authentication", CONFIG_LIST, FIELD(authentication), "", 0, 6, 0, false, config_method_names,
     "How clients may prove who they are; empty for every way that is configured."},
    {"versions", CONFIG_LIST, FIELD(versions), "", 0, 3, 0, false, config_version_names,
     "Versions of MQTT that are spoken; empty for all."},
    {"durability", CONFIG_ENUM, FIELD(durability), "disk", 0, 0, 0, false, names_durability,
     "Where sessions of its clients that outlive a connection are kept: disk, or memory for speed and no more."},
    {"mount_point", CONFIG_STRING, FIELD(mount_point), "", 0, CONFIG_TEXT_MAX, 0, false, NULL,
     "Put in front of every topic of its clients, who do not see it."},
    {"max_connections", CONFIG_INT, FIELD(max_connections), "0", 0, CONFIG_COUNT_MAX, 0, false, NULL,
     "Connections at one time; 0 is no limit of its own."},
    {"max_packet_size", CONFIG_BYTES, FIELD(max_packet_size), "0", 0, CONFIG_PACKET_MAX, 0, false, NULL,
     "The longest packet taken from a client; 0 takes mqtt.max_packet_size."},
    {"max_publish_rate", CONFIG_INT, FIELD(max_publish_rate), "0", 0, CONFIG_COUNT_MAX, 0, false, NULL,
     "PUBLISH packets a second from all its clients; 0 is no limit."},
    {"max_publish_byte_rate", CONFIG_BYTES, FIELD(max_publish_byte_rate), "0", 0, CONFIG_RATE_MAX, 0, false, NULL,
     "Bytes of PUBLISH packets a second from all its clients; 0 is no limit."},
    {"proxy_protocol", CONFIG_BOOL, FIELD(proxy_protocol), "false", 0, 1, 0, false, NULL,
     "Each connection begins with a PROXY header, version 1 or 2, and comes from one of trusted_proxies."},
    {"trusted_proxies", CONFIG_NETWORKS, FIELD(trusted_proxies), "", 0, CONFIG_WORDS_MAX, 0, false, NULL,
     "Networks whose word is taken for a client's address, in PROXY headers and X-Forwarded-For."},
    {"mode", CONFIG_OCTAL, FIELD(mode), "0660", 0, 0777, 0, false, NULL, "Who may open a Unix socket."},

    {"websocket.path", CONFIG_STRING, FIELD(websocket.path), "/mqtt", 1, CONFIG_URL_MAX, 0, false, NULL,
     "What a WebSocket client must ask for; it may also stand in the address."},
    {"websocket.origins", CONFIG_LIST, FIELD(websocket.origins), "", 0, CONFIG_WORDS_MAX, 0, false, NULL,
     "Pages from which a browser may connect (https://app.example); empty for all."},

    {"tls.certificate", CONFIG_LIST, FIELD(tls.certificate), "", 0, CONFIG_WORDS_MAX, 0, false, NULL,
     "Files with the server's certificates, PEM, each with its chain; the client's SNI picks one, else it is the "
     "first."},
    {"tls.key", CONFIG_LIST, FIELD(tls.key), "", 0, CONFIG_WORDS_MAX, 0, false, NULL,
     "Files with their private keys, PEM, in the same order."},
    {"tls.ocsp_response", CONFIG_LIST, FIELD(tls.ocsp_response), "", 0, CONFIG_WORDS_MAX, 0, false, NULL,
     "Files with OCSP responses to staple, DER, in the same order; - for none."},
    {"tls.client_ca", CONFIG_STRING, FIELD(tls.client_ca), "", 0, CONFIG_PATH_MAX, 0, false, NULL,
     "File with those who sign client certificates, PEM."},
    {"tls.crl", CONFIG_STRING, FIELD(tls.crl), "", 0, CONFIG_PATH_MAX, 0, false, NULL,
     "File with lists of revoked client certificates, PEM."},
    {"tls.client_certificate", CONFIG_ENUM, FIELD(tls.client_certificate), "none", 0, 0, 0, false, names_certificate,
     "Whether clients are asked for a certificate."},
    {"tls.user_name_from", CONFIG_ENUM, FIELD(tls.user_name_from), "cn", 0, 0, 0, false, names_from,
     "Field of the client certificate that is the user's name; none: a certificate names nobody."},
    {"tls.client_id_from", CONFIG_ENUM, FIELD(tls.client_id_from), "none", 0, 0, 0, false, names_from,
     "Field of the client certificate that the client id must be equal to."},
    {"tls.psk_file", CONFIG_STRING, FIELD(tls.psk_file), "", 0, CONFIG_PATH_MAX, 0, false, NULL,
     "File with lines IDENTITY:HEX, keys that clients share with the broker instead of certificates."},
    {"tls.psk_hint", CONFIG_STRING, FIELD(tls.psk_hint), "", 0, CONFIG_TEXT_MAX, 0, false, NULL,
     "Told to TLS 1.2 clients to pick their identity by."},
    {"tls.min_version", CONFIG_ENUM, FIELD(tls.min_version), "1.2", 0, 0, 0, false, names_tls,
     "The oldest version of TLS that is spoken."},
    {"tls.ciphers", CONFIG_STRING, FIELD(tls.ciphers), "", 0, CONFIG_URL_MAX, 0, false, NULL,
     "Ciphers of TLS 1.2 in OpenSSL's words; empty for its default."},
    {"tls.ciphersuites", CONFIG_STRING, FIELD(tls.ciphersuites), "", 0, CONFIG_URL_MAX, 0, false, NULL,
     "And of TLS 1.3."},
    {"tls.groups", CONFIG_STRING, FIELD(tls.groups), "", 0, CONFIG_URL_MAX, 0, false, NULL,
     "Groups of the key exchange, as in X25519:P-256; empty for OpenSSL's default."},
    {"tls.tickets", CONFIG_BOOL, FIELD(tls.tickets), "true", 0, 1, 0, false, NULL,
     "Whether a client may resume its last session without a full handshake."},
};

_Static_assert(COUNT_OF(keys) <= CONFIG_KEYS_MAX, "readers remember so many keys");

const struct config_table config_listener_keys = {keys, COUNT_OF(keys)};
