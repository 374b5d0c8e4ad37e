"""5.0, chapter 4.7: topic names and topic filters."""

from kit import alone, check, covers, settings
from lib.mqtt import *  # noqa: F403

# filter, topics that match, topics that do not
MATCHES = [
    ("sport/tennis/player1", ["sport/tennis/player1"],
     ["sport/tennis/player", "sport/tennis/player1/", "/sport/tennis/player1"]),
    ("sport/#", ["sport", "sport/", "sport/tennis", "sport/a/b/c"], ["sports", "Sport/x", "/sport"]),
    ("#", ["sport", "/", "a/b/c", "//"], ["$x", "$x/y"]),
    ("sport/tennis/#", ["sport/tennis", "sport/tennis/", "sport/tennis/x/y"], ["sport", "sport/tennisx"]),
    ("+", ["sport", " "], ["/sport", "sport/", "a/b", "$x"]),
    ("+/+", ["/finance", "a/b", "/", "a/"], ["finance", "a/b/c", "$x/y"]),
    ("/+", ["/finance", "/"], ["finance", "/a/b", "//"]),
    ("+/tennis/#", ["a/tennis", "/tennis/b", "a/tennis/b/c"], ["tennis", "a/b/tennis", "$x/tennis"]),
    ("sport/+/player1", ["sport/a/player1", "sport//player1"], ["sport/player1", "sport/a/b/player1"]),
    ("sport/+", ["sport/", "sport/x"], ["sport", "sport/a/b"]),
    ("+/+/+", ["//", "a/b/c", "/a/"], ["a/b", "a/b/c/d"]),
    ("/#", ["/", "/a", "//"], ["a", "a/"]),
    ("+/#", ["a", "a/b", "/", "/a/b"], ["$x", "$x/y"]),
    ("$x/#", ["$x", "$x/y", "$x/y/z"], ["x/y", "$y"]),
    ("$x/+", ["$x/y", "$x/"], ["$x", "$x/y/z"]),
    ("$x", ["$x"], ["$x/", "x"]),
    ("a/$x", ["a/$x"], ["a/x"]),
    ("+/$x", ["a/$x", "/$x"], ["$x/$x"]),
    ("a b", ["a b"], ["a  b", "ab"]),
    ("\u00e9", ["\u00e9"], ["e\u0301", "\u00c9", "e"]),
    ("\u212b", ["\u212b"], ["\u00c5", "A\u030a"]),
    ("A", ["A"], ["a"]),
    ("a//b", ["a//b"], ["a/b", "a///b"]),
    ("a/./b", ["a/./b"], ["a/b"]),
    ("a/%2f", ["a/%2f"], ["a//", "a/%2F"]),
    ("+/", ["a/", "/"], ["a", "a/b"]),
]


def try_filter(subs, pub, topic_filter, match, others):
    """A shard-spread handful of subscribers: each gets all that match and nothing else."""
    for sub in subs:
        sub.subscribe(topic_filter, qos=1)
    for topic in others + match:
        pub.publish(topic, topic, qos=1)
    for sub in subs:
        for topic in match:
            sub.expect_publish(topic, topic)
        sub.expect_nothing(0)
        sub.unsubscribe(topic_filter)


@alone
@covers("MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.2-1", "MQTT-4.7.3-4", "MQTT-3.3.2-3")
def test_matching(env):
    """Live messages. $-topics other than $SYS and $share are the clients' own here; a broker may refuse them, so these
    rows are tried only where the broker takes them."""
    pub = env.client()
    probe = env.client()
    probe.subscribe("$x/#", qos=1)
    pub.publish("$x/probe", "x", qos=0)
    try:
        probe.expect_publish("$x/probe", timeout=1)
        dollars = True
    except AssertionError:
        dollars = False
        pub = env.client()
    check(dollars or Client.lenient, "topics that begin with $ and are nobody's must work as topics do")
    subs = env.many(3)
    for topic_filter, match, others in MATCHES:
        if not dollars and any(t.startswith("$") for t in [topic_filter] + match + others):
            continue
        with env.case(topic_filter):
            try_filter(subs, pub, topic_filter, match, others)


