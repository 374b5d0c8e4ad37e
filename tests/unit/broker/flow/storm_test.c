/* A storm of TLS handshakes against clients that are served: 500 of them publish at QoS 1 while 2,000 strangers knock
 * at once. What they wait for their PUBACK is counted in turns of the shard, so that a slow machine changes nothing. */
#include "tests/lib/sim_node.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/transport/tls.h"
#include "proto/mqtt/connect.h"
#include "proto/mqtt/publish.h"
#include "tests/lib/certificates.h"

#define SERVED 500u
#define STRANGERS 2000u
#define SENDERS_A_TURN 25u
#define HANDSHAKES_A_TURN 2u /* as broker/conn/channel.c has it */
#define WAIT_MAX 64u         /* turns; who waits longer counts as this */
#define TURNS_MAX 20000u

static const char *const settings[] = {"sys_interval=0", NULL};

struct stranger {
    struct sim_socket *socket;
    struct tls *tls;
    bool asked, served;
};

struct scene {
    struct sim_node node;
    struct sim_socket *clients[SERVED];
    unsigned sent_at[SERVED]; /* turn; 0: nothing is waited for */
    struct stranger strangers[STRANGERS];
    unsigned turn, next, open_count;
    unsigned waits[WAIT_MAX + 1]; /* how many waited so many turns */
};

static void put_connect(struct buf *out, const char *kind, unsigned number)
{
    char id[32];
    snprintf(id, sizeof(id), "%s-%u", kind, number);
    struct mqtt_connect c = {.version = MQTT_V311, .clean_start = true, .client_id = slice_str(id)};

    mqtt_connect_encode(out, &c);
}

static void publish(struct scene *s, unsigned i)
{
    static const uint8_t packet[] = {0x32, 10, 0, 5, 't', 'o', 'p', 'i', 'c', 0, 7, 'x'};

    sim_send(s->clients[i], slice_of(packet, sizeof(packet)));
    s->sent_at[i] = s->turn;
}

static void look_for_pubacks(struct scene *s)
{
    for (unsigned i = 0; i < SERVED; i++) {
        if (s->sent_at[i] && s->clients[i]->from_broker.len >= 4) {
            unsigned wait = s->turn - s->sent_at[i];
            s->waits[wait < WAIT_MAX ? wait : WAIT_MAX]++;
            s->clients[i]->from_broker.len = 0;
            s->sent_at[i] = 0;
        }
    }
}

/* One turn in which some of the served ones publish. */
static void turn(struct scene *s)
{
    s->turn++;
    for (unsigned n = 0; n < SENDERS_A_TURN; n++, s->next = (s->next + 1) % SERVED) {
        if (!s->sent_at[s->next]) {
            publish(s, s->next);
        }
    }
    sim_node_turn(&s->node, 0);
    sim_node_advance(1);
    look_for_pubacks(s);
}

/* The turns that 99 of 100 waited at most. */
static unsigned p99(struct scene *s)
{
    unsigned all = 0, seen = 0;

    for (unsigned w = 0; w <= WAIT_MAX; w++) {
        all += s->waits[w];
    }
    CHECK(all > SERVED);
    for (unsigned w = 0; w <= WAIT_MAX; w++) {
        seen += s->waits[w];
        if (seen * 100 >= all * 99) {
            return w;
        }
    }
    return WAIT_MAX;
}

/* What a stranger does with what has come; it asks to be served as soon as its TLS stands. */
static void answer(struct scene *s, struct stranger *x, unsigned number)
{
    uint8_t space[4096];
    struct buf out = {0}, connect = {0};
    struct slice data = buf_slice(&x->socket->from_broker);
    int n;

    while ((n = tls_feed(x->tls, &data, space, sizeof(space), &out)) > 0) {
        CHECK(n >= 4 && space[0] == 0x20 && space[3] == 0); /* CONNACK: accepted */
        s->open_count += !x->served;
        x->served = true;
    }
    CHECK(n == 0);
    x->socket->from_broker.len = 0;
    if (tls_open(x->tls) && !x->asked) {
        x->asked = true;
        put_connect(&connect, "stranger", number);
        CHECK(tls_write(x->tls, connect.ptr, connect.len, &out) == 0);
    }
    sim_send(x->socket, buf_slice(&out));
    buf_deinit(&out);
    buf_deinit(&connect);
}

