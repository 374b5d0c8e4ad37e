/* metrics_node.c -- of /metrics what no counter says: the node, its cluster, the process, memory and disk. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "broker/admin/metrics_page.h"
#include "broker/base/version.h"
#include "broker/flow/cluster.h"
#include "broker/flow/driver_inside.h"

/* ---- the node ---- */

static void put_build(struct buf *out, const struct broker *b)
{
    page_head(out, "tern_build_info", "gauge", "What runs here; always 1.");
    admin_printf(out, "tern_build_info{version=\"%s\",backend=\"%s\",node=", TERN_VERSION, io_name(b->shard->io));
    admin_json_string(out, slice_str(b->config->node_name));
    buf_put(out, SLICE("} 1\n"));
}

static void put_listeners(struct buf *out, const struct node_tables *node)
{
    page_head(out, "tern_listener_connections", "gauge", "Connections of the listener.");
    for (unsigned i = 0; i < node->listener_count; i++) {
        buf_put(out, SLICE("tern_listener_connections"));
        page_label(out, "listener", slice_str(node->listeners[i].name));
        admin_printf(out, " %u\n", atomic_load((atomic_uint *)&node->listeners[i].count));
    }
}

/* Two listeners may have one file. */
static bool told_before(const struct node_tables *node, unsigned at, const char *file)
{
    for (unsigned i = 0; i < at; i++) {
        struct tls_context *context = atomic_load(&((struct listener *)&node->listeners[i])->tls_context);
        const char *other = NULL;
        if (context && tls_context_expires(context, &other) != INT64_MAX && strcmp(other, file) == 0) {
            return true;
        }
    }
    return false;
}

static void put_certificates(struct buf *out, const struct node_tables *node, const struct admin *admin)
{
    const char *name = "tern_certificate_expiry_timestamp_seconds", *file = NULL;

    page_head(out, name, "gauge", "When the certificate of a listener or of the admin port expires.");
    for (unsigned i = 0; i < node->listener_count; i++) {
        /* A reload frees what it has exchanged only when each shard has made a turn. */
        struct tls_context *context = atomic_load(&((struct listener *)&node->listeners[i])->tls_context);
        int64_t ends = context ? tls_context_expires(context, &file) : INT64_MAX;
        if (ends != INT64_MAX && !told_before(node, i, file)) {
            buf_put(out, slice_str(name));
            page_label(out, "file", slice_str(file));
            admin_printf(out, " %lld\n", (long long)ends);
        }
    }
    int64_t ends = admin_certificate_expires(admin->terms, &file);
    if (ends != INT64_MAX && !told_before(node, node->listener_count, file)) {
        buf_put(out, slice_str(name));
        page_label(out, "file", slice_str(file));
        admin_printf(out, " %lld\n", (long long)ends);
    }
}

static void put_members(struct buf *out, const struct broker *b)
{
    static const char *const names[] = {
        [MEMBER_ALIVE] = "alive", [MEMBER_SUSPECT] = "suspect", [MEMBER_DEAD] = "dead", [MEMBER_LEFT] = "left"};
    unsigned counts[COUNT_OF(names)] = {0};
    const struct member *m;

    for (unsigned at = 0; b->cluster && (m = swim_next(driver_of(b)->swim, &at)) != NULL;) {
        counts[m->state] += (unsigned)m->state < COUNT_OF(counts);
    }
    counts[MEMBER_ALIVE] += b->cluster == NULL; /* else it is among them */
    page_head(out, "tern_cluster_nodes", "gauge", "Nodes of the cluster as this one sees them, itself included.");
    for (unsigned i = MEMBER_ALIVE; i < COUNT_OF(names); i++) {
        admin_printf(out, "tern_cluster_nodes{state=\"%s\"} %u\n", names[i], counts[i]);
    }
}

static void put_link(struct buf *out, const struct broker *b, const char *name, const char *help, bool queued)
{
    page_head(out, name, "gauge", help);
    for (unsigned n = 0; b->cluster && n < NEIGHBOURS_MAX; n++) {
        const struct peer_link *link = b->cluster->links[n];
        uint64_t held = 0;
        if (!link || !b->node->cluster->neighbours[n].used) {
            continue;
        }
        for (unsigned lane = 0; lane < LINK_LANES; lane++) {
            held += link_flow_held(&link->flow, lane);
        }
        buf_put(out, slice_str(name));
        page_label(out, "peer", slice_str(b->node->cluster->neighbours[n].name));
        admin_printf(out, " %llu\n", (unsigned long long)(queued ? held : link->open));
    }
}

void page_node(struct buf *out, struct broker *b, const struct admin *admin)
{
    const struct node_tables *node = b->node;

    put_build(out, b);
    page_gauge(out, "tern_ready", "Whether clients should be sent here, as /readyz says.", node_unready(node) == NULL);
    page_gauge(out, "tern_draining", "Whether the node parts from its clients, or waits to begin with it.",
               drain_state(node).stage != DRAIN_NONE);
    page_gauge(out, "tern_uptime_seconds", "Since the node began.",
               (double)(b->shard->now_ms - node->started_ms) / 1e3);
    page_gauge(out, "tern_shards", "Threads that serve clients.", node->shard_count);
    page_gauge(out, "tern_admin_connections", "Connections of the admin port.", admin->count);
    put_listeners(out, node);
    put_certificates(out, node, admin);
    put_members(out, b);
    put_link(out, b, "tern_link_up", "Whether the control shard's link to the node is open.", false);
    put_link(out, b, "tern_link_queued_bytes", "Bytes that this link holds until the node has them.", true);
}

