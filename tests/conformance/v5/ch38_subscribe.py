"""5.0, chapters 3.8 to 3.11: SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK."""

from kit import check, check_equal, covers
from lib.mqtt import *  # noqa: F403

MALFORMED = (0x81, 0x82)
KEEP = {"session_expiry": 60}


@covers("MQTT-3.8.3-2", "MQTT-3.10.3-2", "MQTT-4.13.1-1")
def test_malformed(env):
    f = string("f")
    rows = [
        ("SUBSCRIBE empty", packet(0x82, b"")), ("SUBSCRIBE identifier alone", packet(0x82, b"\x00\x01")),
        ("SUBSCRIBE without filter", subscribe(1, [])), ("SUBSCRIBE without options", packet(0x82, b"\0\x01\0" + f)),
        ("SUBSCRIBE filter cut short", packet(0x82, b"\0\x01\0\0\x05ab")),
        ("SUBSCRIBE second filter without options", packet(0x82, b"\0\x01\0" + f + b"\0" + f)),
        ("SUBSCRIBE second filter cut short", packet(0x82, b"\0\x01\0" + f + b"\0\0")),
        ("SUBSCRIBE properties cut short", packet(0x82, b"\0\x01\x02\x0b")),
        ("SUBSCRIBE property of PUBLISH", subscribe(1, [("f", 0)], props={"topic_alias": 1})),
        ("SUBSCRIBE unknown property", subscribe(1, [("f", 0)], props=b"\x7e\x00")),
        ("SUBSCRIBE identifier twice", subscribe(1, [("f", 0)], props=one_property("subscription_id", 1) * 2)),
        ("SUBSCRIBE identifier 0", subscribe(1, [("f", 0)], props={"subscription_id": 0})),
        ("UNSUBSCRIBE empty", packet(0xA2, b"")), ("UNSUBSCRIBE without filter", unsubscribe(1, [])),
        ("UNSUBSCRIBE filter cut short", packet(0xA2, b"\0\x01\0\0\x05ab")),
        ("UNSUBSCRIBE second filter cut short", packet(0xA2, b"\0\x01\0" + f + b"\0\x02a")),
        ("UNSUBSCRIBE subscription identifier", unsubscribe(1, ["f"], props={"subscription_id": 1})),
        ("UNSUBSCRIBE unknown property", unsubscribe(1, ["f"], props=b"\x7e\x00")),
    ]
    for name, data in rows:
        with env.case(name):
            env.client().send(data).expect_closed(MALFORMED)


@covers("MQTT-3.8.3-5")
def test_options_byte(env):
    for opts in (0x03, 0x07, 0x30, 0x34, 0x3C, 0x40, 0x80, 0xC0, 0x41, 0xFF):
        with env.case("options 0x%02x" % opts):
            env.client().send(subscribe(1, [(env.topic("f"), 0), (env.topic("g"), opts)])).expect_closed(MALFORMED)
    c = env.client()
    for opts in (0x00, 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x2E, 0x1D):
        with env.case("options 0x%02x" % opts):
            c.subscribe([(env.topic("f"), opts)])


@covers("MQTT-3.8.3-3")
def test_no_local(env):
    for qos in (0, 1, 2):
        with env.case("QoS %d" % qos):
            me, other = env.client(), env.client()
            topic = env.topic("t%d" % qos)
            me.subscribe(topic, qos=2, no_local=True)
            other.subscribe(topic, qos=2, no_local=True)
            me.publish(topic, "mine", qos=qos)
            other.expect_publish(topic, "mine", qos=qos)
            other.publish(topic, "other's", qos=qos)
            me.expect_publish(topic, "other's", qos=qos)
            me.expect_nothing()
            other.expect_nothing()


@covers("MQTT-3.8.3-3")
def test_no_local_is_by_client_id(env):
    """It holds for what the same client id published before it went away, and only for the subscription that has it."""
    me, pub = env.client(clean=False, props=KEEP), env.client()
    me.subscribe([(env.topic("#"), options(1, no_local=True))])
    me.publish(env.topic("t"), "mine", qos=1, ack=False)
    me.disconnect()
    pub.publish(env.topic("t"), "other's", qos=1)
    me.reopen(session_present=True)
    me.expect_publish(env.topic("t"), "other's")
    me.expect_nothing()
    me.subscribe([(env.topic("+"), options(1))])
    me.publish(env.topic("t"), "both", qos=1)
    me.expect_publish(env.topic("t"), "both")
    me.expect_nothing()


@covers("MQTT-3.8.3-4")
def test_no_local_on_a_shared_subscription(env):
    env.client().send(subscribe(1, [("$share/g/" + env.topic("t"), 4)])).expect_closed(0x82)


