/* result.c -- figures by name, and the JSON object (its members are described in bench/README.md). */
#include "bench/load/result.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "broker/base/version.h"

void result_deinit(struct result *r)
{
    free(r->figures);
    free(r->seconds_list);
    r->figures = NULL;
    r->seconds_list = NULL;
}

bool result_clean(const struct result *r)
{
    const struct check_result *c = &r->check;

    return (c->lost | c->duplicate | c->reordered | c->misdelivered | c->unacknowledged | c->misacknowledged |
            c->refused | c->disconnected) == 0;
}

bool result_phase_cost(const struct phase_result *phase, double *ret_us)
{
    if (!phase || phase->count == 0 || phase->cpu_ns == 0) {
        return false;
    }
    *ret_us = (double)phase->cpu_ns / 1e3 / (double)phase->count;
    return true;
}

const struct phase_result *result_phase(const struct result *r, const char *name)
{
    for (uint32_t i = 0; name && i < r->phase_count; i++) {
        if (strcmp(r->phases[i].name, name) == 0) {
            return &r->phases[i];
        }
    }
    return NULL;
}

/* The first phase whose cost is counted by this thing. */
static const struct phase_result *phase_each(const struct result *r, const char *each)
{
    for (uint32_t i = 0; i < r->phase_count; i++) {
        if (r->phases[i].each && strcmp(r->phases[i].each, each) == 0) {
            return &r->phases[i];
        }
    }
    return NULL;
}

static bool rss_each(const struct result *r, double *ret_bytes)
{
    double sum = 0;

    for (uint32_t i = 0; i < r->options->pid_count; i++) {
        sum += (double)r->rss_after[i] - (double)r->rss_before[i];
    }
    *ret_bytes = r->clients > 0 ? sum / (double)r->clients : 0;
    return r->options->pid_count > 0 && r->clients > 0;
}

/* --- by name
 * ---------------------------------------------------------------------------------------------------------- */

static bool percentile_lookup(const struct histogram *h, const char *name, double *ret_value)
{
    if (histogram_count(h) == 0) {
        return false;
    }
    if (strcmp(name, "max") == 0) {
        *ret_value = (double)histogram_max(h);
    } else if (strcmp(name, "mean") == 0) {
        *ret_value = histogram_mean(h);
    } else {
        *ret_value = (double)histogram_percentile(h, strtod(name + 1, NULL)); /* p99.9 */
    }
    return true;
}

static bool count_lookup(const struct check_result *c, const char *name, double *ret_value)
{
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"lost", c->lost},
        {"duplicate", c->duplicate},
        {"reordered", c->reordered},
        {"misdelivered", c->misdelivered},
        {"unacknowledged", c->unacknowledged},
        {"misacknowledged", c->misacknowledged},
        {"refused", c->refused},
        {"disconnected", c->disconnected},
        {"sent", c->sent},
        {"received", c->received},
    };

    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        if (strcmp(name, counts[i].name) == 0) {
            *ret_value = (double)counts[i].value;
            return true;
        }
    }
    return false;
}

bool result_lookup(void *context, const char *name, double *ret_value)
{
    const struct result *r = context;
    const struct figures *f = r->figures;
    static const char *const latencies[] = {"ack-", "connect-", "late-"};
    const struct histogram *const histograms[] = {&f->acknowledge, &f->connect, &f->late};

    if (count_lookup(&r->check, name, ret_value)) {
        return true;
    }
    if (strcmp(name, "rate") == 0) {
        *ret_value = r->seconds > 0 ? (double)r->received / r->seconds : 0;
        return true;
    }
    if (strcmp(name, "cpu") == 0) {
        return result_phase_cost(result_phase(r, r->figure_phase), ret_value);
    }
    if (strcmp(name, "connection-cpu") == 0) {
        return result_phase_cost(phase_each(r, "connection"), ret_value);
    }
    if (strcmp(name, "subscription-cpu") == 0) {
        return result_phase_cost(phase_each(r, "subscription"), ret_value);
    }
    if (strcmp(name, "rss") == 0) {
        return rss_each(r, ret_value);
    }
    for (size_t i = 0; i < COUNT_OF(latencies); i++) {
        if (strncmp(name, latencies[i], strlen(latencies[i])) == 0) {
            return percentile_lookup(histograms[i], name + strlen(latencies[i]), ret_value);
        }
    }
    return percentile_lookup(&f->delivery, name, ret_value);
}

/* --- JSON
 * -------------------------------------------------------------------------------------------------------------- */

static void set(json_t *object, const char *name, json_t *value)
{
    json_object_set_new(object, name, value);
}

static void set_count(json_t *object, const char *name, uint64_t value)
{
    set(object, name, json_integer((json_int_t)value));
}

