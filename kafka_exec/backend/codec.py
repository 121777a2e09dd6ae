"""How results become bytes and are read again; those of failed tasks in any case."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery.backends.base import Backend
from celery.utils.serialization import UnpickleableExceptionWrapper, get_pickled_exception

from kafka_exec.backend import raised, serial
from kafka_exec.core.record.plain import plain
from kafka_exec.core.results.state_record import JSON_TYPE, Raised

#: Of an exception that cannot be stored as it is, so many characters are.
_LONGEST = 10_000


class Codec(Backend):  # type: ignore[misc]
    """The part of the back end that knows serializers and exceptions."""

    def serialized(self, result: Any, exception: Raised | None = None) -> Any:
        """A result as it is stored. What a task has raised is stored in any case, and so that it can be read.

        Args:
            exception: what is told of the result if it was raised.

        Raises:
            EncodeError: the serializer does not know a value that was not raised.
        """
        if exception is None:
            return serial.encoded(result, self.serializer, self.compression)
        short = raised.shorter(result, _LONGEST)
        for each in (result, short):
            with suppress(Exception):
                stored = serial.encoded(each, self.serializer, self.compression)
                serial.decoded(stored, {self.content_type, JSON_TYPE})
                return stored
        return plain(short)

    def shortened(self, result: Any, longest: int) -> tuple[Any, Raised]:
        """What a task has raised, no longer than so many characters: as it is stored, and as it is told."""
        short = raised.shorter(result, longest)
        told = raised.facts(short) or Raised("Exception")
        return self.serialized(short, told), told

    def deserialized(self, stored: Any) -> Any:
        """The inverse of :meth:`serialized`, whoever has stored it."""
        return serial.decoded(stored, self.accept)

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """Celery's, for any exception, and with the type of one that cannot be pickled."""
        try:
            prepared = super().prepare_exception(exc, serializer)
            if isinstance(prepared, dict) and isinstance(exc, UnpickleableExceptionWrapper):
                return raised.unwrapped(exc, self.encode)
            return prepared
        except Exception:
            return raised.described(exc)

    def exception_to_python(self, exc: Any) -> Any:
        """Celery's, with the exception's own type also where that cannot be called with what it keeps."""
        if isinstance(exc, UnpickleableExceptionWrapper):
            return raised.revived(exc) or get_pickled_exception(exc)
        found = super().exception_to_python(exc)
        return found if type(found) is not Exception else raised.revived(exc) or found
