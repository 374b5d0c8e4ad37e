#!/usr/bin/env python3
"""What a cluster costs: one table of the figures that are asked of several nodes, measured on hosts of their own.

Each comparison is made in rounds, what is compared one right after the other; the table shows the median and, in
parentheses, the smallest and the largest. Processor time is that of all nodes together, the kernel's work for them
included. It needs what tests/hosts needs: root, ip and nft. Exit status 1 with --strict and a figure that is missed.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.join(os.path.dirname(HERE), "tests")
sys.path[:0] = [os.path.join(TESTS, "hosts"), os.path.join(TESTS, "e2e"), TESTS]

from lab import Lab, members, together  # noqa: E402
from lib import hosts  # noqa: E402
from lib.broker import Options  # noqa: E402
from lib.mqtt import Client, Failure  # noqa: E402
from line import Lines  # noqa: E402

FILTERS, AT_ONCE = 1000000, 2000
ONE_WAY = 0.01  # seconds of delay in the proxy
SUSPICION_MS = 2000  # suspect_min_ms of cluster/swim.h


class Table:
    def __init__(self):
        self.missed = 0

    def row(self, what, values, unit, goal, at_least=False, digits=2):
        middle = statistics.median(values)
        good = middle >= goal if at_least else middle <= goal
        self.missed += not good
        spread = " (%.*f-%.*f)" % (digits, min(values), digits, max(values)) if len(values) > 1 else ""
        print("%-66s %9s  %s %g %s%s" % (what, "%.*f%s" % (digits, middle, spread), ">=" if at_least else "<=", goal, unit,
                                       "" if good else "  MISSED"), flush=True)


def bench(lab, nodes, scenario, *arguments, pids=()):
    """One run of tern-bench; its result."""
    path = os.path.join(lab.directory, "result.json")
    command = [os.path.join(os.path.dirname(lab.opts.tern), "tern-bench"), scenario, "--quiet", "--json=" + path,
               "--host", ",".join("%s:1883" % n.host for n in nodes), "--timeout", "20", *arguments]
    if pids:
        command += ["--pid", ",".join(str(p) for p in pids)]
    lab.run(command, seconds=120)
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def forwarding(lab, table, rounds):
    """Publisher and subscriber on different nodes, beside both on one; the third is there in both."""
    a, b, c = nodes = lab.cluster()
    pids = [n.pid for n in nodes]
    for qos in ("0", "1"):
        for name, more in (("batches of 32", ["--batch", "32", "--inflight", "64"]), ("one in flight", ["--batch", "1", "--inflight", "1"])):
            apart, together_ = [], []
            for _ in range(rounds):
                for values, at_nodes in ((together_, [a]), (apart, [a, b])):
                    result = bench(lab, at_nodes, "pair", "-c", "51", "-q", qos, "-d", "2", *more, pids=pids)
                    values.append(result["cost"]["cpu_us_per_message"])
            table.row("CPU of all nodes, QoS %s, %s: apart / on one (%.3f / %.3f us)" % (
                qos, name, statistics.median(apart), statistics.median(together_)),
                [x / y for x, y in zip(apart, together_)], "times", 2.2)


def suback(lab, table, rounds):
    """A new filter each time. What `bounded` adds to `local`, with a way of known length between the nodes."""
    def measure(how):
        lines = Lines(lab, 3)
        nodes = lab.cluster(addresses=lines.addresses(), **{"cluster.suback": how})
        lines.each(lambda line: setattr(line, "delay", ONE_WAY))
        client, times = Client(1883, host=nodes[0].host).open(), []
        for i in range(40 * rounds):
            began = time.monotonic()
            client.subscribe("suback/%s/%d" % (how, i), qos=1)
            times.append((time.monotonic() - began) * 1000)
        client.close()
        lines.stop()
        lab.loads.remove(lines)
        for n in nodes:
            n.stop()
            lab.brokers.remove(n)
        for h in lab.hosts:
            h.close()
        lab.hosts.clear()
        return sorted(times)
    local = measure("local")
    bounded = measure("bounded")
    for name, part in (("median", 0.5), ("90th percentile", 0.9)):
        at_ = int(len(local) * part)
        table.row("SUBACK, bounded beyond local, RTT %g ms, %s" % (2000 * ONE_WAY, name), [bounded[at_] - local[at_]], "ms",
                  2000 * ONE_WAY + 3)


def shares(lab, table, rounds):
    """Nine members over three nodes, and the same nine with a tenth that reads slowly."""
    nodes, ratios = lab.cluster(), []
    for _ in range(2 * rounds):
        rate = []
        for more in (["-c", "9"], ["-c", "10", "--slow", "1"]):
            result = bench(lab, nodes, "share", "-b", "31", "-q", "1", "-d", "3", "--inflight", "32", "--batch", "8", *more)
            rate.append(result["received"] / result["seconds"])
        ratios.append(100 * rate[1] / rate[0])
    table.row("share over three nodes, one slow member more: throughput", ratios, "%", 95, at_least=True, digits=0)


def joining(lab, table, _):
    nodes = lab.cluster(**{"limits.max_subscriptions": FILTERS})
    clients = [Client(1883, host=n.host).open(keep_alive=0) for n in nodes]
    extra = lab.node(4, nodes[0].settings["cluster.seeds"])
    together(nodes + [extra])
    empty = resident(extra)
    extra.stop()
    lab.brokers.remove(extra)
    for first in range(0, FILTERS, AT_ONCE):
        clients[first // AT_ONCE % 3].subscribe(["site/%d/state" % i for i in range(first, first + AT_ONCE)], qos=1)
    fourth = lab.node(3, nodes[0].settings["cluster.seeds"])
    together(nodes + [fourth])
    told = sum(int(line.rpartition("filters=")[2]) for line in fourth.log().splitlines() if "event=routes_complete" in line)
    assert told >= FILTERS, "it was told %d filters" % told
    table.row("a node joins 1 M exact filters: its CPU", [fourth.cpu_seconds()], "s", 20)
    table.row("memory of it for each filter", [(resident(fourth) - empty) / FILTERS], "bytes", 40, digits=1)
    for c in clients:
        c.abort()


def resident(node):
    with open("/proc/%d/statm" % node.pid, encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pauses(lab, table, rounds):
    """Open loop at 1,000 a second between two, of which the third has all as well, until it is killed."""
    deliveries, acknowledgements = [], []
    a, b, c = nodes = lab.cluster()
    for i in range(rounds):
        reader = threading.Thread(target=read_all, args=(c, "pause/%d/+" % i), daemon=True)
        reader.start()
        path = os.path.join(lab.directory, "pause.json")
        load = lab.spawn([os.path.join(os.path.dirname(lab.opts.tern), "tern-bench"), "pair", "--host",
                          "%s:1883,%s:1883" % (a.host, b.host), "-c", "9", "-q", "1", "--rate", "1000", "-d", "8", "--timeout",
                          "20", "--topic", "pause/%d/%%i" % i, "--json=" + path])
        load.wait_lines(2, 30)
        c.kill()
        members(a, n2="dead")
        status, lines = load.finish(60)
        assert status == 0, lines[-20:]
        with open(path, encoding="utf-8") as f:
            latency = json.load(f)["latency_us"]
        deliveries.append(latency["delivery"]["max"] / 1000)
        acknowledgements.append(latency["acknowledge"]["max"] / 1000)
        reader.join(10)
        c.start()
        together(nodes)
    table.row("kill -9 of a third node: longest delivery among the others", deliveries, "ms", SUSPICION_MS + 500, digits=0)
    table.row("the same: longest acknowledgement", acknowledgements, "ms", SUSPICION_MS + 500, digits=0)


def read_all(node, topic):
    """A subscriber that acknowledges until its node is gone."""
    c = Client(1883, host=node.host).open()
    c.subscribe(topic, qos=1)
    try:
        while True:
            c.expect_publish(timeout=30)
    except (Failure, OSError):
        c.abort()


FIGURES = [forwarding, suback, shares, joining, pauses]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tern", metavar="PATH", help="the broker (default: build/release/tern)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", metavar="WORD", help="one of " + ", ".join(f.__name__ for f in FIGURES))
    parser.add_argument("--strict", action="store_true", help="exit status 1 when a figure is missed")
    args = parser.parse_args()
    why = None if hosts.INSIDE in os.environ else hosts.forbidden()
    if why:
        print("skipped: " + why)
        return 0
    hosts.enter()
    table = Table()
    for figure in FIGURES:
        if args.only in (None, figure.__name__):
            lab = Lab(Options(args.tern, "auto", 2))
            try:
                figure(lab, table, args.rounds)
            finally:
                lab.end()
    return 1 if args.strict and table.missed else 0


if __name__ == "__main__":
    sys.exit(main())
