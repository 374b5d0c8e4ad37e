/* peer_fixture.h -- two nodes with nothing above their links but a notebook, on real sockets and a clock that tests
 * move; and between them, if wanted, a middleman who cuts the connection after so many bytes.
 *
 * What is sent is numbered, so that the notebook of the other side knows at once what is lost, twice or out of order.
 */
#ifndef TERN_TESTS_UNIT_BROKER_PEER_PEER_FIXTURE_H
#define TERN_TESTS_UNIT_BROKER_PEER_PEER_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/peer/peer_inside.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/wire/peer.pb-c.h"
#include "tests/lib/unit.h"

#define FRAME_MAX 100000u /* longest frame that these nodes take */
#define PATIENCE 40u      /* rounds in which nothing has come of it before the clock moves on by STEP_MS */
#define STEP_MS 10u
#define ROUNDS_MAX 400000u

struct notebook {
    unsigned opened, lost, reset, ended, drained, frames;
    unsigned twice, missing;   /* frames whose number is behind, or ahead of, what was to come */
    uint32_t next[LINK_LANES]; /* number to come */
    uint32_t told[LINK_LANES]; /* number to be put next, by put_next() */
    int answers[4];            /* to the next frames: 0 or an error */
    unsigned answer_count;
};

struct room { /* of one shard */
    struct peer_room peer;
    struct shard *shard;
    struct notebook dialled, accepted;
    struct peer_link *last; /* that was opened by somebody else */
};

struct node {
    struct peer_terms terms;
    struct room rooms[2];
    struct shard *shards[SHARDS_MAX];
    struct mail_office *office;
    unsigned shard_count;
    struct member_address address;
    bool knows_nobody;
    struct node *next_alive;
};

static uint64_t fixture_now_ns;
static struct node *alive; /* to be turned */

static uint64_t fixture_mono(void)
{
    return fixture_now_ns;
}

static uint64_t fixture_wall(void)
{
    return UINT64_C(1800000000000) + fixture_now_ns / 1000000;
}

static void fixture_random(void *out, size_t len)
{
    memset(out, 7, len);
}

static const struct clock_source fixture_clock = {fixture_mono, fixture_wall, fixture_random};

/* ---- what a node does with its links ---- */

static struct room *room_of(const struct peer_link *link)
{
    return CONTAINER_OF(link->room, struct room, peer);
}

static struct notebook *notes(const struct peer_link *link)
{
    return link->dialled ? &room_of(link)->dialled : &room_of(link)->accepted;
}

static int note_frame(struct peer_link *link, const struct link_frame *frame, struct slice body)
{
    struct notebook *n = notes(link);

    if (n->answer_count > 0) {
        return n->answers[--n->answer_count];
    }
    n->frames++;
    if (body.len >= 4) {
        uint32_t number =
            (uint32_t)body.ptr[0] << 24 | (uint32_t)body.ptr[1] << 16 | (uint32_t)body.ptr[2] << 8 | body.ptr[3];
        n->twice += number < n->next[frame->lane];
        n->missing += number > n->next[frame->lane];
        n->next[frame->lane] = number + 1;
    }
    return 0;
}

static int note_opened(struct peer_link *link)
{
    notes(link)->opened++;
    room_of(link)->last = link->dialled ? room_of(link)->last : link;
    return 0;
}

static void note_lost(struct peer_link *link)
{
    notes(link)->lost++;
}

static void note_reset(struct peer_link *link)
{
    notes(link)->reset++;
}

static void note_ended(struct peer_link *link)
{
    notes(link)->ended++;
    room_of(link)->last = room_of(link)->last == link ? NULL : room_of(link)->last;
}

static void note_drained(struct peer_link *link)
{
    notes(link)->drained++;
}

static struct node *node_of(const struct peer_room *room)
{
    return CONTAINER_OF(room->terms, struct node, terms);
}

static bool is_known(struct peer_room *room, const struct node_id *id, uint64_t boot)
{
    (void)id;
    (void)boot;
    return !node_of(room)->knows_nobody;
}

static void move(struct peer_room *room, struct peer_wire *wire, unsigned shard)
{
    struct mail mail = {.kind = 1, .ptr = wire};
    CHECK(shard_post(room->shard, shard, &mail) == 0);
}

static const struct peer_handler note_handler = {note_frame, note_opened,  note_lost, note_reset,
                                                 note_ended, note_drained, is_known,  move};

/* ---- nodes ---- */

static int fixture_listen(struct member_address *ret_address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    in.sin_port = htons(ret_address->port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    CHECK(bind(fd, (struct sockaddr *)&in, len) == 0 && listen(fd, 1024) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&in, &len) == 0);
    peer_address_of((struct sockaddr *)&in, ret_address);
    return fd;
}

static int shard_start(struct shard *shard)
{
    struct room *room = shard->broker;
    struct node *node = CONTAINER_OF(room, struct node, rooms[shard->index]);

    peer_room_init(&room->peer, shard, &node->terms);
    return shard->index == 0 ? peer_room_listen(&room->peer, fixture_listen(&node->address)) : 0;
}

