"""Durable sessions: a client that connects to another node than before finds its session, which has stayed where it was
made; the connection is carried there."""

import os

from cluster import client, nodes
from lib.wire import Will

KEEP = {"session_expiry": 3600}
COUNT = 200


def durable(broker, name="s", clean=False, present=True, **more):
    return client(broker, name, clean=clean, props=KEEP, session_present=present, **more)


def test_a_session_is_found_from_every_node(ctx):
    """What is queued arrives, in order and once, at whichever node the client connects; what it does there is done to its
    session."""
    a, b, c = nodes(ctx)
    s = durable(a, clean=True, present=False)
    s.subscribe("t/#", qos=2)
    s.disconnect()
    publisher = client(c, "p")
    n = 0
    for at in (b, c, a, b):
        for i in range(COUNT):
            publisher.publish("t/%d" % (i % 3), b"%d" % (n + i), qos=i % 2 + 1)
        s = durable(at)
        for i in range(COUNT):
            s.expect_publish("t/%d" % (i % 3), b"%d" % (n + i), qos=i % 2 + 1)
        n += COUNT
        s.publish("t/own", b"own", qos=2)
        s.expect_publish("t/own", b"own")
        s.ping()
        s.disconnect()
    s = durable(b)
    s.unsubscribe("t/#")
    s.subscribe("u", qos=1)
    publisher.publish("t/0", b"no", qos=1)
    publisher.publish("u", b"yes", qos=1)
    s.expect_publish("u", b"yes")
    s.close()
    publisher.close()


def test_large_messages_both_ways(ctx):
    """More than the window of the way between the nodes, and more than a client reads at once."""
    a, b = nodes(ctx, 2)
    s = durable(a, clean=True, present=False)
    s.subscribe("large/in", qos=1)
    s.disconnect()
    publisher, reader = client(a, "p"), client(b, "r")
    reader.subscribe("large/out", qos=1)
    s = durable(b)
    for i in range(20):
        publisher.publish("large/in", b"%02d" % i * 150000, qos=1)
    for i in range(20):
        s.publish("large/out", b"%02d" % i * 150000, qos=1)
        reader.expect_publish("large/out", b"%02d" % i * 150000)
    for i in range(20):
        s.expect_publish("large/in", b"%02d" % i * 150000)
    for x in (s, publisher, reader):
        x.close()


def test_versions_3(ctx):
    """Clean Session 0 of 3.1.1 and 3.1."""
    a, b = nodes(ctx, 2)
    for version in (3, 4):
        name = "v%d" % version
        s = client(a, name, version=version, clean=False)
        s.subscribe("t", qos=1)
        s.close()
        publisher = client(b, "p")
        publisher.publish("t", b"queued", qos=1)
        s = client(b, name, version=version, clean=False)
        s.expect_publish("t", b"queued")
        s.unsubscribe("t")
        s.close()
        publisher.close()


def test_taken_over_from_node_to_node(ctx):
    """[MQTT-3.1.4-3] for sessions that are elsewhere: the connection before is told so, wherever it is."""
    a, b, c = nodes(ctx)
    here = durable(a, clean=True, present=False)
    here.subscribe("t", qos=1)
    publisher = client(a, "p")
    for i, at in enumerate((b, c, b, b, a, c)):
        before, here = here, durable(at)
        before.expect_closed(0x8e)
        publisher.publish("t", b"%d" % i, qos=1)
        here.expect_publish("t", b"%d" % i)
        here.ping()  # its PUBACK has come where the session is
    here.close()
    publisher.close()


def test_clean_start_ends_the_session_elsewhere(ctx):
    """[MQTT-3.1.2-4]"""
    a, b, c = nodes(ctx)
    s = durable(a, clean=True, present=False)
    s.subscribe("t", qos=1)
    s.disconnect()
    s = durable(b, clean=True, present=False)
    s.subscribe("u", qos=1)
    s.disconnect()
    publisher = client(c, "p")
    publisher.publish("t", b"no", qos=1)
    publisher.publish("u", b"yes", qos=1)
    s = durable(a)  # the one that b has
    s.expect_publish("u", b"yes")
    s.close()
    publisher.close()


