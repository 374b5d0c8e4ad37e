#include "tests/lib/unit.h"

#include "broker/base/config_schema.h"
#include "tests/lib/config_load.h"

#include <errno.h>
#include <stdlib.h>

#define OPEN "tcp://0.0.0.0:1"
/* No name has so long a label: refused without asking anybody. */
#define LONG_LABEL "1234567890123456789012345678901234567890123456789012345678901234.invalid"
#define PASSWORDS "auth: {password_file: p}\n"

/* What follows for the first listener. */
static const struct {
    const char *name, *text;
    unsigned methods;
    bool anonymous;
} good[] = {
    {"loopback", "listeners: [\"tcp://127.0.0.1:1\"]", 0, true},
    {"loopback beyond 127.0.0.1", "listeners: [\"tcp://127.255.0.9:1\"]", 0, true},
    {"IPv6 loopback", "listeners: [\"tcp://[::1]:1\"]", 0, true},
    {"loopback by name", "listeners: [\"tcp://localhost:1\"]", 0, true},
    {"Unix socket", "listeners: [\"unix://a\"]", 0, true},
    {"loopback, closed", "listeners: [{address: \"tcp://127.0.0.1:1\", allow_anonymous: false}]", 0, false},
    {"open to all who come", "listeners: [{address: \"" OPEN "\", allow_anonymous: true}]", 0, true},
    {"passwords", PASSWORDS "listeners: [\"" OPEN "\"]", METHOD_PASSWORD | METHOD_SCRAM, false},
    {"passwords on loopback", PASSWORDS "listeners: [\"tcp://127.0.0.1:1\"]", METHOD_PASSWORD | METHOD_SCRAM, false},
    {"passwords, or none", PASSWORDS "listeners: [{address: \"" OPEN "\", allow_anonymous: true}]",
     METHOD_PASSWORD | METHOD_SCRAM, true},
    {"one of two", PASSWORDS "listeners: [{address: \"" OPEN "\", authentication: scram}]", METHOD_SCRAM, false},
    {"tokens", "jwt: {keys: k}\nlisteners: [\"" OPEN "\"]", METHOD_JWT, false},
    {"tokens of a server", "jwt: {jwks_url: \"https://a\"}\nlisteners: [\"" OPEN "\"]", METHOD_JWT, false},
    {"a service", "http: {connect_url: \"http://a\"}\nlisteners: [\"" OPEN "\"]", METHOD_HTTP, false},
    {"a service for rules lets nobody in", "http: {rule_url: \"http://a\"}\nlisteners: [\"tcp://127.0.0.1:1\"]", 0,
     true},
    {"pre-shared keys", "listeners: [\"tls://0.0.0.0:1?tls.psk_file=k\"]", METHOD_PSK, false},
    {"certificates",
     "listeners: [\"tls://0.0.0.0:1?tls.certificate=a&tls.key=b&tls.client_ca=c&tls.client_certificate=required\"]",
     METHOD_CERTIFICATE, false},
    {"certificates that name nobody",
     "listeners: [\"tls://127.0.0.1:1?tls.certificate=a&tls.key=b&tls.client_ca=c&tls.client_certificate=required&"
     "tls.user_name_from=none\"]",
     0, true},
    {"certificates that a proxy has seen",
     "listeners: [\"tcp://0.0.0.0:1?proxy_protocol=true&trusted_proxies=10.0.0.1&authentication=certificate\"]",
     METHOD_CERTIFICATE, false},
    {"OCSP for one of two",
     "listeners: [\"tls://127.0.0.1:1?tls.certificate=a%2Cb&tls.key=a%2Cb&tls.ocsp_response=-%2Cb\"]", 0, true},
};

static void test_good(void)
{
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct config *c = NULL;
        char error[512];

        int rc = config_load_text(good[i].text, strlen(good[i].text), error, sizeof(error), &c);
        CHECK_CASE(good[i].name, rc == 0);
        if (rc == 0) {
            CHECK_CASE(good[i].name, c->listeners[0].methods == good[i].methods);
            CHECK_CASE(good[i].name, c->listeners[0].anonymous == good[i].anonymous);
        } else {
            fprintf(stderr, "%s: got: %s\n", good[i].name, error);
        }
        config_free(c);
    }
}

#define NOBODY \
    "nobody could be told apart here: set auth.password_file (or another method), or allow_anonymous: true on the " \
    "listener"

