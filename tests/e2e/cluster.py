"""Three nodes on loopback: messages from one to the other, SUBACK that holds everywhere, nodes that die and come back,
client ids that are taken over, and who is let in."""

import os
import time

from kit import check, check_equal, eventually
from lib.broker import free_port
from lib.certificates import Authority
from lib.mqtt import Client

COUNT = 200


def settings(seeds, port, name, **more):
    return {"node.name": name, "cluster.listen": "127.0.0.1:%d" % port, "cluster.seeds": seeds,
            "cluster.insecure": True, **more}


def nodes(ctx, count=3, **more):
    """So many nodes that all know each other."""
    ports = [free_port() for _ in range(count)]
    seeds = "127.0.0.1:%d" % ports[0]
    brokers = [ctx.broker(settings(seeds, port, "n%d" % i, **more)) for i, port in enumerate(ports)]
    for b in brokers:
        complete(b, count - 1)
    return brokers


def complete(broker, others):
    eventually("all routes at the node", lambda: broker.log().count("event=routes_complete") >= others, 30)


def client(broker, name, version=5, **more):
    return Client(broker.port, client_id=name, version=version).open(**more)


def test_messages_between_nodes(ctx):
    """Each QoS, in order, once; wildcards and plain filters; both directions."""
    a, b, c = nodes(ctx)
    for qos in (0, 1, 2):
        at_b, at_c, other = client(b, "b%d" % qos), client(c, "c%d" % qos), client(c, "o%d" % qos)
        at_b.subscribe("line/%d/+" % qos, qos=qos)
        at_c.subscribe("line/%d/x" % qos, qos=qos)
        other.subscribe("line/%d/y" % qos, qos=qos)
        publisher = client(a, "a%d" % qos)
        for i in range(COUNT):
            publisher.publish("line/%d/x" % qos, b"%d" % i, qos=qos)
        for i in range(COUNT):
            at_b.expect_publish("line/%d/x" % qos, b"%d" % i, qos=qos)
            at_c.expect_publish("line/%d/x" % qos, b"%d" % i, qos=qos)
        at_b.publish("line/%d/y" % qos, b"back", qos=qos)
        other.expect_publish("line/%d/y" % qos, b"back", qos=qos)
        for x in (at_b, at_c, other, publisher):
            x.close()


def test_properties_travel(ctx):
    a, b = nodes(ctx, 2)
    subscriber, publisher = client(b, "s"), client(a, "p")
    subscriber.subscribe("t", qos=1)
    props = {"user_property": [("k", "v")], "content_type": "text/plain", "message_expiry": 60}
    publisher.publish("t", b"x" * 100000, qos=1, props=props)
    got = subscriber.expect_publish("t", b"x" * 100000, qos=1)
    check_equal(got.props["content_type"], "text/plain", "the content type")
    check_equal(got.props["user_property"], [("k", "v")], "the user property")
    check(0 < got.props["message_expiry"] <= 60, "what is left of the expiry interval")
    for x in (subscriber, publisher):
        x.close()


def test_large_messages(ctx):
    """Messages longer than what a link sends at one time, between small ones of all kinds, both ways: nothing comes into
    the midst of anything, and no link breaks over it."""
    a, b = nodes(ctx, 2)
    ends = [(client(a, "a"), client(b, "b")), (client(b, "c"), client(a, "d"))]
    for i, (publisher, subscriber) in enumerate(ends):
        subscriber.subscribe(["large/%d" % i, "small/%d" % i], qos=1)
    for n in range(30):
        for i, (publisher, _) in enumerate(ends):
            publisher.publish("large/%d" % i, b"%03d" % n * 200000, qos=n % 2, ack=False)
            for k in range(20):
                publisher.publish("small/%d" % i, b"%d" % (20 * n + k), qos=k % 2, ack=False)
    for i, (_, subscriber) in enumerate(ends):
        large, small = 0, 0
        while large < 15 or small < 300:  # of QoS 1; the others may be dropped
            p = subscriber.expect_publish()
            if p.topic == "large/%d" % i:
                check(p.payload == p.payload[:3] * 200000, "a large message is torn")
            large, small = large + (p.qos == 1 and len(p.payload) > 100), small + (p.qos == 1 and len(p.payload) < 100)
    for broker in (a, b):
        check("event=peer_lost" not in broker.log(), "a link broke")
    for pair in ends:
        for x in pair:
            x.close()


