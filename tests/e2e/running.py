"""A broker that runs: its statistics, its log, and whom it lets in."""

import json
import time

from kit import check, check_equal, eventually
from lib.mqtt import Client, connect
from sys_topics import SysTopics

NAMES = """bytes/received bytes/sent clients/connected clients/disconnected clients/total clients/maximum
clients/expired clients/active clients/inactive connections/socket/count heap/current heap/maximum messages/received
messages/sent messages/stored packet/out/count packet/out/bytes publish/messages/received publish/messages/sent
publish/messages/dropped publish/bytes/received publish/bytes/sent store/messages/count store/messages/bytes
subscriptions/count shared_subscriptions/count""".split() + ["retained messages/count"]
LOADS = ["load/%s/%s" % (name, span) for name in (
    "bytes/received", "bytes/sent", "connections", "messages/received", "messages/sent", "publish/dropped",
    "publish/received", "publish/sent", "sockets") for span in ("1min", "5min", "15min")]


def test_sys_topics_exist(ctx):
    ctx.need_tern("Debian's mosquitto lacks newer topics")
    broker = ctx.broker({"sys_interval": "1s"})
    topics = SysTopics(broker.port)
    values = topics.fresh(1)
    check_equal([name for name in NAMES + LOADS if name not in values], [], "topics that are missing")
    for name in NAMES:
        check(values[name].isdigit(), "%s is %r" % (name, values[name]))
    for name in LOADS:
        check(float(values[name]) >= 0, "%s is %r" % (name, values[name]))
    check(values["version"].startswith("tern"), "version is %r" % values["version"])
    number, unit = values["uptime"].split()
    check(number.isdigit() and unit == "seconds", "uptime is %r" % values["uptime"])
    topics.close()


def test_sys_topics_are_retained_and_hidden(ctx):
    broker = ctx.broker({"sys_interval": "1s"})
    topics = SysTopics(broker.port)
    topics.fresh(1)
    late = Client(broker.port, version=4).open()
    late.subscribe("$SYS/broker/version")
    late.expect_publish("$SYS/broker/version", retain=True)
    curious = Client(broker.port, version=4).open()
    curious.subscribe(["#", "+/broker/version", "+/broker/#"])
    topics.fresh(2)
    curious.expect_nothing()
    for c in (late, curious, topics):
        c.close()


def test_sys_values(ctx):
    """Count with the broker: clients, subscriptions, messages and bytes must come out as they were made."""
    broker = ctx.broker({"sys_interval": "1s"})
    topics = SysTopics(broker.port)
    before = dict(topics.fresh(4))  # what $SYS itself adds is counted by then
    clients = [Client(broker.port, client_id="keep%d" % i, version=4).open(clean=i < 3) for i in range(5)]
    for i, c in enumerate(clients):
        c.subscribe(["count/%d" % i, "count/all"], qos=1)
    clients[0].subscribe("$share/g/count/shared")
    for _ in range(10):
        clients[0].publish("count/1", b"x" * 100, qos=1)
        clients[1].expect_publish("count/1")
    clients[0].publish("count/kept", b"kept", qos=1, retain=True)
    clients[4].disconnect()

    def grown(name, by):
        return topics.number(name) - int(before[name]) == by
    topics.until("5 clients", lambda t: grown("clients/connected", 4) and grown("clients/total", 5)
                 and t.number("clients/disconnected") == int(before["clients/disconnected"]) + 1)
    topics.until("11 subscriptions, the shared one counted among them or apart",
                 lambda t: grown("subscriptions/count", 11) or grown("subscriptions/count", 10))
    topics.until("1 retained message", lambda t: grown("retained messages/count", 1))
    topics.until("11 PUBLISH received", lambda t: grown("publish/messages/received", 11))
    payload = topics.number("publish/bytes/received") - int(before["publish/bytes/received"])
    check(1004 <= payload <= 1300, "%d payload bytes received" % payload)
    sent = topics.number("publish/messages/sent") - int(before["publish/messages/sent"])
    check(sent >= 10, "%d PUBLISH sent" % sent)
    received = topics.number("messages/received") - int(before["messages/received"])
    check(received >= 5 + 6 + 11 + 10 + 1, "%d packets received" % received)
    for c in clients:
        c.close()
    topics.until("1 client left", lambda t: t.number("clients/connected") == int(before["clients/connected"]))
    topics.until("subscriptions of two sessions left", lambda t: grown("subscriptions/count", 4))
    check(topics.number("clients/maximum") >= 5, "clients/maximum is %s" % topics.values["clients/maximum"])
    topics.close()


def test_sys_counts_output_of_every_shard(ctx):
    """Clients that do not read, on whichever shard, are seen in packet/out until they are gone."""
    ctx.need_tern("mosquitto counts packets, not connections")
    broker = ctx.broker({"sys_interval": "1s"})
    topics = SysTopics(broker.port)
    slow = [Client(broker.port, name="slow%d" % n).open() for n in range(6)]
    for c in slow:
        c.subscribe("big")
    pub = Client(broker.port).open()
    for _ in range(3000):
        pub.publish("big", b"x" * 8000)
    pub.ping()
    topics.until("six outboxes wait", lambda t: t.number("packet/out/count") >= 6 and t.number("packet/out/bytes") > 0)
    for c in slow:
        c.abort()
    topics.until("none waits", lambda t: t.number("packet/out/bytes") == 0)
    pub.close()
    topics.close()


