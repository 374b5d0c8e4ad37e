/* certs.c -- ternctl certs: an authority of one's own, a certificate of the broker, and one of each client; or those of
 * the nodes of a cluster, with the key of their gossip, under an authority that signs nobody else.
 *
 * Why: every introduction to MQTT over TLS prints the same eight openssl commands, and most troubles begin with a
 * typing mistake in one of them. Here they are one command, which shows the eight steps as it takes them. Everything is
 * made in memory first (certs_make.h) and written at the end, so that a failure leaves nothing behind. */
#include "broker/cli/certs_make.h"
#include "broker/cli/cli.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLIENTS_MAX 64
#define STEPS_MAX (5 + 3 * CLIENTS_MAX)
#define GOSSIP_KEY_BYTES 32
#define AUTHORITY_DAYS 3650u
#define DAYS_MAX 36500u /* beyond 2049 dates need another form, which OpenSSL picks by itself */

/* One file of the eight, and what is told about it. */
struct step {
    struct buf path, text, command; /* text empty: the file is kept as it is */
    const char *title;
    mode_t mode;
};

struct certs {
    const char *directory;
    const char *clients[CLIENTS_MAX]; /* or nodes */
    unsigned client_count;
    const char *cluster; /* the nodes' */
    bool for_nodes, clients_given;
    uint32_t days;
    bool rsa, force, hosts_given;
    bool authority_kept, server_kept, gossip_kept;
    char names[CERTS_NAMES_BYTES_MAX]; /* of the server, in OpenSSL's words */
    char host[HOST_NAME_MAX + 1];
    EVP_PKEY *authority_key;
    X509 *authority;
    struct step steps[STEPS_MAX];
    unsigned step_count;
};

static void certs_deinit(struct certs *c)
{
    for (unsigned i = 0; i < c->step_count; i++) {
        OPENSSL_cleanse(c->steps[i].text.ptr, c->steps[i].text.len);
        buf_deinit(&c->steps[i].path);
        buf_deinit(&c->steps[i].text);
        buf_deinit(&c->steps[i].command);
    }
    EVP_PKEY_free(c->authority_key);
    X509_free(c->authority);
}

/* ---- arguments ---- */

/* Letters, digits and the others given; the first character must be one that cannot be taken for a flag or hide a
 * file. */
static bool is_word(const char *text, size_t len_max, const char *others)
{
    size_t len = strlen(text);

    if (len == 0 || len > len_max || *text == '-' || *text == '.') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char lower = (unsigned char)(text[i] | 0x20);
        if (!(lower >= 'a' && lower <= 'z') && !(text[i] >= '0' && text[i] <= '9') && !strchr(others, text[i])) {
            return false;
        }
    }
    return true;
}

/* Add a name or an address to the server's names, unless it is among them. False if it is neither. */
static bool add_name(struct certs *c, const char *name)
{
    char entry[300], list[sizeof(c->names) + 1], wanted[sizeof(entry) + 2];
    uint8_t address[16];

    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1) {
        snprintf(entry, sizeof(entry), "IP:%s", name);
    } else if (is_word(name, 253, "._-*")) {
        snprintf(entry, sizeof(entry), "DNS:%s", name);
    } else {
        return false;
    }
    snprintf(list, sizeof(list), "%s,", c->names);
    snprintf(wanted, sizeof(wanted), "%s,", entry);
    size_t len = strlen(c->names);
    for (const char *at = list; (at = strstr(at, wanted)) != NULL; at++) {
        if (at == list || at[-1] == ',') {
            return true;
        }
    }
    if (len + strlen(wanted) >= sizeof(c->names)) {
        return false;
    }
    snprintf(c->names + len, sizeof(c->names) - len, "%s%s", len ? "," : "", entry);
    return true;
}

