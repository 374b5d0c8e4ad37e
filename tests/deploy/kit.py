"""What the tests of deploy/ share."""

import os
import re
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEPLOY = os.path.join(ROOT, "deploy")
TERN = os.path.join(ROOT, "build/release/tern")


class Skip(Exception):
    pass


def need(program):
    if not shutil.which(program):
        raise Skip("%s is not installed" % program)


def run(*command, environment=None):
    """(status, both outputs)"""
    done = subprocess.run(command, env=dict(os.environ, **(environment or {})), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
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


def grace_seconds():
    status, said = run(TERN, "--print-config")
    grace = re.search(r"^drain:\n(?:(?:  .*)?\n)*?  grace: (\d+)s", said, re.MULTILINE)
    check(status == 0 and grace, "drain.grace in seconds")
    return int(grace.group(1))
