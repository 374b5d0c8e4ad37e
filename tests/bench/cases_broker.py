"""The fake broker itself, by a scripted client: good by default, and each planned fault is there."""

from fake_broker import FakeBroker
from lib.mqtt import PUBACK, PUBCOMP, PUBREC, PUBREL, Client, Failure, ack, disconnect
from lib.wire import Malformed
from tool import Case, want

KEPT = {"session_expiry": 100}


def opened(broker, version, **more):
    return Client(broker.port, version=version, **more).open()


def check_good(version, qos):
    with FakeBroker() as broker:
        reader, writer = opened(broker, version), opened(broker, version)
        reader.subscribe("a/+/#", qos=qos)
        for topic in ("a/b", "a/b/c", "a//"):
            writer.publish(topic, topic, qos=qos)
            reader.expect_publish(topic, topic, qos=qos)
        writer.publish("a", b"no match", qos=qos)
        writer.publish("b/b", b"no match", qos=qos)
        reader.expect_nothing()
        check_share(broker, writer, version, qos)
        check_retained(broker, writer, version, qos)
        check_session(broker, writer, version, qos)
        want(not broker.failure, "the fake broker failed: %r", broker.failure)


def check_share(broker, writer, version, qos):
    members = [opened(broker, version) for _ in range(2)]
    for member in members:
        member.subscribe("$share/g/s/#", qos=qos)
    for i in range(4):
        writer.publish("s/1", b"%d" % i, qos=qos)
    for i in range(4):
        members[i % 2].expect_publish("s/1", b"%d" % i, qos=qos)


def check_retained(broker, writer, version, qos):
    writer.publish("r/1", b"kept", qos=qos, retain=True)
    writer.publish("r/2", b"gone", qos=qos, retain=True)
    writer.publish("r/2", b"", qos=qos, retain=True)
    reader = opened(broker, version)
    reader.subscribe("r/+", qos=qos)
    reader.expect_publish("r/1", b"kept", qos=qos, retain=True)
    reader.unsubscribe("r/+")
    writer.publish("r/1", b"unseen", qos=qos)
    reader.expect_nothing()


def check_session(broker, writer, version, qos):
    kept = {"clean": False, "props": KEPT if version == 5 else None}
    reader = Client(broker.port, client_id="kept", version=version).open(session_present=False, **kept)
    reader.subscribe("k/#", qos=qos)
    reader.send(disconnect()).close()
    writer.publish("k/1", b"one", qos=qos)
    writer.publish("k/1", b"two", qos=qos)
    reader = Client(broker.port, client_id="kept", version=version).open(session_present=True, **kept)
    if qos:
        reader.expect_publish("k/1", b"one", qos=qos, ack=False)
        reader.expect_publish("k/1", b"two", qos=qos, ack=False)
        reader.close()  # neither was acknowledged: both come again
        reader = Client(broker.port, client_id="kept", version=version).open(session_present=True, **kept)
        reader.expect_publish("k/1", b"one", qos=qos, dup=True)
        reader.expect_publish("k/1", b"two", qos=qos, dup=True)
    reader.expect_nothing()


def check_deliveries():
    faults = ["lose,at=2", "repeat,at=3", "late,at=4,places=2", "cut,at=8,byte=-1", "flip,at=9",
              "lose,at=10,receivers=1"]
    for qos in (0, 1, 2):
        with FakeBroker(*faults) as broker:
            one, other, writer = (opened(broker, 5) for _ in range(3))
            one.subscribe("t", qos=qos)
            other.subscribe("t", qos=qos)
            for i in range(1, 12):
                writer.publish("t", b"%d" % (i % 10), qos=qos)
            for payload in (b"1", b"3", b"3", b"5", b"6", b"4", b"7", b"", b"\xc6", b"1"):
                one.expect_publish("t", payload, qos=qos)
            for payload in (b"1", b"3", b"3", b"5", b"6", b"4", b"7", b"", b"\xc6", b"0", b"1"):
                other.expect_publish("t", payload, qos=qos)
            one.expect_nothing()
            want(not broker.plan.idle(), "%s never happened", broker.plan.idle())


def check_acknowledgements():
    with FakeBroker("ack-swap,at=1", "ack-twice,at=3", "ack-wrong,at=4", "ack-never,at=5", "refuse,at=6") as broker:
        client = opened(broker, 5)
        for i in range(1, 7):
            client.publish("t", b"x", qos=1, pid=i, ack=False)
        for packet_id, reason in ((2, 0), (1, 0), (3, 0), (3, 0), (1004, 0), (6, 0x97)):
            client.expect(PUBACK, pid=packet_id, reason=reason)
        client.expect_nothing()
    with FakeBroker("comp-never,at=1", "comp-twice,at=2", "comp-wrong,at=3") as broker:
        client = opened(broker, 4)
        for i in range(1, 4):
            client.publish("t", b"x", qos=2, pid=i, ack=False)
            client.expect_later(PUBREC, pid=i)
            client.send(ack(PUBREL, i))
        for packet_id in (2, 2, 1003):
            client.expect(PUBCOMP, pid=packet_id)
        client.expect_nothing()


def check_connections():
    with FakeBroker("connect-refuse,at=2", "subscribe-refuse,at=2", "hang-up,at=1") as broker:
        client = opened(broker, 5)
        refused = Client(broker.port, client_id="x", version=4).dial()
        try:
            refused.open()
        except Failure as failure:
            want("reason is 5" in str(failure), "another refusal: %s", failure)
        else:
            want(False, "was not refused")
        client.subscribe("a")
        client.subscribe("b", reasons=0x87)
        opened(broker, 5).publish("a", b"x")
        client.expect_closed()


def shown(check, *values):
    """A failure of the scripted client is one of the case."""
    try:
        check(*values)
    except (Failure, Malformed) as failure:
        want(False, "%s", failure)


def cases():
    good = [Case("broker: good, QoS %d, version %d" % (qos, version),
                 lambda tool, version=version, qos=qos: shown(check_good, version, qos))
            for version in (4, 5) for qos in (0, 1, 2)]
    return good + [Case("broker: " + check.__name__[len("check_"):], lambda tool, check=check: shown(check))
                   for check in (check_deliveries, check_acknowledgements, check_connections)]
