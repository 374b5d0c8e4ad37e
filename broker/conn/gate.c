#include "broker/conn/gate.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/conn/channel.h"
#include "broker/conn/conn_inside.h"

int gate_make(struct conn *conn)
{
    if (conn->gate) {
        return 0;
    }
    struct gate *g = calloc(1, sizeof(*g));
    if (!g) {
        return -ENOMEM;
    }
    list_init(&g->in_pending);
    list_init(&g->in_closed);
    g->conn = conn;
    conn->gate = g;
    return 0;
}

void gate_free(struct conn *conn)
{
    struct gate *g = conn->gate;

    if (g) {
        list_remove(&g->in_pending);
        list_remove(&g->in_closed);
        outbox_clear(&g->next, &conn->shard->spare);
        free(g);
        conn->gate = NULL;
    }
}

void gate_close(struct conn *conn, uint64_t lsn)
{
    struct gate *g = conn->gate;

    assert(lsn != 0);
    if (lsn == GATE_THIS_TURN) {
        g->this_turn = true;
    } else if (lsn > g->pending) {
        g->pending = lsn;
    }
    if (list_empty(&g->in_pending)) {
        list_append(&conn_lists_of(conn)->pending, &g->in_pending);
    }
}

/* Into its place among those that wait; it is almost always the last. */
static void wait_for(struct conn_lists *lists, struct gate *g, uint64_t lsn)
{
    struct list *at = lists->closed.prev;

    g->lsn = lsn;
    while (at != &lists->closed && CONTAINER_OF(at, struct gate, in_closed)->lsn > lsn) {
        at = at->prev;
    }
    list_append(at->next, &g->in_closed);
}

void gate_end_turn(struct conn_lists *lists, uint64_t lsn)
{
    struct list *at;

    while ((at = list_pop(&lists->pending)) != NULL) {
        struct gate *g = CONTAINER_OF(at, struct gate, in_pending);
        uint64_t wanted = g->this_turn && lsn > g->pending ? lsn : g->pending;
        g->pending = 0;
        g->this_turn = false;
        if (wanted > g->wanted) {
            g->wanted = wanted;
        }
        if (g->lsn != 0 || gate_outbox(g->conn) == &g->next) {
            g->next_lsn = wanted > g->next_lsn ? wanted : g->next_lsn;
        } else if (wanted > lists->durable && g->conn->out.bytes.len > 0) {
            wait_for(lists, g, wanted);
        }
        if (g->lsn == 0) {
            conn_mark_dirty(g->conn);
        }
    }
}

void gate_before_packet(struct conn *conn)
{
    struct gate *g = conn->gate;

    if (g && g->wanted > conn_lists_of(conn)->durable) {
        gate_close(conn, g->wanted);
    }
}

void gate_open_all(struct conn_lists *lists, uint64_t lsn)
{
    struct list *at;

    lists->durable = lsn;
    while ((at = lists->closed.next) != &lists->closed && CONTAINER_OF(at, struct gate, in_closed)->lsn <= lsn) {
        struct gate *g = CONTAINER_OF(at, struct gate, in_closed);
        list_remove(at);
        g->lsn = 0;
        conn_mark_dirty(g->conn);
    }
}

void gate_advance(struct conn *conn)
{
    struct gate *g = conn->gate;
    struct conn_lists *lists = conn_lists_of(conn);

    assert(conn->out.bytes.len == 0 && !conn->out.refs && g->lsn == 0);
    if (g->next.bytes.len == 0) {
        return;
    }
    buf_pool_put(&conn->shard->spare, &conn->out.bytes);
    conn->out = g->next;
    g->next = (struct outbox){0};
    if (g->next_lsn > lists->durable) {
        wait_for(lists, g, g->next_lsn);
    }
    g->next_lsn = 0;
}
