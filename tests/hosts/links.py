"""Links that are slow, stand still, and break in the midst of a frame: all of them, by a proxy in front of each node."""

import random
import time

from kit import check, eventually
from lab import at, bench_is_right, reach_each_other
from line import Lines


def cluster_behind(lab):
    lines = Lines(lab, 3)
    return lines, lab.cluster(addresses=lines.addresses())


def loads(lab, nodes, name):
    return lab.bench(*nodes[:2]), lab.ledger(name, [at(n) for n in nodes], [at(n) for n in nodes])


def all_right(nodes, bench, ledger):
    ledger.acknowledged(50)
    ledger.finish()
    check(len(ledger.stays) == 3, "somebody was thrown out")
    for stay in ledger.stays:
        ledger.verify(stay)
    bench_is_right(bench)
    for n in nodes:
        check("routes_differ" not in n.log() and "event=node_gone" not in n.log(), "%s and others do not agree" % n.host)


def test_slow_then_still(lab):
    """A way of 60 ms, then nothing at all for as long as it takes a heartbeat to be missed; each message once."""
    lines, nodes = cluster_behind(lab)
    bench, ledger = loads(lab, nodes, "slow")
    lines.each(lambda line: setattr(line, "delay", 0.03))
    ledger.acknowledged(100)
    began = time.monotonic()
    lines.each(lambda line: line.going.clear())
    still(nodes)
    lines.each(lambda line: line.going.set())
    for n in nodes:
        ledger.received_since(at(n), began)
    lines.each(lambda line: setattr(line, "delay", 0))
    all_right(nodes, bench, ledger)


def still(nodes):
    eventually("a link is given up", lambda: all("why=silent" in n.log() for n in nodes), 30)


def test_broken_in_the_midst(lab):
    """Resets after any number of bytes, most of them inside a frame, on all links, again and again."""
    lines, nodes = cluster_behind(lab)
    bench, ledger = loads(lab, nodes, "broken")
    dice = random.Random(7)
    goal = 0
    for _ in range(10):
        goal += 1
        lines.each(lambda line: setattr(line, "cut_after", dice.randrange(1, 3000)))
        ledger.acknowledged(15)
        eventually("each line broke: %s" % lines.errors, lambda g=goal: all(line.cuts >= g for line in lines.lines), 60)
    reach_each_other(nodes)
    all_right(nodes, bench, ledger)
    lab.said.append("%d breaks" % sum(line.cuts for line in lines.lines))
