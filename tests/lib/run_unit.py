#!/usr/bin/env python3
"""Runs unit-test programs one after the other and adds up what CUnit counted.

A program that crashes, hangs, is stopped by a sanitizer or counts nothing is one failure more, whatever it printed.
"""

import re
import subprocess
import sys

SECONDS = 300
SUMMARY = re.compile(r"^\s*tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+\S+", re.MULTILINE)
OWN = re.compile(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?")


def run(program):
    """(passed, failed, skipped, output, ended well)"""
    try:
        done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS, check=False)
        output, code = done.stdout.decode("utf-8", "replace"), done.returncode
    except subprocess.TimeoutExpired as late:
        output, code = (late.stdout or b"").decode("utf-8", "replace") + "\nended after %d s" % SECONDS, -1
    summary, own = SUMMARY.search(output), OWN.findall(output)
    if own:
        passed, failed, skipped = (int(n or 0) for n in own[-1])
    elif summary:
        passed, failed, skipped = int(summary.group(3)), int(summary.group(4)), 0
    else:
        passed, failed, skipped = 0, 0, 0
    if failed == 0 and (code != 0 or passed + skipped == 0):
        failed = 1
    return passed, failed, skipped, output, code


def main(programs):
    totals = [0, 0, 0]
    for program in programs:
        passed, failed, skipped, output, code = run(program)
        for i, n in enumerate((passed, failed, skipped)):
            totals[i] += n
        print("%-60s %4d passed, %d failed%s" % (program, passed, failed, ", %d skipped" % skipped if skipped else ""))
        if failed:
            print("%s\n%s ended with status %d\n" % (output, program, code))
        sys.stdout.flush()
    print("%d passed, %d failed, %d skipped" % tuple(totals))
    return 1 if totals[1] or not programs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