/* ---- the process ---- */

/* From the kernel's own figures: no disk is behind them. */
static void memory_pages(uint64_t *ret_size, uint64_t *ret_resident)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    char *end = text;

    if (fd >= 0) {
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    *ret_size = strtoull(text, &end, 10);
    *ret_resident = strtoull(end, NULL, 10);
}

/* Parts of the resident memory, which add up to it. A message in many queues is counted in each: what is known is cut
 * to what is there. */
static void put_memory(struct buf *out, const struct broker *b, const struct metrics *sum, uint64_t resident)
{
    const struct {
        const char *class;
        uint64_t bytes;
    } known[] = {
        {"receive_buffers", b->node->shard_count * 1024ull * 4096}, /* as io_open's defaults */
        {"counters", b->node->shard_count * sizeof(struct metrics)},
        {"retained_messages", atomic_load(&b->node->retained_quota.bytes)},
        {"outboxes", sum->values[METRIC_OUTBOX_BYTES]},
        {"session_queues", sum->values[METRIC_QUEUED_BYTES]},
    };
    uint64_t left = resident;

    page_head(out, "tern_memory_bytes", "gauge", "Resident memory by what it is used for; the classes add up to it.");
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        uint64_t bytes = known[i].bytes < left ? known[i].bytes : left;
        left -= bytes;
        admin_printf(out, "tern_memory_bytes{class=\"%s\"} %llu\n", known[i].class, (unsigned long long)bytes);
    }
    admin_printf(out, "tern_memory_bytes{class=\"other\"} %llu\n", (unsigned long long)left);
}

void page_process(struct buf *out, struct broker *b, const struct admin *admin, const struct metrics *sum)
{
    uint64_t size, resident, page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct rlimit limit = {0};
    struct timespec cpu = {0};
    struct stat st;

    memory_pages(&size, &resident);
    put_memory(out, b, sum, resident * page);
    page_gauge(out, "process_resident_memory_bytes", "Resident memory size in bytes.", (double)(resident * page));
    page_gauge(out, "process_virtual_memory_bytes", "Virtual memory size in bytes.", (double)(size * page));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    page_head(out, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.");
    admin_printf(out, "process_cpu_seconds_total %.6f\n", (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    page_gauge(out, "process_start_time_seconds", "Start time of the process since unix epoch in seconds.",
               (double)admin->started_wall_ms / 1e3);
    getrlimit(RLIMIT_NOFILE, &limit);
    page_gauge(out, "process_max_fds", "Maximum number of open file descriptors.", (double)limit.rlim_cur);
    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0) { /* how many, since Linux 6.2; counting costs too much */
        page_gauge(out, "process_open_fds", "Number of open file descriptors.", (double)st.st_size);
    }
    if (b->node->store) {
        page_gauge(out, "tern_store_bytes", "Bytes on the disk of the data directory's files.",
                   (double)atomic_load(&admin->disk.used));
        page_gauge(out, "tern_store_free_bytes", "Bytes that its file system has left.",
                   (double)atomic_load(&admin->disk.left));
    }
}

/* ---- the disk: a worker looks, for it may have to wait ---- */

static uint64_t used_bytes(const char *dir)
{
    DIR *d = opendir(dir);
    uint64_t used = 0;
    struct dirent *e;
    struct stat st;

    while (d && (e = readdir(d)) != NULL) {
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
            used += (uint64_t)st.st_blocks * 512;
        }
    }
    if (d) {
        closedir(d);
    }
    return used;
}

static void disk_run(struct work *work)
{
    struct admin *admin = CONTAINER_OF(work, struct admin, disk.work);
    struct statvfs fs;

    if (statvfs(admin->disk.dir, &fs) == 0) {
        atomic_store(&admin->disk.left, (uint64_t)fs.f_bavail * fs.f_frsize);
    }
    atomic_store(&admin->disk.used, used_bytes(admin->disk.dir));
}

static void disk_done(struct work *work)
{
    CONTAINER_OF(work, struct admin, disk.work)->disk.looking = false;
}

void admin_disk_look(struct admin *admin)
{
    const struct node_tables *node = admin->broker->node;

    if (!node->store || admin->disk.looking || admin->shard->now_ms < admin->disk.next_ms) {
        return;
    }
    admin->disk.next_ms = admin->shard->now_ms + ADMIN_DISK_MS;
    admin->disk.work = (struct work){.shard = admin->shard->index, .run = disk_run, .done = disk_done};
    list_init(&admin->disk.work.link);
    admin->disk.looking = worker_submit(node->auth->pool, &admin->disk.work) == 0;
}
