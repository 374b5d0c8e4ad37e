"""What must survive the end of the process: killed under load, killed at rest, refused stores. Every promise is one that
a client was given by an acknowledgement.

KILLS: how often the broker is killed under load (default 12; 200 takes ten minutes)."""

import os
import random
import shutil
import signal
import struct
import subprocess
import time

from kit import check, check_equal, eventually
from lib.broker import Broker, Options
from lib.mqtt import Client, Will

from durable_clients import Listener, Sender, audit

KEEP = {"session_expiry": 3600}
KILLS = int(os.environ.get("KILLS", "12"))


def node(ctx, settings=None):
    ctx.need_tern("mosquitto keeps its sessions in another way")
    broker = Broker(Options(ctx.opts.tern, ctx.opts.backend, ctx.opts.shards), settings)
    ctx.brokers.append(broker)
    return broker.start()


def settle(senders, listeners, seconds):
    """Let everything that is under way arrive."""
    for sender in senders:
        sender.quiet.set()
    for sender in senders:
        sender.join(seconds)
        check(not sender.is_alive(), "%s is answered to all: %r of version %d" % (
            sender.client_id, list(sender.open.items())[:5], sender.version))
    got, deadline = -1, 0
    while audit(senders, listeners):  # as long as anything comes
        now = sum(len(listener.got) for listener in listeners)
        if now != got:
            got, deadline = now, time.monotonic() + seconds
        if time.monotonic() > deadline:
            return
        time.sleep(0.2)


def test_killed_under_load(ctx):
    """SIGKILL at random moments; QoS 1 and 2 publishers and durable subscribers, MQTT 3.1.1 and 5.0."""
    seed = random.randrange(1 << 32)
    print("    seed %d, %d kills" % (seed, KILLS))
    chance = random.Random(seed)
    broker = node(ctx, {"limits.max_queued_messages": 1000000, "limits.max_queued_bytes": "1GiB"})
    listeners = [Listener(broker.port, "l%d" % i, (4, 5)[i % 2], "load/#", 1 + i // 2, seed + i) for i in range(4)]
    for listener in listeners:
        listener.start()
    for listener in listeners:
        check(listener.subscribed.wait(10), "%s has subscribed" % listener.client_id)
    senders = [Sender(broker.port, "s%d" % i, (4, 5)[i % 2], "load/%d" % i) for i in range(3)]
    for sender in senders:
        sender.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.02, 0.5))
        broker.restart(kill=True)
    time.sleep(0.3)
    try:
        settle(senders, listeners, 30)
    finally:
        for link in senders + listeners:
            link.stopping.set()
        problems = audit(senders, listeners)
        print("    %d messages acknowledged" % sum(len(s.acknowledged) for s in senders))
    check(not problems, "%d promises broken: %s" % (len(problems), "; ".join(problems[:8])))
    check(sum(len(s.acknowledged) for s in senders) > 10 * KILLS, "there was load")


