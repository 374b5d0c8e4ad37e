"""What a client can start, as short stories with a moment from which memory fails.

Each takes a Scene. Before memory_fails() everything must go well. After it a client may be refused or sent away: the
story then ends by a Failure, which the caller forgives if an allocation has really failed. Two things are not
forgiven: silence, and Lost, a message that was acknowledged with success and has not reached a subscriber.
"""

import time

from lib.mqtt import ack, Client, Failure, PINGRESP, PUBLISH, PUBREC, Will, pingreq

BAD_TIMES = (2, 3, 5, 8, 13, 21)


class Lost(AssertionError):
    """An acknowledged message is gone."""


def accepted(client, topic, payload, qos=1, **more):
    """Publish; whether it was acknowledged with success. The client may be gone afterwards."""
    try:
        p = client.publish(topic, payload, qos=qos, **more)
        return p.reason < 0x80
    except Failure as e:
        if "nothing came" in str(e):
            raise
        return False


def got(client, payloads=None):
    """Payloads of all that a subscriber has been sent and now acknowledged; None when it was sent away. Those received
    by then are in the list given."""
    payloads = [] if payloads is None else payloads
    try:
        client.send(pingreq())
        while True:
            p = client.receive()
            if p is None:
                return None
            if p.type == PINGRESP:
                return payloads
            if p.type == PUBLISH:
                payloads.append(p.payload)
                client.acknowledge(p)
    except Failure as e:
        if "nothing came" in str(e):
            raise
        return None


def must_have(client, wanted):
    """A subscriber that is still connected has all of these."""
    payloads = got(client)
    if payloads is None:
        return
    more = got(client)  # what was waiting for the acknowledgements of the first ones
    missing = [p for p in wanted if p not in payloads + (more or [])]
    if missing and more is not None:
        raise Lost("%s is connected and never got %r" % (client.name, missing))


# ---- connections ---------------------------------------------------------------------------------------------------

def connect_31(s):
    s.memory_fails()
    s.client(3).open(will=Will("w/31", b"gone", qos=1)).disconnect()


def connect_311(s):
    s.memory_fails()
    s.client(4).open(will=Will("w/311", b"gone", qos=2), user="u", password=b"p").disconnect()


PROPERTIES = {"session_expiry": 100, "receive_max": 10, "topic_alias_max": 5, "user_property":
              [("k", "v")], "maximum_packet_size": 100000}


def connect_5(s):
    will = Will("w/5", b"gone", qos=1, retain=False, props={"will_delay": 1, "message_expiry": 9,
                                                           "content_type": "t", "user_property": [("a", "b")]})
    s.memory_fails()
    s.client().open(props=PROPERTIES, will=will).disconnect()


def connect_assigned(s):
    s.memory_fails()
    Client(s.port, "", 5).open().disconnect()


def takeover(s):
    old, new = s.client(name="same"), s.client(name="same")
    old.open(props={"session_expiry": 60}, will=Will(s.topic("will"), b"gone", qos=1))
    old.subscribe(s.topic("#"), qos=1)
    s.memory_fails()
    new.open(clean=False, props={"session_expiry": 60})
    old.expect_closed()
    got(new)


def takeover_clean(s):
    old, new = s.client(name="same"), s.client(name="same")
    old.open(props={"session_expiry": 60}, will=Will(s.topic("will"), b"gone", qos=1))
    old.subscribe([s.topic("#"), s.topic("a"), "$share/g/" + s.topic("b")], qos=1)
    s.memory_fails()
    new.open(clean=True)
    new.ping()


def goodbye(s):
    """Wills go out by DISCONNECT 0x04, by a protocol error and by a lost connection."""
    watcher = s.client(name="watcher").open()
    watcher.subscribe(s.topic("will/#"), qos=1)
    wills = [s.client(name="w%d" % i).open(will=Will(s.topic("will/%d" % i), b"gone", qos=1)) for i in range(4)]
    s.memory_fails()
    wills[0].send(b"\xe0\x01\x04")
    wills[1].send(b"\x00\x00")
    wills[2].close()
    wills[3].abort()
    wills[0].expect_closed()
    wills[1].expect_closed()
    got(watcher)


# ---- subscriptions -------------------------------------------------------------------------------------------------

