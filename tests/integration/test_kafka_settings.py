"""Kafka itself takes the settings that docker/ gives to its image: it formats a folder by them, and starts nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kafka_exec.broker.install.distribution import libraries
from kafka_exec.broker.install.java import command, find_java
from tests.integration.workers import PATIENCE, ROOT

#: A variable of the image that is no setting of Kafka.
HEAP = "KAFKA_HEAP_OPTS"


def of_compose() -> dict[str, str]:
    found: Any = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    return dict(found["services"]["kafka"]["environment"])


def of_kubernetes() -> dict[str, str]:
    """The environment of the first pod."""
    manifests: list[Any] = list(yaml.safe_load_all((ROOT / "docker" / "k8s" / "kafka.yaml").read_text()))
    (brokers,) = (each for each in manifests if each["kind"] == "StatefulSet")
    (container,) = brokers["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    pod = {"POD_NAME": "kafka-0", "KAFKA_NODE_ID": "0"}
    assert {each["name"] for each in container["env"] if "value" not in each} == set(pod)
    return {name: value.replace("$(POD_NAME)", pod["POD_NAME"]) for name, value in {**pod, **told}.items()}


def formatted(environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Does what the image does at its first start: makes a file of the variables, and formats the folder of the data."""
    environment = {**environment, "KAFKA_LOG_DIRS": str(folder / "data")}
    names = [name for name in environment if name.startswith("KAFKA_") and name != HEAP]
    lines = [f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={environment[name]}" for name in names]
    (folder / "server.properties").write_text("\n".join(lines))
    cluster = environment.get("CLUSTER_ID", "4L6g3nShT-eMCtK--X86sw")
    arguments = ("format", f"--cluster-id={cluster}", "-c", str(folder / "server.properties"))
    program = command(find_java(), libraries(lambda _: None), "kafka.tools.StorageTool", *arguments)
    return subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize("environment", [of_compose(), of_kubernetes()], ids=["compose", "Kubernetes"])
def test_kafka_takes_the_settings(environment: dict[str, str], tmp_path: Path) -> None:
    done = formatted(environment, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "data" / "meta.properties").is_file()
