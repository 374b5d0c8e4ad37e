"""What an end-to-end test is made of: the Context it gets, which starts brokers and client programs and ends them all.

A test is a function `test_...(ctx)` in one of the modules that run.py names. It fails by raising AssertionError; Skip
says why it cannot run here. Every broker started through the Context is ended by SIGTERM afterwards, and a crash, a
sanitizer's report or an exit status other than 0 fails the test.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from lib.broker import ROOT, Broker, BrokerDied

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(ROOT, "build", "e2e")
RUN_SECONDS = 60


class Skip(Exception):
    """The test cannot say anything here; the text is why."""


class Timeout(AssertionError):
    """Something did not happen in time."""


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def check_equal(got, want, what):
    if got != want:
        raise AssertionError("%s: got %.600r, wanted %.600r" % (what, got, want))


def eventually(what, condition, seconds=10.0):
    """Wait until condition() is true and return what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout("not within %g s: %s" % (seconds, what))
        time.sleep(0.05)


class Lines:
    """A running program whose output is read line by line in the background."""

    def __init__(self, command, stdin=None):
        self.command = command
        self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines, self.changed = [], threading.Condition()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self.changed.notify_all()

    def wait_lines(self, count, seconds=10.0):
        """The first `count` lines."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.lines) >= count, seconds):
                raise Timeout("%s: %d of %d lines within %g s: %.500r" % (
                    os.path.basename(self.command[0]), len(self.lines), count, seconds, self.lines[-5:]))
            return self.lines[:count]

    def finish(self, seconds=10.0):
        """Wait for its end; returns (status, all lines)."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Timeout("%s did not end within %g s; output: %.500r" % (
                " ".join(self.command), seconds, self.lines[-5:])) from None
        self.thread.join(5)
        return status, self.lines

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.thread.join(5)


class ConfiguredBroker(Broker):
    """A broker with a configuration file of the test's own instead of --listen and --set. %(port)d and %(data)s in the
    text are replaced. The io backend still comes from the command line of this run."""

    def __init__(self, opts, text, arguments=(), environment=None):
        super().__init__(opts, None, arguments)
        self.text, self.environment = text, environment
        self.config_path = os.path.join(self.directory, "tern.yaml")
        self.write(text)

    def write(self, text):
        with open(self.config_path, "w", encoding="utf-8") as f:
            f.write(text % {"port": self.port, "data": self.data})

    def command(self):
        return [self.opts.tern, "--config", self.config_path, "--set", "io_backend=%s" % self.opts.backend,
                "--set", "shards=%d" % self.opts.shards] + self.arguments


class Context:
    def __init__(self, opts):
        self.opts, self.brokers, self.programs = opts, [], []
        self.directory = tempfile.mkdtemp(prefix="tern-e2e-")

    def broker(self, settings=None, arguments=(), host="127.0.0.1"):
        return self.start(Broker(self.opts, settings, arguments, host))

    def configured(self, text, arguments=()):
        if self.opts.mosquitto:
            raise Skip("mosquitto has another configuration file")
        return self.start(ConfiguredBroker(self.opts, text, arguments))

    def start(self, broker):
        self.brokers.append(broker)
        return broker.start()

    def need_tern(self, why):
        if self.opts.mosquitto:
            raise Skip(why)

    def spawn(self, command, **more):
        program = Lines(command, **more)
        self.programs.append(program)
        return program

    def run(self, command, seconds=RUN_SECONDS, status=0, stdin=None, **more):
        """Run a program to its end and return its output; another exit status than `status` fails (None: any)."""
        try:
            done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=seconds, check=False, **more)
        except subprocess.TimeoutExpired as e:
            raise Timeout("%s did not end within %g s: %.2000s" % (
                " ".join(command), seconds, (e.stdout or b"").decode("utf-8", "replace"))) from None
        output = done.stdout.decode("utf-8", "replace")
        if status is not None and done.returncode != status:
            raise AssertionError("%s: exit status %d, wanted %d:\n%s" % (
                " ".join(command), done.returncode, status, output[-4000:]))
        return output

    def end(self):
        """Stop everything; raises when a broker did not end well."""
        for program in self.programs:
            program.kill()
        problems = []
        for broker in self.brokers:
            problems += broker.stop()
            broker.remove()
        shutil.rmtree(self.directory, ignore_errors=True)
        if problems:
            raise BrokerDied("\n".join(problems))


@contextlib.contextmanager
def alone():
    """Two runs of these tests beside each other share what they build: one builds, the other waits and finds it."""
    os.makedirs(BUILD, exist_ok=True)
    with open(os.path.join(BUILD, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_c(source, libraries):
    """Compile a C client of this folder into build/e2e and return its path."""
    with alone():
        return build_c_alone(source, libraries)


def build_c_alone(source, libraries):
    path, out = os.path.join(HERE, source), os.path.join(BUILD, source[:-2])
    newest = max(os.path.getmtime(os.path.join(HERE, f)) for f in (source, "client.h"))
    if not os.path.exists(out) or os.path.getmtime(out) < newest:
        command = ["cc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", out, path]
        command += ["-l" + name for name in libraries]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and "No such file" in done.stderr and "fatal error" in done.stderr:
            raise Skip("a header for %s is not installed: %s" % (source, done.stderr.splitlines()[0]))
        check(done.returncode == 0, "%s does not compile:\n%s" % (source, done.stderr))
    return out
