"""Unix sockets as listeners: who may open them, what a start finds and an end leaves, and MQTT on them."""

import os
import socket
import stat
import subprocess
import threading

from doors import SteadyPublisher, doors, field
from kit import check, check_equal


def unix_house(ctx, more="", **doors_more):
    return doors(ctx, {"local": ("unix", more)}, **doors_more)


def test_messages_both_ways(ctx):
    house = unix_house(ctx)
    local, remote = house.client("local"), house.client()
    local.subscribe("u/#", qos=2)
    remote.subscribe("u/#", qos=2)
    for sender, payload in [(local, b"x" * 100000), (remote, b"from outside")]:
        sender.publish("u/1", payload, qos=0)
        for c in (local, remote):
            c.expect_publish("u/1", payload)
    check_equal(field(house.came_in(local), "peer"), "unix", "the peer in the log")
    steady = SteadyPublisher(house.client("local"))
    many = [house.client("local") for _ in range(100)]
    for c in many:
        c.ping()
    steady.end(at_least=20)


def test_mosquitto_pub_and_sub(ctx):
    house = unix_house(ctx, settings="log: {level: debug}\n")
    path = house.paths["local"]
    sub = ctx.spawn(["mosquitto_sub", "--unix", path, "-t", "m", "-C", "1", "-q", "1", "-i", "sub"])
    house.line("event=subscribed", "client=sub")
    ctx.run(["mosquitto_pub", "--unix", path, "-t", "m", "-m", "through the file", "-q", "1"])
    check_equal(sub.finish(), (0, ["through the file"]), "what mosquitto_sub got")


def test_mode(ctx):
    house = doors(ctx, {"by_default": ("unix", ""), "narrow": ("unix", 'mode: "0600"'),
                        "wide": ("unix", 'mode: "0666"')})
    for door, mode in [("by_default", 0o660), ("narrow", 0o600), ("wide", 0o666)]:
        found = os.stat(house.paths[door])
        check(stat.S_ISSOCK(found.st_mode), door + ": is no socket")
        check_equal("%04o" % (found.st_mode & 0o7777), "%04o" % mode, door + ": its mode")
        house.client(door).ping()


def test_the_end_removes_it(ctx):
    house = unix_house(ctx)
    house.client("local").ping()
    check_equal(house.stop(), [], "the broker's end")
    check(not os.path.exists(house.paths["local"]), "the socket is still there")


def test_a_stale_socket_is_replaced(ctx):
    house = unix_house(ctx)
    house.kill()
    check(os.path.exists(house.paths["local"]), "a killed broker leaves its socket")
    house.start()
    house.line("event=started")
    house.client("local").ping()


def start_second(ctx, path):
    data = os.path.join(ctx.directory, "second")
    done = subprocess.run([ctx.opts.tern, "--listen", "unix://" + path, "--data", data],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    errors = [line for line in done.stderr.splitlines() if "level=error" in line and "start_failed" not in line]
    return done.returncode, errors


def test_what_is_in_use_is_refused(ctx):
    house = unix_house(ctx)
    c = house.client("local")
    status, errors = start_second(ctx, house.paths["local"])
    check(status in (1, 2) and len(errors) == 1, "status %d: %s" % (status, errors))
    check("Address already in use" in errors[0] and house.paths["local"] in errors[0], errors[0])
    c.ping()
    house.client("local").ping()


def test_a_place_that_becomes_free_is_waited_for(ctx):
    """A broker that was killed may hold its port and its socket for a moment longer."""
    house = unix_house(ctx, start=False)
    holders = [socket.socket(), socket.socket(socket.AF_UNIX)]
    holders[0].bind(("127.0.0.1", house.port))
    holders[1].bind(house.paths["local"])
    for holder in holders:
        holder.listen()
    timer = threading.Timer(0.5, lambda: [holder.close() for holder in holders])
    timer.start()
    house.start()
    timer.join()
    house.line("event=started")
    house.client().ping()
    house.client("local").ping()


def test_places_where_none_can_be(ctx):
    house = unix_house(ctx)
    plain = os.path.join(ctx.directory, "file")
    with open(plain, "w", encoding="ascii") as f:
        f.write("kept\n")
    link = os.path.join(ctx.directory, "link")
    os.symlink(plain, link)
    for name, path in [("no such folder", "/nowhere/at/all.sock"), ("a file", plain), ("a link to a file", link),
                       ("a folder", ctx.directory), ("too long", os.path.join(ctx.directory, "x" * 200))]:
        status, errors = start_second(ctx, path)
        check(status in (1, 2), "%s: exit status %d" % (name, status))
        check(len(errors) == 1 or status == 2, "%s: %s" % (name, errors))
    with open(plain, encoding="ascii") as f:
        check_equal(f.read(), "kept\n", "the file that stood there")
    house.client("local").ping()


def test_garbage_and_half_packets(ctx):
    house = unix_house(ctx, settings="limits: {connect_timeout: 1s}\n")
    steady = SteadyPublisher(house.client("local"))
    for data in (b"\xff" * 100, b"\x10", b"GET / HTTP/1.1\r\n\r\n", b""):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(house.paths["local"])
        sock.sendall(data)
        check_equal(sock.recv(100), b"", "the answer to %r" % data)
        sock.close()
    steady.end(at_least=20)
