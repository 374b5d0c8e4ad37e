/* io_uring_setup.c -- open the door on io_uring, or find out that this system does not let us.
 *
 * Everything that can be refused (the ring, its flags, the buffer ring, multishot receives) is asked for here, so that
 * a door which opens also works. Flags fall back from newer kernels to older ones. */
#include "broker/loop/io.h"
#include "broker/loop/io_backend.h"
#include "broker/loop/io_uring_door.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SQ_ENTRIES 4096
#define CQ_ENTRIES 32768

void io_uring_door_close(struct io *io)
{
    struct uring *u = uring_of(io);

    if (u->ring_made) {
        io_uring_queue_exit(&u->ring);
    }
    if (u->buffer_ring) {
        munmap(u->buffer_ring, u->buffer_ring_bytes);
    }
    if (u->buffers) {
        munmap(u->buffers, (size_t)u->buffer_count * u->buffer_bytes);
    }
    io_deinit(io);
    free(u);
}

static int ring_make(struct uring *u)
{
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, /* 6.1 */
        IORING_SETUP_COOP_TASKRUN,                               /* 5.19 */
    };
    int rc = -EINVAL;

    for (unsigned i = 0; i < COUNT_OF(flags) && rc == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP | flags[i],
            .cq_entries = CQ_ENTRIES,
        };
        rc = io_uring_queue_init_params(SQ_ENTRIES, &u->ring, &params);
    }
    if (rc) {
        return rc;
    }
    u->ring_made = true;
    if (!(u->ring.features & IORING_FEAT_NODROP) || !(u->ring.features & IORING_FEAT_CQE_SKIP)) {
        return -ENOSYS;
    }
    io_uring_register_ring_fd(&u->ring); /* saves a lookup at each call; works without */
    return 0;
}

static void *memory_map(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static int buffers_make(struct uring *u, const struct io_options *options)
{
    u->buffer_count = options->recv_buffer_count;
    u->buffer_bytes = options->recv_buffer_bytes;
    u->buffer_ring_bytes = u->buffer_count * sizeof(struct io_uring_buf);
    u->buffer_ring = memory_map(u->buffer_ring_bytes);
    u->buffers = memory_map((size_t)u->buffer_count * u->buffer_bytes);
    if (!u->buffer_ring || !u->buffers) {
        return -ENOMEM;
    }
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)u->buffer_ring, .ring_entries = u->buffer_count, .bgid = IO_URING_BUFFER_GROUP};
    int rc = io_uring_register_buf_ring(&u->ring, &reg, 0);
    if (rc) {
        return rc;
    }
    io_uring_buf_ring_init(u->buffer_ring);
    for (unsigned id = 0; id < u->buffer_count; id++) {
        io_uring_buffer_return(u, id);
    }
    io_uring_buffers_advance(u);
    return 0;
}

/* Read completions until the receive of probe() is over. Returns 0 if it was a multishot that took a buffer. */
static int probe_read(struct uring *u, int far)
{
    int rc = -ENOSYS;

    for (;;) {
        struct io_uring_cqe *cqe;
        int wait = io_uring_wait_cqe(&u->ring, &cqe);
        if (wait == -EINTR) {
            continue;
        }
        if (wait) {
            return wait;
        }
        bool more = cqe->flags & IORING_CQE_F_MORE, mine = cqe->user_data == KIND_RECV;
        if (cqe->flags & IORING_CQE_F_BUFFER) {
            io_uring_buffer_return(u, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
            io_uring_buffers_advance(u);
            if (mine && more && cqe->res == 1) {
                rc = 0;
            }
        }
        io_uring_cqe_seen(&u->ring, cqe);
        if (mine && !more) {
            return rc;
        }
        shutdown(far, SHUT_RDWR);
    }
}

/* Whether this kernel receives and sends as we need it: asked now, so that no connection finds out later. */
static int probe(struct uring *u)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
        return -errno;
    }
    struct io_uring_sqe *recv = io_uring_get_sqe(&u->ring), *send = io_uring_get_sqe(&u->ring);
    io_uring_prep_recv_multishot(recv, fds[0], NULL, 0, 0);
    recv->flags |= IOSQE_BUFFER_SELECT;
    recv->buf_group = IO_URING_BUFFER_GROUP;
    io_uring_tag(recv, NULL, KIND_RECV);
    io_uring_prep_send(send, fds[1], "x", 1, MSG_DONTWAIT | MSG_WAITALL);
    send->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_tag(send, NULL, KIND_NONE);
    int rc = io_uring_submit(&u->ring);
    rc = rc < 0 ? rc : probe_read(u, fds[1]);
    close(fds[0]);
    close(fds[1]);
    return rc;
}

int io_uring_door_open(const struct io_options *options, struct io **ret_io)
{
    struct uring *u = NULL;

    if (posix_memalign((void **)&u, 64, sizeof(*u)) != 0) {
        return -ENOMEM;
    }
    memset(u, 0, sizeof(*u));
    io_init(&u->io, &io_uring_ops);
    list_init(&u->flying);
    list_init(&u->flown);
    list_init(&u->retry);
    int rc = ring_make(u);
    if (rc == 0) {
        rc = buffers_make(u, options);
    }
    if (rc == 0) {
        rc = probe(u);
    }
    if (rc == 0) {
        u->io.wake_fd = eventfd(0, EFD_CLOEXEC); /* blocking: else the ring's read would not wait */
        rc = u->io.wake_fd < 0 ? -errno : 0;
    }
    if (rc) {
        io_uring_door_close(&u->io);
        return rc;
    }
    *ret_io = &u->io;
    return 0;
}
