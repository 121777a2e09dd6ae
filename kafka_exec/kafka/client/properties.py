"""The librdkafka properties that a URL, Celery's security settings and the secrets file make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kafka_exec.core.cluster.settings import KAFKA, PREFIX, Settings, check_value
from kafka_exec.errors import ConfigurationError

_SSL = {
    "ca_certs": "ssl.ca.location",
    "cafile": "ssl.ca.location",
    "ssl_ca_certs": "ssl.ca.location",
    "certfile": "ssl.certificate.location",
    "ssl_certfile": "ssl.certificate.location",
    "keyfile": "ssl.key.location",
    "ssl_keyfile": "ssl.key.location",
    "keyfile_password": "ssl.key.password",
    "password": "ssl.key.password",
    "ciphers": "ssl.cipher.suites",
}
_SSL_VERIFY = ("cert_reqs", "ssl_cert_reqs")


def bootstrap_servers(hosts: str | None, port: int | None) -> str:
    """``h1:port,h2:port`` of the host part of a URL, in which several hosts of one port stand between commas."""
    names = [host.strip() for host in (hosts or "").split(",")]
    return ",".join(f"{host}:{port or 9092}" for host in names if host) or f"127.0.0.1:{port or 9092}"


def client_properties(
    *,
    servers: str,
    settings: Settings,
    user: str | None = None,
    password: str | None = None,
    mechanism: str | None = None,
    tls: bool | Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The librdkafka properties by which every client of a cluster is made.

    Args:
        servers: ``bootstrap.servers``.
        user: with it SASL is used; ``mechanism`` is SCRAM-SHA-512 unless given.
        tls: True, or a mapping as Celery's ``broker_use_ssl``: ``ca_certs``, ``certfile``, ``keyfile``, ``cert_reqs`` …
        extra: properties that win over all others.

    Raises:
        ConfigurationError: the secrets file cannot be read.
    """
    extra = {} if extra is None else extra
    check_value(KAFKA, extra, lambda name: f'broker_transport_options["{name}"]')
    made: dict[str, Any] = {**_secrets(settings.secrets_file), "bootstrap.servers": servers}
    if user:
        made["sasl.username"] = user
        made["sasl.password"] = password or made.get("sasl.password", "")
    if "sasl.username" in made:
        made["sasl.mechanism"] = mechanism or made.get("sasl.mechanism") or "SCRAM-SHA-512"
    elif mechanism and mechanism not in ("PLAIN", "AMQPLAIN", "EXTERNAL"):
        made["sasl.mechanism"] = mechanism
    for name, value in tls.items() if isinstance(tls, Mapping) else ():
        if name in _SSL:
            made[_SSL[name]] = value
        elif name in _SSL_VERIFY:
            made["enable.ssl.certificate.verification"] = str(value) not in ("0", "CERT_NONE", "VerifyMode.CERT_NONE")
        elif "." in name:
            made[name] = value
        else:
            raise ConfigurationError(
                f"broker_use_ssl: unknown key {name!r}; known are {', '.join([*_SSL, *_SSL_VERIFY])}"
            )
    names = (*made, *extra)
    stated = str(made.get("security.protocol", "")).lower()
    sasl = stated.startswith("sasl_") or any(name.startswith("sasl.") for name in names)
    encrypted = bool(tls) or stated.endswith("ssl") or any(name.startswith("ssl.") for name in names)
    made["security.protocol"] = ("sasl_" if sasl else "") + ("ssl" if encrypted else "plaintext")
    made.update(extra)
    return made


def _secrets(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{PREFIX}secrets_file {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        # The parser's message would quote the file.
        raise ConfigurationError(f"{PREFIX}secrets_file {path} is not JSON") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{PREFIX}secrets_file {path} must hold a JSON object of librdkafka properties")
    if "sasl.mechanisms" in found:  # librdkafka knows it by two names
        found["sasl.mechanism"] = found.pop("sasl.mechanisms")
    return found
