#!/usr/bin/env python3
"""Measures Tern beside mosquitto on this machine, and prints a table in Markdown.

Why in rounds: the machine is busy with other things as well, and never the same twice. So every scenario runs on every
broker before the next round begins, each time on a broker just started; the table shows the median of the rounds and
Tern's share of what mosquitto needed. Compare the shares between machines, not the microseconds.

Exit status: 0 measured, 1 a broker lost, repeated or reordered a message, 2 something did not run. Targets that are missed
are marked, and end it with 1 only under --strict.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PORTS = range(25000, 26000)
START_SECONDS = 10
STOP_SECONDS = 10
RUN_SECONDS = 60

# Name, arguments of tern-bench, the figure it is judged by, and Tern's target: a share of mosquitto's CPU, or bytes; None
# where none is set.
CPU, MEMORY = "us a message", "bytes a client"
SCENARIOS = [
    ("pairs QoS 0", "pair --count 100 --qos 0 --batch 32 --window 256", CPU, 0.07),
    ("pairs QoS 1", "pair --count 100 --qos 1 --batch 32 --window 256", CPU, 0.075),
    ("pairs QoS 2", "pair --count 100 --qos 2 --batch 32 --window 256", CPU, 0.05),
    ("fan-out 1 to 1000", "fanout --count 1000 --qos 0 --batch 1 --window 4", CPU, 0.28),
    ("fan-out, one at a time", "fanout --count 1000 --qos 0 --batch 1 --window 1", CPU, None),
    ("100,000 wildcards", "wildcard --subscriptions 100000 --count 100 --publishers 20 --batch 32 --window 256", CPU, 0.27),
    ("10,000 idle clients", "idle --count 10000", MEMORY, 600),
]

MOSQUITTO_CONF = """listener %(port)d 127.0.0.1
allow_anonymous true
persistence false
log_type none
max_inflight_messages 0
max_queued_messages 0
"""


class Failure(Exception):
    """A broker or the load generator did not do its part; the message says which and how."""


def mosquitto_command(program, port, directory):
    path = os.path.join(directory, "mosquitto.conf")
    with open(path, "w", encoding="utf-8") as conf:
        conf.write(MOSQUITTO_CONF % {"port": port})
        if os.geteuid() == 0:
            conf.write("user root\n")  # it would become another user and then be looked at by none
    return [program, "-c", path]


def tern_command(shards):
    def command(program, port, directory):
        return [program, "--listen", "tcp://127.0.0.1:%d" % port, "--data", directory, "--set", "shards=%d" % shards,
                "--log-level", "error"]
    return command


class Broker:
    """One broker process on a port of its own, from `with` to the end of its block."""

    def __init__(self, name, command, program):
        self.name, self.command, self.program = name, command, program

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="tern-compare-")
        self.port = free_port()
        self.log = open(os.path.join(self.directory, "log"), "wb")
        try:
            self.process = subprocess.Popen(self.command(self.program, self.port, self.directory), stdout=self.log,
                                            stderr=subprocess.STDOUT, cwd=self.directory)
        except OSError as error:
            self.clean()
            raise Failure("%s: %s" % (self.name, error)) from error
        try:
            self.wait_until_it_listens()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def wait_until_it_listens(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            raise Failure("%s did not start: %s" % (self.name, log.read()[-500:]))

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.clean()

    def clean(self):
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port():
    for port in PORTS:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failure("no free port in %d-%d" % (PORTS[0], PORTS[-1]))


def run_bench(program, broker, words, extra):
    """One run of tern-bench; its JSON object and whether every message came once and in order."""
    command = [program] + words.split() + extra + ["--port", str(broker.port), "--pid", str(broker.process.pid), "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure("%s: %s" % (" ".join(command), error)) from error
    if done.returncode not in (0, 1) or broker.process.poll() is not None:
        raise Failure("%s: %s: exit status %d: %s" % (broker.name, " ".join(command), done.returncode,
                                                      done.stderr.strip()))
    return json.loads(done.stdout), done.returncode == 0


def figure_of(kind, result):
    """The figure of one run: CPU for each message that went into the broker or came out of it, or memory."""
    if kind == MEMORY:
        return result["rss_bytes_per_client"]
    messages = result["sent"] + result["received"]
    if messages == 0:
        raise Failure("nothing was delivered: %s" % json.dumps(result))
    return result["broker_cpu_us"] / messages


def measure(options, scenarios, brokers):
    """figures[scenario][broker] = list of figures, one a round; and the runs that were not clean."""
    figures = {name: {broker.name: [] for broker in brokers} for name, *_ in scenarios}
    unclean = []
    for number in range(1, options.rounds + 1):
        for name, words, kind, _ in scenarios:
            for broker in brokers:
                with broker:
                    result, clean = run_bench(options.bench, broker, words, ["--seconds", str(options.seconds)])
                figures[name][broker.name].append(figure_of(kind, result))
                if not clean:
                    unclean.append("%s, %s, round %d: %s" % (name, broker.name, number, json.dumps(result)))
                print("round %d  %-24s %-16s %10.3f %s" % (number, name, broker.name, figures[name][broker.name][-1], kind),
                      file=sys.stderr)
    return figures, unclean


def spell(kind, value):
    return "%.0f" % value if kind == MEMORY else "%.3f" % value


def cell(kind, value, base, target):
    """Tern's figure and share; and whether it missed the target, which for memory is a number and not a share."""
    share = value / base if base > 0 else float("inf")
    missed = target is not None and (value if kind == MEMORY else share) > target
    return "%s (%.3f%s)" % (spell(kind, value), share, ", missed" if missed else ""), missed


