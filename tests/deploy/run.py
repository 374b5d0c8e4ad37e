#!/usr/bin/python3
"""What deploy/ holds, judged by the tools that will read it: systemd's, HAProxy's. The last line is
"N passed, N failed, N skipped"."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEPLOY = os.path.join(ROOT, "deploy")
TERN = os.path.join(ROOT, "build/release/tern")
EXPOSURE_MOST = 20  # of systemd-analyze security, in tenths; a service without any hardening has 96


class Skip(Exception):
    pass


def need(program):
    if not shutil.which(program):
        raise Skip("%s is not installed" % program)


def run(*command):
    """(status, both outputs)"""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                          check=False)
    return done.returncode, done.stdout.decode(errors="replace")


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def read(*names):
    with open(os.path.join(DEPLOY, *names), encoding="utf-8") as f:
        return f.read()


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def unit(directory):
    """The unit, with the program where it has been built."""
    text = read("systemd", "tern.service")
    check("ExecStart=/usr/bin/tern " in text, "the unit starts /usr/bin/tern")
    return write(directory, "tern.service", text.replace("/usr/bin/tern", TERN))


def test_unit_is_valid(directory):
    need("systemd-analyze")
    status, said = run("systemd-analyze", "verify", "--man=no", unit(directory))
    check(status == 0 and "tern.service" not in said, said)


def test_unit_is_hardened(directory):
    need("systemd-analyze")
    status, said = run("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=%d" % EXPOSURE_MOST,
                       unit(directory))
    check(status == 0, said[-400:])


def test_a_wrong_configuration_is_not_started_again(directory):
    """RestartPreventExitStatus names the status with which tern ends then."""
    status, said = run(TERN, "--config", write(directory, "bad.yaml", "lisners: []\n"))
    named = re.search(r"^RestartPreventExitStatus=(\d+)$", read("systemd", "tern.service"), re.MULTILINE)
    check(named and int(named.group(1)) == status, "tern ended with %d: %s" % (status, said))


def test_stopping_has_the_time_it_needs(directory):
    status, said = run(TERN, "--print-config")
    grace = re.search(r"^drain:\n(?:(?:  .*)?\n)*?  grace: (\d+)s", said, re.MULTILINE)
    given = re.search(r"^TimeoutStopSec=(\d+)s$", read("systemd", "tern.service"), re.MULTILINE)
    check(status == 0 and grace and given and int(given.group(1)) > int(grace.group(1)), "TimeoutStopSec against drain.grace")


def test_user_is_valid(directory):
    need("systemd-sysusers")
    status, said = run("systemd-sysusers", "--dry-run", "--root=" + directory, os.path.join(DEPLOY, "systemd/tern.sysusers"))
    check(status == 0 and "tern" in said, said)


def test_haproxy_takes_its_configuration(directory):
    need("haproxy")
    text, count = re.subn(r"tern-\d:", "127.0.0.1:", read("haproxy", "haproxy.cfg"))
    check(count == 6, "three nodes, with TLS and without")
    status, said = run("haproxy", "-c", "-f", write(directory, "haproxy.cfg", text))
    check(status == 0 and "warning" not in said.lower(), said)


def main():
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name, function in list(globals().items()):
        if not name.startswith("test_"):
            continue
        with tempfile.TemporaryDirectory(prefix="tern-deploy-") as directory:
            result, why = "passed", ""
            try:
                function(directory)
            except Skip as e:
                result, why = "skipped", ": %s" % e
            except AssertionError as e:
                result, why = "failed", ": %s" % e
            except Exception:  # a test that stumbles is a failed test
                result, why = "failed", ":\n" + traceback.format_exc()
        counts[result] += 1
        print("%-8s%s%s" % (result, name, why), flush=True)
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % counts)
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
