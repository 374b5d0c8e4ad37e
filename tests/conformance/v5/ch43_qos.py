"""5.0, chapters 4.3, 4.6 and 4.9: the delivery protocols, message order, flow control."""

import time

from kit import check, check_equal, covers, settings
from lib.mqtt import *  # noqa: F403


@covers("MQTT-4.3.1-1", "MQTT-4.3.2-2", "MQTT-4.3.3-2", "MQTT-3.3.1-3")
def test_first_delivery(env):
    """Across shards: right QoS, no DUP, an identifier for QoS 1 and 2 alone."""
    subs, pub = env.many(8), env.client()
    for sub in subs:
        sub.subscribe(env.topic("#"), qos=2)
    for qos in (0, 1, 2):
        for number in range(5):
            pub.publish(env.topic("t"), "%d" % number, qos=qos)
            for sub in subs:
                p = sub.expect_publish(env.topic("t"), "%d" % number, qos=qos, dup=False, retain=False)
                check((p.pid is None) == (qos == 0), "identifier %r" % p.pid)


@covers("MQTT-4.3.2-4", "MQTT-4.3.2-5", "MQTT-3.3.4-1")
def test_qos_1_identifier_again_is_a_new_message(env):
    """After PUBACK the same identifier, with or without DUP, is another message."""
    sub, pub = env.pair()
    for payload, dup in (("a", False), ("b", True), ("b", True), ("c", False)):
        pub.publish(env.topic("t"), payload, qos=1, pid=5, dup=dup)
        sub.expect_publish(env.topic("t"), payload, qos=1, dup=False)
    sub.expect_nothing()


@covers("MQTT-4.3.3-8", "MQTT-4.3.3-10", "MQTT-4.3.3-11", "MQTT-4.3.3-12")
def test_qos_2_duplicates(env):
    """Until PUBREL each repetition is acknowledged and delivered to nobody; after PUBCOMP the identifier is free."""
    subs = env.many(4)
    for sub in subs:
        sub.subscribe(env.topic("#"), qos=2)
    pub = env.client()
    for round_number in range(3):
        for repeat in range(4):
            pub.send(publish(env.topic("t"), b"%d" % round_number, 2, dup=repeat > 0, pid=77))
            check(pub.expect(PUBREC, pid=77).reason < 0x80, "PUBREC")
        for _ in range(2):
            check(pub.send(ack(PUBREL, 77)).expect(PUBCOMP, pid=77).reason in (0, 0x92), "PUBCOMP")
        for sub in subs:  # whether at PUBLISH or at PUBREL is the server's choice
            sub.expect_publish(env.topic("t"), "%d" % round_number, qos=2)
            sub.expect_nothing(0)


@covers("MQTT-4.3.3-10")
def test_qos_2_interleaved(env):
    """Many open at once, released in another order."""
    sub, pub = env.pair()
    for pid in range(1, 16):
        pub.send(publish(env.topic("t"), b"%d" % pid, 2, pid=pid))
    for pid in range(1, 16):
        pub.expect(PUBREC, pid=pid)
    for pid in range(1, 16):
        pub.send(publish(env.topic("t"), b"%d" % pid, 2, dup=True, pid=pid)).expect(PUBREC, pid=pid)
    for pid in (9, 1, 15, 2, 14, 3, 13, 4, 12, 5, 11, 6, 10, 7, 8):
        pub.release(pid)
    got = {sub.expect_publish(env.topic("t"), qos=2).payload for _ in range(15)}
    check_equal(got, {b"%d" % pid for pid in range(1, 16)}, "the payloads")
    sub.expect_nothing()