@covers("MQTT-3.8.4-1", "MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.8.4-7", "MQTT-3.9.3-1", "MQTT-3.9.3-2")
def test_one_code_for_each_filter_in_order(env):
    c = env.client()
    filters = [(env.topic("%d" % n), n * 7 % 3) for n in range(200)]
    c.subscribe(filters)
    pub = env.client()
    for f, qos in filters[::23]:
        pub.publish(f, "x", qos=2)
        c.expect_publish(f, "x", qos=qos)


BAD_FILTERS = ["", "#/a", "a/#/b", "a#", "#a", "a/b#", "a+", "+a", "a/+b/c", "a/b+", "++", "##", "a/##", "a/#/"]


@covers("MQTT-3.8.4-7", "MQTT-3.9.3-1", "MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.3-1", "MQTT-3.8.4-5")
def test_bad_filters(env):
    """0x8F in its place, or the end of the connection; the good ones beside it are granted in the first case."""
    for bad in BAD_FILTERS:
        with env.case(repr(bad)):
            c = env.client()
            c.send(subscribe(7, [(env.topic("good"), 1), (bad, 0), (env.topic("fine"), 2)]))
            p = c.receive()
            if p is None or p.type == DISCONNECT:
                check(p is None or p.reason in (0x81, 0x82, 0x8F), "got %r" % p)
                continue
            check(p.type == SUBACK and p.pid == 7 and p.reasons == [1, 0x8F, 2], "got %r" % p)
            env.client().publish(env.topic("good"), "x", qos=1)
            c.expect_publish(env.topic("good"), "x")


@covers("MQTT-3.10.3-1", "MQTT-4.7.1-1", "MQTT-3.11.3-2")
def test_unsubscribe_bad_filters(env):
    for bad in BAD_FILTERS:
        with env.case(repr(bad)):
            c = env.client()
            c.send(unsubscribe(7, [bad]))
            p = c.receive()
            if p is None or p.type == DISCONNECT:
                check(p is None or p.reason in (0x81, 0x82, 0x8F), "got %r" % p)
                continue
            check(p.type == UNSUBACK and p.reasons in ([0x8F], [0x11]), "got %r" % p)


@covers("MQTT-3.8.4-3", "MQTT-3.8.4-4")
def test_replacement(env):
    """One subscription per filter: QoS, identifier and options are the last ones, and one copy comes."""
    sub, pub = env.client(), env.client()
    for qos, ident in ((2, 5), (0, 6), (1, None), (2, 7)):
        with env.case("QoS %d, identifier %r" % (qos, ident)):
            sub.subscribe(env.topic("t"), qos=qos, props={} if ident is None else {"subscription_id": ident})
            pub.publish(env.topic("t"), "x", qos=2)
            sub.expect_publish(env.topic("t"), "x", qos=qos, props={"subscription_id": ident and [ident]})
            sub.expect_nothing()
    sub.unsubscribe(env.topic("t"))
    pub.publish(env.topic("t"), "gone", qos=1)
    sub.expect_nothing()


@covers("MQTT-3.8.4-4")
def test_nothing_is_lost_while_replacing(env):
    """A publisher keeps sending while the subscriber subscribes again and again."""
    for qos in (1, 2):
        sub, pub = env.client(props={"receive_max": 1000}), env.client()
        sub.subscribe(env.topic("t"), qos=qos)
        got, count = [], min(100, pub.connack.props.get("receive_max", 100))
        for number in range(count):
            pub.send(publish(env.topic("t"), b"%d" % number, qos, pid=number + 1))
            sub.send(subscribe(number + 1, [(env.topic("t"), qos)]))
        while len(got) < count:
            p = sub.receive()
            check(p is not None and p.type in (PUBLISH, SUBACK), "got %r" % p)
            if p.type == PUBLISH:
                got.append(p.payload)
        check_equal(got, [b"%d" % n for n in range(count)], "QoS %d: the payloads" % qos)


@covers("MQTT-3.8.4-8")
def test_qos_is_the_lower_one(env):
    pub = env.client()
    for granted in (0, 1, 2):
        subs = env.many(3)
        for sub in subs:
            sub.subscribe(env.topic("t"), qos=granted)
        for published in (0, 1, 2):
            with env.case("published %d, granted %d" % (published, granted)):
                pub.publish(env.topic("t"), "x", qos=published)
                for sub in subs:
                    sub.expect_publish(env.topic("t"), "x", qos=min(published, granted))


@covers("MQTT-3.8.4-1", "MQTT-3.8.4-2")
def test_suback_means_subscribed(env):
    """A publish that starts after the SUBACK is delivered, whichever shards the two are on."""
    pubs = env.many(3)
    for number in range(30):
        sub, topic = env.client(), env.topic("t%d" % number)
        sub.subscribe(topic, qos=1)
        pubs[number % 3].publish(topic, "x", qos=number % 3)
        sub.expect_publish(topic, "x")
        sub.close()


