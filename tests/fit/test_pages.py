"""Every Python block of every page runs, in the order of the page, on real data."""

from __future__ import annotations

import contextlib
import doctest
import io
import runpy
import sys
import types

import keras
import pytest

from tests.installed import needs
from tests.pages import DOCS, PAGES, blocks, name_of, version

NEEDS = {
    "docs/coming_from.md": ["tensorflow", "torch", "grain"],
    "docs/text.md": ["tensorflow"],
    "docs/tf_data.md": ["tensorflow"],
}


def _pages():
    for page in PAGES:
        if any(not block.excerpt_of for block in blocks(page)):
            marks = [needs(package) for package in NEEDS.get(name_of(page), ())]
            yield pytest.param(page, id=name_of(page), marks=marks)


@pytest.mark.more
@pytest.mark.parametrize("page", list(_pages()))
def test_the_blocks_run_in_order_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page_as_script = types.ModuleType("__main__")  # what is defined there can be pickled
    monkeypatch.setitem(sys.modules, "__main__", page_as_script)
    keras_version = version(".".join(keras.version().split(".")[:2]))
    for block in blocks(page):
        if block.excerpt_of or block.is_mistake or keras_version < block.needs_keras:
            continue
        path = tmp_path / f"line_{block.line}.py"
        path.write_text(block.code)  # TensorFlow and worker processes read the source of functions
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.code, str(path), "exec"), vars(page_as_script))
        if block.output is not None:
            same = doctest.OutputChecker().check_output(
                block.output, printed.getvalue(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            )
            assert same, f"{block.page}:{block.line} printed:\n{printed.getvalue()}"


@pytest.mark.more
def test_the_figures_are_those_that_the_script_draws():
    """They have times in them, so they are drawn, but not compared."""
    figures = runpy.run_path(str(DOCS / "figures.py"))["FIGURES"]
    assert set(figures) == {path.name for path in (DOCS / "figures").iterdir()}
    for draw in figures.values():
        stream = io.BytesIO()
        draw().savefig(stream, format="svg")
        assert stream.tell() > 10_000