/* A listener that is right but for its options, and the sentence behind "listeners: ADDRESS: ". */
static const struct {
    const char *name, *address, *options, *want;
} bad[] = {
    {"open to nobody", OPEN, "", NOBODY},
    {"open to nobody, IPv6", "tcp://[::]:1", "", NOBODY},
    {"open to nobody, said so", OPEN, "?allow_anonymous=false", NOBODY},
    {"mapped address that is none of ours", "tcp://[::ffff:10.0.0.1]:1", "", NOBODY},
    {"unknown host", "tcp://" LONG_LABEL ":1", "", NOBODY},
    {"certificates that name nobody", "tls://0.0.0.0:1",
     "?tls.certificate=a&tls.key=b&tls.client_ca=c&tls.client_certificate=required&tls.user_name_from=none", NOBODY},
    {"tls without anything", "tls://127.0.0.1:1", "", "needs tls.certificate and tls.key, or tls.psk_file"},
    {"wss without anything", "wss://127.0.0.1:1", "", "needs tls.certificate and tls.key, or tls.psk_file"},
    {"certificate without key", "tls://127.0.0.1:1", "?tls.certificate=a",
     "tls.certificate has 1 entries and tls.key 0: each certificate needs its key"},
    {"key without certificate", "tls://127.0.0.1:1", "?tls.key=a&tls.psk_file=b",
     "tls.certificate has 0 entries and tls.key 1: each certificate needs its key"},
    {"two certificates, one key", "tls://127.0.0.1:1", "?tls.certificate=a%2Cb&tls.key=a",
     "tls.certificate has 2 entries and tls.key 1: each certificate needs its key"},
    {"too few OCSP responses", "tls://127.0.0.1:1", "?tls.certificate=a%2Cb&tls.key=a%2Cb&tls.ocsp_response=a",
     "tls.ocsp_response has 1 entries and tls.certificate 2; - stands for none"},
    {"list of revoked ones without a CA", "tls://127.0.0.1:1", "?tls.psk_file=a&tls.crl=b",
     "tls.crl needs tls.client_ca"},
    {"client certificates without a CA", "tls://127.0.0.1:1", "?tls.psk_file=a&tls.client_certificate=optional",
     "tls.client_certificate needs tls.client_ca, which says whose certificates are good"},
    {"a CA for nothing", "tls://127.0.0.1:1", "?tls.psk_file=a&tls.client_ca=b",
     "tls.client_ca has no effect without tls.client_certificate: optional, or required"},
    {"TLS on a plain listener", "tcp://127.0.0.1:1", "?tls.certificate=a&tls.key=b",
     "tls.certificate is for tls:// and wss:// alone"},
    {"TLS on a WebSocket listener", "ws://127.0.0.1:1", "?tls.tickets=false",
     "tls.tickets is for tls:// and wss:// alone"},
    {"WebSocket on a plain listener", "tcp://127.0.0.1:1", "?websocket.origins=a",
     "websocket.origins is for ws:// and wss:// alone"},
    {"path of a plain listener", "unix://a", "?websocket.path=/a", "websocket.path is for ws:// and wss:// alone"},
    {"mode of an address", "tcp://127.0.0.1:1", "?mode=0600", "mode is for unix:// alone"},
    {"path without its slash", "ws://127.0.0.1:1", "?websocket.path=mqtt",
     "websocket.path: mqtt must begin with / and hold neither blanks nor ? nor #"},
    {"path with a query", "ws://127.0.0.1:1", "?websocket.path=/a?b",
     "websocket.path: /a?b must begin with / and hold neither blanks nor ? nor #"},
    {"proxies that nobody trusts", "tcp://127.0.0.1:1", "?proxy_protocol=true",
     "proxy_protocol needs trusted_proxies, the networks whose headers are believed"},
    {"proxies on a Unix socket", "unix://a", "?proxy_protocol=true&trusted_proxies=::1",
     "proxy_protocol is not for unix://, which has no addresses to trust"},
    {"mount point with +", "tcp://127.0.0.1:1", "?mount_point=a/+/",
     "mount_point: a/+/ must not hold the wildcards + and #"},
    {"mount point with #", "tcp://127.0.0.1:1", "?mount_point=%23",
     "mount_point: # must not hold the wildcards + and #"},
    {"passwords without a file", "tcp://127.0.0.1:1", "?authentication=password",
     "authentication: password needs auth.password_file"},
    {"SCRAM without a file", "tcp://127.0.0.1:1", "?authentication=scram",
     "authentication: scram needs auth.password_file"},
    {"tokens without keys", "tcp://127.0.0.1:1", "?authentication=jwt",
     "authentication: jwt needs jwt.keys or jwt.jwks_url"},
    {"a service without its address", "tcp://127.0.0.1:1", "?authentication=http",
     "authentication: http needs http.connect_url"},
    {"pre-shared keys without a file", "tls://127.0.0.1:1", "?authentication=psk&tls.certificate=a&tls.key=b",
     "authentication: psk needs tls.psk_file"},
    {"certificates that nobody asks for", "tls://127.0.0.1:1",
     "?authentication=certificate&tls.certificate=a&tls.key=b",
     "authentication: certificate needs tls.client_ca, tls.client_certificate and tls.user_name_from, or "
     "proxy_protocol"},
};

