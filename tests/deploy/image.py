"""The container image."""

import os
import re

from kit import TERN, check, read, run


def test_image_has_the_libraries(_):
    """The packages that the last stage installs bring every library that a program is linked with."""
    last_stage = read("container/Containerfile").split("bookworm-slim")[1]
    for program in ("tern", "ternctl", "tern-bench"):
        status, said = run("objdump", "-p", os.path.join(os.path.dirname(TERN), program))
        needed = re.findall(r"^ *NEEDED +(\S+)", said, re.MULTILINE)
        check(status == 0 and needed, said)
        for library in needed:
            owners = {line.split(":")[0] for line in run("dpkg", "-S", "*/" + library)[1].splitlines()}
            check(owners & (set(last_stage.split()) | {"libc6"}), "%s needs %s, of %s" % (program, library, owners))