static void shard_mail(struct shard *shard, const struct mail *mail)
{
    peer_wire_arrived(&((struct room *)shard->broker)->peer, mail->ptr);
}

static void shard_turn_end(struct shard *shard)
{
    peer_room_flush(&((struct room *)shard->broker)->peer);
}

static void shard_nothing(struct shard *shard)
{
    (void)shard;
}

static void shard_ends(struct shard *shard)
{
    peer_room_stop(&((struct room *)shard->broker)->peer);
}

static const struct shard_handler shard_handler = {shard_start,   shard_mail,    shard_turn_end,
                                                   shard_nothing, shard_nothing, shard_ends};

/* port 0: any. id: its node id, of which each byte is this. */
static void node_start(struct node *node, uint8_t id, uint64_t boot, unsigned shard_count, uint16_t port)
{
    *node = (struct node){.shard_count = shard_count, .address.port = port};
    memset(node->terms.cluster_id, 0x77, sizeof(node->terms.cluster_id));
    atomic_store(&node->terms.has_id, true);
    node->terms.wire_min = PEER_WIRE_MIN;
    node->terms.wire_max = PEER_WIRE_MAX;
    node->terms.frame_bytes_max = FRAME_MAX;
    node->terms.handler = &note_handler;
    node->terms.boot = boot;
    memset(node->terms.node_id.bytes, id, sizeof(node->terms.node_id.bytes));
    snprintf(node->terms.cluster, sizeof(node->terms.cluster), "test");
    CHECK(mail_office_new(shard_count, &node->office) == 0);
    for (unsigned i = 0; i < shard_count; i++) {
        struct shard_options options = {.index = i,
                                        .count = shard_count,
                                        .io = {.backend = IO_EPOLL, .recv_buffer_count = 16},
                                        .office = node->office,
                                        .peers = node->shards,
                                        .handler = &shard_handler,
                                        .broker = &node->rooms[i]};
        CU_ASSERT_FATAL(shard_new(&options, &node->shards[i]) == 0);
        node->rooms[i].shard = node->shards[i];
    }
    node->next_alive = alive;
    alive = node;
}

static void discard(void *arg, const struct mail *mail)
{
    (void)arg;
    peer_wire_discard(mail->ptr);
}

static void node_end(struct node *node)
{
    struct node **at = &alive;

    while (*at != node) {
        at = &(*at)->next_alive;
    }
    *at = node->next_alive;
    for (unsigned i = 0; i < node->shard_count; i++) {
        shard_free(node->shards[i]);
    }
    for (unsigned i = 0; i < node->shard_count; i++) {
        while (mail_drain(node->office, i, 64, discard, NULL) > 0) {
        }
    }
    mail_office_free(node->office);
}

/* ---- the middleman ---- */

struct middleman {
    int listener, ends[2]; /* ends: who has dialled, and whom it wanted; -1: none */
    struct member_address address, to;
    struct buf held[2]; /* from the one, for the other */
    size_t left[2];     /* bytes until it cuts, by direction */
    unsigned cuts, connections;
    bool deaf; /* passes nothing on, and cuts nothing */
};

static struct middleman *middleman; /* to be turned, or NULL */

static inline void middleman_begin(struct middleman *m, const struct node *to)
{
    *m = (struct middleman){.ends = {-1, -1}, .to = to->address, .left = {SIZE_MAX, SIZE_MAX}};
    m->listener = fixture_listen(&m->address);
    middleman = m;
}

static void middleman_cut(struct middleman *m)
{
    for (unsigned i = 0; i < 2; i++) {
        if (m->ends[i] >= 0) {
            close(m->ends[i]);
            m->ends[i] = -1;
        }
        m->held[i].len = 0;
        m->left[i] = SIZE_MAX;
    }
    m->cuts++;
}

static inline void middleman_end(struct middleman *m)
{
    middleman_cut(m);
    close(m->listener);
    buf_deinit(&m->held[0]);
    buf_deinit(&m->held[1]);
    middleman = NULL;
}