static void test_bad(void)
{
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        char word[512], error[512], want[512];
        char *args[] = {(char *)"--listen", word, NULL};
        struct config *c = NULL;

        snprintf(word, sizeof(word), "%s%s", bad[i].address, bad[i].options);
        snprintf(want, sizeof(want), "listeners: %s: %s", bad[i].address, bad[i].want);
        CHECK_CASE(bad[i].name, config_load_args(args, NULL, error, sizeof(error), &c) == -EINVAL);
        CHECK_CASE(bad[i].name, strcmp(error, want) == 0);
        CHECK_CASE(bad[i].name, c == NULL);
        if (strcmp(error, want) != 0) {
            fprintf(stderr, "%s: got: %s\n", bad[i].name, error);
        }
    }
}

static const struct {
    const char *name, *text, *want;
} bad_texts[] = {
    {"name twice", "listeners: [\"tcp://[::1]:1?name=a\", \"tcp://[::1]:2?name=b\", \"tcp://[::1]:3?name=a\"]",
     "listeners: tcp://[::1]:3: name: a is taken by tcp://[::1]:1"},
    {"service that is no URL", "http: {connect_url: localhost}",
     "http.connect_url: localhost does not begin with http:// or https://"},
    {"service for rules that is no URL", "http: {rule_url: \"file:///etc/passwd\"}",
     "http.rule_url: file:///etc/passwd does not begin with http:// or https://"},
    {"keys that are at no URL", "jwt: {jwks_url: \"ftp://a\"}",
     "jwt.jwks_url: ftp://a does not begin with http:// or https://"},
};

static void test_bad_texts(void)
{
    for (size_t i = 0; i < COUNT_OF(bad_texts); i++) {
        struct config *c = NULL;
        char error[512];

        int rc = config_load_text(bad_texts[i].text, strlen(bad_texts[i].text), error, sizeof(error), &c);
        CHECK_CASE(bad_texts[i].name, rc == -EINVAL);
        CHECK_CASE(bad_texts[i].name, strcmp(error, bad_texts[i].want) == 0);
        config_free(rc ? NULL : c);
    }
}

static void test_bits(void)
{
    static const char text[] = "listeners: [\"tcp://[::1]:1?versions=5.0\", \"tcp://[::1]:2\"]\n"
                               "jwt: {algorithms: [RS256]}\n";
    struct config *c = NULL;
    char error[512];

    CU_ASSERT_EQUAL_FATAL(config_load_text(text, strlen(text), error, sizeof(error), &c), 0);
    CHECK(c->listeners[0].version_bits == VERSION_5_0);
    CHECK(c->listeners[1].version_bits == (VERSION_3_1 | VERSION_3_1_1 | VERSION_5_0));
    CHECK(c->jwt.algorithm_bits == 2);
    config_free(c);
}

/* A reload keeps the listeners that are open and asks again what follows for them. */
static void test_again(void)
{
    struct config *c = NULL;
    char *args[] = {(char *)"--listen", (char *)"tcp://127.0.0.1:1", NULL};
    char error[512];
    const struct config_key *key = config_key_find(&config_keys, "auth.password_file");

    CU_ASSERT_EQUAL_FATAL(config_load_args(args, NULL, error, sizeof(error), &c), 0);
    CHECK(c->listeners[0].anonymous && c->listeners[0].methods == 0);
    CHECK(config_value_set(c, key, "p", error, sizeof(error)) == 0);
    CHECK(config_check(c, error, sizeof(error)) == 0);
    CHECK(!c->listeners[0].anonymous && c->listeners[0].methods == (METHOD_PASSWORD | METHOD_SCRAM));
    config_free(c);
}

