"""ternctl store: stores verified, copied, exported and imported. What a copy or an import is worth is told by the broker
that is started on it, and by its clients."""

import base64
import json
import os
import random
import re
import shutil
import subprocess

from kit import check, check_equal, eventually
from lib import wire
from lib.broker import Broker, Options
from lib.mqtt import Client, Will

from durable_clients import Listener, Sender

KEEP = {"session_expiry": 3600}
KEPT = "kept/\u00e4"
BULK = 20
LARGE = {"limits.max_queued_bytes": "1GiB"}
HEAD = {"type": "store", "version": 1}


def store(ctx, action, *arguments, stdin="", status=0):
    """Run it; returns what it wrote to standard output. The sentence about a failure is in the last line of the other."""
    ctx.need_tern("it is about our own command line tool")
    program = os.path.join(os.path.dirname(ctx.opts.tern), "ternctl")
    done = subprocess.run([program, "store", action] + list(arguments), input=stdin.encode(), capture_output=True,
                          timeout=120, check=False, cwd=ctx.directory)
    check_equal(done.returncode, status, "exit status of %s %s (%s)" % (action, arguments, done.stderr.decode()))
    if status:
        check(done.stderr.decode().splitlines()[-1].startswith("ternctl store: "), "it says %r" % done.stderr)
        return done.stderr.decode().splitlines()[-1]
    check_equal(done.stderr, b"", "standard error")
    return done.stdout.decode()


def counts(text):
    """The table of verify: the number behind each name."""
    return {m[1].strip(): int(m[2]) for m in map(re.compile(r"(.{20})([0-9]+)").match, text.splitlines()) if m}


def node(ctx, data=None, settings=None):
    ctx.need_tern("mosquitto keeps its sessions in another way")
    broker = Broker(Options(ctx.opts.tern, ctx.opts.backend, ctx.opts.shards), settings)
    broker.data = data or broker.data
    ctx.brokers.append(broker)
    return broker.start()


def path_of(ctx, name):
    return os.path.join(ctx.directory, name)


def lines_of(text, kind=None):
    return [line for line in map(json.loads, text.splitlines()) if kind in (None, line["type"])]


def jsonl(*objects):
    return "".join(json.dumps(o) + "\n" for o in objects)


def message(client, number, payload, **more):
    return {"type": "message", "client": client, "number": number, "state": "waiting", "qos": 1, "topic": "t",
            "payload": base64.b64encode(payload).decode(), "published_qos": 1, **more}


def session(client, **more):
    return {"type": "session", "client": client, "expiry": 3600, "receive_max": 20, **more}


def fill(broker):
    """Something of everything; returns the packet identifiers of what is half on its way to `sub`."""
    sub, pub, gone = (Client(broker.port, name) for name in ("sub", "pub", "gone"))
    sub.open(props=KEEP)
    pub.open(props=KEEP)
    gone.open(props={"session_expiry": 0xFFFFFFFF}, will=Will("will", b"late", 1, props={"will_delay": 3000}))
    sub.subscribe("a/+", qos=2, props={"subscription_id": 7})
    sub.subscribe("$share/g/s", qos=1)
    sub.subscribe(["own", "z/#"], qos=1, no_local=True, retain_as_published=True, retain_handling=2)
    pub.publish("a/1", b"first \x00\xff", qos=2, props={"content_type": "t", "user_property": [("k", "v"), ("k", "")],
                                                        "correlation_data": b"\x00", "message_expiry": 3000})
    sent = sub.expect_publish("a/1", qos=2, ack=False)
    pub.publish("a/2", b"second", qos=2)
    released = sub.expect_publish("a/2", qos=2, ack=False)
    sub.send(wire.ack(wire.PUBREC, released.pid)).expect_later(wire.PUBREL, pid=released.pid)
    pub.send(wire.publish("a/2", b"half", 2, pid=99)).expect_later(wire.PUBREC, pid=99)
    half = sub.expect_publish("a/2", b"half", qos=2, ack=False)
    sub.close()
    for number in range(5):
        pub.publish("a/3", b"waiting %d" % number, qos=1)
    pub.publish("s", b"shared", qos=1)
    pub.publish(KEPT, b"retained", qos=1, retain=True)
    pub.publish("$kept", b"too", qos=1, retain=True)
    pub.publish("cleared", b"x", qos=1, retain=True)
    pub.publish("cleared", b"", qos=1, retain=True)
    gone.abort()
    pub.close()
    eventually("all are gone", lambda: all("event=client_disconnected client=%s " % name in broker.log()
                                           for name in ("sub", "pub", "gone")))
    return sent.pid, released.pid, half.pid


