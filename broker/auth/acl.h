/* acl.h -- access rules: who may publish, subscribe and receive what. Read from YAML or a token, immutable afterwards.
 *
 *     roles:
 *       operators: [alice, bob]
 *     rules:
 *       - allow: [publish, subscribe]       # or all; publish | subscribe | receive; `subscribe` includes receive
 *         topic: "sites/%u/#"               # a filter or a list of them; %u user, %c client id
 *         user: alice                       # each condition: one value or a list; `*` for any user that has a name
 *         role: operators
 *         client_id: "sensor-*"             # * at the end: prefix
 *         address: 10.0.0.0/8
 *         listener: public                  # its name
 *         qos: [0, 1]                       # publish, subscribe
 *         retain: false                     # publish
 *       - deny: all
 *         topic: "#"
 *
 * The first rule whose conditions and topic fit decides. When no rule fits the answer is ACL_NONE: the caller's
 * default.
 *
 * Topics. A rule's filter is taken as MQTT filters are: "#" and "+/x" do not match topics that begin with '$', so that
 * "deny: all, topic: #" says nothing of $SYS: name those. %u and %c stand for whole values and may be part of a level
 * ("dev-%c/x"); %% is a percent sign. A rule does not fit whoever has no such value, or one that holds '+', '#', '/'
 * (or NUL), or that begins with '$' where the filter begins with it: then an allow rule fits not at all, and a deny
 * rule fits every topic (it errs on the safe side), whatever other filters either has.
 *
 * Conditions. All must hold, each by one of its values. `role`: one that the file's `roles` gives the user, or that the
 * subject brought. `retain` is asked of publishing alone: a rule's other actions are not bound by it. `qos` is asked of
 * publishing and of the QoS that a subscription asks for, not of receiving. There an allow rule fits without it, and a
 * deny rule with it does not fit: it cannot withhold at delivery, so it denies subscriptions that it overlaps, not only
 * those that it covers.
 *
 * Whatever is unknown, empty, null, given twice, an alias or nested is refused, for it was meant to be something; so is
 * a '*' elsewhere than above. Both sections may lack or be empty, and a role may have no users. Bounds: 16 MiB, 100,000
 * rules and as many roles, 1,000 values a list, 65,535 bytes a value. */
#ifndef TERN_BROKER_AUTH_ACL_H
#define TERN_BROKER_AUTH_ACL_H

#include <netinet/in.h>

#include "proto/base/slice.h"

struct acl;

enum acl_action { ACL_PUBLISH, ACL_SUBSCRIBE, ACL_RECEIVE };
enum acl_verdict { ACL_NONE, ACL_ALLOW, ACL_DENY };

/* Who asks. Everything borrowed. */
struct acl_subject {
    struct slice user; /* empty: anonymous */
    struct slice client_id;
    struct slice listener;     /* its name */
    const struct slice *roles; /* that it brought itself (token claims); the file's roles are added */
    unsigned role_count;
    struct in6_addr address; /* IPv4 mapped; all zero: not known (a Unix socket). An address condition then fits deny
                                rules and no allow rule */
};

struct acl_request {
    enum acl_action action;
    struct slice topic; /* SUBSCRIBE: a filter, without $share/NAME/ */
    uint8_t qos;
    bool retain;
};

/* Read a file. Returns 0, -ENOMEM, or -EINVAL with "FILE:LINE: what is wrong" in error ("FILE: ..." of a file that
 * cannot be read or is too large); one mistake refuses the file. */
int acl_read(const char *path, char *error, size_t error_size, struct acl **ret_acl);
int acl_parse(struct slice text, const char *name, char *error, size_t error_size, struct acl **ret_acl);

/* Rules from a token's claim: the JSON text of a list of the same mappings ([{"allow": "publish", "topic": "a/#"},
 * ...]), at most 256 rules. JSON is YAML enough: one parser. Errors begin with "claim:LINE:". */
int acl_parse_claim(struct slice json, char *error, size_t error_size, struct acl **ret_acl);

/* The text that acl_parse_claim made it from, so that it can be kept and read again. Empty for those of a file. */
struct slice acl_claim(const struct acl *acl);

void acl_free(struct acl *acl); /* NULL is allowed */
size_t acl_count(const struct acl *acl);

/* Decide. PUBLISH and RECEIVE: about one topic name. SUBSCRIBE: an allow rule fits a filter all of whose topics one of
 * its own filters covers; a deny rule fits likewise. What a deny rule covers in part is withheld at delivery:
 * *ret_partial (may be NULL) is set to whether, before the deciding rule, a deny rule that fits the subject for
 * subscribe or receive overlaps the filter, so that each message has to be asked for with ACL_RECEIVE; with no deciding
 * rule it is set likewise. It is false for other actions. RECEIVE is decided by rules for receive and by those for
 * subscribe. */
enum acl_verdict acl_check(const struct acl *acl, const struct acl_subject *subject, const struct acl_request *request,
                           bool *ret_partial);

/* Whether every topic that `filter` matches is matched by `by`; whether there is one that both match. Of valid filters;
 * a topic name is one, too. */
bool acl_filter_covers(struct slice by, struct slice filter);
bool acl_filter_overlaps(struct slice a, struct slice b);

#endif
