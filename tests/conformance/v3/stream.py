"""TCP knows no packets: a scripted session cut at every byte must be answered as when it comes whole.

The script has two parts, since only after SUBACK is it certain that a message comes back. Packets of an answer are
compared in their order, PUBLISH apart from the others: between the two kinds no order is promised.
"""

import time

from kit import check_equal
from lib.mqtt import (
    PUBLISH, PUBREL, Failure, Will, ack, connect, pingreq, publish, subscribe, unsubscribe)


def script(version, client_id):
    topic, other = "stream/%d/t" % version, "stream/%d/\u00e9\U0001f426" % version
    props = {"user_property": [("key", "value")], "content_type": "x"} if version == 5 else None
    first = connect(client_id, version, will=Will(topic, b"a will", 1), user="user", password=b"\0pw") + \
        subscribe(1, [(topic, 0), (other, 0)], version=version)
    second = b"".join([
        publish(topic, b"", version=version),
        publish(topic, b"one", 1, pid=258, props=props, version=version),
        publish(other, bytes(range(130)), 2, pid=259, version=version),
        ack(PUBREL, 259),
        publish(topic, b"again", 1, dup=True, pid=65535, version=version),
        unsubscribe(3, ["never/subscribed", "stream/+/x"], version=version),
        pingreq(),
        publish(other, b"last", version=version),
    ])
    return [(first, 2), (second, 11)]


def answers(c, count):
    """The next packets: those that are no PUBLISH, and the PUBLISH packets without a topic alias."""
    got = [c.receive() for _ in range(count)]
    if None in got:
        raise Failure("closed after %r" % got)
    messages = []
    for p in got:
        if p.type == PUBLISH:
            alias = p.props.pop("topic_alias", None)
            if alias and p.topic:
                c.aliases[alias] = p.topic
            messages.append((p.topic or c.aliases.get(alias), p.payload, p.qos, p.retain, p.dup, str(p.props)))
    return [p.raw for p in got if p.type != PUBLISH], messages


def whole(c, data):
    c.send(data, "all at once")


def by_bytes(c, data):
    for i in range(len(data)):
        c.sock.sendall(data[i:i + 1])
        if i % 16 == 0:
            time.sleep(0.001)


def split_at(position):
    def send(c, data):
        c.sock.sendall(data[:position])
        time.sleep(0.002)
        c.sock.sendall(data[position:])
    return send


def converse(env, version, ways):
    """One session; ways: how to send each part of the script."""
    c, got = env.raw(version, "stream-%d" % version), []
    for (data, count), send in zip(script(version, c.client_id), ways):
        send(c, data)
        got.append(answers(c, count))
    c.disconnect()
    return got


def check_cuts(env, version):
    want = converse(env, version, (whole, whole))
    check_equal([len(part[1]) for part in want], [0, 5], "messages that came back")
    check_equal(converse(env, version, (by_bytes, by_bytes)), want, "byte by byte")
    first, second = (len(data) for data, _ in script(version, "stream-%d" % version))
    for i in range(1, max(first, second)):
        ways = (split_at(min(i, first - 1)), split_at(min(i, second - 1)))
        with env.case("cut at byte %d" % i):
            check_equal(converse(env, version, ways), want, "cut at byte %d" % i)


def test_cuts_3_1(env):
    check_cuts(env, 3)


def test_cuts_3_1_1(env):
    check_cuts(env, 4)


def test_cuts_5_0(env):
    check_cuts(env, 5)


def test_a_connection_may_end_at_every_byte(env):
    """Whatever the packet that the end cuts, the server stays well and the will is published once CONNECT was whole."""
    watcher = env.client(version=4)
    watcher.subscribe(env.topic("will"), qos=0)
    data = connect(env.client_id(), 4, will=Will(env.topic("will"), b"x"))
    rest = publish(env.topic("other"), b"abc", 2, pid=5, version=4) + subscribe(9, [(env.topic("s"), 2)], version=4)
    for i in range(len(data) + len(rest)):
        with env.case("ends after byte %d" % i):
            c = env.raw(4)
            c.sock.sendall((data + rest)[:i])
            c.close()
            if i >= len(data):
                watcher.expect_publish(env.topic("will"), b"x")
    watcher.expect_nothing(0.3)
