"""A disk that fails under a running node: each kind of write and sync of its store, at each place of a short working day.

A node whose commit has failed ends, with status 74 and one sentence, and never says yes to what it may have lost; one
whose disk is full refuses and goes on. Whatever happened: started again on the same directory it has all that it had
acknowledged. The disk fails by lib/failing_disk.c, preloaded.

DISK_SWEEP: each so manieth place of a sweep (default 4; 1 is all of them)."""

import errno
import mmap
import os
import struct

from kit import Skip, check, check_equal, eventually
from lib.broker import Broker, BrokerDied, Options
from lib.mqtt import Client, Failure

SWEEP = int(os.environ.get("DISK_SWEEP", "4"))
KEEP = {"session_expiry": 3600}
OPERATIONS = ["log write", "log sync", "log meta", "state write", "state sync", "state meta", "other write", "other sync"]
STORE_FAILED = 74
CLIENTS = 24  # so many that a checkpoint, one group each 234 ms, soon finds one that has changed


class Disk:
    """The switch of failing_disk, see there."""

    def __init__(self, path):
        with open(path, "wb") as f:
            f.write(bytes(104))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 104)

    def arm(self, operation, fail_in, error, lasting=False):
        self.map[8:16] = bytes(8)
        self.map[16:40] = struct.pack("<qqQ", lasting, error, 0)
        self.map[0:8] = struct.pack("<q", 1 << OPERATIONS.index(operation))
        self.map[8:16] = struct.pack("<q", fail_in)

    def disarm(self):
        self.map[16:24] = bytes(8)
        self.map[8:16] = bytes(8)

    def failed(self):
        return struct.unpack("<Q", self.map[32:40])[0]

    def counted(self, operation):
        at = 40 + 8 * OPERATIONS.index(operation)
        return struct.unpack("<Q", self.map[at:at + 8])[0]


def library(ctx):
    path = os.path.join(os.path.dirname(ctx.opts.tern), "failing_disk.so")
    if not os.path.exists(path):
        raise Skip("no %s: `make units` builds it" % path)
    return path


class Node(Broker):
    """A durable node on a disk that can fail. arm: (operation, fail_in, error, lasting), from the first moment on."""

    def __init__(self, ctx):
        ctx.need_tern("it is about our store")
        super().__init__(Options(ctx.opts.tern, ctx.opts.backend, ctx.opts.shards))
        self.library = library(ctx)
        self.disk = Disk(os.path.join(self.directory, "disk"))
        ctx.brokers.append(self)

    def start(self, arm=None):
        if arm:
            self.disk.arm(*arm)
        os.environ["FAILING_DISK"], os.environ["LD_PRELOAD"] = os.path.join(self.directory, "disk"), self.library
        try:
            return super().start()
        finally:
            del os.environ["LD_PRELOAD"], os.environ["FAILING_DISK"]

    def ended(self):
        """Its exit status, once it has ended by itself; None while it runs."""
        status = self.process.poll()
        if status is not None:
            self.process = None
            self.wait_until_refused()
        return status


class Day:
    """What clients do, and what was acknowledged to them."""

    def __init__(self, port):
        self.port, self.sessions, self.retained, self.queued = port, [], [], []

    def work(self, until):
        """Go through the day. until(): it is over. Ends early when the node does."""
        try:
            self.morning()
            eventually("a checkpoint, or the end of the node", lambda: self.afternoon() or until(), 20)
        except (Failure, OSError):
            return

    def morning(self):
        pub = Client(self.port, "pub")
        pub.open(props=KEEP)
        for number in range(CLIENTS):
            name = "d%d" % number
            sub = Client(self.port, name)
            sub.open(props=KEEP)
            sub.subscribe("day/%s" % name, qos=1)
            self.sessions.append(name)
            sub.close()
            self.publish(pub, name)
            pub.publish("kept/%d" % number, b"r%d" % number, qos=1, retain=True)
            self.retained.append(number)
        self.pub = pub

    def afternoon(self):
        self.publish(self.pub, self.sessions[len(self.queued) % CLIENTS])

    def publish(self, pub, name):
        text = b"m%d" % len(self.queued)
        pub.publish("day/" + name, text + b"." * (len(self.queued) * 331 % 6000), qos=1)
        self.queued.append((name, text))

    def audit(self):
        """All that was acknowledged, in order. More may be there: what was not answered any more."""
        for name in self.sessions:
            sub = Client(self.port, name)
            sub.reopen(session_present=True, props=KEEP)
            for text in (text for who, text in self.queued if who == name):
                got = sub.expect_publish("day/" + name, qos=1).payload
                check_equal(got.rstrip(b"."), text, "the next message for %s" % name)
            sub.close()
        reader = Client(self.port, "reader")
        reader.open()
        reader.subscribe("kept/#", qos=1)
        got = set()
        while len(got) < len(self.retained):
            got.add(reader.expect_publish().payload)
        check(got >= {b"r%d" % n for n in self.retained}, "the retained messages: %r" % got)
        reader.close()


