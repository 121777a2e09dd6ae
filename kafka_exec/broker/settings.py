"""The configuration files of one node: Kafka's properties and its logging."""

from __future__ import annotations

from pathlib import Path

from kafka_exec.broker.ports import NodeAddress
from kafka_exec.broker.security import Secured

INTERNAL_PARTITIONS = 8


def properties(node: int, addresses: list[NodeAddress], data: Path, secured: Secured | None) -> dict[str, str]:
    """Kafka's properties of a combined broker and controller."""
    here, count = addresses[node], len(addresses)
    replicas = min(3, count)
    in_sync = str(max(1, replicas - 1))
    listeners = {"CLIENTS": here.port, "CONTROLLER": here.controller}
    protocols = {"CLIENTS": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    if secured:
        listeners["INTERNAL"] = here.internal
        protocols = {"CLIENTS": "SASL_SSL", "CONTROLLER": "SSL", "INTERNAL": "SSL"}
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": ",".join(
            f"{each}@{address.host}:{address.controller}" for each, address in enumerate(addresses)
        ),
        "controller.listener.names": "CONTROLLER",
        "listeners": ",".join(f"{name}://{here.host}:{port}" for name, port in listeners.items()),
        "advertised.listeners": ",".join(
            f"{name}://{here.host}:{port}" for name, port in listeners.items() if name != "CONTROLLER"
        ),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "inter.broker.listener.name": "INTERNAL" if secured else "CLIENTS",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(replicas),
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": str(replicas),
        "offsets.topic.num.partitions": str(INTERNAL_PARTITIONS),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": str(INTERNAL_PARTITIONS),
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": str(INTERNAL_PARTITIONS),
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "group.consumer.min.session.timeout.ms": "1000",
        "group.consumer.min.heartbeat.interval.ms": "100",
        "group.coordinator.rebalance.protocols": "classic,consumer,streams,share",
        # The cluster notices within seconds that a node was killed, and uses one that is back again.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "replica.lag.time.max.ms": "5000",
        # The default of 128 MB would be a third of the heap.
        "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.recovery.threads.per.data.dir": "2",
        **(secured.properties() if secured else {}),
    }


def write_properties(path: Path, values: dict[str, str]) -> None:
    """Writes a properties file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")


def logging_properties(log: Path) -> dict[str, str]:
    """log4j's configuration: one file that is rolled, so that a broker that runs for long does not fill the disk."""
    return {
        # log4j's own hook would close the log while Kafka still has to log its shutdown.
        "shutdownHook": "disable",
        "appender.file.type": "RollingFile",
        "appender.file.name": "file",
        "appender.file.fileName": str(log),
        "appender.file.filePattern": f"{log}.%i",
        "appender.file.layout.type": "PatternLayout",
        "appender.file.layout.pattern": "%d %p %m (%c)%n",
        "appender.file.policies.type": "Policies",
        "appender.file.policies.size.type": "SizeBasedTriggeringPolicy",
        "appender.file.policies.size.size": "10MB",
        "appender.file.strategy.type": "DefaultRolloverStrategy",
        "appender.file.strategy.max": "3",
        "rootLogger.level": "INFO",
        "rootLogger.appenderRef.file.ref": "file",
    }
