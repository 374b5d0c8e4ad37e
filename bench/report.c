/* report.c -- figures from counts, and the two ways to print them. */
#include "bench/report.h"

#include <inttypes.h>
#include <math.h>

struct figures {
    double seconds, messages_per_s; /* messages in and messages out */
    double cpu_us_per_message;      /* NAN: not measured */
    double rss_bytes_per_client;    /* NAN: not measured; idle only */
    uint64_t broker_cpu_us;
};

static struct figures figures_of(const struct scenario_options *o, const struct scenario_result *r)
{
    struct figures f = {.cpu_us_per_message = NAN, .rss_bytes_per_client = NAN};
    uint64_t messages = r->sent + r->received;

    f.seconds = (double)r->measured_us / 1e6;
    f.messages_per_s = r->measured_us > 0 ? (double)messages / f.seconds : 0;
    if (o->pid <= 0 || r->measured_us == 0) {
        return f;
    }
    f.broker_cpu_us = process_cpu_us(&r->from, &r->to);
    if (messages > 0) {
        f.cpu_us_per_message = (double)f.broker_cpu_us / (double)messages;
    }
    if (o->kind == SCENARIO_IDLE) {
        f.rss_bytes_per_client = ((double)r->to.rss_bytes - (double)r->before.rss_bytes) / r->clients;
    }
    return f;
}

static void text_traffic(FILE *out, const struct scenario_options *o, const struct scenario_result *r,
                         const struct figures *f)
{
    fprintf(out,
            "messages    %" PRIu64 " in, %" PRIu64 " out in %.2f s: %.0f a second (QoS %u, %u bytes, %u a write, "
            "window %u)\n",
            r->sent, r->received, f->seconds, f->messages_per_s, o->qos, o->payload_bytes, o->batch, o->window);
    if (!isnan(f->cpu_us_per_message)) {
        fprintf(out, "cpu         %.3f us a message in or out\n", f->cpu_us_per_message);
    }
}

static void text_broker(FILE *out, const struct scenario_options *o, const struct scenario_result *r,
                        const struct figures *f)
{
    if (o->pid <= 0 || r->measured_us == 0) {
        return;
    }
    fprintf(out, "broker      %.2f s of cpu (%.2f user, %.2f system); RSS %" PRIu64 " KiB before, %" PRIu64 " after\n",
            (double)f->broker_cpu_us / 1e6, (double)(r->to.user_us - r->from.user_us) / 1e6,
            (double)(r->to.system_us - r->from.system_us) / 1e6, r->before.rss_bytes >> 10, r->to.rss_bytes >> 10);
    for (uint32_t i = 0; i < r->to.thread_count; i++) {
        const struct process_thread *thread = &r->to.threads[i];
        uint64_t used = thread->cpu_us - process_thread_cpu_us(&r->from, thread->tid);
        if (used > 0) {
            fprintf(out, "  thread    %.2f s  %s\n", (double)used / 1e6, thread->name);
        }
    }
}

void report_text(FILE *out, const struct scenario_options *options, const struct scenario_result *result)
{
    struct figures f = figures_of(options, result);

    fprintf(out, "%-11s %u clients, set up in %.2f s\n", scenario_name(options->kind), result->clients,
            (double)result->setup_us / 1e6);
    if (options->kind != SCENARIO_IDLE) {
        text_traffic(out, options, result, &f);
    } else if (!isnan(f.rss_bytes_per_client)) {
        fprintf(out, "memory      %.0f bytes of RSS a client\n", f.rss_bytes_per_client);
    }
    text_broker(out, options, result, &f);
    fprintf(out, "self        %.2f s of cpu\n", (double)result->own_cpu_us / 1e6);
    fprintf(out,
            "faults      %" PRIu64 " lost, %" PRIu64 " duplicated, %" PRIu64 " reordered, %" PRIu64
            " misdelivered, %" PRIu64 " unacknowledged, %" PRIu64 " misacknowledged, %" PRIu64 " refused, %" PRIu64
            " disconnected\n",
            result->lost, result->duplicated, result->reordered, result->misdelivered, result->unacknowledged,
            result->misacknowledged, result->refused, result->disconnected);
    if (result->why[0] != 0) {
        fprintf(out, "because     %s\n", result->why);
    }
}

static void json_number(FILE *out, const char *name, double value)
{
    if (isnan(value)) {
        fprintf(out, ",\"%s\":null", name);
    } else {
        fprintf(out, ",\"%s\":%.3f", name, value);
    }
}

static void json_count(FILE *out, const char *name, uint64_t value)
{
    fprintf(out, ",\"%s\":%" PRIu64, name, value);
}

static void json_text(FILE *out, const char *name, const char *text)
{
    fprintf(out, ",\"%s\":\"", name);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            fprintf(out, "\\%c", c);
        } else if (c < 0x20 || c >= 0x7f) { /* thread names may hold any byte */
            fprintf(out, "\\u%04x", c);
        } else {
            fputc(c, out);
        }
    }
    fputc('"', out);
}

static void json_broker(FILE *out, const struct scenario_result *r, const struct figures *f)
{
    json_count(out, "broker_cpu_us", f->broker_cpu_us);
    json_count(out, "broker_user_us", r->to.user_us - r->from.user_us);
    json_count(out, "broker_system_us", r->to.system_us - r->from.system_us);
    json_count(out, "rss_before_bytes", r->before.rss_bytes);
    json_count(out, "rss_after_bytes", r->to.rss_bytes);
    fputs(",\"threads\":[", out);
    for (uint32_t i = 0; i < r->to.thread_count; i++) {
        const struct process_thread *thread = &r->to.threads[i];
        fprintf(out, "%s{\"tid\":%d", i > 0 ? "," : "", (int)thread->tid);
        json_text(out, "name", thread->name);
        json_count(out, "cpu_us", thread->cpu_us - process_thread_cpu_us(&r->from, thread->tid));
        fputc('}', out);
    }
    fputc(']', out);
}

void report_json(FILE *out, const struct scenario_options *o, const struct scenario_result *r)
{
    struct figures f = figures_of(o, r);

    fprintf(out,
            "{\"scenario\":\"%s\",\"version\":%d,\"clients\":%u,\"qos\":%u,\"payload_bytes\":%u,\"batch\":%u,"
            "\"window\":%u",
            scenario_name(o->kind), (int)o->target.version, r->clients, o->qos, o->payload_bytes, o->batch, o->window);
    json_number(out, "setup_s", (double)r->setup_us / 1e6);
    json_number(out, "measured_s", f.seconds);
    json_count(out, "sent", r->sent);
    json_count(out, "received", r->received);
    json_count(out, "sent_total", r->sent_total);
    json_count(out, "received_total", r->received_total);
    json_number(out, "messages_per_s", f.messages_per_s);
    json_number(out, "cpu_us_per_message", f.cpu_us_per_message);
    json_number(out, "rss_bytes_per_client", f.rss_bytes_per_client);
    json_count(out, "own_cpu_us", r->own_cpu_us);
    json_count(out, "lost", r->lost);
    json_count(out, "duplicated", r->duplicated);
    json_count(out, "reordered", r->reordered);
    json_count(out, "misdelivered", r->misdelivered);
    json_count(out, "unacknowledged", r->unacknowledged);
    json_count(out, "misacknowledged", r->misacknowledged);
    json_count(out, "refused", r->refused);
    json_count(out, "disconnected", r->disconnected);
    if (o->pid > 0 && r->measured_us > 0) {
        json_broker(out, r, &f);
    }
    json_text(out, "why", r->why);
    fputs("}\n", out);
}