def test_suback_means_everywhere(ctx):
    """A publish that begins after the SUBACK, on any node, is delivered: with QoS 0 and with nothing to wait for."""
    a, b, c = nodes(ctx)
    subscriber, at_a, at_c = client(b, "s"), client(a, "a"), client(c, "c")
    for i in range(COUNT):
        topic = "new/%d" % i
        subscriber.subscribe(topic if i % 2 else "+/%d" % i)
        at_a.publish(topic, b"from a")
        subscriber.expect_publish(topic, b"from a")
        at_c.publish(topic, b"from c")
        subscriber.expect_publish(topic, b"from c")
    for x in (subscriber, at_a, at_c):
        x.close()


def test_a_node_joins_late(ctx):
    """It is told of all filters that there are: plain ones, wildcards, long ones, more than one frame takes."""
    a, b = nodes(ctx, 2)
    subscriber = client(b, "s")
    long = ["long/%d/%s/+" % (i, "x" * 60000) for i in range(60)]
    for i in range(0, 6000, 500):
        subscriber.subscribe(["w/%d/+" % n if n % 2 else "e/%d" % n for n in range(i, i + 500)])
    for i in range(0, 60, 10):
        subscriber.subscribe(long[i:i + 10])
    members = [client(b, "m%d" % i) for i in range(3)]
    for i, m in enumerate(members):
        m.subscribe(["$share/g%d/w/share/+" % n for n in range(i * 2000, (i + 1) * 2000)])
    c = ctx.broker(settings(a.settings["cluster.listen"], free_port(), "late"))
    complete(c, 2)
    publisher = client(c, "p")
    topics = ["w/1/x", "e/2", "w/5999/y", "e/5998", "long/7/%s/y" % ("x" * 60000), "w/share/x"]
    for topic in topics:
        publisher.publish(topic, topic[:9].encode())
    for topic in topics[:-1]:
        subscriber.expect_publish(topic, topic[:9].encode())
    for m in members:  # each group has one member
        for _ in range(2000):
            m.expect_publish("w/share/x", b"w/share/x")
    for broker in (a, b, c):
        check("routes_differ" not in broker.log() and "peer_lost" not in broker.log(), "nodes that do not agree")
    for x in members + [subscriber, publisher]:
        x.close()


def test_no_subscriber_anywhere(ctx):
    """0x10 is said when no node has a subscriber, and not otherwise [MQTT-3.4.2]."""
    a, b = nodes(ctx, 2)
    publisher, subscriber = client(a, "p"), client(b, "s")
    publisher.publish("t", b"1", qos=1, reason=0x10)
    subscriber.subscribe("t", qos=1)
    publisher.publish("t", b"2", qos=1, reason=0)
    subscriber.expect_publish("t", b"2", qos=1)
    for x in (publisher, subscriber):
        x.close()


def test_sys_topics_stay_at_home(ctx):
    """$SYS/broker is of the node that the client is connected to."""
    _, b = nodes(ctx, 2, **{"sys_interval": "1s"})
    subscriber = client(b, "s")
    subscriber.subscribe("$SYS/broker/uptime")
    values = [subscriber.expect_publish("$SYS/broker/uptime").payload for _ in range(5)]
    check_equal(len(set(values)), 5, "different times among %s" % values)
    subscriber.close()


def test_a_node_dies(ctx):
    """Those that are left go on: what is acknowledged has reached who lives. The dead one comes back and is served."""
    a, b, c = nodes(ctx)
    at_b, at_c, publisher = client(b, "b"), client(c, "c"), client(a, "p")
    for x in (at_b, at_c):
        x.subscribe("t", qos=1)
    for i in range(COUNT):
        if i == COUNT // 2:
            c.kill()
        publisher.publish("t", b"%d" % i, qos=1)  # waits for PUBACK
        at_b.expect_publish("t", b"%d" % i, qos=1)
    eventually("the death is known", lambda: "event=node_gone node=n2" in a.log(), 60)
    c.start()
    complete(c, 2)
    again = client(c, "c")
    again.subscribe("t", qos=1)
    publisher.publish("t", b"more", qos=1)
    again.expect_publish("t", b"more", qos=1)
    at_b.expect_publish("t", b"more", qos=1)
    for x in (at_b, publisher, again):
        x.close()


