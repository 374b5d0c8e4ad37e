#!/usr/bin/env python3
"""Tests the load tool against brokers of which every step is planned. One line a case.

Usage: tests/bench/run.py [build/release/tern-bench] [--only TEXT] [--jobs N] [--list]
"""

import argparse
import concurrent.futures
import os
import resource
import sys
import time
import traceback

import cases_arguments
import cases_broker
import cases_compare
import cases_faults
import cases_good
import cases_output
import cases_time
import cases_traffic
from tool import Skip, Tool, Wrong

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODULES = (cases_broker, cases_arguments, cases_good, cases_faults, cases_traffic, cases_output, cases_compare,
           cases_time)
SLOW_S = 5  # a case that takes longer shows its time


def run_case(case, tool):
    """(outcome, what to say of it)"""
    began = time.monotonic()
    try:
        case.check(tool)
        outcome, text = "passed", ""
    except Skip as skip:
        outcome, text = "skipped", str(skip)
    except Wrong as wrong:
        outcome, text = "failed", str(wrong)
    except Exception:  # a mistake of the test must not end the others
        outcome, text = "failed", traceback.format_exc()
    took = time.monotonic() - began
    return outcome, text + (" [%.0f s]" % took if took > SLOW_S else "")


def show(case, outcome, text):
    word = "ok" if outcome == "passed" else outcome.upper()
    print("%-7s %s%s" % (word, case.name, ": " + text.strip() if text else ""), flush=True)


def run_all(chosen, tool, jobs):
    """Counts by outcome. Those that measure time come last, one by one."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    together, alone = [c for c in chosen if not c.alone], [c for c in chosen if c.alone]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for case, (outcome, text) in zip(together, pool.map(lambda case: run_case(case, tool), together)):
            counts[outcome] += 1
            show(case, outcome, text)
    for case in alone:
        outcome, text = run_case(case, tool)
        counts[outcome] += 1
        show(case, outcome, text)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", nargs="?", default=os.path.join(ROOT, "build/release/tern-bench"))
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases whose name holds TEXT")
    parser.add_argument("--jobs", type=int, default=3, help="cases at a time (3)")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    args = parser.parse_args()
    chosen = [case for module in MODULES for case in module.cases() if args.only in case.name]
    if args.list:
        print("\n".join(case.name for case in chosen))
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 16384), hard), hard))  # brokers of thousands of clients
    counts = run_all(chosen, Tool(os.path.abspath(args.program)), args.jobs)
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % counts)
    return 1 if counts["failed"] or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