def bulk(ctx, broker):
    """So much for `sub` and for one topic that their groups are written into the state at once."""
    c = Client(broker.port, "bulk")
    c.open()
    for _ in range(BULK):
        c.publish(KEPT, bytes(1000000), qos=1, retain=True)
    c.publish(KEPT, b"retained", qos=1, retain=True)
    for _ in range(BULK):
        c.publish("a/9", random.randbytes(1000000), qos=1)
    c.disconnect()
    eventually("a checkpoint", lambda: state_of(ctx, broker.data)[2] > 9 and state_of(ctx, broker.data)[3] > 0, 90)


def judge(broker, pids, more=0):
    """Clients find what `fill` has left, and so many messages of `bulk` behind it."""
    sub, pub = Client(broker.port, "sub"), Client(broker.port, "pub")
    sub.open(clean=False, props=KEEP, session_present=True)
    got = {}
    for _ in range(9):
        p = sub.receive(10)
        check(p is not None, "there is more")
        got[p.pid] = p
    check_equal([got[pids[0]].dup, got[pids[0]].payload], [True, b"first \x00\xff"], "sent before")
    check_equal(got[pids[0]].props.get("subscription_id"), [7], "identifier of the subscription")
    check_equal(got[pids[0]].props.get("user_property"), [("k", "v"), ("k", "")], "user properties")
    check(2900 <= got[pids[0]].props["message_expiry"] <= 3000, "time that is left")
    check_equal(got[pids[1]].type, wire.PUBREL, "what was received is released")
    check_equal([got[pids[2]].dup, got[pids[2]].payload], [True, b"half"], "sent before")
    rest = [p for pid, p in got.items() if pid not in pids]
    check_equal([(p.payload, p.dup) for p in rest],
                [(b"waiting %d" % n, False) for n in range(5)] + [(b"shared", False)], "what waited")
    for p in got.values():
        if p.type != wire.PUBREL:
            sub.acknowledge(p)
    sub.send(wire.ack(wire.PUBCOMP, pids[1]))
    for _ in range(more):
        sub.expect_publish("a/9", qos=1, timeout=10)
    pub.open(clean=False, props=KEEP, session_present=True)
    pub.send(wire.publish("a/2", b"half", 2, dup=True, pid=99)).expect_later(wire.PUBREC, pid=99)
    pub.release(99)
    pub.publish("s", b"more", qos=1)
    sub.expect_publish("s", b"more", qos=1)
    sub.publish("own", b"mine", qos=1)
    sub.expect_nothing()
    other = Client(broker.port, "other")
    other.open()
    other.subscribe("#", qos=1)
    other.expect_publish(KEPT, b"retained", retain=True)
    other.expect_nothing()
    other.subscribe("$kept", qos=1)
    other.expect_publish("$kept", b"too", retain=True)
    for client in (sub, pub, other):
        client.close()


def state_of(ctx, data):
    """What the last checkpoints have put into the state."""
    rows = counts(store(ctx, "verify", data))
    return [rows[name] for name in ("sessions", "subscriptions", "queued messages", "retained messages")]


# ---- tests ----


