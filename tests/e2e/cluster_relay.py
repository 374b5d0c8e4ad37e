"""A pair of nodes that do not reach each other, while everybody else does: what they have to tell each other goes
through a third one. Between each node and the others stands a proxy that lets nothing of some nodes through."""

import os
import re
import socket
import threading

from cluster import client, complete
from kit import check, check_equal, eventually
from lib.broker import free_port

HEAD = 12  # bytes of a link's frame
NODE_ID = slice(5, 21)  # where a sealed datagram says whose it is


class Door:
    """In front of one node: TCP and UDP at `port` go to its own port, but for those of the nodes in `barred`, which are
    known by their ids: in the clear in a datagram's head, and in the HELLO of a link without TLS."""

    def __init__(self, port, inner):
        self.inner, self.barred, self.pairs, self.lock = inner, set(), [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", port))
        self.ends = {}  # for each sender a socket of its own, to which the node answers
        for target in (self.accept, self.relay_datagrams):
            threading.Thread(target=target, daemon=True).start()

    def bar(self, node_id):
        with self.lock:
            self.barred.add(node_id)
            for who, a, b in self.pairs:
                if who == node_id:
                    cut(a, b)

    def free(self):
        with self.lock:
            self.barred.clear()

    def accept(self):
        while True:
            try:
                outside, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(outside,), daemon=True).start()

    def serve(self, outside):
        outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.pass_on(outside)
        except OSError:
            cut(outside)  # one of the two has gone

    def pass_on(self, outside):
        hello = b""
        while len(hello) < HEAD or len(hello) < HEAD + int.from_bytes(hello[:4], "big"):
            more = outside.recv(65536)
            if not more:
                outside.close()
                return
            hello += more
        inside = socket.create_connection(("127.0.0.1", self.inner))
        inside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        who = node_id_in(hello)
        with self.lock:
            if who in self.barred:
                cut(outside, inside)
                return
            self.pairs.append((who, outside, inside))
        inside.sendall(hello)
        threading.Thread(target=pump, args=(inside, outside), daemon=True).start()
        pump(outside, inside)

    def relay_datagrams(self):
        while True:
            try:
                data, sender = self.datagrams.recvfrom(65536)
            except OSError:
                return
            if data[NODE_ID] in self.barred:
                continue
            if sender not in self.ends:
                end = self.ends[sender] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                end.connect(("127.0.0.1", self.inner))
                threading.Thread(target=self.answer, args=(end, sender), daemon=True).start()
            try:
                self.ends[sender].send(data)
            except OSError:
                pass  # the node is not there

    def answer(self, end, sender):
        while True:
            try:
                self.datagrams.sendto(end.recv(65536), sender)
            except ConnectionRefusedError:
                continue
            except OSError:
                return

    def close(self):
        for s in [self.listener, self.datagrams] + list(self.ends.values()):
            s.close()
        for _, a, b in self.pairs:
            cut(a, b)


def node_id_in(hello):
    """Field 6 of the message Hello: 16 bytes."""
    return re.search(rb"\x32\x10(.{16})", hello, re.S)[1]


def cut(*sockets):
    for s in sockets:
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        s.close()


def pump(source, sink):
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            sink.sendall(data)
    except OSError:
        pass
    cut(source, sink)


def id_of(ctx, broker):
    ternctl = os.path.join(os.path.dirname(ctx.opts.tern), "ternctl")
    return bytes.fromhex(re.search(r"^node id +([0-9a-f]{32})$", ctx.run([ternctl, "store", "verify", broker.data]),
                                   re.M)[1])


def nodes_behind_doors(ctx, count, **more):
    ports, outer = [free_port() for _ in range(count)], [free_port() for _ in range(count)]
    doors = [Door(o, p) for o, p in zip(outer, ports)]
    seeds = ",".join("127.0.0.1:%d" % o for o in outer)
    brokers = [ctx.broker({"node.name": "n%d" % i, "cluster.listen": "127.0.0.1:%d" % ports[i], "cluster.seeds": seeds,
                           "cluster.advertise": "127.0.0.1:%d" % outer[i], "cluster.insecure": True, **more})
               for i in range(count)]
    for b in brokers:
        complete(b, count - 1)
    return brokers, doors


def test_a_pair_without_a_way(ctx):
    """QoS 1 and 2 go on in order, once; a SUBACK holds everywhere, without a bound; nobody is taken for dead. When the
    way is free again they use it."""
    (a, b, c), doors = nodes_behind_doors(ctx, 3, **{"cluster.suback": "strict"})
    ids = [id_of(ctx, x) for x in (a, b)]
    subscriber, publisher, back = client(b, "s"), client(a, "p"), client(a, "back")
    subscriber.subscribe("t/+", qos=2)
    publisher.publish("t/0", b"before", qos=1)
    subscriber.expect_publish("t/0", b"before", qos=1)
    doors[0].bar(ids[1])
    doors[1].bar(ids[0])
    for i in range(100):
        qos = 1 + i % 2
        publisher.publish("t/%d" % qos, b"%d" % i, qos=qos)  # waits for its acknowledgement
        subscriber.expect_publish("t/%d" % qos, b"%d" % i, qos=qos)
    for broker in (a, b):
        eventually("both are led through the third", lambda x=broker: "event=peer_relayed" in x.log(), 60)
    back.subscribe("back", qos=1)
    subscriber.publish("back", b"x" * 600000, qos=1)
    back.expect_publish("back", b"x" * 600000, qos=1)
    for i in range(20):  # a SUBACK waits for the other one of the pair
        subscriber.subscribe("new/%d" % i, qos=1)
        publisher.publish("new/%d" % i, b"x", qos=1, reason=0)
        subscriber.expect_publish("new/%d" % i, b"x", qos=1)
    for door in doors:
        door.free()
    for broker in (a, b):
        eventually("they reach each other again", lambda x=broker: "event=peer_direct" in x.log(), 60)
    for i in range(100):
        publisher.publish("t/0", b"%d" % i, qos=1)
        subscriber.expect_publish("t/0", b"%d" % i, qos=1)
    for broker in (a, b, c):
        check_equal(broker.log().count("event=node_gone"), 0, "nodes taken for dead")
        check("routes_differ" not in broker.log(), "nodes that do not agree")
    for x in (subscriber, publisher, back):
        x.close()
    for door in doors:
        door.close()
