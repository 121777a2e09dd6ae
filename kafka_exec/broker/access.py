"""Users and access rules of a secured cluster, set with an admin client that may do everything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from kafka_exec.broker.errors import BrokerError

MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256")
ITERATIONS = 4096

#: A change must be answered, and be in force, within this time; it is looked for this often; seconds.
TIMEOUT = 15.0
POLL = 0.02

#: Kafka's name for the cluster as a resource.
CLUSTER = "kafka-cluster"


def add_user(admin: AdminClient, name: str, password: str) -> None:
    """Adds a user, or changes a user's password, for both SCRAM mechanisms; returns when it is in force.

    Raises:
        BrokerError: the broker refused it, or it is not in force in time.
    """
    for mechanism in MECHANISMS:  # one request each: Kafka refuses a request that names a user twice
        credential = ScramCredentialInfo(ScramMechanism[mechanism.replace("-", "_")], ITERATIONS)
        upsertion = UserScramCredentialUpsertion(name, credential, password.encode())
        _done(admin.alter_user_scram_credentials([upsertion]), f"user {name}")

    def known() -> bool:
        try:
            description = admin.describe_user_scram_credentials([name])[name].result(TIMEOUT)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.RESOURCE_NOT_FOUND:
                return False
            raise
        return len(description.scram_credential_infos) == len(MECHANISMS)

    _wait(known, f"user {name}")


def allow(admin: AdminClient, user: str, operation: str, resource: str, name: str, prefix: bool) -> None:
    """Adds an access rule; returns when it is in force. Arguments as in :meth:`EmbeddedKafka.allow`.

    Raises:
        BrokerError: the broker refused it, or it is not in force in time.
    """
    kind = ResourceType.BROKER if resource == "cluster" else ResourceType[resource.upper()]
    pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
    rule: tuple[Any, ...] = (
        kind,
        CLUSTER if resource == "cluster" else name,
        pattern,
        f"User:{user}",
        "*",
        AclOperation[operation.upper()],
        AclPermissionType.ALLOW,
    )
    _done(admin.create_acls([AclBinding(*rule)]), f"rule for {user}")
    _wait(lambda: bool(admin.describe_acls(AclBindingFilter(*rule)).result(TIMEOUT)), f"rule for {user}")


def _done(futures: dict[Any, Any], what: str) -> None:
    for future in futures.values():
        try:
            future.result(TIMEOUT)
        except KafkaException as error:
            raise BrokerError(f"the broker refused the {what}: {error.args[0].str()}") from error


def _wait(in_force: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not in_force():
        if time.monotonic() > deadline:
            raise BrokerError(f"the {what} was accepted and is not in force after {TIMEOUT:.0f} s")
        time.sleep(POLL)