/* A client or a node, as the option says. */
static int add_client(struct certs *c, const char *option, const char *id)
{
    if (!is_word(id, 63, c->for_nodes ? "._-" : "._-@") || strcmp(id, "ca") == 0 || strcmp(id, "server") == 0 ||
        strcmp(id, "gossip") == 0) {
        return cli_fail(CLI_ARGUMENTS,
                        "--%s %s: must be 1 to 63 letters, digits and . _ -%s, for it names files, and not ca, server "
                        "or gossip",
                        option, id, c->for_nodes ? "" : " @");
    }
    for (unsigned i = 0; i < c->client_count; i++) {
        if (strcmp(c->clients[i], id) == 0) {
            return cli_fail(CLI_ARGUMENTS, "--%s %s: given twice", option, id);
        }
    }
    if (c->client_count == CLIENTS_MAX) {
        return cli_fail(CLI_ARGUMENTS, "--%s: at most %d at a time", option, CLIENTS_MAX);
    }
    c->clients[c->client_count++] = id;
    return CLI_DONE;
}

enum { OPTION_HOST = 1, OPTION_CLIENT, OPTION_NODE, OPTION_CLUSTER, OPTION_DAYS, OPTION_RSA, OPTION_FORCE };

static int take_option(struct certs *c, int option)
{
    switch (option) {
    case OPTION_HOST:
        c->hosts_given = true;
        return add_name(c, optarg) ? CLI_DONE
                                   : cli_fail(CLI_ARGUMENTS, "--host %s: is no name or address, or too much", optarg);
    case OPTION_CLIENT:
        c->clients_given = true;
        return add_client(c, "client", optarg);
    case OPTION_NODE:
        c->for_nodes = true;
        return add_client(c, "node", optarg);
    case OPTION_CLUSTER:
        c->cluster = optarg;
        return is_word(optarg, 63, "._-")
                   ? CLI_DONE
                   : cli_fail(CLI_ARGUMENTS, "--cluster %s: must be 1 to 63 letters, digits and . _ -", optarg);
    case OPTION_DAYS:
        return cli_number(optarg, 1, DAYS_MAX, &c->days)
                   ? CLI_DONE
                   : cli_fail(CLI_ARGUMENTS, "--days %s: must be from 1 to %u", optarg, DAYS_MAX);
    case OPTION_RSA:
        c->rsa = true;
        return CLI_DONE;
    case OPTION_FORCE:
        c->force = true;
        return CLI_DONE;
    default:
        return CLI_ARGUMENTS;
    }
}

static int take_arguments(struct certs *c, int argc, char **argv)
{
    static const struct option options[] = {
        {"host", required_argument, NULL, OPTION_HOST}, {"client", required_argument, NULL, OPTION_CLIENT},
        {"node", required_argument, NULL, OPTION_NODE}, {"cluster", required_argument, NULL, OPTION_CLUSTER},
        {"days", required_argument, NULL, OPTION_DAYS}, {"rsa", no_argument, NULL, OPTION_RSA},
        {"force", no_argument, NULL, OPTION_FORCE},     {0},
    };
    int option, status = CLI_DONE;

    c->days = 365;
    add_name(c, "localhost");
    add_name(c, "127.0.0.1");
    add_name(c, "::1");
    if (gethostname(c->host, sizeof(c->host) - 1) != 0 || !add_name(c, c->host)) {
        snprintf(c->host, sizeof(c->host), "localhost");
    }
    while (status == CLI_DONE && (option = cli_option(argc, argv, options)) != -1) {
        status = take_option(c, option);
    }
    if (status) {
        return status;
    }
    if (argc - optind > 1) {
        return cli_fail(CLI_ARGUMENTS, "%s: one directory is enough", argv[optind + 1]);
    }
    if (c->for_nodes && (c->hosts_given || c->clients_given)) {
        return cli_fail(CLI_ARGUMENTS, "--node goes without --host and --client: who signs nodes signs nobody else");
    }
    if (c->cluster && !c->for_nodes) {
        return cli_fail(CLI_ARGUMENTS, "--cluster is for --node");
    }
    c->cluster = c->cluster ? c->cluster : "tern";
    c->directory = optind < argc ? argv[optind] : c->for_nodes ? "certs-nodes" : "certs";
    return c->client_count ? CLI_DONE : add_client(c, "client", "client1");
}