def refused(node, what):
    """A store that is new: nothing is lost when it cannot be made, and the node says so and does not run."""
    check_equal(node.ended(), 1, what + ": exit status at the start")
    check("event=store_refused" in node.log(), what + ": it says why: " + node.log()[-600:])


def one_failure(ctx, operation, place, error):
    """One day with one failure. Whether the place was reached."""
    node = Node(ctx)
    day = Day(node.port)
    what = "%s %d, %s" % (operation, place, os.strerror(error) if error else "cut short")
    try:
        node.start((operation, place, error))
        enough = 6 if operation.startswith("state") else 2  # checkpoints
        day.work(lambda: node.process.poll() is not None or node.disk.failed() or node.disk.counted("state meta") >= enough)
    except BrokerDied:
        refused(node, what)
    reached = node.disk.failed() > 0
    if reached and node.process is None:
        node.disk.disarm()
        node.start()
    elif reached:
        eventually(what + ": the node ends", lambda: node.process.poll() is not None)
        log, status = node.log(), node.ended()
        check_equal(status, STORE_FAILED, what + ": exit status; its log ends: " + log[-600:])
        check("event=store_failed" in log and "the disk has refused a commit" in log, what + ": it says why: " + log[-600:])
        node.disk.disarm()
        node.start()
    else:
        node.disk.disarm()
        node.restart(kill=True)
    day.audit()
    check("damaged=0" in node.log(), what + ": nothing is damaged")
    problems = node.stop()
    check(not problems, what + ": " + "; ".join(problems))
    node.remove()
    ctx.brokers.remove(node)
    return reached


def sweep(ctx, operation, step, error=errno.EIO):
    """step: for each SWEEP."""
    reached, place = 0, 1
    while one_failure(ctx, operation, place, error):
        reached += 1
        place += max(1, step * SWEEP // 4)
    print("    %s: %d places" % (operation, reached))
    check(reached >= 2, "%s: only %d places were reached" % (operation, reached))


def test_log_write(ctx):
    sweep(ctx, "log write", 60)


def test_log_sync(ctx):
    sweep(ctx, "log sync", 30)


def test_log_meta(ctx):
    sweep(ctx, "log meta", 30)


def test_log_write_cut_short(ctx):
    check(one_failure(ctx, "log write", 20, 0), "the place is reached")


def test_state_write(ctx):
    sweep(ctx, "state write", 3)


def test_state_sync(ctx):
    sweep(ctx, "state sync", 3)


def test_state_meta(ctx):
    sweep(ctx, "state meta", 3)


def test_identity(ctx):
    """What is written and synced at the start, once each: identity, directories."""
    check(one_failure(ctx, "other write", 1, errno.EIO), "the identity is written")
    check(one_failure(ctx, "other write", 1, 0), "the identity is written")
    sweep(ctx, "other sync", 2)


def answered(client):
    """Without a PINGREQ: its answer would wait behind the others."""
    try:
        return client.receive(0.3)
    except Failure:
        return None


def test_log_is_full(ctx):
    """ENOSPC for a while: who asks for more is told 0x97, what was taken before waits, nobody is lied to."""
    node = Node(ctx)
    node.start()
    first, second, sub = (Client(node.port, name) for name in ("first", "second", "s"))
    sub.open(props=KEEP)
    sub.subscribe("t", qos=1)
    sub.close()
    first.open(props=KEEP)
    second.open(props=KEEP)
    first.publish("t", b"before", qos=1)
    node.disk.arm("log write", 1, errno.ENOSPC, lasting=True)
    waiting = first.publish("t", b"waits", qos=1, ack=False)
    eventually("the disk is full", lambda: node.disk.failed() and "event=disk_full" in node.log())
    for _ in range(3):
        second.publish("t", b"refused", qos=1, reason=0x97)
    check(not answered(first), "what waits is not answered")
    check(node.alive(), "it goes on")
    node.disk.disarm()
    first.expect(4, pid=waiting, reason=0)
    eventually("there is room", lambda: "event=disk_has_room" in node.log())
    second.publish("t", b"after", qos=1, reason=0)
    node.restart(kill=True)
    sub.reopen(session_present=True, props=KEEP)
    for payload in (b"before", b"waits", b"after"):
        sub.expect_publish("t", payload, qos=1)
    sub.expect_nothing()


def test_state_is_full(ctx):
    """ENOSPC for checkpoints: the log keeps what they cannot take, and they are tried again."""
    node = Node(ctx)
    node.start()
    node.disk.arm("state write", 1, errno.ENOSPC, lasting=True)
    day = Day(node.port)
    day.morning()
    eventually("checkpoints are refused", lambda: day.afternoon() or node.disk.failed() >= 3, 20)
    before = node.disk.counted("state meta")
    node.disk.disarm()
    eventually("and then taken", lambda: day.afternoon() or node.disk.counted("state meta") > before, 20)
    node.restart(kill=True)
    day.audit()
