/* mosquitto's configuration and rules taken over: what the results say, and what the rules decide. */
#include "broker/cli/import.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/acl.h"
#include "tests/lib/unit.h"

/* ---- rules ---- */

static const char *const rules = "# one\n"
                                 "topic read $SYS/#\n"
                                 "topic public/#\n"
                                 "topic deny public/secret\n"
                                 "\n"
                                 "user alice smith\n"
                                 "topic readwrite a/#\n"
                                 "topic deny a/secret/#\n"
                                 "topic write only/write\n"
                                 "topic read lit/%u/100%\n"
                                 "user bob\n"
                                 "topic deny home/bob/attic\n"
                                 "topic write home/alice smith/letters\n"
                                 "pattern readwrite home/%u/#\n"
                                 "pattern deny home/%u/attic/locked\n"
                                 "pattern write clients/%c\n"
                                 "pattern read news/#\n"
                                 "user alice smith\n"
                                 "topic read home/alice smith/attic/locked\n";

/* As mosquitto decides, but for SUBSCRIBE, which it always grants. */
static const struct {
    const char *name, *user, *client;
    enum acl_action action;
    const char *topic;
    bool want;
} decisions[] = {
    {"anonymous reads $SYS", "", "c", ACL_RECEIVE, "$SYS/broker/uptime", true},
    {"anonymous does not write $SYS", "", "c", ACL_PUBLISH, "$SYS/broker/uptime", false},
    {"a name does not read $SYS", "bob", "c", ACL_RECEIVE, "$SYS/broker/uptime", false},
    {"anonymous has its topics", "", "c", ACL_PUBLISH, "public/a", true},
    {"a denial counts behind the grant", "", "c", ACL_PUBLISH, "public/secret", false},
    {"topics of the anonymous are theirs alone", "bob", "c", ACL_PUBLISH, "public/a", false},
    {"a name with a blank", "alice smith", "c", ACL_PUBLISH, "a/b", true},
    {"part of a name is no name", "alice", "c", ACL_PUBLISH, "a/b", false},
    {"one user's denial behind the grant", "alice smith", "c", ACL_RECEIVE, "a/secret/1", false},
    {"write is not read", "alice smith", "c", ACL_RECEIVE, "only/write", false},
    {"write is write", "alice smith", "c", ACL_PUBLISH, "only/write", true},
    {"%u in a topic is %u", "alice smith", "c", ACL_RECEIVE, "lit/%u/100%", true},
    {"and not the name", "alice smith", "c", ACL_RECEIVE, "lit/alice smith/100%", false},
    {"patterns are for all", "bob", "c", ACL_PUBLISH, "home/bob/kitchen", true},
    {"%u in a pattern is the name", "bob", "c", ACL_PUBLISH, "home/carol/kitchen", false},
    {"a denial of the user goes before a pattern's grant", "bob", "c", ACL_PUBLISH, "home/bob/attic", false},
    {"a denial among the patterns goes before their grants", "bob", "c", ACL_PUBLISH, "home/bob/attic/locked", false},
    {"a grant of the user goes before a pattern's denial", "alice smith", "c", ACL_RECEIVE,
     "home/alice smith/attic/locked", true},
    {"which is of that access alone", "alice smith", "c", ACL_PUBLISH, "home/alice smith/attic/locked", false},
    {"%c in a pattern", "bob", "c7", ACL_PUBLISH, "clients/c7", true},
    {"of another client", "bob", "c7", ACL_PUBLISH, "clients/c8", false},
    {"patterns with %c are for the anonymous too", "", "c7", ACL_PUBLISH, "clients/c7", true},
    {"patterns without %", "", "c7", ACL_RECEIVE, "news/today", true},
    {"patterns with %u are not", "", "c7", ACL_PUBLISH, "home//kitchen", false},
    {"nor do their denials hit the anonymous", "", "c7", ACL_RECEIVE, "public/b", true},
    {"at the end it is no", "carol", "c", ACL_PUBLISH, "x", false},
    {"and for the anonymous", "", "c", ACL_PUBLISH, "x", false},
    {"a filter that is covered", "alice smith", "c", ACL_SUBSCRIBE, "a/b/+", true},
    {"a filter that reaches beyond", "alice smith", "c", ACL_SUBSCRIBE, "#", false},
};

