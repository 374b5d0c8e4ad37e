#!/usr/bin/env python3
"""Compares every #include line with the table in tests/layers.

Why: the direction of the includes is the architecture. A codec that knows a connection, or a session that knows a
socket, compiles just as well; only a rule that is checked keeps them apart.
"""

import fnmatch
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOP = ("proto", "storage", "cluster", "broker", "bench")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
# What the C library and the kernel bring: no library of its own, so no home is needed.
SYSTEM = re.compile(r"^(assert|ctype|dirent|endian|errno|fcntl|fnmatch|getopt|grp|inttypes|limits|locale|malloc|math|netdb|"
                    r"poll|pwd|sched|semaphore|signal|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|"
                    r"string|strings|syslog|termios|time|unistd|(sys|net|netinet|arpa|linux)/[a-z0-9_]+)\.h$")


def read_table(path):
    """Two dictionaries, folder -> folders it may include, and <header> pattern -> files and folders that may."""
    folders, foreign = {}, {}
    with open(path, encoding="utf-8") as table:
        for number, line in enumerate(table, 1):
            line = line.split("#")[0].strip()
            if not line:
                continue
            left, colon, right = line.partition(":")
            left = left.strip()
            rows = foreign if left.startswith("<") else folders
            if not colon or left in rows:
                sys.exit("%s:%d: not a row, or a second one for %s" % (path, number, left))
            rows[left] = right.split()
    for folder, allowed in folders.items():
        for name in allowed:
            if name not in folders:
                sys.exit("%s: %s may include %s, which has no row" % (path, folder, name))
    return folders, foreign


def check_own(path, target, folders):
    """What is wrong with `path` including our own header `target`, or None."""
    source = target.replace(".pb-c.h", ".proto")  # made from it in the build directory
    if not os.path.exists(os.path.join(ROOT, source)):
        return '"%s" is not a path from the root' % target
    here, there = os.path.dirname(path), os.path.dirname(target)
    if here not in folders:
        return "the folder %s has no row in tests/layers" % here
    if there != here and there not in folders[here]:
        return "%s may not include %s" % (here, target)
    return None


def check_foreign(path, target, foreign):
    for pattern, homes in foreign.items():
        if fnmatch.fnmatch("<%s>" % target, pattern):
            if path not in homes and os.path.dirname(path) not in homes:
                return "<%s> belongs to %s" % (target, " ".join(homes))
            return None
    if not SYSTEM.match(target):
        return "<%s> has no home in tests/layers" % target
    return None


def check_file(path, text, folders, foreign):
    """Messages for one file; path is relative to the root."""
    messages = []
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        kind, target = match.groups()
        wrong = check_foreign(path, target, foreign) if kind == "<" else check_own(path, target, folders)
        if wrong:
            messages.append("%s:%d: %s" % (path, number, wrong))
    return messages


def check_readme(folders):
    """The README shows the same table to people."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as readme:
        block = re.search(r"```layers\n(.*?)```", readme.read(), re.DOTALL)
    shown = {}
    for line in block.group(1).splitlines() if block else ():
        left, _, right = line.partition(":")
        shown[left.strip()] = right.split()
    return [] if shown == folders else ["README.md: the include table differs from tests/layers"]


def self_test(folders, foreign):
    """The checker must be able to fail: lines that break the table, and what it has to say to each."""
    rows = [("proto/base/x.c", '#include "broker/base/config.h"', True), ("proto/base/x.c", "#include <yaml.h>", True),
            ("proto/base/x.c", '#include "slice.h"', True), ("proto/base/x.c", "#include <jansson.h>", True),
            ("broker/nowhere/x.c", '#include "proto/base/slice.h"', True),
            ("broker/base/x.c", '#include "proto/base/slice.h"', False), ("broker/base/x.c", "#include <yaml.h>", False),
            ("proto/base/x.c", "#include <sys/socket.h>", False)]
    for path, line, bad in rows:
        if bool(check_file(path, line, folders, foreign)) != bad:
            sys.exit("check_layers: %s in %s should be %s" % (line, path, "refused" if bad else "taken"))


def main():
    folders, foreign = read_table(os.path.join(ROOT, "tests", "layers"))
    self_test(folders, foreign)
    messages, count = check_readme(folders), 0
    for top in TOP:
        for folder, _, names in sorted(os.walk(os.path.join(ROOT, top))):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    path = os.path.relpath(os.path.join(folder, name), ROOT)
                    with open(os.path.join(ROOT, path), encoding="utf-8") as source:
                        messages += check_file(path, source.read(), folders, foreign)
                    count += 1
    print("\n".join(messages) if messages else "check-layers: %d files keep to the table" % count)
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
