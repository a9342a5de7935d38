"""`Watching`: what a callback is inside, behind the one private attribute that it has.

    watching = watching_of(callback)
    watching.dataset, watching.session      # what it watches, and the session of this `fit`

Users subclass a callback, so its namespace belongs to them: it may have an attribute `_session` or
`_last_step` of its own. All that this library keeps is here, and goes with the callback when it is
copied or pickled, without what belongs to a running `fit`.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, ClassVar, Self, TypeVar

from keras_npbatch.batches.core import ATTRIBUTE, core_of
from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.fit.adapter import session_of
from keras_npbatch.fit.deliveries import Delivery, Watch
from keras_npbatch.fit.session import Session

__all__ = ["Watching", "refuse_to_watch", "watching_of"]

_Kind = TypeVar("_Kind", bound="Watching")


class Watching:
    """The dataset that a callback watches, and which of its batches were trained on.

    Args:
        owner: the callback.
        dataset: what it watches.
    """

    of_one_fit: ClassVar[frozenset[str]] = frozenset(("_session", "_epoch_iterator", "watch"))
    """Attributes that belong to one `fit`: they are neither copied nor pickled."""

    def __init__(self, owner: Any, dataset: Any) -> None:
        self._owner = weakref.ref(owner)
        self.dataset: Any = dataset
        self.last_step = -1
        """The step of Keras's epoch that ended last."""
        self.forget_fit()

    def forget_fit(self) -> None:
        """Reset what belongs to a `fit`."""
        self._session: Session | None = None
        self._epoch_iterator: weakref.ref[Any] | None = None
        self.watch = self.new_watch()

    def new_watch(self) -> Watch:
        """What notes the batches; all watches of one `fit` must ask for the same figures."""
        return Watch()

    @property
    def owner(self) -> Any:
        """The callback."""
        return self._owner()

    @property
    def session(self) -> Session:
        """The session of this `fit`; to read `model` at each step would be slow on JAX.

        Raises:
            InvalidArgumentError: if `on_train_begin` was not called.
        """
        if self._session is None:
            raise InvalidArgumentError(
                f"{type(self.owner).__name__} does not know of a fit; call "
                "super().on_train_begin(logs) in its on_train_begin."
            )
        return self._session

    @property
    def has_session(self) -> bool:
        """Whether a `fit` has begun since the callback was made, copied or loaded."""
        return self._session is not None

    @property
    def epoch_iterator(self) -> Any:
        """The iterator with which Keras walks over the dataset in this `fit`."""
        return None if self._epoch_iterator is None else self._epoch_iterator()

    def begin(self, model: Any) -> None:
        """A `fit` begins: start watching.

        Raises:
            InvalidArgumentError: if it was not given the dataset.
        """
        served = session_of(self.dataset, model)
        if served is None:
            raise InvalidArgumentError(
                f"{type(self.owner).__name__} watches {self.dataset!r}, which fit was not given; "
                "expected the very dataset. One that repeat() returned is another: give that to "
                "both. The batches of a to_tf_dataset() are not watched."
            )
        epoch_iterator, self._session = served
        self._epoch_iterator = weakref.ref(epoch_iterator)
        self.watch = self.new_watch()
        self._session.watches.append(self.watch)

    def ended(self, step: int) -> list[Delivery]:
        """The batches of the steps up to this one; several with `steps_per_execution`."""
        steps, self.last_step = step - self.last_step, step
        return self.watch.trained(steps)

    # ---------------------------------------------------------------- copies

    def copy_for(self, owner: Any) -> Self:
        """A copy for another callback, without what belongs to a `fit`."""
        twin = type(self).__new__(type(self))
        twin.__setstate__(self.__getstate__())
        twin._owner = weakref.ref(owner)
        twin.forget_fit()
        return twin

    def __getstate__(self) -> dict[str, Any]:
        left_behind = {"_owner", *self.of_one_fit}
        return {name: value for name, value in vars(self).items() if name not in left_behind}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def watching_of(callback: Any, kind: type[_Kind]) -> _Kind:
    """What a callback keeps.

    Raises:
        InvalidArgumentError: if `super().__init__` was not called.
    """
    found = vars(callback).get(ATTRIBUTE)
    if not isinstance(found, kind):
        raise InvalidArgumentError(
            f"{type(callback).__name__} was not initialised; call super().__init__(dataset) first "
            "in its __init__."
        )
    return found


def refuse_to_watch(name: str, dataset: Any, *, needs_rows: bool = False) -> None:
    """Refuse what can't be watched.

    Args:
        name: of the callback's class.
        dataset: what it was given.
        needs_rows: whether it looks at the rows of batches.

    Raises:
        InvalidArgumentError: saying what was given.
    """
    if isinstance(dataset, BatchDataset):
        if needs_rows and not core_of(dataset).has_rows:
            raise InvalidArgumentError(
                f"{name} was given zipped datasets, whose batches have no rows in common; "
                "expected a dataset whose batches are samples."
            )
        return
    first = ""
    if isinstance(dataset, str | os.PathLike):
        first = f" It comes first: {name}(dataset, {os.fspath(dataset)!r})."
    raise InvalidArgumentError(
        f"{name} was given {describe(dataset)} to watch; expected the ArrayDataset or "
        f"BatchDataset that fit is given.{first}"
    )
