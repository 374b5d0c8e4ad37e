#include "tests/lib/unit.h"

#include "broker/base/config_schema.h"
#include "tests/lib/config_load.h"

#include <errno.h>
#include <stdlib.h>

/* One listener as a word; what is NULL in a row is not looked at. */
static const struct {
    const char *name, *word;
    enum config_transport transport;
    const char *host;
    unsigned port;
    const char *path;
} good_words[] = {
    {"IPv4", "tcp://127.0.0.1:21500", TRANSPORT_TCP, "127.0.0.1", 21500, "/mqtt"},
    {"IPv6", "tcp://[::]:1883", TRANSPORT_TCP, "::", 1883, NULL},
    {"IPv6 with a zone", "tcp://[fe80::1%eth0]:1883", TRANSPORT_TCP, "fe80::1%eth0", 1883, NULL},
    {"name", "tcp://localhost:1883", TRANSPORT_TCP, "localhost", 1883, NULL},
    {"any port", "tcp://localhost:0", TRANSPORT_TCP, "localhost", 0, NULL},
    {"last port", "tcp://localhost:65535", TRANSPORT_TCP, "localhost", 65535, NULL},
    {"no port", "tcp://localhost", TRANSPORT_TCP, "localhost", 1883, NULL},
    {"no port, IPv6", "tcp://[::1]", TRANSPORT_TCP, "::1", 1883, NULL},
    {"mqtt is tcp", "mqtt://localhost", TRANSPORT_TCP, "localhost", 1883, NULL},
    {"tls", "tls://localhost", TRANSPORT_TLS, "localhost", 8883, NULL},
    {"mqtts is tls", "mqtts://localhost", TRANSPORT_TLS, "localhost", 8883, NULL},
    {"ssl is tls", "ssl://localhost:1", TRANSPORT_TLS, "localhost", 1, NULL},
    {"ws", "ws://localhost", TRANSPORT_WS, "localhost", 8083, "/mqtt"},
    {"wss with a path", "wss://localhost/a/b", TRANSPORT_WSS, "localhost", 8084, "/a/b"},
    {"ws with port and path", "ws://[::1]:1/x", TRANSPORT_WS, "::1", 1, "/x"},
    {"ws with the root as path", "ws://localhost:1/", TRANSPORT_WS, "localhost", 1, "/"},
    {"path, said twice", "ws://localhost:1/x?websocket.path=/x", TRANSPORT_WS, "localhost", 1, "/x"},
    {"path as an option", "ws://localhost:1?websocket.path=/x", TRANSPORT_WS, "localhost", 1, "/x"},
    {"unix", "unix:///run/tern.sock", TRANSPORT_UNIX, "/run/tern.sock", 0, NULL},
    {"unix, relative", "unix://tern.sock", TRANSPORT_UNIX, "tern.sock", 0, NULL},
};

static void test_words_good(void)
{
    for (size_t i = 0; i < COUNT_OF(good_words); i++) {
        struct config config = {0};
        const struct config_listener *l = &config.listeners[0];
        char error[512] = "";

        int rc = config_listener_add_word(&config, good_words[i].word, error, sizeof(error));
        CHECK_CASE(good_words[i].name, rc == 0);
        CHECK_CASE(good_words[i].name, config.listener_count == 1);
        if (rc == 0) {
            CHECK_CASE(good_words[i].name, l->transport == (int)good_words[i].transport);
            CHECK_CASE(good_words[i].name, strcmp(l->host, good_words[i].host) == 0);
            CHECK_CASE(good_words[i].name, l->port == good_words[i].port);
            CHECK_CASE(good_words[i].name, !good_words[i].path || strcmp(l->websocket.path, good_words[i].path) == 0);
        }
        config_listeners_clear(&config);
    }
}