/* The rules as ours, or NULL with the sentence in error. */
static struct acl *take_over(const char *text, const char *listener, struct import_notes *notes, char *error,
                             size_t error_size)
{
    struct buf out = {0};
    struct acl *acl = NULL;
    bool named = false;

    buf_put(&out, SLICE("rules:\n"));
    if (import_acl(slice_str(text), "aclfile", listener, notes, &out, &named, error, error_size) == 0) {
        CHECK(acl_parse(buf_slice(&out), "acl.yaml", error, error_size, &acl) == 0);
    }
    buf_deinit(&out);
    return acl;
}

static bool allowed(const struct acl *acl, const char *user, const char *client, const char *listener,
                    enum acl_action action, const char *topic)
{
    struct acl_subject subject = {
        .user = slice_str(user), .client_id = slice_str(client), .listener = slice_str(listener)};
    struct acl_request request = {.action = action, .topic = slice_str(topic)};

    return acl_check(acl, &subject, &request, NULL) == ACL_ALLOW;
}

static void test_decisions(void)
{
    struct import_notes notes = {0};
    char error[512] = "";
    struct acl *acl = take_over(rules, NULL, &notes, error, sizeof(error));
    CHECK_CASE(error, acl != NULL);
    for (size_t i = 0; acl && i < COUNT_OF(decisions); i++) {
        CHECK_CASE(decisions[i].name, allowed(acl, decisions[i].user, decisions[i].client, "l", decisions[i].action,
                                              decisions[i].topic) == decisions[i].want);
    }
    CHECK(notes.missing == 0 && notes.remarks == 0);
    acl_free(acl);
    buf_deinit(&notes.text);
}

static const struct {
    const char *name, *text, *want; /* want: what the sentence begins with; NULL: none */
} acl_files[] = {
    {"nothing", "", NULL},
    {"comments and blank lines", "# a\n\n   \n#topic x y z\n", NULL},
    {"no newline at the end", "topic a", NULL},
    {"access and blanks in the topic", "topic read a b/c d", NULL},
    {"tabs", "topic\tread\ta\n", NULL},
    {"an unknown access", "user a\ntopic with blank/x\n", "aclfile:2: with is not"},
    {"an unknown line", "topic a\nsubject b\n", "aclfile:2: is not"},
    {"no topic", "topic\n", "aclfile:1: "},
    {"no user", "\nuser \n", "aclfile:2: "},
    {"wildcard within a level", "topic a/b+\n", "aclfile:1: a/b+ is no topic filter"},
    {"# not at the end", "pattern read a/#/b\n", "aclfile:1: a/#/b is no topic filter"},
    {"a denial of a user with a star", "user a*\ntopic a\ntopic deny b\n", "aclfile:3: denies"},
    {"a topic that is no UTF-8", "topic a\xff\n", "aclfile:1: "},
    {"a name that is no UTF-8", "user a\xff\n", "aclfile:1: "},
};

static void test_acl_files(void)
{
    for (size_t i = 0; i < COUNT_OF(acl_files); i++) {
        struct import_notes notes = {0};
        struct buf out = {0};
        bool named = false;
        char error[512] = "";
        int rc = import_acl(slice_str(acl_files[i].text), "aclfile", NULL, &notes, &out, &named, error, sizeof(error));

        CHECK_CASE(acl_files[i].name, rc == (acl_files[i].want ? -EINVAL : 0));
        CHECK_CASE(acl_files[i].name,
                   !acl_files[i].want || strncmp(error, acl_files[i].want, strlen(acl_files[i].want)) == 0);
        buf_deinit(&out);
        buf_deinit(&notes.text);
    }
}

