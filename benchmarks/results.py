"""The file of a run: what was measured, on which machine, by which command.

{"command": ["iterate"], "machine": {"processor": ..., "cores": 2, ...},
 "answers": {"iterate": [{"workload": "T", "peer": "...", "x limit": 1.6, "ratios": [...]}]}}
"""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cases import Row

__all__ = ["BASELINE", "machine", "read", "told", "write"]

BASELINE = Path(__file__).parent / "baseline.json"
"""The run that later ones are compared with."""

_PACKAGES = (
    "keras_npbatch",
    *("keras", "numpy", "tensorflow-cpu", "tensorflow", "jax", "torch", "grain"),
)


def machine() -> dict[str, Any]:
    """What decides times beside the code."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def told(machine: dict[str, Any]) -> str:
    """A machine in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}, {versions}"
    )


def write(file: Path, command: list[str], answers: dict[str, list[Row]]) -> None:
    """Saves what there is; called after each case, so that an interrupted run leaves it."""
    report = {"command": command, "machine": machine(), "answers": answers}
    # A row a line: a later run then differs in the lines that differ.
    text = json.dumps(report | {"answers": {}}, indent=1)[: -len("{}\n}")].rstrip()
    questions = [
        f"  {json.dumps(name)}: [\n" + ",\n".join(f"   {json.dumps(row)}" for row in rows) + "\n  ]"
        for name, rows in answers.items()
    ]
    file.write_text(f"{text} {{\n" + ",\n".join(questions) + "\n }\n}\n")


def read(file: Path) -> dict[str, Any]:
    """A run that was saved."""
    report: dict[str, Any] = json.loads(file.read_text())
    return report
