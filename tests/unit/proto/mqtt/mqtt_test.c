#include "proto/mqtt/mqtt.h"

#include "tests/lib/unit.h"

static void test_type_names(void)
{
    CHECK(strcmp(mqtt_type_name(MQTT_CONNECT), "CONNECT") == 0);
    CHECK(strcmp(mqtt_type_name(MQTT_UNSUBSCRIBE), "UNSUBSCRIBE") == 0);
    CHECK(strcmp(mqtt_type_name(MQTT_DISCONNECT), "DISCONNECT") == 0);
    CHECK(strcmp(mqtt_type_name(MQTT_AUTH), "AUTH") == 0);
    CHECK(strcmp(mqtt_type_name((enum mqtt_type)0), "reserved") == 0);
    CHECK(strcmp(mqtt_type_name((enum mqtt_type)16), "reserved") == 0);
    for (unsigned a = 1; a < 16; a++) {
        for (unsigned b = 0; b < a; b++) {
            CHECK(strcmp(mqtt_type_name((enum mqtt_type)a), mqtt_type_name((enum mqtt_type)b)) != 0);
        }
    }
}

/* The names are the specification's; each code has its own, and what is no code has none. */
static void test_reason_names(void)
{
    unsigned known = 0;
    CHECK(strcmp(mqtt_reason_name(MQTT_SUCCESS), "Success") == 0);
    CHECK(strcmp(mqtt_reason_name(MQTT_SESSION_TAKEN_OVER), "Session taken over") == 0);
    CHECK(strcmp(mqtt_reason_name((enum mqtt_reason)0xa2), "Wildcard Subscriptions not supported") == 0);
    CHECK(strcmp(mqtt_reason_name((enum mqtt_reason)0x03), "unknown reason code") == 0);
    CHECK(strcmp(mqtt_reason_name((enum mqtt_reason)256), "unknown reason code") == 0);
    for (unsigned a = 0; a < 256; a++) {
        const char *name = mqtt_reason_name((enum mqtt_reason)a);
        if (strcmp(name, "unknown reason code") == 0) {
            continue;
        }
        known++;
        for (unsigned b = 0; b < a; b++) {
            CHECK_CASE(name, strcmp(name, mqtt_reason_name((enum mqtt_reason)b)) != 0);
        }
    }
    CHECK(known == 43); /* table 2-6, where 0x00 has three names */
}

static void test_connack_code(void)
{
    static const struct {
        const char *name;
        enum mqtt_reason reason;
        uint8_t want;
    } rows[] = {
        {"version", MQTT_UNSUPPORTED_PROTOCOL_VERSION, 1},
        {"identifier", MQTT_CLIENT_IDENTIFIER_NOT_VALID, 2},
        {"unavailable", MQTT_SERVER_UNAVAILABLE, 3},
        {"busy", MQTT_SERVER_BUSY, 3},
        {"quota", MQTT_QUOTA_EXCEEDED, 3},
        {"rate", MQTT_CONNECTION_RATE_EXCEEDED, 3},
        {"password", MQTT_BAD_USER_NAME_OR_PASSWORD, 4},
        {"not authorized", MQTT_NOT_AUTHORIZED, 5},
        {"banned", MQTT_BANNED, 5},
        {"malformed has none [MQTT311-3.2.2-6]", MQTT_MALFORMED_PACKET, 0},
        {"protocol error has none [MQTT311-3.2.2-6]", MQTT_PROTOCOL_ERROR, 0},
        {"too large has none [MQTT311-3.2.2-6]", MQTT_PACKET_TOO_LARGE, 0},
        {"moved has none [MQTT311-3.2.2-6]", MQTT_SERVER_MOVED, 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        CHECK_CASE(rows[i].name, mqtt_connack_code_v3(rows[i].reason) == rows[i].want);
    }
}

UNIT_MAIN("proto/mqtt/mqtt", {"type names", test_type_names}, {"reason names", test_reason_names},
          {"return codes of 3.x", test_connack_code})
