/* table.c -- the result for people. */
#include <inttypes.h>
#include <string.h>

#include "bench/load/result.h"

static const double marks[] = {50, 90, 99, 99.9, 99.99};

/* A time with three digits and its unit. */
static const char *time_text(char out[16], double us)
{
    if (us < 1000) {
        snprintf(out, 16, "%.0f us", us);
    } else if (us < 1e6) {
        snprintf(out, 16, "%.*f ms", us < 1e4 ? 2 : us < 1e5 ? 1 : 0, us / 1e3);
    } else {
        snprintf(out, 16, "%.2f s", us / 1e6);
    }
    return out;
}

static void latency_print(FILE *out, const char *name, const struct histogram *h)
{
    char text[16];

    if (histogram_count(h) == 0) {
        return;
    }
    fprintf(out, "  %-12s", name);
    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        fprintf(out, "%10s", time_text(text, (double)histogram_percentile(h, marks[i])));
    }
    fprintf(out, "%10s\n", time_text(text, (double)histogram_max(h)));
}

static void latencies_print(const struct result *r, FILE *out)
{
    const struct figures *f = r->figures;

    if (!f || histogram_count(&f->delivery) + histogram_count(&f->acknowledge) + histogram_count(&f->connect) == 0) {
        return;
    }
    fprintf(out, "\n  %-12s%10s%10s%10s%10s%10s%10s\n", "latency", "p50", "p90", "p99", "p99.9", "p99.99", "max");
    latency_print(out, "delivery", &f->delivery);
    latency_print(out, "acknowledge", &f->acknowledge);
    latency_print(out, "connect", &f->connect);
    latency_print(out, "subscribe", &f->subscribe);
    latency_print(out, "tool late", &f->late);
}

static void check_print(const struct result *r, FILE *out)
{
    const struct check_result *c = &r->check;
    const struct {
        const char *name;
        uint64_t value;
    } faults[] = {
        {"lost", c->lost},
        {"duplicate", c->duplicate},
        {"out of order", c->reordered},
        {"misdelivered", c->misdelivered},
        {"unacknowledged", c->unacknowledged},
        {"wrongly acknowledged", c->misacknowledged},
        {"refused", c->refused},
        {"thrown out", c->disconnected},
        {"lost by slow readers", c->slow_lost},
    };

    if (c->expected > 0) {
        fprintf(out, "\n  of %" PRIu64 " deliveries %" PRIu64 " came%s\n", c->expected, c->received,
                result_clean(r) ? ", each once, in order, to the right client" : "");
    }
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        if (faults[i].value > 0) {
            fprintf(out, "  %-22s %" PRIu64 "\n", faults[i].name, faults[i].value);
        }
    }
    if (r->why[0]) {
        fprintf(out, "  first: %s\n", r->why);
    }
}

static void broker_print(const struct result *r, FILE *out)
{
    double us;

    if (r->options->pid_count == 0) {
        return;
    }
    fputs("\n", out);
    for (uint32_t i = 0; i < r->options->pid_count; i++) {
        const struct process_usage *u = &r->used[i];
        fprintf(out,
                "  broker %d (%s): %.3f s of processor time (user %.3f, system %.3f), %" PRIu64 " + %" PRIu64
                " switches, memory %.1f -> %.1f MiB\n",
                (int)u->pid, u->name, (double)u->cpu_ns / 1e9, (double)u->user_ns / 1e9, (double)u->system_ns / 1e9,
                u->voluntary_switches, u->involuntary_switches, (double)r->rss_before[i] / 1048576,
                (double)r->rss_after[i] / 1048576);
        for (uint32_t n = 0; n < u->thread_count; n++) {
            fprintf(out, "    %-16s %.3f s\n", u->threads[n].name, (double)u->threads[n].cpu_ns / 1e9);
        }
    }
    for (uint32_t i = 0; i < r->phase_count; i++) {
        if (result_phase_cost(&r->phases[i], &us)) {
            fprintf(out, "  %-12s %.3f us of processor time for each %s%s\n", r->phases[i].name, us, r->phases[i].each,
                    strcmp(r->phases[i].each, "message") == 0 ? " in and each message out" : "");
        }
    }
    if (r->clients > 0) {
        double rss = 0;
        (void)result_lookup((void *)r, "rss", &rss);
        fprintf(out, "  memory       %.0f bytes a client; of the kernel's, for both ends of a connection, %.0f bytes\n",
                rss, ((double)r->kernel_after - (double)r->kernel_before) / (double)r->clients);
    }
}

void result_print(const struct result *r, FILE *out)
{
    const struct options *o = r->options;
    double seconds = r->seconds > 0 ? r->seconds : 1;

    fprintf(out, "\n%s%s%s, %s loop, QoS %u, MQTT %s, %" PRIu64 " clients, %u thread%s on %s\n",
            o->label ? o->label : "", o->label ? ": " : "", scenario_name(o->scenario),
            o->rate > 0 || o->pub_interval_ms > 0 ? "open" : "closed", o->qos,
            o->version == MQTT_V5    ? "5.0"
            : o->version == MQTT_V31 ? "3.1"
                                     : "3.1.1",
            r->clients, o->threads, o->threads == 1 ? "" : "s", r->io);
    for (uint32_t i = 0; i < r->phase_count && o->scenario == SCENARIO_CONN; i++) {
        const struct phase_result *phase = &r->phases[i];
        if (phase->connections > 0) {
            fprintf(out, "  %s: %" PRIu64 " connections in %.3f s (%.0f/s)\n", phase->name, phase->connections,
                    phase->seconds, (double)phase->connections / phase->seconds);
        }
    }
    if (r->seconds > 0 && o->scenario != SCENARIO_CONN) {
        fprintf(out, "  %.2f s: sent %" PRIu64 " (%.0f/s), received %" PRIu64 " (%.0f/s)\n", r->seconds, r->sent,
                (double)r->sent / seconds, r->received, (double)r->received / seconds);
    }
    latencies_print(r, out);
    check_print(r, out);
    broker_print(r, out);
    for (size_t i = 0; i < o->expect.count; i++) {
        const struct expectation *e = &o->expect.items[i];
        fprintf(out, "  expected %s: ", e->text);
        if (e->known) {
            fprintf(out, "%s, it is %.6g\n", e->met ? "met" : "MISSED", e->value);
        } else {
            fputs("MISSED, this run has no such figure\n", out);
        }
    }
    if (r->unsent > 0) {
        fprintf(out,
                "  warning: %" PRIu64
                " messages were due and could not be sent: the rate is beyond what was measured\n",
                r->unsent);
    }
    if (r->slower) {
        fprintf(out, "  warning: %s\n", r->slower_why);
    }
}
