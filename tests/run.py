#!/usr/bin/env python3
"""Everything that `make test` does after the set-up: builds, checks and tests, stage after stage.

A stage is a command. It prints `N passed, N failed, N skipped` last; a stage that only builds counts as one. A stage
that ends badly has failed whatever it counted. No stage is left out without being counted as skipped, with the
reason. The output of each is in build/test-logs, the end of it is shown when it fails.

What keeps the processors busy runs first, one stage after another. Then come the stages that mostly wait, for timers
of the protocol and for processes to start: some of those side by side, for they use a fifth of the time they take.
"""

import argparse
import concurrent.futures
import ctypes
import os
import re
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(ROOT, "build/test-logs")
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped\s*$", re.MULTILINE)
# A test's own line, in the words of any of the runners.
FAILED = re.compile(r"^(?:failed +|FAIL(?:ED)?:? )(\S.*)$", re.MULTILINE)
PYTHON = sys.executable
CONFORMANCE = [PYTHON, "tests/conformance/run.py", "--tern"]
TAIL_LINES = 60
SIDE_BY_SIDE = 3  # stages that wait, at once, on two processors


def io_uring_forbidden():
    """Why this machine has no io_uring for us, or None. Containers often forbid it; the broker then takes epoll."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(425, 4, ctypes.byref(ctypes.create_string_buffer(120)))  # io_uring_setup, one number everywhere
    if fd < 0:
        return "io_uring is forbidden here: " + os.strerror(ctypes.get_errno())
    os.close(fd)
    return None


class Stage:
    """name, command, the seconds it may take, waits: it mostly waits, so others may run beside it, and why_not: a
    function that says why it must be skipped, or None."""

    def __init__(self, name, command, seconds=900, waits=False, why_not=lambda: None):
        self.name, self.command, self.seconds, self.waits, self.why_not = name, command, seconds, waits, why_not


STAGES = [
    Stage("build with gcc", ["make", "-j2", "all", "units"]),
    Stage("build with clang", ["make", "-j2", "BUILD=clang", "all", "units"]),
    Stage("build with sanitizers", ["make", "-j2", "BUILD=asan", "all", "units"]),
    Stage("build with tsan", ["make", "-j2", "BUILD=tsan", "all"]),
    Stage("check", ["make", "check"]),
    Stage("unit tests", ["make", "-j2", "test-quick"]),
    Stage("unit tests, asan", ["make", "-j2", "test-asan"]),
    Stage("unit tests, tsan", ["make", "-j2", "test-tsan"]),
    Stage("simulator", ["make", "-j2", "sim"]),
    Stage("simulated cluster", ["make", "-j2", "sim", "CLUSTER=1"]),
    Stage("crash images", ["make", "-j2", "crash", "CRASH_IMAGES=1000"]),
    Stage("fuzz", ["make", "-j2", "fuzz"], seconds=1800),
    # The longest first: the others fill the time beside it.
    Stage("real clients, io_uring", [PYTHON, "tests/e2e/run.py", "--tern", "build/release/tern", "--backend", "io_uring"],
          seconds=1800, waits=True, why_not=io_uring_forbidden),
    # Who may come in and what for is the same over either door to the kernel.
    Stage("real clients, epoll", [PYTHON, "tests/e2e/run.py", "--tern", "build/release/tern", "--backend", "epoll"] +
          ([] if io_uring_forbidden() else ["--without", "ternctl,auth,auth_http,listeners,rules,revocation,store_tool,failing_disk,"
           "cluster_retained,cluster_identity,cluster_shares,cluster_strangers,cluster_relay"]),
          seconds=1800, waits=True),
    Stage("conformance, wss, asan", CONFORMANCE + ["build/asan/tern", "--backend", "epoll", "--transport", "wss"],
          seconds=1200, waits=True),
    Stage("deploy", ["/usr/bin/python3", "tests/deploy/run.py"], waits=True),
    Stage("load tool", [PYTHON, "tests/bench/run.py"], waits=True),
    Stage("conformance, epoll, tsan", CONFORMANCE + ["build/tsan/tern", "--backend", "epoll", "--shards", "3"], waits=True),
    Stage("conformance, epoll, asan", CONFORMANCE + ["build/asan/tern", "--backend", "epoll", "--shards", "1"], waits=True),
    Stage("conformance, io_uring", CONFORMANCE + ["build/release/tern", "--backend", "io_uring"], waits=True,
          why_not=io_uring_forbidden),
    Stage("conformance, epoll", CONFORMANCE + ["build/release/tern", "--backend", "epoll"], waits=True),
    Stage("several hosts", ["make", "hosts"], waits=True),
    Stage("memory fails in a cluster", ["make", "torture-nodes"], waits=True),
    Stage("memory fails", ["make", "torture"], waits=True),
]


def run_command(command, seconds, log_path):
    """The exit status; None when it took too long. The whole process group ends with it."""
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def run_stage(stage, number, failures):
    """[passed, failed, skipped]. What failed is added to failures by name: the log's end may show other tests."""
    why_not = stage.why_not()
    if why_not:
        print("%-28s skipped: %s" % (stage.name, why_not), flush=True)
        return [0, 0, 1]
    log_path = os.path.join(LOGS, "%02d-%s.log" % (number, re.sub(r"[^a-z0-9_]+", "-", stage.name)))
    began = time.monotonic()
    status = run_command(stage.command, stage.seconds, log_path)
    with open(log_path, encoding="utf-8", errors="replace") as log:
        output = log.read()
    found = COUNTS.findall(output)
    counts = [int(n) for n in found[-1]] if found else [int(status == 0), 0, 0]
    if status != 0 and counts[1] == 0:
        counts[1] = 1
    took = time.monotonic() - began
    lines = ["%-28s %5d passed, %d failed, %d skipped   %4.0f s" % (stage.name, *counts, took)]
    if counts[1]:
        names = FAILED.findall(output) or ["see " + os.path.relpath(log_path, ROOT)]
        failures += ["%s: %s" % (stage.name, name) for name in names]
        lines.append("    `%s` %s; the end of %s:" % (" ".join(stage.command), "took too long" if status is None else
                                                     "ended with status %d" % status, os.path.relpath(log_path, ROOT)))
        lines += ["    " + line for line in output.splitlines()[-TAIL_LINES:]]
    print("\n".join(lines), flush=True)  # at once: others print beside it
    return counts


