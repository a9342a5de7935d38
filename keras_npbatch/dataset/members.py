"""The names of a dataset: the user's, and those that Keras and this library use.

refuse_fixed_member(dataset, "plan", BatchDataset)     # dataset.plan = ... is refused
refuse_hidden_members(Slides, BatchDataset)            # class Slides: epoch = 3 is refused
"""

from __future__ import annotations

from typing import Any

from keras_npbatch.errors import InvalidArgumentError

__all__ = ["refuse_fixed_member", "refuse_hidden_members"]


def refuse_fixed_member(dataset: Any, name: str, base: type) -> None:
    """Refuse to set a public attribute that every dataset has and that can't be set.

    Raises:
        AttributeError: naming the attribute; if it changed, a batch would no longer be a function
            of (seed, epoch, step).
    """
    member = getattr(base, name, None)
    is_fixed = member is not None and getattr(type(dataset), name) is member
    can_be_set = isinstance(member, property) and member.fset is not None
    if is_fixed and not can_be_set and _is_public(name):
        raise AttributeError(
            f"{type(dataset).__name__}.{name} can't be set. For another setting make a new "
            "dataset, for another epoch call set_epoch(); an attribute of your own needs "
            "another name."
        )


def refuse_hidden_members(kind: type, base: type) -> None:
    """Refuse a class with an attribute that hides a property or a method of a dataset.

    A method may be overridden by another method, which users call; this library calls its own.

    Raises:
        InvalidArgumentError: naming the attribute.
    """
    found: dict[str, Any] = {}
    for each in reversed(kind.__mro__[: kind.__mro__.index(base)]):  # mixins too
        if each.__module__.partition(".")[0] != "keras_npbatch":
            found |= vars(each)
    for name, value in found.items():
        member = getattr(base, name, None)
        if member is None or not _is_public(name):
            continue
        if isinstance(member, property) or not _is_method(value):
            what = "a property" if isinstance(member, property) else "a method"
            raise InvalidArgumentError(
                f"the class {kind.__name__} has an attribute {name}, which is {what} of every "
                "dataset; expected another name. Settings are arguments: "
                "super().__init__(..., batch_size=32)."
            )


def _is_method(value: Any) -> bool:
    return callable(value) or isinstance(value, classmethod | staticmethod)


def _is_public(name: str) -> bool:
    return not name.startswith(("_", "on_"))
