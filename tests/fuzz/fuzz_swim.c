/* fuzz_swim.c -- a live SWIM node among peers that have gone mad: messages of a few nodes, sound or with bytes changed,
 * raw bytes, tables, links that come and go, and time. Whatever comes, what the node sends is sound and no more than
 * three datagrams for one, what it tells of changes is what its table says, and its tables keep their bounds. */
#include "cluster/swim.h"

#include "cluster/swim_message.h"
#include "tests/fuzz/ops.h"

#define NODES 6 /* the first is the one that lives */
#define BOOT 3

static struct swim *s;
static uint64_t now;
static unsigned sent;
static struct member mirror[SWIM_MEMBERS_MAX + SWIM_GONE_MAX];

static struct node_id id_of(uint8_t i)
{
    return (struct node_id){{1, i % NODES}};
}

static struct member_address address_of(uint8_t i)
{
    return (struct member_address){.family = 4, .bytes = {10, 0, 0, (uint8_t)(1 + i % NODES)}, .port = 7};
}

static bool same(const struct member *a, const struct member *b)
{
    return a->state == b->state && a->boot == b->boot && member_address_eq(&a->address, &b->address) &&
           memcmp(a->cluster_id, b->cluster_id, sizeof(a->cluster_id)) == 0;
}

static struct member *mirror_of(const struct node_id *id)
{
    struct member *unused = NULL;

    for (size_t i = 0; i < COUNT_OF(mirror); i++) {
        if (mirror[i].state == MEMBER_NONE) {
            unused = unused ? unused : &mirror[i];
        } else if (node_id_eq(&mirror[i].id, id)) {
            return &mirror[i];
        }
    }
    require(unused != NULL);
    return unused;
}

static void on_send(void *arg, const struct member_address *to, struct slice plain)
{
    struct swim_message m;

    (void)arg;
    (void)to;
    sent++;
    require(plain.len <= SWIM_DATAGRAM_MAX);
    require(swim_message_decode(plain, &m) == 0);
}

static void on_changed(void *arg, const struct member *member, enum member_state before)
{
    struct member *known = mirror_of(&member->id), *self = arg;

    require(known->state == before);
    require(!same(known, member));
    require(!node_id_eq(&member->id, &self->id));
    require(member->state == MEMBER_NONE || swim_member_valid(member));
    *known = *member;
}

static void on_conflict(void *arg, const struct member *claimed)
{
    struct member *self = arg;

    require(node_id_eq(&claimed->id, &self->id));
}

static void on_foreign(void *arg, const struct member *member)
{
    struct member *self = arg;

    require(memcmp(member->cluster_id, self->cluster_id, sizeof(member->cluster_id)) != 0);
}

static struct swim_rumour rumour(struct slice *in)
{
    uint8_t who = ops_byte(in), how = ops_byte(in);
    struct swim_rumour r = {.member = {.id = id_of(who),
                                       .boot = 1 + (who >> 4) % 4,
                                       .incarnation = how >> 4,
                                       .state = (enum member_state)(MEMBER_ALIVE + how % 4),
                                       .address = address_of(who),
                                       .name = "fuzz",
                                       .shards = 1}};
    r.member.incarnation *= how & 4 ? 1 : 20;
    r.member.address.port += who >> 7;
    if (r.member.state == MEMBER_SUSPECT || r.member.state == MEMBER_DEAD) {
        r.accuser = id_of((uint8_t)(who >> 3));
    }
    if (r.member.state == MEMBER_DEAD || r.member.state == MEMBER_LEFT) {
        r.gone_s = (how & 8) * 10000u;
    }
    return r;
}

/* So many bytes of it as the input says become something else. */
static void mutate(struct slice *in, struct buf *b)
{
    for (uint8_t n = ops_byte(in) % 4; n > 0 && b->len > 0; n--) {
        unsigned at = ops_byte(in) * 3u % b->len;
        b->ptr[at] ^= ops_byte(in);
    }
}

