"""The manifests for Kubernetes."""

import os
import re

import yaml

from kit import DEPLOY, TERN, Skip, check, grace_seconds, need, read, run, write

BASE = os.path.join(DEPLOY, "kubernetes/base")


def manifests():
    """{(kind, name): manifest} of the base."""
    found = {}
    for name in yaml.safe_load(read("kubernetes/base/kustomization.yaml"))["resources"]:
        for document in yaml.safe_load_all(read("kubernetes/base", name)):
            found[document["kind"], document["metadata"]["name"]] = document
    return found


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
