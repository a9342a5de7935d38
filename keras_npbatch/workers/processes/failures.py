"""Takes an exception from a worker process to the caller, with type, text, notes and traceback.

    message = dump(error)      # in the worker
    raise restore(message)     # in the parent

The traceback can't be sent as an object, so its text becomes a note. (Not the `__cause__`, as in
`concurrent.futures`: Keras re-raises what it catches `from None`, which drops the cause.)

An exception whose class can't be pickled is replaced by a `WorkerError` that is also an instance
of the builtin exception from which that class derives.
"""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import cloudpickle

from keras_npbatch.errors import WorkerError

__all__ = ["dump", "restore"]


def dump(error: BaseException) -> bytes:
    """The exception as bytes, from which `restore` rebuilds it."""
    text = "".join(traceback.format_exception(error))
    for form in (lambda: error, lambda: _Plain(error), lambda: _stand_in(error)):
        try:
            message: bytes = cloudpickle.dumps((form(), text))
            rebuilt, _ = pickle.loads(message)
        except Exception:  # noqa: BLE001  # pickling a user's class may raise anything
            continue
        if isinstance(rebuilt, BaseException):
            return message
    raise AssertionError("a stand-in can be sent")


def restore(message: bytes) -> BaseException:
    """Rebuild the exception, for the caller to raise."""
    error: BaseException
    error, text = pickle.loads(message)
    error.add_note(f"keras_npbatch: its traceback in the worker process was\n\n{text}")
    return error


class _Plain:
    """An exception that is rebuilt without its `__init__`, which may take other arguments.

    Attributes that can't be pickled are left out.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in vars(self.error).items() if _can_be_sent(value)}
        return _rebuilt, (type(self.error), self.error.args, state)


def _rebuilt(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> BaseException:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def _can_be_sent(value: Any) -> bool:
    try:
        pickle.loads(cloudpickle.dumps(value))
    except Exception:  # noqa: BLE001  # pickling a user's class may raise anything
        return False
    return True


def _stand_in(error: BaseException) -> BaseException:
    kind = type(error)
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  # the user's own `__str__`
        said = "<its text can't be told>"
    told = f"{kind.__module__}.{kind.__qualname__}: {said} (it can't be sent between processes)"
    builtin = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    stand_in: BaseException
    try:
        stand_in = type("WorkerError", (WorkerError, builtin), {})(told)
    except TypeError:  # a builtin that takes other arguments
        stand_in = WorkerError(told)
    for note in getattr(error, "__notes__", ()):
        stand_in.add_note(note)
    return stand_in
