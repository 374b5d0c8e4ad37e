"""5.0, chapter 3.3.1.3: retained messages and the subscription options that concern them."""

from kit import check_equal, covers, drain
from lib.mqtt import *  # noqa: F403


def expect_retained(env, topic_filter, wanted, **options_):
    """A new subscriber gets exactly these retained messages: {topic: payload}, in any order."""
    c = env.client()
    c.subscribe(topic_filter, qos=2, **options_)
    got = {}
    for _ in wanted:
        p = c.expect_publish(retain=True)
        got[p.topic] = p.payload
    check_equal(got, wanted, "the retained messages")
    c.expect_nothing()
    c.disconnect()


@covers("MQTT-3.3.1-5", "MQTT-3.3.1-9")
def test_stored_and_replaced(env):
    pub = env.client()
    for qos in (0, 1, 2):
        for payload in (b"one", b"two"):
            with env.case("QoS %d, %r" % (qos, payload)):
                pub.publish(env.topic("t"), payload, qos=qos, retain=True)
                pub.ping()
                if qos == 0:  # no acknowledgement says when it is stored
                    env.eventually("retained", lambda: retained_now(env.client(), env.topic("t")) == [payload])
                c = env.client()
                c.subscribe(env.topic("t"), qos=2)
                c.expect_publish(env.topic("t"), payload, qos=qos, retain=True)
                c.expect_nothing()


def retained_now(c, topic):
    c.subscribe(topic, qos=2)
    return [p.payload for p in drain(c, 0.1)]


@covers("MQTT-3.3.1-6", "MQTT-3.3.1-7")
def test_empty_payload_removes(env):
    for qos in (0, 1, 2):
        with env.case("QoS %d" % qos):
            live, pub = env.pair(env.topic("q%d" % qos))
            pub.publish(env.topic("q%d" % qos), "kept", qos=1, retain=True)
            live.expect_publish(env.topic("q%d" % qos), "kept")
            pub.publish(env.topic("q%d" % qos), b"", qos=qos, retain=True)
            live.expect_publish(env.topic("q%d" % qos), b"", qos=qos)  # processed normally
            expect_retained(env, env.topic("q%d" % qos), {})
    with env.case("removing what is not there"):
        env.client().publish(env.topic("none"), b"", qos=1, retain=True)
        expect_retained(env, env.topic("none"), {})


@covers("MQTT-3.3.1-8")
def test_not_retained_leaves_it_alone(env):
    pub = env.client()
    pub.publish(env.topic("t"), "kept", qos=1, retain=True)
    for qos in (0, 1, 2):
        pub.publish(env.topic("t"), "other", qos=qos)
        pub.publish(env.topic("t"), b"", qos=qos)
        pub.publish(env.topic("never"), "x", qos=qos)
    expect_retained(env, env.topic("#"), {env.topic("t"): b"kept"})


@covers("MQTT-3.3.1-9", "MQTT-3.3.2-3")
def test_by_filter(env):
    """Each filter finds exactly the retained messages that it matches."""
    topics = ["a", "a/b", "a/b/c", "a/c", "b", "b/b", "/", "a/", "a//c", "x/y/z/w"]
    pub = env.client()
    for t in topics:
        pub.publish(env.topic(t), t, qos=1, retain=True)
    rows = {"#": topics, "a": ["a"], "a/#": ["a", "a/b", "a/b/c", "a/c", "a/", "a//c"], "+": ["a", "b"],
            "+/b": ["a/b", "b/b"], "a/+": ["a/b", "a/c", "a/"], "a/+/c": ["a/b/c", "a//c"], "+/+/+": ["a/b/c", "a//c"],
            "x/+/z/#": ["x/y/z/w"], "+/+": ["a/b", "a/c", "b/b", "/", "a/"], "nothing/#": [], "b/b/#": ["b/b"]}
    for f, names in rows.items():
        with env.case(f):
            expect_retained(env, env.topic(f), {env.topic(n): n.encode() for n in names})


@covers("MQTT-3.3.1-9", "MQTT-3.3.1-10", "MQTT-3.3.1-11", "MQTT-3.8.4-4")
def test_retain_handling(env):
    pub = env.client()
    pub.publish(env.topic("t"), "kept", qos=1, retain=True)
    for handling, first, again in ((0, True, True), (1, True, False), (2, False, False)):
        for topic_filter in (env.topic("t"), env.topic("+")):
            with env.case("handling %d, %s" % (handling, topic_filter)):
                c = env.client()
                for name, wanted in (("first", first), ("again", again), ("and again", again)):
                    c.subscribe(topic_filter, qos=1, retain_handling=handling)
                    if wanted:
                        c.expect_publish(env.topic("t"), "kept", qos=1, retain=True)
                    c.expect_nothing()
                c.unsubscribe(topic_filter)
                c.subscribe(topic_filter, qos=1, retain_handling=handling)
                if first:
                    c.expect_publish(env.topic("t"), "kept", retain=True)
                c.expect_nothing()