def test_everything_of_a_session(ctx):
    """Subscriptions with their options, queue, messages in flight both ways, QoS 2 identifiers, shares, retained."""
    broker = node(ctx)
    sub, pub = Client(broker.port, "sub"), Client(broker.port, "pub")
    sub.open(clean=True, props=KEEP)
    pub.open(clean=True, props=KEEP)
    sub.subscribe("a/+", qos=2, props={"subscription_id": 7})
    sub.subscribe("$share/g/s", qos=1)
    sub.subscribe("own", qos=1, no_local=True)
    sub.subscribe("gone", qos=1)
    sub.unsubscribe("gone")
    pub.publish("a/1", b"first", qos=2)
    first = sub.expect_publish("a/1", b"first", qos=2, ack=False)
    pub.publish("kept", b"retained", qos=1, retain=True)
    pub.publish("cleared", b"x", qos=1, retain=True)
    pub.publish("cleared", b"", qos=1, retain=True)
    pub.send(_publish_half("a/2", b"half", 99)).expect_later(5, pid=99)  # PUBREC came, PUBREL not sent
    half = sub.expect_publish("a/2", b"half", qos=2, ack=False)
    broker.restart(kill=True)
    sub.reopen(session_present=True)
    again = sub.expect_publish("a/1", b"first", qos=2, dup=True)
    check_equal(again.pid, first.pid, "the packet identifier survives")
    check_equal(again.props.get("subscription_id"), [7], "so does the subscription's identifier")
    check_equal(sub.expect_publish("a/2", b"half", qos=2, dup=True).pid, half.pid, "and of the second")
    pub.reopen(session_present=True)
    pub.send(_publish_half("a/2", b"half", 99, dup=True)).expect_later(5, pid=99)
    sub.expect_nothing()  # known: not delivered again
    pub.release(99)
    for topic, payload in (("gone", b"no"), ("s", b"shared"), ("a/3", b"live")):
        pub.publish(topic, payload, qos=1, reason=0x10 if topic == "gone" else None)
    sub.expect_publish("s", b"shared", qos=1)
    sub.expect_publish("a/3", b"live", qos=1)
    sub.publish("own", b"mine", qos=1)
    sub.expect_nothing()
    other = Client(broker.port, "other")
    other.open()
    other.subscribe("#", qos=1)
    other.expect_publish("kept", b"retained", retain=True)
    other.expect_nothing()


def _publish_half(topic, payload, pid, dup=False):
    from lib import wire
    return wire.publish(topic, payload, 2, dup=dup, pid=pid)


def test_wills_and_expiry(ctx):
    """A will whose client was there when the node died, one whose delay ran, a session that expired meanwhile."""
    broker = node(ctx)
    watch = Client(broker.port, "watch")
    watch.open(clean=True, props=KEEP)
    watch.subscribe("will/#", qos=1)
    there, gone, short = (Client(broker.port, name) for name in ("there", "gone", "short"))
    there.open(props=KEEP, will=Will("will/there", b"1", 1))
    gone.open(props=KEEP, will=Will("will/gone", b"2", 1, props={"will_delay": 2}))
    gone.abort()
    short.open(props={"session_expiry": 1})
    short.disconnect()
    broker.restart(kill=True)
    watch.reopen(session_present=True)
    watch.expect_publish("will/there", b"1", timeout=10)
    watch.expect_publish("will/gone", b"2", timeout=10)
    watch.expect_nothing()
    eventually("the session expires", lambda: not _present(broker, "short"))


def _present(broker, name):
    c = Client(broker.port, name)
    c.dial()
    from lib import wire
    c.send(wire.connect(name, clean=False, props={"session_expiry": 1}))
    present = c.expect(2).session_present
    c.disconnect()
    time.sleep(1.2)
    return present


def test_durability_is_told_and_chosen(ctx):
    broker = node(ctx)
    c = Client(broker.port, "c")
    told = c.open(props=KEEP)
    check(("durability", "disk") in told.connack.props.get("user_property", []), "CONNACK says disk: %r" % told.connack.props)
    c.disconnect()
    broker = ctx.configured("listeners:\n  - {address: \"tcp://127.0.0.1:%(port)d\", durability: memory}\n"
                            "data: %(data)s\n")
    c = Client(broker.port, "c")
    told = c.open(props=KEEP)
    check(("durability", "memory") in told.connack.props.get("user_property", []), "CONNACK says memory: %r" % told.connack.props)
    c.disconnect()
    c.reopen(session_present=True)
    broker.restart(kill=True)
    c.reopen(session_present=False)


def test_two_processes_on_one_directory(ctx):
    broker = node(ctx)
    done = subprocess.run([ctx.opts.tern, "--listen", "tcp://127.0.0.1:0", "--data", broker.data], capture_output=True,
                          timeout=20, check=False)
    check_equal(done.returncode, 1, "exit status")
    check(b"another process uses the store" in done.stderr, "one sentence: %s" % done.stderr.decode())
    check(broker.alive(), "the first goes on")


