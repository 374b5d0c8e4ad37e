"""Which cluster a node belongs to: who founds one, who is taken in, and who is not: nodes of another cluster of the
same name, nodes that have lost their disk, disks that are used twice. And when a node says that it is ready."""

import os
import re
import shutil
import signal
import time

from cluster import client, settings
from kit import check, check_equal, eventually
from lib.broker import Broker, free_port
from lib.certificates import Authority


def start(ctx, count, seeds, **more):
    """So many nodes; seeds: how many of them each knows."""
    ports = [free_port() for _ in range(count)]
    known = ",".join("127.0.0.1:%d" % port for port in ports[:seeds])
    return [ctx.broker(settings(known, port, "n%d" % i, **more)) for i, port in enumerate(ports)]


def cluster_of(broker):
    """The id that the node has logged; of one that had it before, what its disk says."""
    found = re.search(r"event=cluster_(?:founded|joined) cluster=\S+ id=([0-9a-f]{32})", broker.log())
    return found and found[1]


def ready(*brokers):
    for broker in brokers:
        eventually("a node is ready", lambda b=broker: last_word(b) == "node_ready", 60)


def last_word(broker):
    """Of its readiness."""
    words = re.findall("event=(node_ready|node_not_ready)", broker.log())
    return words[-1] if words else None


def on_disk(ctx, broker):
    """The cluster id and the node id that ternctl reads."""
    ternctl = os.path.join(os.path.dirname(ctx.opts.tern), "ternctl")
    text = ctx.run([ternctl, "store", "verify", broker.data])
    return [re.search(r"^%s +(\S.*)$" % name, text, re.M)[1] for name in ("cluster id", "node id")]


def test_founding(ctx):
    """Nobody founds a cluster before all that are expected are there; then all have one id, which survives."""
    ports = [free_port() for _ in range(3)]
    seeds = ",".join("127.0.0.1:%d" % port for port in ports)
    a, b = (ctx.broker(settings(seeds, port, "n%d" % i)) for i, port in enumerate(ports[:2]))
    for broker in (a, b):
        eventually("both see each other", lambda x=broker: "empty_nodes=2 bootstrap_expect=3" in x.log(), 30)
    at_a, at_b = client(a, "a"), client(b, "b")
    at_a.subscribe("t", qos=1)
    at_a.publish("t", b"alone", qos=1)  # it serves its own clients
    at_a.expect_publish("t", b"alone", qos=1)
    at_b.publish("t", b"elsewhere", qos=1, reason=0x10)
    check_equal([last_word(x) for x in (a, b)], ["node_not_ready"] * 2, "readiness without a cluster")
    c = ctx.broker(settings(seeds, ports[2], "n2"))
    ready(a, b, c)
    ids = {cluster_of(x) for x in (a, b, c)}
    check(len(ids) == 1 and None not in ids, "the ids are %s" % ids)
    check_equal(sum("cluster_founded" in x.log() for x in (a, b, c)), 1, "founders")
    at_b.publish("t", b"together", qos=1, reason=0)
    at_a.expect_publish("t", b"together", qos=1)
    at_a.close()
    at_b.close()
    for x in (a, b, c):
        check_equal(on_disk(ctx, x)[0], cluster_of(a), "what is on the disk")
        x.stop()
    for x in (a, b):  # two of three: they have been in a cluster, and wait for nobody
        x.start()
    ready(a, b)
    check("cluster_founded" not in a.log() + b.log(), "a cluster was founded twice")


def test_clusters_do_not_merge(ctx):
    """Two clusters of one name and one key that are shown each other stay two, and each names the stranger once."""
    a = start(ctx, 1, 1)[0]
    x = start(ctx, 1, 1)[0]
    ready(a, x)
    ids = cluster_of(a), cluster_of(x)
    x.restart(settings={"cluster.seeds": a.settings["cluster.listen"]})
    for broker, its, ours in ((a, ids[1], ids[0]), (x, ids[0], ids[1])):
        eventually("the stranger is named", lambda b=broker, i=its, o=ours: re.search(
            "event=node_foreign node=n0 address=127.0.0.1:[0-9]+ its_cluster=%s our_cluster=%s" % (i, o), b.log()), 30)
    subscriber, publisher = client(x, "s"), client(a, "p")
    subscriber.subscribe("t", qos=1)
    publisher.publish("t", b"1", qos=1, reason=0x10)
    check("node_joined" not in a.log() + x.log(), "they have become one")
    check_equal(a.log().count("event=node_foreign"), 1, "lines about the stranger")
    for c in (subscriber, publisher):
        c.close()


def test_a_lost_disk(ctx):
    """The same name with an empty disk is another node: it is told so, and becomes a member of the same cluster."""
    a, b, c = start(ctx, 3, 2)
    ready(a, b, c)
    before = on_disk(ctx, c)
    c.kill()
    shutil.rmtree(c.data)
    c.start()
    ready(c)
    after = on_disk(ctx, c)
    check_equal(after[0], before[0], "the cluster id")
    check(after[1] != before[1], "the node id is an old one")
    eventually("it is named", lambda: "event=node_replaced node=n2" in a.log(), 30)
    eventually("and the old one is dead", lambda: "event=node_gone node=n2" in a.log(), 60)
    subscriber, publisher = client(c, "s"), client(b, "p")
    subscriber.subscribe("t", qos=1)
    publisher.publish("t", b"1", qos=1)
    subscriber.expect_publish("t", b"1", qos=1)
    for x in (subscriber, publisher):
        x.close()