@alone
@covers("MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.2-1", "MQTT-4.7.3-4")
def test_matching_retained(env):
    """The same table the other way round: each topic is retained, then asked for by filter."""
    pub = env.client()
    topics = sorted({t for _, match, others in MATCHES for t in match + others if not t.startswith("$")})
    for topic in topics:
        pub.publish(topic, topic, qos=1, retain=True)
    rows = [(f, {t for t in topics if plain_match(f, t)}) for f, _, _ in MATCHES if not f.startswith("$")]
    for f, match, others in MATCHES:  # the table judges the judge
        for t in match + others:
            check(plain_match(f, t) == (t in match), "the test's own matcher: %s %s" % (f, t))
    for topic_filter, wanted in rows:
        with env.case(topic_filter):
            sub = env.client()
            sub.subscribe(topic_filter, qos=1)
            got = {sub.expect_publish(retain=True).topic for _ in wanted}
            check(got == wanted, "got %r, wanted %r" % (got, wanted))
            sub.expect_nothing(0)
            sub.close()
    for topic in topics:
        pub.publish(topic, b"", qos=1, retain=True)


def plain_match(topic_filter, topic):
    """The definition of matching, level by level."""
    f, t = topic_filter.split("/"), topic.split("/")
    if t[0].startswith("$") and f[0] in ("+", "#"):
        return False
    for i, level in enumerate(f):
        if level == "#":
            return True
        if i >= len(t) or level not in ("+", t[i]):
            return False
    return len(f) == len(t)


@alone
@settings({"sys_interval": "1s"})
@covers("MQTT-4.7.2-1")
def test_wildcards_do_not_match_sys(env):
    """With $SYS published every second, and retained."""
    subs = [env.client() for _ in range(3)]
    for sub, topic_filter in zip(subs, ("#", "+/#", "+/broker/#")):
        sub.subscribe(topic_filter, qos=1)
    for sub in subs:
        try:
            p = sub.receive(1.2)
        except AssertionError:
            continue
        check(not p.topic.startswith("$"), "%r through a leading wildcard" % p.topic)
    sys = env.client()
    sys.subscribe("$SYS/#")
    check(sys.expect(PUBLISH).topic.startswith("$SYS/"), "$SYS")


@covers("MQTT-4.7.3-3", "MQTT-3.3.2-1")
def test_longest_topics(env):
    """65,535 bytes: one level, and as many levels as the broker takes by default."""
    sub, pub = env.client(), env.client()
    prefix = env.topic("") + "x"
    for name, topic in (("one level", prefix + "t" * (65535 - len(prefix))),
                        ("100 levels", (prefix + "/l" * 90 + "m" * 65535)[:65535])):
        with env.case(name):
            sub.subscribe(topic, qos=2)
            for qos in (0, 1, 2):
                pub.publish(topic, "x", qos=qos)
                sub.expect_publish(topic, "x", qos=qos)
            pub.publish(topic, "kept", qos=1, retain=True)
            sub.expect_publish(topic, "kept")
            late = env.client()
            late.subscribe(topic, qos=1)
            late.expect_publish(topic, "kept", retain=True)
            pub.publish(topic[:-1] + "?", "other", qos=1)
            sub.expect_nothing()
            sub.unsubscribe(topic)


@covers("MQTT-4.7.3-1", "MQTT-4.7.3-4")
def test_odd_but_legal_topics(env):
    sub, _ = env.pair()
    for name in ("/", "//", " ", "a ", "\u0001", "\U0001f600/\u00e9", "a\tb", "'\"\\", "%s%n", "$", "$SYS", "..",
                 "\u200b"):
        with env.case(repr(name)):
            pub = env.client()
            pub.send(publish(env.topic(name), name, 1, pid=1))
            p = pub.receive()
            if name in ("\u0001", "a\tb") and (p is None or p.type == DISCONNECT):
                continue  # control characters may be taken for malformed
            check(p is not None and p.type == PUBACK and p.reason == 0, "got %r" % p)
            sub.expect_publish(env.topic(name), name)
