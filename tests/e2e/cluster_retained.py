"""Retained messages are the same on every node: they spread as they are published, nodes that come or come back catch
up, and when nodes were parted the last writer wins."""

import os
import signal

from cluster import client, complete, nodes, settings
from kit import check, check_equal, eventually
from lib.broker import free_port
from lib.mqtt import PUBACK, PUBLISH, Failure

SECONDS = 120  # ends a hang


def retained(broker, wanted="#"):
    """What is retained at a node, by topic, as far as it comes in one go."""
    c, found = client(broker, ""), {}
    c.subscribe(wanted, qos=1)
    while True:
        try:
            p = c.receive(0.3)
        except Failure:
            c.close()
            return found
        check(p is not None and p.type == PUBLISH, "got %r" % p)
        c.acknowledge(p)
        if p.retain:  # else it has just been published
            found[p.topic] = p.payload


def same(brokers, want, wanted="#"):
    for i, b in enumerate(brokers):
        eventually("%d messages at node %d" % (len(want), i), lambda b=b: retained(b, wanted) == want, SECONDS)


def put(broker, values, qos=1):
    """Empty ones delete."""
    c = client(broker, "")
    for topic, payload in values.items():
        c.publish(topic, payload, qos=qos, retain=True)
    c.close()


def expect(broker, topic, payload):
    """A new subscriber gets this at once, with RETAIN; None: nothing."""
    c = client(broker, "")
    c.subscribe(topic, qos=1)
    if payload is None:
        c.expect_nothing()
    else:
        c.expect_publish(topic, payload, retain=True)
    c.close()


def test_acknowledged_is_everywhere(ctx):
    """After PUBACK or PUBREC every node has it, whoever has published: set, changed, deleted, set again."""
    brokers = nodes(ctx)
    for qos in (1, 2):
        for n, payload in enumerate((b"one", b"two", b"", b"three", b"")):
            topic = "q%d/t" % qos
            put(brokers[n % 3], {topic: payload}, qos)
            for b in brokers:
                expect(b, topic, payload or None)
    a, b, c = brokers
    for n in range(200):  # topics at home on all shards
        put(a if n % 2 else b, {"many/%d" % n: b"%d" % n})
    same(brokers, {"many/%d" % n: b"%d" % n for n in range(200)}, "many/#")


def test_qos_0_spreads(ctx):
    brokers = nodes(ctx)
    want = {"t/%d" % n: b"%d" % n for n in range(300)}
    put(brokers[0], want, qos=0)
    same(brokers, want)


def test_wills_and_properties_spread(ctx):
    """What a will leaves is retained everywhere, as it was made; its expiry interval runs on."""
    from lib.mqtt import Will
    a, b = nodes(ctx, 2)
    dying = client(a, "dying", will=Will("will/t", b"gone", qos=1, retain=True))
    publisher = client(a, "p")
    publisher.publish("t", b"x", qos=1, retain=True,
                      props={"user_property": [("k", "v")], "content_type": "c", "message_expiry": 1000})
    c = client(b, "c")
    c.subscribe("t", qos=1)
    got = c.expect_publish("t", b"x", retain=True)
    check_equal((got.props["user_property"], got.props["content_type"]), ([("k", "v")], "c"), "properties")
    check(0 < got.props["message_expiry"] <= 1000, "what is left of the expiry interval")
    dying.abort()
    same([a, b], {"t": b"x", "will/t": b"gone"})


def test_subscribers_see_no_difference(ctx):
    """RETAIN is 0 for who was subscribed before, unless it wants it as published; nothing comes twice."""
    a, b = nodes(ctx, 2)
    plain, as_published, publisher = client(b, "s"), client(b, "r"), client(a, "p")
    plain.subscribe("t", qos=1)
    as_published.subscribe("t", qos=1, retain_as_published=True)
    for qos in (0, 1, 2):
        publisher.publish("t", b"%d" % qos, qos=qos, retain=True)
        plain.expect_publish("t", b"%d" % qos, retain=False)
        as_published.expect_publish("t", b"%d" % qos, retain=True)
    plain.expect_nothing()
    publisher.publish("none", b"x", qos=1, retain=True, reason=0x10)  # nodes are no subscribers


def test_a_full_node_refuses(ctx):
    """A limit of one node: the publisher is told, whichever node it is connected to."""
    ports = [free_port() for _ in range(2)]
    seeds = "127.0.0.1:%d" % ports[0]
    a = ctx.broker(settings(seeds, ports[0], "a"))
    b = ctx.broker(settings(seeds, ports[1], "b", **{"limits.max_retained_messages": 5}))
    complete(a, 1)
    complete(b, 1)
    publisher = client(a, "p")
    for n in range(5):
        publisher.publish("t/%d" % n, b"x", qos=1, retain=True, reason=0x10)
    for n in range(5, 10):
        publisher.publish("t/%d" % n, b"x", qos=1, retain=True, reason=0x97)
    check("event=retained_refused" in b.log(), "a word about it")
    check_equal(set(retained(b)), {"t/%d" % n for n in range(5)}, "messages kept")