@covers("MQTT-3.10.4-1", "MQTT-3.10.4-2", "MQTT-3.10.4-4", "MQTT-3.11.3-1", "MQTT-3.11.3-2")
def test_unsubscribe_compares_characters(env):
    """Filters are not topics here: `+` takes away `+` alone."""
    sub, pub = env.client(), env.client()
    filters = [env.topic("a"), env.topic("+"), env.topic("#"), env.topic("A"), env.topic("a/")]
    for f in filters:
        sub.subscribe(f, qos=1)
    for wrong in (env.topic("b"), env.topic("+/"), env.topic("a/#"), "#", "+", env.topic("\u0430")):
        with env.case(wrong):
            sub.unsubscribe(wrong, reasons=[0x11])
    pub.publish(env.topic("a"), "x", qos=1)
    sub.expect_publish(env.topic("a"), "x")
    sub.unsubscribe([env.topic("#"), env.topic("zz"), env.topic("+"), env.topic("#")], reasons=[0, 0x11, 0, 0x11])
    pub.publish(env.topic("q"), "not", qos=1)
    pub.publish(env.topic("a"), "y", qos=1)
    sub.expect_publish(env.topic("a"), "y")
    sub.unsubscribe(env.topic("a"))
    pub.publish(env.topic("a"), "z", qos=1)
    sub.expect_nothing()


@covers("MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-3.10.4-6")
def test_unsubscribe_answers(env):
    c = env.client()
    c.unsubscribe([env.topic("n%d" % n) for n in range(150)], reasons=[0x11] * 150)
    c.subscribe(env.topic("x"))
    c.unsubscribe(env.topic("x"))
    c.unsubscribe(env.topic("x"), reasons=[0x11])


@covers("MQTT-3.10.4-2")
def test_unsubscribed_across_shards(env):
    """After UNSUBACK no publisher's message comes any more, while other subscribers get all."""
    subs, pubs = env.many(6), env.many(3)
    for sub in subs:
        sub.subscribe(env.topic("#"), qos=1)
    for number, sub in enumerate(subs):
        sub.unsubscribe(env.topic("#"))
        for pub in pubs:
            pub.publish(env.topic("t"), "%d" % number, qos=1)
        for other in subs[number + 1:]:
            for _ in pubs:
                other.expect_publish(env.topic("t"), "%d" % number)
    for sub in subs:
        sub.expect_nothing(0)


@covers("MQTT-3.10.4-3")
def test_unsubscribe_finishes_what_has_begun(env):
    """QoS 1 and 2 messages on their way are completed, and resent when the client comes back."""
    sub, pub = env.client(clean=False, props=KEEP), env.client()
    sub.subscribe(env.topic("#"), qos=2)
    pub.publish(env.topic("one"), "1", qos=1)
    pub.publish(env.topic("two"), "2", qos=2)
    pub.publish(env.topic("rel"), "3", qos=2)
    one = sub.expect_publish(env.topic("one"), "1", qos=1, ack=False)
    two = sub.expect_publish(env.topic("two"), "2", qos=2, ack=False)
    rel = sub.expect_publish(env.topic("rel"), "3", qos=2, ack=False)
    sub.send(ack(PUBREC, rel.pid)).expect(PUBREL, pid=rel.pid)
    sub.unsubscribe(env.topic("#"))
    pub.publish(env.topic("one"), "late", qos=1)
    sub.expect_nothing()
    sub.reopen(session_present=True)
    check_equal(sub.expect_publish(env.topic("one"), "1", dup=True).pid, one.pid, "packet identifier")
    again = sub.expect_later(PUBLISH, topic=env.topic("two"), dup=True, pid=two.pid)
    sub.expect_later(PUBREL, pid=rel.pid)
    sub.send(ack(PUBCOMP, rel.pid))
    sub.acknowledge(again)
    sub.expect_nothing()


@covers("MQTT-3.8.4-5", "MQTT-3.10.4-6")
def test_the_same_filter_twice_in_one_packet(env):
    """As a sequence of packets would: the last one counts; the second UNSUBSCRIBE finds nothing."""
    sub, pub = env.client(), env.client()
    sub.subscribe([(env.topic("t"), 2), (env.topic("t"), 0)])
    pub.publish(env.topic("t"), "x", qos=2)
    sub.expect_publish(env.topic("t"), "x", qos=0)
    sub.unsubscribe([env.topic("t"), env.topic("t")], reasons=[0, 0x11])
    sub.expect_nothing()


@covers("MQTT-3.8.4-1")
def test_user_properties_are_taken(env):
    c = env.client()
    c.subscribe(env.topic("t"), props={"user_property": [("a", "b")] * 20})
    c.unsubscribe(env.topic("t"), props={"user_property": [("a", "b")] * 20})
