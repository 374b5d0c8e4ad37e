"""The limits of the configuration: each is reached, and passed by one."""

import time

from kit import check, check_equal, covers, drain, settings
from lib.mqtt import *  # noqa: F403

KEEP = {"session_expiry": 60}


def refused(c, data, codes):
    """Send a packet that is over a limit: answered by DISCONNECT, PUBACK, PUBREC or SUBACK with one of the codes."""
    c.send(data)
    p = c.receive()
    check(p is not None, "closed without a reason code")
    got = p.reasons[-1] if p.reasons else p.reason
    check(got in codes, "got %r, wanted %s" % (p, " or ".join("0x%02x" % x for x in codes)))
    return p


def levels(env, count):
    """A topic of this test with exactly so many levels."""
    return "/".join([env.topic("t").replace("/", "-")] + ["l"] * (count - 1))


@covers("MQTT-4.7.3-3")
@settings({"mqtt.max_topic_levels": 8})
def test_topic_levels(env):
    sub, pub = env.client(), env.client()
    sub.subscribe(levels(env, 8), qos=1)
    pub.publish(levels(env, 8), "x", qos=1)
    sub.expect_publish(levels(env, 8), "x")
    for qos in (0, 1, 2):
        with env.case("PUBLISH QoS %d" % qos):
            refused(env.client(), publish(levels(env, 9), b"x", qos, pid=1), (0x90,))
    with env.case("SUBSCRIBE"):
        refused(env.client(), subscribe(1, [(levels(env, 9), 0)]), (0x8F, 0x97))
    with env.case("will"):
        env.raw().send(connect("x", will=Will(levels(env, 9), "x"))).expect_refused((0x90, 0x81, 0x82))
    sub.ping()


@covers("MQTT-4.7.3-3")
def test_topic_levels_by_default(env):
    sub, pub = env.client(), env.client()
    sub.subscribe(levels(env, 128), qos=1)
    pub.publish(levels(env, 128), "x", qos=1)
    sub.expect_publish(levels(env, 128), "x")
    refused(pub, publish(levels(env, 129), b"x"), (0x90,))


def fill_queue(env, count, qos=1):
    """A session that is away, and count messages for it; returns it and the reason codes the publisher saw."""
    sub, pub = env.client(clean=False, props=KEEP), env.client()
    sub.subscribe(env.topic("t"), qos=2)
    sub.disconnect()
    return sub, [pub.publish(env.topic("t"), b"%d" % n, qos=qos, reason=(0, 0x10, 0x97)).reason for n in range(count)]


@covers("MQTT-4.5.0-1")
@settings({"limits.max_queued_messages": 10, "limits.queue_overflow": "drop_new"})
def test_queued_messages_drop_new(env):
    sub, codes = fill_queue(env, 13)
    check(0x97 not in codes[:10], "refused within the limit: %r" % codes)
    sub.reopen(session_present=True)
    for number in range(10):
        sub.expect_publish(env.topic("t"), "%d" % number)
    sub.expect_nothing()
    env.client().publish(env.topic("t"), "room again", qos=1)
    sub.expect_publish(env.topic("t"), "room again")


@covers("MQTT-4.5.0-1")
@settings({"limits.max_queued_messages": 10, "limits.queue_overflow": "drop_oldest"})
def test_queued_messages_drop_oldest(env):
    for qos in (1, 2):
        with env.case("QoS %d" % qos):
            sub, _ = fill_queue(env, 13, qos)
            sub.reopen(session_present=True)
            for number in range(3, 13):
                sub.expect_publish(env.topic("t"), "%d" % number)
            sub.expect_nothing()
            sub.disconnect(0, {"session_expiry": 0})


@covers("MQTT-4.5.0-1")
@settings({"limits.max_queued_messages": 5, "limits.queue_overflow": "drop_new"})
def test_in_flight_messages_are_not_queued(env):
    """The limit is on what waits behind the window."""
    sub, pub = env.client(props={"receive_max": 3}), env.client()
    sub.subscribe(env.topic("t"), qos=1)
    for number in range(10):
        pub.publish(env.topic("t"), "%d" % number, qos=1, reason=(0, 0x97))
    for number in range(8):
        sub.expect_publish(env.topic("t"), "%d" % number)
    sub.expect_nothing()


