"""5.0, chapter 4.8: shared subscriptions."""

from kit import check, check_equal, covers, drain, settings
from lib.mqtt import *  # noqa: F403

KEEP = {"session_expiry": 60}


def shared(env, topic="t", group="g"):
    return "$share/%s/%s" % (group, env.topic(topic))


def collect(subs, wanted, seconds=0.3):
    """Read PUBLISH packets from all members until `wanted` came; returns each one's payloads and checks that no more
    follow. QoS 1 and 2 are acknowledged."""
    got = [[] for _ in subs]
    rounds = 0
    while sum(map(len, got)) < wanted:
        before = sum(map(len, got))
        for sub, mine in zip(subs, got):
            sub.send(pingreq())
            while True:
                p = sub.receive()
                check(p is not None and p.type in (PUBLISH, PINGRESP), "got %r" % p)
                if p.type == PINGRESP:
                    break
                sub.acknowledge(p)
                mine.append(p.payload)
        rounds = 0 if sum(map(len, got)) > before else rounds + 1
        check(rounds < 100, "%d of %d messages came" % (sum(map(len, got)), wanted))
    for sub in subs:
        sub.expect_nothing(seconds)
    return got


@covers("MQTT-4.8.2-1", "MQTT-4.8.2-2", "MQTT-3.8.4-7")
def test_ill_formed(env):
    """0x8F, or the end of the connection."""
    for bad in ("$share/", "$share/g", "$share/g/", "$share//t", "$share/+/t", "$share/#/t", "$share/g+/t",
                "$share/g#/t", "$share/+g/t", "$share/g/a#", "$share/g/#/a", "$share/g/a+"):
        with env.case(bad):
            c = env.client()
            c.send(subscribe(1, [(bad, 0)]))
            p = c.receive()
            if p is not None and p.type == SUBACK:
                check_equal(p.reasons, [0x8F], "reason codes")
            else:
                check(p is None or (p.type == DISCONNECT and p.reason in (0x81, 0x82, 0x8F)), "got %r" % p)


@covers("MQTT-4.8.2-1")
def test_well_formed(env):
    """Odd names are names; `$share` with other letters is an ordinary filter."""
    pub = env.client()
    for name in ("g", " ", "$share", "\u20ac", "a.b", "$", "g" * 500):
        with env.case(name):
            c = env.client()
            c.subscribe("$share/%s/%s" % (name, env.topic("t")), qos=1)
            pub.publish(env.topic("t"), "x", qos=1)
            c.expect_publish(env.topic("t"), "x")
            c.disconnect()
    c = env.client()
    c.subscribe("$SHARE/g/" + env.topic("t"), qos=1)
    pub.publish(env.topic("t"), "x", qos=1)
    c.expect_nothing()


@covers("MQTT-4.8.2-1")
def test_each_message_to_one_member(env):
    """And each member gets a fair part."""
    for qos in (0, 1, 2):
        with env.case("QoS %d" % qos):
            subs, pub = env.many(4), env.client()
            for sub in subs:
                sub.subscribe(shared(env, "q%d" % qos), qos=2)
            for number in range(80):
                pub.publish(env.topic("q%d" % qos), "%d" % number, qos=qos)
            got = collect(subs, 80)
            check_equal(sorted(sum(got, [])), sorted(b"%d" % n for n in range(80)), "all messages")
            check(all(len(mine) >= 8 for mine in got), "shares of 80 messages: %r" % [len(mine) for mine in got])


@covers("MQTT-4.8.2-1", "MQTT-4.8.2-2")
def test_groups_are_apart(env):
    """Two groups, two filters, and ordinary subscribers: each group and each of these gets every message."""
    one, two, other, plain = env.many(2), env.many(2), env.many(2), env.many(2)
    for sub in one:
        sub.subscribe(shared(env, "+", "one"), qos=1)
    for sub in two:
        sub.subscribe(shared(env, "+", "two"), qos=1)
    for sub in other:
        sub.subscribe(shared(env, "#", "one"), qos=1)  # the same name, another filter: another group
    for sub in plain:
        sub.subscribe(env.topic("t"), qos=1)
    pub = env.client()
    for number in range(20):
        pub.publish(env.topic("t"), "%d" % number, qos=1)
    want = sorted(b"%d" % n for n in range(20))
    for name, members in (("one", one), ("two", two), ("other", other)):
        with env.case(name):
            check_equal(sorted(sum(collect(members, 20), [])), want, "messages of the group")
    for sub in plain:
        check_equal(collect([sub], 20)[0], [b"%d" % n for n in range(20)], "messages of an ordinary subscriber")


