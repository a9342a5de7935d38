"""The gallery: each mistake is told what the page says, and the page says nothing else.

Those of `fit` are in tests/fit/test_mistakes.py; what is right runs in tests/fit/test_pages.py.
"""

from __future__ import annotations

import pytest

from tests.mistakes.gallery import MISTAKES, PAGE, names, page, told


@pytest.mark.parametrize(
    "mistake", [each for each in MISTAKES if not each.trains], ids=lambda each: each.name
)
def test_a_mistake_is_told_what_the_page_says(mistake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert told(mistake, names()) == mistake.message


def test_the_page_is_made_of_the_gallery():
    """If not: `python -m tests.mistakes.gallery` writes it."""
    assert PAGE.read_text() == page()


def test_no_mistake_comes_twice():
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) >= 40
