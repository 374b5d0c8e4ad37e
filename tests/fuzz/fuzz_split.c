/* fuzz_split.c -- the same bytes, cut otherwise: the answers are the same bytes.
 *
 * The first bytes of the input say where to cut, the rest is what one client sends, behind a CONNECT of ours or alone.
 */
#include "proto/mqtt/connect.h"
#include "tests/lib/sim_node.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define CUTS 8

static const char *const settings[] = {"sys_interval=0", "limits.max_outbox_bytes=64KiB", NULL};
static struct sim_node node;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Send data in pieces: lengths[i] bytes each in turn, 0 meaning the whole rest. *ret_ended: the broker has parted. */
static struct buf answers(struct slice hello, struct slice data, const uint8_t *lengths, bool *ret_ended)
{
    struct buf came = {0};

    sim_node_open(&node, 1, settings);
    struct sim_socket *s = sim_connect(&node.net, 0);
    sim_node_settle(&node);
    sim_send(s, hello);
    sim_node_settle(&node);
    for (unsigned i = 0; data.len > 0; i++) {
        size_t len = lengths[i % CUTS] && lengths[i % CUTS] < data.len ? lengths[i % CUTS] : data.len;
        sim_send(s, slice_of(data.ptr, len));
        sim_node_settle(&node);
        data = slice_drop(data, len);
    }
    buf_put(&came, buf_slice(&s->from_broker));
    *ret_ended = sim_ended(s);
    sim_node_close(&node);
    return came;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t whole[CUTS];
    static const enum mqtt_version versions[] = {MQTT_V5, MQTT_V311, MQTT_V31};
    bool ended_whole, ended_cut;
    struct buf hello = {0};

    if (size < CUTS + 1) {
        return 0;
    }
    struct slice rest = slice_of(data + CUTS + 1, size - CUTS - 1);
    struct mqtt_connect c = {.client_id = SLICE("a"), .clean_start = true};
    if (data[CUTS] & 3) {
        c.version = versions[(data[CUTS] & 3) - 1];
        mqtt_connect_encode(&hello, &c);
    }
    struct buf a = answers(buf_slice(&hello), rest, whole, &ended_whole);
    struct buf b = answers(buf_slice(&hello), rest, data, &ended_cut);
    if (!slice_eq(buf_slice(&a), buf_slice(&b)) || ended_whole != ended_cut) {
        fprintf(stderr, "cut: %u bytes came, ended %d; whole: %u, ended %d\n", b.len, ended_cut, a.len, ended_whole);
        abort();
    }
    buf_deinit(&a);
    buf_deinit(&b);
    buf_deinit(&hello);
    return 0;
}
