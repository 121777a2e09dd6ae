"""The executors that come with kafka_exec, for programs that extend them; ``use_executor()`` takes their names."""

from __future__ import annotations

from kafka_exec.app.executors.command import CommandExecutor, CommandFailed
from kafka_exec.app.executors.http import HttpExecutor

__all__ = ("CommandExecutor", "CommandFailed", "HttpExecutor")