static void message(struct slice *in)
{
    struct buf b = {0};
    uint8_t kind = ops_byte(in), nodes = ops_byte(in), rumours = ops_byte(in) % 5;
    struct member_address from = address_of(nodes);
    struct swim_message m = {.kind = (enum swim_kind)(SWIM_PING + kind % 6),
                             .sender = id_of(nodes),
                             .boot = 1 + kind / 6 % 4,
                             .incarnation = kind / 24,
                             .seq = ops_byte(in)};

    m.subject = nodes & 128 ? m.subject : id_of((uint8_t)(nodes >> 3));
    swim_head_encode(&m, &b);
    for (unsigned i = 0; i < rumours; i++) {
        struct swim_rumour r = rumour(in);
        swim_rumour_encode(&r, &b);
    }
    mutate(in, &b);
    swim_receive(s, now, &from, buf_slice(&b));
    buf_deinit(&b);
}

static void raw(struct slice *in)
{
    size_t len = ops_byte(in) * 8u;
    struct member_address from = address_of(1);

    len = len < in->len ? len : in->len;
    uint8_t *exact = malloc(len ? len : 1);
    memcpy(exact, len ? in->ptr : exact, len);
    swim_receive(s, now, &from, slice_of(exact, len));
    free(exact);
    *in = slice_drop(*in, len);
}

static void table(struct slice *in)
{
    struct buf b = {0};

    buf_u8(&b, SWIM_VERSION);
    for (unsigned i = ops_byte(in) % 8; i > 0; i--) {
        struct swim_rumour r = rumour(in);
        swim_rumour_encode(&r, &b);
    }
    mutate(in, &b);
    swim_merge(s, now, buf_slice(&b));
    buf_deinit(&b);
}

static void check(void)
{
    unsigned at = 0, living = 0, gone = 0, told = 0;
    const struct member *m = swim_next(s, &at);
    struct buf all = {0};
    struct slice rumours;

    require(m->boot == BOOT && node_id_eq(&m->id, &(struct node_id){{1}}));
    while ((m = swim_next(s, &at))) {
        living += member_living(m);
        gone += !member_living(m);
        require(same(m, mirror_of(&m->id)));
    }
    for (size_t i = 0; i < COUNT_OF(mirror); i++) {
        told += mirror[i].state != MEMBER_NONE;
    }
    require(living < SWIM_MEMBERS_MAX && gone <= SWIM_GONE_MAX && told == living + gone);
    require(swim_health(s) <= SWIM_HEALTH_MAX);
    swim_table(s, &all);
    require(swim_table_decode(buf_slice(&all), &rumours) == 0);
    buf_deinit(&all);
}

static void operation(struct slice *in)
{
    uint8_t op = ops_byte(in);
    struct node_id id = id_of(op / 16);
    struct member_address address = address_of(op / 16);

    switch (op % 16) {
    case 0:
        raw(in);
        require(sent <= 3);
        break;
    case 1:
        table(in);
        break;
    case 2:
        swim_link_lost(s, now, &id);
        break;
    case 3:
        swim_link_up(s, now, &id);
        break;
    case 4:
        swim_join(s, now, &address);
        break;
    case 5:
        now += UINT64_C(1) << ops_byte(in) % 28; /* up to three days, by which it stood still */
        break;
    case 6:
        if (op == 0xf6) {
            swim_leave(s, now);
        }
        break;
    case 7:
    case 8:
    case 9:
        now += ops_byte(in) * 2u;
        require(swim_tick(s, now) > now);
        break;
    default:
        message(in);
        require(sent <= 3);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct member self = {
        .id = id_of(0), .boot = BOOT, .state = MEMBER_ALIVE, .address = address_of(0), .name = "me", .shards = 1};
    struct swim_options options = {.self = self,
                                   .driver = {&self, on_send, on_changed, on_conflict, on_foreign},
                                   .now_ms = now = 1000,
                                   .seed = ops_byte(&in)};

    memset(mirror, 0, sizeof(mirror));
    require(swim_new(&options, &s) == 0);
    while (in.len > 0) {
        sent = 0;
        operation(&in);
        check();
    }
    swim_free(s);
    return 0;
}
