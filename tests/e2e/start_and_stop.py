"""The command line and the ends of a broker's life: what it says before it runs, and how it goes."""

import os
import re
import signal
import socket
import subprocess
import time

from kit import check, check_equal, eventually
from lib.broker import ROOT, free_port
from lib.mqtt import DISCONNECT, Client, Will

GOOD = """\
listeners:
  - tcp://127.0.0.1:%(port)d
data: %(data)s
log:
  level: info
mqtt:
  max_packet_size: 64KiB
limits:
  max_queued_messages: 50
"""

BAD = [  # name, text, what the sentence must name
    ("an unknown key", "lisners: []\n", "lisners"),
    ("an unknown key in a section", "mqtt:\n  max_packets: 1\n", "max_packets"),
    ("a value that is no number", "mqtt:\n  max_inflight: many\n", "max_inflight"),
    ("a value above its limit", "mqtt:\n  maximum_qos: 3\n", "maximum_qos"),
    ("a value below its limit", "mqtt:\n  max_client_id_size: 5\n", "max_client_id_size"),
    ("a negative value", "shards: -1\n", "shards"),
    ("an unknown word", "log:\n  level: loud\n", "level"),
    ("an unknown backend", "io_backend: kqueue\n", "io_backend"),
    ("a time without a unit that exists", "sys_interval: 10 fortnights\n", "sys_interval"),
    ("no YAML", "mqtt: [1, 2\n", "bad.yaml"),
    ("a list at the top", "- a\n- b\n", "bad.yaml"),
    ("a mapping for a number", "shards:\n  a: 1\n", "shards"),
    ("a listener without a host", "listeners: [\"tcp://\"]\n", "tcp://"),
    ("a listener that lets everybody in", "listeners: [\"tcp://0.0.0.0:1883\"]\n", "allow_anonymous"),
    ("a listener of an unknown kind", "listeners: [\"smoke://127.0.0.1:1883\"]\n", "smoke"),
    ("a port above 65535", "listeners: [\"tcp://127.0.0.1:70000\"]\n", "70000"),
    ("a key given twice", "shards: 1\nshards: 2\n", "shards"),
]


