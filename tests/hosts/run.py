#!/usr/bin/python3
"""Runs the stories of several hosts: real nodes in network namespaces, while machines, cables and links fail.

The last line is "N passed, N failed, N skipped". Where namespaces are forbidden all are skipped, with the reason.
"""

import argparse
import importlib
import os
import re
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "e2e"), os.path.dirname(HERE)]

from kit import Skip  # noqa: E402
from lab import Lab  # noqa: E402
from lib import hosts  # noqa: E402
from lib.broker import Options  # noqa: E402

COUNTS = re.compile(r"(\d+) passed, (\d+) failed, (\d+) skipped")
MODULES = ["machines", "partitions", "links", "rolling", "growth"]


def stories(only):
    for name in MODULES:
        module = importlib.import_module(name)
        for test, function in list(vars(module).items()):
            if test.startswith("test_") and callable(function) and (not only or only in "%s.%s" % (name, test)):
                yield "%s.%s" % (name, test), function


def tell(function, opts):
    """Returns (result, message)."""
    lab, logs = Lab(opts), ""
    try:
        try:
            function(lab)
        finally:
            logs = "".join("\n    the log of %s ends:\n%s" % (b.settings["node.name"], b.log_tail(25))
                           for b in lab.brokers if os.path.exists(b.log_path))
            lab.end()
    except Skip as e:
        return "skipped", str(e)
    except AssertionError as e:
        return "failed", "%s%s" % (e, logs)
    except Exception:  # a story that stumbles has failed
        return "failed", traceback.format_exc() + logs
    return "passed", "\n".join(lab.said)


def tell_all(chosen, opts):
    """One after the other. Returns how many passed, failed, were skipped."""
    count = {"passed": 0, "failed": 0, "skipped": 0}
    hosts.enter()
    for name, function in chosen:
        start = time.monotonic()
        result, message = tell(function, opts)
        count[result] += 1
        print("%-7s %s (%.1f s)%s" % (result, name, time.monotonic() - start,
                                      "\n    " + message.replace("\n", "\n    ") if message else ""), flush=True)
    return count


def share_out(chosen, jobs):
    """Start this program again for parts of the stories, each in a laboratory of its own: they mostly wait."""
    count = {"passed": 0, "failed": 0, "skipped": 0}
    parts = [subprocess.Popen([sys.executable] + sys.argv + ["--part", "%d/%d" % (i, jobs)], stdout=subprocess.PIPE,
                              text=True) for i in range(jobs)]
    for part in parts:
        output, _ = part.communicate()
        lines = output.splitlines()
        found = COUNTS.match(lines[-1]) if lines else None
        print("\n".join(lines[:-1] if found else lines + ["a part of the stories ended with %d" % part.returncode]), flush=True)
        for name, n in zip(count, found.groups() if found else (0, 1, 0)):
            count[name] += int(n)
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tern", metavar="PATH", help="the broker (default: build/release/tern)")
    parser.add_argument("--backend", default="auto", choices=["epoll", "io_uring", "auto"])
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--only", metavar="PATTERN", help="stories whose name (module.function) contains it")
    parser.add_argument("--rounds", type=int, default=1, help="tell all of them so often")
    parser.add_argument("--jobs", type=int, default=3, help="so many at a time")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    chosen = list(stories(args.only)) * args.rounds
    why = None if args.part else hosts.forbidden()
    if why:
        print("skipped: %s" % why)
        count = {"passed": 0, "failed": 0, "skipped": len(chosen)}
    elif args.part or args.jobs == 1 or len(chosen) == 1:
        first, step = map(int, (args.part or "0/1").split("/"))
        count = tell_all(chosen[first::step], Options(args.tern, args.backend, args.shards))
    else:
        count = share_out(chosen, min(args.jobs, len(chosen)))
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % count)
    return 1 if count["failed"] or not sum(count.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
