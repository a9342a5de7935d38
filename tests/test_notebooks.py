"""The notebooks in docs/: they run in a kernel, and hold no output of anybody's machine.

And what is done in a notebook: cells that are interrupted and run again, classes that are defined
anew while worker processes have the old ones, a kernel that is restarted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap

import pytest

from tests.pages import DOCS

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def test_there_are_three_and_the_site_links_to_them():
    guides = (DOCS / "guides.md").read_text()
    assert len(NOTEBOOKS) == 3
    assert all(f"(notebooks/{path.name})" in guides for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_output(path):
    notebook = json.loads(path.read_text())
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def client_of(notebook, folder, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    monkeypatch.syspath_prepend(DOCS.parent)  # this checkout, whatever is installed
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    return nbclient.NotebookClient(
        notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )


def execute(client):
    """Run all cells, in an event loop that is closed then; that of nbclient would stay."""
    asyncio.run(client.async_execute())


@pytest.mark.more
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("jax")
    notebook = nbformat.read(path, as_version=4)
    execute(client_of(notebook, tmp_path, monkeypatch))
    shown = [
        output["data"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "execute_result"
    ]
    if path.stem == "quick_start":
        assert "<strong>ArrayDataset</strong>" in shown[0]["text/html"]
        assert "image/png" in shown[1]


CELLS = [
    """
    import os
    import signal

    import numpy as np

    import keras_npbatch as npb
    """,
    """
    class Slides(npb.BatchDataset):
        def load(self, rows):
            return rows * 2.0
    """,
    """
    slides = Slides(40, batch_size=4, seed=0, workers=2, use_multiprocessing=True)
    try:
        for number, batch in enumerate(slides):
            if number == 3:
                os.kill(os.getpid(), signal.SIGINT)  # the stop button
                [None for _ in range(10**8)]
        raise AssertionError("it was not interrupted")
    except KeyboardInterrupt:
        pass
    """,
    """
    slides = Slides(40, batch_size=4, seed=0, workers=2, use_multiprocessing=True)
    assert sorted(np.concatenate(list(slides))) == [2.0 * row for row in range(40)]
    """,
    """
    class Slides(npb.BatchDataset):
        def load(self, rows):
            return rows * 3.0
    """,
    """
    slides = Slides(40, batch_size=4, seed=0, workers=2, use_multiprocessing=True)
    assert sorted(np.concatenate(list(slides))) == [3.0 * row for row in range(40)]
    """,
]


@pytest.mark.more
@pytest.mark.timeout(300)
def test_cells_are_interrupted_run_again_and_redefined(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    v4 = nbformat.v4
    notebook = v4.new_notebook(cells=[v4.new_code_cell(textwrap.dedent(cell)) for cell in CELLS])
    client = client_of(notebook, tmp_path, monkeypatch)
    execute(client)
    # A restarted kernel begins anew, and what the first one started is gone.
    execute(client)
