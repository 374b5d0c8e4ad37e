"""Starts, watches and ends the broker process that is under test.

Why: tests must not care which build, io backend or number of shards they run against, and none may pass while the
broker crashed behind its back. A Broker owns one process, one port out of 20000-24999, one data directory and one log
file, and finds each of them again at the end. Debian's mosquitto can take the broker's place, so that tests can be
tried on an implementation that is not ours; a setting it does not know raises Unsupported, and the test is skipped.
"""

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from lib.certificates import Authority

PORTS = range(20000, 25000)
PORTS_KEPT = 300
reserved = []  # open files
START_SECONDS = 10
STOP_SECONDS = 10
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SANITIZER_MARKS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "WARNING: ThreadSanitizer",
                   "assertion failed", "Assertion")

# Our configuration keys in mosquitto's words; %s is the value. Keys it always behaves like, or need not know, are "".
MOSQUITTO_KEYS = {
    "mqtt.max_packet_size": "max_packet_size %s",
    "mqtt.max_keep_alive": "max_keepalive %s",
    "mqtt.max_inflight": "max_inflight_messages %s",
    "mqtt.receive_maximum": "max_inflight_messages %s",
    "mqtt.retain_available": "retain_available %s",
    "mqtt.maximum_qos": "max_qos %s",
    "limits.max_queued_messages": "max_queued_messages %s",
    "limits.max_connections": "max_connections %s",
    "log.level": "", "sys_interval": "sys_interval %s",
}


class Unsupported(Exception):
    """The broker under test cannot be given this setting."""


class BrokerDied(AssertionError):
    """The process ended on its own; its last words are in the message."""