static json_t *histogram_json(const struct histogram *h)
{
    static const struct {
        const char *name;
        double percent;
    } marks[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}, {"p99.99", 99.99}};
    json_t *object = json_object(), *buckets = json_array();

    set_count(object, "count", histogram_count(h));
    set_count(object, "min", histogram_min(h));
    set(object, "mean", json_real(histogram_mean(h)));
    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        set_count(object, marks[i].name, histogram_percentile(h, marks[i].percent));
    }
    set_count(object, "max", histogram_max(h));
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t count = atomic_load(&h->counts[i]);
        if (count > 0) {
            json_t *bucket = json_array();
            json_array_append_new(bucket, json_integer((json_int_t)histogram_bucket_top(i)));
            json_array_append_new(bucket, json_integer((json_int_t)count));
            json_array_append_new(buckets, bucket);
        }
    }
    set(object, "buckets", buckets);
    return object;
}

static void set_histogram(json_t *object, const char *name, const struct histogram *h)
{
    if (histogram_count(h) > 0) {
        set(object, name, histogram_json(h));
    }
}

static json_t *machine_json(const struct result *r)
{
    struct utsname system;
    json_t *object = json_object();

    set_count(object, "cpus", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    set(object, "kernel", json_string(uname(&system) == 0 ? system.release : ""));
    set(object, "io", json_string(r->io));
    set_count(object, "threads", r->options->threads);
    return object;
}

static json_t *options_json(const struct options *o)
{
    json_t *object = json_object();

    set_count(object, "count", o->count);
    set_count(object, "publishers", o->publishers);
    set_count(object, "qos", o->qos);
    set_count(object, "mqtt", o->version);
    set(object, "size", json_string(o->size_text));
    set_count(object, "batch", o->batch);
    set_count(object, "inflight", o->inflight);
    set(object, "rate", json_real(o->rate));
    set_count(object, "limit", o->limit);
    set(object, "duration_s", json_real(o->duration_s));
    return object;
}

static json_t *check_json(const struct check_result *c)
{
    json_t *object = json_object();

    set_count(object, "sent", c->sent);
    set_count(object, "expected", c->expected);
    set_count(object, "received", c->received);
    set_count(object, "lost", c->lost);
    set_count(object, "duplicate", c->duplicate);
    set_count(object, "reordered", c->reordered);
    set_count(object, "misdelivered", c->misdelivered);
    set_count(object, "unacknowledged", c->unacknowledged);
    set_count(object, "misacknowledged", c->misacknowledged);
    set_count(object, "refused", c->refused);
    set_count(object, "disconnected", c->disconnected);
    set_count(object, "slow_lost", c->slow_lost);
    return object;
}

static json_t *broker_json(const struct result *r, uint32_t i)
{
    const struct process_usage *used = &r->used[i];
    json_t *object = json_object(), *threads = json_array();

    set_count(object, "pid", (uint64_t)used->pid);
    set(object, "name", json_string(used->name));
    set(object, "cpu_s", json_real((double)used->cpu_ns / 1e9));
    set(object, "user_s", json_real((double)used->user_ns / 1e9));
    set(object, "system_s", json_real((double)used->system_ns / 1e9));
    set_count(object, "rss_before", r->rss_before[i]);
    set_count(object, "rss_after", r->rss_after[i]);
    set_count(object, "voluntary_switches", used->voluntary_switches);
    set_count(object, "involuntary_switches", used->involuntary_switches);
    for (uint32_t n = 0; n < used->thread_count; n++) {
        json_t *thread = json_object();
        set_count(thread, "tid", (uint64_t)used->threads[n].tid);
        set(thread, "name", json_string(used->threads[n].name));
        set(thread, "cpu_s", json_real((double)used->threads[n].cpu_ns / 1e9));
        json_array_append_new(threads, thread);
    }
    set(object, "threads", threads);
    return object;
}

static json_t *phases_json(const struct result *r)
{
    json_t *array = json_array();

    for (uint32_t i = 0; i < r->phase_count; i++) {
        const struct phase_result *phase = &r->phases[i];
        json_t *object = json_object();
        double us;
        set(object, "name", json_string(phase->name));
        set(object, "seconds", json_real(phase->seconds));
        set_count(object, "sent", phase->sent);
        set_count(object, "received", phase->received);
        set_count(object, "connections", phase->connections);
        set_count(object, "subscriptions", phase->subscriptions);
        set(object, "cpu_s", json_real((double)phase->cpu_ns / 1e9));
        if (result_phase_cost(phase, &us)) {
            set(object, "cpu_us_each", json_real(us));
            set(object, "each", json_string(phase->each));
        }
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *cost_json(const struct result *r)
{
    json_t *object = json_object();
    double value;

    if (r->options->pid_count == 0) {
        return object;
    }
    const struct phase_result *measured = result_phase(r, r->figure_phase);
    if (measured && strcmp(measured->name, "connect") != 0 && result_phase_cost(measured, &value)) {
        set(object, "cpu_us_per_message", json_real(value));
    }
    if (result_phase_cost(phase_each(r, "connection"), &value)) {
        set(object, "cpu_us_per_connection", json_real(value));
    }
    if (result_phase_cost(phase_each(r, "subscription"), &value)) {
        set(object, "cpu_us_per_subscription", json_real(value));
    }
    if (rss_each(r, &value)) {
        set(object, "rss_bytes_per_client", json_real(value));
        set(object, "kernel_bytes_per_client",
            json_real(((double)r->kernel_after - (double)r->kernel_before) / (double)r->clients));
    }
    return object;
}

/* What the scenario is judged by: the broker's processor time, or without --pid what was achieved. */
static json_t *figure_json(const struct result *r)
{
    const struct phase_result *phase = result_phase(r, r->figure_phase);
    json_t *object = json_object();
    double us;

    if (result_phase_cost(phase, &us)) {
        set(object, "name", json_string("CPU"));
        set(object, "value", json_real(us));
        set(object, "unit", json_string("us"));
        set(object, "per", json_string(phase->each));
    } else if (phase && phase->seconds > 0) {
        bool connections = phase->each && strcmp(phase->each, "connection") == 0;
        set(object, "name", json_string("rate"));
        set(object, "value", json_real((double)(connections ? phase->connections : phase->received) / phase->seconds));
        set(object, "unit", json_string(connections ? "connections" : "messages"));
        set(object, "per", json_string("second"));
    }
    return object;
}

static json_t *series_json(const struct result *r)
{
    json_t *array = json_array();

    for (uint32_t i = 0; i < r->second_count; i++) {
        const struct second_result *second = &r->seconds_list[i];
        json_t *object = json_object();
        set(object, "t", json_real(second->t));
        set_count(object, "sent", second->sent);
        set_count(object, "received", second->received);
        set_count(object, "p50_us", second->p50_us);
        set_count(object, "p99_us", second->p99_us);
        set_count(object, "max_us", second->max_us);
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *expect_json(const struct expect_list *list)
{
    json_t *array = json_array();

    for (size_t i = 0; i < list->count; i++) {
        const struct expectation *e = &list->items[i];
        json_t *object = json_object();
        set(object, "text", json_string(e->text));
        set(object, "value", e->known ? json_real(e->value) : json_null());
        set(object, "limit", json_real(e->limit));
        set(object, "met", json_boolean(e->met));
        json_array_append_new(array, object);
    }
    return array;
}

json_t *result_json(const struct result *r)
{
    const struct options *o = r->options;
    json_t *object = json_object(), *latency = json_object(), *generator = json_object(), *brokers = json_array();

    set(object, "tool", json_string("tern-bench"));
    set(object, "version", json_string(TERN_VERSION));
    set(object, "label", json_string(o->label ? o->label : ""));
    set(object, "scenario", json_string(scenario_name(o->scenario)));
    set(object, "mode", json_string(o->rate > 0 || o->pub_interval_ms > 0 ? "open" : "closed"));
    set(object, "started", json_string(r->started));
    set(object, "command", json_string(o->command));
    set(object, "machine", machine_json(r));
    set(object, "options", options_json(o));
    set_count(object, "clients", r->clients);
    set(object, "seconds", json_real(r->seconds));
    set_count(object, "sent", r->sent);
    set_count(object, "received", r->received);
    set_count(object, "bytes_sent", r->bytes_sent);
    set_count(object, "bytes_received", r->bytes_received);
    set(object, "check", check_json(&r->check));
    if (r->figures) {
        set_histogram(latency, "delivery", &r->figures->delivery);
        set_histogram(latency, "acknowledge", &r->figures->acknowledge);
        set_histogram(latency, "connect", &r->figures->connect);
        set_histogram(latency, "subscribe", &r->figures->subscribe);
        set_histogram(generator, "late_us", &r->figures->late);
    }
    set(object, "latency_us", latency);
    set(generator, "cpu_s", json_real((double)r->own_cpu_ns / 1e9));
    set_count(generator, "unsent", r->unsent);
    set(generator, "slower", json_boolean(r->slower));
    set(generator, "why", json_string(r->slower_why));
    set(object, "generator", generator);
    for (uint32_t i = 0; i < o->pid_count; i++) {
        json_array_append_new(brokers, broker_json(r, i));
    }
    set(object, "brokers", brokers);
    set(object, "phases", phases_json(r));
    set(object, "cost", cost_json(r));
    set(object, "figure", figure_json(r));
    set(object, "series", series_json(r));
    set(object, "expect", expect_json(&o->expect));
    set(object, "why", json_string(r->why));
    return object;
}
