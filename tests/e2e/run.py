#!/usr/bin/python3
"""Runs the end-to-end tests: real client programs, the broker's operation, and storms, against real broker processes.

The last line is "N passed, N failed, N skipped". Debian's own python3 is needed for the Paho package that Debian
brings; another interpreter hands over to it.
"""

import argparse
import importlib
import importlib.util
import os
import sys
import time
import traceback

DEBIAN_PYTHON = "/usr/bin/python3"
if importlib.util.find_spec("paho") is None and os.path.exists(DEBIAN_PYTHON) and "E2E_PYTHON" not in os.environ:
    os.environ["E2E_PYTHON"] = DEBIAN_PYTHON
    os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON] + sys.argv)

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kit import Context, Skip  # noqa: E402
from lib.broker import Options, Unsupported  # noqa: E402

MODULES = ["mosquitto_clients", "c_clients", "paho_python", "mqttjs", "browser", "start_and_stop", "running", "admin", "dashboard", "ternctl",
           "storm", "tls", "websocket", "proxy", "unix", "auth", "auth_http", "listeners", "rules", "revocation", "load_tool", "durable", "failing_disk",
           "store_tool", "cluster", "cluster_shares", "cluster_sessions", "cluster_identity", "cluster_relay",
           "cluster_strangers", "cluster_retained", "admin_api", "drain", "ternctl_admin"]


def run_test(function, opts):
    """Returns (result, message)."""
    ctx = Context(opts)
    try:
        try:
            function(ctx)
        finally:
            logs = "".join("\n    the broker's log ends:\n" + b.log_tail(15) for b in ctx.brokers
                           if os.path.exists(b.log_path))
            ctx.end()
    except (Skip, Unsupported) as e:
        return "skipped", str(e)
    except AssertionError as e:
        return "failed", "%s%s" % (e, logs)
    except Exception:  # a test that stumbles is a failed test
        return "failed", traceback.format_exc() + logs
    return "passed", ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    Options.add_arguments(parser)
    parser.add_argument("--only", metavar="PATTERN", help="tests whose name (module.function) contains it")
    parser.add_argument("--without", metavar="MODULE,...", default="", help="modules to leave out")
    args = parser.parse_args()
    opts = Options.of_arguments(args)
    opts.tern = os.path.abspath(opts.tern)

    count = {"passed": 0, "failed": 0, "skipped": 0}
    without = args.without.split(",")
    for module in (importlib.import_module(name) for name in MODULES if name not in without):
        for name, function in list(vars(module).items()):
            full = "%s.%s" % (module.__name__, name)
            if not name.startswith("test_") or not callable(function) or (args.only and args.only not in full):
                continue
            start = time.monotonic()
            result, message = run_test(function, opts)
            count[result] += 1
            print("%-7s %s (%.1f s)%s" % (result, full, time.monotonic() - start,
                                          "\n    " + message.replace("\n", "\n    ") if message else ""))
            sys.stdout.flush()
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % count)
    return 1 if count["failed"] or not sum(count.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
