#!/usr/bin/env python3
"""Runs the conformance tests against a real broker and prints which normative statements they prove.

Each folder v*/ holds one module per chapter of the specification. numbers5.txt lists the numbers of all normative
statements, statements5.txt those that no test of a server can prove, with the reason: first column the number, second
`client` (it binds clients only) or `untestable`. A statement with neither a test nor a reason fails the run.
"""

import argparse
import concurrent.futures
import importlib
import os
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]

from kit import Env, Skip  # noqa: E402
from lib.broker import Broker, BrokerDied, Options, Unsupported  # noqa: E402
from lib.mqtt import Client  # noqa: E402

EDITIONS = [("MQTT 5.0", "MQTT-", "5"), ("MQTT 3.1.1", "MQTT311-", "311")]
LOG_LINES = 60


class Test:
    def __init__(self, module, function):
        self.name = "%s.%s" % (module.__name__, function.__name__)
        self.function, self.module = function, module.__name__
        self.settings = getattr(function, "settings", {})
        self.alone = getattr(function, "alone", False)
        self.covers = getattr(function, "covers", ())
        self.result, self.message, self.log, self.seconds = None, "", [], 0.0


def discover(pattern):
    tests = []
    for folder in sorted(os.listdir(HERE)):
        if not folder.startswith("v") or not os.path.isdir(os.path.join(HERE, folder)):
            continue
        for file in sorted(os.listdir(os.path.join(HERE, folder))):
            if file.endswith(".py") and not file.startswith("_"):
                module = importlib.import_module("%s.%s" % (folder, file[:-3]))
                tests += [Test(module, f) for name, f in vars(module).items()
                          if name.startswith("test_") and callable(f) and f.__module__ == module.__name__]
    return [t for t in tests if not pattern or pattern in t.name or any(pattern in s for s in t.covers)]


class Group:
    """Tests that share one broker. A broker that died is started again, so that the others still run."""

    def __init__(self, key, options):
        self.settings, self.options, self.tests = dict(key[1]), options, []
        self.broker, self.dead, self.lock = None, [], threading.Lock()

    def ready(self):
        with self.lock:
            if self.broker is None or not self.broker.alive():
                if self.broker is not None:
                    self.dead.append(self.broker)  # tests that still run may want to see its log
                self.broker = Broker(self.options, self.settings)
                self.broker.start()
            return self.broker

    def end(self):
        """Returns what was wrong with the ends of its brokers."""
        problems = []
        for broker in self.dead + [self.broker]:
            if broker is not None:
                problems += broker.stop()
                broker.remove()
        return problems


def run_test(test, group):
    env, start = None, time.monotonic()
    try:
        env = Env(group.ready(), test.name.split("test_")[-1].replace(".", "-"))
        try:
            test.function(env)
        finally:
            env.end()
        env.broker.check()
        if env.failures:
            raise AssertionError("%d cases failed\n      %s" % (len(env.failures), "\n      ".join(env.failures)))
        test.result = "passed"
    except (Skip, Unsupported) as e:
        test.result, test.message = "skipped", str(e)
    except BrokerDied as e:
        test.result, test.message = "failed", str(e)
    except AssertionError as e:
        test.result, test.message = "failed", str(e)
        if env and not env.broker.alive():
            test.message += "\n    the broker had died:\n" + env.broker.log_tail()
    except ConnectionError as e:
        test.result, test.message = "failed", "no connection: %s" % e
    except Exception:  # a test that stumbles is a failed test
        test.result, test.message = "failed", traceback.format_exc()
    if test.result == "failed" and env:
        test.log = env.log
    test.seconds = time.monotonic() - start


