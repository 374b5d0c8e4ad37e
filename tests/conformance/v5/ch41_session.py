"""5.0, chapters 4.1, 4.4 and 4.5: session state, resending, taking messages over."""

import time

from kit import check, check_equal, covers
from lib.mqtt import *  # noqa: F403

KEEP = {"session_expiry": 60}


@covers("MQTT-3.1.2-5", "MQTT-3.1.2-23", "MQTT-4.5.0-1")
def test_session_goes_on(env):
    """Subscriptions with their options and what was published meanwhile, for sessions on every shard."""
    pub, subs = env.client(), env.many(6, clean=False, props=KEEP)
    for sub in subs:
        own = env.topic(sub.client_id, "#")
        sub.subscribe([(env.topic("q1"), 1), (env.topic("q2"), 2), (own, options(1, no_local=True))])
        sub.disconnect()
    for number in range(20):
        pub.publish(env.topic("q1"), "a%d" % number, qos=2)
        pub.publish(env.topic("q2"), "b%d" % number, qos=2)
    for sub in subs:
        sub.reopen(session_present=True)
        for number in range(20):
            sub.expect_publish(env.topic("q1"), "a%d" % number, qos=1, dup=False)
            sub.expect_publish(env.topic("q2"), "b%d" % number, qos=2, dup=False)
        sub.publish(env.topic(sub.client_id), "own", qos=1)
        sub.expect_nothing(0)
        pub.publish(env.topic(sub.client_id), "x", qos=1)
        sub.expect_publish(env.topic(sub.client_id), "x", qos=1)
        sub.disconnect(0, {"session_expiry": 0})


@covers("MQTT-3.1.2-4", "MQTT-3.1.2-6")
def test_clean_start_forgets_everything(env):
    """Subscriptions, queue, messages in flight both ways."""
    pub, sub = env.client(), env.client(clean=False, props=KEEP)
    sub.subscribe(env.topic("#"), qos=2)
    pub.publish(env.topic("t"), "open", qos=2)
    sub.expect_publish(env.topic("t"), "open", ack=False)
    sub.send(publish(env.topic("half"), b"x", 2, pid=9)).expect_later(PUBREC, pid=9)
    sub.close()
    pub.publish(env.topic("t"), "queued", qos=1)
    sub.open(clean=True, props=KEEP, session_present=False)
    pub.publish(env.topic("t"), "after", qos=1)
    sub.expect_nothing()
    sub.subscribe(env.topic("half"), qos=2)
    sub.publish(env.topic("half"), "new", qos=2, pid=9)  # not taken for the old one
    sub.expect_publish(env.topic("half"), "new")
    sub.expect_nothing()


@covers("MQTT-3.1.2-6", "MQTT-4.1.0-2")
def test_session_expiry_0_ends_with_the_connection(env):
    pub = env.client()
    for name, props in (("absent", None), ("0", {"session_expiry": 0})):
        for how in (Client.close, Client.abort, Client.disconnect):
            with env.case("session expiry %s, %s" % (name, how.__name__)):
                c = env.client(clean=False, props=props, session_present=False)
                c.subscribe(env.topic("#"), qos=1)
                how(c)
                time.sleep(0.1)  # the server must have seen the end: a takeover would be another test
                pub.publish(env.topic("t"), "x", qos=1)
                c.open(clean=False, session_present=False)
                c.expect_nothing()


@covers("MQTT-3.1.2-23", "MQTT-4.1.0-2")
def test_session_expiry(env):
    c = env.client(clean=False, props={"session_expiry": 2})
    c.subscribe(env.topic("#"), qos=1)
    c.close()
    time.sleep(1)
    c.open(clean=False, props={"session_expiry": 2}, session_present=True)
    c.close()
    time.sleep(1)  # two seconds since the first end: the interval runs anew
    c.open(clean=False, props={"session_expiry": 1}, session_present=True)
    c.close()
    time.sleep(1.8)
    c.open(clean=False, session_present=False)
    env.client().publish(env.topic("t"), "x", qos=1)
    c.expect_nothing()


@covers("MQTT-4.1.0-1")
def test_session_lives_while_the_connection_does(env):
    """An interval shorter than the connection, and one of 0."""
    pub = env.client()
    subs = [env.client(props={"session_expiry": n}) for n in (0, 1)]
    for sub in subs:
        sub.subscribe(env.topic("#"), qos=1)
    time.sleep(1.8)
    pub.publish(env.topic("t"), "x", qos=1)
    for sub in subs:
        sub.expect_publish(env.topic("t"), "x")
    subs[1].reopen(session_present=True)


@covers("MQTT-3.1.2-23")
def test_session_that_never_expires(env):
    c = env.client(props={"session_expiry": 0xFFFFFFFF})
    c.subscribe(env.topic("#"), qos=1)
    c.close()
    time.sleep(1.2)
    env.client().publish(env.topic("t"), "x", qos=1)
    c.open(clean=False, props={"session_expiry": 0}, session_present=True)
    c.expect_publish(env.topic("t"), "x")
    c.disconnect()