@covers("MQTT-4.3.3-9", "MQTT-2.2.1-4")
@settings({"mqtt.validate_payload_format": True})
def test_refused_qos_2_identifier_is_free(env):
    """A PUBREC of 0x80 or more ends the exchange; the next PUBLISH with the identifier is a new message."""
    sub, pub = env.pair()
    pub.publish(env.topic("t"), b"\xff\xfe", qos=2, pid=3, props={"payload_format": 1}, reason=0x99)
    pub.publish(env.topic("t"), "good", qos=2, pid=3, props={"payload_format": 1})
    sub.expect_publish(env.topic("t"), "good", qos=2)
    pub.publish(env.topic("t"), b"\xff\xfe", qos=1, pid=4, props={"payload_format": 1}, reason=0x99)
    pub.publish(env.topic("t"), b"\xff\xfe", qos=1, pid=4, props={"payload_format": 0})
    sub.expect_publish(env.topic("t"), b"\xff\xfe", qos=1)
    pub.send(publish(env.topic("t"), b"\xff", props={"payload_format": 1})).expect_closed(0x99)


@covers("MQTT-4.3.3-7", "MQTT-4.3.3-13", "MQTT-4.3.3-3")
def test_expiry_does_not_touch_what_was_sent(env):
    """A QoS 2 message expires in the middle of its handshake: it is resent and completed all the same."""
    sub, pub = env.client(clean=False, props={"session_expiry": 60}), env.client()
    sub.subscribe(env.topic("#"), qos=2)
    pub.publish(env.topic("a"), "x", qos=2, props={"message_expiry": 1})
    pub.publish(env.topic("b"), "y", qos=2, props={"message_expiry": 1})
    a = sub.expect_publish(env.topic("a"), "x", qos=2, ack=False)
    b = sub.expect_publish(env.topic("b"), "y", qos=2, ack=False)
    sub.send(ack(PUBREC, b.pid)).expect(PUBREL, pid=b.pid)
    half = env.client()
    half.send(publish("none/" + env.topic("z"), b"z", 2, pid=5, props={"message_expiry": 1})).expect(PUBREC, pid=5)
    time.sleep(1.6)
    half.release(5)
    sub.reopen(session_present=True)
    again = sub.expect_publish(env.topic("a"), "x", qos=2, dup=True, ack=False)
    check_equal(again.pid, a.pid, "identifier")
    sub.expect_later(PUBREL, pid=b.pid)
    sub.send(ack(PUBCOMP, b.pid))
    sub.acknowledge(again)
    sub.expect_nothing()


@covers("MQTT-4.6.0-2", "MQTT-4.6.0-3", "MQTT-4.6.0-4", "MQTT-4.5.0-2")
def test_acknowledgements_keep_their_order(env):
    """PUBACKs among each other and PUBRECs among each other, though some messages have subscribers on other shards
    and some none; PUBRELs follow the PUBRECs of the client."""
    for number in range(4):
        env.client().subscribe(env.topic("s%d" % number), qos=number % 3)
    pub = env.client()
    most = min(pub.connack.props.get("receive_max", 200), 200)
    order = [(1 + n * 5 % 3 % 2, env.topic("s%d" % (n % 6)), n + 1) for n in range(most)]
    pub.send(b"".join(publish(topic, b"x", qos, pid=pid) for qos, topic, pid in order))
    got = {PUBACK: [], PUBREC: []}
    for _ in order:
        p = pub.receive()
        check(p is not None and p.type in got, "got %r" % p)
        got[p.type].append(p.pid)
    check_equal(got[PUBACK], [pid for qos, _, pid in order if qos == 1], "order of PUBACKs")
    check_equal(got[PUBREC], [pid for qos, _, pid in order if qos == 2], "order of PUBRECs")
    pub.send(b"".join(ack(PUBREL, pid) for pid in got[PUBREC]))
    for pid in got[PUBREC]:
        pub.expect(PUBCOMP, pid=pid)


@covers("MQTT-4.6.0-4")
def test_pubrels_follow_pubrecs(env):
    sub, pub = env.pair()
    pids = []
    for number in range(10):
        pub.publish(env.topic("t"), "%d" % number, qos=2)
        pids.append(sub.expect_publish(env.topic("t"), "%d" % number, ack=False).pid)
    order = [pids[n] for n in (3, 0, 9, 1, 8, 2, 7, 4, 6, 5)]
    sub.send(b"".join(ack(PUBREC, pid) for pid in order))
    for pid in order:
        sub.expect(PUBREL, pid=pid)