def test_a_node_joins(ctx):
    """It gets everything, and what is deleted in the meantime does not come back."""
    a, b = nodes(ctx, 2)
    c, want = client(a, "p"), {}
    for n in range(5000):
        c.publish("t/%d" % n, b"%d" % n, qos=1, retain=True, ack=False)
        want["t/%d" % n] = b"%d" % n
        if n % 20 == 19:  # Receive Maximum
            for _ in range(20):
                c.expect(PUBACK)
    for n in range(0, 200):
        c.publish("t/%d" % n, b"", qos=1, retain=True)
        del want["t/%d" % n]
    c.publish("$other/t", b"x", qos=1, retain=True)
    c.publish("large", b"x" * 900000, qos=1, retain=True)
    want["large"] = b"x" * 900000
    late = ctx.broker(settings(a.settings["cluster.listen"], free_port(), "late"))
    for n in range(200, 400):
        c.publish("t/%d" % n, b"", qos=1, retain=True)
        del want["t/%d" % n]
    same([late, a, b], want)
    same([late], {"$other/t": b"x"}, "$other/#")
    c.close()


def test_a_killed_node_catches_up(ctx):
    """What was changed and deleted while it was dead is changed and deleted there too; nothing comes back, though the
    others were started anew meanwhile and know of it from their disks alone."""
    a, b, c = nodes(ctx)
    for kill in (True, False):
        want = {"t/%d" % n: b"old" for n in range(300)}
        put(a, want)
        c.kill()
        eventually("its death is known", lambda: all("event=node_gone node=n2" in x.log() for x in (a, b)), SECONDS)
        changed = {"t/%d" % n: b"" if n < 100 else b"new" for n in range(200)}
        put(b, changed)
        want.update(changed)
        want = {topic: payload for topic, payload in want.items() if payload}
        for x in (a, b):
            x.kill() if kill else check_equal(x.stop(), [], "problems")
        for x in (a, b, c):
            x.start()
        same([a, b, c], want)
    c.restart()
    same([c, a, b], want)


def test_a_node_dies_in_the_midst(ctx):
    """Killed while much is on its way to it, and back at once: what was acknowledged is there, with the stamp it had."""
    a, b = nodes(ctx, 2)
    publisher, want = client(a, "p"), {}
    for n in range(600):
        topic = "t/%d" % (n % 50)
        publisher.publish(topic, b"%d" % n, qos=1, retain=True, ack=False)
        want[topic] = b"%d" % n
        if n == 300:
            b.restart(kill=True)
        if n % 20 == 19:
            for _ in range(20):
                publisher.expect(PUBACK)
    same([a, b], want)
    b.restart(kill=True)  # it is on its disk
    same([b], want)
    publisher.close()


def test_parted_nodes_agree(ctx):
    """Each side goes on alone and both write the same topics: one value is left, the later one, the same everywhere."""
    brokers = nodes(ctx, 3)
    a, b, c = brokers
    put(a, {"both": b"before", "deleted": b"before", "kept": b"before"})
    writer = client(c, "w")
    os.kill(c.pid, signal.SIGSTOP)
    try:
        writer.publish("both", b"of c", qos=1, retain=True, ack=False)  # it will be its first deed, or was its last
        writer.publish("deleted", b"of c", qos=1, retain=True, ack=False)
        writer.publish("only/c", b"of c", qos=1, retain=True, ack=False)
        eventually("it is taken for dead", lambda: all("event=node_gone node=n2" in x.log() for x in (a, b)), SECONDS)
        put(a, {"both": b"of a", "deleted": b"", "only/a": b"of a"})
        put(b, {"both": b"of b"})
    finally:
        os.kill(c.pid, signal.SIGCONT)
    for x in (a, b):
        eventually("it is back", lambda x=x: "event=node_joined node=n2" in x.log().split("event=node_gone node=n2")[1],
                   SECONDS)
    for _ in range(3):
        writer.expect(PUBACK, timeout=SECONDS)
    found = retained(a)
    want = {"both": (b"of b", b"of c"), "deleted": (None, b"of c"), "only/c": (b"of c",), "only/a": (b"of a",),
            "kept": (b"before",)}

    def agree():
        each = [retained(x) for x in brokers]
        return each[0] == each[1] == each[2] and all(each[0].get(t) in v for t, v in want.items())

    eventually("all have the same: %r" % found, agree, SECONDS)
    writer.close()


def test_a_single_node_becomes_one_of_several(ctx):
    """What it has retained alone is worth as much as what the others have, by its time."""
    alone = ctx.broker({"node.name": "alone"})
    put(alone, {"t/%d" % n: b"alone" for n in range(100)})
    put(alone, {"gone": b"x"})
    put(alone, {"gone": b""})
    a, b = nodes(ctx, 2)
    put(a, {"t/%d" % n: b"later" for n in range(50)})
    put(b, {"other": b"x"})
    alone.restart(settings=settings(a.settings["cluster.listen"], free_port(), "alone"))
    want = {"t/%d" % n: b"later" if n < 50 else b"alone" for n in range(100)}
    want["other"] = b"x"
    same([alone, a, b], want)


def test_qos_0_is_repaired(ctx):
    """What was lost on its way, for the other node did not read, is there in the end."""
    a, b = nodes(ctx, 2)
    os.kill(b.pid, signal.SIGSTOP)
    c = client(a, "p")
    for n in range(60):  # more than a link keeps
        c.publish("t/%d" % n, b"%d" % n * 100000, retain=True)
    c.ping()
    os.kill(b.pid, signal.SIGCONT)
    same([b, a], {"t/%d" % n: b"%d" % n * 100000 for n in range(60)})
    c.close()
