"""Open loop tells what closed loop hides; the schedules of connections and messages are kept.

Only what must at least have passed is asserted, never how fast something was: machines are shared.
"""

import socket
import threading

from fake_broker import FakeBroker
from tool import Case, want, want_clean, want_status

STALL_MS = 400


def latency(run, which="delivery"):
    found = run.result["latency_us"].get(which)
    want(found, "%s: no latency of %s", run, which)
    return found


def stalled(tool, words, at):
    with FakeBroker("stall,at=%d,ms=%d" % (at, STALL_MS)) as broker:
        run = tool.load(broker, words)
    want_clean(run)
    want(not broker.plan.idle(), "%s: only %d messages", run, len(broker.published))
    return run


# What may hold messages back while the broker stands still: nothing; a small window; a full connection.
OPEN_LOOPS = (("-c 2 -q 1", 1000), ("-c 2 -q 1 -F 10 --batch 1", 1000), ("-c 2 -q 2 -V 5 -F 10 --batch 1", 1000),
              ("-c 1 -q 0 -s 250000 --batch 1", 200))


def check_open_loop(tool, words, rate):
    """Of 1000 a second some 400 are due while the broker stands still: each is late, not only the one that it met."""
    run = stalled(tool, "pair --rate %d -d 2 --warmup 0 %s" % (rate, words), rate * 6 // 10)
    want(run.result["mode"] == "open", "%s: mode %s", run, run.result["mode"])
    for which in ("delivery",) if "-q 0" in words else ("delivery", "acknowledge"):
        figures = latency(run, which)
        for name, least_us in (("max", 350000), ("p99", 300000), ("p90", 20000)):
            want(figures[name] >= least_us, "%s: %s of %s is %d us after a stall of %d ms", run, name, which,
                 figures[name], STALL_MS)
        late = sum(count for upper, count in figures["buckets"] if upper >= 20000)
        want(late >= 0.3 * rate, "%s: only %d of %s are late after a stall of %d ms", run, late, which, STALL_MS)


def check_closed_loop(tool):
    """In closed loop nothing is sent while the broker stands still: two windows are late, whatever else is."""
    run = stalled(tool, "pair -c 2 -q 1 -F 4 --batch 1 -d 2 --warmup 0", 600)
    want(run.result["mode"] == "closed", "%s: mode %s", run, run.result["mode"])
    figures = latency(run)
    want(figures["max"] >= 350000, "%s: max is %d us after a stall of %d ms", run, figures["max"], STALL_MS)
    want(figures["p50"] < 200000, "%s: p50 is %d us: the stall is not in a few messages", run, figures["p50"])
    late = sum(count for upper, count in figures["buckets"] if upper >= 350000)
    want(late <= 8, "%s: %d messages were late, of at most 8 on their way", run, late)


def sink(listener):
    """Accept one client and throw away what it sends, faster than any tool can send it."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"\x20\x02\0\0")  # CONNACK
        into = bytearray(1 << 20)
        while connection.recv_into(into):
            pass


def check_slower(tool):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=sink, args=(listener,), daemon=True).start()
        words = "pub -c 1 -q 0 --rate 50M -d 0.3 --warmup 0 -p %d" % listener.getsockname()[1]
        run = tool.run(words + " --json")
        threading.Thread(target=sink, args=(listener,), daemon=True).start()
        text = tool.run(words)
    want(run.result.get("generator", {}).get("slower") is True, "%s: does not say that the generator was slower", run)
    late = run.result["generator"]["late_us"]
    want(late["count"] > 0 and late["max"] > 1000, "%s: its own lateness is at most %s", run, late["max"])
    want("warning" in text.out + text.err, "%s: no warning: %s", text, text.out)


def check_broker_slower(tool):
    """The broker is the limit: the run ends all the same, and what it sent is what the broker got."""
    for words in ("pub -c 1 -q 0 --rate 1M -d 0.3", "pair -c 2 -q 1 --rate 300k -d 0.3"):
        with FakeBroker() as broker:
            run = tool.load(broker, words + " --warmup 0 --timeout 2")
        want_clean(run)
        sent = run.result["check"]["sent"]
        want(sent == len(broker.published), "%s: sent %d, and the broker saw %d", run, sent, len(broker.published))


def check_not_slower(tool):
    with FakeBroker() as broker:
        run = tool.load(broker, "pair -c 2 --rate 20 -d 0.5 --warmup 0")
    want(run.result["generator"]["slower"] is False, "%s: calls itself too slow for 20 messages a second", run)


def check_slow_connack(tool):
    with FakeBroker("connect-slow,at=3,ms=1000") as broker:
        run = tool.load(broker, "conn -c 5 -d 0.2")
    want_clean(run, messages=False)
    figures = latency(run, "connect")
    want(figures["count"] == 5, "%s: %d connect latencies of 5", run, figures["count"])
    want(figures["max"] >= 990000, "%s: the slowest CONNECT took %d us, not a second", run, figures["max"])
    want(figures["p50"] < figures["max"], "%s: all CONNECTs took a second", run)


def paced(times, each_s, what, run):
    """The k-th is never before its place in the schedule, which cannot begin before the tool did."""
    for k, at in enumerate(times):
        due = run.began + k * each_s
        want(at >= due, "%s: %s %d came %.0f ms before its time", run, what, k + 1, (due - at) * 1000)


def check_connections(tool, option, each_s, count):
    with FakeBroker() as broker:
        run = tool.load(broker, "conn -c %d %s -d 0.1" % (count, option))
    want_clean(run, messages=False)
    want(len(broker.connected) == count, "%s: %d connections", run, len(broker.connected))
    paced([c.at for c in broker.connected], each_s, "connection", run)


def check_messages(tool, option, each_s, count):
    with FakeBroker() as broker:
        run = tool.load(broker, "pub -c 2 -q 0 --warmup 0 -d 1 " + option)
    want_clean(run)
    want(run.result["mode"] == "open", "%s: mode %s", run, run.result["mode"])
    paced([p.at for p in broker.published], each_s, "message", run)
    want(len(broker.published) >= count, "%s: only %d messages in a second", run, len(broker.published))


def check_duration(tool):
    with FakeBroker() as broker:
        run = tool.load(broker, "pair -c 1 --rate 100 -d 1.2 --warmup 0.3")
    want_clean(run)
    first, last = broker.published[0].at, broker.published[-1].at
    want(last - first >= 1.3, "%s: messages during %.2f s, not 1.5", run, last - first)
    want(run.result["seconds"] >= 1.15, "%s: measured %.2f s", run, run.result["seconds"])
    want(run.result["check"]["sent"] > run.result["sent"], "%s: the warm-up counts as measured", run)


def check_keep_alive(tool):
    with FakeBroker() as broker:
        run = tool.load(broker, "conn -c 5 -k 2 -d 4")
    want_status(run, 0)
    want_clean(run, messages=False)
    want(broker.timeouts == 0, "%s: %d clients were silent for too long", run, broker.timeouts)
    want(broker.pings >= 5, "%s: %d PINGREQ of 5 clients that are idle for twice the keep alive", run, broker.pings)
    want({c.keep_alive for c in broker.connected} == {2}, "%s: another keep alive", run)


def cases():
    shows = [Case("time: a stall shows in open loop, " + row[0], lambda tool, row=row: check_open_loop(tool, *row),
                  alone=True) for row in OPEN_LOOPS]
    return shows + [
        Case("time: a stall hides in closed loop", check_closed_loop, alone=True),
        Case("time: a generator that is too slow says so", check_slower, alone=True),
        Case("time: a generator that keeps up does not", check_not_slower),
        Case("time: a broker that is too slow does not hold the run up", check_broker_slower, alone=True),
        Case("time: a slow CONNACK is measured", check_slow_connack),
        Case("time: --connrate is not exceeded", lambda tool: check_connections(tool, "-R 20", 0.05, 16)),
        Case("time: nor is it by two threads", lambda tool: check_connections(tool, "-R 20 --threads 2", 0.05, 16)),
        Case("time: --interval is kept", lambda tool: check_connections(tool, "-i 100", 0.1, 8)),
        Case("time: --rate is not exceeded", lambda tool: check_messages(tool, "--rate 50", 0.02, 25)),
        Case("time: --pubinterval is kept", lambda tool: check_messages(tool, "-I 100", 0.05, 10)),
        Case("time: --warmup and --duration are kept", check_duration),
        Case("time: --keepalive is kept", check_keep_alive),
    ]
