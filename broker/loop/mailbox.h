/* mailbox.h -- mail between shards: one single-producer, single-consumer ring for each ordered pair.
 *
 * Why: shards share nothing that they can change, so they tell each other. A ring is as fast as the memory, keeps the
 * order of each pair, and a wake-up is paid once a turn for all mail to one shard, and only if that shard sleeps.
 *
 * A ring holds MAIL_RING_SLOTS mails. What does not fit waits with the sender, in order, and `mail_congested` tells the
 * sender to stop taking on work until it has gone out: that is the bound. */
#ifndef TERN_BROKER_LOOP_MAILBOX_H
#define TERN_BROKER_LOOP_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

#define MAIL_RING_SLOTS 8192
#define MAIL_RESERVE 512 /* places of each pair that are kept for answers */

/* 48 bytes; the meaning of the fields depends on the kind (broker/flow/dispatch.h). Ownership of what ptr points to
 * passes with the mail. */
struct mail {
    uint16_t kind;
    uint16_t from; /* set by mail_post */
    uint32_t n;
    void *ptr, *ptr2;
    uint64_t a, b, c;
};

struct mail_office; /* all rings of a node; made before the shards' threads, freed after them */

int mail_office_new(unsigned shard_count, struct mail_office **ret_office);
void mail_office_free(struct mail_office *office); /* mail still inside is forgotten: drain first */

/* Put a mail on the way from shard `from` (the calling thread's) to shard `to`; to == from is allowed and arrives in
 * the next drain. Visible to the receiver after mail_flush. Returns 0, or -ENOMEM when neither ring nor overflow had
 * room beside the reserve: not sent. */
int mail_post(struct mail_office *office, unsigned from, unsigned to, const struct mail *mail);

/* The same for an answer, which somebody waits for: it may use the reserve. So memory must be out, the receiver behind
 * by a whole ring, and MAIL_RESERVE answers given meanwhile, before this fails. */
int mail_post_answer(struct mail_office *office, unsigned from, unsigned to, const struct mail *mail);

/* End of turn: publish everything posted by `from`, refill rings from the overflow. Returns the bit mask of shards that
 * got mail and were asleep: the caller wakes each of them. */
uint64_t mail_flush(struct mail_office *office, unsigned from);

/* The wakes that mail_flush asked `from` for are done: `from` touches no other shard any more. See mail_leave. */
void mail_woken(struct mail_office *office, unsigned from);

/* Whether mail of `from` waits outside the rings. */
bool mail_congested(const struct mail_office *office, unsigned from);

/* Take up to `budget` mails for shard `to`, fair between the senders, oldest first per sender; handle is called for
 * each. Returns how many. */
typedef void mail_handle(void *context, const struct mail *mail);
unsigned mail_drain(struct mail_office *office, unsigned to, unsigned budget, mail_handle *handle, void *context);

/* Sleep protocol: announce sleep, then ask whether mail came meanwhile; if so stay awake. Sequentially consistent with
 * mail_flush, so that no wake-up is lost. */
bool mail_may_sleep(struct mail_office *office, unsigned to); /* true: announced as asleep */
void mail_awake(struct mail_office *office, unsigned to);

/* Shard `to` ends: it is never asleep again, and when this returns nobody is about to wake it, so that its door may go.
 */
void mail_leave(struct mail_office *office, unsigned to);

#endif
