/* login.h -- from a CONNECT to the principal behind it, AUTH included (flow/login.c). */
#ifndef TERN_BROKER_FLOW_LOGIN_H
#define TERN_BROKER_FLOW_LOGIN_H

#include "broker/flow/broker.h"
#include "proto/mqtt/connect.h"

enum login_status {
    LOGIN_YES,
    LOGIN_NO,    /* *ret_reason and *ret_why say why */
    LOGIN_AGAIN, /* the connection is paused; this CONNECT is handled again later */
    LOGIN_SENT,  /* AUTH was sent; the CONNECT is kept and handled again when the exchange is over */
};

/* Ask who a client is, or have the answer that came meanwhile. frame is the CONNECT's. */
enum login_status login_check(struct conn *conn, const struct mqtt_connect *connect, const struct mqtt_frame *frame,
                              enum mqtt_reason *ret_reason, const char **ret_why);

/* Another node has found out who it is: its principal (taken over on success; NULL: anonymous), Authentication Method
 * and the data for the CONNACK. 0 or -ENOMEM. */
int login_trust(struct conn *conn, struct principal *principal, struct slice method, struct slice data);
/* What the proof demands or brings; only after LOGIN_YES. */
struct principal *login_principal(const struct conn *conn); /* borrowed; NULL: anonymous */
struct slice login_client_id(const struct conn *conn);      /* empty: any */
/* Add Authentication Method and Data to what the CONNACK says [MQTT-4.12.0-5]. */
void login_connack(const struct conn *conn, struct mqtt_properties *properties);

/* The CONNACK is sent: forget all but the method, for re-authentication. */
void login_opened(struct conn *conn);

/* AUTH from the client, before or after its CONNACK. */
bool login_auth(struct conn *conn, const struct mqtt_frame *frame);
/* Whether an exchange is going on before CONNACK: nothing but AUTH and DISCONNECT may come [MQTT-3.1.2-30]. */
bool login_exchanging(const struct conn *conn);

/* End of turn: exchanges that are over. */
void login_run(struct broker *b);

/* Whether the certificate or the key, by which TLS let it in, is still taken after a reload. */
bool login_certificate_still(const struct conn *conn);

/* Ask the HTTP service about one action of the packet at hand; ACL_NONE: paused, the packet is to be handled again, and
 * this will know. key identifies the action. login_packet_done forgets the answers of a packet. */
enum acl_verdict login_rule(struct conn *conn, uint64_t key, const struct acl_subject *subject,
                            const struct acl_request *request, uint64_t *ret_max_age_ms);
void login_packet_done(struct conn *conn);

/* The connection ends, or its memory is about to be freed. */
void login_free(struct conn *conn);

#endif
