"""The results of tasks are serialized and read again here; exceptions of failed tasks without fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from celery.backends.base import Backend
from celery.utils.serialization import UnpickleableExceptionWrapper, get_pickled_exception

from kafka_exec.backend import raised, serial
from kafka_exec.core.record.plain import plain
from kafka_exec.core.results.state_record import JSON_TYPE, Raised

#: Of an exception that cannot be stored as it is, so many characters are stored.
_LONGEST = 10_000


class Codec(Backend):  # type: ignore[misc]
    """The part of the back end that knows serializers and exceptions."""

    def serialized(self, result: Any, exception: Raised | None = None) -> Any:
        """A result in the form that is stored. An exception is stored without fail, in a form that can be read again.

        Args:
            exception: the facts of the exception, if the result is one.

        Raises:
            EncodeError: the serializer cannot serialize a result that is not an exception.
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
        """An exception cut to ``longest`` characters: the form that is stored, and its facts."""
        short = raised.shorter(result, longest)
        told = raised.facts(short) or Raised("Exception")
        return self.serialized(short, told), told

    def payloads(self, state: str, result: Any) -> Iterator[str]:
        """The texts of a task's result: one, or of an exception also two shorter forms, in case a message is too large."""
        stored = self.encode_result(result, state)
        exception = raised.facts(stored) if state in self.EXCEPTION_STATES else None
        yield serial.as_text(self.serialized(stored, exception))
        for longest in (10_000, 100) if exception is not None else ():
            yield serial.as_text(self.shortened(stored, longest)[0])

    def deserialized(self, stored: Any) -> Any:
        """The inverse of :meth:`serialized`, for results of any process."""
        return serial.decoded(stored, self.accept)

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """An exception as Celery prepares it; also one that Celery cannot prepare, and with the type behind a wrapper."""
        try:
            prepared = super().prepare_exception(exc, serializer)
            if isinstance(prepared, dict) and isinstance(exc, UnpickleableExceptionWrapper):
                return raised.unwrapped(exc, self.encode)
            return prepared
        except Exception:
            return raised.described(exc)

    def exception_to_python(self, exc: Any) -> Any:
        """An exception as Celery restores it; of its own type even if that cannot be called with the stored arguments."""
        if isinstance(exc, UnpickleableExceptionWrapper):
            return raised.revived(exc) or get_pickled_exception(exc)
        found = super().exception_to_python(exc)
        return found if type(found) is not Exception else raised.revived(exc) or found
