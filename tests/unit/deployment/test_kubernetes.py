"""The Kubernetes examples: valid by the published schemas, and their commands are known to `hpo`."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from tests.unit.deployment.files import check_command, manifests

# The oldest that its schemas are there for, and the newest.
VERSIONS = ("1.25", kubernetes_validate.latest_version())
OBJECTS = {f"{found['kind']} {found['metadata']['name']}": found for found in manifests()}


def pods() -> dict[str, dict[str, Any]]:
    return {
        name: found["spec"]["template"]["spec"]
        for name, found in OBJECTS.items()
        if "template" in found.get("spec", {})
    }


PODS = pods()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OBJECTS)
def test_the_schema(name: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[name], version, strict=True)


def test_the_schema_refuses_a_mistake() -> None:
    wrong = {**OBJECTS["Deployment hpo-worker"], "spek": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", PODS)
def test_the_commands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in OBJECTS["ConfigMap hpo-study"]["data"].items():
        monkeypatch.setenv(key, value)
    (container,) = PODS[name]["containers"]
    check_command(container["args"])
    assert "command" not in container, "tini and hpo are the image's entry point"


@pytest.mark.parametrize("name", PODS)
def test_names_refer_to_what_is_there(name: str) -> None:
    (container,) = PODS[name]["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} <= {
        v["name"] for v in PODS[name]["volumes"]
    }
    claims = [
        v["persistentVolumeClaim"]["claimName"] for v in PODS[name]["volumes"] if "persistentVolumeClaim" in v
    ]
    assert all(f"PersistentVolumeClaim {claim}" in OBJECTS for claim in claims)
    assert all(f"ConfigMap {source['configMapRef']['name']}" in OBJECTS for source in container["envFrom"])


@pytest.mark.parametrize("name", PODS)
def test_a_pod_may_do_little_and_holds_no_secret(name: str) -> None:
    pod = PODS[name]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    secret = {entry["name"]: "secretKeyRef" in entry.get("valueFrom", {}) for entry in container["env"]}
    assert secret == {"HPO_STORAGE": True, "PGPASSWORD": True}


def test_a_worker_gives_its_leases_back_before_it_is_killed() -> None:
    pod = PODS["Deployment hpo-worker"]
    (container,) = pod["containers"]
    script = container["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert script.startswith("kill -INT 1; sleep ")
    waits = int(script.rpartition(" ")[2])
    # One Ctrl-C lets epochs end for 60 s; SIGTERM, which comes after the hook, takes at most 10 s more.
    assert waits >= 60 + 10
    assert pod["terminationGracePeriodSeconds"] >= waits + 10
    assert "livenessProbe" not in container


def test_the_deployment_selects_its_pods() -> None:
    spec = OBJECTS["Deployment hpo-worker"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert "HorizontalPodAutoscaler" not in {found["kind"] for found in OBJECTS.values()}
