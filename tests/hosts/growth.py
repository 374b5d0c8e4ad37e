"""A node that joins three with 200,000 subscriptions: it knows all of them, and the others do not feel it."""

from kit import check
from lab import bench_is_right, together
from lib.mqtt import Client

FILTERS, AT_ONCE, ASKED = 200000, 1000, 300


def subscribe_all(nodes):
    """Two clients on each node share the filters: most are plain, every tenth has a wildcard."""
    clients = [Client(n.port, host=n.host).open(keep_alive=0) for n in nodes for _ in range(2)]
    for first in range(0, FILTERS, AT_ONCE):
        c = clients[first // AT_ONCE % len(clients)]
        c.subscribe(["site/%d/state%s" % (i, "/+" if i % 10 == 0 else "") for i in range(first, first + AT_ONCE)], qos=1)
    return clients


def test_a_fourth_joins(lab):
    nodes = lab.cluster()
    clients = subscribe_all(nodes)
    bench = lab.bench(*nodes[:2])
    before = [n.cpu_seconds() for n in nodes]
    fourth = lab.node(3, nodes[0].settings["cluster.seeds"])
    together(nodes + [fourth])
    told = [line for line in fourth.log().splitlines() if "event=routes_complete" in line]
    cost = fourth.cpu_seconds(), max(n.cpu_seconds() - b for n, b in zip(nodes, before))
    check(sum(int(line.rpartition("filters=")[2]) for line in told) >= FILTERS, "it was told too few: %s" % told)
    publisher = Client(fourth.port, host=fourth.host).open()
    for i in range(0, FILTERS, FILTERS // ASKED):
        topic = "site/%d/state%s" % (i, "/x" if i % 10 == 0 else "")
        publisher.publish(topic, b"%d" % i, qos=1, reason=0)
        clients[i // AT_ONCE % len(clients)].expect_publish(topic, b"%d" % i, qos=1)
    for c in clients + [publisher]:
        c.abort()
    bench_is_right(bench)
    lab.said.append("%d filters: %.2f s of the new node's processor, %.2f s of another's at most, load included" % (
        FILTERS, *cost))
