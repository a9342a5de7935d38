"""Which call of Keras is served: `fit`, `evaluate` or `predict`, and with which arguments.

Keras hands a `DataAdapter` neither its own name nor its arguments: a dataset can't know that
`predict` asks, which wants rows in the order of the data, nor that `class_weight` was given, which
would be ignored silently. Both can be read from the calling frames. What is read there:

- the names of the methods and of their arguments, which are public;
- where Keras builds a model, the private names of the methods that do, and the name `iterator` of
  what they are given;
- `data_adapter` of the iterator over epochs, a public name of a class that is not exported.

`expect_steps` sets the private `_num_batches` of that iterator. A test for each supported version
of Keras notices when any of them changes. If a call is no longer found, the dataset refuses to
guess.

A search goes through all callers, so what can't change during a call is looked for once: see
`Serving` in `adapter.py`.
"""

from __future__ import annotations

import sys
import weakref
from dataclasses import dataclass
from types import FrameType
from typing import Any

import keras

from keras_npbatch.plan.plan import Kind

__all__ = [
    "Call",
    "Maker",
    "callbacks_of",
    "expect_steps",
    "find_asking",
    "find_call",
    "find_maker",
    "given_to",
    "is_asked_by_keras",
    "is_build",
    "is_calling",
    "show_steps",
]

_MAX_FRAMES = 64
_MAX_FRAMES_TO_ITERATOR = 8
_CALLS = "fit", "evaluate", "predict"
_BUILDS = "_symbolic_build", "_maybe_symbolic_build"


@dataclass(frozen=True, slots=True)
class Call:
    """The innermost call of a model's `fit`, `evaluate` or `predict`."""

    kind: Kind
    """Its name."""
    arguments: dict[str, Any]
    """What it was given, by parameter name."""
    model: Any = None
    """Whose method it is."""

    def is_given(self, name: str, value: Any) -> bool:
        """Whether the argument `name` is this very object."""
        return self.arguments.get(name) is value


@dataclass(frozen=True, slots=True)
class Maker:
    """What makes an iterator over epochs."""

    epoch_iterator: Any
    """The iterator."""
    call: Call | None
    """The call that is making it, or None if it is made by something else."""


def find_call() -> Call | None:
    """The call that is being served, or None if there is none among the callers."""
    call, _ = find_asking()
    return call


def find_asking() -> tuple[Call | None, bool]:
    """The call that is being served, and whether Keras asks only to build a model."""
    builds = False
    for frame in _frames(_MAX_FRAMES):
        name = frame.f_code.co_name
        if name in _CALLS:
            call = _call_in(frame)
            if call is not None:
                return call, builds
        elif name in _BUILDS:
            builds = builds or _is_code_of(frame, "keras")
    return None, builds


def callbacks_of(call: Call | None) -> Any:
    """The callbacks of a call as Keras lists them, or None before it has made that list.

    It makes the list after it has built the model, and before the first epoch.
    """
    callbacks = None if call is None else call.arguments.get("callbacks")
    return callbacks if isinstance(callbacks, keras.callbacks.CallbackList) else None


def is_calling(callbacks: weakref.ref[Any]) -> bool:
    """Whether a call with this list of callbacks is among the callers, however far up."""
    calls = (_call_in(frame) for frame in _frames(sys.getrecursionlimit()))
    held = callbacks()
    return any(call is not None and call.arguments.get("callbacks") is held for call in calls)


def find_maker(adapter: Any) -> Maker | None:
    """Who makes the iterator with which Keras walks over `adapter`; None if nobody does.

    One such iterator belongs to each `fit`, `evaluate` and `predict`, and within a `fit` one to
    training and one to validation: it distinguishes passes over the same dataset.
    """
    frames = _frames(_MAX_FRAMES)
    epoch_iterator = _epoch_iterator_in(frames[:_MAX_FRAMES_TO_ITERATOR], adapter)
    if epoch_iterator is None:
        return None
    return Maker(epoch_iterator, _call_that_makes(epoch_iterator, frames))


