"""MQTT 3.1.1, chapter 4: quality of service, order, topics."""

from kit import check_equal, covers
from lib.mqtt import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Failure, ack, publish, subscribe

V = 4


@covers("MQTT311-4.3.1-1", "MQTT311-3.3.1-2")
def test_qos_0_is_sent_plainly(env):
    sub, pub = env.client(version=V), env.client(version=V)
    sub.subscribe(env.topic("t"), qos=0)
    for qos in (0, 1, 2):
        pub.publish(env.topic("t"), b"x", qos=qos, dup=qos > 0)
        check_equal(sub.expect_publish().raw[0], 0x30, "the first byte")
    pub.expect_nothing()


@covers("MQTT311-4.3.2-1")
def test_qos_1_is_open_until_acknowledged(env):
    pub = env.client(version=V)
    c = env.client(env.client_id(), V, clean=False)
    c.subscribe(env.topic("t"), qos=1)
    pub.publish(env.topic("t"), b"x", qos=1)
    p = c.expect_publish(qos=1, dup=False, ack=False)
    for _ in range(3):
        c.reopen(session_present=True)
        check_equal(c.expect_publish(payload=b"x", dup=True, ack=False).pid, p.pid, "the identifier")
    c.send(ack(PUBACK, p.pid))
    c.ping()
    c.reopen(session_present=True)
    c.expect_nothing()


@covers("MQTT311-4.3.2-2")
def test_qos_1_repeated_is_a_new_message(env):
    sub, c = env.client(version=V), env.client(version=V)
    sub.subscribe(env.topic("t"), qos=1)
    for payload in (b"1", b"2", b"2"):
        c.send(publish(env.topic("t"), payload, 1, pid=8, version=V)).expect(PUBACK, pid=8)
        sub.expect_publish(payload=payload)
    sub.expect_nothing()


@covers("MQTT311-4.3.3-2", "MQTT311-3.3.4-1")
def test_qos_2_is_delivered_once(env):
    sub, c = env.client(version=V), env.client(version=V)
    sub.subscribe(env.topic("t"), qos=2)
    first = publish(env.topic("t"), b"1", 2, pid=8, version=V)
    again = publish(env.topic("t"), b"1", 2, dup=True, pid=8, version=V)
    c.send(first).expect(PUBREC, pid=8)
    for _ in range(3):
        c.send(again).expect(PUBREC, pid=8)
    c.send(ack(PUBREL, 8)).expect(PUBCOMP, pid=8)
    c.send(ack(PUBREL, 8)).expect(PUBCOMP, pid=8)
    sub.expect_publish(payload=b"1")
    sub.expect_nothing()
    c.send(again).expect(PUBREC, pid=8)
    c.send(ack(PUBREL, 8)).expect(PUBCOMP, pid=8)
    sub.expect_publish(payload=b"1", dup=False)
    sub.expect_nothing()


@covers("MQTT311-4.3.3-2")
def test_pubrel_of_an_unknown_identifier(env):
    c = env.client(version=V)
    c.send(ack(PUBREL, 4242)).expect(PUBCOMP, pid=4242)


@covers("MQTT311-4.3.3-1")
def test_qos_2_step_by_step(env):
    """PUBREL only after PUBREC; the identifier stays the message's until PUBCOMP."""
    sub, pub = env.client(version=V), env.client(version=V)
    sub.subscribe(env.topic("t"), qos=2)
    for i in range(5):
        pub.publish(env.topic("t"), b"%d" % i, qos=2)
    got = [sub.expect_publish(payload=b"%d" % i, qos=2, dup=False, ack=False) for i in range(5)]
    sub.expect_nothing()
    for p in got:
        sub.send(ack(PUBREC, p.pid)).expect(PUBREL, pid=p.pid)
    sub.expect_nothing()
    for p in got:
        sub.send(ack(PUBCOMP, p.pid))
    sub.expect_nothing()


@covers("MQTT311-4.6.0-5", "MQTT311-4.6.0-6")
def test_order_from_each_client(env):
    subs, pubs = env.many(3, version=V), env.many(3, version=V)
    for i, c in enumerate(subs):
        c.subscribe(env.topic("#"), qos=i)
    count = 100
    for i in range(count):
        for who, c in enumerate(pubs):
            c.publish(env.topic("t"), b"%d %d" % (who, i), qos=who, ack=False)
            if who == 2:
                c.expect_later(PUBREC)
                c.send(ack(PUBREL, c.next_pid))
    for c in subs:
        got = [[], [], []]
        for _ in range(3 * count):
            who, i = c.expect_publish(timeout=10).payload.split()
            got[int(who)].append(int(i))
        for who in range(3):
            check_equal(got[who], list(range(count)), "what %s got from publisher %d" % (c.name, who))


@covers("MQTT311-4.6.0-6", "MQTT311-4.4.0-1")
def test_order_after_a_reconnection(env):
    pub, c = env.client(version=V), env.client(env.client_id(), V, clean=False)
    c.subscribe(env.topic("#"), qos=1)
    for i in range(15):
        pub.publish(env.topic("t"), b"%d" % i, qos=1)
        c.expect_publish(payload=b"%d" % i, ack=False)
    c.disconnect()
    for i in range(15, 60):
        pub.publish(env.topic("t"), b"%d" % i, qos=1)
    c.open(clean=False, session_present=True)
    for i in range(60):
        c.expect_publish(payload=b"%d" % i, dup=i < 15)