@covers("MQTT-4.8.2-1", "MQTT-3.3.4-2")
def test_shared_beside_an_ordinary_subscription(env):
    """One client with both gets the message for each of them."""
    sub, pub = env.client(), env.client()
    sub.subscribe(env.topic("t"), qos=1)
    sub.subscribe(shared(env), qos=1)
    for number in range(5):
        pub.publish(env.topic("t"), "%d" % number, qos=1)
    check_equal(sorted(collect([sub], 10)[0]), sorted([b"%d" % n for n in range(5)] * 2), "two of each")


@covers("MQTT-4.8.2-3")
def test_granted_qos(env):
    """Members of different QoS: nobody gets more than was granted."""
    pub = env.client()
    for granted in (0, 1, 2):
        for published in (0, 1, 2):
            with env.case("granted %d, published %d" % (granted, published)):
                sub, topic = env.client(), "t%d%d" % (granted, published)
                sub.subscribe(shared(env, topic), qos=granted)
                pub.publish(env.topic(topic), "x", qos=published)
                sub.expect_publish(env.topic(topic), "x", qos=min(granted, published))
    subs = env.many(3)
    for granted, sub in enumerate(subs):
        sub.subscribe(shared(env, "mixed"), qos=granted)
    for number in range(30):
        pub.publish(env.topic("mixed"), "%d" % number, qos=2)
    seen = 0
    for granted, sub in enumerate(subs):
        for p in drain(sub):
            check_equal(p.qos, granted, "QoS")
            seen += 1
    check_equal(seen, 30, "messages")


@covers("MQTT-3.3.1-9")
def test_no_retained_messages(env):
    pub = env.client()
    pub.publish(env.topic("t"), "kept", qos=1, retain=True)
    c = env.client()
    for handling in (0, 1, 2):
        c.subscribe(shared(env), qos=1, retain_handling=handling)
        c.expect_nothing()


@covers("MQTT-3.3.4-3", "MQTT-3.3.1-13")
def test_options_of_the_member(env):
    subs, pub = env.many(3), env.client()
    for number, sub in enumerate(subs):
        sub.subscribe(shared(env), qos=1, retain_as_published=number == 1, props={"subscription_id": number + 1})
    for _ in range(15):
        pub.publish(env.topic("t"), "x", qos=1, retain=True)
    for number, sub in enumerate(subs):
        for p in drain(sub):
            check_equal(p.props.get("subscription_id"), [number + 1], "identifier")
            check_equal(p.retain, number == 1, "RETAIN")


@covers("MQTT-3.10.4-1", "MQTT-3.11.3-2")
def test_unsubscribe(env):
    one, two, pub = env.client(), env.client(), env.client()
    for sub in (one, two):
        sub.subscribe(shared(env), qos=1)
    one.unsubscribe(env.topic("t"), reasons=[0x11])
    one.unsubscribe(shared(env, group="other"), reasons=[0x11])
    one.unsubscribe(shared(env))
    one.unsubscribe(shared(env), reasons=[0x11])
    for number in range(10):
        pub.publish(env.topic("t"), "%d" % number, qos=1)
    got = collect([one, two], 10)
    check_equal((len(got[0]), len(got[1])), (0, 10), "messages")
    two.unsubscribe(shared(env))
    env.eventually("0x10 after the last member left",
                   lambda: pub.publish(env.topic("t"), "x", qos=1).reason == 0x10)


@covers("MQTT-4.8.2-5")
def test_member_that_leaves_gets_no_more(env):
    """Whatever way a member goes, what is published afterwards comes to the others, all of it."""
    ways = [("DISCONNECT", Client.disconnect), ("reset", Client.abort), ("socket closed", Client.close)]
    for name, go in ways:
        with env.case(name):
            subs, pub = env.many(3), env.client()
            for sub in subs:
                sub.subscribe(shared(env, name), qos=1)
            go(subs[0])
            env.eventually("the member's end", lambda: reaches(pub, subs[1:], env.topic(name)))
            for number in range(20):
                pub.publish(env.topic(name), "%d" % number, qos=1)
            got = collect(subs[1:], 20)
            check_equal(sorted(sum(got, [])), sorted(b"%d" % n for n in range(20)), "all messages")
            for sub in subs[1:]:
                sub.disconnect()


