"""Who connects from where, who publishes what and how much: as the broker saw it."""

import collections
import contextlib
import json
import time

from fake_broker import FakeBroker
from tool import Case, Run, want, want_clean, want_counts, want_status


def seen(tool, words, *more, messages=True):
    """A clean run, and the broker after it."""
    with FakeBroker() as broker:
        run = tool.load(broker, words, *more)
    want_clean(run, messages)
    return run, broker


def check_hosts(tool):
    with contextlib.ExitStack() as stack:
        brokers = [stack.enter_context(FakeBroker()) for _ in range(3)]
        hosts = ",".join("127.0.0.1:%d" % b.port for b in brokers[1:])
        run = tool.load(brokers[0], "conn -c 9 -d 0.1 -h localhost,%s" % hosts)
    want_clean(run, messages=False)
    counts = [len(b.connected) for b in brokers]
    want(counts == [3, 3, 3], "%s: connections %s", run, counts)


def check_hosts_messages(tool):
    """A pair may lie on two brokers that know nothing of each other: subscriber and publisher must share one."""
    with FakeBroker() as one, FakeBroker() as other:
        run = tool.load(one, "pair -c 4 -q 1 -L 20 -d 20 --warmup 0 -h 127.0.0.1,127.0.0.1:%d" % other.port)
    want_clean(run)
    want(len(one.published) == len(other.published) == 40, "%s: %d and %d messages", run, len(one.published),
         len(other.published))


def check_limit(tool):
    run, broker = seen(tool, "pair -c 3 -q 1 -L 47 -d 20 --batch 8 --warmup 0")
    counts = collections.Counter(p.client_id for p in broker.published)
    want(sorted(counts.values()) == [47] * 3, "%s: messages %s", run, dict(counts))
    want(run.result["check"]["sent"] == 3 * 47, "%s: sent is %s", run, run.result["check"]["sent"])
    run, broker = seen(tool, "pub -c 2 -q 0 -L 1 -d 20 --rate 1000")
    want(len(broker.published) == 2, "%s: %d messages", run, len(broker.published))


def check_topic(tool):
    run, broker = seen(tool, "pub -c 3 -L 5 -d 20 -n 7 -u joe --prefix x", "-t", "a/%u/%c/b %i")
    ids = sorted({p.client_id for p in broker.published})
    want(len(ids) == 3, "%s: publishers %s", run, ids)
    for client in ids:
        topics = {p.topic for p in broker.published if p.client_id == client}
        want(len(topics) == 1, "%s: %s published to %s", run, client, topics)
        topic = topics.pop()
        want(topic.startswith("a/joe/%s/b " % client), "%s: topic %s of %s", run, topic, client)
        want(topic.rsplit(" ")[-1].isdigit(), "%s: topic %s has no number", run, topic)
    want(len({p.topic for p in broker.published}) == 3, "%s: two share a topic", run)


def check_topic_pairs(tool):
    run, broker = seen(tool, "pair -c 4 -q 1 -L 10 -d 20", "-t", "room/%i/x")
    want(len({p.topic for p in broker.published}) == 4, "%s: topics %s", run, {p.topic for p in broker.published})
    want({f for _, f in broker.subscribed} == {p.topic for p in broker.published}, "%s: other filters: %s", run,
         broker.subscribed)


def check_size_fixed(tool):
    run, broker = seen(tool, "pub -c 2 -L 30 -d 20 -s 1000")
    want({p.size for p in broker.published} == {1000}, "%s: sizes %s", run, {p.size for p in broker.published})


def check_size_range(tool):
    run, broker = seen(tool, "pub -c 2 -L 500 -d 20 -s 20-120")
    sizes = [p.size for p in broker.published]
    want(min(sizes) >= 20 and max(sizes) <= 120, "%s: sizes %d to %d", run, min(sizes), max(sizes))
    want(len(set(sizes)) > 80, "%s: only %d different sizes of 101", run, len(set(sizes)))
    mean = sum(sizes) / len(sizes)
    want(60 < mean < 80, "%s: mean size %.1f, not about 70", run, mean)


