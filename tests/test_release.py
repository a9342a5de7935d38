"""What a release needs besides code: one version everywhere, and forms that the forge takes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import keras_npbatch

ROOT = Path(__file__).parents[1]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
yaml = pytest.importorskip("yaml")


def test_the_citation_is_of_this_version_and_license():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == keras_npbatch.__version__
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
    assert {"message", "title", "authors", "type"} <= set(citation)


def test_what_is_built_takes_its_version_from_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["project"]["dynamic"] == ["version"]
    package = ROOT / settings["tool"]["hatch"]["version"]["path"]
    found = re.findall(r'^__version__ = "(.*)"$', package.read_text(), re.MULTILINE)
    assert found == [keras_npbatch.__version__]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_has_what_the_forge_asks_for(path):
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(form)
    fields = [(field["id"], field["attributes"]["label"]) for field in form["body"]]
    for column in zip(*fields, strict=True):
        assert len(set(column)) == len(fields)
    assert all(field["type"] in ("textarea", "input", "dropdown") for field in form["body"])
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_there_are_forms():
    assert {path.stem for path in FORMS} == {"bug", "config", "message", "wish"}


def test_the_checklist_names_every_place_of_the_version():
    text = (ROOT / "docs" / "releasing.md").read_text()
    for place in ("keras_npbatch/__init__.py", "CITATION.cff", "CHANGELOG.md"):
        assert f"`{place}`" in text
        assert (ROOT / place).exists()
    assert re.findall(r"^(\d)\. ", text, re.MULTILINE) == list("123456789")
