"""Settings that have no effect here, of other transports, RedBeat and Celery, each with the advice what to use instead."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

#: The transport options that Kombu itself reads for any transport, or writes there (the policy of a retry).
KOMBUS = frozenset(
    {
        "max_retries",
        "interval_start",
        "interval_step",
        "interval_max",
        "connect_retries_timeout",
        "errback",
        "callback",
        "on_revive",
        "retry_errors",
    }
)

_LEASED = "not needed: what a worker runs stays its own as long as it lives, however long that is"
_CONNECTED = 'not needed: librdkafka keeps its connections by itself; its properties go into "kafka"'
_PROPERTIES = 'write these librdkafka properties into "kafka", which is for all clients'
_RETRIED = "not needed: librdkafka tries again by itself, for kafka_exec_publish_timeout"
_TLS = "broker_use_ssl says it, and kafka-execs:// in the URL"
_CLOUD = "not needed: it is another transport's own"

_BY_ADVICE: Mapping[str, tuple[str, ...]] = {
    _LEASED: (
        "visibility_timeout",
        "ack_emulation",
        "unacked_key",
        "unacked_index_key",
        "unacked_mutex_key",
        "unacked_mutex_expire",
        "unacked_restore_limit",
        "unacked_restore_interval",
        "unacked_restore_throttle",
        "peek_lock_seconds",
        "use_lock_renewal",
        "max_lock_renewal_duration",
        "ack_deadline_seconds",
        "ack_modify_batch_size",
        "enable_exactly_once_delivery",
    ),
    "a queue that is declared with x-max-priority has its own steps": ("priority_steps", "sep"),
    "not needed: each queue is read by itself": ("queue_order_strategy",),
    "not needed: broadcasts have topics of their own": (
        "fanout_prefix",
        "fanout_patterns",
        "sentinel_fanout_compat",
        "supports_fanout",
    ),
    "the path of the URL is the prefix of all topics": ("global_keyprefix", "queue_name_prefix"),
    _CONNECTED: (
        "socket_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_keepalive_options",
        "health_check_interval",
        "reauth_check_interval",
        "max_connections",
        "client_name",
        "socket_settings",
        "read_timeout",
        "write_timeout",
        "polling_interval",
        "wait_time_seconds",
        "connection_wait_time_seconds",
        "pool_size",
        "pool_timeout",
        "uamqp_keep_alive_interval",
    ),
    "broker_connection_timeout says it": ("connect_timeout",),
    _RETRIED: (
        "retry_on_timeout",
        "retry_on_error",
        "retry",
        "retry_policy",
        "retry_total",
        "retry_backoff_factor",
        "retry_backoff_max",
        "retry_timeout_seconds",
    ),
    "not needed: Kafka finds its leaders by itself; the URL may name several hosts, as in kafka-exec://h1,h2:9092": (
        "master_name",
        "min_other_sentinels",
        "sentinel_kwargs",
    ),
    _PROPERTIES: ("kafka_common_config", "kafka_producer_config", "kafka_consumer_config", "kafka_admin_config"),
    "kafka_exec_partitions says it": ("num_partitions",),
    "kafka_exec_replication says it": ("replication_factor",),
    "topics get what they need; an administrator changes the rest with kafka-configs": ("topic_config",),
    "kafka-execs:// in the URL is TLS, a user in the URL is SASL": ("security_protocol",),
    "broker_login_method says it": ("sasl_mechanism", "sasl_mechanisms", "login_method"),
    _TLS: ("ssl", "ssl_keyfile", "ssl_certfile", "ssl_trustfile", "ssl_skip_hostname_check", "is_secure", "secure"),
    "not needed: every message is confirmed": ("confirm_publish",),
    "not needed: AMQP's own": (
        "client_properties",
        "frame_max",
        "channel_max",
        "on_open",
        "on_blocked",
        "on_unblocked",
        "on_tune_ok",
        "login_response",
        "authentication",
        "locale",
        "frame_handler",
        "frame_writer",
        "manager_hostname",
        "manager_port",
        "manager_userid",
        "manager_password",
    ),
    "not needed: bodies are bytes, in Kafka too": ("body_encoding",),
    "rejected messages are in PREFIX.dead.QUEUE, see celery kafka dead": ("deadletter_queue",),
    "not needed: a chord's body always gets its results in order": ("result_chord_ordered",),
    _CLOUD: (
        # Amazon SQS
        "region",
        "regioninfo",
        "port",
        "predefined_queues",
        "predefined_exchanges",
        "client-config",
        "sqs-creation-attributes",
        "queue_tags",
        "sqs_base64_encoding",
        "fetch_message_attributes",
        "sts_role_arn",
        "sts_token_timeout",
        "sts_token_buffer_time",
        # Google Pub/Sub
        "expiration_seconds",
        "bulk_max_messages",
        # PGMQ
        "conn_string",
        "init_extension",
        "use_notify",
        "notify_throttle_interval_ms",
        "poll_interval_ms",
        "max_poll_seconds",
        "fifo_mode",
        # SQLAlchemy
        "queue_tablename",
        "message_tablename",
        # the file system
        "data_folder_in",
        "data_folder_out",
        "store_processed",
        "processed_folder",
        "control_folder",
        # MongoDB
        "readpreference",
        "auto_start_request",
        "ttl",
        "capped_queue_size",
        "calc_queue_size",
        "default_hostname",
        "default_port",
        "default_database",
        "messages_collection",
        "routing_collection",
        "broadcast_collection",
        "queues_collection",
    ),
}

#: The advice for each option of another transport.
OPTIONS: Mapping[str, str] = {name: advice for advice, names in _BY_ADVICE.items() for name in names}

_REDBEAT = (
    "RedBeat's: the schedule of celery beat -S kafka-exec is in Kafka, and any number of beats share it; nothing of this is "
    "needed"
)
_QUORUM = "not needed: a queue is a topic, and its replicas are kafka_exec_replication"
_DELAYED = "not needed: what has an eta or a countdown waits in Kafka by itself"

#: The options without which a connection would be less secure than its user believes.
_SECURITY = frozenset(
    {
        "security_protocol",
        "sasl_mechanism",
        "sasl_mechanisms",
        "ssl",
        "is_secure",
        "secure",
        "ssl_keyfile",
        "ssl_certfile",
        "ssl_trustfile",
    }
)

#: The advice for each of Celery's settings that have no effect here.
SETTINGS: Mapping[str, str] = {
    "broker_native_delayed_delivery_queue_type": _DELAYED,
    "worker_detect_quorum_queues": _QUORUM,
    "task_default_queue_type": _QUORUM,
    "task_create_missing_queue_type": _QUORUM,
    "broker_heartbeat": "AMQP's: kafka_exec_session_timeout says after which silence a worker's share goes to others",
    "broker_heartbeat_checkrate": "AMQP's: kafka_exec_session_timeout says after which silence a worker is lost",
    "beat_cron_starting_deadline": "celery beat -S kafka-exec does not ask it: kafka_exec_beat_catch_up says it",
}

#: The advice for settings whose names begin so.
PREFIXES: Mapping[str, str] = {
    "redbeat_": _REDBEAT,
    "broker_native_delayed_delivery_": _DELAYED,
}

#: The settings of Celery's Redis result back end, which have no effect with another one.
REDIS_RESULTS = frozenset(
    {
        "redis_host",
        "redis_port",
        "redis_db",
        "redis_username",
        "redis_password",
        "redis_max_connections",
        "redis_socket_timeout",
        "redis_socket_connect_timeout",
        "redis_socket_keepalive",
        "redis_retry_on_timeout",
        "redis_backend_use_ssl",
        "redis_backend_health_check_interval",
        "redis_backend_credential_provider",
        "redis_client_name",
    }
)
REDIS_ADVICE = "of Celery's Redis result back end, which this application does not use"

#: The consequence of switching off a safer default.
GIVEN_UP: Mapping[str, str] = {
    "task_acks_late": "a task that has begun is lost if its worker is killed: take it out, and it runs again",
    "task_reject_on_worker_lost": "a task whose pool process is killed is lost: take it out, and it runs again",
}


def advice_for(setting: str) -> str | None:
    """The advice for a setting of Celery or RedBeat that has no effect here; None for all other settings."""
    if (found := SETTINGS.get(setting)) is not None:
        return found
    return next((advice for prefix, advice in PREFIXES.items() if setting.startswith(prefix)), None)


def weakens(name: str, value: object) -> bool:
    """True if a connection is less secure without this option of another transport, so that it must not be ignored."""
    if name in _BY_ADVICE[_PROPERTIES]:
        keys = value if isinstance(value, Mapping) else ()
        return any(str(key).startswith(("security.", "sasl.", "ssl.")) for key in keys)
    return name in _SECURITY and bool(value) and str(value).lower() != "plaintext"


def unknown_option(name: str, where: str, known: Collection[str]) -> str:
    """The error message for an unknown transport option, which names the nearest known one.

    Args:
        name: the unknown option.
        where: the mapping in which it was written.
        known: our own options.
    """
    text = f'unknown setting {where}["{name}"]'
    short = name.lower().removeprefix("kafka_exec_")
    if short in known:
        return f'{text}: it is called {where}["{short}"] here, or kafka_exec_{short} in the configuration'
    if "." in name:
        return f'{text}: librdkafka\'s properties go into {where}["kafka"]'
    near = difflib.get_close_matches(short, [*known, *KOMBUS, *OPTIONS], n=1)
    if not near:
        return f"{text}; known are {', '.join(known)}"
    if near[0] in OPTIONS:
        return f"{text}, like {near[0]}: {OPTIONS[near[0]]}"
    return f'{text}, did you mean {where}["{near[0]}"]?'