def refused(ctx, data, sentence):
    done = subprocess.run([ctx.opts.tern, "--listen", "tcp://127.0.0.1:0", "--data", data], capture_output=True,
                          timeout=20, check=False)
    check_equal(done.returncode, 1, "exit status for '%s'" % sentence)
    check(sentence.encode() in done.stderr, "'%s' in: %s" % (sentence, done.stderr.decode()))


def test_stores_that_are_refused(ctx):
    """A newer format, a damaged identity, a log cut short, a log that is gone, a path that is a file."""
    broker = node(ctx)
    pub = Client(broker.port, "p")
    pub.open()
    for number in range(200):
        pub.publish("t/%d" % number, b"x" * 500, qos=1, retain=True)
    check(not broker.stop(), "it ends in order")
    good = os.path.join(broker.directory, "good")
    shutil.move(broker.data, good)

    def variant():
        shutil.rmtree(broker.data, ignore_errors=True)
        shutil.copytree(good, broker.data)

    variant()
    with open(broker.data + "/identity", "r+b") as f:
        f.seek(8)
        f.write(struct.pack("=I", 99))
    refused(ctx, broker.data, "written by a later Tern")
    variant()
    with open(broker.data + "/identity", "r+b") as f:
        f.seek(20)
        f.write(b"\xff\x00\xff")
    refused(ctx, broker.data, "is damaged")
    variant()
    os.truncate(broker.data + "/log/data.mdb", 3 * 4096)
    refused(ctx, broker.data, "cut short")
    variant()
    os.unlink(broker.data + "/log/data.mdb")
    refused(ctx, broker.data, "lost its log")
    shutil.rmtree(broker.data)
    with open(broker.data, "w", encoding="utf-8"):
        pass
    refused(ctx, broker.data, broker.data)
    os.unlink(broker.data)
    shutil.move(good, broker.data)
    broker.start()
    check_equal(broker.log().count("damaged=0"), 1, "the good one is read")


def test_a_file_cut_short_while_it_runs(ctx):
    """The mapping is gone under the node's feet: it ends with a sentence, and a status of its own."""
    broker = node(ctx)
    sub, pub = Client(broker.port, "s"), Client(broker.port, "p")
    sub.open(props=KEEP)
    sub.subscribe("t", qos=1)
    pub.open()
    for _ in range(50):
        pub.publish("t", b"x" * 1000, qos=1)
    os.truncate(broker.data + "/log/data.mdb", 0)
    try:
        for _ in range(50):
            pub.publish("t", b"x" * 1000, qos=1)
    except (AssertionError, OSError):
        pass
    eventually("the node ends", lambda: not broker.alive())
    status, broker.process = broker.process.returncode, None
    check_equal(status, 74, "exit status")
    check("cut short" in broker.log() or "store_failed" in broker.log(), "it says why: " + broker.log_tail(5))


