#!/usr/bin/env python3
"""Runs each libFuzzer target for FUZZ_SECONDS, two at a time, on a corpus that lives in build/fuzz/corpus.

Seeds are those of fuzz_seeds.py; libFuzzer adds what it finds, so that a later run goes on where this one stopped. What
made a target fail is kept in build/fuzz/found.
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from fuzz_seeds import seeds

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SECONDS = int(os.environ.get("FUZZ_SECONDS", "20"))


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
