"""docker/k8s without a cluster: Kubernetes' own schemas, and what they cannot say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kafka_exec.broker.install.distribution import KAFKA_VERSION
from kafka_exec.cli import kafka
from kafka_exec.settings.environment import from_environment
from tests.snippets import ROOT

FOLDER = ROOT / "docker" / "k8s"
FILES = sorted(FOLDER.glob("*.yaml"))
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]

#: The oldest and the newest version that the manifests are checked against.
VERSIONS = ("1.32", "1.37")

#: Resources that are no part of Kubernetes.
OTHERS = ("Kustomization", "ScaledObject")

Manifest = dict[str, Any]


def manifests() -> Iterator[Manifest]:
    for path in FILES:
        yield from yaml.safe_load_all(path.read_text())


ALL = list(manifests())
NAMED = [each for each in ALL if each["kind"] != "Kustomization"]
WORKLOADS = [each for each in ALL if each["kind"] in ("Deployment", "StatefulSet")]
(CONFIG,) = (each for each in ALL if each["kind"] == "ConfigMap")
OURS = [each for each in WORKLOADS if each["metadata"]["name"] != "kafka"]
SCALER = next(each for each in ALL if each["kind"] == "ScaledObject")

workloads = pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each["metadata"]["name"])
ours = pytest.mark.parametrize("workload", OURS, ids=lambda each: each["metadata"]["name"])


def pod(workload: Manifest) -> Manifest:
    found: Manifest = workload["spec"]["template"]["spec"]
    return found


def container(workload: Manifest) -> Manifest:
    (found,) = pod(workload)["containers"]
    return dict(found)


def labels(workload: Manifest) -> Manifest:
    found: Manifest = workload["spec"]["template"]["metadata"]["labels"]
    return found


def of_kind(kind: str, name: str) -> Manifest | None:
    return next((each for each in NAMED if (each["kind"], each["metadata"]["name"]) == (kind, name)), None)


@pytest.mark.parametrize("version", VERSIONS)
def test_they_keep_to_the_schemas_of_kubernetes(version: str) -> None:
    checked = [each for each in ALL if each["kind"] not in OTHERS]
    assert checked
    for each in checked:
        kubernetes_validate.validate(each, version, strict=True)


def test_all_files_are_applied_but_that_of_keda() -> None:
    applied = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert {*applied, "kustomization.yaml", "scale.yaml"} == {path.name for path in FILES}
    assert len({(each["kind"], each["metadata"]["name"]) for each in NAMED}) == len(NAMED)


@workloads
def test_a_pod_has_no_rights_that_it_does_not_need(workload: Manifest) -> None:
    found, only = pod(workload), container(workload)
    assert found["automountServiceAccountToken"] is False
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["runAsUser"] > 0
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", only["image"]), "the tag is fixed"


@workloads
def test_a_pod_is_looked_after(workload: Manifest) -> None:
    only = container(workload)
    assert {"livenessProbe", "readinessProbe"} <= set(only)
    assert only["resources"]["requests"].keys() >= {"cpu", "memory"}
    assert "memory" in only["resources"]["limits"]
    assert pod(workload)["enableServiceLinks"] is False, "variables of services would be taken for settings"
    assert workload["spec"]["selector"]["matchLabels"] == labels(workload)


@workloads
def test_of_several_pods_one_at_a_time_may_be_evicted(workload: Manifest) -> None:
    if workload["spec"].get("replicas") == 1:
        return
    budget = of_kind("PodDisruptionBudget", workload["metadata"]["name"])
    assert budget is not None
    assert budget["spec"] == {"maxUnavailable": 1, "selector": {"matchLabels": labels(workload)}}


def test_services_lead_to_ports_of_pods() -> None:
    services = [each for each in ALL if each["kind"] == "Service"]
    assert len(services) == 3
    for service in services:
        (target,) = (each for each in WORKLOADS if labels(each) == service["spec"]["selector"])
        open_ports = {(each["name"], each["containerPort"]) for each in container(target)["ports"]}
        assert {(each["name"], each["port"]) for each in service["spec"]["ports"]} == open_ports


@ours
def test_it_runs_what_the_compose_file_runs(workload: Manifest) -> None:
    name, arguments = workload["metadata"]["name"], container(workload)["args"]
    if name == "control-plane":
        assert arguments[0] == "kafka"
        assert arguments[1] in kafka.commands
    else:
        assert arguments == COMPOSE[{"beat": "beat-1"}.get(name, name)]["command"]


@ours
def test_the_nodes_of_a_prefix_are_probed_by_their_files(workload: Manifest) -> None:
    only = container(workload)
    if any(each["name"] == "http" for each in only["ports"]):
        return
    assert only["ports"] == [{"name": "metrics", "containerPort": int(CONFIG["data"]["KAFKA_EXEC_METRICS_PORT"])}]
    compose = COMPOSE["worker"]["healthcheck"]["test"][1:]
    assert only["readinessProbe"]["exec"]["command"] == compose
    assert only["livenessProbe"]["exec"]["command"] == [each for each in compose if each != "--ready"]


def test_the_settings_are_known_and_their_paths_may_be_written() -> None:
    settings: dict[str, str] = CONFIG["data"]
    assert set(from_environment(settings)) == {"replication", "health_file", "metrics_port", "metrics_host"}
    assert set(settings) - {"KAFKA_EXEC_REPLICATION"} <= set(COMPOSE["worker"]["environment"])
    for each in OURS:
        only = container(each)
        assert only["envFrom"] == [{"configMapRef": {"name": CONFIG["metadata"]["name"]}}]
        written = [mount["mountPath"] for mount in only["volumeMounts"]]
        assert str(Path(settings["KAFKA_EXEC_HEALTH_FILE"]).parent) in written


# -- Kafka -------------------------------------------------------------------------------------------------------------


def test_three_brokers_lose_nothing_when_one_of_them_is_away() -> None:
    (brokers,) = (each for each in WORKLOADS if each["kind"] == "StatefulSet")
    number = brokers["spec"]["replicas"]
    told = {each["name"]: each.get("value") for each in container(brokers)["env"]}
    voters = told["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")
    assert voters == [f"{node}@kafka-{node}.kafka:9093" for node in range(number)]
    replicas = {name: value for name, value in told.items() if "REPLICATION_FACTOR" in name}
    assert len(replicas) == 3
    assert set(replicas.values()) == {str(number)}
    assert {value for name, value in told.items() if "MIN_I" in name} == {str(number - 1)}
    assert container(brokers)["image"] == f"apache/kafka:{KAFKA_VERSION}"
    service = of_kind("Service", brokers["spec"]["serviceName"])
    assert service is not None
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_the_application_knows_all_brokers() -> None:
    hosts = re.fullmatch(r"kafka-exec://([^:/]+):9092", CONFIG["data"]["EXAMPLE_BROKER_URL"])
    assert hosts is not None
    assert hosts[1].split(",") == [f"kafka-{node}.kafka" for node in range(3)]


# -- the number of workers ---------------------------------------------------------------------------------------------


def test_the_scaler_is_of_the_workers_and_knows_their_slots() -> None:
    worker = of_kind("Deployment", SCALER["spec"]["scaleTargetRef"]["name"])
    assert worker is not None
    assert "replicas" not in worker["spec"], "each apply would set it again"
    told = SCALER["spec"]["triggers"][0]["metadata"]
    assert f"--concurrency={told['threshold']}" in container(worker)["args"]
    assert all(isinstance(value, str) for value in told.values()), "KEDA takes texts only"


def test_who_moves_delayed_tasks_is_there_also_if_there_are_no_workers() -> None:
    assert SCALER["spec"]["minReplicaCount"] == 0
    plane = of_kind("Deployment", "control-plane")
    assert plane is not None
    assert plane["spec"]["replicas"] > 0


def test_a_worker_that_goes_has_time_for_what_it_runs() -> None:
    worker = of_kind("Deployment", "worker")
    assert worker is not None
    assert pod(worker)["terminationGracePeriodSeconds"] >= 600
    assert worker["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