def test_mistakes(ctx):
    for wrong in ([], ["x"], ["verify"], ["verify", "a", "b"], ["backup", "a"], ["restore", "a", "b", "c"], ["export"],
                  ["import"], ["verify", "--force", "a"]):
        store(ctx, *(wrong or [""]), status=2)
    for action in (["verify"], ["export"]):
        check("there is no store in nowhere" in store(ctx, *action, "nowhere", status=1), "it says so")
    check("there is no store in nowhere" in store(ctx, "backup", "nowhere", "to", status=1), "it says so")
    check_equal(os.listdir(ctx.directory), [], "what mistakes have left")


def test_round_trip(ctx):
    """export | import | export, from the log and from the state; clients cannot tell the new store from the old."""
    broker = node(ctx, settings=LARGE)
    pids = fill(broker)
    check("a node runs on" in store(ctx, "export", broker.data, status=1), "it says why not")
    store(ctx, "backup", broker.data, "running")
    running = store(ctx, "export", "running")
    broker.kill()
    first = store(ctx, "export", broker.data)
    check_equal(running, first, "the backup of the running node has all of it")
    for kind, number in (("session", 3), ("subscription", 4), ("message", 9), ("retained", 2)):
        check_equal(len(lines_of(first, kind)), number, "lines of %s" % kind)
    check("9 queued" in store(ctx, "import", "new", stdin=first), "it counts")
    check_equal(sorted(os.listdir(path_of(ctx, "new"))), ["identity", "log", "state"], "nothing else is there")
    check_equal(store(ctx, "export", "new"), first, "the lines of the new store")
    broker.start()
    bulk(ctx, broker)
    check_equal(broker.stop(), [], "it stops well")
    second = store(ctx, "export", broker.data)
    check_equal([m for m in lines_of(second) if m.get("topic") != "a/9"],
                [{k: v for k, v in m.items() if (k, m.get("topic")) != ("publisher", KEPT)} for m in lines_of(first)],
                "the same from the state")
    store(ctx, "import", "second", stdin=second)
    check(store(ctx, "export", "second") == second, "the lines of the new store")
    shutil.copytree(path_of(ctx, "new"), path_of(ctx, "newer"))
    other = node(ctx, path_of(ctx, "new"))
    judge(other, pids)
    check_equal(other.stop(), [], "it stops well")
    third = node(ctx, path_of(ctx, "newer"))
    check_equal(third.stop(), [], "it stops well")
    check_equal(store(ctx, "export", "newer"), first, "after a start and a stop")
    judge(node(ctx, path_of(ctx, "second"), LARGE), pids, BULK)
    broker.start()
    judge(broker, pids, BULK)


def test_connected_when_it_ended(ctx):
    """A client that was there when the node died: its will, its expiry, and that all may have been sent."""
    broker = node(ctx)
    watch, there = Client(broker.port, "watch"), Client(broker.port, "there")
    watch.open(props=KEEP)
    watch.subscribe("w", qos=1)
    watch.disconnect()
    there.open(props=KEEP, will=Will("w", b"died", 1))
    there.subscribe("t", qos=1)
    pub = Client(broker.port, "pub")
    pub.open()
    pub.publish("t", b"1", qos=1)
    there.expect_publish("t", b"1", ack=False)
    broker.kill()
    first = store(ctx, "export", broker.data)
    check_equal([s["connected"] for s in lines_of(first, "session")], [True, False], "who was there")
    check_equal([m["state"] for m in lines_of(first, "message")], ["sent"], "it may have been sent")
    store(ctx, "import", "new", stdin=first)
    check_equal(store(ctx, "export", "new"), first, "the lines of the new store")
    other = node(ctx, path_of(ctx, "new"))
    again = Client(other.port, "watch")
    again.open(clean=False, props=KEEP, session_present=True)
    again.expect_publish("w", b"died", timeout=10)
    there = Client(other.port, "there")
    there.open(clean=False, props=KEEP, session_present=True)
    there.expect_publish("t", b"1", dup=True)