def _call_that_makes(epoch_iterator: Any, frames: list[FrameType]) -> Call | None:
    """The call that is making `epoch_iterator`, or None if it is made by something else.

    A callback, say, may make one of its own while a `fit` runs, and that `fit` says nothing about
    it. So only the code of Keras and methods of the model may stand between the two.
    """
    insiders = epoch_iterator, getattr(epoch_iterator, "data_adapter", None)
    for frame in frames:
        call = _call_in(frame) if frame.f_code.co_name in _CALLS else None
        if call is not None:
            return call
        if _is_code_of(frame, "keras_npbatch", "keras"):
            continue
        owner = frame.f_locals.get("self") if "self" in frame.f_code.co_varnames else None
        if not isinstance(owner, keras.Model) and not any(owner is each for each in insiders):
            return None
    return None


def _call_in(frame: FrameType) -> Call | None:
    """The call that a frame is, if it is Keras's own method, or a model's that overrides it."""
    code = frame.f_code
    if code.co_name not in _CALLS:
        return None
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if "self" not in parameters or "x" not in parameters:
        return None  # an override with other parameters calls Keras's own
    values = frame.f_locals
    owner = values.get("self")
    # Keras's trainer may belong to a class that is not a keras.Model.
    if not isinstance(owner, keras.Model) and not _is_code_of(frame, "keras"):
        return None
    given = {key: values[key] for key in parameters if key in values}
    return Call(code.co_name, given, owner)  # type: ignore[arg-type]


def _is_code_of(frame: FrameType, *packages: str) -> bool:
    package, dot, _ = str(frame.f_globals.get("__name__", "")).partition(".")
    return bool(dot) and package in packages


def _epoch_iterator_in(frames: list[FrameType], adapter: Any) -> Any | None:
    """The object of Keras that walks over `adapter` for one call, or None."""
    for frame in frames:
        # Looking at the variables of a frame keeps them alive: a user's frames are left alone.
        if not _is_code_of(frame, "keras"):
            continue
        # Where Keras builds a model, it may ask the adapter itself, with the iterator at hand.
        for name in ("self", "iterator") if frame.f_code.co_name in _BUILDS else ("self",):
            owner = frame.f_locals.get(name)
            if owner is not adapter and getattr(owner, "data_adapter", None) is adapter:
                return owner
    return None


def given_to(epoch_iterator: Any) -> dict[str, Any]:
    """The arguments with which `epoch_iterator` is being made, by parameter name."""
    for frame in _frames(_MAX_FRAMES_TO_ITERATOR):
        if frame.f_code.co_name == "__init__" and _is_code_of(frame, "keras"):
            values = frame.f_locals
            if values.get("self") is epoch_iterator:
                return dict(values)
    return {}


def is_asked_by_keras() -> bool:
    """Whether Keras itself has called this package, and not a user's own loop."""
    for frame in _frames(_MAX_FRAMES):
        if not _is_code_of(frame, "keras_npbatch"):
            return _is_code_of(frame, "keras")
    return False


def is_build() -> bool:
    """Whether Keras takes a batch only to build a model.

    On another process, whose model is built, it takes none.
    """
    return any(
        frame.f_code.co_name in _BUILDS and _is_code_of(frame, "keras")
        for frame in _frames(_MAX_FRAMES)
    )


def expect_steps(epoch_iterator: Any, steps: int | None) -> None:
    """Let Keras end the pass that comes next after this many steps, without a warning.

    It reads `num_batches` once a call. The attribute it keeps it in is private, so it is touched
    only where the number has changed: after a resumed epoch, or when a callback resumes one.
    """
    if getattr(epoch_iterator, "_num_batches", steps) != steps:
        epoch_iterator._num_batches = steps


def show_steps(callbacks: Any, steps: int | None) -> None:
    """Let the progress bars in a list of callbacks count to `steps` in the epoch that begins."""
    for callback in getattr(callbacks, "callbacks", ()):  # there is no list before training begins
        if isinstance(callback, keras.callbacks.ProgbarLogger):
            callback.target = steps
            if callback.progbar is not None:
                callback.progbar.target = steps


def _frames(most: int) -> list[FrameType]:
    """The callers of the caller, the innermost first."""
    # Without the caller itself, which holds this list: no cycle keeps what its variables hold.
    frame = sys._getframe(1).f_back
    found: list[FrameType] = []
    while frame is not None and len(found) < most:
        found.append(frame)
        frame = frame.f_back
    return found
