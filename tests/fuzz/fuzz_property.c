/* fuzz_property.c -- the property decoder against a second reading of table 2-4 of MQTT 5.0.
 *
 * The high four bits of the first byte choose the packet type, 0 the will; its lowest bit says whether the rest of the
 * input is property length and properties as they stand, or properties that get their length from here. The reference
 * says what the answer must be, the identifier and place of each property, and what a broker hands on. */
#include <assert.h>
#include <stdlib.h>

#include "proto/base/utf8.h"
#include "proto/mqtt/property.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PROPERTIES_MAX 4096u

/* Kinds: 1, 2, 4 bytes; v variable byte integer; s string; b binary; p pair of strings. Packets: one letter each in the
 * order of the types, as in `letters`. */
static const char letters[] = "wCKPaelfSsUu..DA";
static const struct {
    uint8_t id;
    char kind;
    const char *packets;
} rows[] = {
    {0x01, '1', "Pw"},  {0x02, '4', "Pw"},        {0x03, 's', "Pw"},
    {0x08, 's', "Pw"},  {0x09, 'b', "Pw"},        {0x0b, 'v', "PS"},
    {0x11, '4', "CKD"}, {0x12, 's', "K"},         {0x13, '2', "K"},
    {0x15, 's', "CKA"}, {0x16, 'b', "CKA"},       {0x17, '1', "C"},
    {0x18, '4', "w"},   {0x19, '1', "C"},         {0x1a, 's', "K"},
    {0x1c, 's', "KD"},  {0x1f, 's', "KaelfsuDA"}, {0x21, '2', "CK"},
    {0x22, '2', "CK"},  {0x23, '2', "P"},         {0x24, '1', "K"},
    {0x25, '1', "K"},   {0x27, '4', "CK"},        {0x28, '1', "K"},
    {0x29, '1', "K"},   {0x2a, '1', "K"},         {0x26, 'p', "wCKPaelfSsUuDA"},
};

/* What the reference found: the answer, and where each property begins. */
struct expectation {
    enum mqtt_reason reason;
    size_t count, consumed, begin[PROPERTIES_MAX + 1];
    uint64_t present;
    uint32_t number[64]; /* by identifier, the first one's */
    uint32_t user_count;
};

/* Bytes of a string or of binary data at the front of s, its length included; 0 if it is none. */
static size_t text_size(struct slice s, bool utf8)
{
    if (s.len < 2) {
        return 0;
    }
    size_t size = 2 + ((size_t)s.ptr[0] << 8 | s.ptr[1]);
    return size <= s.len && (!utf8 || utf8_valid(slice_of(s.ptr + 2, size - 2))) ? size : 0;
}

static size_t varint_size(struct slice s, uint32_t *ret_value)
{
    uint32_t value = 0;
    for (size_t i = 0; i < 4 && i < s.len; i++) {
        value += (s.ptr[i] & 127u) << 7 * i;
        if (s.ptr[i] < 128) {
            *ret_value = value;
            return i > 0 && s.ptr[i] == 0 ? 0 : i + 1;
        }
    }
    return 0;
}

/* Bytes of a value at the front of s, 0 if there is none. */
static size_t value_size(char kind, struct slice s, uint32_t *ret_number)
{
    *ret_number = 0;
    if (kind == 'v') {
        return varint_size(s, ret_number);
    }
    if (kind == 's' || kind == 'b') {
        return text_size(s, kind == 's');
    }
    if (kind == 'p') {
        size_t name = text_size(s, true), value = name ? text_size(slice_drop(s, name), true) : 0;
        return value ? name + value : 0;
    }
    size_t size = (size_t)(kind - '0');
    for (size_t i = 0; i < size && i < s.len; i++) {
        *ret_number = *ret_number << 8 | s.ptr[i];
    }
    return size <= s.len ? size : 0;
}

static bool value_legal(uint8_t id, char kind, uint32_t number, struct slice value)
{
    if (kind == '1') {
        return number < 2;
    }
    if (id == 0x0b || id == 0x21 || id == 0x27) {
        return number > 0;
    }
    for (size_t i = 2; id == 0x08 && i < value.len; i++) {
        if (value.ptr[i] == '+' || value.ptr[i] == '#') {
            return false;
        }
    }
    return true;
}

/* The first property of s: its size, or 0 with the reason for which it is refused. */
static size_t expect_one(struct slice s, unsigned packet, struct expectation *e)
{
    size_t row = 0;
    uint32_t number;

    e->reason = MQTT_MALFORMED_PACKET;
    while (row < COUNT_OF(rows) && rows[row].id != s.ptr[0]) {
        row++;
    }
    if (row == COUNT_OF(rows) || letters[packet] == '.' || !strchr(rows[row].packets, letters[packet])) {
        return 0;
    }
    struct slice value = slice_drop(s, 1);
    value.len = value_size(rows[row].kind, value, &number);
    if (value.len == 0) {
        return 0;
    }
    uint8_t id = rows[row].id;
    bool seen = e->present >> id & 1, repeats = id == 0x26 || (id == 0x0b && packet == MQTT_PUBLISH);
    e->reason = MQTT_PROTOCOL_ERROR;
    if (!value_legal(id, rows[row].kind, number, value) || (seen && !repeats)) {
        return 0;
    }
    if (!seen) {
        e->number[id] = number;
    }
    e->reason = MQTT_SUCCESS;
    e->present |= 1ull << id;
    e->user_count += id == 0x26;
    return 1 + value.len;
}

