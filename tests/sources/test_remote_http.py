"""Parquet and Zarr from a web server: each row once, few requests, and lost connections told."""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from keras_npbatch import ArrayDataset, samplers, sources

pytest.importorskip("aiohttp")  # by which fsspec opens http://
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
zarr = pytest.importorskip("zarr")

N, CHUNK = 256, 16
X = np.arange(N * 3, dtype="float32").reshape(N, 3)
WORKERS = [(0, False), (4, False), (1, True)]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, or ranges of their bytes, as storage on the web does."""

    protocol_version = "HTTP/1.0"  # no connection outlives its answer

    def log_message(self, *_):
        """Say nothing."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path, wanted = Path(self.translate_path(self.path)), self.headers.get("Range")
        server = self.server
        server.asked[self.command, path.name, wanted] += 1
        if server.is_lost:
            self.close_connection = True
            self.connection.close()
            return
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        start, stop = 0, len(content)
        if wanted is not None:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1, stop) if last else stop
        self.send_response(200 if wanted is None else 206)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        if wanted is not None:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        if with_body:
            with contextlib.suppress(OSError):  # the client has gone
                self.wfile.write(content[start:stop])


@pytest.fixture(scope="module")
def event_loops():
    """With the first array zarr and fsspec start event loops that stay."""
    zarr.ones((1,))
    import fsspec

    fsspec.filesystem("http").exists("http://127.0.0.1:9/nothing")


@pytest.fixture
def server(tmp_path, event_loops):
    found = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path)
    )
    found.daemon_threads, found.is_lost, found.asked = True, False, Counter()
    found.url = f"http://127.0.0.1:{found.server_port}"
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def dataset_of(kind, server, folder, workers, processes, sampler=None):
    settings = {
        "batch_size": 32,
        "seed": 0,
        "sampler": samplers.BlockShuffle(blocks=4) if sampler is None else sampler,
        "workers": workers,
        "use_multiprocessing": processes,
    }
    if kind == "zarr":
        zarr.create_array(f"{folder}/x.zarr", data=X, chunks=(CHUNK, 3))
        return ArrayDataset(
            zarr.open_array(f"{server.url}/x.zarr", mode="r"), np.arange(N), **settings
        )
    table = pa.table({"x0": X[:, 0], "x1": X[:, 1], "x2": X[:, 2], "row": np.arange(N)})
    pq.write_table(table, folder / "a.parquet", row_group_size=CHUNK)
    data = sources.Parquet(f"{server.url}/a.parquet")
    return ArrayDataset(data[["x0", "x1", "x2"]], data["row"], **settings)


@pytest.mark.parametrize("kind", ["zarr", "parquet"])
@pytest.mark.parametrize(("workers", "processes"), WORKERS)
def test_each_row_comes_once_and_each_chunk_is_asked_for_once(
    kind, workers, processes, server, tmp_path
):
    dataset = dataset_of(kind, server, tmp_path, workers, processes)
    server.asked.clear()
    seen = []
    with dataset:
        for x, rows in dataset:
            np.testing.assert_array_equal(x, X[rows])
            seen += rows.tolist()
    assert sorted(seen) == list(range(N))
    ranges = {each: times for each, times in server.asked.items() if each[0] == "GET"}
    if kind == "parquet" and not processes:
        assert all(wanted is not None for _, _, wanted in ranges)  # never the whole file
        assert sum(ranges.values()) == N // CHUNK  # a request for a row group, whatever the leaves
        assert server.asked.total() == sum(ranges.values())
    if kind == "zarr" and not processes:
        chunks = [times for (_, name, _), times in ranges.items() if name != "zarr.json"]
        assert chunks == [1] * (N // CHUNK) or sum(chunks) == N // CHUNK


@pytest.mark.parametrize("kind", ["zarr", "parquet"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_lost_connection_is_told_with_the_rows(kind, workers, server, tmp_path):
    dataset = dataset_of(kind, server, tmp_path, workers, False, samplers.InOrder())
    server.is_lost = True
    with pytest.raises(Exception, match=r".") as caught:
        next(iter(dataset))
    told = "\n".join(caught.value.__notes__)
    assert "at epoch 0, step 0, rows [0, 1, 2" in told
    assert re.search(r"raised by (row group \d of 'http|x\[\d+:\d+\])", told)
    server.is_lost = False
    x, rows = next(iter(dataset))
    np.testing.assert_array_equal(x, X[rows])
