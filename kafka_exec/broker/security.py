"""The secured cluster: certificates, users and access rules."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kafka_exec.broker.errors import BrokerNotInstalled

INTERNAL_NAME = "kafka-exec-internal"
SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"


@dataclass(frozen=True)
class Secured:
    """The files of a secured cluster.

    Clients connect over TLS with a SCRAM password and may do only what a rule allows. The nodes, and this package when it
    adds users and rules, connect to listeners of their own with a certificate of another authority that exists only here.
    So the cluster needs no password and no open listener before the first user exists.
    """

    folder: Path

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that clients must trust."""
        return self.folder / "ca.pem"

    @property
    def _internal_ca(self) -> Path:
        return self.folder / "internal-ca.pem"

    @property
    def _internal_identity(self) -> Path:
        return self.folder / "internal.pem"

    @property
    def _server_identity(self) -> Path:
        return self.folder / "server.pem"

    def create(self, hosts: list[str]) -> None:
        """Makes the certificates, unless an earlier start on the same folder has made them.

        Raises:
            BrokerNotInstalled: a package is missing.
        """
        if self.ca_file.exists():
            return
        try:
            import trustme
        except ImportError as error:
            raise BrokerNotInstalled("trustme") from error
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        public, internal = trustme.CA(), trustme.CA()
        _write_identity(self._server_identity, public.issue_cert("localhost", *hosts))
        _write_identity(self._internal_identity, internal.issue_cert(*hosts, common_name=INTERNAL_NAME))
        internal.cert_pem.write_to_path(self._internal_ca)
        # This file is written last, since its presence says that all are there.
        public.cert_pem.write_to_path(self.ca_file)

    def properties(self) -> dict[str, str]:
        """The properties of Kafka for listeners, users and rules."""
        internal = {
            "ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._internal_identity),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._internal_ca),
        }
        return {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            # No user of clients can have this name: add_user refuses it, and the mapping is for certificates only.
            "super.users": f"User:{INTERNAL_NAME}",
            "ssl.principal.mapping.rules": f"RULE:^.*CN={INTERNAL_NAME}.*$/{INTERNAL_NAME}/,DEFAULT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
            **{
                f"listener.name.clients.{mechanism}.sasl.jaas.config": f"{SCRAM_MODULE} required;"
                for mechanism in ("scram-sha-256", "scram-sha-512")
            },
            "listener.name.clients.ssl.keystore.type": "PEM",
            "listener.name.clients.ssl.keystore.location": str(self._server_identity),
            **{f"listener.name.internal.{key}": value for key, value in internal.items()},
            **{f"listener.name.controller.{key}": value for key, value in internal.items()},
        }

    def internal_client(self) -> dict[str, str]:
        """librdkafka's properties for a client of the internal listener, which may do everything."""
        return {
            "security.protocol": "SSL",
            "ssl.ca.location": str(self._internal_ca),
            "ssl.certificate.location": str(self._internal_identity),
            "ssl.key.location": str(self._internal_identity),
        }

    def client(self, user: str, password: str, mechanism: str) -> dict[str, str]:
        """librdkafka's properties for a client with a password."""
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.ca_file),
            "sasl.mechanism": mechanism,
            "sasl.username": user,
            "sasl.password": password,
        }


def _write_identity(path: Path, certificate: object) -> None:
    """Writes key and certificates in the one form of PEM that Kafka reads (PKCS 8)."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )
    from trustme import LeafCert

    assert isinstance(certificate, LeafCert)
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        for pem in certificate.cert_chain_pems:
            file.write(pem.bytes())