@covers("MQTT-4.4.0-1", "MQTT-4.3.2-3", "MQTT-4.3.3-3", "MQTT-4.3.3-5", "MQTT-4.3.3-6")
def test_resend_in_order_with_identifiers(env):
    """What is unacknowledged comes again, oldest first, under the same identifiers, before anything new; what is past
    PUBREC comes as PUBREL and never again as PUBLISH."""
    pub = env.client()
    for number in range(4):
        with env.case("session %d" % number):
            sub = env.client(clean=False, props=KEEP)
            topic = env.topic("s%d" % number)
            sub.subscribe(topic, qos=2)
            pids = []
            for n in range(12):
                pub.publish(topic, "%d" % n, qos=1 + n % 2)
                pids.append(sub.expect_publish(topic, "%d" % n, qos=1 + n % 2, dup=False, ack=False).pid)
            sub.send(ack(PUBACK, pids[0]))
            for n in (1, 3):
                sub.send(ack(PUBREC, pids[n])).expect(PUBREL, pid=pids[n])
            sub.send(ack(PUBCOMP, pids[1]))
            sub.ping()
            sub.close()
            pub.publish(topic, "new", qos=1)
            check_resent(sub, topic, pids)
            check_resent(sub, topic, pids)  # nothing was acknowledged, so all again
            sub.disconnect(0, {"session_expiry": 0})


def check_resent(sub, topic, pids):
    """Number 0 is acknowledged, 1 complete, 3 released; the rest and then "new" are to come."""
    sub.reopen(session_present=True)
    resent, released = [], []
    while not resent or resent[-1][0] != b"new":
        p = sub.receive()
        check(p is not None and p.type in (PUBLISH, PUBREL), "got %r" % p)
        if p.type == PUBREL:
            released.append(p.pid)
            continue
        resent.append((p.payload, p.pid, p.dup))
    want = [(b"%d" % n, pids[n], True) for n in (2, 4, 5, 6, 7, 8, 9, 10, 11)]
    check_equal(resent[:-1], want, "resent")
    check_equal(released, [pids[3]], "released")
    check(resent[-1][1] not in [pids[n] for n in range(2, 12)], "the new message took an identifier in use")


@covers("MQTT-4.4.0-1")
def test_nothing_is_resent_on_a_living_connection(env):
    sub, pub = env.client(), env.client()
    sub.subscribe(env.topic("#"), qos=2)
    pub.publish(env.topic("t"), "1", qos=1)
    pub.publish(env.topic("t"), "2", qos=2)
    sub.expect_publish(env.topic("t"), "1", ack=False)
    p = sub.expect_publish(env.topic("t"), "2", ack=False)
    sub.expect_nothing(1.5)
    sub.send(ack(PUBREC, p.pid)).expect(PUBREL)
    sub.expect_nothing(1.5)


@covers("MQTT-4.4.0-1", "MQTT-4.3.3-10")
def test_qos_2_reception_survives_the_connection(env):
    """The publisher goes between PUBREC and PUBREL, comes back and sends both again: one delivery."""
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=2)
    for number in range(6):
        with env.case("publisher %d" % number):
            pub = env.client(clean=False, props=KEEP)
            pub.send(publish(env.topic("t"), b"once", 2, pid=7)).expect(PUBREC, pid=7)
            pub.reopen(session_present=True)
            pub.send(publish(env.topic("t"), b"once", 2, dup=True, pid=7)).expect(PUBREC, pid=7)
            pub.reopen(session_present=True)
            pub.release(7)
            sub.expect_publish(env.topic("t"), "once", qos=2)
            sub.expect_nothing()
            pub.publish(env.topic("t"), "again", qos=2, pid=7)
            sub.expect_publish(env.topic("t"), "again", qos=2)
            pub.disconnect(0, {"session_expiry": 0})


@covers("MQTT-4.5.0-1", "MQTT-4.6.0-6")
def test_queue_keeps_its_order(env):
    """Several hundred messages wait, more than the window takes at once."""
    pub, sub = env.client(), env.client(clean=False, props=KEEP)
    sub.subscribe(env.topic("#"), qos=2)
    sub.disconnect()
    for number in range(400):
        pub.publish(env.topic("t"), "%d" % number, qos=1 + number % 2)
    sub.open(clean=False, props={"session_expiry": 60, "receive_max": 7}, session_present=True)
    for number in range(400):
        sub.expect_publish(env.topic("t"), "%d" % number, qos=1 + number % 2, dup=False)
    sub.expect_nothing()


@covers("MQTT-4.4.0-1", "MQTT-4.9.0-1", "MQTT-3.3.4-9")
def test_resend_respects_the_new_receive_maximum(env):
    """Five are open when the connection ends; the next one allows two at once."""
    pub, sub = env.client(), env.client(clean=False, props=KEEP)
    sub.subscribe(env.topic("#"), qos=1)
    pids = []
    for number in range(5):
        pub.publish(env.topic("t"), "%d" % number, qos=1)
        pids.append(sub.expect_publish(env.topic("t"), "%d" % number, ack=False).pid)
    sub.close()
    sub.open(clean=False, props={"session_expiry": 60, "receive_max": 2}, session_present=True)
    first = [sub.expect_publish(env.topic("t"), "%d" % n, dup=True, ack=False) for n in range(2)]
    sub.expect_nothing()
    for p in first:
        sub.acknowledge(p)
    for number in range(2, 5):
        check_equal(sub.expect_publish(env.topic("t"), "%d" % number, dup=True).pid, pids[number], "identifier")


@covers("MQTT-3.1.2-5", "MQTT-4.1.0-1")
def test_many_sessions_at_once(env):
    """Connections come and go among others; each finds its own session."""
    pub, subs = env.client(), env.many(20, clean=False, props=KEEP)
    for number, sub in enumerate(subs):
        sub.subscribe(env.topic("%d" % number), qos=1)
    for sub in subs[::2]:
        sub.disconnect()
    for number in range(20):
        pub.publish(env.topic("%d" % number), "%d" % number, qos=1)
    for sub in subs[::2]:
        sub.open(clean=False, props=KEEP, session_present=True)
    for number, sub in enumerate(subs):
        sub.expect_publish(env.topic("%d" % number), "%d" % number)
        sub.expect_nothing(0)
        sub.disconnect(0, {"session_expiry": 0})