def test_long_queue(ctx):
    """More than a batch of log."""
    body = [random.randbytes(9000) for _ in range(500)]
    lines = [HEAD, session("c"), {"type": "subscription", "client": "c", "filter": "t", "qos": 1}]
    lines += [message("c", 70000 + 2 * n, payload) for n, payload in enumerate(body)]
    store(ctx, "import", "new", stdin=jsonl(*lines))
    out = lines_of(store(ctx, "export", "new"), "message")
    check_equal([(m["number"], base64.b64decode(m["payload"])) for m in out],
                [(70000 + 2 * n, payload) for n, payload in enumerate(body)], "numbers and payloads")
    broker = node(ctx, path_of(ctx, "new"))
    c = Client(broker.port, "c")
    c.open(clean=False, props=KEEP, session_present=True)
    for payload in body:
        c.expect_publish("t", payload, timeout=10)
    c.close()


def test_import_beside_what_is_there(ctx):
    """Each session and retained message replaces its namesake; all else stays; a second import changes nothing."""
    broker = node(ctx)
    for name in ("old", "both"):
        c = Client(broker.port, name)
        c.open(props=KEEP)
        c.subscribe("t", qos=1)
        c.close()
    pub = Client(broker.port, "pub")
    pub.open()
    for topic in ("t", "old", "both"):
        pub.publish(topic, b"old", qos=1, retain=True)
    pub.disconnect()
    lines = jsonl(HEAD, session("both"), {"type": "subscription", "client": "both", "filter": "u", "qos": 1},
                  message("both", 3, b"new", publisher="old"), message("both", 4, b"newer", publisher="stranger"),
                  {"type": "retained", "topic": "both", "payload": "bmV3", "published_qos": 0}, session("new"))
    check("another process uses the store" in store(ctx, "import", broker.data, stdin=lines, status=1), "it is told")
    broker.stop()
    for _ in range(2):
        store(ctx, "import", broker.data, stdin=lines)
        out = store(ctx, "export", broker.data)
        check_equal([s["client"] for s in lines_of(out, "session")], ["both", "new", "old"], "sessions")
        check_equal([(s["client"], s["filter"]) for s in lines_of(out, "subscription")], [("both", "u"), ("old", "t")],
                    "subscriptions")
        check_equal([(m["client"], m["number"], m["payload"]) for m in lines_of(out, "message")],
                    [("both", 3, "bmV3"), ("both", 4, "bmV3ZXI="), ("old", 0, "b2xk")], "messages")
        check_equal([(m["topic"], m["payload"]) for m in lines_of(out, "retained")],
                    [("both", "bmV3"), ("old", "b2xk"), ("t", "b2xk")], "retained messages")
        broker.start()
        both = Client(broker.port, "both")
        both.open(clean=False, props=KEEP, session_present=True)
        both.expect_publish("t", b"new", ack=False)
        both.close()
        check_equal(broker.stop(), [], "it stops well")


def test_bad_lines(ctx):
    """Nothing is written because of one line that is wrong."""
    good = [HEAD, session("c"), message("c", 5, b"x")]
    bad = (("line 1: ", [session("c")]), ("line 2: the first line", [HEAD, HEAD]), ("line 1: is not", ["x"]),
           ("line 4: a second session", good + [session("c")]),
           ("line 4: it must stand behind", good + [message("d", 6, b"")]),
           ("line 5: it must stand behind", good + [session("d"), message("c", 6, b"")]),
           ("line 4: \"number\" must be larger", good + [message("c", 5, b"")]),
           ("line 4: \"number\" is too far", good + [message("c", 10000000, b"")]),
           ("line 4: it was sent", good + [message("c", 6, b"", state="sent")]),
           ("line 4: \"qos\" must", good + [message("c", 6, b"", qos=0)]),
           ("line 4: colour is not known", good + [message("c", 6, b"", colour="red")]))
    for sentence, lines in bad:
        check(sentence in store(ctx, "import", "new", stdin=jsonl(*lines), status=1), "it says '%s'" % sentence)
        check_equal(os.listdir(ctx.directory), [], "what it has left")
    check("standard input is empty" in store(ctx, "import", "new", status=1), "it says so")
    os.makedirs(path_of(ctx, "full/of"))
    check("full is not empty" in store(ctx, "import", "full", stdin=jsonl(*good), status=1), "it says so")
    check_equal(os.listdir(path_of(ctx, "full")), ["of"], "what it has left")