def reserve(port):
    """Whether no other test, of this or another run, has been given this port: a file is locked for each, the last
    PORTS_KEPT ones, for a port is often only listened on when others have been handed out."""
    directory = os.path.join(tempfile.gettempdir(), "tern-test-ports")
    os.makedirs(directory, mode=0o777, exist_ok=True)
    lock = open(os.path.join(directory, str(port)), "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return False
    reserved.append(lock)
    if len(reserved) > PORTS_KEPT:
        reserved.pop(0).close()
    return True


def free_port():
    """A port of our range that nobody listens on. Random, since several runs may share the machine."""
    for _ in range(200):
        port = random.choice(PORTS)
        if not reserve(port):
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port in 20000-24999")


class Options:
    """Which broker to start, as chosen on the command line."""

    def __init__(self, tern=None, backend="epoll", shards=2, mosquitto=False, transport="tcp"):
        # The broker runs in a directory of its own, so its path must not depend on where we are.
        self.tern = os.path.abspath(tern or os.path.join(ROOT, "build/release/tern"))
        self.backend, self.shards, self.mosquitto, self.transport = backend, shards, mosquitto, transport

    @staticmethod
    def add_arguments(parser):
        parser.add_argument("--tern", metavar="PATH", help="the broker (default: build/release/tern)")
        parser.add_argument("--backend", default="epoll", choices=["epoll", "io_uring", "auto"])
        parser.add_argument("--shards", type=int, default=2)
        parser.add_argument("--mosquitto", action="store_true", help="test Debian's mosquitto instead")
        parser.add_argument("--transport", default="tcp", choices=["tcp", "tls", "ws", "wss"],
                            help="what the scripted clients dial")

    @staticmethod
    def of_arguments(args):
        return Options(args.tern, args.backend, args.shards, args.mosquitto, args.transport)


class Broker:
    """One broker process. settings: {"mqtt.max_keep_alive": "1s", ...}, given as --set. Use start() and stop(), or
    `with`. restart() keeps data directory and port, so that durable state can be looked for."""

    def __init__(self, opts=None, settings=None, arguments=(), host="127.0.0.1"):
        self.opts, self.settings = opts or Options(), dict(settings or {})
        self.arguments, self.host = list(arguments), host
        self.port, self.process = free_port(), None
        self.directory = tempfile.mkdtemp(prefix="tern-test-")
        self.data, self.log_path = os.path.join(self.directory, "data"), os.path.join(self.directory, "log")
        self.log_start = 0

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        problems = self.stop()
        self.remove()
        if problems and kind is None:
            raise BrokerDied("\n".join(problems))

    @property
    def pid(self):
        return self.process.pid

    def command(self):
        if self.opts.mosquitto:
            return self.mosquitto_command()
        command = [self.opts.tern, "--listen", self.address(), "--data", self.data]
        settings = {"io_backend": self.opts.backend, "shards": self.opts.shards, "admin.listen": "", **self.settings}
        for key, value in settings.items():
            command += ["--set", "%s=%s" % (key, {True: "true", False: "false"}.get(value, value)
                                            if isinstance(value, bool) else value)]
        return command + self.arguments

    def address(self):
        """The listener for --listen; with TLS a certificate is made for it once."""
        transport = self.opts.transport
        address = "%s://%s:%d" % (transport, self.host, self.port)
        if transport not in ("tls", "wss"):
            return address
        ca = os.path.join(self.directory, "ca")
        if not os.path.exists(ca):
            Authority(ca).server("server", ["localhost", "127.0.0.1"])
        return address + "?tls.certificate=%s/server.pem&tls.key=%s/server.key" % (ca, ca)

    def mosquitto_command(self):
        lines = ["listener %d %s" % (self.port, self.host), "allow_anonymous true", "user root"]
        for key, value in self.settings.items():
            if key not in MOSQUITTO_KEYS:
                raise Unsupported("mosquitto has no %s" % key)
            value = str(value).lower().rstrip("s") if key != "mqtt.retain_available" else str(value).lower()
            if key == "mqtt.max_keep_alive" and int(value) < 10:
                raise Unsupported("mosquitto has no keep alive below 10 s")
            if MOSQUITTO_KEYS[key]:
                lines.append(MOSQUITTO_KEYS[key] % value)
        path = os.path.join(self.directory, "mosquitto.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        return ["/usr/sbin/mosquitto", "-c", path]

    def start(self):
        """Start and wait until the port accepts."""
        command = self.command()
        if not os.access(command[0], os.X_OK):
            raise RuntimeError("no broker at %s; build it first, or name it with --tern" % command[0])
        os.makedirs(self.data, exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.directory)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BrokerDied("%s\nended with %s at the start:\n%s" % (
                    " ".join(command), self.process.returncode, self.log_tail()))
            try:
                socket.create_connection((self.host if self.host != "0.0.0.0" else "127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.02)
        self.kill()
        raise BrokerDied("did not accept within %d s:\n%s" % (START_SECONDS, self.log_tail()))

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def check(self):
        """Raise BrokerDied when the process is gone."""
        if not self.alive():
            raise BrokerDied("the broker ended with %s:\n%s" % (
                self.process.returncode if self.process else None, self.log_tail()))

    def stop(self):
        """SIGTERM, wait, and look at the exit status and the log. Returns a list of what was wrong."""
        if self.process is None:
            return []
        problems = []
        if self.process.poll() is not None:
            problems.append("the broker had ended with %d" % self.process.returncode)
        else:
            self.process.send_signal(signal.SIGTERM)
            try:
                if self.process.wait(STOP_SECONDS) != 0:
                    problems.append("the broker's exit status was %d" % self.process.returncode)
            except subprocess.TimeoutExpired:
                problems.append("the broker did not end within %d s of SIGTERM" % STOP_SECONDS)
                self.kill()
        self.process = None
        if problems or any(mark in self.log() for mark in SANITIZER_MARKS):
            problems.append(self.log_tail())
        return problems

    def kill(self):
        """SIGKILL, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.wait_until_refused()

    def wait_until_refused(self):
        """The kernel closes what io_uring has held a little later than the process has ended."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection((self.host if self.host != "0.0.0.0" else "127.0.0.1", self.port), 1).close()
            except OSError:
                return
            time.sleep(0.005)

    def restart(self, kill=False, settings=None):
        """End it (by SIGTERM, or SIGKILL) and start it again on the same data and port."""
        if kill:
            self.kill()
        else:
            problems = self.stop()
            if problems:
                raise BrokerDied("\n".join(problems))
        self.settings.update(settings or {})
        return self.start()

    def log(self):
        """What the present process wrote."""
        with open(self.log_path, "rb") as f:
            f.seek(self.log_start)
            return f.read().decode("utf-8", "replace")

    def log_tail(self, lines=60):
        """The log's end, or all from a sanitizer's report on."""
        log = self.log()
        marks = [log.find(mark) for mark in SANITIZER_MARKS if mark in log]
        if marks:
            return log[log.rfind("\n", 0, min(marks)) + 1:][:20000]
        return "\n".join(log.splitlines()[-lines:])

    def remove(self):
        """Remove the directory; the process must be gone."""
        shutil.rmtree(self.directory, ignore_errors=True)