def check_size_exponential(tool):
    run, broker = seen(tool, "pub -c 2 -L 1500 -d 20 -s exp:400")
    sizes = sorted(p.size for p in broker.published)
    mean, median = sum(sizes) / len(sizes), sizes[len(sizes) // 2]
    want(sizes[0] >= 16, "%s: a payload of %d bytes", run, sizes[0])
    want(340 < mean < 460, "%s: mean size %.1f, not about 400", run, mean)
    want(0.55 < median / mean < 0.85, "%s: median %d of mean %.1f is not that of an exponential", run, median, mean)
    want(sizes[-1] > 3 * mean, "%s: the largest is %d", run, sizes[-1])


def check_size_big(tool):
    run, broker = seen(tool, "pair -c 1 -q 1 -L 20 -d 20 -s 200000 --batch 1 -F 2 --warmup 0")
    want({p.size for p in broker.published} == {200000}, "%s: sizes %s", run, {p.size for p in broker.published})
    want(run.result["bytes_sent"] >= 20 * 200000, "%s: bytes_sent %d", run, run.result["bytes_sent"])


def check_batch(tool):
    """Messages leave in writes of the batch; a read of the broker may hold several writes, but no parts of them."""
    run, broker = seen(tool, "pub -c 1 -q 1 -L 160 -d 20 --batch 16 -F 16 --warmup 0")
    odd = [n for n in broker.reads if n % 16]
    want(not odd, "%s: reads of %s messages", run, odd[:5])
    run, broker = seen(tool, "pub -c 1 -q 1 -L 30 -d 20 --batch 1 -F 1 --warmup 0")
    want(set(broker.reads) == {1}, "%s: reads of %s messages with a window of one", run, sorted(set(broker.reads)))


def check_window(tool):
    want_window(tool, FakeBroker("ack-never,count=0"), "-F 23", 23)


def check_receive_maximum(tool):
    want_window(tool, FakeBroker("ack-never,count=0", receive_max=23), "-V 5 -F 100", 23)


def want_window(tool, fake, words, window):
    """Without acknowledgements no more than the window leaves, until it is given up."""
    with fake as broker:
        run = tool.load(broker, "pub -c 1 -q 1 -L %d -d 3 --timeout 0.5 --warmup 0 --batch 1 %s" % (window + 7, words))
    want_status(run, 1)
    want_counts(run, unacknowledged=window + 7)
    times = [p.at for p in broker.published]
    want(len(times) == window + 7, "%s: %d messages left", run, len(times))
    gaps = [round(b - a, 1) for a, b in zip(times, times[1:])]
    want(gaps.index(max(gaps)) == window - 1 and max(gaps) >= 0.3, "%s: the window was not %d: pauses of %s s", run,
         window, gaps)


def check_sources(tool):
    run, broker = seen(tool, "conn -c 9 -d 0.1 --ifaddr 127.0.0.5,127.1.2.3,127.0.0.77", messages=False)
    found = collections.Counter(c.address[0] for c in broker.connected)
    want(found == {"127.0.0.5": 3, "127.1.2.3": 3, "127.0.0.77": 3}, "%s: sources %s", run, dict(found))


def check_sources_default(tool):
    run, broker = seen(tool, "conn -c 2100 -d 0.1", messages=False)
    found = collections.Counter(c.address[0] for c in broker.connected)
    want(len(found) >= 3, "%s: 2100 connections from %s", run, dict(found))
    want(all(a.startswith("127.") for a in found), "%s: sources %s", run, dict(found))


def check_ids(tool):
    run, broker = seen(tool, "conn -c 5 -d 0.1 -n 40 --prefix node", messages=False)
    ids = [c.client_id for c in broker.connected]
    want(len(set(ids)) == 5, "%s: client ids %s", run, ids)
    want(all(i.startswith("node") for i in ids), "%s: client ids %s", run, ids)
    for number in range(40, 45):
        want(any(i.endswith(str(number)) for i in ids), "%s: no client %d in %s", run, number, ids)


def check_ids_of_two(tool):
    """Two runs at once take no clients from each other."""
    with FakeBroker() as broker:
        words = "conn -c 5 -d 0.5 --json --quiet -p %d" % broker.port
        other = tool.start(words.split())
        run = tool.run(words)
        other.communicate()
    want_clean(run, messages=False)
    want(other.returncode == 0, "%s beside another: that ended with %d", run, other.returncode)
    want(len({c.client_id for c in broker.connected}) == 10, "%s: two runs share client ids", run)


def check_login(tool):
    run, broker = seen(tool, "conn -c 3 -d 0.1 -u joe -P sesame", messages=False)
    found = {(c.user, c.password) for c in broker.connected}
    want(found == {("joe", b"sesame")}, "%s: logins %s", run, found)
    for words in ("-P sesame", "-Psesame", "--password sesame", "--password=sesame"):
        run, _ = seen(tool, "conn -c 1 -d 0.1 -u joe " + words, messages=False)
        want("sesame" not in run.out, "%s: the password is in the result", run)


def check_clean_flag(tool):
    for words, clean, expiry in (("", True, 0), ("-C false -x 77 -V 5", False, 77), ("-C true", True, 0),
                                 ("-C false", False, 0)):
        run, broker = seen(tool, "conn -c 2 -d 0.1 " + words, messages=False)
        found = {(c.clean, c.expiry) for c in broker.connected}
        want(found == {(clean, expiry)}, "%s: clean and expiry %s", run, found)


def check_storms(tool):
    run, broker = seen(tool, "conn -c 12 --storms 3 -d 0.2", messages=False)
    counts = collections.Counter(c.client_id for c in broker.connected)
    want(len(counts) == 12, "%s: %d clients", run, len(counts))
    want(set(counts.values()) == {4}, "%s: connections of each client %s", run, sorted(set(counts.values())))


def check_share(tool):
    """Members of one group, which the good broker serves in turn."""
    run, broker = seen(tool, "share -c 5 -b 2 -q 1 -L 50 -d 20 --warmup 0")
    filters = {f for _, f in broker.subscribed}
    want(len(filters) == 1 and filters.pop().startswith("$share/"), "%s: filters %s", run, broker.subscribed)
    want(run.result["check"]["received"] == 100, "%s: received %d", run, run.result["check"]["received"])


def check_retain(tool):
    run, broker = seen(tool, "retain -c 4 -b 3 --topics 30 -d 0.5 -q 1")
    stored = [p for p in broker.published if p.size > 0]
    want(len({p.topic for p in stored}) == 30, "%s: %d topics", run, len({p.topic for p in stored}))
    want(all(p.retain for p in stored), "%s: not all were to be retained", run)
    want(not broker.retained, "%s: %d retained messages were left behind", run, len(broker.retained))
    want(run.result["check"]["received"] == 4 * 30, "%s: received %d, not 120", run, run.result["check"]["received"])


def check_session(tool):
    run, broker = seen(tool, "session -c 4 -b 2 -L 25 -d 0.5 -q 1 -V 5")
    counts = collections.Counter(c.client_id for c in broker.connected)
    back = [i for i in counts if counts[i] > 1]
    want(len(back) == 4, "%s: connections of each client %s", run, dict(counts))
    want(run.result["check"]["received"] >= 100, "%s: received %d", run, run.result["check"]["received"])
    for client in back:
        clean = [c.clean for c in broker.connected if c.client_id == client]
        want(clean[1] is False, "%s: who comes back asks for a clean start: %s", run, clean)


def check_fanin(tool):
    run, broker = seen(tool, "fanin -b 20 -c 3 -q 1 -L 10 -d 20 --warmup 0")
    counts = collections.Counter(p.client_id for p in broker.published)
    want(list(counts.values()) == [10] * 20, "%s: messages %s", run, dict(counts))
    want(len({p.topic for p in broker.published}) == 20, "%s: topics of 20 publishers", run)


def check_fanout(tool):
    run, broker = seen(tool, "fanout -b 2 -c 7 -q 1 -L 10 -d 20 --warmup 0")
    check = run.result["check"]
    want(check["sent"] == 20 and check["received"] == 140, "%s: %d in, %d out", run, check["sent"], check["received"])
    want(len(broker.published) == 20, "%s: the broker saw %d", run, len(broker.published))


def check_subscribers_of_another(tool):
    """`sub` follows what another run publishes, and sees what is missing in it."""
    for faults, counts in (((), {}), (("lose,at=30",), {"lost": 2}), (("repeat,at=30",), {"duplicate": 2})):
        with FakeBroker(*faults) as broker:
            words = "sub -c 2 -q 1 -d 3 --json --quiet -t watched/# -p %d" % broker.port
            process = tool.start(words.split())
            while len(broker.subscribed) < 2:
                time.sleep(0.02)
                want(process.poll() is None, "`tern-bench %s` ended by itself", words)
            run = tool.load(broker, "pub -c 2 -q 1 -L 50 -d 20 --warmup 0 -t watched/%i")
            out, err = process.communicate(timeout=60)
        want_clean(run)
        watching = Run(words.split(), process.returncode, out, err, json.loads(out), run.began)
        want_status(watching, 1 if counts else 0)
        want_counts(watching, **counts)
        received = watching.result["check"]["received"]
        want(received == 200 - counts.get("lost", 0), "%s: received %d", watching, received)


def check_qos(tool):
    for qos in (0, 1, 2):
        run, broker = seen(tool, "pair -c 2 -q %d -L 10 -d 20 --warmup 0" % qos)
        want({p.qos for p in broker.published} == {qos}, "%s: QoS %s", run, {p.qos for p in broker.published})


def cases():
    return [Case("traffic: " + check.__name__[len("check_"):].replace("_", " "), check)
            for name, check in sorted(globals().items()) if name.startswith("check_")]
