"""What else a listener may be and be bound by: rates of messages, versions, mount points, connections."""

import time

from guarded import SECONDS, gone, guarded, quiet
from kit import check, check_equal, eventually
from lib.mqtt import PUBACK, Will, publish


def sent_all(house, pubs, sub, count, size=10):
    """Send count messages from each publisher as fast as the socket takes them; all must arrive. Returns seconds."""
    start = time.monotonic()
    for c in pubs:
        topic, fill = "t/" + c.client_id, b"x" * (size - 5)
        c.send(b"".join(publish(topic, b"%05d" % n + fill, 1, pid=n + 1) for n in range(count)), "a burst")
    got = {}
    for _ in range(count * len(pubs)):
        p = sub.expect_publish(timeout=60)
        got.setdefault(p.topic, []).append(int(p.payload[:5]))
    check_equal(got, {"t/" + c.client_id: list(range(count)) for c in pubs}, "what arrived")
    seconds = time.monotonic() - start
    for c in pubs:
        for n in range(count):
            c.expect(PUBACK, pid=n + 1, reason=0, timeout=60)
        c.ping()
    return seconds


def test_rates_of_messages(ctx):
    """Reading pauses, nothing is lost: 120 messages take a second at the least where 60 a second are allowed, of
    which the first sixty go at once. Who is not limited is not held up."""
    rows = [("of a client", {"limits.max_publish_rate": 60}, "", 1, 10),
            ("of a client, in bytes", {"limits.max_publish_byte_rate": "60KB"}, "", 1, 1000),
            ("of a user", {"limits.max_user_publish_rate": 60}, "", 2, 10),
            ("of a user, in bytes", {"limits.max_user_publish_byte_rate": "60KB"}, "", 2, 1000),
            ("of a listener", {}, ", max_publish_rate: 60", 2, 10),
            ("of a listener, in bytes", {}, ", max_publish_byte_rate: 60KB", 2, 1000)]
    for name, settings, more, publishers, size in rows:
        house = guarded(ctx, users={"alice": "a", "bob": "b"}, settings=settings,
                        listeners='  - {address: "tcp://AT"%s}\n  - {address: "tcp://127.0.0.2:PORT"}' % more)
        sub = house.client("bob", host="127.0.0.2", keep_alive=0)
        sub.subscribe("t/#", qos=1)
        free = house.client("bob", host="127.0.0.2", keep_alive=0)
        pubs = [house.client("alice", keep_alive=0) for _ in range(publishers)]
        seconds = sent_all(house, pubs, sub, 120 // publishers, size)
        check(seconds >= 0.7, "%s: 120 messages took %.2f s" % (name, seconds))
        if "of a client" not in name:
            sent_all(house, [free], sub, 120, size)
        ctx.brokers.remove(house)
        check_equal(house.stop(), [], name)
        house.remove()


def test_a_paused_client_is_not_taken_for_dead(ctx):
    """While its messages are not read its keep alive does not run out; and its will is not published."""
    house = guarded(ctx, users={"alice": "a"}, settings={"limits.max_publish_rate": 10})
    sub = house.client("alice")
    sub.subscribe(["t", "will"], qos=0)
    c = house.client("alice", keep_alive=1, will=Will("will", b"dead"))
    c.send(b"".join(publish("t", b"%d" % n) for n in range(45)))
    for n in range(45):
        sub.expect_publish("t", b"%d" % n, timeout=SECONDS)
    c.ping()


# ---- what else a listener may be ----


def test_versions_of_a_listener(ctx):
    house = guarded(ctx, listeners="""\
  - {address: "tcp://AT"}
  - {address: "tcp://127.0.0.2:PORT", versions: [5.0]}
  - {address: "tcp://127.0.0.3:PORT", versions: ["3.1", "3.1.1"]}
  - {address: "tcp://127.0.0.4:PORT", versions: ["3.1.1"]}""")
    for host, spoken in (("127.0.0.1", {3, 4, 5}), ("127.0.0.2", {5}), ("127.0.0.3", {3, 4}), ("127.0.0.4", {4})):
        for version, code in ((3, 1), (4, 1), (5, 0x84)):
            if version in spoken:
                house.client(version=version, host=host).disconnect()
            else:
                house.refused(code, version=version, host=host)


TENANTS = """\
  - {address: "tcp://AT"}
  - {address: "tcp://127.0.0.2:PORT", mount_point: one/}
  - {address: "tcp://127.0.0.3:PORT", mount_point: two/}"""
BOTH = ("127.0.0.2", "127.0.0.3")


def test_mount_points(ctx):
    """Two tenants with the same topics see nothing of one another; who stands outside sees both."""
    house = guarded(ctx, listeners=TENANTS)
    outside = house.client()
    outside.subscribe(["one/#", "two/#"], qos=1)
    one, two = (house.client(host=h) for h in BOTH)
    for c in (one, two):
        c.subscribe(["#", "a/+"], qos=2)
    for version in (3, 4, 5):
        pub = house.client(host=BOTH[0], version=version)
        for qos in (0, 1, 2):
            pub.publish("a/b", b"m", qos=qos)
            p = one.expect_publish(payload=b"m", qos=qos)
            check_equal(p.topic, "a/b", "topic that the tenant sees")
            outside.expect_publish("one/a/b", b"m", qos=min(qos, 1))
    two.expect_nothing()
    outside.publish("one/from/outside", b"o", qos=1)
    one.expect_publish("from/outside", b"o")
    outside.expect_publish("one/from/outside", b"o")
    outside.publish("from/outside", b"o", qos=1)
    one.publish("$SYS/broker/uptime", b"forged", qos=1, reason=(0, 0x10))  # below its point it is a topic like others
    two.publish("/", b"slash", qos=1)
    two.expect_publish("/", b"slash")
    outside.expect_later(3, topic="one/$SYS/broker/uptime")
    outside.expect_publish("two//", b"slash")
    one.publish("x" * 65533, b"", qos=0)
    check_equal(gone(one), 0x90, "a topic that is too long with its mount point")


def test_mount_points_retained_wills_and_unsubscribe(ctx):
    house = guarded(ctx, listeners=TENANTS)
    outside = house.client()
    pubs = [house.client(host=h) for h in BOTH]
    for c, payload in zip(pubs, (b"1", b"2")):
        c.publish("kept", payload, qos=1, retain=True)
    for h, payload in zip(BOTH, (b"1", b"2")):
        late = house.client(host=h)
        late.subscribe("#", qos=1)
        late.expect_publish("kept", payload, retain=True)
        late.expect_nothing()
        late.disconnect()
    outside.subscribe("+/kept")
    check_equal({outside.expect_publish(retain=True).topic for _ in BOTH}, {"one/kept", "two/kept"}, "retained topics")
    pubs[0].publish("kept", b"", qos=1, retain=True)
    check_equal(house.client().subscribe("one/kept") is not None, True, "subscribed")
    subs = [house.client(host=h) for h in BOTH]
    for c in subs:
        c.subscribe(["w", "u"])
    house.client(host=BOTH[0], will=Will("w", b"gone")).abort()
    subs[0].expect_publish("w", b"gone", timeout=SECONDS)
    subs[1].expect_nothing()
    subs[0].unsubscribe(["u", "w", "never"], reasons=[0, 0, 0x11])
    for c in pubs:
        c.publish("u", b"u", qos=1)
    subs[1].expect_publish("u", b"u")
    subs[0].expect_nothing()


def test_mount_points_shared_subscriptions_and_sessions(ctx):
    house = guarded(ctx, listeners=TENANTS)
    members = [house.client(host=h, clean=False, props={"session_expiry": 60}) for h in BOTH + BOTH]
    for c in members:
        c.subscribe("$share/g/job/#", qos=1)
    pubs = [house.client(host=h) for h in BOTH]
    for n in range(10):
        pubs[0].publish("job/%d" % n, b"one", qos=1)
    got = [quiet(c) for c in members]
    check_equal(sorted(t for t, _ in got[0] + got[2]), sorted("job/%d" % n for n in range(10)), "jobs of tenant one")
    check_equal(got[1] + got[3], [], "jobs of tenant one that went to tenant two")
    for c in (members[0], members[2]):
        c.close()
    pubs[0].publish("job/later", b"kept", qos=1)
    back = [c.open(clean=False, session_present=True, props={"session_expiry": 60}) for c in (members[0], members[2])]
    check_equal([m for c in back for m in quiet(c)], [("job/later", "kept")], "what was kept for tenant one")
    for c in back:
        c.unsubscribe("$share/g/job/#")
    pubs[0].publish("job/none", b"", qos=1)
    for c in back + [members[1], members[3]]:
        c.expect_nothing()


def test_connections_of_a_listener(ctx):
    house = guarded(ctx, listeners='  - "tcp://AT"\n  - {address: "tcp://127.0.0.2:PORT", max_connections: 3}')
    inside = [house.client(host="127.0.0.2") for _ in range(3)]
    check(not house.comes_in(host="127.0.0.2"), "a fourth comes in")
    house.client().ping()
    check(house.lines("connection_refused", "too many connections of this listener"), "no line")
    inside.pop().disconnect()
    eventually("there is room again", lambda: house.comes_in(host="127.0.0.2"), SECONDS)
    for c in inside:
        c.ping()
