/* log.h -- one line an event: key=value text or a JSON object, levelled and rate limited.
 *
 *     log_event(LOG_INFO, "client_connected", {"client", LOG_SLICE(id)}, {"version", LOG_INT(5)});
 *     ts=2026-11-22T10:00:00.000Z level=info event=client_connected client=a version=5
 *
 * Values come as typed arguments, so that escaping is the logger's affair and nobody prints what a
 * client sent as it came: control characters, quotes and ill-formed UTF-8 are escaped, long values cut.
 * Lines of one event name beyond 20 in one second (per thread) are counted, and the next line of that
 * name says suppressed=N. Safe from every thread; one write(2) a line. */
#ifndef TERN_PROTO_BASE_LOG_H
#define TERN_PROTO_BASE_LOG_H

#include "proto/base/slice.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_value {
    enum { LOG_KIND_SLICE, LOG_KIND_INT } kind;
    struct slice slice;
    int64_t number;
};
struct log_field {
    const char *key; /* NULL: end */
    struct log_value value;
};

#define LOG_SLICE(s) ((struct log_value){.kind = LOG_KIND_SLICE, .slice = (s)})
#define LOG_STR(text) LOG_SLICE(slice_str(text))
#define LOG_INT(n) ((struct log_value){.kind = LOG_KIND_INT, .number = (int64_t)(n)})

/* log_event(LOG_INFO, "listener_open", {"address", LOG_STR(text)}, {"port", LOG_INT(port)}); */
#define log_event(level, event, ...) \
    do { \
        if ((level) <= log_level_now()) { \
            log_write((level), (const struct log_field[]){{"event", LOG_STR(event)}, ##__VA_ARGS__, {NULL, {0}}}); \
        } \
    } while (0)

enum log_level log_level_now(void);
/* fields[0] is the event's name; the list ends with a NULL key. */
void log_write(enum log_level level, const struct log_field *fields);

/* Set up: fd stays the caller's. May be called again (reload). */
void log_setup(int fd, enum log_level level, enum log_format format);

#endif
