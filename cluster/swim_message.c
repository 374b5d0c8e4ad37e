/* swim_message.c -- a datagram is believed as a whole or not at all: every rumour is looked at before the first is
 * handed on. */
#include "cluster/swim_message.h"

#include <assert.h>
#include <errno.h>

#include "proto/base/cursor.h"
#include "proto/base/utf8.h"

static bool accused(enum member_state state)
{
    return state == MEMBER_SUSPECT || state == MEMBER_DEAD;
}

static bool gone(enum member_state state)
{
    return state == MEMBER_DEAD || state == MEMBER_LEFT;
}

static bool name_valid(const char *name)
{
    for (const char *c = name; *c; c++) {
        if ((uint8_t)*c < 0x20 || *c == 0x7f) {
            return false; /* it stands in logs */
        }
    }
    return utf8_valid(slice_str(name));
}

static bool address_valid(const struct member_address *a)
{
    static const uint8_t zero[16];
    size_t size = a->family == 4 ? 4 : 16;

    return (a->family == 4 || a->family == 6) && a->port != 0 && memcmp(a->bytes, zero, size) != 0 &&
           memcmp(a->bytes + size, zero, 16 - size) == 0;
}

bool swim_member_valid(const struct member *m)
{
    return !node_id_is_zero(&m->id) && m->state >= MEMBER_ALIVE && m->state <= MEMBER_LEFT &&
           address_valid(&m->address) && memchr(m->name, 0, sizeof(m->name)) != NULL && name_valid(m->name) &&
           m->wire_min <= m->wire_max && m->shards > 0;
}

static void put_id(struct buf *b, const struct node_id *id)
{
    buf_put(b, slice_of(id->bytes, sizeof(id->bytes)));
}

static struct node_id take_id(struct cursor *c)
{
    struct node_id id = {{0}};
    struct slice bytes = cursor_take(c, sizeof(id.bytes));

    if (bytes.len == sizeof(id.bytes)) {
        memcpy(id.bytes, bytes.ptr, sizeof(id.bytes));
    }
    return id;
}

void swim_head_encode(const struct swim_message *m, struct buf *b)
{
    buf_u8(b, SWIM_VERSION);
    buf_u8(b, (uint8_t)m->kind);
    put_id(b, &m->sender);
    buf_u64(b, m->boot);
    buf_u32(b, m->incarnation);
    buf_u32(b, m->seq);
    put_id(b, &m->subject);
}

void swim_rumour_encode(const struct swim_rumour *r, struct buf *b)
{
    const struct member *m = &r->member;
    uint32_t start = b->len;

    assert(swim_member_valid(m));
    buf_u8(b, 0); /* the size, when it is known */
    put_id(b, &m->id);
    buf_u64(b, m->boot);
    buf_u32(b, m->incarnation);
    buf_u8(b, (uint8_t)m->state);
    buf_u8(b, m->address.family);
    buf_put(b, slice_of(m->address.bytes, m->address.family == 4 ? 4 : 16));
    buf_u16(b, m->address.port);
    buf_u8(b, (uint8_t)strlen(m->name));
    buf_put(b, slice_str(m->name));
    buf_u16(b, m->wire_min);
    buf_u16(b, m->wire_max);
    buf_u64(b, m->features);
    buf_u8(b, m->shards);
    buf_put(b, slice_of(m->cluster_id, sizeof(m->cluster_id)));
    buf_u64(b, m->wall_ms);
    buf_u32(b, m->load);
    if (accused(m->state)) {
        put_id(b, &r->accuser);
    }
    if (gone(m->state)) {
        buf_u32(b, r->gone_s);
    }
    if (!b->failed) {
        assert(b->len - start <= SWIM_RUMOUR_MAX);
        b->ptr[start] = (uint8_t)(b->len - start - 1);
    }
}

