"""The result: every member is there, has its type, agrees with the others. Objectives, the broker's processes, text."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from fake_broker import FakeBroker
from tool import Case, want, want_clean, want_counts, want_status

HERE = os.path.dirname(os.path.abspath(__file__))
INT, NUMBER, TEXT, BOOL = (int,), (int, float), (str,), (bool,)

# Path in the result: type. `*` stands for each item of a list.
SHAPE = {
    "tool": TEXT, "version": TEXT, "label": TEXT, "scenario": TEXT, "mode": TEXT, "started": TEXT, "command": TEXT,
    "machine/cpus": INT, "machine/kernel": TEXT, "machine/io": TEXT, "machine/threads": INT,
    "options/count": INT, "options/publishers": INT, "options/qos": INT, "options/mqtt": INT, "options/size": TEXT,
    "options/batch": INT, "options/inflight": INT, "options/rate": NUMBER, "options/duration_s": NUMBER,
    "clients": INT, "seconds": NUMBER, "sent": INT, "received": INT, "bytes_sent": INT, "bytes_received": INT,
    "check/sent": INT, "check/expected": INT, "check/received": INT, "check/lost": INT, "check/duplicate": INT,
    "check/reordered": INT, "check/misdelivered": INT, "check/unacknowledged": INT, "check/misacknowledged": INT,
    "check/refused": INT, "check/disconnected": INT,
    "generator/cpu_s": NUMBER, "generator/slower": BOOL,
    "brokers": (list,), "phases/*/name": TEXT, "phases/*/seconds": NUMBER, "phases/*/sent": INT,
    "phases/*/received": INT, "phases/*/connections": INT, "phases/*/subscriptions": INT,
    "series/*/t": NUMBER, "series/*/sent": INT, "series/*/received": INT, "series/*/p50_us": NUMBER,
    "series/*/p99_us": NUMBER, "series/*/max_us": NUMBER,
    "expect": (list,), "why": TEXT,
}
BROKER = {
    "brokers/*/pid": INT, "brokers/*/name": TEXT, "brokers/*/cpu_s": NUMBER, "brokers/*/user_s": NUMBER,
    "brokers/*/system_s": NUMBER, "brokers/*/rss_before": INT, "brokers/*/rss_after": INT,
    "brokers/*/voluntary_switches": INT, "brokers/*/involuntary_switches": INT, "brokers/*/threads/*/tid": INT,
    "brokers/*/threads/*/name": TEXT, "brokers/*/threads/*/cpu_s": NUMBER,
    "phases/*/cpu_s": NUMBER, "phases/0/cpu_us_each": NUMBER, "phases/0/each": TEXT,
    "cost/cpu_us_per_message": NUMBER, "cost/cpu_us_per_connection": NUMBER, "cost/cpu_us_per_subscription": NUMBER,
    "cost/rss_bytes_per_client": NUMBER, "cost/kernel_bytes_per_client": NUMBER,
    "figure/name": TEXT, "figure/value": NUMBER, "figure/unit": TEXT, "figure/per": TEXT,
}
BUCKET = 0.02  # no bucket is wider than this part of its value
PERCENTILES = ("min", "p50", "p90", "p99", "p99.9", "p99.99", "max")


def want_shape(run, value, path, types, at=""):
    """The member at path has one of the types; of a list, each item's."""
    if not path:
        fine = isinstance(value, types) and (bool in types or not isinstance(value, bool))
        want(fine, "%s: %s is %r", run, at, value)
        return
    head, _, rest = path.partition("/")
    if head.isdigit():
        want(isinstance(value, list) and len(value) > int(head), "%s: %s is no list of that length", run, at)
        want_shape(run, value[int(head)], rest, types, "%s[%s]" % (at, head))
        return
    if head == "*":
        want(isinstance(value, list) and value, "%s: %s is no list with items", run, at)
        for i, item in enumerate(value):
            want_shape(run, item, rest, types, "%s[%d]" % (at, i))
        return
    want(isinstance(value, dict) and head in value, "%s: there is no %s in %s", run, head, at or "the result")
    want_shape(run, value[head], rest, types, "%s/%s" % (at, head))