static int fixture_connect(const struct member_address *to)
{
    struct sockaddr_storage address;
    socklen_t len = peer_address_to(to, &address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CU_ASSERT_FATAL(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, len) != 0) {
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* One way. Returns false when that is over. */
static bool carry(struct middleman *m, unsigned from)
{
    uint8_t chunk[4096];
    struct buf *held = &m->held[from];

    size_t want = sizeof(chunk) < m->left[from] ? sizeof(chunk) : m->left[from];
    ssize_t n = want > 0 && held->len < 65536 ? recv(m->ends[from], chunk, want, MSG_DONTWAIT) : -2;
    if (n == 0 || (n == -1 && errno != EAGAIN)) {
        return false;
    }
    if (n > 0) {
        buf_put(held, slice_of(chunk, (size_t)n));
        m->left[from] -= m->left[from] == SIZE_MAX ? 0 : (size_t)n;
    }
    if (held->len > 0) {
        n = send(m->ends[1 - from], held->ptr, held->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            buf_consume(held, (size_t)n);
        }
    }
    return held->len > 0 || m->left[from] > 0;
}

static void middleman_turn(struct middleman *m)
{
    if (m->ends[0] < 0) {
        m->ends[0] = accept4(m->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (m->ends[0] < 0) {
            return;
        }
        m->connections++;
        m->ends[1] = fixture_connect(&m->to);
        if (m->ends[1] < 0) {
            middleman_cut(m);
            return;
        }
    }
    if (!m->deaf && (!carry(m, 0) || !carry(m, 1))) {
        middleman_cut(m);
    }
}

/* ---- time passes ---- */

static void turn_all(void)
{
    for (struct node *n = alive; n; n = n->next_alive) {
        for (unsigned i = 0; i < n->shard_count; i++) {
            shard_turn(n->shards[i], true);
        }
    }
    if (middleman) {
        middleman_turn(middleman);
    }
}

/* Turn everything until the condition holds; the clock moves on slowly while it does not. */
#define UNTIL(condition) \
    do { \
        unsigned rounds_ = 0; \
        for (; !(condition) && rounds_ < ROUNDS_MAX; rounds_++) { \
            turn_all(); \
            if (rounds_ % 64 == 63) { \
                poll(NULL, 0, 1); /* the kernel's own threads */ \
            } \
            fixture_now_ns += rounds_ % PATIENCE == PATIENCE - 1 ? STEP_MS * 1000000 : 0; \
        } \
        CHECK(condition); \
    } while (0)

/* So much time, in steps that let every heartbeat be heard. */
static inline void pass(uint64_t ms)
{
    for (uint64_t at = 0; at < ms; at += STEP_MS) {
        fixture_now_ns += STEP_MS * 1000000;
        for (unsigned i = 0; i < 4; i++) {
            turn_all();
        }
    }
}

/* ---- what nodes say ---- */

/* The next frame of a lane: its number, and so many bytes more. What peer_put answers. */
static inline int put_next(struct peer_link *link, unsigned lane, size_t more)
{
    static const uint8_t padding[FRAME_MAX];
    uint32_t number = notes(link)->told[lane];
    uint8_t head[4] = {(uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number};
    struct slice parts[] = {slice_of(head, 4), slice_of(padding, more)};
    int rc = peer_put(link, lane, 99, 0, parts, 2);

    notes(link)->told[lane] += rc == 0;
    return rc;
}

static inline struct peer_link *dial_to(struct node *from, unsigned shard, const struct node *to,
                                        const struct member_address *address)
{
    struct peer_link *link = peer_dial(&from->rooms[shard].peer, &to->terms.node_id, address);
    CU_ASSERT_FATAL(link != NULL);
    return link;
}

/* Whether all that was said on a link, and may not be lost, has come, once and in order. */
static inline bool all_came(const struct notebook *said, const struct notebook *heard)
{
    for (unsigned i = 0; i < LINK_KEPT_LANES; i++) {
        if (said->told[i] != heard->next[i]) {
            return false;
        }
    }
    return heard->twice == 0;
}

/* A stranger at the door, whom the test speaks for. */
static inline void stranger_says(int fd, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            return;
        }
        bytes = slice_drop(bytes, n > 0 ? (size_t)n : 0);
        turn_all();
    }
}

/* Whether the node has ended this connection; what it says meanwhile goes to heard, which may be NULL. */
static inline bool is_cut(int fd, struct buf *heard)
{
    uint8_t chunk[4096];
    ssize_t n;

    while ((n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0) {
        if (heard) {
            buf_put(heard, slice_of(chunk, (size_t)n));
        }
    }
    return n == 0 || errno != EAGAIN;
}

/* What a node of the cluster with the id of 9s says first, to be changed by tests. */
static inline void hello_begin(Tern__Hello *hello)
{
    static uint8_t of_cluster[16];
    static uint8_t id[16] = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};
    static char cluster[] = "test";

    *hello = (Tern__Hello)TERN__HELLO__INIT;
    hello->wire_min = hello->wire_max = 1;
    hello->cluster = cluster;
    memset(of_cluster, 0x77, sizeof(of_cluster));
    hello->cluster_id.data = of_cluster;
    hello->cluster_id.len = sizeof(of_cluster);
    hello->node_id.data = id;
    hello->node_id.len = sizeof(id);
    hello->boot = 1;
    hello->link = 1;
}

static inline void put_frame(struct buf *out, uint8_t lane, uint8_t type, uint32_t seq, uint32_t len, struct slice body)
{
    struct link_frame frame = {.len = len, .lane = lane, .type = type, .seq = seq};
    uint8_t head[LINK_HEADER_BYTES];

    link_frame_write(head, &frame);
    buf_put(out, slice_of(head, sizeof(head)));
    buf_put(out, body);
}

static inline void put_hello(struct buf *out, const Tern__Hello *hello)
{
    struct buf body = {0};

    CHECK(wire_encode(&hello->base, &body) == 0);
    put_frame(out, LINK_ASIDE, PEER_HELLO, 0, body.len, buf_slice(&body));
    buf_deinit(&body);
}

/* Connections that have not yet said who they are. */
static inline unsigned knocking(const struct node *node)
{
    return node->rooms[0].peer.knocking;
}

#endif
