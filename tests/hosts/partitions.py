"""Nodes that do not hear each other, by nftables: all of them, one way only, one pair only. And together again."""

import time

from kit import check, eventually
from lab import at, bench_is_right, members, together
from lib.mqtt import Client, Failure


def gone(c):
    """Whether this client has been told that another one has its id."""
    if c.sock:
        try:
            c.ping()
        except Failure:
            check("DISCONNECT reason=0x8e" in c.log[-1] + c.log[-2] + c.log[-3], "it was not told why: %s" % c.log[-5:])
            c.close()
    return not c.sock


def test_one_is_cut_off(lab):
    """Both sides serve their own clients; healed they are one broker again, without a restart, and a client id that has
    been connected on both sides is connected once."""
    a, b, c = nodes = lab.cluster()
    bench, alone = lab.bench(a, b), lab.bench(c)
    ledger = lab.ledger("cut", [at(a), at(b)], [at(a), at(b), at(c)])
    own = lab.ledger("own", [at(c)], [at(c), at(a)])
    ledger.acknowledged(20)
    c.at.deaf_to(a.host, b.host)
    a.at.deaf_to(c.host)
    b.at.deaf_to(c.host)
    for n in (a, b):
        members(n, n2="dead")
    members(c, n0="dead", n1="dead")
    first = Client(a.port, client_id="twice", host=a.host).open()
    second = Client(c.port, client_id="twice", host=c.host).open()
    ledger.acknowledged(50)
    own.acknowledged(50)
    for n in nodes:
        n.at.heal()
    together(nodes)
    back = time.monotonic()
    ledger.received_since(at(c), back)
    own.received_since(at(a), back)
    eventually("one of the two is gone", lambda: bool(gone(first)) != bool(gone(second)), 60)
    for load, far in ((ledger, c), (own, a)):
        load.acknowledged(50)
        load.finish(back)
        for stay in load.stays:
            load.verify(stay, since=back if stay.at == at(far) else 0)
    check(len(ledger.stays) == 3 and len(own.stays) == 2, "somebody was thrown out")
    first.close()
    second.close()
    bench_is_right(bench)
    bench_is_right(alone)


def led_around(lab, deaf):
    """Between a and b nothing goes the direct way, or only one way; both reach c. All goes on, through c."""
    a, b, c = nodes = lab.cluster()
    bench = lab.bench(a, b, rate=300)
    ledger = lab.ledger("pair", [at(a), at(b), at(c)], [at(a), at(b), at(c)])
    ledger.acknowledged(20)
    deaf(a, b)
    for n in (a, b):
        eventually("%s is led through the third" % n.settings["node.name"], lambda x=n: "event=peer_relayed" in x.log(), 60)
    began = time.monotonic()
    for n in nodes:
        ledger.received_since(at(n), began)
    ledger.acknowledged(100)
    for n in nodes:
        check("event=node_gone" not in n.log(), "a node was given up that a third one reaches")
        n.at.heal()
    for n in (a, b):
        eventually("they reach each other again", lambda x=n: "event=peer_direct" in x.log(), 60)
    ledger.acknowledged(50)
    ledger.finish()
    for stay in ledger.stays:
        ledger.verify(stay)
    check(len(ledger.stays) == 3, "somebody was thrown out")
    check(all("routes_differ" not in n.log() for n in nodes), "nodes that do not agree")
    bench_is_right(bench)


def test_one_pair(lab):
    def deaf(a, b):
        a.at.deaf_to(b.host)
        b.at.deaf_to(a.host)
    led_around(lab, deaf)


def test_one_way(lab):
    led_around(lab, lambda a, b: b.at.deaf_to(a.host))