def test_a_restarted_node_gets_what_was_not_acknowledged(ctx):
    """A durable session on a node that is killed and is back at once misses nothing that was acknowledged."""
    a, b = nodes(ctx, 2)
    keep = {"session_expiry": 3600}
    subscriber = client(b, "s", props=keep)
    subscriber.subscribe("t", qos=1)
    subscriber.close()
    publisher = client(a, "p")
    for i in range(COUNT):
        if i == COUNT // 2:
            b.restart(kill=True)
        publisher.publish("t", b"%d" % i, qos=1)
        if i == COUNT // 2:
            complete(b, 1)
    subscriber = client(b, "s", clean=False, props=keep, session_present=True)
    got, last = set(), b"%d" % (COUNT - 1)
    while last not in got:
        got.add(subscriber.expect_publish("t", qos=1).payload)
    missing = set(b"%d" % i for i in range(COUNT)) - got
    check(missing <= {b"%d" % (COUNT // 2)}, "%s are missing" % missing)  # published while its node was dead
    for x in (subscriber, publisher):
        x.close()


def test_client_ids_are_unique(ctx):
    """[MQTT-3.1.4-3] over the whole cluster: the newest wins."""
    a, b, c = nodes(ctx)
    here = client(a, "same")
    for broker in (b, c, a, b):
        time.sleep(0.05)  # the word of the last one gets around
        there = client(broker, "same")
        here.expect_closed(0x8E)
        there.ping()
        here = there
    here.close()


def test_who_is_let_in(ctx):
    """TLS with the cluster's own CA, gossip under its key. Others get nothing, and are named."""
    ca = Authority(os.path.join(ctx.directory, "ca"))
    other = Authority(os.path.join(ctx.directory, "other"))
    keys = os.path.join(ctx.directory, "keys")
    with open(keys, "w", encoding="ascii") as f:
        f.write("11" * 32 + "\n")
    for authority in (ca, other):
        authority.node("node", ["tern"])
    ca.node("stranger", ["another"])

    def secure(authority, name):
        return {"cluster.insecure": False, "cluster.key_file": keys, "cluster.ca": authority.path("ca.pem"),
                "cluster.certificate": authority.path(name + ".pem"), "cluster.key": authority.path(name + ".key")}

    a, b = nodes(ctx, 2, **secure(ca, "node"))
    subscriber, publisher = client(b, "s"), client(a, "p")
    subscriber.subscribe("t", qos=2)
    publisher.publish("t", b"sealed", qos=2)
    subscriber.expect_publish("t", b"sealed", qos=2)
    for broker in (a, b):
        check("event=peer_lost" not in broker.log(), "a link was made at the second try only")
    seeds = a.settings["cluster.listen"]
    for authority, name in ((other, "node"), (ca, "stranger")):
        ctx.broker(settings(seeds, free_port(), "bad-" + name, **secure(authority, name)))
    eventually("the one of another CA is named", lambda: "local issuer certificate" in a.log(), 30)
    eventually("and the one of another cluster", lambda: "not made out to this cluster" in a.log(), 30)
    ctx.broker(settings(seeds, free_port(), "insecure"))
    publisher.publish("t", b"still", qos=1, retain=True)
    subscriber.expect_publish("t", b"still", qos=1)
    check_equal(a.log().count("event=routes_complete"), 1, "nodes that have told their filters")
    for x in (subscriber, publisher):
        x.close()


def test_another_cluster(ctx):
    """Nodes of two clusters on the same machine that know each other's addresses do not mix."""
    a, b = nodes(ctx, 2)
    x = ctx.broker(settings(a.settings["cluster.listen"], free_port(), "x", **{"cluster.name": "other"}))
    subscriber, publisher = client(x, "s"), client(a, "p")
    subscriber.subscribe("t", qos=1)
    publisher.publish("t", b"1", qos=1, reason=0x10)
    check("node_joined node=x" not in a.log() + b.log(), "x is not a member")
    for c in (subscriber, publisher):
        c.close()
