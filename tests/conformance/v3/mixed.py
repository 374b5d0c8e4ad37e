"""Clients of 3.1, 3.1.1 and 5.0 on one port: what one publishes, the others get, with properties where they exist."""

import itertools
import time

from kit import check, check_equal
from lib.mqtt import PUBLISH, PUBREC, Failure, Will, ack

VERSIONS = (3, 4, 5)
PROPERTIES = {"payload_format": 1, "content_type": "text/plain", "response_topic": "answers/here",
              "correlation_data": b"\0\1\2", "user_property": [("a", "1"), ("b", "2"), ("a", "3")]}


def pairs():
    return [(p, s) for p in VERSIONS for s in VERSIONS]


def test_every_qos_between_all_versions(env):
    for p, s in pairs():
        pub, sub = env.client(version=p), env.client(version=s)
        for granted in (0, 1, 2):
            sub.subscribe(env.topic("%d-%d" % (p, s)), qos=granted)
            for qos in (0, 1, 2):
                with env.case("from %d to %d, published %d, granted %d" % (p, s, qos, granted)):
                    payload = b"payload %d %d" % (qos, granted)
                    pub.publish(env.topic("%d-%d" % (p, s)), payload, qos=qos)
                    got = sub.expect_publish(env.topic("%d-%d" % (p, s)), payload, min(qos, granted), False, False)
                    check_equal(set(got.props) - {"topic_alias"}, set(), "the properties")


def test_one_message_to_all_versions(env):
    subs = {v: env.client(version=v) for v in VERSIONS}
    for c in subs.values():
        c.subscribe(env.topic("t"), qos=2)
    for v, qos in itertools.product(VERSIONS, (0, 1, 2)):
        with env.case("from %d with QoS %d" % (v, qos)):
            pub = env.client(version=v)
            pub.publish(env.topic("t"), b"to all", qos=qos, props=PROPERTIES if v == 5 else None)
            for s, c in subs.items():
                got = c.expect_publish(env.topic("t"), b"to all", qos)
                for name, value in PROPERTIES.items():
                    check_equal(got.props.get(name), value if v == s == 5 else None, "%s for %d" % (name, s))


def test_topic_aliases_end_at_the_broker(env):
    subs = [env.client(version=v) for v in VERSIONS]
    for c in subs:
        c.subscribe(env.topic("+"), qos=1)
    pub = env.client()
    pub.publish(env.topic("a"), b"1", qos=1, props={"topic_alias": 1})
    pub.publish("", b"2", qos=1, props={"topic_alias": 1})
    pub.publish(env.topic("b"), b"3", qos=1, props={"topic_alias": 1})
    pub.publish("", b"4", qos=1, props={"topic_alias": 1})
    for c in subs:
        for topic, payload in (("a", b"1"), ("a", b"2"), ("b", b"3"), ("b", b"4")):
            c.expect_publish(env.topic(topic), payload)


def test_retained_messages_across_versions(env):
    for p, s in pairs():
        with env.case("from %d to %d" % (p, s)):
            topic = env.topic("%d-%d" % (p, s))
            pub = env.client(version=p)
            pub.publish(topic, b"kept", qos=2, retain=True, props=PROPERTIES if p == 5 else None)
            sub = env.client(version=s)
            sub.subscribe(topic, qos=2)
            got = sub.expect_publish(topic, b"kept", qos=2, retain=True, dup=False)
            for name, value in PROPERTIES.items():
                check_equal(got.props.get(name), value if p == s == 5 else None, name)
            remover = env.client(version=s)
            remover.publish(topic, b"", qos=1, retain=True)
            sub.expect_publish(topic, b"", retain=False)
            late = env.client(version=p)
            late.subscribe(topic)
            late.expect_nothing()


def test_wills_across_versions(env):
    for p, s in pairs():
        with env.case("from %d to %d" % (p, s)):
            sub = env.client(version=s)
            sub.subscribe(env.topic("will"), qos=2)
            props = {"content_type": "text/will", "user_property": [("k", "v")], "response_topic": "r"}
            will = Will(env.topic("will"), b"bye %d" % p, qos=1, props=props if p == 5 else None)
            env.client(version=p, will=will).abort()
            got = sub.expect_publish(env.topic("will"), b"bye %d" % p, qos=1)
            for name, value in props.items():
                check_equal(got.props.get(name), value if p == s == 5 else None, name)
            sub.close()


def test_message_expiry_holds_for_old_subscribers(env):
    """The property is not sent to them, but what has expired is not delivered either."""
    away = [env.client(env.client_id(), v, clean=False) for v in (3, 4)]
    for c in away:
        c.subscribe(env.topic("q"), qos=1)
        c.disconnect()
    pub = env.client()
    pub.publish(env.topic("q"), b"short", qos=1, props={"message_expiry": 1})
    pub.publish(env.topic("q"), b"long", qos=1, props={"message_expiry": 1000})
    pub.publish(env.topic("r"), b"short", qos=1, retain=True, props={"message_expiry": 1})
    time.sleep(2.2)
    for c in away:
        c.open(clean=False)
        c.expect_publish(env.topic("q"), b"long")
        c.expect_nothing()
        c.subscribe(env.topic("r"), qos=1)
        c.expect_nothing()


