"""Three nodes behind HAProxy, with PROXY v2, restarted one after the other under load."""

import os
import time

from kit import Skip, check, eventually
from lab import together
from lib.mqtt import Client

HAPROXY = "/usr/sbin/haproxy"
CONFIGURATION = """
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    option redispatch
    retries 2
frontend mqtt
    bind %s:1883
    default_backend nodes
backend nodes
    balance leastconn
    option httpchk GET /readyz
    default-server check port 18083 inter 100ms fall 1 rise 1 send-proxy-v2
"""


def balancer(lab, nodes):
    """HAProxy on a host of its own. It sends nobody to a node that does not say that it is ready."""
    if not os.access(HAPROXY, os.X_OK):
        raise Skip("HAProxy is not installed")
    path = os.path.join(lab.directory, "haproxy.cfg")
    with open(path, "w", encoding="ascii") as f:
        f.write(CONFIGURATION % lab.address(2) + "".join("    server %s %s:1884\n" % (n.settings["node.name"], n.host) for n in nodes))
    lab.spawn(lab.host(lab.address(2)).inside() + [HAPROXY, "-db", "-f", path])
    eventually("HAProxy serves", lambda: reached(lab.address(2), nodes), 30)
    return (lab.address(2), 1883)


def reached(balancer_ip, nodes):
    """Whether a connection through it comes to a node, with the client's own address."""
    c = Client(1883, client_id="probe", host=balancer_ip)
    try:
        c.open()
        return any("client=probe peer=10.213.0.1:" in n.log() for n in nodes)
    except (AssertionError, OSError):
        return False
    finally:
        c.close()


def test_rolling_restart(lab):
    """Each client goes on elsewhere. Who is connected to a node that stays misses nothing; who is thrown out has got all
    that was acknowledged before its node was told to stop, and misses nothing from its next SUBACK on."""
    nodes = lab.cluster(here=lambda ip: {"admin.listen": ip + ":18083", "admin.anonymous_role": "viewer"},
                        **{"drain.wait": "1s"})
    door = balancer(lab, nodes)
    ledgers = [lab.ledger("rolling%d" % i, [door] * 2, [door] * 4) for i in range(2)]
    stops = []
    for node in nodes:
        for load in ledgers:
            load.acknowledged(40)
        stops.append(time.monotonic())
        problems = node.stop()
        check(not problems, "it did not stop well: %s" % problems)
        others = [n for n in nodes if n is not node]
        for load in ledgers:
            load.acknowledged(40)
            eventually("all are connected again", lambda x=load: sum(s.until is None for s in x.stays) == 4, 60)
        node.start()
        together(nodes)
        check(all("routes_differ" not in n.log() for n in others), "nodes that do not agree")
    for load in ledgers:
        load.acknowledged(40)
        load.finish()
        check(len(load.stays) > 4, "nobody was thrown out")
        for stay in load.stays:
            ended = [t for t in stops if stay.since < t and (stay.until is None or t <= stay.until)]
            load.verify(stay, until=float("inf") if stay.last else max(ended, default=0))
    lab.said.append("%d connections of 8 subscribers, %d messages, %d sent again" % (
        sum(len(x.stays) for x in ledgers), sum(len(x.acked) for x in ledgers), sum(len(x.resent) for x in ledgers)))