static void expect(struct slice s, unsigned packet, struct expectation *e)
{
    uint32_t len;
    size_t head = varint_size(s, &len);
    *e = (struct expectation){.reason = MQTT_MALFORMED_PACKET};
    if (head == 0 || len > s.len - head) {
        return;
    }
    e->consumed = head + len;
    e->reason = MQTT_SUCCESS;
    struct slice rest = slice_of(s.ptr + head, len);
    while (rest.len > 0) {
        size_t size = expect_one(rest, packet, e);
        if (size == 0) {
            return;
        }
        assert(e->count < PROPERTIES_MAX);
        e->begin[e->count++] = (size_t)(rest.ptr - s.ptr);
        rest = slice_drop(rest, size);
    }
    e->begin[e->count] = e->consumed;
    if (e->present >> 0x16 & 1 && !(e->present >> 0x15 & 1)) {
        e->reason = MQTT_PROTOCOL_ERROR;
    }
}

/* The numbers that the struct holds, by identifier; the absent ones are not asked for. */
static void check_numbers(const struct mqtt_properties *p, const struct expectation *e)
{
    const struct {
        uint8_t id;
        uint32_t number;
    } got[] = {
        {0x01, p->payload_format},      {0x02, p->message_expiry_s},
        {0x0b, p->subscription_id},     {0x11, p->session_expiry_s},
        {0x13, p->server_keep_alive_s}, {0x17, p->request_problem_info},
        {0x18, p->will_delay_s},        {0x19, p->request_response_info},
        {0x21, p->receive_max},         {0x22, p->topic_alias_max},
        {0x23, p->topic_alias},         {0x24, p->maximum_qos},
        {0x25, p->retain_available},    {0x27, p->packet_bytes_max},
        {0x28, p->wildcard_available},  {0x29, p->subscription_id_available},
        {0x2a, p->shared_available},
    };
    for (size_t i = 0; i < COUNT_OF(got); i++) {
        assert(!(e->present >> got[i].id & 1) || got[i].number == e->number[got[i].id]);
    }
}

/* Walk raw: each property begins where the reference says. The handed-on ones are collected on the way. */
static void check_walk(struct slice s, const struct mqtt_properties *p, const struct expectation *e)
{
    struct slice raw = p->raw;
    struct mqtt_property property;
    struct buf want = {0}, got = {0};

    for (size_t i = 0; i < e->count; i++) {
        struct slice wire = slice_of(s.ptr + e->begin[i], e->begin[i + 1] - e->begin[i]);
        assert(mqtt_property_next(&raw, &property));
        assert(property.id == wire.ptr[0] && property.wire.ptr == wire.ptr && property.wire.len == wire.len);
        if (strchr("\x01\x03\x08\x09\x26", property.id)) {
            buf_put(&want, wire);
        }
    }
    assert(!mqtt_property_next(&raw, &property) && raw.len == 0);
    mqtt_properties_forward(&got, p->raw);
    assert(slice_eq(buf_slice(&got), buf_slice(&want)));
    assert(mqtt_properties_forward_size(p->raw) == want.len);
    buf_deinit(&want);
    buf_deinit(&got);
}

/* Encoded and decoded again, the properties are the same in the order of their identifiers. */
static void check_again(const struct mqtt_properties *p, unsigned packet, const struct expectation *e)
{
    struct mqtt_properties again = *p, second;
    struct buf out = {0};
    again.user = (struct slice){NULL, 0};
    mqtt_properties_encode(&out, &again);
    struct cursor c = cursor_at(buf_slice(&out));
    assert(mqtt_properties_decode(&c, packet, &second) == MQTT_SUCCESS && cursor_left(&c) == 0);
    assert(second.present == (e->present & ~(1ull << MQTT_PROP_USER_PROPERTY)));
    struct expectation *numbers = malloc(sizeof(*numbers));
    assert(numbers);
    *numbers = *e;
    numbers->present = second.present;
    check_numbers(&second, numbers);
    assert(slice_eq(second.content_type, p->content_type) && slice_eq(second.response_topic, p->response_topic));
    assert(slice_eq(second.correlation_data, p->correlation_data) && slice_eq(second.auth_data, p->auth_data));
    assert(slice_eq(second.auth_method, p->auth_method) && slice_eq(second.reason_string, p->reason_string));
    free(numbers);
    buf_deinit(&out);
}

static void try_properties(struct slice s, unsigned packet)
{
    struct expectation *e = malloc(sizeof(*e));
    struct mqtt_properties p;
    struct cursor c = cursor_at(s);

    assert(e);
    expect(s, packet, e);
    memset(&p, 0xa5, sizeof(p));
    assert(mqtt_properties_decode(&c, packet, &p) == e->reason);
    if (e->reason == MQTT_SUCCESS) {
        assert((size_t)(c.at - s.ptr) == e->consumed);
        assert(p.present == e->present && p.user_count == e->user_count);
        check_numbers(&p, e);
        check_walk(s, &p, e);
        check_again(&p, packet, e);
    }
    free(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > PROPERTIES_MAX) {
        return 0;
    }
    struct buf b = {0};
    if (data[0] & 1) {
        buf_varint(&b, (uint32_t)(size - 1));
    }
    buf_put(&b, slice_of(data + 1, size - 1));
    uint8_t *copy = malloc(b.len + 1);
    assert(copy);
    uint8_t *end = copy + b.len + 1, *begin = end - b.len; /* ends with the allocation: ASan sees one byte over */
    if (b.len > 0) {
        memcpy(begin, b.ptr, b.len);
    }
    try_properties(slice_of(begin, b.len), data[0] >> 4);
    free(copy);
    buf_deinit(&b);
    return 0;
}