@covers("MQTT-4.5.0-1")
@settings({"limits.max_queued_messages": 8, "limits.backpressure": "60s"})
def test_many_publishers_wait_for_one_subscriber(env):
    """More publishers than the queue has places: those it has no room for wait, nothing is lost, each one's order is kept."""
    sub = env.client(props={"receive_max": 1})
    sub.subscribe(env.topic("+"), qos=1)
    first = env.client()
    first.publish(env.topic("first"), "0", qos=1)
    held = sub.receive()
    pubs = [env.client() for _ in range(30)]
    for number, pub in enumerate(pubs):
        pub.send(b"".join(publish(env.topic("%d" % number), b"%d" % n, 1, pid=n + 1) for n in range(4)))
    first.ping()
    sub.acknowledge(held)
    got = {}
    for _ in range(120):
        p = sub.receive(timeout=10)
        check(p is not None and p.type == PUBLISH, "got %r" % p)
        got.setdefault(p.topic, []).append(int(p.payload))
        sub.acknowledge(p)
    check_equal(got, {env.topic("%d" % n): [0, 1, 2, 3] for n in range(30)}, "what came from each")
    for pub in pubs:
        for n in range(4):
            pub.expect(PUBACK, pid=n + 1, reason=0)


@covers("MQTT-4.5.0-1")
@settings({"limits.max_queued_bytes": "64KiB", "limits.backpressure": "60s"})
def test_many_publishers_wait_for_bytes(env):
    """The same when the queue is full by its bytes, whatever is left of them: sixteen messages of these sizes just do not fit."""
    for over in range(0, 60, 2):
        sub, topic = env.client(props={"receive_max": 1}), env.topic("t")
        sub.subscribe(topic, qos=1)
        size = 4096 - len(topic) - over
        pubs = [env.client() for _ in range(20)]
        for number, pub in enumerate(pubs):
            pub.send(publish(topic, (b"%02d" % number).ljust(size, b"."), 1, pid=1))
        got = []
        for _ in pubs:
            p = sub.receive(timeout=10)
            got.append(int(p.payload[:2]))
            sub.acknowledge(p)
        check_equal(sorted(got), list(range(len(pubs))), "what came, %d bytes each" % size)
        for pub in pubs:
            pub.expect(PUBACK, pid=1, reason=0)
        for c in [sub] + pubs:
            c.disconnect()


def answers_until_refused(pubs):
    """The PUBACKs that have come, by publisher, when the first of them says no: the others are held, or will be."""
    answers, deadline = {}, time.monotonic() + 30
    while not any(p.reason == 0x97 for p in answers.values()):
        check(time.monotonic() < deadline, "nobody was refused")
        for number, pub in enumerate(pubs):
            try:
                if number not in answers:
                    answers[number] = pub.receive(timeout=0.02)
            except Failure:
                pass
    return answers


@covers("MQTT-4.5.0-1")
@settings({"limits.max_queued_messages": 8, "limits.backpressure": "60s", "mqtt.max_packet_size": "2MiB"})
def test_what_waits_for_a_subscriber_is_bounded(env):
    """64 MiB of a shard may wait for room in queues; who comes then is told so at once, and what was taken arrives."""
    sub, got = env.client(props={"receive_max": 1}), []
    sub.subscribe(env.topic("+"), qos=1)
    pubs = [env.client() for _ in range(90)]
    for number, pub in enumerate(pubs):
        pub.send(publish(env.topic("%d" % number), b"%d " % number + bytes(1 << 20), 1, pid=1))
    answers = answers_until_refused(pubs)
    for p in drain(sub, quiet=3):
        got.append(int(p.payload.split(b" ", 1)[0]))
    for number, pub in enumerate(pubs):
        if number not in answers:
            answers[number] = pub.expect(PUBACK, pid=1, timeout=20)
    taken = sorted(n for n, p in answers.items() if p.reason == 0)
    check_equal(sorted(got), taken, "what came, and what was acknowledged with success")
    check(64 <= len(taken) < 90, "%d of 90 were taken" % len(taken))