def several(s, version=5):
    """Clients at home on different shards, most of the time."""
    return [s.client(version, "s%d" % i).open() for i in range(3)]


def subscribe_with(s, filters, **more):
    clients = several(s)
    s.memory_fails()
    for c in clients:
        c.subscribe(filters, qos=1, **more)
    for c in clients:
        c.unsubscribe(filters)
        c.ping()
        c.disconnect()


def subscribe_plain(s):
    subscribe_with(s, [s.topic("a"), s.topic("a/b"), s.topic("c")])


def subscribe_wildcard(s):
    subscribe_with(s, [s.topic("+/b"), s.topic("#"), s.topic("+")], props={"subscription_id": [300]})


def subscribe_shared(s):
    subscribe_with(s, ["$share/one/" + s.topic("a"), "$share/two/" + s.topic("+"), "$share/two/" + s.topic("a")])


def subscribed_or_said_no(s):
    """A filter whose SUBACK says yes gets what is published behind it."""
    sub, pub = s.client(name="sub").open(), s.client(name="pub").open()
    s.memory_fails()
    sub.subscribe([s.topic("x"), s.topic("+")], qos=1)
    s.memory_is_back()
    if accepted(pub, s.topic("x"), b"1"):
        must_have(sub, [b"1"])


# ---- messages ------------------------------------------------------------------------------------------------------

def publish_0(s):
    subs, pub = several(s, 4), s.client(name="pub").open()
    for c in subs:
        c.subscribe(s.topic("#"))
    s.memory_fails()
    for i in range(3):
        pub.publish(s.topic("a"), b"%d" % i, props={"user_property": [("k", "v")], "topic_alias": 1})
    pub.ping()
    for c in subs:
        if got(c) is None:
            raise Failure("a subscriber was sent away")


def publish_acknowledged(s, qos, version):
    subs, pub = several(s, version), s.client(version, "pub").open()
    for c in subs:
        c.subscribe([s.topic("#"), s.topic("a")], qos=qos)
    s.memory_fails()
    said_yes = [b"%d" % i for i in range(4) if accepted(pub, s.topic("a"), b"%d" % i, qos)]
    s.memory_is_back()
    for c in subs:
        must_have(c, said_yes)
    if not s.failed and len(said_yes) < 4:
        raise Failure("a message was refused")


def publish_1(s):
    publish_acknowledged(s, 1, 5)


def publish_1_311(s):
    publish_acknowledged(s, 1, 4)


def publish_2(s):
    publish_acknowledged(s, 2, 5)


def publish_2_311(s):
    publish_acknowledged(s, 2, 4)


def publish_qos1_single(s):
    """One receiver only, so that its trouble is the publisher's alone."""
    for version in (5, 4):
        sub, pub = s.client(version, "sub%d" % version).open(), s.client(version, "pub%d" % version).open()
        sub.subscribe(s.topic("one/%d" % version), qos=1)
        if not s.armed:
            s.memory_fails()
        said_yes = [b"%d" % i for i in range(3) if accepted(pub, s.topic("one/%d" % version), b"%d" % i)]
        must_have(sub, said_yes)


def publish_shared(s):
    subs, pub = several(s), s.client(name="pub").open()
    for c in subs:
        c.subscribe("$share/g/" + s.topic("#"), qos=1)
    s.memory_fails()
    said_yes = [b"%d" % i for i in range(6) if accepted(pub, s.topic("a"), b"%d" % i)]
    s.memory_is_back()
    here = [got(c) for c in subs]
    if None not in here:
        here += [got(c) for c in subs]
        missing = [p for p in said_yes if not any(p in payloads for payloads in here if payloads)]
        if missing:
            raise Lost("no member got %r" % missing)


def share_handed_on(s):
    """What a member has not acknowledged goes to another when it leaves."""
    first, second, pub = s.client(name="m1").open(), s.client(name="m2"), s.client(name="pub").open()
    first.subscribe("$share/g/" + s.topic("#"), qos=1)
    said_yes = [b"%d" % i for i in range(3) if accepted(pub, s.topic("a"), b"%d" % i)]
    second.open().subscribe("$share/g/" + s.topic("#"), qos=1)
    s.memory_fails()
    first.close()
    time.sleep(0.05)
    s.memory_is_back()
    if len(said_yes) < 3 or (got(second) is None and not s.failed):
        raise Failure("without memory failing all should have gone well")