static const struct {
    const char *name, *word, *want; /* want: how the sentence ends; NULL: "is not a listener's address ..." */
} bad_words[] = {
    {"empty port", "tcp://localhost:", NULL},
    {"port too large", "tcp://localhost:65536", NULL},
    {"port that wraps around", "tcp://localhost:4294967297", NULL},
    {"signed port", "tcp://localhost:+1", NULL},
    {"no host", "tcp://:1883", NULL},
    {"nothing behind the scheme", "tcp://", NULL},
    {"no path of a Unix socket", "unix://", NULL},
    {"no scheme", "localhost:1883", NULL},
    {"unknown scheme", "udp://localhost:1883", NULL},
    {"scheme in capitals", "TCP://localhost:1883", NULL},
    {"IPv6 without brackets", "tcp://::1:1883", NULL},
    {"bracket left open", "tcp://[::1:1883", NULL},
    {"empty brackets", "tcp://[]:1883", NULL},
    {"junk behind the bracket", "tcp://[::1]x:1883", NULL},
    {"path where there is none", "tcp://localhost:1883/mqtt", NULL},
    {"path of tls", "tls://localhost:1883/", NULL},
    {"user", "tcp://user@localhost:1883", NULL},
    {"empty", "", "an entry of the list is empty"},
    {"only options", "?name=a", "an entry of the list is empty"},
    {"unknown option", "tcp://a:1?anonymous=true", "tcp://a:1: anonymous: unknown key (tern --print-config lists all)"},
    {"misspelt option", "tls://a:1?tls.certifcate=a",
     "tls://a:1: tls.certifcate: unknown key; did you mean tls.certificate?"},
    {"option of the file", "tcp://a:1?log.level=info",
     "tcp://a:1: log.level: unknown key (tern --print-config lists all)"},
    {"option without a truth",
     "tcp://a:1?allow_anonymous=", "tcp://a:1: allow_anonymous:  is not true or false, nor auto"},
    {"option without a value", "tcp://a:1?name", "tcp://a:1: name is not of the form KEY=VALUE"},
    {"no option at all", "tcp://a:1?", "tcp://a:1:  is not of the form KEY=VALUE"},
    {"option twice", "tcp://a:1?name=a&name=b", "tcp://a:1: name: given twice"},
    {"address twice", "tcp://a:1?address=tcp://a:2", "tcp://a:1: address: given twice"},
    {"per cent of what", "tcp://a:1?name=%", "tcp://a:1: name=% is not of the form KEY=VALUE"},
    {"one digit", "tcp://a:1?name=%4", "tcp://a:1: name=%4 is not of the form KEY=VALUE"},
    {"digits that are none", "tcp://a:1?name=%4g", "tcp://a:1: name=%4g is not of the form KEY=VALUE"},
    {"NUL", "tcp://a:1?name=%00", "tcp://a:1: name=%00 is not of the form KEY=VALUE"},
    {"control character", "tcp://a:1?name=%1b",
     "tcp://a:1: name: control characters and what is not UTF-8 are not allowed"},
    {"other path", "ws://a:1/a?websocket.path=/b", "ws://a:1/a: has another path than websocket.path, /b"},
    {"path of a Unix socket that does not fit",
     "unix:///"
     "1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456"
     "7",
     "the path of a Unix socket is too long"},
};

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static void test_words_bad(void)
{
    for (size_t i = 0; i < COUNT_OF(bad_words); i++) {
        const char *want = bad_words[i].want ? bad_words[i].want
                                             : " is not a listener's address (examples: tcp://127.0.0.1:1883, "
                                               "tls://[::]:8883, unix:///run/tern.sock)";
        struct config config = {0};
        char error[512] = "";

        int rc = config_listener_add_word(&config, bad_words[i].word, error, sizeof(error));
        CHECK_CASE(bad_words[i].name, rc == -EINVAL);
        CHECK_CASE(bad_words[i].name, config.listener_count == 0);
        CHECK_CASE(bad_words[i].name, ends_with(error, want));
        if (!ends_with(error, want)) {
            fprintf(stderr, "%s: got: %s\n", bad_words[i].name, error);
        }
        config_listeners_clear(&config);
    }
}

/* Two addresses in one list. */
static const struct {
    const char *name, *text;
    bool good;
} pairs[] = {
    {"two ports", "tcp://a:1,tcp://a:2", true},
    {"blank behind the comma", "tcp://a:1, tcp://a:2", true},
    {"any free port twice", "tcp://a:0,tcp://a:0", true},
    {"a host like a path", "tcp://a:0,unix://a", true},
    {"the same", "tcp://a:1,tcp://a:1", false},
    {"the same by default", "tcp://a,mqtt://a:1883", false},
    {"the same port for two protocols", "ws://a:1/x,wss://a:1/y", false},
    {"the same Unix socket", "unix://a,unix://a", false},
    {"second one empty", "tcp://a:1,", false},
};