def test_backup_under_load(ctx):
    """A copy made while messages come and go is whole, and starts as a node of its own."""
    broker = node(ctx, settings={"limits.max_queued_messages": 1000000})
    listeners = [Listener(broker.port, "l%d" % i, 5, "load/#", 1 + i, i) for i in range(2)]
    senders = [Sender(broker.port, "s%d" % i, 5, "load/%d" % i) for i in range(2)]
    absent = Client(broker.port, "absent")
    absent.open(props=KEEP)
    absent.subscribe("load/#", qos=1)
    absent.disconnect()
    for link in listeners + senders:
        link.start()
    try:
        eventually("there is load", lambda: sum(len(s.acknowledged) for s in senders) > 200, 30)
        for number in range(3):
            acknowledged = sum(len(s.acknowledged) for s in senders)
            name = "copy%d" % number
            check_equal(counts(store(ctx, "verify", broker.data))["start number"], 1, "verified beside the node")
            store(ctx, "backup", broker.data, name)
            check("every record is whole" in store(ctx, "verify", name), "the copy is whole")
            waiting = [m for m in lines_of(store(ctx, "export", name), "message") if m["client"] == "absent"]
            check(len(waiting) >= acknowledged, "%d of %d acknowledged messages are in it" % (len(waiting), acknowledged))
    finally:
        for link in listeners + senders:
            link.stopping.set()
        for link in listeners + senders:
            link.join(10)
    check("copy0 is not empty" in store(ctx, "backup", broker.data, "copy0", status=1), "it says so")
    os.mkdir(path_of(ctx, "back"))
    store(ctx, "restore", "copy2", "back")
    check_equal(store(ctx, "export", "back"), store(ctx, "export", "copy2"), "the restored one")
    with open(path_of(ctx, "copy2/identity"), "rb") as one, open(path_of(ctx, "back/identity"), "rb") as other:
        check_equal(other.read(), one.read(), "it is the same node")
    other = node(ctx, path_of(ctx, "back"), {"limits.max_queued_messages": 1000000})
    c = Client(other.port, "absent")
    c.open(clean=False, props=KEEP, session_present=True)
    c.expect_publish(qos=1, timeout=10)
    c.close()


def damage(path, text):
    """Change each occurrence in a file."""
    with open(path, "r+b") as f:
        data = f.read()
        check(text in data, "it is in %s" % path)
        f.seek(0)
        f.write(data.replace(text, text[::-1]))


def test_damage_is_found(ctx):
    """Also of what stands last in the log, and of a row, neither of which leaves a gap."""
    store(ctx, "import", "log", stdin=jsonl(HEAD, session("c"), message("c", 0, b"in the log")))
    damage(path_of(ctx, "log/log/data.mdb"), b"in the log")
    check("1 records are damaged" in store(ctx, "verify", "log", status=1), "it is found")
    check("has damage" in store(ctx, "export", "log", status=1), "and told when the store is exported")
    broker = node(ctx, settings=LARGE)
    sub = Client(broker.port, "sub")
    sub.open(props=KEEP)
    sub.subscribe("a/+", qos=1)
    sub.subscribe("own", qos=1)
    sub.disconnect()
    pub = Client(broker.port, "pub")
    pub.open()
    pub.publish("own", b"in the state", qos=1)
    pub.publish("kept", b"x", qos=1, retain=True)
    pub.disconnect()
    bulk(ctx, broker)
    broker.stop()
    damage(os.path.join(broker.data, "state/data.mdb"), b"in the state")
    check("1 records are damaged, 1 queued messages are missing" in store(ctx, "verify", broker.data, status=1),
          "the record, and what the queue lacks")
