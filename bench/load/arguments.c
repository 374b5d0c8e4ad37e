/* arguments.c -- what stands behind a flag. */
#include "bench/load/arguments.h"

#include <netdb.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/payload.h"

bool argument_wrong(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("tern-bench: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\n", stderr);
    va_end(args);
    return false;
}

bool argument_number(const char *flag, const char *text, double least, double most, double *ret_value)
{
    char *end;
    double value = strtod(text, &end);

    if (end != text && (*end == 'k' || *end == 'M')) {
        value *= *end++ == 'k' ? 1e3 : 1e6;
    }
    if (end == text || *end != 0 || !(value >= least && value <= most)) {
        return argument_wrong("--%s: %s is not a number from %.15g to %.15g", flag, text, least, most);
    }
    *ret_value = value;
    return true;
}

bool argument_whole(const char *flag, const char *text, uint32_t least, uint32_t most, uint32_t *ret_value)
{
    double value;

    if (!argument_number(flag, text, least, most, &value)) {
        return false;
    }
    if (value != (double)(uint32_t)value) {
        return argument_wrong("--%s: %s is not a whole number", flag, text);
    }
    *ret_value = (uint32_t)value;
    return true;
}

/* Call take for each part of a list with commas; there must be one. */
static bool each(const char *flag, char *list, bool (*take)(struct options *o, char *part), struct options *o)
{
    char *rest = NULL;
    bool any = false;

    for (char *part = strtok_r(list, ",", &rest); part; part = strtok_r(NULL, ",", &rest)) {
        if (!take(o, part)) {
            return false;
        }
        any = true;
    }
    return any || argument_wrong("--%s: nothing is named", flag);
}

/* --- addresses --------------------------------------------------------------------------------------------------- */

static bool resolve(const char *host, const char *port, struct sockaddr_storage *ret_address, socklen_t *ret_len)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;

    if (getaddrinfo(host, port, &hints, &found) != 0) {
        return false;
    }
    memcpy(ret_address, found->ai_addr, found->ai_addrlen);
    *ret_len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

/* HOST, HOST:PORT, [V6] or [V6]:PORT; a name with more than one colon is an IPv6 address. */
static bool take_host(struct options *o, char *part)
{
    char port[8], *name = part, *colon = strrchr(part, ':');
    struct host *host = &o->hosts[o->host_count];

    if (o->host_count == HOSTS_MAX) {
        return argument_wrong("--host: more than %d of them", HOSTS_MAX);
    }
    snprintf(host->name, sizeof(host->name), "%s", part);
    snprintf(port, sizeof(port), "%u", o->port);
    if (*name == '[') {
        char *end = strchr(name, ']');
        if (!end) {
            return argument_wrong("--host: %s has no closing bracket", part);
        }
        colon = end[1] == ':' ? end + 1 : NULL;
        *end = 0;
        name++;
    } else if (colon && strchr(part, ':') != colon) {
        colon = NULL;
    }
    if (colon) {
        char *end;
        unsigned long value = strtoul(colon + 1, &end, 10);
        if (*end != 0 || end == colon + 1 || value < 1 || value > 65535) {
            return argument_wrong("--host: %s is not a port", colon + 1);
        }
        snprintf(port, sizeof(port), "%lu", value);
        *colon = 0;
    }
    if (!resolve(name, port, &host->address, &host->address_len)) {
        return argument_wrong("--host: there is no host %s", name);
    }
    o->host_count++;
    return true;
}

static bool take_source(struct options *o, char *part)
{
    socklen_t len;

    if (o->source_count == SOURCES_MAX) {
        return argument_wrong("--ifaddr: more than %d of them", SOURCES_MAX);
    }
    if (!resolve(part, "0", &o->sources[o->source_count], &len)) {
        return argument_wrong("--ifaddr: %s is not an address", part);
    }
    o->source_count++;
    return true;
}

static bool take_pid(struct options *o, char *part)
{
    uint32_t pid = 0;
    uint64_t cpu_ns;

    if (o->pid_count == PROCESSES_MAX) {
        return argument_wrong("--pid: more than %d of them", PROCESSES_MAX);
    }
    if (!argument_whole("pid", part, 1, 1u << 22, &pid)) {
        return false;
    }
    if (process_cpu((pid_t)pid, &cpu_ns) != 0) {
        return argument_wrong("--pid: there is no process %u, or it may not be looked at", pid);
    }
    o->pids[o->pid_count++] = (pid_t)pid;
    return true;
}

bool argument_hosts(struct options *o, char *list)
{
    return each("host", list, take_host, o);
}

bool argument_sources(struct options *o, char *list)
{
    return each("ifaddr", list, take_source, o);
}

bool argument_pids(struct options *o, char *list)
{
    return each("pid", list, take_pid, o);
}

/* --- words ------------------------------------------------------------------------------------------------------- */

bool argument_size(struct options *o, const char *text)
{
    struct size_plan *size = &o->size;
    unsigned least, most;
    char rest;

    snprintf(o->size_text, sizeof(o->size_text), "%s", text);
    if (sscanf(text, "exp:%u%c", &least, &rest) == 1) {
        *size = (struct size_plan){SIZE_EXPONENTIAL, least,
                                   least > PAYLOAD_BYTES_MAX / 16 ? PAYLOAD_BYTES_MAX : least * 16};
        most = least;
    } else if (sscanf(text, "%u-%u%c", &least, &most, &rest) == 2) {
        *size = (struct size_plan){SIZE_RANGE, least, most};
    } else if (sscanf(text, "%u%c", &least, &rest) == 1) {
        most = least;
        *size = (struct size_plan){SIZE_FIXED, least, least};
    } else {
        return argument_wrong("--size: %s is not a size (examples: 64, 16-1024, exp:200)", text);
    }
    if (least < PAYLOAD_HEAD_BYTES || most < least || most > PAYLOAD_BYTES_MAX) {
        return argument_wrong("--size: %s is not within %u to %u bytes (the first 16 say who, which and when)", text,
                              PAYLOAD_HEAD_BYTES, PAYLOAD_BYTES_MAX);
    }
    return true;
}

bool argument_bool(const char *flag, const char *text, bool *ret_value)
{
    bool yes = strcmp(text, "true") == 0;

    if (!yes && strcmp(text, "false") != 0) {
        return argument_wrong("--%s: %s is neither true nor false", flag, text);
    }
    *ret_value = yes;
    return true;
}

bool argument_io(struct options *o, const char *text)
{
    static const char *const names[] = {"auto", "io_uring", "epoll"};

    for (unsigned i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            o->io = (enum io_backend)i;
            return true;
        }
    }
    return argument_wrong("--io: %s is none of auto, io_uring, epoll", text);
}
