#!/usr/bin/python3
"""What deploy/ holds, judged by the tools that will read it: systemd's, HAProxy's, kubectl; and by what the programs
themselves say. The last line is "N passed, N failed, N skipped"."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEPLOY = os.path.join(ROOT, "deploy")
TERN = os.path.join(ROOT, "build/release/tern")
EXPOSURE_MOST = 20  # of systemd-analyze security, in tenths; a service without any hardening has 96


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


def test_stopping_has_the_time_it_needs(_):
    given = re.search(r"^TimeoutStopSec=(\d+)s$", read("systemd", "tern.service"), re.MULTILINE)
    check(given and int(given.group(1)) > grace_seconds(), "TimeoutStopSec against drain.grace")


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


# ---- Kubernetes ------------------------------------------------------------------------------------------------------

BASE = os.path.join(DEPLOY, "kubernetes/base")


def manifests():
    """{(kind, name): manifest} of the base."""
    found = {}
    for name in yaml.safe_load(read("kubernetes/base/kustomization.yaml"))["resources"]:
        for document in yaml.safe_load_all(read("kubernetes/base", name)):
            found[document["kind"], document["metadata"]["name"]] = document
    return found


def grace_seconds():
    status, said = run(TERN, "--print-config")
    grace = re.search(r"^drain:\n(?:(?:  .*)?\n)*?  grace: (\d+)s", said, re.MULTILINE)
    check(status == 0 and grace, "drain.grace in seconds")
    return int(grace.group(1))


def test_manifests_fit_together(_):
    """What one manifest names is in another: labels, ports, volumes, services; and the configuration means the same."""
    found = manifests()
    stateful = found["StatefulSet", "tern"]["spec"]
    pod, labels = stateful["template"]["spec"], stateful["template"]["metadata"]["labels"]
    container = pod["containers"][0]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    config = yaml.safe_load(read("kubernetes/base/tern.yaml"))
    check(stateful["selector"]["matchLabels"] == labels, "the set's selector")
    for kind, name in (("Service", "tern"), ("Service", "tern-nodes")):
        spec = found[kind, name]["spec"]
        check(spec["selector"] == labels, name + " selects the pods")
        for port in spec["ports"]:
            check(port.get("targetPort", port["port"]) in list(ports) + list(ports.values()), "port %s of %s" % (port["name"], name))
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        spec = found[kind, "tern"]["spec"]
        check(spec.get("selector", spec.get("podSelector"))["matchLabels"] == labels, kind + " is about the pods")
    nodes = found["Service", stateful["serviceName"]]["spec"]
    check(nodes["clusterIP"] == "None" and nodes["publishNotReadyAddresses"], "the nodes find each other before they are ready")
    check(config["cluster"]["seeds"] == ["%s:%d" % (stateful["serviceName"], ports["cluster"])], "the seeds are that service")
    check(config["cluster"]["bootstrap_expect"] == stateful["replicas"], "all of the first nodes found the cluster")
    check(config["cluster"]["listen"].endswith(":%d" % ports["cluster"]) and ports["gossip"] == ports["cluster"], "links and gossip")
    check(config["admin"]["listen"].endswith(":%d" % ports["admin"]), "the admin port")
    check([l["address"].rsplit(":", 1)[1] for l in config["listeners"]] == [str(ports["mqtts"])], "the clients' port")
    volumes = {v["name"] for v in pod["volumes"] + [{"name": c["metadata"]["name"]} for c in stateful["volumeClaimTemplates"]]}
    check({m["name"] for m in container["volumeMounts"]} == volumes, "what is mounted, is there")
    check(config["data"] in [m["mountPath"] for m in container["volumeMounts"]], "the data are on a volume")
    check({container[p]["httpGet"]["path"] for p in ("startupProbe", "livenessProbe")} == {"/livez"} and
          container["readinessProbe"]["httpGet"]["path"] == "/readyz", "the probes")
    check(pod["terminationGracePeriodSeconds"] > grace_seconds(), "it has the time to drain")


def test_configuration_of_pods(directory):
    """The broker takes it, with the environment of a pod and the files of the secrets."""
    ternctl = os.path.join(os.path.dirname(TERN), "ternctl")
    certs, text = os.path.join(directory, "certs"), read("kubernetes/base/tern.yaml")
    status, said = run(ternctl, "certs", certs, "--node", "tern")
    check(status == 0, said)
    passwords = os.path.join(directory, "passwords")
    open(passwords, "w", encoding="ascii").close()
    for name, path in (("cluster/ca.crt", "ca.crt"), ("cluster/tls.crt", "tern.crt"), ("cluster/tls.key", "tern.key"),
                       ("cluster/gossip.keys", "gossip.keys"), ("mqtt/tls.crt", "tern.crt"), ("mqtt/tls.key", "tern.key")):
        check("/etc/tern/" + name in text, "the configuration names " + name)
        text = text.replace("/etc/tern/" + name, os.path.join(certs, path))
    text = text.replace("/etc/tern/mqtt/passwords", passwords).replace("/var/lib/tern", os.path.join(directory, "data"))
    check("/etc/tern/" not in text, "every file of the configuration is in a secret")
    status, said = run(TERN, "--test-config", "--config", write(directory, "tern.yaml", text),
                       environment={"TERN_NODE__NAME": "tern-0", "TERN_CLUSTER__ADVERTISE": "10.1.2.3:7000", "POD_IP": "10.1.2.3"})
    check(status == 0, said)


def test_overlays_render(_):
    need("kubectl")
    version = re.search(r"Kustomize Version: v(\d+)", run("kubectl", "version", "--client")[1])
    if not version or int(version.group(1)) < 4:
        raise Skip("this kubectl is too old to render the overlays")
    for overlay in os.listdir(os.path.join(DEPLOY, "kubernetes/overlays")):
        status, said = run("kubectl", "kustomize", os.path.join(DEPLOY, "kubernetes/overlays", overlay))
        check(status == 0, said)
        kinds = {d["kind"] for d in yaml.safe_load_all(said)}
        check(kinds == {k for k, _ in manifests()} | {"ConfigMap"}, "%s: all of the base, %s" % (overlay, kinds))


# ---- the image -------------------------------------------------------------------------------------------------------

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