def want_histogram(run, name, h):
    want(h["count"] > 0, "%s: %s is empty", run, name)
    got = [h[p] for p in PERCENTILES]
    want(got == sorted(got), "%s: %s is not monotonous: %s", run, name, got)
    least = h["min"] * (1 - BUCKET) - 1  # the minimum is the top of its bucket
    want(least <= h["mean"] <= h["max"], "%s: mean of %s is %s, of %s to %s", run, name, h["mean"], h["min"], h["max"])
    uppers, counts = zip(*h["buckets"])
    want(list(uppers) == sorted(set(uppers)), "%s: buckets of %s are not in order", run, name)
    want(all(isinstance(n, int) and n > 0 for n in counts), "%s: a bucket of %s is empty", run, name)
    want(sum(counts) == h["count"], "%s: buckets of %s hold %d of %d", run, name, sum(counts), h["count"])
    want(uppers[-1] >= h["max"], "%s: the last bucket of %s ends at %d, below max %d", run, name, uppers[-1], h["max"])
    for percentile, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        value = h[percentile]
        below = sum(n for upper, n in h["buckets"] if upper <= value)
        under = sum(n for upper, n in h["buckets"] if upper < value * 0.9)
        want(below >= share * h["count"] - 1 or value == h["max"], "%s: %s of %s has only %d below", run, percentile,
             name, below)
        want(under <= share * h["count"] + 1, "%s: %s of %s has %d well below", run, percentile, name, under)


def want_histograms(run, kinds):
    found = run.result["latency_us"]
    want(set(found) == set(kinds), "%s: latencies of %s, not %s", run, sorted(found), sorted(kinds))
    for kind in kinds:
        want_histogram(run, kind, found[kind])


