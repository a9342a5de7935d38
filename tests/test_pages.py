"""The pages of the site hold together: links, marks, and nothing public left out.

Their Python blocks run in tests/fit/test_pages.py.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import runpy

import pytest

import keras_npbatch
from keras_npbatch import errors
from tests.pages import DOCS, PAGES, ROOT, blocks, links, name_of, prose

REFERENCE = "".join(page.read_text() for page in sorted((DOCS / "reference").glob("*.md")))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_links_to_is_there(page):
    missing = [link for link in links(page) if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_names_in_the_repository_is_there(page):
    named = re.findall(r"`((?:tests|examples|benchmarks|docs)/[\w/.]*)`", prose(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_pictures_are_those_that_the_script_draws():
    pictures = runpy.run_path(str(DOCS / "pictures.py"))["PICTURES"]
    drawn = {name: draw() for name, draw in pictures.items()}
    assert drawn == {path.name: path.read_text() for path in (DOCS / "pictures").iterdir()}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_found(page):
    """Also one that a mark, an indentation or another fence might hide from the tests."""
    fences = re.findall(r"^\s*(?:```|~~~).*", page.read_text(), re.MULTILINE)
    assert set(fences[1::2]) <= {"```"}
    opened = [fence.strip() for fence in fences[::2]]
    found = blocks(page)
    assert set(opened) <= {"```bash", "```python", "```text"}
    assert opened.count("```python") == len(found)
    assert opened.count("```text") == sum(block.output is not None for block in found)
    assert not any(block.output for block in found if block.excerpt_of)


def test_mistakes_are_on_their_own_page():
    """Elsewhere a block that raises would hide what is wrong with a page."""
    with_mistakes = {block.page for page in PAGES for block in blocks(page) if block.is_mistake}
    assert with_mistakes == {"docs/mistakes.md"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_mark_is_one_that_the_tests_know(page):
    marks = re.findall(r"<!--\s*(.*?)\s*-->", page.read_text(), re.DOTALL)
    known = r"excerpt of examples/\w+\.py|mistake|needs Keras \d+\.\d+|test-command"
    assert [mark for mark in marks if not re.fullmatch(known, mark)] == []


@pytest.mark.parametrize(
    "block",
    [block for page in PAGES for block in blocks(page) if block.excerpt_of],
    ids=lambda block: f"{block.page}:{block.line}",
)
def test_an_excerpt_is_whole_and_in_the_program_in_its_order(block):
    ast.parse(block.code)
    lines = iter((ROOT / block.excerpt_of).read_text().splitlines())
    for line in block.code.splitlines():
        if line.strip():
            assert line in lines, f"{block.excerpt_of} lacks: {line}"


def public_names():
    for name in [*keras_npbatch.__all__, "zip"]:
        if name in ("callbacks", "samplers", "sources", "testing"):
            for inner in importlib.import_module(f"keras_npbatch.{name}").__all__:
                yield f"keras_npbatch.{name}.{inner}"
        elif name != "errors":
            yield f"keras_npbatch.{name}"


def test_the_reference_has_every_public_name():
    in_reference = re.findall(r"^::: (\S+)$", REFERENCE, re.MULTILINE)
    assert sorted(in_reference) == sorted(public_names())


def test_every_error_is_explained():
    """In its own section, with what to do."""
    page = (DOCS / "errors.md").read_text()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    named = re.findall(r"`(\w+Error)`", "".join(text.splitlines()[0] for text in sections))
    assert sorted(named) == errors.__all__
    assert all("**Do.** " in text for text in sections)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_wraps_at_120_characters(page):
    """But for tables and links, which can't be broken."""
    for number, line in enumerate(prose(page).splitlines(), 1):
        assert len(line) <= 120 or line.startswith(("|", "[", "![")), f"line {number}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_list_begins_after_an_empty_line(page):
    """Without one, MkDocs takes it for a part of the paragraph."""
    lines = prose(page).splitlines()
    for number, (before, line) in enumerate(itertools.pairwise(lines), 2):
        if re.match(r"([-*]|1\.) ", line):
            assert re.match(r"$|([-*]|\d+\.) |  ", before), f"line {number}"