/* ---- steps ---- */

static const char *text_of(const struct buf *b)
{
    return (const char *)b->ptr; /* step_begin and say end it with NUL */
}

/* The next step, about the file NAME with this ending. NULL when memory is out. */
static struct step *step_begin(struct certs *c, const char *title, const char *name, const char *ending)
{
    struct step *s = &c->steps[c->step_count];

    *s = (struct step){.title = title, .mode = strncmp(ending, ".key", 4) == 0 ? 0600 : 0644};
    c->step_count++;
    cli_put(&s->path, "%s/%s%s%c", c->directory, name, ending, '\0');
    return s->path.failed ? NULL : s;
}

/* Told, and counted as failed, where OpenSSL or memory did not do. */
static int step_failed(const char *title)
{
    unsigned long error = ERR_get_error();

    return cli_fail(CLI_FAILED, "%s: %s", title, error ? ERR_reason_error_string(error) : "out of memory");
}

static int finish_step(struct step *s, bool good)
{
    buf_u8(&s->command, 0);
    return good && !s->text.failed && !s->command.failed ? CLI_DONE : step_failed(s->title);
}

/* A new key; *ret_key is the caller's, NULL on failure. */
static int step_key(struct certs *c, const char *title, const char *name, EVP_PKEY **ret_key)
{
    struct step *s = step_begin(c, title, name, ".key");

    *ret_key = s ? certs_key(c->rsa) : NULL;
    if (!s) {
        return step_failed(title);
    }
    cli_put(&s->command, "openssl genpkey -algorithm %s -out %s.key",
            c->rsa ? "RSA -pkeyopt rsa_keygen_bits:2048" : "EC -pkeyopt ec_paramgen_curve:P-256", name);
    return finish_step(s, *ret_key && certs_put_key(&s->text, *ret_key));
}

static int step_authority(struct certs *c)
{
    uint32_t days = c->days > AUTHORITY_DAYS ? c->days : AUTHORITY_DAYS;
    char common_name[64 + 1];
    int status = step_key(c, "Key of the authority", "ca", &c->authority_key);
    struct step *s = status ? NULL : step_begin(c, "Certificate of the authority", "ca", ".crt");

    if (!s) {
        return status ? status : step_failed("ca.crt");
    }
    snprintf(common_name, sizeof(common_name), "Tern CA %.50s", c->host);
    c->authority = certs_authority(c->authority_key, common_name, days);
    cli_put(&s->command,
            "openssl req -x509 -new -key ca.key -days %u -subj '/CN=%s' -addext keyUsage=critical,keyCertSign,cRLSign "
            "-out ca.crt",
            days, common_name);
    return finish_step(s, c->authority && certs_put_certificate(&s->text, c->authority));
}

static int step_request(struct certs *c, const char *title, const char *name, EVP_PKEY *key,
                        const struct certs_subject *subject, X509_REQ **ret_request)
{
    struct step *s = step_begin(c, title, name, ".csr");

    *ret_request = s ? certs_request(key, subject) : NULL;
    if (!s) {
        return step_failed(title);
    }
    cli_put(
        &s->command,
        "openssl req -new -key %s.key -subj '/CN=%s' -addext basicConstraints=critical,CA:FALSE -addext keyUsage=%s "
        "-addext extendedKeyUsage=%s",
        name, subject->common_name, subject->key_usage, subject->extended_usage);
    if (subject->names) {
        cli_put(&s->command, " -addext 'subjectAltName=%s'", subject->names);
    }
    cli_put(&s->command, " -out %s.csr", name);
    return finish_step(s, *ret_request && certs_put_request(&s->text, *ret_request));
}