def table(figures, scenarios, brokers):
    """The lines of the table, and how many targets Tern missed."""
    reference, others = brokers[0], brokers[1:]
    head = ["scenario", "figure", reference.name] + [broker.name for broker in others] + ["target"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    missed_count = 0
    for name, _, kind, target in scenarios:
        base = statistics.median(figures[name][reference.name])
        row = [name, kind, spell(kind, base)]
        for broker in others:
            text, missed = cell(kind, statistics.median(figures[name][broker.name]), base, target)
            row.append(text)
            missed_count += missed
        row.append("-" if target is None else "%d bytes" % target if kind == MEMORY else "(%.3f)" % target)
        lines.append("| " + " | ".join(row) + " |")
    return lines, missed_count


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="measured part of each run (1)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only scenarios with TEXT in their name")
    parser.add_argument("--strict", action="store_true", help="a missed target is a failure")
    parser.add_argument("--bench", default=os.path.join(ROOT, "build/release/tern-bench"))
    parser.add_argument("--tern", default=os.path.join(ROOT, "build/release/tern"))
    parser.add_argument("--mosquitto", default=shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin"))
    return parser.parse_args()


def main():
    options = parse_arguments()
    scenarios = [row for row in SCENARIOS if options.only in row[0]]
    if not options.mosquitto:
        raise Failure("mosquitto is not installed (make setup installs it)")
    if not scenarios or options.rounds < 1:
        raise Failure("nothing to measure")
    brokers = [Broker("mosquitto", mosquitto_command, options.mosquitto),
               Broker("Tern, 1 shard", tern_command(1), os.path.abspath(options.tern)),
               Broker("Tern, 2 shards", tern_command(2), os.path.abspath(options.tern))]
    figures, unclean = measure(options, scenarios, brokers)
    lines, missed_count = table(figures, scenarios, brokers)
    print("\n".join(lines))
    for line in unclean:
        print("not clean: " + line, file=sys.stderr)
    return 1 if unclean or (options.strict and missed_count) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        print("compare.py: %s" % failure, file=sys.stderr)
        sys.exit(2)