def test_the_will_of_a_client_elsewhere(ctx):
    """Its connection is lost at the front: the will is published; DISCONNECT takes it back."""
    a, b = nodes(ctx, 2)
    durable(a, clean=True, present=False).disconnect()
    watch = client(b, "w")
    watch.subscribe("will", qos=1)
    will = Will("will", b"gone", qos=1)
    durable(b, will=will).disconnect()
    durable(b, will=will).abort()
    watch.expect_publish("will", b"gone")
    watch.expect_nothing()
    watch.close()


def test_keep_alive_is_watched_over(ctx):
    a, b = nodes(ctx, 2)
    durable(a, clean=True, present=False).disconnect()
    s = durable(b, keep_alive=1)
    s.expect_closed(0x8d, timeout=30)
    s.close()


def test_the_front_dies(ctx):
    """The session lives on where it is, and the client finds it from a third node."""
    a, b, c = nodes(ctx)
    s = durable(a, clean=True, present=False)
    s.subscribe("t", qos=1)
    s.disconnect()
    s = durable(b)
    b.kill()
    publisher = client(a, "p")
    publisher.publish("t", b"1", qos=1)
    s = durable(c)
    s.expect_publish("t", b"1")
    s.close()
    publisher.close()


def test_home_dies(ctx):
    """The client is sent away, and is served anew elsewhere; when its session's node is back, with all it had taken, and
    the client connects there, it has it again."""
    a, b, c = nodes(ctx)
    s = durable(a, clean=True, present=False)
    s.subscribe("t", qos=1)
    s.disconnect()
    publisher = client(b, "p")
    publisher.publish("t", b"1", qos=1)
    s = durable(b)
    s.expect_publish("t", b"1", ack=False)
    a.kill()
    s.expect_closed(timeout=60)
    s.close()
    a.start()
    s = durable(a)
    s.expect_publish("t", b"1")
    s.disconnect()
    publisher.close()


def test_a_full_socket_stops_only_its_own(ctx):
    """A client that reads nothing, with its session elsewhere: what is for it waits there, and nobody else does."""
    a, b = nodes(ctx, 2)
    for name in ("slow", "fast"):
        s = durable(a, name, clean=True, present=False)
        s.subscribe("t/" + name, qos=1)
        s.disconnect()
    slow, fast, publisher = durable(b, "slow"), durable(b, "fast"), client(a, "p")
    for i in range(100):
        publisher.publish("t/slow", b"%03d" % i * 30000, qos=1)
        publisher.publish("t/fast", b"%03d" % i, qos=1)
        fast.expect_publish("t/fast", b"%03d" % i)
    for i in range(100):
        slow.expect_publish("t/slow", b"%03d" % i * 30000)
    for x in (slow, fast, publisher):
        x.close()


def test_who_it_is_travels(ctx):
    """A user's rules hold at its session's node as at its own."""
    directory = ctx.directory
    passwd, acl = os.path.join(directory, "passwd"), os.path.join(directory, "acl.yaml")
    ctx.run([os.path.join(os.path.dirname(ctx.opts.tern), "ternctl"), "passwd", passwd, "ann", "--password-stdin"], stdin=b"secret\n")
    with open(acl, "w") as f:
        f.write("rules:\n  - allow: all\n    topic: \"%u/#\"\n")
    a, b = nodes(ctx, 2, **{"auth.password_file": passwd, "auth.acl_file": acl})
    who = {"user": "ann", "password": b"secret"}
    durable(a, clean=True, present=False, **who).disconnect()
    s = durable(b, **who)
    s.subscribe("ann/x", qos=1)
    s.subscribe("ben/x", qos=1, reasons=[0x87])
    s.publish("ann/x", b"1", qos=1)
    s.expect_publish("ann/x", b"1")
    s.publish("ben/x", b"1", qos=1, reason=0x87)
    s.close()
