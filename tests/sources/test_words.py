"""Names of other libraries for the arguments of sources lead to arguments that there are."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

from keras_npbatch.errors import UnknownSettingError
from keras_npbatch.sources.image_folder import ImageFolder
from keras_npbatch.sources.ragged import Ragged
from keras_npbatch.sources.windows import Windows
from keras_npbatch.sources.words import IMAGE_FOLDER, RAGGED, WINDOWS

ROWS = [np.array([3, 1]), np.array([4])]


def folder(**given):
    return ImageFolder("photos", **given)


def ragged(**given):
    return Ragged(ROWS, **given)


def windows(**given):
    return Windows(np.arange(9), **given)


CASES = [
    (make, kind, word)
    for make, kind, words in (
        (folder, ImageFolder, IMAGE_FOLDER),
        (ragged, Ragged, RAGGED),
        (windows, Windows, WINDOWS),
    )
    for word in words
]


@pytest.mark.parametrize(
    ("make", "kind", "word"), CASES, ids=lambda each: getattr(each, "__name__", each)
)
def test_every_word_of_another_library_leads_to_an_argument_there_is(make, kind, word):
    known = inspect.signature(kind).parameters
    assert word not in known
    with pytest.raises(UnknownSettingError) as caught:
        make(**{word: 2})
    text = str(caught.value)
    start, _, advice = text.partition(". ")
    assert start == f"{kind.__name__} has no argument {word}"
    assert advice.endswith(".")
    assert "{" not in advice
    if advice.startswith("Write "):
        named = re.findall(r"(\w+)=", advice)
        assert "Files" in advice or (named and set(named) <= set(known))


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (
            folder,
            {"image_size": (64, 48)},
            "ImageFolder has no argument image_size. Write size=(64, 48).",
        ),
        (folder, {"image_size": "big"}, "ImageFolder has no argument image_size. Write size=N."),
        (
            ragged,
            {"maxlen": 5, "padding": "pre"},
            "Ragged has no arguments maxlen, padding. Write pad_to=5, "
            "and truncate='right' if longer rows are to be cut. Write side='right' or side='left'.",
        ),
        (windows, {"lenght": 5}, "Windows has no argument lenght. Did you mean length?"),
        (
            windows,
            {"zzz": 5},
            "Windows has no argument zzz. Expected series, length, stride, offset, "
            "sampling_rate, boundaries, ids.",
        ),
    ],
)
def test_the_message_tells_what_to_write(make, given, message):
    with pytest.raises(UnknownSettingError) as caught:
        make(**given)
    assert str(caught.value) == message


def test_the_signature_is_kept():
    assert list(inspect.signature(Windows).parameters)[:2] == ["series", "length"]