def reaches(pub, subs, topic):
    """Six probes in a row arrive, so nobody who is gone is picked any more."""
    for _ in range(6):
        pub.publish(topic, "probe", qos=1)
    came = 0
    for sub in subs:
        came += len(drain(sub, 0.1))
    return came >= 6


@covers("MQTT-4.8.2-4")
def test_delivery_is_completed_after_reconnecting(env):
    """A QoS 2 message whose PUBREC has come belongs to this member: PUBREL goes on with it, nobody else gets it."""
    one, two, pub = env.client(clean=False, props=KEEP), env.client(), env.client()
    one.subscribe(shared(env), qos=2)
    pub.publish(env.topic("t"), "begun", qos=2)
    p = one.expect_publish(env.topic("t"), "begun", qos=2, ack=False)
    one.send(ack(PUBREC, p.pid)).expect(PUBREL, pid=p.pid)
    two.subscribe(shared(env), qos=2)
    one.close()
    two.expect_nothing(0.3)
    one.open(clean=False, props=KEEP, session_present=True)
    one.expect(PUBREL, pid=p.pid)
    one.send(ack(PUBCOMP, p.pid))
    one.expect_nothing()


@covers("MQTT-4.8.2-4", "MQTT-4.8.2-5")
def test_qos_2_in_flight_stays_with_its_member(env):
    """The member goes with a QoS 2 PUBLISH unanswered and a session that lasts: nobody else gets the message, and it
    gets it when it returns. When its session ends instead, nobody gets it at all."""
    for name, expiry in (("returns", 60), ("ends", 0)):
        with env.case(name):
            one, two = env.client(clean=False, props={"session_expiry": expiry}), env.client()
            one.subscribe(shared(env, name), qos=2)
            env.client().publish(env.topic(name), "mine", qos=2)
            one.expect_publish(env.topic(name), "mine", qos=2, ack=False)
            two.subscribe(shared(env, name), qos=2)
            one.close()
            two.expect_nothing(0.5)
            one.open(clean=False, session_present=expiry > 0)
            if expiry:
                one.expect_publish(env.topic(name), "mine", qos=2, dup=True)
            one.expect_nothing()
            two.expect_nothing(0)


@covers("MQTT-4.8.2-3")
def test_qos_1_goes_to_another_member(env):
    """A member leaves for good with QoS 1 messages unanswered: the others get them (5.0 allows it, we promise it)."""
    if Client.lenient:
        return
    one, two, pub = env.client(), env.client(), env.client()
    one.subscribe(shared(env), qos=1)
    for number in range(5):
        pub.publish(env.topic("t"), "%d" % number, qos=1)
    for number in range(5):
        one.expect_publish(env.topic("t"), "%d" % number, qos=1, ack=False)
    two.subscribe(shared(env), qos=1)
    one.close()
    got = {two.expect_publish(env.topic("t"), qos=1).payload for _ in range(5)}
    check_equal(got, {b"%d" % n for n in range(5)}, "messages handed on")
    two.expect_nothing()


@covers("MQTT-4.8.2-6", "MQTT-4.4.0-2")
def test_refused_message_is_discarded(env):
    """PUBACK or PUBREC of 0x80 and more from one member: no other member gets the message."""
    for qos, ptype in ((1, PUBACK), (2, PUBREC)):
        for reason in (0x80, 0x83, 0x97):
            with env.case("QoS %d, 0x%02x" % (qos, reason)):
                one, two = env.client(), env.client()
                topic = "r%d%d" % (qos, reason)
                one.subscribe(shared(env, topic), qos=2)
                env.client().publish(env.topic(topic), "refused", qos=qos)
                p = one.expect_publish(env.topic(topic), "refused", ack=False)
                two.subscribe(shared(env, topic), qos=2)
                one.send(ack(ptype, p.pid, reason))
                one.ping()
                one.disconnect()
                two.expect_nothing(0.2)