static void knock(struct scene *s, struct tls_context *context)
{
    for (unsigned i = 0; i < STRANGERS; i++) {
        struct stranger *x = &s->strangers[i];
        struct buf out = {0};
        x->socket = sim_connect(&s->node.net, 0);
        x->tls = tls_new(context, "localhost");
        CHECK(x->socket && x->tls && tls_start(x->tls, &out) == 0);
        sim_send(x->socket, buf_slice(&out));
        buf_deinit(&out);
    }
}

static void open_served(struct scene *s)
{
    for (unsigned i = 0; i < SERVED; i++) {
        struct buf out = {0};
        s->clients[i] = sim_connect(&s->node.net, 0);
        put_connect(&out, "served", i);
        sim_send(s->clients[i], buf_slice(&out));
        buf_deinit(&out);
    }
    sim_node_settle(&s->node);
    for (unsigned i = 0; i < SERVED; i++) {
        CHECK(s->clients[i]->from_broker.len == 4);
        s->clients[i]->from_broker.len = 0;
    }
}

static void make_contexts(struct tls_context **server, struct tls_context **client)
{
    char error[256];

    certificates_begin();
    struct certificate ca = certificate_make(NULL, &(struct certificate_terms){.cn = SLICE("CA")});
    struct certificate own = certificate_make(
        &ca, &(struct certificate_terms){.cn = SLICE("localhost"), .san = "DNS:localhost", .usage = "serverAuth"});
    certificate_write(&ca, "ca");
    certificate_write(&own, "server");
    struct tls_settings terms = {.certificates = certificates_path("server.pem"),
                                 .keys = certificates_path("server.key"),
                                 .min_version = 12,
                                 .tickets = true,
                                 .alpn = "mqtt"};
    CHECK(tls_server_context_new(&terms, error, sizeof(error), server) == 0);
    CHECK(tls_client_context_new(certificates_path("ca.pem"), NULL, NULL, false, error, sizeof(error), client) == 0);
    certificate_free(&ca);
    certificate_free(&own);
}

static void test_storm(void)
{
    struct scene *s = calloc(1, sizeof(*s));
    struct tls_context *server = NULL, *client = NULL;

    make_contexts(&server, &client);
    sim_node_open(&s->node, 1, settings);
    open_served(s);
    for (unsigned i = 0; i < 200; i++) {
        turn(s);
    }
    unsigned quiet = p99(s);
    memset(s->waits, 0, sizeof(s->waits));

    struct listener *l = &s->node.tables.listeners[0]; /* from now on TLS is spoken here */
    l->tls = true;
    atomic_store(&l->tls_context, server);
    knock(s, client);
    while (s->open_count < STRANGERS && s->turn < TURNS_MAX) {
        unsigned answered = 0;
        turn(s);
        for (unsigned i = 0; i < STRANGERS; i++) {
            if (s->strangers[i].socket->from_broker.len > 0) {
                answer(s, &s->strangers[i], i);
                answered++;
            }
        }
        CHECK(answered <= HANDSHAKES_A_TURN); /* else a turn would be as long as they take */
    }
    unsigned storm = p99(s);
    CHECK(s->open_count == STRANGERS); /* all of them are served in the end */
    CHECK(storm <= 2 * (quiet ? quiet : 1));
    printf("  p99 in turns: quiet %u, in the storm %u; all served after %u turns\n", quiet, storm, s->turn - 200);

    for (unsigned i = 0; i < STRANGERS; i++) {
        tls_free(s->strangers[i].tls);
    }
    sim_node_close(&s->node);
    tls_context_unref(server);
    tls_context_unref(client);
    tls_thread_end();
    certificates_end();
    free(s);
}

UNIT_MAIN("broker/flow/storm", {"a storm of handshakes against who is served", test_storm})