def test_acknowledgements_come_in_order(env):
    """Section 4.6 demands it of clients; a server that does the same spares them surprises."""
    c, sub = env.client(version=V), env.client(version=V)
    sub.subscribe(env.topic("#"), qos=1)
    for qos, answer in ((1, PUBACK), (2, PUBREC)):
        pids = list(range(100, 160))
        c.send(b"".join(publish(env.topic("x%d" % (p % 9)), b"x", qos, pid=p, version=V) for p in pids))
        for p in pids:
            c.expect(answer, pid=p)
        if qos == 2:
            c.send(b"".join(ack(PUBREL, p) for p in pids))
            for p in pids:
                c.expect(PUBCOMP, pid=p)


MATCHES = [  # filter, topics that it matches, topics that it does not
    ("sport/tennis/player1/#", ["sport/tennis/player1", "sport/tennis/player1/ranking",
                                "sport/tennis/player1/score/wimbledon"], ["sport/tennis/player10", "sport/tennis"]),
    ("sport/#", ["sport", "sport/", "sport/a/b"], ["sports", "/sport"]),
    ("sport/tennis/+", ["sport/tennis/player1", "sport/tennis/"], ["sport/tennis", "sport/tennis/player1/ranking"]),
    ("sport/+", ["sport/", "sport/a"], ["sport", "sport/a/b"]),
    ("+/tennis/#", ["sport/tennis", "/tennis", "x/tennis/y"], ["tennis", "a/b/tennis"]),
    ("sport/+/player1", ["sport/tennis/player1", "sport//player1"], ["sport/player1", "sport/a/b/player1"]),
    ("+/+", ["/finance", "a/b", "/"], ["finance", "a/b/c"]),
    ("/+", ["/finance", "/"], ["finance", "a/finance"]),
    ("+", ["finance"], ["/finance", "finance/"]),
    ("a/b", ["a/b"], ["A/b", "a/B", "a/b/", "/a/b", "a//b", "a/b "]),
    ("a//b", ["a//b"], ["a/b", "a/x/b"]),
    ("a b/c", ["a b/c"], ["ab/c", "a  b/c"]),
    ("\u00e9", ["\u00e9"], ["e\u0301", "e", "\u00c9"]),
    ("+/+/+/+/+/+/+/+", ["a/b/c/d/e/f/g/h", "///////"], ["a/b/c/d/e/f/g", "a/b/c/d/e/f/g/h/i"]),
]


@covers("MQTT311-4.7.1-2", "MQTT311-4.7.1-3", "MQTT311-4.7.3-4", "MQTT311-3.3.2-3")
def test_what_filters_match(env):
    c, pub = env.client(version=V), env.client(version=V)
    for topic_filter, good, bad in MATCHES:
        with env.case(topic_filter):
            c.subscribe(env.topic(topic_filter), qos=1)
            for topic in bad:
                pub.publish(env.topic(topic), b"must not match", qos=1)
            for topic in good:
                pub.publish(env.topic(topic), b"matches", qos=1)
            for topic in good:
                c.expect_publish(env.topic(topic), b"matches")
            c.expect_nothing(0.02)
        c.unsubscribe(env.topic(topic_filter))
        c.backlog.clear()


@covers("MQTT311-4.7.2-1")
def test_wildcards_do_not_match_dollar_topics(env):
    c, pub = env.client(version=V), env.client(version=V)
    marker = env.topic("m")
    c.subscribe([("#", 0), ("+/dollar", 0), ("+/" + marker, 0)])
    pub.publish("$tern-test/dollar", b"hidden", qos=1)
    pub.publish("$tern-test/" + marker, b"hidden", qos=1)
    pub.publish(marker, b"marker", qos=1)
    while True:
        p = c.expect_later(PUBLISH)
        if p.topic.startswith("$"):
            raise Failure("a wildcard matched %s" % p.topic)
        if p.topic == marker:
            break
    for topic_filter in ("$tern-test/#", "$tern-test/+"):
        with env.case(topic_filter):
            d = env.client(version=V)
            d.subscribe(topic_filter, qos=1)
            pub.publish("$tern-test/dollar", topic_filter, qos=1)
            d.expect_publish("$tern-test/dollar", topic_filter)


@covers("MQTT311-4.7.3-2")
def test_null_in_topics(env):
    rows = [("topic", publish(b"a\0b", b"x", version=V)), ("filter", subscribe(1, [(b"a\0b", 0)], version=V))]
    for name, data in rows:
        with env.case(name):
            c = env.client(version=V)
            c.send(data)
            c.expect_closed()


@covers("MQTT311-4.7.3-3")
def test_the_longest_topic(env):
    c, pub = env.client(version=V), env.client(version=V)
    topic = env.topic("x" * (65535 - len(env.topic(""))))
    check_equal(len(topic), 65535, "the test's own topic")
    c.subscribe(topic, qos=1)
    pub.publish(topic, b"x", qos=1)
    c.expect_publish(topic, b"x")


@covers("MQTT311-4.8.0-1", "MQTT311-4.8.0-2")
def test_an_error_ends_only_its_own_connection(env):
    good, bad = env.client(version=V), env.client(version=V)
    good.subscribe(env.topic("t"), qos=1)
    bad.send(b"\x36\0")
    bad.expect_closed()
    good.publish(env.topic("t"), b"x", qos=1)
    good.acknowledge(good.expect_later(PUBLISH, payload=b"x"))
    good.ping()