static int step_certificate(struct certs *c, const char *title, const char *name, X509_REQ *request)
{
    struct step *s = step_begin(c, title, name, ".crt");
    X509 *certificate = s ? certs_sign(request, c->authority, c->authority_key, c->days) : NULL;

    if (!s) {
        return step_failed(title);
    }
    cli_put(&s->command,
            "openssl x509 -req -in %s.csr -CA ca.crt -CAkey ca.key -days %u -copy_extensions copyall -out %s.crt", name,
            c->days, name);
    int status = finish_step(s, certificate && certs_put_certificate(&s->text, certificate));
    X509_free(certificate);
    return status;
}

/* Key, request and certificate of the server or a client. */
static int steps_leaf(struct certs *c, const char *const titles[3], const char *name,
                      const struct certs_subject *subject)
{
    EVP_PKEY *key = NULL;
    X509_REQ *request = NULL;
    int status = step_key(c, titles[0], name, &key);

    status = status ? status : step_request(c, titles[1], name, key, subject, &request);
    status = status ? status : step_certificate(c, titles[2], name, request);
    X509_REQ_free(request);
    EVP_PKEY_free(key);
    return status;
}

/* A file that stays as it is, so that the eight steps are eight still. */
static int step_kept(struct certs *c, const char *title, const char *name, const char *ending)
{
    struct step *s = step_begin(c, title, name, ending);

    return s ? finish_step(s, true) : step_failed(title);
}

static int steps_authority(struct certs *c)
{
    if (!c->authority_kept) {
        return step_authority(c);
    }
    int status = step_kept(c, "Key of the authority", "ca", ".key");
    return status ? status : step_kept(c, "Certificate of the authority", "ca", ".crt");
}

/* A client of TLS 1.2 may encrypt its secret with an RSA key instead of agreeing on one. */
static const char *key_usage(const struct certs *c)
{
    return c->rsa ? "critical,digitalSignature,keyEncipherment" : "critical,digitalSignature";
}

static int steps_clients(struct certs *c)
{
    static const char *const server_titles[] = {"Key of the broker", "Request of the broker",
                                                "Certificate of the broker, signed by the authority"};
    static const char *const client_titles[] = {"Key of a client", "Request of a client",
                                                "Certificate of a client, signed by the authority"};
    struct certs_subject server = {c->host, c->names, key_usage(c), "serverAuth"};
    int status = CLI_DONE;

    if (c->server_kept) {
        static const char *const endings[] = {".key", ".csr", ".crt"};
        for (unsigned i = 0; i < COUNT_OF(endings) && status == CLI_DONE; i++) {
            status = step_kept(c, server_titles[i], "server", endings[i]);
        }
    } else {
        status = steps_leaf(c, server_titles, "server", &server);
    }
    for (unsigned i = 0; i < c->client_count && status == CLI_DONE; i++) {
        struct certs_subject client = {c->clients[i], NULL, key_usage(c), "clientAuth"};
        status = steps_leaf(c, client_titles, c->clients[i], &client);
    }
    return status;
}

/* The key of what nodes gossip, unless it is there: all of them need the same. */
static int step_gossip(struct certs *c)
{
    uint8_t key[GOSSIP_KEY_BYTES];
    struct step *s = step_begin(c, "Key that seals what the nodes gossip", "gossip", ".keys");

    if (!s || c->gossip_kept) {
        return s ? finish_step(s, true) : step_failed("gossip.keys");
    }
    cli_put(&s->command, "openssl rand -hex %d >gossip.keys", GOSSIP_KEY_BYTES);
    bool good = RAND_bytes(key, sizeof(key)) == 1;
    for (unsigned i = 0; i < sizeof(key); i++) {
        cli_put(&s->text, "%02x", key[i]);
    }
    buf_u8(&s->text, '\n');
    OPENSSL_cleanse(key, sizeof(key));
    return finish_step(s, good);
}