def test_a_full_disk(ctx):
    """On a small file system: what would make the store grow is refused, what makes it shrink is not; with room it goes
    on, and nothing acknowledged is lost."""
    ctx.need_tern("it is about our store")
    mount = os.path.join(ctx.directory, "small")
    os.makedirs(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", mount], check=False).returncode != 0:
        from kit import Skip
        raise Skip("a file system cannot be mounted here")
    try:
        _fill(ctx, mount)
    finally:
        for broker in ctx.brokers:
            broker.kill()
        subprocess.run(["umount", "-l", mount], check=False)


def _fill(ctx, mount):
    broker = Broker(Options(ctx.opts.tern, ctx.opts.backend, ctx.opts.shards),
                    {"limits.max_queued_messages": 1000000, "limits.max_queued_bytes": "1GiB"})
    broker.data = os.path.join(mount, "data")
    ctx.brokers.append(broker)
    broker.start()
    sub, pub, old = Client(broker.port, "s"), Client(broker.port, "p"), Client(broker.port, "old", version=4)
    sub.open(props=KEEP)
    sub.subscribe("t", qos=1)
    sub.disconnect()
    pub.open()
    taken, refusal = 0, None
    for number in range(4000):
        reason = pub.publish("t", b"%06d" % number + b"x" * 10000, qos=1, reason=[0x00, 0x97]).reason
        if reason == 0x97:
            refusal = number
            break
        taken += 1
    check(refusal is not None, "a durable publish is refused with 0x97 in the end")
    check("disk_full" in broker.log(), "one line says so")
    old.open()
    old.subscribe("memory", qos=1)  # what is in memory only goes on
    pub.publish("memory", b"m", qos=1)
    old.expect_publish("memory", b"m")
    sub.reopen(session_present=True)
    for number in range(taken):
        sub.expect_publish("t", b"%06d" % number + b"x" * 10000, qos=1)
    sub.disconnect()
    filler = [f for f in os.listdir(mount) if f != "data"]
    check(not filler, "only the store is there")
    subprocess.run(["mount", "-o", "remount,size=200m", mount], check=True)
    eventually("it notices that there is room",
               lambda: pub.publish("t", b"after", qos=1, reason=[0x00, 0x97]).reason == 0x00)
    check("disk_has_room" in broker.log(), "one line says so")
    broker.restart(kill=True)
    sub.reopen(session_present=True)
    got = sub.expect_publish("t", b"after", qos=1)
    check(got is not None, "and keeps it")


def store(ctx, *arguments):
    """ternctl store ...; returns (status, standard output, standard error)."""
    done = subprocess.run([os.path.join(os.path.dirname(ctx.opts.tern), "ternctl"), "store", *arguments],
                          capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_backup_beside_a_running_node(ctx):
    """A copy made under load is whole, and a node that is started on it has what was acknowledged before."""
    broker = node(ctx)
    sub, pub = Client(broker.port, "s"), Client(broker.port, "p")
    sub.open(props=KEEP)
    sub.subscribe("t", qos=1)
    sub.disconnect()
    pub.open()
    for number in range(100):
        pub.publish("t", b"%d" % number, qos=1)
    pub.publish("r", b"retained", qos=1, retain=True)
    sender = Sender(broker.port, "load", 5, "t/load")
    sender.start()
    copy = os.path.join(ctx.directory, "copy")
    status, out, error = store(ctx, "backup", broker.data, copy)
    sender.quiet.set()
    sender.join(10)
    check_equal(status, 0, "backup: " + out + error)
    status, out, error = store(ctx, "verify", copy)
    check(status == 0 and "every record is whole" in out, "verify: " + out + error)
    check_equal(store(ctx, "verify", broker.data)[0], 0, "the running one is whole, too")
    check_equal(store(ctx, "restore", copy, broker.data)[0], 1, "nothing is written over")
    broker.kill()
    shutil.rmtree(broker.data)
    status, out, error = store(ctx, "restore", copy, broker.data)
    check_equal(status, 0, "restore: " + out + error)
    broker.start()
    sub.reopen(session_present=True)
    for number in range(100):
        sub.expect_publish("t", b"%d" % number, qos=1)
    sub.subscribe("r", qos=1)
    sub.expect_publish("r", b"retained", retain=True)
    sub.disconnect()


def test_wrong_words_for_the_store(ctx):
    for words in ((), ("verify",), ("backup", "a"), ("mend", "a"), ("verify", "a", "b")):
        check_equal(store(ctx, *words)[0], 2, "status of %r" % (words,))
    status, _, error = store(ctx, "verify", os.path.join(ctx.directory, "nothing"))
    check(status == 1 and "there is no store" in error, "verify of nothing: " + error)