def test_sys_interval_zero_turns_them_off(ctx):
    ctx.need_tern("it is about our own setting")
    broker = ctx.broker({"sys_interval": "0"})
    c = Client(broker.port, version=4).open()
    c.subscribe("$SYS/#")
    c.expect_nothing(1.0)
    c.close()


def test_json_log(ctx):
    ctx.need_tern("it is about our own log")
    broker = ctx.broker({"log.format": "json", "log.level": "debug"})
    for odd in ("plain", "quote\" back\\slash", "line\nbreak \u00e4 \U0001f426", "x" * 900):
        c = Client(broker.port, client_id=odd, version=5).open()
        c.subscribe("a/\u00fc")
        c.send(b"\xf0\0")
        c.expect_closed()
    lines = eventually("lines", lambda: broker.log().splitlines())
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            raise AssertionError("not JSON: %r" % line) from None
        check({"ts", "level", "event"} <= set(row), "a line lacks a field: %r" % line)
        check(row["level"] in ("error", "warn", "info", "debug"), "level %r" % row["level"])
    check(len({json.loads(line)["event"] for line in lines}) > 2, "few events: %r" % lines[:5])


def test_text_log_is_one_line_an_event(ctx):
    ctx.need_tern("it is about our own log")
    broker = ctx.broker({"log.level": "debug"})
    c = Client(broker.port, client_id="a\nlevel=error event=forged\x1b[31m", version=5).open()
    c.disconnect()
    time.sleep(0.2)
    for line in broker.log().splitlines():
        check(line.startswith("ts="), "a line that is none: %r" % line)
        check("\x1b" not in line, "a control character: %r" % line)
    check("event=forged" not in [w for line in broker.log().splitlines() for w in line.split()[:3]], "a forged line")


def refused(port, version, want, user=None, password=None):
    c = Client(port, version=version).dial()
    c.send(connect("stranger", version, user=user, password=password))
    c.expect_refused(want)
    c.close()


def test_anonymous_clients_where_they_are_allowed(ctx):
    text = "listeners:\n  - {address: \"tcp://0.0.0.0:%(port)d\", allow_anonymous: true}\ndata: %(data)s\n"
    broker = ctx.configured(text)
    for version in (3, 4, 5):
        Client(broker.port, version=version).open().close()


def test_anonymous_clients_where_they_are_forbidden(ctx):
    text = "listeners:\n  - {address: \"tcp://127.0.0.1:%(port)d\", allow_anonymous: false}\ndata: %(data)s\n"
    broker = ctx.configured(text)
    for version, want in ((3, 5), (4, 5), (5, 0x87)):
        refused(broker.port, version, want)


def test_several_listeners(ctx):
    """One loopback, one public: who comes by the public one is refused, and sessions are the same on both."""
    broker = ctx.configured("listeners:\n  - tcp://127.0.0.1:%(port)d\n  - {address: \"tcp://127.0.0.2:%(port)d\", "
                            "allow_anonymous: true}\ndata: %(data)s\n")
    a = Client(broker.port, client_id="both", version=4).open()
    b = Client(broker.port, client_id="both", version=4, host="127.0.0.2").open()
    a.expect_closed()
    c = Client(broker.port, version=4).open()
    b.subscribe("t")
    c.publish("t", b"x")
    b.expect_publish("t", b"x")
    for client in (a, b, c):
        client.close()


def test_the_limit_of_connections(ctx):
    ctx.need_tern("mosquitto counts otherwise")
    broker = ctx.broker({"limits.max_connections": "10", "limits.max_connections_per_address": "8"})
    open_ones = [Client(broker.port, version=5).open() for _ in range(8)]
    beyond = Client(broker.port, version=5).dial()
    beyond.send(connect("beyond", 5))
    beyond.expect_refused()
    open_ones[0].disconnect()

    def comes_in():
        c = Client(broker.port, version=5).dial()
        c.send(connect("again", 5))
        p = c.receive()
        c.close()
        return p is not None and p.reason == 0
    eventually("a place is free again", comes_in)
    for c in open_ones + [beyond]:
        c.close()


def test_the_limit_of_sessions(ctx):
    ctx.need_tern("mosquitto has no such limit")
    broker = ctx.broker({"limits.max_sessions": "3"})
    kept = [Client(broker.port, client_id="s%d" % i, version=5).open(clean=False, props={"session_expiry": 100})
            for i in range(3)]
    refused(broker.port, 5, (0x97, 0x88, 0x89))
    refused(broker.port, 4, 3)
    kept[0].reopen(session_present=True, props={"session_expiry": 100})
    for c in kept:
        c.close()