@covers("MQTT-4.5.0-1")
@settings({"limits.max_queued_bytes": "64KiB", "limits.queue_overflow": "drop_new"})
def test_queued_bytes(env):
    """About 64 KiB of what 200 KiB bring; whatever a message costs beside its payload."""
    sub, pub = env.client(clean=False, props=KEEP), env.client()
    sub.subscribe(env.topic("t"), qos=1)
    sub.disconnect()
    for number in range(50):
        pub.publish(env.topic("t"), b"%04d" % number + b"x" * 4092, qos=1, reason=(0, 0x97))
    sub.reopen(session_present=True)
    count = 0
    for count, p in enumerate(drain(sub), 1):
        check_equal(p.payload[:4], b"%04d" % (count - 1), "number")
    check(13 <= count <= 16, "%d messages of 4 KiB were kept in 64 KiB" % count)


@covers("MQTT-3.8.4-7")
@settings({"limits.max_subscriptions": 5})
def test_subscriptions(env):
    c = env.client()
    for number in range(5):
        c.subscribe(env.topic("%d" % number), qos=1)
    c.subscribe(env.topic("5"), reasons=[0x97])
    c.subscribe(env.topic("0"), qos=2)  # replacing needs no room
    c.unsubscribe(env.topic("1"))
    c.subscribe([(env.topic("6"), 1), (env.topic("7"), 1)], reasons=[1, 0x97])
    pub = env.client()
    pub.publish(env.topic("5"), "x", qos=1)
    pub.publish(env.topic("6"), "y", qos=1)
    c.expect_publish(env.topic("6"), "y")
    c.expect_nothing()
    env.client().subscribe(env.topic("other"), qos=1)  # the limit is each session's own


def retained_set(env):
    c = env.client()
    c.subscribe(env.topic("#"), qos=1)
    found = {p.topic: p.payload for p in drain(c)}
    c.disconnect()
    return found


@covers("MQTT-3.3.1-5")
@settings({"limits.max_retained_messages": 5})
def test_retained_messages(env):
    """The sixth is not kept; those there may change, and one removed makes room."""
    pub = env.client()
    for number in range(5):
        pub.publish(env.topic("%d" % number), "x", qos=1, retain=True)
    pub.publish(env.topic("5"), "x", qos=1, retain=True, reason=(0, 0x10, 0x97))
    check_equal(set(retained_set(env)), {env.topic("%d" % n) for n in range(5)}, "retained")
    pub.publish(env.topic("0"), "changed", qos=1, retain=True)
    check_equal(retained_set(env)[env.topic("0")], b"changed", "retained")
    pub.publish(env.topic("1"), b"", qos=1, retain=True)
    pub.publish(env.topic("5"), "x", qos=1, retain=True)
    check_equal(set(retained_set(env)), {env.topic("%d" % n) for n in (0, 2, 3, 4, 5)}, "retained")


@covers("MQTT-3.3.1-5")
@settings({"limits.max_retained_bytes": "64KiB"})
def test_retained_bytes(env):
    pub = env.client()
    for number in range(30):
        pub.publish(env.topic("%d" % number), b"x" * 4096, qos=1, retain=True, reason=(0, 0x10, 0x97))
    kept = len(retained_set(env))
    check(13 <= kept <= 16, "%d messages of 4 KiB are kept in 64 KiB" % kept)


@covers("MQTT-3.1.4-2")
@settings({"limits.max_sessions": 4})
def test_sessions(env):
    kept = [env.client(clean=False, props=KEEP) for _ in range(4)]
    kept[0].close()
    env.raw().send(connect("", props=KEEP)).expect_refused((0x97, 0x89, 0x88))
    kept[0].open(clean=False, props=KEEP, session_present=True)
    kept[1].disconnect(0, {"session_expiry": 0})
    env.client(props=KEEP)
    env.raw().send(connect("", props=KEEP)).expect_refused((0x97, 0x89, 0x88))


def user_properties(count, size=1):
    return {"user_property": [("n", "v" * (size - 1))] * count}