/* A file of one listener says nothing about another; a user called * is left out, and told. */
static void test_listener_and_star(void)
{
    struct import_notes notes = {0};
    char error[512] = "";
    struct acl *acl =
        take_over("topic a\nuser *\ntopic b\nuser \"q\\\ntopic c\n", "listener2", &notes, error, sizeof(error));

    CHECK_CASE(error, acl != NULL);
    if (acl) {
        CHECK(allowed(acl, "", "c", "listener2", ACL_PUBLISH, "a"));
        CHECK(!allowed(acl, "", "c", "listener1", ACL_PUBLISH, "a"));
        CHECK(!allowed(acl, "bob", "c", "listener2", ACL_PUBLISH, "b"));
        CHECK(allowed(acl, "\"q\\", "c", "listener2", ACL_PUBLISH, "c"));
    }
    CHECK(notes.missing == 1 && memmem(notes.text.ptr, notes.text.len, "aclfile:3: ", 11) != NULL);
    acl_free(acl);
    buf_deinit(&notes.text);
}

/* ---- configurations ---- */

/* Each word of want, cut at |, must stand in the result or the notes; each of not must not. */
static const struct {
    const char *name, *conf, *want, *not ;
} confs[] = {
    {"nothing", "", "\"tcp://127.0.0.1:1883\"|\"tcp://[::1]:1883\"|allow_anonymous: true", "[::]:"},
    {"nobody may come in: left out", "listener 1884\n",
     "not taken over: m.conf:1: listener: port 1884: nobody|allow_anonymous: false", ":1884\""},
    {"a listener", "listener 1884\nallow_anonymous true\n", "\"tcp://[::]:1884\"|allow_anonymous: true", "1883"},
    {"IPv4 alone", "listener 1884\nsocket_domain ipv4\nallow_anonymous true\n", "\"tcp://0.0.0.0:1884\"", "[::]"},
    {"an address", "listener 1884 ::1\nallow_anonymous true\n", "\"tcp://[::1]:1884\"", "[::]"},
    {"a Unix socket", "listener 0 /run/m.sock\nallow_anonymous true\n", "\"unix:///run/m.sock\"", "tcp:"},
    {"port and bind_address", "bind_address 10.0.0.1\nport 1885\nallow_anonymous true\n", "\"tcp://10.0.0.1:1885\"",
     "127"},
    {"indented, with blanks and CR", "  listener   1884   127.0.0.1 \r\n allow_anonymous  true \r\n",
     "\"tcp://127.0.0.1:1884\"", "\\r"},
    {"a password file", "listener 1884\npassword_file /p\n", "allow_anonymous: false|auth:\n  password_file: \"/p\"",
     "not taken"},
    {"TLS", "listener 8883\ncertfile c\nkeyfile k\npassword_file /p\ntls_version tlsv1.3\nciphers_tls1.3 X\n",
     "\"tls://[::]:8883\"|certificate: \"c\"|key: \"k\"|min_version: \"1.3\"|ciphersuites: \"X\"",
     "client_certificate"},
    {"certificates that only open the line",
     "listener 8883\ncertfile c\nkeyfile k\ncafile a\nrequire_certificate true\npassword_file /p\ncrlfile r\n",
     "client_ca: \"a\"|client_certificate: required|user_name_from: none|crl: \"r\"", "authentication"},
    {"certificates that are names",
     "listener 8883\ncertfile c\nkeyfile k\ncafile a\nuse_identity_as_username true\nallow_anonymous true\n",
     "client_certificate: required|user_name_from: cn|authentication: certificate|allow_anonymous: false",
     "anonymous: true"},
    {"certificates of nobody", "listener 8883\ncertfile c\nkeyfile k\nrequire_certificate true\nallow_anonymous true\n",
     "not taken over: m.conf:1: listener: port 8883: it wants", "tls://"},
    {"a certificate without its key", "listener 8883\ncertfile c\nallow_anonymous true\n", "belong together",
     "tls://|tcp://[::]"},
    {"a folder of authorities", "listener 8883\ncertfile c\nkeyfile k\ncapath /ca\nuse_identity_as_username true\n",
     "client_ca: \"/ca/all.pem\"|cat /ca/*.crt", NULL},
    {"old TLS", "listener 8883\ncertfile c\nkeyfile k\nallow_anonymous true\ntls_version tlsv1.1\n",
     "m.conf:5: tls_version", "min_version"},
    {"a key each", "listener 8883\npsk_hint h\npsk_file /k\nuse_identity_as_username true\n",
     "psk_file: \"/k\"|psk_hint: \"h\"|authentication: psk", "not taken"},
    {"WebSocket", "listener 9001\nprotocol websockets\nallow_anonymous true\n",
     "\"ws://[::]:9001\"|note: m.conf:1: protocol", "not taken"},
    {"another protocol", "listener 9001\nprotocol http_api\nallow_anonymous true\n", "m.conf:1: listener", "9001\""},
    {"settings of each listener",
     "per_listener_settings true\nlistener 1\nallow_anonymous true\nlistener 2\npassword_file /a\nlistener "
     "3\npassword_file /b\n",
     "tcp://[::]:1\"|tcp://[::]:2\"|password_file: \"/a\"|m.conf:7: password_file", "password_file: \"/b\""},
    {"settings of all, wherever they stand", "listener 1\nallow_anonymous true\nlistener 2\n",
     "tcp://[::]:1\"|tcp://[::]:2\"", "not taken"},
    {"limits of a listener",
     "listener 1\nallow_anonymous true\nmount_point m/\nmax_connections 7\naccept_protocol_versions 4, 5\n",
     "mount_point: \"m/\"|max_connections: 7|versions: \"3.1.1, 5.0\"", "not taken"},
    {"no limit of a listener", "listener 1\nallow_anonymous true\nmax_connections -1\n", NULL,
     "max_connections|not taken"},
    {"PROXY", "listener 1\nallow_anonymous true\nenable_proxy_protocol 2\n",
     "proxy_protocol: true|trusted_proxies:|note: m.conf:3", "not taken"},
    {"numbers",
     "max_inflight_messages 0\nmax_queued_messages 5\nmax_queued_bytes 10\nmax_keepalive 60\nsys_interval 0\nmax_qos "
     "1\n",
     "max_inflight: 65535|receive_maximum: 65535|max_queued_messages: 5|max_queued_bytes: 1024|max_keep_alive: "
     "60s|sys_interval: 0\n|maximum_qos: 1",
     "not taken"},
    {"no number", "max_queued_messages many\n", "not taken over: m.conf:1: max_queued_messages", "limits:"},
    {"a size of payloads", "message_size_limit 1000\n", "max_packet_size: 66536|note: m.conf:1: message_size_limit",
     "not taken"},
    {"both sizes", "max_packet_size 5000\nmessage_size_limit 1000\n",
     "max_packet_size: 5000|m.conf:2: message_size_limit", "66536"},
    {"months", "persistent_client_expiration 2m\n", "max_session_expiry: 1440h", "not taken"},
    {"no time", "persistent_client_expiration 2s\n", "not taken over: m.conf:1: persistent_client_expiration",
     "expiry:"},
    {"one QoS for all", "listener 1\nmax_qos 1\nlistener 2\nallow_anonymous true\n",
     "not taken over: m.conf:2: max_qos", "maximum_qos"},
    {"the chattiest log", "log_type error\nlog_type all\nlog_type notice\nlog_dest stderr\n", "level: debug",
     "not taken|note"},
    {"a log file", "log_dest file /x\n", "not taken over: m.conf:1: log_dest", NULL},
    {"a bridge", "connection b\naddress 10.0.0.1\ntopic # out\nremote_password hush\nsecret hush\n",
     "m.conf:1: connection: b|m.conf:2: address|m.conf:3: topic|m.conf:4: remote_password|m.conf:5: secret: of a "
     "bridge",
     "hush"},
    {"a plugin", "plugin /x.so\nplugin_opt_password hush\nauth_opt_x y\n",
     "m.conf:1: plugin|m.conf:2: plugin_opt_password|m.conf:3: auth_opt_x", "hush"},
    {"an unknown key", "\n# c\nnonsense 1\n", "not taken over: m.conf:3: nonsense: unknown", NULL},
    {"twice", "sys_interval 5\nsys_interval 6\n",
     "sys_interval: 6s|note: m.conf:2: sys_interval: given before in line 1", "5s"},
};