#define SECURE "key_file: k, certificate: c, key: k, ca: a"

/* A cluster section, and the sentence about it; NULL: it is right. */
static const struct {
    const char *name, *text, *want;
} clusters[] = {
    {"nothing", "{}", NULL},
    {"open", "{listen: '127.0.0.1:1', insecure: true}", NULL},
    {"secure", "{listen: '10.0.0.1:7000', " SECURE "}", NULL},
    {"IPv6", "{listen: '[::1]:65535', insecure: true, advertise: '[fe80::1]:1', seeds: ['[::2]:2']}", NULL},
    {"names", "{listen: '127.0.0.1:1', insecure: true, advertise: 'a.example:1', seeds: ['b.example:2', '10.0.0.1:3']}",
     NULL},
    {"its own address as a seed", "{listen: '127.0.0.1:1', insecure: true, seeds: ['127.0.0.1:1']}", NULL},
    {"no port", "{listen: 'here', insecure: true}", "cluster.listen: here is not ADDRESS:PORT"},
    {"an empty port", "{listen: 'here:', insecure: true}", "cluster.listen: here: is not ADDRESS:PORT"},
    {"no address", "{listen: ':7', insecure: true}", "cluster.listen: :7 is not ADDRESS:PORT"},
    {"port 0", "{listen: 'a:0', insecure: true}", "cluster.listen: a:0 is not ADDRESS:PORT"},
    {"port 65536", "{listen: 'a:65536', insecure: true}", "cluster.listen: a:65536 is not ADDRESS:PORT"},
    {"a port without end", "{listen: 'a:100000000000000000001', insecure: true}",
     "cluster.listen: a:100000000000000000001 is not ADDRESS:PORT"},
    {"a port by name", "{listen: 'a:mqtt', insecure: true}", "cluster.listen: a:mqtt is not ADDRESS:PORT"},
    {"IPv6 without brackets", "{listen: '::1:7', insecure: true}", "cluster.listen: ::1:7 is not ADDRESS:PORT"},
    {"half a bracket", "{listen: '[::1:7', insecure: true}", "cluster.listen: [::1:7 is not ADDRESS:PORT"},
    {"advertise", "{listen: 'a:1', insecure: true, advertise: b}", "cluster.advertise: b is not ADDRESS:PORT"},
    {"a seed", "{listen: 'a:1', insecure: true, seeds: ['b:1', c]}", "cluster.seeds: c is not HOST:PORT"},
    {"seeds alone", "{seeds: ['b:1']}", "cluster.seeds needs cluster.listen, where other nodes reach this one"},
    {"no key file", "{listen: 'a:1', certificate: c, key: k, ca: a}",
     "cluster.key_file is needed, or cluster.insecure for gossip that anybody can make"},
    {"no CA", "{listen: 'a:1', key_file: f, certificate: c, key: k}",
     "cluster.certificate, cluster.key and cluster.ca are needed, or cluster.insecure for links that anybody can read"},
};

static void test_cluster(void)
{
    for (size_t i = 0; i < COUNT_OF(clusters); i++) {
        struct config *c = NULL;
        char error[512] = "", text[512];

        snprintf(text, sizeof(text), "listeners: ['tcp://127.0.0.1:1']\ncluster: %s\n", clusters[i].text);
        int rc = config_load_text(text, strlen(text), error, sizeof(error), &c);
        const char *end = strstr(error, clusters[i].want ? clusters[i].want : "\n");
        CHECK_CASE(clusters[i].name, clusters[i].want ? rc != 0 && end && strcmp(end, clusters[i].want) == 0 : rc == 0);
        if (rc == 0) {
            config_free(c);
        } else if (!end) {
            fprintf(stderr, "%s: got: %s\n", clusters[i].name, error);
        }
    }
}

UNIT_MAIN("broker/base/config_check", {"what follows", test_good}, {"listeners that do not fit", test_bad},
          {"other parts that do not fit", test_bad_texts}, {"bits", test_bits}, {"a second time", test_again},
          {"the cluster section", test_cluster})