@covers("MQTT-3.3.2-17")
@settings({"limits.max_user_properties": 10})
def test_user_properties(env):
    sub, pub = env.pair()
    pub.publish(env.topic("t"), "x", qos=1, props=user_properties(10))
    sub.expect_publish(env.topic("t"), "x", props=user_properties(10))
    rows = [("PUBLISH QoS 0", publish(env.topic("t"), b"x", 0, props=user_properties(11))),
            ("PUBLISH QoS 1", publish(env.topic("t"), b"x", 1, pid=1, props=user_properties(11))),
            ("SUBSCRIBE", subscribe(1, [(env.topic("s"), 0)], props=user_properties(11))),
            ("UNSUBSCRIBE", unsubscribe(1, [env.topic("s")], props=user_properties(11)))]
    for name, data in rows:
        with env.case(name):
            refused(env.client(), data, (0x97, 0x95, 0x83))
    with env.case("CONNECT"):
        env.client(props=user_properties(10))
        env.raw().send(connect("x", props=user_properties(11))).expect_refused((0x97, 0x95, 0x83))
    with env.case("will"):
        env.raw().send(connect("x", will=Will("w", "x", props=user_properties(11)))).expect_refused((0x97, 0x95, 0x83))


@covers("MQTT-3.3.2-17")
@settings({"limits.max_user_property_bytes": "1KiB"})
def test_user_property_bytes(env):
    sub, pub = env.pair()
    pub.publish(env.topic("t"), "x", qos=1, props=user_properties(2, 512))
    sub.expect_publish(env.topic("t"), "x", props=user_properties(2, 512))
    props = {"user_property": [("n", "v" * 511), ("n", "v" * 512)]}
    refused(env.client(), publish(env.topic("t"), b"x", props=props), (0x97, 0x95, 0x83))
    env.raw().send(connect("x", props=props)).expect_refused((0x97, 0x95, 0x83))


@covers("MQTT-3.1.4-2")
@settings({"limits.max_connections": 10})
def test_connections(env):
    """The eleventh is closed or refused, the ten go on, and one that leaves makes room."""
    clients = env.many(10)
    over = env.raw()
    over.send(connect("x")).expect_refused() if over.sock else None
    for c in clients:
        c.ping()
    clients[0].disconnect()
    env.eventually("room for one", lambda: accepted(env))


def accepted(env, host="127.0.0.1"):
    """Whether a connection is taken and CONNECT accepted."""
    c = env.new()
    c.host = host
    try:
        c.open()
    except (AssertionError, OSError):
        c.close()
        return False
    c.disconnect()
    return True


@covers("MQTT-3.1.4-2")
@settings({"limits.max_connections_per_address": 5})
def test_connections_per_address(env):
    clients = env.many(5)
    env.raw().send(connect("x")).expect_refused()
    other = env.new("elsewhere")
    other.source = ("127.0.0.9", 0)
    other.open()
    clients[0].disconnect()
    env.eventually("room for one", lambda: accepted(env))
    for c in clients[1:]:
        c.ping()


@covers("MQTT-3.1.4-1")
@settings({"limits.connect_timeout": "1s"})
def test_connect_timeout(env):
    """From accept to CONNECT, however the bytes trickle."""
    silent, slow, start = env.raw(), env.raw(), time.monotonic()
    data = connect("x" * 50)
    for at in range(len(data)):
        if time.monotonic() - start > 2.5:
            break
        slow.send(data[at:at + 1])
        time.sleep(0.1)
    for c in (silent, slow):
        check(c.receive() is None, "wanted the end of the connection")
    check(time.monotonic() - start < 4, "closed after %.1f s" % (time.monotonic() - start))
    c = env.client()
    time.sleep(1.5)
    c.ping()


@covers("MQTT-3.2.2-15")
@settings({"mqtt.max_packet_size": 1024})
def test_packet_size_of_other_packets(env):
    """The limit holds for each packet, and is told at once: before the body has come."""
    for name, data in (("SUBSCRIBE", subscribe(1, [("f" * 1024, 0)])), ("UNSUBSCRIBE", unsubscribe(1, ["f" * 1024])),
                       ("PUBACK", ack(PUBACK, 1, 0, {"reason_string": "r" * 1024})),
                       ("DISCONNECT", disconnect(0, {"reason_string": "r" * 1024}))):
        with env.case(name):
            env.client().send(data[:10]).expect_closed(0x95)