@covers("MQTT-4.6.0-5", "MQTT-4.6.0-6")
def test_order_of_messages(env):
    """Each publisher's messages of one QoS and topic arrive in its order, at subscribers on every shard."""
    subs, pubs = env.many(5), env.many(3)
    for qos in (0, 1, 2):
        topic = env.topic("q%d" % qos)
        for sub in subs:
            sub.subscribe(topic, qos=qos)
        window = min(pubs[0].connack.props.get("receive_max", 100), 100)
        for pub in pubs:
            pub.send(b"".join(publish(topic, b"%s %d" % (pub.client_id.encode(), n), qos, pid=n + 1)
                              for n in range(window)))
        for pub in pubs:
            if qos:
                for n in range(window):
                    pub.expect(PUBACK if qos == 1 else PUBREC, pid=n + 1)
            if qos == 2:
                pub.send(b"".join(ack(PUBREL, n + 1) for n in range(window)))
        for sub in subs:
            with env.case("QoS %d, %s" % (qos, sub.name)):
                got = {pub.client_id: [] for pub in pubs}
                for _ in range(window * len(pubs)):
                    name, number = sub.expect_publish(topic, qos=qos).payload.decode().split()
                    got[name].append(int(number))
                for name, numbers in got.items():
                    check_equal(numbers, list(range(window)), "order of %s" % name)
        for pub in pubs:
            for n in range(window if qos == 2 else 0):
                pub.expect(PUBCOMP, pid=n + 1)


@covers("MQTT-3.3.4-9", "MQTT-4.9.0-1", "MQTT-4.9.0-2")
def test_receive_maximum_of_the_client(env):
    """Exactly as many as it allows; one more for each PUBACK, PUBCOMP or refusing PUBREC, but not for a PUBREC."""
    pub = env.client()
    for most in (1, 2, 5):
        with env.case("Receive Maximum %d" % most):
            sub = env.client(props={"receive_max": most})
            sub.subscribe(env.topic("m%d" % most), qos=2)
            for number in range(3 * most + 3):
                pub.publish(env.topic("m%d" % most), "%d" % number, qos=1 + number % 2)
            held = [sub.expect_publish(payload="%d" % n, ack=False) for n in range(most)]
            sub.expect_nothing()
            number = most
            while number < 3 * most + 3:
                p = held.pop(0)
                if p.qos == 2 and number % 3:
                    sub.send(ack(PUBREC, p.pid)).expect(PUBREL, pid=p.pid)
                    sub.expect_nothing(0)
                    sub.send(ack(PUBCOMP, p.pid))
                else:
                    sub.send(ack(PUBACK if p.qos == 1 else PUBREC, p.pid, 0x80))
                held.append(sub.expect_publish(payload="%d" % number, ack=False))
                sub.expect_nothing(0)
                number += 1


@covers("MQTT-3.3.4-10", "MQTT-4.9.0-3")
def test_full_window_delays_nothing_else(env):
    """QoS 0 messages may pass or wait their turn; every answer must come."""
    sub, pub = env.client(props={"receive_max": 1}), env.client()
    sub.subscribe(env.topic("#"), qos=1)
    pub.publish(env.topic("t"), "1", qos=1)
    pub.publish(env.topic("t"), "2", qos=1)
    held = sub.expect_publish(env.topic("t"), "1", ack=False)
    sub.ping()
    sub.subscribe(env.topic("other"), qos=1)
    sub.publish(env.topic("own") + "x", "x", qos=1)
    sub.publish("elsewhere/" + env.topic("own"), "x", qos=2)
    sub.unsubscribe(env.topic("other"))
    sub.backlog = [p for p in sub.backlog if p.qos]
    sub.send(ack(PUBREL, 999)).expect(PUBCOMP)
    sub.acknowledge(held)
    sub.expect_publish(env.topic("t"), "2")