def check_json(tool):
    with FakeBroker() as broker:
        run = tool.load(broker, "pair -c 3 -q 1 -V 5 --rate 300 -d 2 --warmup 0.2 --label", "Some \"label\" \\ ü")
    want_clean(run)
    for path, types in SHAPE.items():
        want_shape(run, run.result, path, types)
    r = run.result
    want(r["tool"] == "tern-bench" and r["scenario"] == "pair" and r["mode"] == "open", "%s: another head", run)
    want(r["label"] == "Some \"label\" \\ ü", "%s: label %r", run, r["label"])
    want(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", r["started"]), "%s: started %r", run, r["started"])
    options = {name: r["options"][name] for name in ("mqtt", "qos", "rate", "count")}
    want(options == {"mqtt": 5, "qos": 1, "rate": 300, "count": 3}, "%s: options %s", run, r["options"])
    want(r["clients"] == 6, "%s: %d clients", run, r["clients"])
    want(r["command"].startswith("tern-bench pair -p "), "%s: command %r", run, r["command"])
    want(r["brokers"] == [] and not r.get("cost"), "%s: it measured a broker without --pid", run)
    want_histograms(run, ["delivery", "acknowledge", "connect", "subscribe"])
    want_histogram(run, "late_us", r["generator"]["late_us"])
    want(r["latency_us"]["connect"]["count"] == 6, "%s: %d connects", run, r["latency_us"]["connect"]["count"])
    want(r["latency_us"]["subscribe"]["count"] == 3, "%s: %d subscribes", run, r["latency_us"]["subscribe"]["count"])
    seen = len(broker.published)
    want(r["check"]["sent"] == seen, "%s: sent %d of %d", run, r["check"]["sent"], seen)
    size = sum(p.size for p in broker.published)
    want(0 < r["bytes_sent"] <= size + 64 * seen, "%s: bytes_sent %d of %d", run, r["bytes_sent"], size)
    want([p["name"] for p in r["phases"]][0] == "connect", "%s: phases %s", run, [p["name"] for p in r["phases"]])


def check_series(tool):
    """The seconds add up to the measured total; one second at the end may be cut."""
    with FakeBroker() as broker:
        run = tool.load(broker, "pair -c 2 -q 0 --rate 500 -d 3 --warmup 0.5")
    want_clean(run)
    series, r = run.result["series"], run.result
    times = [s["t"] for s in series]
    want(times == sorted(set(times)) and len(series) >= 3, "%s: seconds %s", run, times)
    for name in ("sent", "received"):
        total = sum(s[name] for s in series)
        want(0.75 * r[name] <= total <= r["check"][name], "%s: the seconds have %d %s, the measured part %d of %d", run,
             total, name, r[name], r["check"][name])
    want(all(s["p50_us"] <= s["p99_us"] <= s["max_us"] for s in series), "%s: percentiles %s", run, series)


def check_latencies(tool):
    """Only what a scenario has is told."""
    for words, kinds in (("conn -c 5 -d 0.1", ["connect"]), ("sub -c 5 -d 0.1", ["connect", "subscribe"]),
                         ("pub -c 2 -q 0 -L 20", ["connect"]), ("pub -c 2 -q 2 -L 20", ["connect", "acknowledge"]),
                         ("pair -c 2 -q 0 -L 20 --warmup 0", ["connect", "subscribe", "delivery"])):
        with FakeBroker() as broker:
            run = tool.load(broker, words)
        want_clean(run, messages=False)
        want_histograms(run, kinds)


def check_json_file(tool):
    with tempfile.TemporaryDirectory() as directory, FakeBroker() as broker:
        path = os.path.join(directory, "result.json")
        run = tool.run("pair -c 2 -L 20 -d 20 --quiet -p %d --json %s" % (broker.port, path))
        want_status(run, 0)
        want(not run.out, "%s: says %r on standard output", run, run.out[:100])
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        want(result["check"]["sent"] == 40, "%s: sent %s", run, result["check"])
        run = tool.run("conn -c 1 -d 0.1 --quiet -p %d --json %s/none/result.json" % (broker.port, directory))
        want(run.status in (2, 3), "%s: exit status %d for a file that cannot be written", run, run.status)
        want("result.json" in run.err, "%s: says %r", run, run.err)


def check_text(tool):
    """Without --json there is a table, and a line each second on standard error unless --quiet."""
    with FakeBroker("lose,at=30") as broker:
        run = tool.run("pair -c 2 -q 1 --rate 200 -d 2.2 -p %d --timeout 1" % broker.port)
        want_status(run, 1)
        for part in ("p99", "lost", "pair"):
            want(part in run.out, "%s: the table has no %s: %r", run, part, run.out)
        want(len(run.err.splitlines()) >= 2, "%s: no live lines: %r", run, run.err)
        want("\x1b" not in run.err and "\r" not in run.err, "%s: terminal codes in a file: %r", run, run.err[:200])
        quiet = tool.run("conn -c 2 -d 1.2 --quiet -p %d" % broker.port)
        want(not quiet.err, "%s: says %r", quiet, quiet.err)


def check_failure_json(tool):
    """Of a run that could not be done there is a result too, which says why."""
    with FakeBroker("connect-refuse,at=2") as broker:
        run = tool.load(broker, "pair -c 2 -d 0.1")
    want_status(run, 3)
    want(run.result.get("why"), "%s: no \"why\"", run)
    want(run.err.strip(), "%s: nothing on standard error", run)


# Objectives, exit status, which are met.
EXPECT = [
    ("lost=0", 0, [True]), ("lost=0,duplicate=0,p99<50s", 0, [True, True, True]), ("p50<1ns", 1, [False]),
    ("max>=1us,lost=0", 0, [True, True]), ("lost>0", 1, [False]),
    ("lost=0,p99<1ns,duplicate=0", 1, [True, False, True]),
    ("sent=60,received=60", 0, [True, True]), ("sent<=59", 1, [False]), ("rate>1", 0, [True]), ("rate>50M", 1, [False]),
    ("ack-p99<50s,connect-max<50s", 0, [True, True]), ("connect-p50<1ns", 1, [False]), ("cpu<1s", 1, [False]),
    ("mean<20s,p99.99<=30s,p99.9<30s", 0, [True, True, True]), ("disconnected=0,refused<1", 0, [True, True]),
]


def check_expect(tool, text, status, met):
    with FakeBroker() as broker:
        run = tool.load(broker, "pair -c 2 -q 1 -L 30 -d 20 --warmup 0 --expect " + text)
    want_status(run, status)
    want_counts(run)
    found = run.result["expect"]
    want([e["text"] for e in found] == text.split(","), "%s: objectives %s", run, [e["text"] for e in found])
    want([e["met"] for e in found] == met, "%s: met %s, not %s: %s", run, [e["met"] for e in found], met, found)
    for e in found:
        known = e["value"] is None or isinstance(e["value"], (int, float))
        want(known and isinstance(e["limit"], (int, float)), "%s: objective %s", run, e)
    with FakeBroker() as broker:
        run = tool.run("pair -c 2 -q 1 -L 30 -d 20 --warmup 0 -p %d --expect %s" % (broker.port, text))
    want_status(run, status)
    for one, fine in zip(text.split(","), met):
        want(fine or one in run.out + run.err, "%s: does not say that %s was missed: %s", run, one, run.out + run.err)


def check_expect_beside_loss(tool):
    """What a broker lost makes 1 also when every objective is met."""
    with FakeBroker("lose,at=20") as broker:
        run = tool.load(broker, "pair -c 2 -q 1 -L 30 -d 2 --warmup 0 --timeout 1 --expect p99<50s --expect lost<=1")
    want_status(run, 1)
    want([e["met"] for e in run.result["expect"]] == [True, True], "%s: %s", run, run.result["expect"])


class Process:
    """A fake broker as a process of its own, whose processor time is its own. What it saw is not known here."""

    failure, connections = None, ()

    def __init__(self, *faults):
        self.command = [sys.executable, os.path.join(HERE, "fake_broker.py"), "--port", "0", "--say-port"]
        for fault in faults:
            self.command += ["--fault", fault]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        self.pid, self.port = self.process.pid, int(self.process.stdout.readline())
        return self

    def settle(self, left):
        pass

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


def check_pid(tool):
    with Process() as broker:
        run = tool.load(broker, "pair -c 4 -q 1 -d 1 --warmup 0.1 --batch 1 --pid %d" % broker.pid)
    want_clean(run)
    for path, types in {**SHAPE, **BROKER}.items():
        want_shape(run, run.result, path, types)
    found = run.result["brokers"]
    want([b["pid"] for b in found] == [broker.pid], "%s: brokers %s", run, found)
    b, r = found[0], run.result
    want(b["cpu_s"] > 0 and b["name"].startswith("python"), "%s: %s", run, b)
    want(abs(b["user_s"] + b["system_s"] - b["cpu_s"]) < 0.05, "%s: user and system are not the sum: %s", run, b)
    want(sum(t["cpu_s"] for t in b["threads"]) > 0.5 * b["cpu_s"], "%s: threads do not add up: %s", run, b)
    want(b["rss_before"] > 1 << 20 and b["rss_after"] > 1 << 20, "%s: memory %s", run, b)
    each = b["cpu_s"] * 1e6 / (r["sent"] + r["received"])
    cost = r["cost"]["cpu_us_per_message"]
    want(0.8 * each < cost < 1.25 * each, "%s: a message cost %.2f us, cpu_s says %.2f", run, cost, each)
    want(r["figure"]["value"] > 0, "%s: figure %s", run, r["figure"])


def check_pids(tool):
    with Process() as one, Process() as other:
        run = tool.load(one, "conn -c 40 -d 0.2 -h 127.0.0.1,127.0.0.1:%d --pid %d,%d" % (other.port, one.pid,
                                                                                          other.pid))
    want_clean(run, messages=False)
    found = [b["pid"] for b in run.result["brokers"]]
    want(found == [one.pid, other.pid], "%s: brokers %s", run, found)
    want(run.result["cost"]["cpu_us_per_connection"] > 0, "%s: cost %s", run, run.result["cost"])


def check_broker_dies(tool):
    """The broker ends in the middle: all are disconnected, and the run ends by itself."""
    with Process() as broker:
        words = "pair -c 3 -q 1 --rate 100 -d 3 --warmup 0 --timeout 1 --json --quiet -p %d" % broker.port
        running = tool.start(words.split())
        time.sleep(1)
        os.kill(broker.pid, signal.SIGKILL)
        out, err = running.communicate(timeout=60)
    want(running.returncode in (1, 3), "`tern-bench %s` ended with %d: %s", words, running.returncode, err)
    check = json.loads(out)["check"]
    want(check["disconnected"] == 6, "`tern-bench %s`: disconnected %d, not 6", words, check["disconnected"])


def check_interrupt(tool):
    """Ctrl-C ends the measured part; what was measured is told and judged."""
    with FakeBroker() as broker:
        words = "pair -c 2 -q 1 --rate 100 -d 60 --json --quiet -p %d" % broker.port
        running = tool.start(words.split())
        while len(broker.published) < 50:
            time.sleep(0.05)
            want(running.poll() is None, "`tern-bench %s` ended by itself", words)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    want(running.returncode == 0, "`tern-bench %s` ended with %d after SIGINT: %s", words, running.returncode, err)
    want(json.loads(out)["check"]["received"] >= 50, "`tern-bench %s`: no result: %r", words, out[:200])


def cases():
    rows = [Case("output: --expect " + text, lambda tool, row=(text, status, met): check_expect(tool, *row))
            for text, status, met in EXPECT]
    checks = (check_json, check_series, check_latencies, check_json_file, check_text, check_failure_json,
              check_expect_beside_loss, check_pid, check_pids, check_broker_dies, check_interrupt)
    return [Case("output: " + c.__name__[len("check_"):].replace("_", " "), c) for c in checks] + rows