def test_a_disk_that_is_used_twice(ctx):
    """Of two processes with one node id the second one stays out, says why, and comes in when the first one has gone."""
    a, b, c = start(ctx, 3, 2)
    ready(a, b, c)
    copy = Broker(ctx.opts, settings(c.settings["cluster.seeds"], free_port(), "twin"))
    shutil.copytree(c.data, copy.data)
    ctx.start(copy)
    eventually("it is refused", lambda: "event=node_refused node=twin" in copy.log() and
               "is its data directory used twice?" in copy.log(), 30)
    check("address=%s" % c.settings["cluster.listen"] in copy.log(), "where the first one lives is not said")
    check_equal(last_word(copy), "node_not_ready", "readiness of the second")
    subscriber, publisher = client(c, "s"), client(a, "p")
    subscriber.subscribe("t", qos=1)
    publisher.publish("t", b"1", qos=1)
    subscriber.expect_publish("t", b"1", qos=1)
    publisher.close()
    subscriber.close()
    for x in (a, b):
        check("twin" not in x.log() and "node_restarted" not in x.log(), "the second one got in")
    c.stop()
    ready(copy)
    eventually("it has taken the first one's place", lambda: "event=node_restarted node=twin" in a.log() or
               "event=node_joined node=twin" in a.log(), 30)


def secured(ctx):
    """Keys and certificates of a cluster in files; returns the settings and a function that writes the keys."""
    authority, keys = Authority(os.path.join(ctx.directory, "ca")), os.path.join(ctx.directory, "keys")
    authority.node("node", ["tern"])

    def write(*ring):
        with open(keys, "w", encoding="ascii") as f:
            f.write("".join(key * 32 + "\n" for key in ring))

    return {"cluster.insecure": False, "cluster.key_file": keys, "cluster.ca": authority.path("ca.pem"),
            "cluster.certificate": authority.path("node.pem"), "cluster.key": authority.path("node.key")}, write


def reload(*brokers, word="reloaded"):
    for broker in brokers:
        before = broker.log().count("event=" + word)
        broker.process.send_signal(signal.SIGHUP)
        eventually("it has read everything anew", lambda b=broker, n=before: b.log().count("event=" + word) > n, 30)


def test_keys_are_exchanged(ctx):
    """A new key of the gossip: put second everywhere, then first, then alone; no datagram is refused, no link breaks."""
    secure, write = secured(ctx)
    write("11")
    a, b, c = start(ctx, 3, 2, sys_interval="1s", **secure)
    ready(a, b, c)
    for ring in (("11", "22"), ("22", "11"), ("22",)):
        write(*ring)
        for broker in (b, c, a):
            reload(broker)
            time.sleep(1)  # some pings under what is in force now
    late = ctx.broker(settings(a.settings["cluster.listen"], free_port(), "late", **secure))
    ready(late)
    for broker in (a, b, c):
        check("event=peer_lost" not in broker.log(), "a link broke")
        reader = client(broker, "r")
        reader.subscribe("$SYS/broker/cluster/gossip/refused")
        reader.expect_publish("$SYS/broker/cluster/gossip/refused", b"0", retain=True)
        reader.close()
        check_equal(last_word(broker), "node_ready", "readiness")


def test_certificates_are_exchanged(ctx):
    """Another CA, certificate and key under the same names: links stay, new ones are made with the new ones. Files that
    are wrong change nothing."""
    secure, write = secured(ctx)
    write("11")
    a, b = start(ctx, 2, 2, **secure)
    ready(a, b)
    subscriber, publisher = client(b, "s"), client(a, "p")
    subscriber.subscribe("t", qos=1)
    other = Authority(os.path.join(ctx.directory, "other"))
    other.node("node", ["tern"])
    for name in ("ca.pem", "node.key", "node.pem"):
        with open(os.path.join(ctx.directory, "ca", name), "wb") as f:
            f.write(b"nothing of the kind")
        reload(a, word="reload_failed")
    write("too short")
    reload(a, word="reload_failed")
    write("11")
    for name in ("ca.pem", "node.key", "node.pem"):
        shutil.copy(other.path(name), os.path.join(ctx.directory, "ca", name))
    reload(a, b)
    publisher.publish("t", b"1", qos=1)
    subscriber.expect_publish("t", b"1", qos=1)
    late = ctx.broker(settings(a.settings["cluster.listen"], free_port(), "late", **secure))
    ready(late)
    publisher.publish("t", b"2", qos=1)
    subscriber.expect_publish("t", b"2", qos=1)
    for broker in (a, b):
        check("event=peer_lost" not in broker.log(), "a link broke")
    for x in (subscriber, publisher):
        x.close()


def test_readiness(ctx):
    """$SYS tells it; one that sees nobody is not ready, one whose neighbour starts again is."""
    a, b = start(ctx, 2, 2, sys_interval="1s")
    ready(a, b)
    watcher = client(a, "w")
    watcher.subscribe("$SYS/broker/cluster/+")
    seen = {}
    while seen.get("$SYS/broker/cluster/ready") != b"1" or "$SYS/broker/cluster/id" not in seen:
        p = watcher.expect_publish()
        seen[p.topic] = p.payload
    check_equal(seen["$SYS/broker/cluster/id"].decode(), cluster_of(a), "the cluster id")
    before = a.log().count("event=node_not_ready")
    b.restart(kill=True)
    ready(b)
    check_equal(a.log().count("event=node_not_ready"), before, "lines about it, when a neighbour starts again")
    b.kill()
    eventually("it is alone", lambda: re.search("event=node_not_ready reason=\"it sees no other", a.log().rsplit(
        "event=node_ready", 1)[1]), 60)
    while seen["$SYS/broker/cluster/ready"] != b"0":
        p = watcher.expect_publish()
        seen[p.topic] = p.payload
    b.start()
    ready(a, b)
    watcher.close()
