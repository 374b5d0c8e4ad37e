#!/usr/bin/env python3
"""Runs each libFuzzer target for FUZZ_SECONDS, two at a time, on a corpus that lives in build/fuzz/corpus.

Seeds are the golden packets of tests/vectors (their bytes) and the example configuration; libFuzzer adds what it finds,
so that a later run goes on where this one stopped. What made a target fail is kept in build/fuzz/found.
"""

import glob
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
HEX = re.compile(r"^[0-9A-Fa-f ]+$")


def packets():
    """The bytes of every golden packet. Such a line has fields between bars; the packet is the longest hex field."""
    for path in sorted(glob.glob(os.path.join(ROOT, "tests/vectors/**/*.txt"), recursive=True)):
        with open(path, encoding="utf-8") as vectors:
            for line in vectors:
                fields = [f.strip() for f in line.split("|")] if not line.startswith("#") else []
                found = [f for f in fields[1:] if HEX.match(f) and len(f.replace(" ", "")) % 2 == 0]
                if found:
                    yield bytes.fromhex(max(found, key=len).replace(" ", ""))


def seeds(name):
    if name == "fuzz_config":
        with open(os.path.join(ROOT, "deploy/tern.example.yaml"), "rb") as example:
            return [example.read()]
    if name == "fuzz_split":  # where to cut, and the version of the CONNECT before
        return [bytes([3, 0, 1, 9, 0, 2, 5, 0, i % 4]) + p for i, p in enumerate(packets())]
    if name == "fuzz_conn":  # operations: any bytes are some
        return [random.Random(i).randbytes(50 + 8 * i) for i in range(80)]
    return list(packets())


def fuzz(program):
    """(program, whether it held, what it printed)"""
    name = os.path.basename(program)
    corpus, found = os.path.join(ROOT, "build/fuzz/corpus", name), os.path.join(ROOT, "build/fuzz/found")
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(found, exist_ok=True)
    for i, seed in enumerate(seeds(name)):
        with open(os.path.join(corpus, "seed-%04d" % i), "wb") as out:
            out.write(seed)
    command = [program, "-max_total_time=%d" % SECONDS, "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1",
               "-verbosity=0", "-artifact_prefix=%s/%s-" % (found, name), corpus]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS + 120,
                              check=False)
        output, code = done.stdout.decode("utf-8", "replace"), done.returncode
    except subprocess.TimeoutExpired as late:
        output, code = (late.stdout or b"").decode("utf-8", "replace") + "\ndoes not end", -1
    return program, code == 0, output


def main(programs):
    failed = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for program, held, output in pool.map(fuzz, programs):
            runs = re.search(r"number_of_executed_units:\s*(\d+)", output)
            print("%-50s %s runs %s" % (program, runs.group(1) if runs else "no", "held" if held else "FAILED"))
            if not held:
                failed += 1
                print(output[-8000:])
            sys.stdout.flush()
    print("%d passed, %d failed, 0 skipped" % (len(programs) - failed, failed))
    return 1 if failed or not programs else 0


if __name__ == "__main__":
    sys.exit(main([os.path.abspath(p) for p in sys.argv[1:]]))