/* The result and the notes in one text. The caller frees it; NULL with the sentence in error. */
static char *convert(const char *conf, char *error, size_t error_size)
{
    static struct import_settings settings;
    struct import_notes notes = {0};
    struct buf out = {0};
    char *text = strdup(conf), *result = NULL;

    settings = (struct import_settings){0};
    int rc = import_conf_read(&settings, text, "m.conf", &notes, error, error_size, NULL, NULL);
    rc = rc ? rc : import_conf_finish(&settings, error, error_size);
    if (rc == 0) {
        import_put_listeners(&settings, false, &notes, &out);
        import_put_rest(&settings, NULL, &notes, &out);
        buf_put(&out, buf_slice(&notes.text));
        buf_u8(&out, 0);
        result = strdup((const char *)out.ptr);
    }
    buf_deinit(&out);
    buf_deinit(&notes.text);
    free(text);
    return result;
}

/* Whether the first (found) or none (not found) of the words cut at | stands in text. */
static bool words_stand(const char *text, const char *words, bool found)
{
    char copy[1024], *save = NULL;

    snprintf(copy, sizeof(copy), "%s", words ? words : "");
    for (char *word = strtok_r(copy, "|", &save); word; word = strtok_r(NULL, "|", &save)) {
        if ((strstr(text, word) != NULL) != found) {
            printf("    %s %s in:\n%s\n", word, found ? "is not" : "is", text);
            return false;
        }
    }
    return true;
}

