"""macOS and Windows: everything works without what only Linux has."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_layers import MODULES, NAMES, own_imports
from tests.test_on_backends import quick_to_compile
from tests.without import NOT_ON_MACOS, NOT_ON_WINDOWS

ROOT = Path(__file__).parents[1]
LINUX = ("workers.linux", "batches.linux")
"""The modules that are imported on Linux alone."""
IMPORTS_LINUX = (
    *("batches.machine", "batches.row_cache"),
    *("workers.systems", "workers.processes.sending"),
)
"""Those that import them, where they have looked for Linux."""

LACKING = {
    module.__name__: set(f"{NOT_ON_MACOS.get(module, '')} {NOT_ON_WINDOWS.get(module, '')}".split())
    for module in (*NOT_ON_MACOS, *NOT_ON_WINDOWS)
}
COMES_WITH = {"SIG_BLOCK": "pthread_sigmask", "SIG_SETMASK": "pthread_sigmask"}
COMES_WITH["SIG_UNBLOCK"] = "pthread_sigmask"
NEVER = {
    *" ".join(NOT_ON_MACOS.values()).split(),
    *("fork", "forkpty", "SOCK_SEQPACKET", "send_fds", "recv_fds", "SCM_RIGHTS", "resource"),
}
"""What no module but those of Linux uses, not even where it looks first."""


def used_by(tree: ast.AST) -> Iterator[str]:
    """The names of other modules that code uses, as `os.fork`, and the modules that it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def looked_for_by(tree: ast.AST) -> set[str]:
    """The names for which code asks `hasattr`."""
    return {
        str(call.args[1].value)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "hasattr"
        if isinstance(call.args[1], ast.Constant)
    }


def not_everywhere(tree: ast.AST) -> list[str]:
    """What code uses that macOS or Windows lacks, unless it looks for it first."""
    found, asked = [], looked_for_by(tree)
    for name in used_by(tree):
        module, _, last = name.rpartition(".")
        lacks = last in LACKING.get(module, ()) and COMES_WITH.get(last, last) not in asked
        if lacks or (module in ("", *LACKING) and last in NEVER):
            found.append(name)
    paths = {"/proc", "/sys/"}
    for node in ast.walk(tree):
        is_path = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_path and any(node.value.startswith(path) for path in paths):
            found.append(node.value)
    return found


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(LINUX)])
def test_what_only_linux_has_is_used_in_its_room_alone(name):
    tree = ast.parse(MODULES[name].read_text())
    assert not_everywhere(tree) == []
    if name not in IMPORTS_LINUX:
        assert not [other for other in own_imports(name) if other.startswith(LINUX)]
    assert not [
        other
        for other in own_imports(name, as_it_is_imported=True)
        if other.startswith(("workers.linux", "workers.portable."))
        and not name.startswith("workers.portable")
    ]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import os\nos.fork()", ["os.fork"]),
        ("from socket import send_fds", ["socket.send_fds"]),
        ("def f():\n    import resource", ["resource"]),
        ("if hasattr(os, 'memfd_create'): os.memfd_create('x')", ["os.memfd_create"]),
        ("if hasattr(select, 'poll'): select.poll()", []),
        ("select.poll()", ["select.poll"]),
        ("if hasattr(signal, 'pthread_sigmask'): signal.SIG_BLOCK", []),
        ("open('/proc/meminfo')", ["/proc/meminfo"]),
    ],
)
def test_the_walk_finds_what_only_linux_has(code, found):
    assert not_everywhere(ast.parse(code)) == found


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
@pytest.mark.parametrize("platform", ["win32", pytest.param("darwin", marks=pytest.mark.more)])
def test_everything_works_elsewhere(platform):
    done = subprocess.run(
        [sys.executable, "-m", "tests.elsewhere", platform],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", **quick_to_compile()},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *(
            f"start_method is {method!r} (str); expected 'spawn', the only one of worker processes "
            f"on {platform}, or None for 'spawn'."
            for method in ("fork", "forkserver")
        ),
        "done",
    ]