@covers("MQTT-3.3.1-10")
def test_retain_handling_1_knows_the_resumed_subscription(env):
    pub = env.client()
    pub.publish(env.topic("t"), "kept", qos=1, retain=True)
    c = env.client(clean=False, props={"session_expiry": 60})
    c.subscribe(env.topic("t"), qos=1, retain_handling=1)
    c.expect_publish(env.topic("t"), "kept", retain=True)
    c.reopen(session_present=True)
    c.subscribe(env.topic("t"), qos=0, retain_handling=1)  # other options, yet the same subscription
    c.expect_nothing()


@covers("MQTT-3.3.1-12", "MQTT-3.3.1-13")
def test_retain_as_published(env):
    pub = env.client()
    for published in (False, True):
        for kept in (False, True):
            for qos in (0, 1, 2):
                with env.case("RETAIN %d, option %d, QoS %d" % (published, kept, qos)):
                    c = env.client()
                    topic = env.topic("%d%d%d" % (published, kept, qos))
                    c.subscribe(topic, qos=2, retain_as_published=kept)
                    pub.publish(topic, "x", qos=qos, retain=published)
                    c.expect_publish(topic, "x", qos=qos, retain=published and kept)


@covers("MQTT-3.3.1-12", "MQTT-3.3.1-13")
def test_retain_as_published_after_waiting(env):
    pub = env.client()
    for kept in (False, True):
        with env.case("option %d" % kept):
            c = env.client(clean=False, props={"session_expiry": 60})
            c.subscribe(env.topic("t%d" % kept), qos=1, retain_as_published=kept)
            c.disconnect()
            pub.publish(env.topic("t%d" % kept), "x", qos=1, retain=True)
            c.reopen(session_present=True)
            c.expect_publish(env.topic("t%d" % kept), "x", retain=kept)


@covers("MQTT-3.8.4-8", "MQTT-3.3.1-9")
def test_qos_of_retained_messages(env):
    pub = env.client()
    for published in (0, 1, 2):
        pub.publish(env.topic("q%d" % published), "x", qos=published, retain=True)
    pub.publish(env.topic("fence"), "x", qos=1)
    pub.ping()
    for published in (0, 1, 2):
        for granted in (0, 1, 2):
            with env.case("published %d, granted %d" % (published, granted)):
                c = env.client()
                c.subscribe(env.topic("q%d" % published), qos=granted)
                c.expect_publish(env.topic("q%d" % published), "x", qos=min(published, granted), retain=True)


@covers("MQTT-3.3.1-9")
def test_retained_of_several_filters_in_one_packet(env):
    pub = env.client()
    for name in ("a", "b"):
        pub.publish(env.topic(name), name, qos=1, retain=True)
    c = env.client()
    c.subscribe([(env.topic("a"), 1), (env.topic("b"), 0x21), (env.topic("+"), 1)])
    got = sorted(c.expect_publish(retain=True).payload for _ in range(3))
    check_equal(got, [b"a", b"a", b"b"], "retained for filters 1 and 3")
    c.expect_nothing()


@covers("MQTT-3.3.1-9", "MQTT-3.1.2-25", "MQTT-4.9.0-2")
def test_many_retained_pass_a_small_window(env):
    pub = env.client()
    for number in range(120):
        pub.publish(env.topic("n%d" % number), "%d" % number, qos=1, retain=True)
    c = env.client(props={"receive_max": 3})
    c.subscribe(env.topic("#"), qos=1)
    seen = {c.expect_publish(qos=1, retain=True).payload for _ in range(120)}
    check_equal(len(seen), 120, "number of different retained messages")
    c.expect_nothing()


@covers("MQTT-3.3.1-5")
def test_retained_outlives_its_publisher_and_expiry_of_session(env):
    pub = env.client()
    pub.publish(env.topic("t"), "kept", qos=2, retain=True)
    pub.disconnect()
    expect_retained(env, env.topic("t"), {env.topic("t"): b"kept"})


@covers("MQTT-3.3.1-9", "MQTT-3.3.1-12")
def test_published_after_suback_comes_once(env):
    """A retained message that is published after the SUBACK is a live one, and not found as a retained one besides."""
    pubs = env.many(3)
    for number in range(40):
        topic, sub = env.topic("n%d" % number), env.client()
        sub.subscribe(topic if number % 2 else env.topic("+"), qos=1, retain_handling=number // 2 % 2)
        pubs[number % 3].publish(topic, "%d" % number, qos=1, retain=True)
        with env.case("subscriber %d" % number):
            copies = [p.retain for p in drain(sub, 0.05) if p.topic == topic]
            check_equal(copies, [False], "RETAIN of the copies that came")
        sub.disconnect()