static void test_confs(void)
{
    for (size_t i = 0; i < COUNT_OF(confs); i++) {
        char error[512] = "";
        char *got = convert(confs[i].conf, error, sizeof(error));

        CHECK_CASE(confs[i].name, got && words_stand(got, confs[i].want, true));
        CHECK_CASE(confs[i].name, got && words_stand(got, confs[i].not, false));
        free(got);
    }
}

static const struct {
    const char *name, *conf, *want;
} refusals[] = {
    {"a key without a value", "\nlistener\n", "m.conf:2: "},
    {"a listener without a port", "listener here\n", "m.conf:1: listener: needs a port"},
    {"a port above all", "listener 70000\n", "m.conf:1: listener: needs a port"},
    {"a socket without a path", "listener 0\n", "m.conf:1: listener: needs a port"},
    {"port is none", "port x\n", "m.conf:1: port: x is no port"},
    {"include_dir within an included file", "include_dir /x\n", "m.conf:1: include_dir"},
};

static void test_refusals(void)
{
    char many[4096] = "", error[512] = "";

    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        char *got = convert(refusals[i].conf, error, sizeof(error));
        CHECK_CASE(refusals[i].name, !got && strncmp(error, refusals[i].want, strlen(refusals[i].want)) == 0);
        free(got);
    }
    for (int i = 0; i < IMPORT_LISTENERS_MAX; i++) {
        snprintf(many + strlen(many), sizeof(many) - strlen(many), "listener %d\n", 2000 + i);
    }
    char *got = convert(many, error, sizeof(error));
    CHECK(got != NULL);
    free(got);
    strcat(many, "listener 1999\n");
    got = convert(many, error, sizeof(error));
    CHECK(!got && strstr(error, "more than 32 listeners"));
    free(got);
}

UNIT_MAIN("broker/cli/import", {"rules decide as mosquitto's", test_decisions}, {"acl files", test_acl_files},
          {"of one listener, and a user called *", test_listener_and_star}, {"configurations", test_confs},
          {"what is refused", test_refusals})