def run_tern(ctx, *arguments):
    """Run to its end; returns (status, standard output, standard error)."""
    ctx.need_tern("it is about our own command line")
    done = subprocess.run([ctx.opts.tern] + list(arguments), stdin=subprocess.DEVNULL, capture_output=True, timeout=20,
                          check=False, cwd=ctx.directory)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def write(ctx, name, text):
    path = os.path.join(ctx.directory, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def expect_one_sentence(error, word):
    lines = error.strip().splitlines()
    check_equal(len(lines), 1, "lines of the message %r" % error)
    check(word in error, "the message does not name %s: %r" % (word, error))


def test_version(ctx):
    status, out, err = run_tern(ctx, "--version")
    check_equal((status, err), (0, ""), "status and standard error")
    check(re.match(r"^tern v?\d+\.\d+\.\d+", out), "it says %r" % out)


def test_help(ctx):
    status, out, err = run_tern(ctx, "--help")
    check_equal((status, err), (0, ""), "status and standard error")
    for flag in ("--config", "--listen", "--data", "--set", "--test-config", "--print-config", "--version"):
        check(flag in out, "%s is not in --help" % flag)


def test_test_config_with_good_files(ctx):
    good = GOOD % {"port": free_port(), "data": ctx.directory + "/data"}
    for name, text in [("good", good), ("empty", ""), ("only a comment", "# nothing\n"),
                       ("listeners as mappings",
                        "listeners:\n  - {address: \"tcp://127.0.0.1:0\", allow_anonymous: false}\n")]:
        status, _, err = run_tern(ctx, "--test-config", "--config", write(ctx, "good.yaml", text))
        check_equal(status, 0, "%s: %r, status" % (name, err))
    check(not os.path.exists(ctx.directory + "/data"), "--test-config made the data directory")


def test_test_config_with_bad_files(ctx):
    for name, text, word in BAD:
        status, _, err = run_tern(ctx, "--test-config", "--config", write(ctx, "bad.yaml", text))
        check_equal(status, 2, "%s: status (%r)" % (name, err))
        expect_one_sentence(err, word)


def test_bad_arguments(ctx):
    rows = [(["--no-such-flag"], "--no-such-flag"), (["--set", "mqtt.max_inflight"], "mqtt.max_inflight"),
            (["--set", "no.such.key=1"], "no.such.key"), (["--set", "mqtt.maximum_qos=7"], "maximum_qos"),
            (["--listen", "tcp://127.0.0.1:x"], "127.0.0.1:x"),
            (["--config", "/nowhere/tern.yaml"], "/nowhere/tern.yaml"), (["--config"], "--config"),
            (["stray"], "stray")]
    for arguments, word in rows:
        status, _, err = run_tern(ctx, *arguments)
        check_equal(status, 2, "%s: status (%r)" % (arguments, err))
        expect_one_sentence(err, word)


def test_print_config_can_be_read_back(ctx):
    settings = ["--set", "mqtt.max_packet_size=64KiB", "--set", "limits.queue_overflow=drop_oldest",
                "--set", "sys_interval=7s", "--listen", "tcp://127.0.0.1:0", "--set", "node.name=one: #2 \"x\""]
    status, printed, err = run_tern(ctx, "--print-config", *settings)
    check_equal(status, 0, "status (%r)" % err)
    for word in ("max_packet_size", "drop_oldest", "listeners", "sys_interval", "connect_timeout"):
        check(word in printed, "%s is not printed" % word)
    path = write(ctx, "printed.yaml", printed)
    status, again, err = run_tern(ctx, "--print-config", "--config", path)
    check_equal(status, 0, "status of reading it back (%r)" % err)
    check_equal(again, printed, "what it prints then")


def test_later_sources_win(ctx):
    ctx.need_tern("it is about our own settings")
    path = write(ctx, "file.yaml", "mqtt:\n  max_inflight: 11\n  receive_maximum: 22\n  topic_alias_maximum: 33\n")
    done = subprocess.run([ctx.opts.tern, "--print-config", "--config", path, "--set", "mqtt.topic_alias_maximum=7"],
                          env={**os.environ, "TERN_MQTT__RECEIVE_MAXIMUM": "9", "TERN_MQTT__TOPIC_ALIAS_MAXIMUM": "8"},
                          capture_output=True, timeout=20, check=True)
    got = dict(re.findall(r"(?m)^\s*(max_inflight|receive_maximum|topic_alias_maximum): (\d+)", done.stdout.decode()))
    check_equal(got, {"max_inflight": "11", "receive_maximum": "9", "topic_alias_maximum": "7"}, "the settings")


def test_a_port_in_use(ctx):
    ctx.need_tern("it is about our own message")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        status, out, err = run_tern(ctx, "--listen", "tcp://127.0.0.1:%d" % port, "--data", ctx.directory + "/data",
                                    "--set", "io_backend=%s" % ctx.opts.backend)
    check_equal(status, 1, "status")
    check(str(port) in out + err and "in use" in (out + err).lower(), "it says %r" % (out + err))


def test_a_port_that_another_tern_uses(ctx):
    ctx.need_tern("it is about our own message")
    broker = ctx.broker()
    status, out, err = run_tern(ctx, "--listen", "tcp://127.0.0.1:%d" % broker.port, "--data", ctx.directory + "/data",
                                "--set", "io_backend=%s" % ctx.opts.backend)
    check_equal(status, 1, "status (%r)" % (out + err))
    check(str(broker.port) in out + err, "it says %r" % (out + err))


def test_sigterm(ctx):
    """5.0 clients are told with 0x8B, everybody is closed, the status is 0, and no will is lost nor published twice."""
    ctx.need_tern("mosquitto does not say DISCONNECT when it ends")
    broker = ctx.broker()
    old, new = Client(broker.port, version=4).open(), Client(broker.port, version=5).open()
    idle = Client(broker.port).dial()
    many = [Client(broker.port, version=4 + i % 2).open() for i in range(50)]
    start = time.monotonic()
    broker.process.send_signal(signal.SIGTERM)
    new.expect(DISCONNECT, reason=0x8B)
    for c in [new, old, idle]:
        check_equal(c.receive(), None, "what came after that")
    for c in many:
        c.expect_closed(0x8B)
    check_equal(broker.process.wait(10), 0, "the exit status")
    check(time.monotonic() - start < 8, "it took %.1f s" % (time.monotonic() - start))
    broker.process = None
    for c in many + [old, new, idle]:
        c.close()


def test_sigterm_under_load(ctx):
    """Clients that do not read must not keep the broker from ending."""
    ctx.need_tern("it is about our own end")
    broker = ctx.broker()
    slow = Client(broker.port, version=5).open()
    slow.subscribe("#", qos=1)
    pub = Client(broker.port, version=4).open()
    for i in range(300):
        pub.publish("t", b"x" * 20000, qos=0)
    broker.process.send_signal(signal.SIGTERM)
    check_equal(broker.process.wait(10), 0, "the exit status")
    broker.process = None
    slow.close()
    pub.close()


def test_sigint_ends_too(ctx):
    broker = ctx.broker()
    broker.process.send_signal(signal.SIGINT)
    check_equal(broker.process.wait(10), 0, "the exit status")
    broker.process = None


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def test_clients_come_back_after_a_restart(ctx):
    broker = ctx.broker()
    for kill in (False, True):
        c = Client(broker.port, version=4, client_id="back").open()
        c.close()
        if kill:
            broker.kill()
            eventually("the kernel closes the port", lambda: not accepts(broker.port))  # io_uring's end takes a moment
            broker.start()
        else:
            broker.restart()
        Client(broker.port, version=4, client_id="back").open().close()


def test_both_io_backends(ctx):
    ctx.need_tern("it is about our own io")
    for backend, words in (("epoll", ["epoll"]), ("io_uring", ["io_uring"]), ("auto", ["io_uring", "epoll"])):
        try:
            broker = ctx.broker({"io_backend": backend, "log.level": "info"})
        except AssertionError as e:
            check(backend == "io_uring" and "io_uring" in str(e), "%s: %s" % (backend, e))
            ctx.brokers.pop().remove()  # this system forbids io_uring, and the broker said so
            continue
        eventually("%s is named in the log" % words, lambda b=broker, w=words: any(word in b.log() for word in w))
        c = Client(broker.port, version=5).open()
        c.subscribe("t", qos=2)
        c.publish("u", b"x", qos=2)
        c.disconnect()


def test_reload(ctx):
    """SIGHUP: the log's level and a limit change for what comes after it; clients stay connected."""
    broker = ctx.configured(GOOD)
    staying = Client(broker.port, version=5).open()
    check_equal(staying.connack.props.get("maximum_packet_size"), 65536, "Maximum Packet Size before")
    check("client=%s " % staying.client_id in broker.log(), "no line about the client before the reload")
    broker.write(GOOD.replace("64KiB", "32KiB").replace("level: info", "level: warn"))
    broker.process.send_signal(signal.SIGHUP)

    def told():
        with Probe(broker.port) as c:
            return c.connack.props.get("maximum_packet_size") == 32768
    eventually("the new limit", told)
    quiet = Client(broker.port, client_id="comes-after-the-reload", version=5).open()
    quiet.disconnect()
    check("comes-after-the-reload" not in broker.log(), "a line of level info after the reload to warn")
    broker.write(GOOD)
    broker.process.send_signal(signal.SIGHUP)

    def heard():
        with Probe(broker.port) as c:
            return "client=%s " % c.client_id in broker.log()
    eventually("lines of level info again", heard)
    staying.ping()
    staying.close()


class Probe(Client):
    def __init__(self, port):
        super().__init__(port, version=5)

    def __enter__(self):
        return self.open()

    def __exit__(self, *_):
        self.close()


def test_reload_of_a_bad_file_changes_nothing(ctx):
    broker = ctx.configured(GOOD)
    staying = Client(broker.port, version=5).open()
    broker.write(GOOD.replace("64KiB", "enormous"))
    before = len(broker.log())
    broker.process.send_signal(signal.SIGHUP)
    eventually("a line in the log about it", lambda: "max_packet_size" in broker.log()[before:])
    staying.ping()
    with Probe(broker.port) as c:
        check_equal(c.connack.props.get("maximum_packet_size"), 65536, "Maximum Packet Size")
    staying.close()


def test_reload_names_what_needs_a_restart(ctx):
    broker = ctx.configured(GOOD)
    broker.write(GOOD + "pin_shards: true\n")
    before = len(broker.log())
    broker.process.send_signal(signal.SIGHUP)
    eventually("a line that names pin_shards", lambda: "pin_shards" in broker.log()[before:])
    Client(broker.port).open().close()


def test_wills_at_the_end(ctx):
    """A will is due when the connection ends, for whatever reason; at the broker's own end nobody is left to hear it
    but sessions and retained messages. What must hold in any case: the end is clean."""
    broker = ctx.broker()
    c = Client(broker.port, version=4).open(will=Will("w", b"x", 1, True))
    check_equal(broker.stop(), [], "problems at the end")
    c.expect_closed()
    c.close()


def test_the_data_directory_is_made(ctx):
    ctx.need_tern("it is about our own directory")
    made = os.path.join(ctx.directory, "made")
    broker = ctx.broker(arguments=["--data", made])
    check(os.path.isdir(made), "no data directory at %s" % made)
    Client(broker.port).open().close()


def test_a_data_directory_that_cannot_be(ctx):
    ctx.need_tern("it is about our own message")
    path = write(ctx, "file", "not a directory")
    status, out, err = run_tern(ctx, "--listen", "tcp://127.0.0.1:0", "--data", path)
    check_equal(status, 1, "status (%r)" % (out + err))
    check(path in out + err, "it says %r" % (out + err))


def test_what_make_run_shows(ctx):
    """Three nodes that are one broker: who is there, and a message from the first to the last; one by itself."""
    os.mkdir(ctx.directory + "/bin")
    for name in ("tern", "ternctl"):  # the data beside them
        os.symlink(os.path.join(os.path.dirname(os.path.abspath(ctx.opts.tern)), name), ctx.directory + "/bin/" + name)
    run = [os.path.join(ROOT, "deploy", "run.sh"), ctx.directory + "/bin/tern"]
    shown = ctx.run(run, seconds=120, env=dict(os.environ, RUN_ONCE="1"))
    members = [line for line in shown.splitlines() if line.count(" alive") == 3]
    check_equal(sorted(members[0].split("; ")), ["node1 alive", "node2 alive", "node3 alive"], "who is there")
    check("hello/tern Tern says hello" in shown, "no message:\n" + shown)
    shown = ctx.run(run, seconds=120, env=dict(os.environ, RUN_ONCE="1", NODES="1"))
    check("hello/tern Tern says hello" in shown and "members" not in shown, "one node:\n" + shown)
    for wrong in ("0", "10", "x"):
        shown = ctx.run(run, status=2, env=dict(os.environ, NODES=wrong))
        check("from 1 to 9" in shown, shown)


def test_the_service_manager_is_told(ctx):
    """What systemd's Type=notify waits for: ready, reloading and ready again, stopping; at a path and at an abstract name."""
    ctx.need_tern("the words of sd_notify")
    for name, shown in ((os.path.join(ctx.directory, "notify"),) * 2, ("\0tern-%d" % os.getpid(), "@tern-%d" % os.getpid())):
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(name)
        manager.settimeout(30)
        os.environ["NOTIFY_SOCKET"] = shown
        try:
            broker = ctx.broker()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        check_equal(manager.recv(100), b"READY=1", "a client can come")
        Client(broker.port).open().disconnect()
        broker.process.send_signal(signal.SIGHUP)
        check(re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=[0-9]+", manager.recv(100)), "it says when it began to reload")
        check_equal(manager.recv(100), b"READY=1", "and that it is ready again")
        broker.process.send_signal(signal.SIGTERM)
        check_equal(manager.recv(100), b"STOPPING=1", "that it stops")
        check_equal(broker.process.wait(30), 0, "the exit status")
        broker.process = None
        manager.close()