/* Each end of a link is client or server, and is asked whether it belongs to the cluster: broker/peer. */
static int steps_nodes(struct certs *c)
{
    static const char *const titles[] = {"Key of a node", "Request of a node",
                                         "Certificate of a node, signed by the authority"};
    int status = step_gossip(c);

    for (unsigned i = 0; i < c->client_count && status == CLI_DONE; i++) {
        char names[2 * 64 + sizeof("DNS:,DNS:")];
        bool both = strcmp(c->cluster, c->clients[i]) != 0;
        snprintf(names, sizeof(names), "DNS:%s%s%s", c->cluster, both ? ",DNS:" : "", both ? c->clients[i] : "");
        struct certs_subject node = {c->clients[i], names, key_usage(c), "serverAuth,clientAuth"};
        status = steps_leaf(c, titles, c->clients[i], &node);
    }
    return status;
}

/* ---- what is there already ---- */

static bool exists(const char *directory, const char *name)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

static FILE *open_in(const char *directory, const char *name)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return fopen(path, "re");
}

/* Take the authority that is in the directory, if there is one that can sign. */
static int load_authority(struct certs *c)
{
    bool key = exists(c->directory, "ca.key"), certificate = exists(c->directory, "ca.crt");

    if (!key && !certificate) {
        return CLI_DONE;
    }
    if (!key || !certificate) {
        return cli_fail(CLI_FAILED, "%s has %s without %s: an authority needs both", c->directory,
                        key ? "ca.key" : "ca.crt", key ? "ca.crt" : "ca.key");
    }
    FILE *in = open_in(c->directory, "ca.key");
    c->authority_key = in ? PEM_read_PrivateKey(in, NULL, NULL, NULL) : NULL;
    if (in) {
        fclose(in);
    }
    in = open_in(c->directory, "ca.crt");
    c->authority = in ? PEM_read_X509(in, NULL, NULL, NULL) : NULL;
    if (in) {
        fclose(in);
    }
    if (!c->authority_key || !c->authority || X509_check_private_key(c->authority, c->authority_key) != 1 ||
        X509_check_ca(c->authority) != 1) {
        return cli_fail(CLI_FAILED, "%s/ca.key and ca.crt cannot be read, or are no authority's key and certificate",
                        c->directory);
    }
    if (X509_cmp_current_time(X509_get0_notAfter(c->authority)) <= 0) {
        return cli_fail(CLI_FAILED, "%s/ca.crt has expired: remove the directory's files for a new start",
                        c->directory);
    }
    c->authority_kept = true;
    return CLI_DONE;
}

/* ---- writing and telling ---- */

static int write_steps(struct certs *c)
{
    struct cli_file files[STEPS_MAX] = {0};
    const struct cli_file *failed = NULL;
    size_t count = 0;

    for (unsigned i = 0; i < c->step_count; i++) {
        struct step *s = &c->steps[i];
        if (s->text.len > 0) {
            files[count++] = (struct cli_file){.path = text_of(&s->path), .text = buf_slice(&s->text), .mode = s->mode};
        }
    }
    int rc = cli_write_files(files, count, c->force, &failed);
    if (rc == -EEXIST) {
        return cli_fail(CLI_FAILED, "%s is there already and stays (--force replaces it)", failed->path);
    }
    return rc ? cli_fail(CLI_FAILED, "%s: %s", failed->path, strerror(-rc)) : CLI_DONE;
}

static void show_steps(const struct certs *c)
{
    printf("# The same by hand, in %s (OpenSSL 3):\n", c->directory);
    for (unsigned i = 0; i < c->step_count; i++) {
        const struct step *s = &c->steps[i];
        printf("\n%u. %s\n", i + 1, s->title);
        if (s->text.len > 0) {
            printf("   # %s\n", text_of(&s->command));
        }
        printf("   %s%s\n", text_of(&s->path), s->text.len > 0 ? "" : " is there already and is kept");
    }
}

