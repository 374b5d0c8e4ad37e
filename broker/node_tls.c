#include "broker/node_tls.h"

#include <errno.h>
#include <stdio.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"

#define WARN_S (30 * 24 * 3600)

int node_tls_read(const struct node_tables *t, struct tls_context *contexts[CONFIG_LISTENERS_MAX], char *error,
                  size_t error_size)
{
    for (unsigned i = 0; i < t->listener_count; i++) {
        const struct listener *l = &t->listeners[i];
        const struct config_listener *c = l->config;
        char why[900];

        if (!l->tls) {
            continue;
        }
        struct tls_settings settings = {
            .certificates = c->tls.certificate,
            .keys = c->tls.key,
            .ocsp_responses = c->tls.ocsp_response,
            .client_ca = c->tls.client_ca,
            .crl = c->tls.crl,
            .client_certificate = c->tls.client_certificate,
            .psk_file = c->tls.psk_file,
            .psk_hint = c->tls.psk_hint,
            .min_version = c->tls.min_version == 1 ? 13 : 12,
            .ciphers = c->tls.ciphers,
            .ciphersuites = c->tls.ciphersuites,
            .groups = c->tls.groups,
            .alpn = l->websocket ? "http/1.1" : "mqtt",
            .tickets = c->tls.tickets,
        };
        int rc = tls_server_context_new(&settings, why, sizeof(why), &contexts[i]);
        if (rc) {
            snprintf(error, error_size, "%s: %s", l->name, rc == -ENOMEM ? "out of memory" : why);
            return rc;
        }
    }
    return 0;
}

bool node_tls_load(struct node_tables *t)
{
    struct tls_context *contexts[CONFIG_LISTENERS_MAX] = {0};
    char error[1024];
    int rc = node_tls_read(t, contexts, error, sizeof(error));

    for (unsigned i = 0; i < t->listener_count; i++) {
        atomic_store(&t->listeners[i].tls_context,
                     contexts[i]); /* also what was read before the mistake: freed with it */
    }
    if (rc) {
        log_event(LOG_ERROR, "tls_failed", {"error", LOG_STR(error)});
    }
    return rc == 0;
}

void node_tls_watch(const struct node_tables *t, struct metrics *metrics)
{
    int64_t now = (int64_t)(clock_wall_ms() / 1000), first = INT64_MAX;

    for (unsigned i = 0; i < t->listener_count; i++) {
        const struct tls_context *context = atomic_load(&((struct listener *)&t->listeners[i])->tls_context);
        const char *file = NULL;
        int64_t ends = context ? tls_context_expires(context, &file) : INT64_MAX;

        first = ends < first ? ends : first;
        if (ends != INT64_MAX && ends - now < WARN_S) {
            log_event(LOG_WARN, ends <= now ? "certificate_expired" : "certificate_expires", {"file", LOG_STR(file)},
                      {"listener", LOG_STR(t->listeners[i].name)}, {"days", LOG_INT((ends - now) / (24 * 3600))});
        }
    }
    __atomic_store_n(&metrics->values[METRIC_CERTIFICATE_EXPIRES], first == INT64_MAX ? 0 : (uint64_t)first,
                     __ATOMIC_RELAXED);
}
