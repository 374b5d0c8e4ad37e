/* utf8.h -- UTF-8 as MQTT wants it. */
#ifndef TERN_PROTO_BASE_UTF8_H
#define TERN_PROTO_BASE_UTF8_H

#include "proto/base/slice.h"

/* Whether s is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF)
 * [MQTT-1.5.4-1] and holds no U+0000 [MQTT-1.5.4-2]. U+FEFF is a character like any other
 * [MQTT-1.5.4-3]; control characters and non-characters are let through, as the specification
 * allows. Runs of ASCII are checked eight bytes at a time. */
bool utf8_valid(struct slice s);

#endif