@covers("MQTT-4.9.0-2", "MQTT-3.3.4-9")
def test_full_member_is_passed_over(env):
    """While one member has no room in its window, messages go to those that have."""
    full, free, pub = env.client(props={"receive_max": 2}), env.client(), env.client()
    for sub in (full, free):
        sub.subscribe(shared(env), qos=1)
    held = []
    for number in range(40):
        pub.publish(env.topic("t"), "%d" % number, qos=1)
    full.send(pingreq())
    while True:
        p = full.receive()
        if p.type == PINGRESP:
            break
        held.append(p)
    check(len(held) <= 2, "%d messages in a window of 2" % len(held))
    got = collect([free], 40 - len(held))[0]
    check_equal(len({p.payload for p in held} | set(got)), 40, "all messages came to somebody")


@covers("MQTT-4.8.2-4")
def test_group_of_absent_members_keeps_messages(env):
    """All members are away with sessions that last: what comes meanwhile is there when one returns."""
    one, pub = env.client(clean=False, props=KEEP), env.client()
    one.subscribe(shared(env), qos=1)
    one.disconnect()
    for number in range(10):
        pub.publish(env.topic("t"), "%d" % number, qos=1)
    one.open(clean=False, props=KEEP, session_present=True)
    for number in range(10):
        one.expect_publish(env.topic("t"), "%d" % number, qos=1)
    one.disconnect(0, {"session_expiry": 0})


def members(env, count):
    subs = env.many(count)
    for sub in subs:
        sub.subscribe(shared(env, "s/#"), qos=1)
    return subs


def spread(env, subs, topics, messages):
    """How the messages, published one after the other, fell on the members."""
    pub = env.client()
    for number in range(messages):
        pub.publish(env.topic("s/%d" % (number % topics)), "%d" % number, qos=1)
    return collect(subs, messages)


@covers("MQTT-4.8.2-1")
@settings({"mqtt.share_strategy": "round_robin"})
def test_strategy_round_robin(env):
    """Exactly in turn, wherever the members' sessions lie."""
    got = spread(env, members(env, 5), 1, 50)
    check_equal([len(mine) for mine in got], [10] * 5, "messages of each member")


@covers("MQTT-4.8.2-1")
@settings({"mqtt.share_strategy": "sticky"})
def test_strategy_sticky(env):
    """One member gets everything while it can take it; when it leaves, another one does."""
    subs = members(env, 4)
    got = spread(env, subs, 1, 30)
    check_equal(sorted(len(mine) for mine in got), [0, 0, 0, 30], "messages of each member")
    chosen = [len(mine) for mine in got].index(30)
    subs.pop(chosen).disconnect()
    got = spread(env, subs, 1, 30)
    check_equal(sorted(len(mine) for mine in got), [0, 0, 30], "messages of each member that is left")


@covers("MQTT-4.8.2-1")
@settings({"mqtt.share_strategy": "hash_topic"})
def test_strategy_hash_topic(env):
    """A topic stays with its member; when a member leaves, only its topics move."""
    subs = members(env, 4)
    owner = {}
    for round_ in range(2):
        for index, mine in enumerate(spread(env, subs, 24, 24)):
            for payload in mine:
                check_equal(owner.setdefault(int(payload), index), index, "member of topic %s" % payload)
    check(len(set(owner.values())) > 1, "all topics fell on one member")
    subs.pop().disconnect()
    for index, mine in enumerate(spread(env, subs, 24, 24)):
        for payload in mine:
            if owner[int(payload)] < 3:
                check_equal(index, owner[int(payload)], "member of topic %s, whose member stayed" % payload)


@covers("MQTT-4.8.2-1")
@settings({"mqtt.share_strategy": "random"})
def test_strategy_random(env):
    """Everybody gets something, and not in turn: with 4 members, 200 messages miss one only by a fault."""
    got = spread(env, members(env, 4), 1, 200)
    check(all(mine for mine in got), "a member got nothing of 200 messages")
    order = sorted((int(payload), index) for index, mine in enumerate(got) for payload in mine)
    check([index for _, index in order] != [order[n % 4][1] for n in range(200)], "the members were picked in turn")
