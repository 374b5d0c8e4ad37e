#!/usr/bin/env python3
"""The same for what two nodes do together: one of them runs out of memory, with its clients at either.

Besides what run.py holds: what was acknowledged at one node has reached the subscriber at the other, and both nodes are
one broker again afterwards, whatever the failure has cost them on the way.
"""

import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import run  # noqa: E402
from flows import accepted, got, Lost, must_have  # noqa: E402
from lib.broker import Broker, free_port  # noqa: E402
from lib.mqtt import Client, Failure  # noqa: E402

ONE_AGAIN_SECONDS = 30
NODE = {"cluster.insecure": True, "sys_interval": "1s"}


class Scene(run.Scene):
    """client() is at the node whose memory fails, there() at the other."""

    broker = other = None

    def there(self, version=5, name="t"):
        c = Client(self.other.port, "t%d-%s" % (self.serial, name), version, log=self.log)
        self.clients.append(c)
        return c


class Nodes(run.Torture):
    scene = Scene

    def settings(self, opts):
        seed, port = free_port(), free_port()
        self.other = Scene.other = Broker(opts, {**NODE, "node.name": "other", "cluster.listen": "127.0.0.1:%d" % seed})
        self.other.start()
        return {**NODE, "node.name": "tortured", "cluster.listen": "127.0.0.1:%d" % port,
                "cluster.seeds": "127.0.0.1:%d" % seed}

    def __init__(self, opts, library, quick):
        super().__init__(opts, library, quick)
        Scene.broker = self.broker
        self.one_again("at the start")
        self.sys.until("the id of the cluster", lambda topics: topics.values.get("cluster/id"))
        self.baseline = self.counts()

    def one_again(self, when):
        """A message comes from either node to the other: with memory, this is so within a while."""
        for here, there in ((self.broker, self.other), (self.other, self.broker)):
            with_sub, with_pub = Client(there.port, name="again-s").open(), Client(here.port, name="again-p").open()
            with_sub.subscribe("again/%d" % here.port, qos=1)
            deadline = time.monotonic() + ONE_AGAIN_SECONDS
            while True:
                if accepted(with_pub, "again/%d" % here.port, b"x") and got(with_sub):
                    break
                if not with_pub.sock:
                    with_pub = Client(here.port, name="again-p").open()
                if time.monotonic() > deadline:
                    raise AssertionError("%s: no message from %s to %s" % (when, here.settings["node.name"],
                                                                          there.settings["node.name"]))
                time.sleep(0.05)
            with_sub.disconnect()
            with_pub.close()

    def step(self, flow, fail_in, period=0):
        reached = super().step(flow, fail_in, period)
        self.other.check()
        try:
            self.one_again("behind %s, allocation %d" % (flow.__name__, fail_in))
        except (AssertionError, Failure) as e:
            self.failures += 1
            print("FAILED: %s" % e)
            return None
        return reached

    def stop(self):
        problems = self.other.stop()
        self.other.remove()
        return problems + super().stop()


def deaths(s):
    """How often one of the two has taken the other for dead. Then it does not wait for clients there any more: what it
    says yes to is in the hands of those that it knows of."""
    return sum(broker.log().count("node_gone") for broker in (s.broker, s.other))


# ---- messages --------------------------------------------------------------------------------------------------------

def cross(s, sub, pub, qos):
    """Four messages from one node to the other; what is acknowledged is there."""
    sub.open().subscribe([s.topic("a"), s.topic("+")], qos=qos)
    pub.open()
    time.sleep(0.05)
    gone = deaths(s)
    s.memory_fails()
    said_yes = [b"%d" % i for i in range(4) if pub.sock and accepted(pub, s.topic("a"), b"%d" % i, qos)]
    s.memory_is_back()
    if deaths(s) == gone:  # a node whose every second allocation fails for seconds may be taken for dead
        must_have(sub, said_yes)


def from_here_1(s):
    cross(s, s.there(), s.client(), 1)


def from_here_1_311(s):
    cross(s, s.there(4), s.client(4), 1)


def from_here_2(s):
    cross(s, s.there(), s.client(), 2)


def from_there_1(s):
    cross(s, s.client(), s.there(), 1)


def from_there_2(s):
    cross(s, s.client(), s.there(), 2)


def large_both_ways(s):
    """Longer than what a link sends at one time."""
    here, there = s.client().open(), s.there().open()
    for c in (here, there):
        c.subscribe(s.topic("#"), qos=1)
    gone = deaths(s)
    s.memory_fails()
    said_yes = [text for c, text in ((here, b"h" * 400000), (there, b"t" * 400000)) if accepted(c, s.topic("a"), text)]
    s.memory_is_back()
    for c in (here, there) if deaths(s) == gone else ():
        must_have(c, said_yes)


def shared_there(s):
    """A share whose members are at both nodes."""
    here, there, pub = s.client(name="h").open(), s.there().open(), s.client(name="p").open()
    for c in (here, there):
        c.subscribe("$share/g/" + s.topic("a"), qos=1)
    time.sleep(0.05)
    gone = deaths(s)
    s.memory_fails()
    said_yes = [b"%d" % i for i in range(6) if pub.sock and accepted(pub, s.topic("a"), b"%d" % i)]
    s.memory_is_back()
    if deaths(s) != gone:
        return
    have = [got(c) for c in (here, there)]
    if None in have:
        return  # who was sent away had some of them
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and set(said_yes) - set(have[0]) - set(have[1]):
        have = [list_ + (got(c) or []) for list_, c in zip(have, (here, there))]
        time.sleep(0.05)
    missing = set(said_yes) - set(have[0]) - set(have[1])
    if missing:
        raise Lost("no member of the share got %r" % missing)


# ---- filters, and who is who -----------------------------------------------------------------------------------------

def subscribed_here(s):
    """A SUBACK says that the filter is known at the other node; a failure may make it be told a little early."""
    sub, pub = s.client().open(), s.there().open()
    s.memory_fails()
    sub.subscribe([s.topic("x"), s.topic("+"), "$share/g/" + s.topic("x")], qos=1)
    s.memory_is_back()
    deadline = time.monotonic() + 10
    while accepted(pub, s.topic("x"), b"1") and not got(sub) and sub.sock:
        if time.monotonic() > deadline:
            raise Lost("subscribed, and never served")
        time.sleep(0.05)


def subscribed_there(s):
    sub, pub = s.there().open(), s.client().open()
    s.memory_fails()
    sub.subscribe([s.topic("x"), s.topic("+")], qos=1)
    s.memory_is_back()
    deadline = time.monotonic() + 10
    while pub.sock and accepted(pub, s.topic("x"), b"1") and not got(sub):
        if time.monotonic() > deadline:
            raise Lost("subscribed, and never served")
        time.sleep(0.05)


def taken_over(s):
    """A client id that goes from the one to the other and back."""
    s.memory_fails()
    for make in (s.client, s.there, s.client):
        make(name="same").open().ping()
    s.memory_is_back()


def started_anew(s):
    """The other node is killed and comes back: it is dialled, greeted, and told everything."""
    sub = s.client().open()
    sub.subscribe([s.topic("x"), s.topic("+")], qos=1)
    s.memory_fails()
    s.other.restart(kill=True)
    time.sleep(0.7)
    s.memory_is_back()


started_anew.most, started_anew.quick_most = 60, 10

Nodes.flows = [from_here_1, from_here_1_311, from_here_2, from_there_1, from_there_2, large_both_ways, shared_there,
               subscribed_here, subscribed_there, taken_over, started_anew]

if __name__ == "__main__":
    sys.exit(run.main(Nodes))
