"""The Kombu transport ``kafka-exec://``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from confluent_kafka import libversion
from kombu.transport import base

from kafka_exec import errors
from kafka_exec.core.cluster.settings import KAFKA, Settings
from kafka_exec.kafka.client.properties import bootstrap_servers, client_properties
from kafka_exec.kafka.cluster.cluster import cluster
from kafka_exec.settings.appconf import require_all_prepared
from kafka_exec.settings.environment import PASSWORD, USER, from_environment
from kafka_exec.settings.options import APP_OPTION, check_options
from kafka_exec.settings.url import split, warn_of_number
from kafka_exec.transport.channel import Channel
from kafka_exec.transport.connection import Connection
from kafka_exec.transport.namespace import namespace

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Management(base.Management):
    def get_bindings(self) -> list[dict[str, str]]:
        """The bindings of all work queues, in the form that ``celery list bindings`` prints."""
        space = self.transport.client.default_channel.connection.space
        return [
            {"source": binding.exchange, "destination": binding.queue, "routing_key": binding.routing_key}
            for binding in space.bindings.all()
        ]


class Transport(base.Transport):
    """The transport by which Celery and Kombu use Kafka. It connects nothing before it is used."""

    Management = _Management

    default_port = 9092
    driver_type = "kafka"
    driver_name = "confluent-kafka"
    tls = False

    connection_errors = recoverable_connection_errors = (errors.ConnectionFailed,)
    channel_errors = (errors.ChannelFailed,)
    # A channel that has refused an operation refuses its repetition too, so Kombu need not retry it.
    recoverable_channel_errors = ()

    implements = base.default_transport_capabilities.extend(
        asynchronous=True,
        batch_publish=True,
        exchange_type=frozenset(["direct", "topic", "fanout"]),
        heartbeats=False,
    )

    def driver_version(self) -> str:
        return f"librdkafka {libversion()[0]}"

    @property
    def default_connection_params(self) -> dict[str, Any]:
        return {"hostname": "localhost", "port": self.default_port, "virtual_host": "/"}

    @property
    def settings(self) -> Settings:
        """The settings of kafka_exec that are in force; nothing is connected.

        Raises:
            ConfigurationError: a setting is wrong.
        """
        return Settings.read(
            self.client.transport_options or {}, split(self.client.virtual_host)[1], from_environment()
        )

    def establish_connection(self) -> Connection:
        """Connects to the cluster, unless this process is connected already.

        Raises:
            ConnectionFailed: no broker answers within the connection timeout.
            AccessRefused: the cluster refuses the credentials or the certificate.
            ConfigurationError: a setting is wrong.
            ImproperlyConfigured: a Celery app of this process was made without the parts of kafka_exec.
        """
        client = self.client
        options: Mapping[str, Any] = client.transport_options or {}
        if APP_OPTION not in options:
            require_all_prepared()
        check_options(options)
        prefix = split(client.virtual_host)[0]
        warn_of_number(prefix)
        settings = self.settings
        properties = client_properties(
            servers=bootstrap_servers(client.hostname, client.port or self.default_port),
            settings=settings,
            user=client.userid or os.environ.get(USER),
            password=client.password or os.environ.get(PASSWORD),
            mechanism=client.login_method,
            tls=client.ssl or self.tls,
            extra=from_environment().get(KAFKA, options.get(KAFKA)),
        )
        found = cluster(properties, settings)
        found.connect(client.connect_timeout or 5)
        return Connection(client, self, namespace(found, prefix))

    def close_connection(self, connection: Connection) -> None:
        connection.close()

    def _collect(self, connection: Connection | None) -> None:
        """Closes a connection after a connection error. Kombu calls it in a forked child too: there it touches nothing."""
        if connection is not None and not connection.is_inherited:
            connection.close()

    def create_channel(self, connection: Connection) -> Channel:
        channel = Channel(connection)
        connection.channels.append(channel)
        return channel

    def close_channel(self, channel: Channel) -> None:
        channel.close()

    def verify_connection(self, connection: Connection) -> bool:
        """True if the connection is open and was made in this process. librdkafka reconnects by itself."""
        return connection.connected and not connection.is_inherited

    def drain_events(self, connection: Connection, timeout: float | None = None, **kwargs: Any) -> None:
        connection.drain_events(timeout)

    def register_with_event_loop(self, connection: Connection, loop: Any) -> None:
        loop.add_reader(connection.waker.fileno(), connection.on_readable)

    def unregister_from_event_loop(self, connection: Connection, loop: Any) -> None:
        loop.remove_reader(connection.waker.fileno())

    def qos_semantics_matches_spec(self, connection: Connection) -> bool:
        """Returns False: a prefetch count bounds the whole channel, and may be changed while consumers run."""
        return False


class SSLTransport(Transport):
    """The transport ``kafka-execs://``: the same over TLS."""

    tls = True
