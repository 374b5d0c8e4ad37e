/* mqtt.c -- the names of packets and reason codes, and the few of them that 3.x can say. */
#include "proto/mqtt/mqtt.h"

#include <stddef.h>

const char *mqtt_type_name(enum mqtt_type type)
{
    static const char *const names[16] = {
        "reserved",  "CONNECT", "CONNACK",     "PUBLISH",  "PUBACK",  "PUBREC",   "PUBREL",     "PUBCOMP",
        "SUBSCRIBE", "SUBACK",  "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
    };
    return (unsigned)type < 16 ? names[type] : "reserved";
}

const char *mqtt_reason_name(enum mqtt_reason reason)
{
    static const char *const names[256] = {
        [MQTT_SUCCESS] = "Success",
        [MQTT_GRANTED_QOS_1] = "Granted QoS 1",
        [MQTT_GRANTED_QOS_2] = "Granted QoS 2",
        [MQTT_DISCONNECT_WITH_WILL] = "Disconnect with Will Message",
        [MQTT_NO_MATCHING_SUBSCRIBERS] = "No matching subscribers",
        [MQTT_NO_SUBSCRIPTION_EXISTED] = "No subscription existed",
        [MQTT_CONTINUE_AUTHENTICATION] = "Continue authentication",
        [MQTT_RE_AUTHENTICATE] = "Re-authenticate",
        [MQTT_UNSPECIFIED_ERROR] = "Unspecified error",
        [MQTT_MALFORMED_PACKET] = "Malformed Packet",
        [MQTT_PROTOCOL_ERROR] = "Protocol Error",
        [MQTT_IMPLEMENTATION_SPECIFIC_ERROR] = "Implementation specific error",
        [MQTT_UNSUPPORTED_PROTOCOL_VERSION] = "Unsupported Protocol Version",
        [MQTT_CLIENT_IDENTIFIER_NOT_VALID] = "Client Identifier not valid",
        [MQTT_BAD_USER_NAME_OR_PASSWORD] = "Bad User Name or Password",
        [MQTT_NOT_AUTHORIZED] = "Not authorized",
        [MQTT_SERVER_UNAVAILABLE] = "Server unavailable",
        [MQTT_SERVER_BUSY] = "Server busy",
        [MQTT_BANNED] = "Banned",
        [MQTT_SERVER_SHUTTING_DOWN] = "Server shutting down",
        [MQTT_BAD_AUTHENTICATION_METHOD] = "Bad authentication method",
        [MQTT_KEEP_ALIVE_TIMEOUT] = "Keep Alive timeout",
        [MQTT_SESSION_TAKEN_OVER] = "Session taken over",
        [MQTT_TOPIC_FILTER_INVALID] = "Topic Filter invalid",
        [MQTT_TOPIC_NAME_INVALID] = "Topic Name invalid",
        [MQTT_PACKET_IDENTIFIER_IN_USE] = "Packet Identifier in use",
        [MQTT_PACKET_IDENTIFIER_NOT_FOUND] = "Packet Identifier not found",
        [MQTT_RECEIVE_MAXIMUM_EXCEEDED] = "Receive Maximum exceeded",
        [MQTT_TOPIC_ALIAS_INVALID] = "Topic Alias invalid",
        [MQTT_PACKET_TOO_LARGE] = "Packet too large",
        [MQTT_MESSAGE_RATE_TOO_HIGH] = "Message rate too high",
        [MQTT_QUOTA_EXCEEDED] = "Quota exceeded",
        [MQTT_ADMINISTRATIVE_ACTION] = "Administrative action",
        [MQTT_PAYLOAD_FORMAT_INVALID] = "Payload format invalid",
        [MQTT_RETAIN_NOT_SUPPORTED] = "Retain not supported",
        [MQTT_QOS_NOT_SUPPORTED] = "QoS not supported",
        [MQTT_USE_ANOTHER_SERVER] = "Use another server",
        [MQTT_SERVER_MOVED] = "Server moved",
        [MQTT_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED] = "Shared Subscriptions not supported",
        [MQTT_CONNECTION_RATE_EXCEEDED] = "Connection rate exceeded",
        [MQTT_MAXIMUM_CONNECT_TIME] = "Maximum connect time",
        [MQTT_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED] = "Subscription Identifiers not supported",
        [MQTT_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED] = "Wildcard Subscriptions not supported",
    };
    const char *name = (unsigned)reason < 256 ? names[reason] : NULL;
    return name ? name : "unknown reason code";
}

uint8_t mqtt_connack_code_v3(enum mqtt_reason reason)
{
    switch (reason) {
    case MQTT_UNSUPPORTED_PROTOCOL_VERSION:
        return 1; /* unacceptable protocol level */
    case MQTT_CLIENT_IDENTIFIER_NOT_VALID:
        return 2; /* identifier rejected */
    case MQTT_SERVER_UNAVAILABLE:
    case MQTT_SERVER_BUSY:
    case MQTT_SERVER_SHUTTING_DOWN:
    case MQTT_USE_ANOTHER_SERVER:
    case MQTT_QUOTA_EXCEEDED:
    case MQTT_CONNECTION_RATE_EXCEEDED:
        return 3; /* server unavailable: all of them mean "not now" */
    case MQTT_BAD_USER_NAME_OR_PASSWORD:
        return 4;
    case MQTT_NOT_AUTHORIZED:
    case MQTT_BANNED:
        return 5; /* not authorized */
    default:
        return 0; /* [MQTT311-3.2.2-6] */
    }
}
