/* The list of plants (plant.h): PLANT(id, name, seeds within which it must be found, what is wrong). Included more than
 * once, hence no guard. */

/* clang-format off */
/* sessions and queues */
PLANT(LOST_REWIND,        "lost-rewind",             40, "what was in flight when a connection ended is not sent again")
PLANT(QOS2_ID_FORGOTTEN,  "qos2-id-forgotten",       40, "a repeated QoS 2 PUBLISH is taken for a new one")
PLANT(PUBLISH_AGAIN,      "publish-after-pubrec",    60, "PUBREC does not let go of the message")
PLANT(MESSAGE_LOST,       "message-lost",            20, "one message in thirty is acknowledged but not queued")
PLANT(MESSAGE_TWICE,      "message-twice",           20, "one message in thirty is queued twice")
PLANT(ORDER,              "order-swapped",           60, "two messages that wait change places")
PLANT(RECEIVE_MAX,        "receive-maximum-ignored", 20, "more in flight than the client allows")
PLANT(DUP,                "dup-never",               40, "a message is sent again without DUP")
PLANT(DUP_OFFLINE,        "dup-offline",             40, "what came while the client was away is sent with DUP")
PLANT(DUP_WAITING,        "dup-waiting",            100, "what waited when a connection ended is sent with DUP")
PLANT(ACK_FORGOTTEN,      "ack-forgotten",           60, "one PUBACK in seven changes nothing")
PLANT(CLEAN_START,        "clean-start-ignored",     40, "Clean Start finds the earlier session")
PLANT(EXPIRY,             "session-for-ever",        20, "the time at which a session ends never comes")
/* routes and messages */
PLANT(ROUTE_LEFT,         "route-left",              20, "an unsubscribed filter stays in the route table")
PLANT(RETAINED_IGNORED,   "retained-ignored",        60, "one retained message in five is not stored")
PLANT(RETAINED_LEFT,      "retained-not-cleared",   100, "an empty retained message clears nothing")
PLANT(WILL_TWICE,         "will-twice",              60, "a will is published twice")
PLANT(WILL_FORGOTTEN,     "will-forgotten",          60, "a will is not published")
PLANT(WILL_CLEAN,         "will-after-disconnect",   60, "DISCONNECT does not take the will away")
PLANT(WILL_DROPPED,       "will-dropped",           100, "DISCONNECT with 0x04 takes the will away")
PLANT(WILL_AT_ONCE,       "will-at-once",            60, "a will does not wait for its delay")
PLANT(WILL_LATE,          "will-late",              100, "a will waits twenty seconds longer than its delay")
PLANT(WILL_KEPT,          "will-kept",              100, "who comes back in time does not stop the will")
/* the log */
PLANT(NO_GATE,            "ack-before-commit",       60, "output does not wait for what it tells of")
PLANT(ANSWER_EARLY,       "answer-before-commit",   300, "what another shard has answered is taken for durable")
PLANT(QOS2_NOT_LOGGED,    "qos2-id-not-logged",     300, "the identifier of a QoS 2 message is not in the log, nor who has it")
PLANT(SUBSCRIBE_NOT_LOGGED, "subscribe-not-logged", 400, "one SUBSCRIBE in three is not in the log")
PLANT(UNSUBSCRIBE_NOT_LOGGED, "unsubscribe-not-logged", 100, "UNSUBSCRIBE is not in the log")
PLANT(CLAIM_NOT_LOGGED, "claim-not-logged", 100, "one CONNECT in three is not in the log")
PLANT(ACK_NOT_LOGGED,     "ack-not-logged",         200, "PUBREC and PUBCOMP from a client are not in the log")
PLANT(CHANGE_NOT_NOTED,   "change-not-noted",       200, "what changes in every other session never comes into the state")
/* the store */
PLANT(DURABLE_EARLY,      "durable-early",          100, "batches are told to be durable before the commit")
PLANT(REPLAY_SHORT,       "replay-misses-last",     100, "the last batch of the log is not replayed")
PLANT(ROW_LOST,           "checkpoint-loses-row",   200, "one row in five of a checkpoint is not written")
PLANT(DELETE_LOST,        "checkpoint-keeps-row",   400, "rows are not deleted by a checkpoint")
PLANT(TRIM_EARLY,         "trims-too-much",         200, "the log is trimmed up to the newest checkpoint of any group")
PLANT(SCAN_SHORT,         "scan-misses-last",       200, "the last row of a scan is not found")
/* clang-format on */
