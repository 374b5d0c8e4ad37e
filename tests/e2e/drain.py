"""A node that is to end: it says so first, sends its clients away with a word that helps them, and nothing that it was
given is lost."""

import signal
import urllib.error
import urllib.request

from cluster import client, nodes
from kit import check, check_equal, eventually
from lib.broker import free_port
from lib.mqtt import Client
from lib.wire import DISCONNECT, Will, connect

COUNT = 50
ANOTHER, SHUTTING_DOWN, UNAVAILABLE_V3 = 0x9C, 0x8B, 3
SECONDS = 30


def end(broker, status=0):
    check_equal(broker.process.wait(SECONDS), status, "the exit status")
    broker.process = None


def readiness(port):
    try:
        return urllib.request.urlopen("http://127.0.0.1:%d/readyz" % port, timeout=SECONDS).status
    except urllib.error.HTTPError as e:
        return e.code


def test_it_waits_until_the_load_balancer_has_seen_it(ctx):
    """While it waits everything goes on, but for its readiness."""
    port = free_port()
    broker = ctx.broker({"admin.listen": "127.0.0.1:%d" % port, "drain.wait": "8s"})
    new, old = Client(broker.port, version=5).open(), Client(broker.port, version=4).open()
    check_equal(readiness(port), 200, "readiness before")
    broker.process.send_signal(signal.SIGTERM)
    eventually("readiness goes", lambda: readiness(port) == 503)
    late = Client(broker.port, version=5).open()
    late.subscribe("t", qos=1)
    old.publish("t", b"while it waits", qos=1)
    late.expect_publish("t", b"while it waits")
    for c in (new, late):
        c.expect(DISCONNECT, reason=SHUTTING_DOWN, timeout=SECONDS)
    for c in (new, late, old):
        c.expect_closed(timeout=SECONDS)
    end(broker)


def test_nobody_looks_and_nobody_waits(ctx):
    """A node that no load balancer asks does not wait for one; one without clients ends whoever asks."""
    for with_client in (True, False):
        port = free_port()
        broker = ctx.broker({"admin.listen": "127.0.0.1:%d" % port, "drain.wait": "1h", "drain.grace": "1d"})
        c = Client(broker.port).open() if with_client else None
        if not with_client:
            check_equal(readiness(port), 200, "readiness before")
        broker.process.send_signal(signal.SIGTERM)
        end(broker)
        if c:
            c.close()


def test_a_second_signal_ends_it_at_once(ctx):
    port = free_port()
    broker = ctx.broker({"admin.listen": "127.0.0.1:%d" % port, "drain.wait": "1h", "drain.grace": "1d"})
    c = Client(broker.port, version=5).open()
    readiness(port)
    broker.process.send_signal(signal.SIGTERM)
    eventually("it drains", lambda: "event=drain_begun" in broker.log())
    c.ping()
    broker.process.send_signal(signal.SIGTERM)
    c.expect_closed(SHUTTING_DOWN)
    end(broker)


def test_clients_go_to_another_node_at_a_rate(ctx):
    """One after the other; who comes meanwhile is sent on, and who has not been sent away is served."""
    a, b = nodes(ctx, 2, **{"drain.rate": 1, "drain.grace": "1d"})
    watcher = client(b, "watcher")
    watcher.subscribe("wills/#", qos=1)
    leaving = [client(a, "c%d" % i, version=5, will=Will("wills/%d" % i, b"gone", 1)) for i in range(2)]
    leaving += [client(a, "o%d" % i, version=4, will=Will("wills/%d" % i, b"gone", 1)) for i in range(2, 30)]
    a.process.send_signal(signal.SIGTERM)
    watcher.expect_publish(payload=b"gone", timeout=SECONDS)  # the first one has gone
    for version, reason in ((5, ANOTHER), (4, UNAVAILABLE_V3)):
        late = Client(a.port, "late", version)
        late.dial()
        late.send(connect("late", version))
        late.expect_refused(reason)
        late.close()
    leaving[-1].ping()
    check("event=drain_begun" in a.log() and "other_nodes=1" in a.log(), "what the log says")
    a.process.send_signal(signal.SIGTERM)
    for c in leaving:
        c.expect_closed((ANOTHER, SHUTTING_DOWN), timeout=SECONDS)
    for _ in leaving[1:]:
        watcher.expect_publish(payload=b"gone", timeout=SECONDS)
    end(a)
    watcher.close()


def test_all_of_a_share_goes_to_the_members_that_stay(ctx):
    """What the members of the node that ends have not acknowledged, and is on its way to other nodes when it ends."""
    a, b = nodes(ctx, 2)
    publisher = client(b, "publisher")
    members = [client(a, "m%d" % i, props={"receive_max": 5}) for i in range(4)]
    for m in members:
        m.subscribe("$share/crew/jobs", qos=1)
    for i in range(COUNT):
        publisher.publish("jobs", b"%d" % i, qos=1)
    stays = client(b, "stays")
    stays.subscribe("$share/crew/jobs", qos=1)
    a.process.send_signal(signal.SIGTERM)
    have = set()
    while len(have) < COUNT:
        have.add(stays.expect_publish("jobs", timeout=SECONDS).payload)
    end(a)
    for c in members + [publisher, stays]:
        c.close()


def test_who_only_passes_through_is_told_too(ctx):
    """The session is on another node than the connection: a 5.0 client has its DISCONNECT between two packets, and its
    session stays where it is."""
    a, b = nodes(ctx, 2)
    keep = {"session_expiry": 3600}
    s = client(b, "s", props=keep)
    s.subscribe("t", qos=1)
    s.disconnect()
    s = client(a, "s", clean=False, props=keep, session_present=True)
    old = client(b, "old", version=4, clean=False)
    old.close()
    old = client(a, "old", version=4, clean=False, session_present=True)
    a.process.send_signal(signal.SIGTERM)
    s.expect(DISCONNECT, reason=ANOTHER, timeout=SECONDS)
    s.expect_closed(timeout=SECONDS)
    old.expect_closed(timeout=SECONDS)
    end(a)
    client(b, "p").publish("t", b"kept", qos=1)
    s = client(b, "s", clean=False, props=keep, session_present=True)
    s.expect_publish("t", b"kept")
    s.close()