def run_stages(chosen, failures):
    """The counts of all: the busy ones in their order, then those that wait."""
    busy = [run_stage(stage, number, failures) for number, stage in chosen if not stage.waits]
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        waiting = list(pool.map(lambda numbered: run_stage(numbered[1], numbered[0], failures),
                                [numbered for numbered in chosen if numbered[1].waits]))
    return [sum(counts) for counts in zip(*(busy + waiting))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="TEXT", help="only stages whose name holds TEXT")
    parser.add_argument("--list", action="store_true", help="name the stages and end")
    args = parser.parse_args()
    os.makedirs(LOGS, exist_ok=True)
    chosen = [(i, s) for i, s in enumerate(STAGES, 1) if not args.only or args.only in s.name]
    if args.list:
        for _, stage in chosen:
            print("%-28s %s" % (stage.name, " ".join(stage.command)))
        return 0
    if not chosen:
        sys.exit("no stage's name holds '%s'; --list names them" % args.only)
    failures = []
    totals = run_stages(chosen, failures)
    line = "%d passed, %d failed, %d skipped" % tuple(totals)
    with open(os.path.join(LOGS, "summary"), "w", encoding="utf-8") as summary:
        summary.write(line + "\n")
    for failure in failures:
        print("failed: " + failure)
    print(line)
    return 1 if totals[1] else 0


if __name__ == "__main__":
    sys.exit(main())
