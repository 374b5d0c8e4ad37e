"""Machines that die, stand still, and come back somewhere else. The others go on, and all are one broker again."""

import time

from kit import check
from lab import at, bench_is_right, members, together
from lib.mqtt import Client


def test_killed_and_back(lab):
    """kill -9 under load: those that live miss nothing and are told nothing twice; the node comes back and is served."""
    a, b, c = nodes = lab.cluster()
    bench = lab.bench(a, b)
    ledger = lab.ledger("killed", [at(a), at(b)], [at(a), at(b), at(c)])
    ledger.acknowledged(50)
    stays = [s for n in (a, b) for s in ledger.here(at(n))]
    c.kill()
    ledger.acknowledged(20)
    for n in (a, b):
        members(n, n2="dead")
    ledger.acknowledged(50)
    c.start()
    together(nodes)
    back = time.monotonic()
    ledger.received_since(at(c), back)
    ledger.acknowledged(50)
    again = ledger.here(at(c))  # it may have come before its node was ready, which says so in /readyz
    check(len(stays) == 2 and len(again) == 1, "%d connections, %d of them back" % (len(ledger.stays), len(again)))
    ledger.finish(back)
    for stay in stays:
        ledger.verify(stay)
    ledger.verify(again[0], since=back)
    bench_is_right(bench)


def test_frozen(lab):
    """A node that stands still for longer than others wait (SIGSTOP): they go on without it; when it moves again nobody
    restarts anything, its clients are still there, and are served."""
    a, b, c = nodes = lab.cluster()
    bench = lab.bench(a, b)
    ledger = lab.ledger("frozen", [at(a), at(b)], [at(a), at(b), at(c)])
    own = lab.ledger("own", [at(c)], [at(c), at(b)])
    ledger.acknowledged(20)
    frozen = time.monotonic()
    c.freeze()
    for n in (a, b):
        members(n, n2="dead")
    ledger.acknowledged(50)
    c.thaw()
    together(nodes)
    back = time.monotonic()
    ledger.received_since(at(c), back)
    own.received_since(at(b), back)
    for load in (ledger, own):
        load.acknowledged(50)
        load.finish(back)
    # What was on its way from c then is sent again, for those who gave c up have forgotten how far it had got.
    own.resent |= {n for n, moment in own.acked.items() if own.sent[n] < back and moment > frozen}
    for stay in ledger.stays:
        ledger.verify(stay, since=back if stay.at == at(c) else 0)
    for stay in own.stays:
        own.verify(stay, since=back if stay.at == at(b) else 0)
    check(len(ledger.stays) == 3 and len(own.stays) == 2, "somebody was thrown out")
    check("event=started" not in c.log()[1000:], "it started again")
    bench_is_right(bench)


def test_another_address(lab):
    """A node comes back with its data and another address, as a pod does: it is the same node, with the same sessions."""
    a, b, c = nodes = lab.cluster()
    bench = lab.bench(a, b)
    keep = {"session_expiry": 3600}
    waiting = Client(c.port, client_id="w", host=c.host).open(props=keep)
    waiting.subscribe("waiting", qos=1)
    waiting.close()
    publisher = Client(a.port, host=a.host).open()
    publisher.publish("waiting", b"before", qos=1, reason=0)
    check(not c.stop(), "it did not stop well")
    c.at.move(lab.address(40))
    c.host = c.at.ip
    c.settings["cluster.listen"] = c.at.ip + ":7000"
    c.start()
    together(nodes)
    publisher.publish("waiting", b"after", qos=1, reason=0)
    waiting = Client(b.port, client_id="w", host=b.host).open(clean=False, props=keep, session_present=True)
    for word in (b"before", b"after"):
        waiting.expect_publish("waiting", word, qos=1)
    for n in (a, b):
        members(n, n0="alive", n1="alive", n2="alive")
        check("node_replaced" not in n.log() and "node_name_twice" not in n.log(), "it was taken for another node")
    waiting.close()
    publisher.close()
    bench_is_right(bench)