def received_2(s):
    """A client that answers a QoS 2 message at its leisure, and one that refuses it."""
    sub, pub = s.client(name="sub").open(props={"receive_max": 2}), s.client(name="pub").open()
    sub.subscribe(s.topic("#"), qos=2)
    for i in range(4):
        pub.publish(s.topic("a"), b"%d" % i, qos=2)
    s.memory_fails()
    first = sub.expect_publish(ack=False)
    sub.send(ack(PUBREC, first.pid, 0x97))
    for _ in range(3):
        sub.expect_publish()
    sub.ping()


# ---- what stays ----------------------------------------------------------------------------------------------------

def retained(s):
    pub, sub = s.client(name="pub").open(), s.client(name="sub").open()
    topics = [s.topic("r%d" % i) for i in range(4)]
    s.memory_fails()
    for t in topics:
        accepted(pub, t, b"kept", 1, retain=True)
    s.memory_is_back()
    reader = s.client(name="reader").open()
    for t in topics:
        reader.publish(t, b"", qos=1, retain=True)
    sub.ping()


def retained_replay(s):
    pub, subs = s.client(name="pub").open(), several(s)
    topics = [s.topic("r%d" % i) for i in range(40)]
    for t in topics:
        pub.publish(t, b"kept", qos=0, retain=True)
    pub.ping()
    try:
        s.memory_fails()
        for c in subs:
            c.subscribe([s.topic("#"), topics[1]], qos=1)
            c.ping_later = got(c)
        s.memory_is_back()
    finally:
        s.memory_is_back()
        reader = s.client(name="reader").open()
        for t in topics:
            reader.publish(t, b"", qos=1, retain=True)


retained_replay.quick_most = 40


def resume(s):
    props = {"session_expiry": 100, "receive_max": 3}
    sub, pub = s.client(name="sub").open(props=props), s.client(name="pub").open()
    sub.subscribe([s.topic("#"), "$share/g/" + s.topic("#")], qos=2)
    sub.disconnect()
    s.memory_fails()
    said_yes = [b"%d" % i for i in range(6) if accepted(pub, s.topic("a"), b"%d" % i, 1 + i % 2)]
    have = []
    try:
        sub.open(clean=False, props=props)
        got(sub, have)
    except Failure as e:
        if "nothing came" in str(e):
            raise
    s.memory_is_back()
    # Whatever happened, the session is there, and what was acknowledged is in it or has been received.
    for _ in range(4):
        sub.close()
        sub.open(clean=False, props=props, session_present=True)
        got(sub, have)
        got(sub, have)
    missing = [p for p in said_yes if p not in have]
    if missing:
        raise Lost("the queue has lost %r" % missing)


def disconnect_changes_expiry(s):
    c = s.client().open(props={"session_expiry": 100})
    c.subscribe([s.topic("a"), s.topic("+/b"), "$share/g/" + s.topic("a")], qos=1)
    s.memory_fails()
    c.disconnect(0, {"session_expiry": 0})


def expiry(s):
    """The session and its delayed will end by themselves while memory fails."""
    watcher = s.client(name="watcher").open()
    watcher.subscribe(s.topic("will"), qos=1)
    for i in range(3):
        c = s.client(name="e%d" % i).open(props={"session_expiry": 1}, will=Will(
            s.topic("will"), b"gone", qos=1, props={"will_delay": 1}))
        c.subscribe([s.topic("a"), s.topic("+/%d" % i), "$share/g/" + s.topic("a")], qos=1)
        c.close()
    s.memory_fails()
    time.sleep(1.3)
    s.memory_is_back()
    got(watcher)


expiry.most, expiry.quick_most = 16, 4

FLOWS = [connect_31, connect_311, connect_5, connect_assigned, takeover, takeover_clean, goodbye, subscribe_plain,
         subscribe_wildcard, subscribe_shared, subscribed_or_said_no, publish_0, publish_1, publish_1_311, publish_2,
         publish_2_311, publish_qos1_single, publish_shared, share_handed_on, received_2, retained, retained_replay,
         resume, disconnect_changes_expiry, expiry]