/* The fields before the name; false when the state or the family leaves open what follows. */
static bool decode_place(struct cursor *c, struct member *m)
{
    m->id = take_id(c);
    m->boot = cursor_u64(c);
    m->incarnation = cursor_u32(c);
    uint8_t state = cursor_u8(c);
    m->address.family = cursor_u8(c);
    if (c->failed || state < MEMBER_ALIVE || state > MEMBER_LEFT) {
        return false;
    }
    m->state = (enum member_state)state;
    struct slice address = cursor_take(c, m->address.family == 4 ? 4 : 16);
    memcpy(m->address.bytes, address.len ? address.ptr : m->address.bytes, address.len);
    m->address.port = cursor_u16(c);
    return true;
}

static bool decode_rumour(struct slice bytes, struct swim_rumour *ret)
{
    struct cursor c = cursor_at(bytes);
    struct swim_rumour r = {0};
    struct member *m = &r.member;

    if (!decode_place(&c, m)) {
        return false;
    }
    struct slice name = cursor_take(&c, cursor_u8(&c));
    m->wire_min = cursor_u16(&c);
    m->wire_max = cursor_u16(&c);
    m->features = cursor_u64(&c);
    m->shards = cursor_u8(&c);
    struct slice cluster_id = cursor_take(&c, sizeof(m->cluster_id));
    m->wall_ms = cursor_u64(&c);
    m->load = cursor_u32(&c);
    if (accused(m->state)) {
        r.accuser = take_id(&c);
    }
    if (gone(m->state)) {
        r.gone_s = cursor_u32(&c);
    }
    if (c.failed || name.len > MEMBER_NAME_MAX || (name.len > 0 && memchr(name.ptr, 0, name.len))) {
        return false;
    }
    memcpy(m->name, name.len ? name.ptr : (const uint8_t *)"", name.len);
    memcpy(m->cluster_id, cluster_id.ptr, cluster_id.len);
    if (!swim_member_valid(m) || (accused(m->state) && node_id_is_zero(&r.accuser))) {
        return false;
    }
    *ret = r;
    return true;
}

bool swim_rumour_next(struct slice *rumours, struct swim_rumour *ret_rumour)
{
    if (rumours->len == 0 || rumours->len - 1 < rumours->ptr[0]) {
        return false;
    }
    size_t size = rumours->ptr[0];
    if (!decode_rumour(slice_of(rumours->ptr + 1, size), ret_rumour)) {
        return false;
    }
    *rumours = slice_drop(*rumours, 1 + size);
    return true;
}

static bool all_sound(struct slice rumours)
{
    struct swim_rumour ignored;

    while (swim_rumour_next(&rumours, &ignored)) {
    }
    return rumours.len == 0;
}

int swim_message_decode(struct slice plain, struct swim_message *ret_message)
{
    struct cursor c = cursor_at(plain);
    struct swim_message m = {0};

    if (plain.len > SWIM_DATAGRAM_MAX || cursor_u8(&c) != SWIM_VERSION) {
        return -EBADMSG;
    }
    uint8_t kind = cursor_u8(&c);
    m.sender = take_id(&c);
    m.boot = cursor_u64(&c);
    m.incarnation = cursor_u32(&c);
    m.seq = cursor_u32(&c);
    m.subject = take_id(&c);
    m.rumours = cursor_rest(&c);
    if (c.failed || kind < SWIM_PING || kind > SWIM_GOSSIP || node_id_is_zero(&m.sender)) {
        return -EBADMSG;
    }
    m.kind = (enum swim_kind)kind;
    if (node_id_is_zero(&m.subject) && m.kind != SWIM_HELLO && m.kind != SWIM_GOSSIP) {
        return -EBADMSG;
    }
    if (!all_sound(m.rumours)) {
        return -EBADMSG;
    }
    *ret_message = m;
    return 0;
}

int swim_table_decode(struct slice table, struct slice *ret_rumours)
{
    if (table.len == 0 || table.len > SWIM_TABLE_MAX || table.ptr[0] != SWIM_VERSION) {
        return -EBADMSG;
    }
    struct slice rumours = slice_drop(table, 1);
    if (!all_sound(rumours)) {
        return -EBADMSG;
    }
    *ret_rumours = rumours;
    return 0;
}