@covers("MQTT-4.9.0-2")
@settings({"mqtt.max_inflight": 4})
def test_messages_in_flight_to_a_client(env):
    """Fewer than the client's Receive Maximum, when the server is set so; the client's when that is less."""
    pub = env.client()
    for told, most in ((None, 4), (100, 4), (3, 3)):
        with env.case("Receive Maximum %r" % told):
            sub = env.client(props={} if told is None else {"receive_max": told})
            sub.subscribe(env.topic("t%r" % told), qos=1)
            for number in range(8):
                pub.publish(env.topic("t%r" % told), "%d" % number, qos=1)
            held = [sub.expect_publish(payload="%d" % n, ack=False) for n in range(most)]
            sub.expect_nothing()
            for p in held:
                sub.acknowledge(p)
            for number in range(most, 8):
                sub.expect_publish(payload="%d" % number)


@covers("MQTT-3.1.2-26")
@settings({"mqtt.topic_alias_out": 2})
def test_aliases_towards_a_client(env):
    """The server sets up no more than it is set to, though the client would take more."""
    sub, pub = env.client(props={"topic_alias_max": 100}), env.client()
    sub.subscribe(env.topic("#"), qos=1)
    for number in range(60):
        topic = env.topic("t%d" % (number % 6))
        pub.publish(topic, "%d" % number, qos=1)
        check(sub.expect_publish(topic, "%d" % number).props.get("topic_alias", 0) <= 2, "alias beyond 2")


@covers("MQTT-3.3.1-9")
@settings({"mqtt.validate_payload_format": True})
def test_payload_format_of_wills(env):
    """A will that is not the UTF-8 it says it is: refused with CONNECT, or not published."""
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    c = env.raw()
    c.send(connect(c.client_id, will=Will(env.topic("w"), b"\xff", 1, props={"payload_format": 1})))
    p = c.receive()
    check(p is not None and p.type == CONNACK and p.reason in (0, 0x99), "got %r" % p)
    c.abort()
    sub.expect_nothing(0.3)


@covers("MQTT-3.3.2-4")
def test_payload_format_is_not_checked_by_default(env):
    sub, pub = env.pair()
    pub.publish(env.topic("t"), b"\xff", qos=1, props={"payload_format": 1})
    sub.expect_publish(env.topic("t"), b"\xff", props={"payload_format": 1})


@covers("MQTT-4.9.0-3")
@settings({"limits.max_publish_rate": 50})
def test_publish_rate(env):
    """Beyond it the server reads more slowly; nothing is lost and nobody is closed."""
    sub, pub = env.pair(qos=0)
    start = time.monotonic()
    pub.send(b"".join(publish(env.topic("t"), b"%d" % n) for n in range(150)))
    for number in range(150):
        sub.expect_publish(env.topic("t"), "%d" % number)
    took = time.monotonic() - start
    check(took >= 0.9, "150 messages in %.2f s at 50 a second" % took)
    check(took < 8, "150 messages took %.2f s at 50 a second" % took)
    pub.ping()


@covers("MQTT-4.3.2-4")
@settings({"limits.max_outbox_bytes": "64KiB", "limits.backpressure": "1s"})
def test_slow_subscriber(env):
    """A subscriber that does not read holds up nobody for long: another gets everything, the publisher its
    acknowledgements, and QoS 1 reaches the slow one when it reads again."""
    slow, good, pub = env.client(props={"receive_max": 5}), env.client(), env.client()
    for sub in (slow, good):
        sub.subscribe(env.topic("#"), qos=1)
    for number in range(60):
        pub.publish(env.topic("zero"), b"z" * 200000)
        good.expect_publish(env.topic("zero"), timeout=20)
        if number % 10 == 0:
            pub.publish(env.topic("one"), b"%d" % number, qos=1)
            good.expect_publish(env.topic("one"), "%d" % number, timeout=20)
    got, deadline = [], time.monotonic() + 20
    while len(got) < 6:
        check(time.monotonic() < deadline, "QoS 1 messages: %r" % got)
        p = slow.receive()
        check(p is not None and p.type == PUBLISH, "got %r" % p)
        slow.acknowledge(p)
        if p.qos:
            got.append(int(p.payload))
    check_equal(got, [0, 10, 20, 30, 40, 50], "QoS 1 messages")