def report(test, verbose):
    if test.result == "failed":
        print("FAIL %s (%.1f s) %s\n    %s" % (test.name, test.seconds, " ".join(test.covers), test.message))
        if len(test.log) > LOG_LINES:
            print("      ... %d lines before" % (len(test.log) - LOG_LINES))
        for line in test.log[-LOG_LINES:]:
            print("     ", line)
    elif verbose or test.result == "skipped":
        print("%-4s %s (%.1f s) %s" % ({"passed": "ok", "skipped": "skip"}[test.result], test.name, test.seconds,
                                       test.message))
    sys.stdout.flush()


def run_group(group, jobs, verbose):
    """Returns the number of failures that belong to no test: a broker that did not end well."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run_test, t, group): t for t in group.tests}
        for done in concurrent.futures.as_completed(running):
            done.result()
            report(running[done], verbose)
    problems = group.end()
    if problems:
        print("FAIL the broker of %s %s\n    %s" % (group.tests[0].module, group.settings, "\n".join(problems)))
    return 1 if problems else 0


def read_reasons(path):
    """Number -> (kind, why)."""
    reasons = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                number, kind, why = line.split(None, 2)
                if kind not in ("client", "untestable") or number in reasons:
                    raise SystemExit("%s: bad line: %s" % (path, line))
                reasons[number] = (kind, why.strip())
    return reasons


def statement_row(number, tests, reasons):
    """(state, explanation) of one statement."""
    results = {t.result for t in tests}
    names = " ".join(t.name for t in tests)
    if "failed" in results:
        return "FAILED", " ".join(t.name for t in tests if t.result == "failed")
    if "passed" in results:
        return "covered", names
    if number in reasons:
        return reasons[number]
    return ("skipped", names) if tests else ("MISSING", "neither a test nor a reason")


def print_statements(tests, title, prefix, suffix):
    """The table of one edition's statements. Returns the number of statements nobody looks after."""
    numbers_path = os.path.join(HERE, "numbers%s.txt" % suffix)
    if not os.path.exists(numbers_path):
        return 0
    with open(numbers_path, encoding="utf-8") as f:
        numbers = [line.strip() for line in f if line.strip() and not line.startswith("#")]
    reasons = read_reasons(os.path.join(HERE, "statements%s.txt" % suffix))
    by_number = {}
    for t in tests:
        for number in t.covers:
            if number.startswith(prefix):
                by_number.setdefault(number, []).append(t)
    unknown = sorted(set(by_number) | set(reasons)) if not numbers else sorted(
        (set(by_number) | set(reasons)) - set(numbers))

    counts = {}
    print("\n%s, normative statements:" % title)
    for number in numbers:
        state, why = statement_row(number, by_number.get(number, []), reasons)
        counts[state] = counts.get(state, 0) + 1
        print("  %-18s %-11s %s" % (number, state, why))
    print("%s: %d statements: %s" % (title, len(numbers), ", ".join("%d %s" % (n, s) for s, n in counts.items())))
    for number in unknown:
        print("  %s is not in the list of numbers" % number)
    return counts.get("MISSING", 0) + len(unknown)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    Options.add_arguments(parser)
    parser.add_argument("--only", metavar="PATTERN", help="tests whose name or a statement of theirs contains it")
    parser.add_argument("--jobs", type=int, default=4, help="tests at once on one broker (default 4)")
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    Client.transport = args.transport

    Client.lenient = args.mosquitto  # we promise reason codes; others need not
    tests, groups = discover(args.only), {}
    for t in tests:
        key = (t.name if t.alone else t.module, tuple(sorted(t.settings.items())))
        groups.setdefault(key, Group(key, Options.of_arguments(args))).tests.append(t)
    broker_failures = sum(run_group(g, args.jobs, args.verbose) for g in groups.values())

    missing = 0
    if not args.only:
        missing = sum(print_statements(tests, *edition) for edition in EDITIONS)
        if missing:
            print("%d statements have neither a test nor a reason, or are unknown" % missing)
    count = {r: sum(t.result == r for t in tests) for r in ("passed", "failed", "skipped")}
    count["failed"] += broker_failures + (1 if missing else 0)
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % count)
    return 1 if count["failed"] or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