/* For YAML and the shell alike, as long as the path is an ordinary one; quoted where it is not. */
static const char *quote_of(const char *path)
{
    return path[strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+")] ? "'" : "";
}

static void show_places(const struct certs *c)
{
    char *full = realpath(c->directory, NULL);
    const char *d = full ? full : c->directory, *q = quote_of(d), *client = c->clients[0];

    printf("\nFor the broker, in tern.yaml ([::] instead of 127.0.0.1 takes clients from everywhere):\n\n"
           "listeners:\n"
           "  - address: tls://127.0.0.1:8883\n"
           "    allow_anonymous: true            # clients without a certificate; false when only known ones may come\n"
           "    tls:\n"
           "      certificate: %s%s/server.crt%s\n"
           "      key: %s%s/server.key%s\n"
           "      client_ca: %s%s/ca.crt%s\n"
           "      client_certificate: optional   # required: none comes in without one\n",
           q, d, q, q, d, q, q, d, q);
    printf(
        "\nFor every client: ca.crt, by which it knows the broker. For one that has a certificate: its .crt and .key\n"
        "as well; its name is then the user name. ca.key stays here: whoever has it can make certificates.\n\n"
        "mosquitto_pub -h localhost -p 8883 --cafile %s%s/ca.crt%s -t test -m hello\n"
        "mosquitto_pub -h localhost -p 8883 --cafile %s%s/ca.crt%s --cert %s%s/%s.crt%s --key %s%s/%s.key%s"
        " -t test -m hello\n",
        q, d, q, q, d, q, q, d, client, q, q, d, client, q);
    free(full);
}

static void show_node_places(const struct certs *c)
{
    char *full = realpath(c->directory, NULL);
    const char *d = full ? full : c->directory, *q = quote_of(d), *node = c->clients[0];

    printf(
        "\nFor node %s, in tern.yaml, and for the others with their own .crt and .key:\n\n"
        "node:\n"
        "  name: %s\n"
        "cluster:\n"
        "  name: %s\n"
        "  key_file: %s%s/gossip.keys%s\n"
        "  ca: %s%s/ca.crt%s\n"
        "  certificate: %s%s/%s.crt%s\n"
        "  key: %s%s/%s.key%s\n"
        "\nEach node needs ca.crt, gossip.keys and its own .crt and .key. ca.key stays here: whoever has it can make "
        "nodes.\nMore nodes later: ternctl certs %s%s%s --node NAME\n",
        node, node, c->cluster, q, d, q, q, d, q, q, d, node, q, q, d, node, q, q, d, q);
    free(full);
}

/* Who trusts an authority of nodes takes everybody whom it signed for a node. */
static int check_directory(const struct certs *c)
{
    if (c->for_nodes && exists(c->directory, "server.crt")) {
        return cli_fail(CLI_FAILED,
                        "%s has an authority of brokers and clients: nodes need one of their own, in "
                        "another directory",
                        c->directory);
    }
    if (!c->for_nodes && exists(c->directory, "gossip.keys")) {
        return cli_fail(CLI_FAILED, "%s has an authority of nodes, which signs nobody else: take another directory",
                        c->directory);
    }
    return CLI_DONE;
}

static int certs_run(struct certs *c)
{
    bool made = mkdir(c->directory, 0755) == 0;

    if (!made && errno != EEXIST) {
        return cli_fail(CLI_FAILED, "%s: %s", c->directory, strerror(errno));
    }
    int status = check_directory(c);
    status = status ? status : load_authority(c);
    c->gossip_kept = exists(c->directory, "gossip.keys");
    c->server_kept = c->authority_kept && !c->force && !c->hosts_given && exists(c->directory, "server.key") &&
                     exists(c->directory, "server.csr") && exists(c->directory, "server.crt");
    status = status ? status : steps_authority(c);
    status = status ? status : c->for_nodes ? steps_nodes(c) : steps_clients(c);
    status = status ? status : write_steps(c);
    if (status && made) {
        rmdir(c->directory);
    }
    if (status == CLI_DONE) {
        show_steps(c);
        if (c->for_nodes) {
            show_node_places(c);
        } else {
            show_places(c);
        }
    }
    return status;
}

int certs_main(int argc, char **argv)
{
    static struct certs c; /* too large for the stack */
    int status = take_arguments(&c, argc, argv);

    status = status ? status : certs_run(&c);
    certs_deinit(&c);
    return status;
}
