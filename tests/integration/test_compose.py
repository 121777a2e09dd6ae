"""docker/compose.yaml without Docker: each service's command, with its environment, as a process on the embedded Kafka."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.broker.install.distribution import KAFKA_VERSION
from tests.integration.compose_services import COMPOSE, OURS, SERVICES, service
from tests.integration.workers import PATIENCE, ROOT, until

OTHERS = [name for name in SERVICES if name not in OURS]
PROFILES = {"monitoring": ["prometheus", "grafana"], "ui": ["kafka-ui"], "redis": ["redis"]}


def test_it_keeps_to_the_schema_of_compose() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout


def test_its_kafka_is_the_one_that_the_tests_run_on() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    if name != "kafka":  # its image writes its settings into a folder that holds more
        assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True)
    assert service["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert re.fullmatch(r"[\w./-]+:(v?\d+\.\d+\.\d+[\w.-]*|local)", service["image"]), "the tag is fixed"


def test_nobody_is_root() -> None:
    assert "\nUSER 10001\n" in (ROOT / "docker" / "Dockerfile").read_text()
    assert [name for name in OTHERS if int(SERVICES[name]["user"].partition(":")[0]) == 0] == []


def test_the_profiles_add_services_and_the_rest_needs_none() -> None:
    found = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert found == {name: [profile] for profile, names in PROFILES.items() for name in names}


@pytest.mark.parametrize("name", PROFILES["monitoring"])
def test_what_is_mounted_exists(name: str) -> None:
    mounted = [volume.split(":")[0] for volume in SERVICES[name]["volumes"] if volume.startswith("./")]
    assert mounted
    assert [path for path in mounted if not (COMPOSE.parent / path).is_file()] == []


def test_prometheus_scrapes_the_exporter_and_reads_the_rules() -> None:
    told = yaml.safe_load((COMPOSE.parent / "monitoring" / "prometheus.yaml").read_text())
    (port,) = (each for each in SERVICES["exporter"]["command"] if each.startswith("--port="))
    job, processes = told["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"exporter:{port.removeprefix('--port=')}"]}]
    (named,) = processes["dns_sd_configs"]
    assert [name for name, each in SERVICES.items() if each.get("command", [""])[0] in ("worker", "beat")] == named[
        "names"
    ]
    for name in named["names"]:
        assert SERVICES[name]["environment"]["KAFKA_EXEC_METRICS_PORT"] == str(named["port"])
    folder = "/etc/prometheus/"
    mounted = [volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]]
    assert {folder + name for name in (*told["rule_files"], "prometheus.yaml")} <= set(mounted)


def test_each_service_runs_until_it_is_healthy_and_stops_when_it_is_told_to(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path
) -> None:
    url = f"{kafka.url}/{prefix}"
    with ExitStack() as stack:
        services = [stack.enter_context(service(name, url, tmp_path)) for name in OURS]
        for each in services:
            until(lambda each=each: each.is_healthy, what=f"{each.name} to be healthy")
        for each in services:
            each.end()
