/* The list of plants (plant.h) that only a story of several nodes can find: as plants.h, which comes first. */

/* clang-format off */
/* links */
PLANT(LINK_NOT_RESENT,    "link-not-resent",         40, "what was on its way when a connection broke is not sent again")
PLANT(LINK_TWICE,         "link-takes-twice",        40, "what was on its way when a connection broke is sent and taken again")
PLANT(LINK_ORDER,         "link-order-swapped",      40, "two messages that wait for a link change places")
/* routes */
PLANT(DELTA_LOST,         "route-delta-lost",       150, "one filter in four that another node tells of is not taken")
PLANT(WITHDRAWAL,         "route-not-withdrawn",     40, "other nodes are not told that a filter is gone")
PLANT(SNAPSHOT_EARLY,     "snapshot-swept-early",    100, "a node's filters are swept when it begins to tell them anew")
PLANT(NOT_IN_FORCE,       "snapshot-not-in-force",   40, "a set of filters is complete and not used")
PLANT(SUBACK_EARLY,       "suback-early",            150, "SUBACK does not wait for other nodes")
PLANT(OLD_ROUTES,         "old-routes-kept",         60, "a node that was started again keeps its filters")
PLANT(NOT_TOLD_BACK,      "routes-not-told-back",    60, "a node that was started again is not told of filters")
/* messages */
PLANT(PUBACK_EARLY,       "puback-early",           200, "an acknowledgement does not wait for other nodes")
PLANT(GIVEN_UP,           "given-up-at-loss",       200, "nobody waits for a node whose connection is lost")
PLANT(RESTART_FORGOTTEN,  "restart-forgotten",       60, "what was not answered is not sent to a node that was started again")
PLANT(ANSWER_UNSAFE,      "answer-before-durable",  400, "another node is answered before it is durable")
PLANT(WRONG_NUMBER,       "answer-wrong-number",     40, "an answer is taken for the next message's")
PLANT(REPEATED_EARLY,     "repeated-early",         300, "PUBREC for a repetition does not wait for who has not answered the first")
PLANT(SHARE_BOTH,         "share-both",             100, "one message in ten for a group is handed to another node twice")
PLANT(SHARE_GIVEN_UP,     "share-given-up",         300, "what a node's members of a group cannot take goes to nobody else")
/* who is there */
PLANT(CLAIM_STAMP,        "claim-stamp-forgotten",  200, "a connection loses against older ones")
PLANT(CLAIMS_ONCE,        "claims-not-told-anew",   100, "who was away is not told who has connected meanwhile")
PLANT(NEVER_REFUTED,      "never-refuted",           40, "a node does not deny that it is dead")
/* clang-format on */
