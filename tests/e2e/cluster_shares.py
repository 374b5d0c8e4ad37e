"""Shared subscriptions whose members are on several nodes: each message goes to one member, whoever publishes it; who
leaves hands on; offline members wait behind those online."""

import time

from cluster import client, nodes
from kit import check, check_equal, eventually
from lib.mqtt import Failure

COUNT = 300


class Members:
    """Clients of one share, and what each has got."""

    def __init__(self, share, at, qos=2, name="m", **more):
        self.clients = [client(b, "%s%d" % (name, i), **more) for i, b in enumerate(at)]
        self.got = [[] for _ in at]
        for c in self.clients:
            c.subscribe(share, qos=qos)

    def read(self, timeout, ack=True):
        """What has come since; whether it was anything."""
        before = self.count()
        for c, got in zip(self.clients, self.got):
            while c.sock:
                try:
                    got.append(c.expect_publish(ack=ack, timeout=timeout))
                except Failure as e:
                    check("nothing came" in str(e), str(e))
                    break
        return self.count() > before

    def count(self):
        return sum(len(got) for got in self.got)

    def payloads(self, i=None):
        return [int(p.payload) for got in (self.got if i is None else [self.got[i]]) for p in got]

    def until(self, count, ack=True):
        eventually("%d messages" % count, lambda: self.read(0.01, ack) and False or self.count() >= count, 60)

    def close(self):
        for c in self.clients:
            c.close()


def test_each_message_goes_to_one_member(ctx):
    """From any node, with any QoS, with members on two nodes, on all, and only far from the publisher."""
    a, b, c = nodes(ctx)
    for qos in (0, 1, 2):
        for name, at in (("far", [b, c]), ("all", [a, b, b, c]), ("one", [c])):
            topic = "%s/%d" % (name, qos)
            members = Members("$share/g/" + topic, at)
            publishers = [client(x, "p%d" % i) for i, x in enumerate((a, b, c))]
            for i in range(COUNT):
                publishers[i % 3].publish(topic, b"%d" % i, qos=qos, reason=0 if qos else None)
            members.until(COUNT)
            check_equal(sorted(members.payloads()), list(range(COUNT)), "all, each once, of " + topic)
            members.close()
            for p in publishers:
                p.close()


def test_round_robin_is_even(ctx):
    """Each member gets as many as each other, wherever it is: by members, not by nodes."""
    a, b, c = nodes(ctx, **{"mqtt.share_strategy": "round_robin"})
    members = Members("$share/g/t", [a, b, b, b, c, c])
    publisher = client(a, "p")
    eventually("what all have is known", lambda: even(members, publisher), 30)
    publisher.close()
    members.close()


def even(members, publisher):
    before = [len(got) for got in members.got]
    for i in range(60):
        publisher.publish("t", b"%d" % i, qos=1)
    members.until(sum(before) + 60)
    return all(len(got) - n in (9, 10, 11) for got, n in zip(members.got, before))


def test_near_is_preferred_while_it_has_room(ctx):
    """With the strategy that is the default: a member here that acknowledges gets all; one that does not is passed by
    when it has much to do."""
    a, b = nodes(ctx, 2)
    members = Members("$share/g/t", [a, b], qos=1)
    publisher = client(a, "p")
    for i in range(COUNT):
        publisher.publish("t", b"%d" % i, qos=1)
        members.until(i + 1)
    check(len(members.got[0]) > COUNT * 9 // 10, "%d of %d went near" % (len(members.got[0]), COUNT))
    for i in range(40):
        publisher.publish("t", b"%d" % i, qos=1)
    members.until(COUNT + 40, ack=False)
    check(len(members.got[1]) >= 10, "the far one got %d" % len(members.got[1]))
    publisher.close()
    members.close()


def test_hash_topic_is_the_same_from_every_node(ctx):
    a, b, c = nodes(ctx, **{"mqtt.share_strategy": "hash_topic"})
    members = Members("$share/g/+", [a, b, b, c])
    publishers = [client(x, "p%d" % i) for i, x in enumerate((a, b, c))]

    def stable():
        before = [len(got) for got in members.got]
        for _ in range(2):
            for p in publishers:
                for i in range(20):
                    p.publish("topic%d" % i, b"%d" % i, qos=1)
        members.until(sum(before) + 120)
        who = [set(members.payloads(m)[before[m]:]) for m in range(4)]
        check(all(who[:4]), "a member without a topic: %s" % who)
        return sum(len(w) for w in who) == 20  # each topic at one member

    eventually("each topic has one member", stable, 30)
    for p in publishers:
        p.close()
    members.close()


def test_who_leaves_hands_on_to_another_node(ctx):
    """QoS 1 that a member has not acknowledged goes to a member elsewhere when its session ends."""
    a, b, c = nodes(ctx)
    members = Members("$share/g/t", [b], qos=1)
    publisher = client(a, "p")
    for i in range(10):
        publisher.publish("t", b"%d" % i, qos=1)
    members.until(10, ack=False)
    other = Members("$share/g/t", [c], qos=1, name="other")
    members.close()
    other.until(10)
    check_equal(sorted(other.payloads()), list(range(10)), "what was handed on")
    publisher.close()
    other.close()


def test_offline_members_wait_behind_online_ones(ctx):
    """A durable member without a connection gets nothing while somebody is online on another node, and then it does."""
    a, b, c = nodes(ctx)
    keep = {"session_expiry": 3600}
    durable = client(b, "durable", props=keep)
    durable.subscribe("$share/g/t", qos=1)
    durable.close()
    online = Members("$share/g/t", [c], qos=1)
    publisher = client(a, "p")
    for i in range(20):
        publisher.publish("t", b"%d" % i, qos=1)
    online.until(20)
    online.close()
    for i in range(20, 40):
        publisher.publish("t", b"%d" % i, qos=1)
    durable = client(b, "durable", clean=False, props=keep, session_present=True)
    for i in range(20, 40):
        durable.expect_publish("t", b"%d" % i, qos=1)
    for x in (durable, publisher):
        x.close()


def test_a_node_with_members_dies(ctx):
    """What was published to the share from then on, and what the dead node had not acknowledged to the publisher's, has
    other members: nothing that the publisher was told is well is missing but what the dead node had taken over."""
    a, b, c = nodes(ctx)
    members = Members("$share/g/t", [b, c], qos=1)
    publisher = client(a, "p")
    for i in range(COUNT):
        if i == COUNT // 3:
            b.kill()
            members.clients[0].sock.close()
            members.clients[0].sock = None
        publisher.publish("t", b"%d" % i, qos=1)
        members.read(0.001)
    eventually("all since its death", lambda: members.read(0.01) and False or
               set(range(COUNT // 3, COUNT)) <= set(members.payloads(1)), 30)
    publisher.close()
    members.close()


def test_a_slow_member_holds_up_nobody(ctx):
    """One that acknowledges nothing gets no more than it may have outstanding; the others get the rest."""
    a, b, c = nodes(ctx)
    slow = client(b, "slow", props={"receive_max": 5})
    slow.subscribe("$share/g/t", qos=1)
    members = Members("$share/g/t", [b, c], qos=1)
    publisher = client(a, "p")
    for i in range(COUNT):
        publisher.publish("t", b"%d" % i, qos=1)
        members.read(0.0005)
    eventually("nearly all", lambda: members.read(0.01) and False or members.count() >= COUNT - 10, 30)
    slow.close()
    members.until(COUNT)
    check_equal(sorted(members.payloads()), list(range(COUNT)), "all, each once")
    publisher.close()
    members.close()
