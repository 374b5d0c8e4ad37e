/* scram.h -- the server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) as MQTT 5 carries it in AUTH (4.12).
 *
 *     client-first  --> scram_first  --> server-first
 *     client-final  --> scram_final  --> server-final, or no
 *
 * No channel binding (n or y in the GS2 header; p is refused), no authzid but the user's own name. An unknown user gets
 * a server-first made from a secret and fails at the end, like a wrong password. No IO; costs a few hashes. */
#ifndef TERN_BROKER_AUTH_SCRAM_H
#define TERN_BROKER_AUTH_SCRAM_H

#include "broker/auth/passwd.h"

struct scram;

/* Begin: parse client-first, append server-first to out. The user's name is looked up in passwd. Returns 0; -EACCES
 * when the message is not one of RFC 5802 or asks for what we do not do; -ENOMEM. */
int scram_first(const struct passwd *passwd, struct slice client_first, struct buf *out, struct scram **ret_scram);

/* End: check client-final, append server-final to out. Returns 0: the client is scram_user; -EACCES: it is not;
 * -ENOMEM. */
int scram_final(struct scram *scram, struct slice client_final, struct buf *out);

struct slice scram_user(const struct scram *scram);    /* unescaped; borrowed */
uint64_t scram_fingerprint(const struct scram *scram); /* passwd_fingerprint of its entry; 0: unknown user */
void scram_free(struct scram *scram);                  /* NULL is allowed */

#endif
