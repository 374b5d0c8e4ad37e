/* topic.c -- topic names and filters, read as they are defined. Indexes elsewhere are faster and must agree. */
#include "proto/mqtt/topic.h"

bool mqtt_topic_valid(struct slice s, unsigned levels_max)
{
    unsigned levels = 1;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t byte = s.ptr[i];
        if (byte == '+' || byte == '#' || byte == 0) { /* [MQTT-3.3.2-2] [MQTT-4.7.3-2] */
            return false;
        }
        levels += byte == '/';
    }
    return s.len > 0 && levels <= levels_max; /* [MQTT-4.7.3-1] */
}

bool mqtt_filter_valid(struct slice s, unsigned levels_max)
{
    struct slice rest = s, level;
    bool done = false;
    unsigned levels = 0;

    if (s.len == 0) { /* [MQTT-4.7.3-1] */
        return false;
    }
    while (mqtt_level_next(&rest, &done, &level)) {
        if (++levels > levels_max) {
            return false;
        }
        for (size_t i = 0; i < level.len; i++) {
            uint8_t byte = level.ptr[i];
            if (byte == 0) { /* [MQTT-4.7.3-2] */
                return false;
            }
            if ((byte == '+' || byte == '#') && level.len != 1) { /* [MQTT-4.7.1-1] [MQTT-4.7.1-2] */
                return false;
            }
            if (byte == '#' && !done) { /* [MQTT-4.7.1-1] */
                return false;
            }
        }
    }
    return true;
}

bool mqtt_filter_has_wildcard(struct slice filter)
{
    struct slice level;
    bool done = false;
    while (mqtt_level_next(&filter, &done, &level)) {
        if (level.len == 1 && (level.ptr[0] == '+' || level.ptr[0] == '#')) {
            return true;
        }
    }
    return false;
}

int mqtt_share_split(struct slice s, struct slice *ret_share, struct slice *ret_filter)
{
    const struct slice prefix = SLICE("$share/");
    if (s.len < prefix.len || memcmp(s.ptr, prefix.ptr, prefix.len) != 0) {
        *ret_share = (struct slice){NULL, 0};
        *ret_filter = s;
        return 0;
    }
    struct slice rest = slice_drop(s, prefix.len), share;
    bool done = false;
    (void)mqtt_level_next(&rest, &done, &share);
    if (share.len == 0 || memchr(share.ptr, '+', share.len) || memchr(share.ptr, '#', share.len)) {
        return -1; /* [MQTT-4.8.2-1] [MQTT-4.8.2-2] */
    }
    if (done || rest.len == 0) { /* [MQTT-4.8.2-2] */
        return -1;
    }
    *ret_share = share;
    *ret_filter = rest;
    return 1;
}

bool mqtt_filter_matches(struct slice filter, struct slice topic)
{
    struct slice want, have;
    bool filter_done = false, topic_done = false;

    if (topic.len > 0 && topic.ptr[0] == '$' && filter.len > 0 && filter.ptr[0] != '$') {
        return false; /* a plain first level differs anyway, a wildcard is not to match [MQTT-4.7.2-1] */
    }
    while (mqtt_level_next(&filter, &filter_done, &want)) {
        if (slice_eq(want, SLICE("#"))) {
            return true; /* also the parent level, where the topic has ended */
        }
        if (!mqtt_level_next(&topic, &topic_done, &have)) {
            return false;
        }
        if (!slice_eq(want, SLICE("+")) && !slice_eq(want, have)) {
            return false;
        }
    }
    return topic_done;
}

bool mqtt_level_next(struct slice *rest, bool *done, struct slice *ret_level)
{
    if (*done) {
        return false;
    }
    const uint8_t *slash = rest->len > 0 ? memchr(rest->ptr, '/', rest->len) : NULL;
    if (!slash) {
        *ret_level = *rest;
        *rest = (struct slice){NULL, 0};
        *done = true;
        return true;
    }
    size_t len = (size_t)(slash - rest->ptr);
    *ret_level = slice_of(rest->ptr, len);
    *rest = slice_drop(*rest, len + 1);
    return true;
}