def test_queued_messages_lose_or_keep_properties_at_delivery(env):
    """One session, filled by a 5.0 publisher, emptied by a client of another version than the one that made it."""
    for made, emptied in [(4, 5), (5, 4), (3, 5), (5, 3)]:
        with env.case("made by %d, emptied by %d" % (made, emptied)):
            client_id = env.client_id()
            more = {"props": {"session_expiry": 1000}} if made == 5 else {}
            first = env.client(client_id, made, clean=False, **more)
            first.subscribe(env.topic("t"), qos=1)
            first.disconnect()
            env.client().publish(env.topic("t"), b"kept", qos=1, props=PROPERTIES)
            more = {"props": {"session_expiry": 1000}} if emptied == 5 else {}
            second = env.client(client_id, emptied, clean=False, **more)
            if emptied != 3:
                check_equal(second.connack.session_present, True, "Session Present")
            got = second.expect_publish(env.topic("t"), b"kept", qos=1)
            for name, value in PROPERTIES.items():
                check_equal(got.props.get(name), value if emptied == 5 else None, name)
            second.reopen(clean=True)
            second.disconnect()


def test_takeover_across_versions(env):
    for old, new in pairs():
        with env.case("%d replaced by %d" % (old, new)):
            client_id = env.client_id()
            first = env.client(client_id, old)
            second = env.client(client_id, new)
            first.expect_closed(0x8E)
            second.ping()


def test_an_old_session_does_not_expire(env):
    """A 3.1.1 session with CleanSession 0 lasts until a clean one replaces it; of a 5.0 client's, 0 seconds is over."""
    for v, props, want in [(4, None, True), (5, {"session_expiry": 0}, False), (5, {"session_expiry": 60}, True)]:
        with env.case("%d %s" % (v, props)):
            client_id = env.client_id()
            env.client(client_id, v, clean=False, props=props).disconnect()
            time.sleep(1.2)
            env.client(client_id, 4, clean=False, session_present=want)


def test_limits_of_a_5_0_subscriber_hold_for_old_publishers(env):
    pub = env.client(version=4)
    sub = env.client(props={"maximum_packet_size": 200, "receive_max": 2})
    sub.subscribe(env.topic("t"), qos=1)
    pub.publish(env.topic("t"), b"x" * 500, qos=1)
    for i in range(4):
        pub.publish(env.topic("t"), b"%d" % i, qos=1)
    open_now = [sub.expect_publish(payload=b"%d" % i, qos=1, ack=False) for i in range(2)]
    sub.expect_nothing()
    for p in open_now:
        sub.acknowledge(p)
    for i in (2, 3):
        sub.expect_publish(payload=b"%d" % i, qos=1)


def test_subscription_options_do_not_touch_old_subscribers(env):
    new, old = env.client(), env.client(version=4)
    new.subscribe(env.topic("t"), qos=1, retain_as_published=True, no_local=True, props={"subscription_id": 7})
    old.subscribe(env.topic("t"), qos=1)
    pub = env.client(version=4)
    pub.publish(env.topic("t"), b"x", qos=1, retain=True)
    new.expect_publish(payload=b"x", retain=True, props={"subscription_id": [7]})
    old.expect_publish(payload=b"x", retain=False)
    for c, heard in ((new, False), (old, True)):
        c.publish(env.topic("t"), b"own", qos=1)
        if heard:
            c.acknowledge(c.expect_later(PUBLISH, payload=b"own"))
            new.expect_publish(payload=b"own")
        else:
            old.expect_publish(payload=b"own")
            c.expect_nothing()


def test_a_shared_group_of_all_versions(env):
    members, pub = [env.client(version=v) for v in VERSIONS * 2], env.client()
    for c in members:
        c.subscribe("$share/mixed/" + env.topic("t"), qos=1)
    for i in range(60):
        pub.publish(env.topic("t"), b"%d" % i, qos=1, props=PROPERTIES)
    got = []
    for c in members:
        while True:
            try:
                p = c.receive(0.3)
            except Failure:
                break
            check(c.version == 5 or not p.props, "properties for version %d" % c.version)
            c.acknowledge(p)
            got.append(int(p.payload))
    check_equal(sorted(got), list(range(60)), "what the members got together")


def test_a_qos_2_handshake_survives_a_change_of_version(env):
    sub, client_id = env.client(), env.client_id()
    sub.subscribe(env.topic("t"), qos=2)
    old = env.client(client_id, 4, clean=False)
    old.publish(env.topic("t"), b"once", qos=2, pid=5, ack=False)
    old.expect(PUBREC, pid=5)
    old.close()
    new = env.client(client_id, 5, clean=False, props={"session_expiry": 100}, session_present=True)
    new.publish(env.topic("t"), b"once", qos=2, pid=5, dup=True)
    sub.expect_publish(payload=b"once", qos=2)
    sub.expect_nothing()


def test_qos_2_out_survives_a_change_of_version(env):
    client_id, pub = env.client_id(), env.client()
    old = env.client(client_id, 4, clean=False)
    old.subscribe(env.topic("t"), qos=2)
    pub.publish(env.topic("t"), b"a", qos=2, props=PROPERTIES)
    pub.publish(env.topic("t"), b"b", qos=2)
    a, b = old.expect_publish(payload=b"a", ack=False), old.expect_publish(payload=b"b", ack=False)
    old.send(ack(5, a.pid)).expect(6, pid=a.pid)
    old.close()
    new = env.client(client_id, 5, clean=False, props={"session_expiry": 100}, session_present=True)
    again = {new.expect(6, pid=a.pid).type, new.expect_publish(payload=b"b", dup=True, ack=False).type}
    check_equal(again, {6, 3}, "what was sent again")
    new.send(ack(7, a.pid)).send(ack(5, b.pid)).expect(6, pid=b.pid)
    new.send(ack(7, b.pid))
    new.expect_nothing()
