/* topic.h -- topic names and topic filters (5.0, chapter 4.7 and 4.8). */
#ifndef TERN_PROTO_MQTT_TOPIC_H
#define TERN_PROTO_MQTT_TOPIC_H

#include "proto/base/slice.h"

/* Whether s may be published to: at least one character, no wildcard, no U+0000, at most levels_max levels
 * [MQTT-4.7.3-1] [MQTT-3.3.2-2]. UTF-8 has been checked by the cursor. */
bool mqtt_topic_valid(struct slice s, unsigned levels_max);

/* Whether s is a topic filter, `$share` left aside [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1]. */
bool mqtt_filter_valid(struct slice s, unsigned levels_max);

/* Whether the filter has a `+` or a `#` level. */
bool mqtt_filter_has_wildcard(struct slice filter);

/* Split `$share/{name}/{filter}`. Returns 0 when s does not begin with `$share/` (*ret_filter = s, *ret_share empty),
 * 1 when it is a well-formed shared subscription, -1 when it is an ill-formed one [MQTT-4.8.2-1] [MQTT-4.8.2-2].
 * The filter inside is not checked. */
int mqtt_share_split(struct slice s, struct slice *ret_share, struct slice *ret_filter);

/* Whether a valid filter matches a valid topic name: the plain definition, level by level, that every index in the
 * broker must agree with. A leading wildcard does not match a topic that begins with `$` [MQTT-4.7.2-1]. */
bool mqtt_filter_matches(struct slice filter, struct slice topic);

/* Take the level in front of the next '/' off *rest. Returns false when nothing is left; a trailing '/' yields one
 * more, empty level. Start with *done = false. */
bool mqtt_level_next(struct slice *rest, bool *done, struct slice *ret_level);

#endif
