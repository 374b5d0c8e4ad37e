#!/usr/bin/python3
"""What deploy/ holds, judged by the tools that will read it: systemd's, HAProxy's, kubectl; and by what the programs
themselves say. The last line is "N passed, N failed, N skipped"."""

import argparse
import importlib
import os
import sys
import tempfile
import traceback

from kit import Skip

MODULES = ["units", "balancer", "kubernetes", "packages", "image"]


def run_test(function):
    """("passed", "failed" or "skipped", why)"""
    with tempfile.TemporaryDirectory(prefix="tern-deploy-") as directory:
        try:
            function(directory)
        except Skip as e:
            return "skipped", ": %s" % e
        except AssertionError as e:
            return "failed", ": %s" % e
        except Exception:  # a test that stumbles is a failed test
            return "failed", ":\n" + traceback.format_exc()
    return "passed", ""


def main():
    parser = argparse.ArgumentParser(description="the tests of deploy/")
    parser.add_argument("--only", metavar="TEXT", default="", help="only tests whose module.name holds TEXT")
    args = parser.parse_args()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for module in MODULES:
        for name, function in list(vars(importlib.import_module(module)).items()):
            if not name.startswith("test_") or args.only not in module + "." + name:
                continue
            result, why = run_test(function)
            counts[result] += 1
            print("%-8s%s.%s%s" % (result, module, name, why), flush=True)
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % counts)
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
