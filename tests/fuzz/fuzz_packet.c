/* fuzz_packet.c -- every decoder by every version and from both sides, on any bytes.
 *
 * The input is a stream as it comes from a socket, so a golden packet is a seed as it stands. Oracles: a frame takes no
 * more than there is; what was decoded can be encoded, and reads the same again; encoding that gives the same bytes
 * again; a refusal leaves the result untouched. Bodies are exact-size copies, so that a read one byte over is seen. */
#include "tests/lib/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PACKETS_MAX 16u
#define UNTOUCHED 0xa5

static struct slice exact_copy(struct slice s)
{
    uint8_t *copy = malloc(s.len ? s.len : 1);
    assert(copy);
    if (s.len > 0) {
        memcpy(copy, s.ptr, s.len);
    }
    return slice_of(copy, s.len);
}

static bool is_untouched(const struct packet *p)
{
    const uint8_t *bytes = (const uint8_t *)&p->as;
    for (size_t i = 0; i < sizeof(p->as); i++) {
        if (bytes[i] != UNTOUCHED) {
            return false;
        }
    }
    return true;
}

/* Encoded and read again it must say the same, and encoded once more be the same bytes. */
static void try_again(const struct packet *first, bool from_client)
{
    struct buf once = {0}, twice = {0};
    struct mqtt_frame frame;
    struct packet second;

    packet_encode(&once, first);
    assert(!once.failed);
    assert(mqtt_frame_next(buf_slice(&once), MQTT_PACKET_BYTES_MAX, &frame) == MQTT_FRAME_WHOLE);
    assert(frame.size == once.len && frame.type == first->type);
    assert(packet_decode(&frame, first->version, from_client, &second) == MQTT_SUCCESS);
    assert(packet_equal(first, &second));
    packet_encode(&twice, &second);
    assert(slice_eq(buf_slice(&once), buf_slice(&twice)));
    buf_deinit(&once);
    buf_deinit(&twice);
}

/* Topic Alias 0 passes the decoder, for it has a reason code of its own, but nobody may send it. */
static bool is_sendable(const struct packet *p)
{
    const struct mqtt_properties *properties = packet_properties(p);
    return p->type != MQTT_PUBLISH || !mqtt_property_has(properties, MQTT_PROP_TOPIC_ALIAS) ||
           properties->topic_alias != 0;
}

static void try_packet(const struct mqtt_frame *seen, enum mqtt_version version, bool from_client)
{
    struct mqtt_frame frame = *seen;
    struct packet p;

    frame.body = exact_copy(seen->body);
    memset(&p, UNTOUCHED, sizeof(p));
    enum mqtt_reason reason = packet_decode(&frame, version, from_client, &p);
    if (reason != MQTT_SUCCESS) {
        assert(reason == MQTT_MALFORMED_PACKET || reason == MQTT_PROTOCOL_ERROR ||
               (reason == MQTT_UNSUPPORTED_PROTOCOL_VERSION && p.type == MQTT_CONNECT));
        assert(is_untouched(&p));
    } else if (is_sendable(&p)) {
        try_again(&p, from_client);
    }
    free((void *)frame.body.ptr);
}

/* The packet at the front of in: its size, or 0 when there is none. */
static size_t try_frame(struct slice in)
{
    static const enum mqtt_version versions[] = {MQTT_V31, MQTT_V311, MQTT_V5};
    struct mqtt_frame frame = {0}, cut;

    if (mqtt_frame_next(in, MQTT_PACKET_BYTES_MAX, &frame) != MQTT_FRAME_WHOLE) {
        return 0;
    }
    assert(frame.size >= 2 && frame.size <= in.len);
    assert(frame.body.ptr + frame.body.len == in.ptr + frame.size);
    assert(mqtt_frame_next(in, frame.size - 1, &cut) == MQTT_FRAME_TOO_LARGE && cut.size == frame.size);
    assert(mqtt_frame_next(slice_of(in.ptr, frame.size - 1), frame.size, &cut) == MQTT_FRAME_PARTIAL);
    for (size_t i = 0; i < COUNT_OF(versions); i++) {
        try_packet(&frame, versions[i], true);
        try_packet(&frame, versions[i], false);
    }
    return frame.size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice copy = exact_copy(slice_of(data, size)), rest = copy;
    for (unsigned i = 0; i < PACKETS_MAX; i++) {
        size_t taken = try_frame(rest);
        if (taken == 0) {
            break;
        }
        rest = slice_drop(rest, taken);
    }
    free((void *)copy.ptr);
    return 0;
}