@covers("MQTT-3.3.4-7", "MQTT-3.3.4-8", "MQTT-4.9.0-3")
@settings({"mqtt.receive_maximum": 5})
def test_receive_maximum_of_the_server(env):
    """Five open QoS 2 messages are fine, with other packets beside them; the sixth is not."""
    c = env.client()
    check_equal(c.connack.props.get("receive_max"), 5, "Receive Maximum")
    for pid in range(1, 6):
        c.send(publish(env.topic("t"), b"x", 2, pid=pid)).expect(PUBREC, pid=pid)
    c.ping()
    c.subscribe(env.topic("s"))
    c.publish(env.topic("t"), "QoS 0 counts not")
    c.send(publish(env.topic("t"), b"x", 2, dup=True, pid=3)).expect(PUBREC, pid=3)  # nor does a repetition
    c.release(2)
    c.send(publish(env.topic("t"), b"x", 2, pid=6)).expect(PUBREC, pid=6)
    c.send(publish(env.topic("t"), b"x", 2, pid=7))
    c.expect_closed(0x93)


@covers("MQTT-3.3.4-7")
@settings({"mqtt.receive_maximum": 5})
def test_receive_maximum_is_given_back(env):
    """QoS 1 alone never fills it, since each is answered."""
    c = env.client()
    for number in range(50):
        c.publish(env.topic("t"), "x", qos=1)
        c.publish(env.topic("t"), "x", qos=2)
    c.send(b"".join(publish(env.topic("t"), b"x", 2, pid=p) for p in (101, 102, 103, 104)))
    for pid in (101, 102, 103, 104):
        c.expect(PUBREC, pid=pid)
    for _ in range(20):
        c.publish(env.topic("t"), "x", qos=1)


@covers("MQTT-3.1.2-24", "MQTT-3.1.2-25")
def test_maximum_packet_size_of_the_client(env):
    """What is too large is left away, and nothing waits for its acknowledgement; others still get it."""
    topic = env.topic("t")
    fits = 200 - len(publish(topic, b"", 1, pid=1)) - 1
    pub, other = env.client(), env.client()
    small = env.client(clean=False, props={"maximum_packet_size": 200, "receive_max": 1, "session_expiry": 60})
    for sub in (small, other):
        sub.subscribe(topic, qos=2)
    while len(publish(topic, b"x" * fits, 1, pid=1)) < 200:
        fits += 1
    for qos in (0, 1, 2):
        with env.case("QoS %d" % qos):
            extra = 2 if qos == 0 else 0  # no packet identifier
            for payload in (b"x" * (fits + extra + 1), b"y" * 5000, b"z" * (fits + extra)):
                pub.publish(topic, payload, qos=qos)
                other.expect_publish(topic, payload, qos=qos)
            p = small.expect_publish(topic, b"z" * (fits + extra), qos=qos)
            check_equal(p.size, 200, "size of the packet")
            small.expect_nothing()
    small.close()
    pub.publish(topic, b"x" * 5000, qos=1)
    pub.publish(topic, b"small", qos=2)
    small.open(clean=False, props={"maximum_packet_size": 200, "receive_max": 1}, session_present=True)
    small.expect_publish(topic, b"small")
    small.expect_nothing()


@covers("MQTT-3.1.2-24")
def test_maximum_packet_size_counts_properties(env):
    pub, sub = env.client(), env.client(props={"maximum_packet_size": 300})
    sub.subscribe(env.topic("#"), qos=1)
    pub.publish(env.topic("t"), "x", qos=1, props={"user_property": [("name", "v" * 300)]})
    pub.publish(env.topic("t"), "y", qos=1, props={"user_property": [("name", "v" * 100)]})
    sub.expect_publish(env.topic("t"), "y", props={"user_property": [("name", "v" * 100)]})
    kept = env.client()
    kept.publish(env.topic("r"), b"x" * 400, qos=1, retain=True)
    kept.publish(env.topic("s"), b"y", qos=1, retain=True)
    sub.expect_publish(env.topic("s"), b"y")
    sub.subscribe(env.topic("+"), qos=1)
    sub.expect_publish(env.topic("s"), b"y", retain=True)
    sub.expect_nothing()