static void test_pairs(void)
{
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        struct config config = {0};
        char error[512];

        int rc = config_listeners_add(&config, pairs[i].text, error, sizeof(error));
        CHECK_CASE(pairs[i].name, rc == (pairs[i].good ? 0 : -EINVAL));
        CHECK_CASE(pairs[i].name, !pairs[i].good || config.listener_count == 2);
        config_listeners_clear(&config);
    }
}

static void test_options(void)
{
    struct config config = {0};
    const struct config_listener *l = &config.listeners[0];
    char error[512];

    int rc = config_listener_add_word(&config,
                                      "wss://0.0.0.0:1?tls.certificate=a.pem&tls.key=b%2cpem%2C%20c&allow_anonymous="
                                      "true&versions=5.0&mode=0600&name=%26%3d%C3%A9%25",
                                      error, sizeof(error));
    CU_ASSERT_EQUAL_FATAL(rc, 0);
    CHECK(strcmp(l->address, "wss://0.0.0.0:1") == 0);
    CHECK(strcmp(l->tls.certificate, "a.pem") == 0);
    CHECK(strcmp(l->tls.key, "b, pem, c") == 0);
    CHECK(l->allow_anonymous == 1);
    CHECK(strcmp(l->versions, "5.0") == 0);
    CHECK(l->mode == 0600);
    CHECK(strcmp(l->name, "&=\xc3\xa9%") == 0);
    config_listeners_clear(&config);
}

static void test_mappings(void)
{
    static const char text[] = "listeners:\n"
                               "  - tcp://127.0.0.1:1883\n"
                               "  - address: tcp://[::1]:0\n"
                               "    allow_anonymous: true\n"
                               "  - {address: \"tcp://broker-1.example:65535\", allow_anonymous: true}\n"
                               "  - address: tls://127.0.0.1\n"
                               "    tls:\n"
                               "      certificate: [a.pem, b.pem]\n"
                               "      key: \"a.key, b.key\"\n"
                               "    tls.tickets: false\n"
                               "  - tls://127.0.0.2?tls.psk_file=keys&authentication=psk\n";
    struct config *c = NULL;
    char error[512];

    CU_ASSERT_EQUAL_FATAL(config_load_text(text, strlen(text), error, sizeof(error), &c), 0);
    CHECK(c->listener_count == 5);
    CHECK(strcmp(c->listeners[0].host, "127.0.0.1") == 0 && c->listeners[0].port == 1883);
    CHECK(c->listeners[0].allow_anonymous == -1);
    CHECK(strcmp(c->listeners[1].host, "::1") == 0 && c->listeners[1].port == 0);
    CHECK(c->listeners[1].allow_anonymous == 1 && strcmp(c->listeners[1].address, "tcp://[::1]:0") == 0);
    CHECK(strcmp(c->listeners[2].host, "broker-1.example") == 0 && c->listeners[2].port == 65535);
    CHECK(strcmp(c->listeners[3].tls.certificate, "a.pem, b.pem") == 0);
    CHECK(strcmp(c->listeners[3].tls.key, "a.key, b.key") == 0 && !c->listeners[3].tls.tickets);
    CHECK(c->listeners[4].methods == METHOD_PSK);
    config_free(c);
}

static void test_full(void)
{
    char text[CONFIG_LISTENERS_MAX * 24 + 64], error[512];

    for (int extra = 0; extra <= 1; extra++) {
        struct config config = {0};
        size_t used = 0;
        for (int i = 0; i < CONFIG_LISTENERS_MAX + extra; i++) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%stcp://h:%d", i ? "," : "", i + 1);
        }
        CHECK(config_listeners_add(&config, text, error, sizeof(error)) == (extra ? -EINVAL : 0));
        CHECK(config.listener_count == CONFIG_LISTENERS_MAX);
        config_listeners_clear(&config);
    }
    CHECK(strcmp(error, "more than 32 listeners") == 0);
}

UNIT_MAIN("broker/base/config_listener", {"words that are right", test_words_good},
          {"words that are wrong", test_words_bad}, {"two listeners", test_pairs},
          {"options behind an address", test_options}, {"mappings", test_mappings}, {"limit of listeners", test_full})
