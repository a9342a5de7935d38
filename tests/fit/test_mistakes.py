"""Mistakes in calls of Keras are told what docs/mistakes.md says, on each backend."""

from __future__ import annotations

import pytest

from tests.mistakes.gallery import MISTAKES, names, told


@pytest.mark.parametrize(
    "mistake", [each for each in MISTAKES if each.trains], ids=lambda each: each.name
)
def test_a_mistake_is_told_what_the_page_says(mistake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert told(mistake, names()) == mistake.message
