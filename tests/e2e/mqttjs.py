"""MQTT.js: mqttjs_client.js under Node.js, the package installed into build/e2e-node from package-lock.json."""

import filecmp
import os
import shutil

from kit import alone, HERE, Skip, check_equal
from lib.broker import ROOT

NODE = os.path.join(ROOT, "build", "e2e-node")
SCENARIOS = ["ok eachWay", "ok retained", "ok will", "ok reconnect"]


def install(ctx):
    """Returns the folder of the installed packages; installs them when package-lock.json has changed."""
    with alone():
        return install_alone(ctx)


def install_alone(ctx):
    if not shutil.which("node") or not shutil.which("npm"):
        raise Skip("Node.js or npm is not installed")
    modules, installed = os.path.join(NODE, "node_modules"), os.path.join(NODE, "installed")
    lock = os.path.join(HERE, "package-lock.json")
    if os.path.exists(installed) and filecmp.cmp(lock, installed, shallow=False):
        return modules
    os.makedirs(NODE, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(HERE, name), NODE)
    try:
        ctx.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], 300, cwd=NODE)
    except AssertionError as e:
        raise Skip("MQTT.js cannot be installed: %s" % str(e).strip().splitlines()[-1]) from None
    shutil.copy(lock, installed)
    return modules


def run_version(ctx, version):
    modules = install(ctx)
    broker = ctx.broker()
    out = ctx.run(["node", os.path.join(HERE, "mqttjs_client.js"), str(broker.port), str(version)], 120,
                  env={**os.environ, "NODE_PATH": modules})
    check_equal(out.splitlines(), SCENARIOS + (["ok properties"] if version == 5 else []), "what it printed")


def test_mqtt_3_1(ctx):
    run_version(ctx, 3)


def test_mqtt_3_1_1(ctx):
    run_version(ctx, 4)


def test_mqtt_5(ctx):
    run_version(ctx, 5)
