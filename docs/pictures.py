"""Draws the pictures of the documentation: `python docs/pictures.py` writes docs/pictures/*.svg.

Plain SVG on a card of its own, so that it can be read on a light and on a dark page.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent / "pictures"
BASELINE = Path(__file__).parents[1] / "benchmarks" / "baseline.json"

PAPER, INK, FAINT, LINE = "#fcfcf8", "#1d2b33", "#51626c", "#b9c4ca"
BLUE, ORANGE = "#0b6b8a", "#a8500f"
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def text(x: float, y: float, words: str, *, size: float = 15, **look: str) -> str:
    """A line of text; `anchor`, `fill`, `family` and `weight` as SVG has them."""
    anchor = look.get("anchor", "middle")
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" '
        f'font-family="{look.get("family", FONT)}" font-weight="{look.get("weight", "400")}" '
        f'fill="{look.get("fill", INK)}">{escape(words)}</text>'
    )


def box(x: float, y: float, width: float, height: float, **look: str) -> str:
    """A rectangle with round corners."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="7" '
        f'fill="{look.get("fill", "#ffffff")}" stroke="{look.get("stroke", LINE)}" '
        f'stroke-width="1.5"/>'
    )


def arrow(x: float, y: float, to_x: float, colour: str = INK, dash: str = "none") -> str:
    """A horizontal arrow."""
    back = -6 if to_x > x else 6
    return (
        f'<path d="M{x:g} {y:g}H{to_x:g}" stroke="{colour}" stroke-width="1.5" '
        f'stroke-dasharray="{dash}"/>'
        f'<path d="M{to_x:g} {y:g}l{back} -4v8z" fill="{colour}"/>'
    )


def picture(width: int, height: int, title: str, parts: list[str]) -> str:
    """The file: a card with the parts on it."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" rx="10" fill="{PAPER}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def idea() -> str:
    """One idea: what a batch is, and what only decides when and where it is made."""
    stages = [
        ("(seed, epoch, step)", "three numbers"),
        ("rows", "plan and sampler"),
        ("load(rows)", "or your arrays"),
        ("transform, augment", "with their own rng"),
        ("batch", "into fit, no copy"),
    ]
    parts = [text(24, 34, "What a batch is", size=17, anchor="start", weight="600")]
    width, gap, x = 166, 16, 24
    for number, (name, below) in enumerate(stages):
        colour = ORANGE if number in (0, len(stages) - 1) else BLUE
        parts += [
            box(x, 50, width, 66, stroke=colour),
            text(x + width / 2, 78, name, size=13, family=MONO, fill=colour, weight="600"),
            text(x + width / 2, 101, below, size=14, fill=FAINT),
        ]
        if number:
            parts.append(arrow(x - gap + 2, 83, x - 3))
        x += width + gap
    parts.append(text(24, 158, "When and where it is made", size=17, anchor="start", weight="600"))
    parts.append(text(298, 158, "never changes what is in it", size=15, anchor="start", fill=FAINT))
    x = 24
    for name in (
        "0 workers",
        "threads",
        "processes",
        "a killed worker",
        "several machines",
        "a restart",
        "any backend",
    ):
        width = 8.3 * len(name) + 22
        parts += [
            box(x, 172, width, 34, fill="#eef3f5"),
            text(x + width / 2, 194, name, size=14.5),
        ]
        x += width + 10
    return picture(942, 228, "A batch is a function of seed, epoch and step", parts)


ACTORS = [
    ("EpochIterator", "Keras"),
    ("BatchDataset", "dataset/"),
    ("Serving", "fit/adapter.py"),
    ("Session", "fit/session.py"),
    ("Executor", "workers/executor.py"),
    ("Stream", "workers/stream.py"),
    ("Recipe", "batches/recipe.py"),
    ("Plan", "plan/plan.py"),
    ("load or gather", "Source, Slots"),
]
MESSAGES: list[tuple[int, int, str] | str] = [
    "once per call",
    (0, 1, "num_batches"),
    (1, 2, "num_batches(dataset), Calls.serve"),
    (2, 3, "Session(dataset, call, steps)"),
    (2, 0, "epoch_iterator.data_adapter = serving"),
    (2, 0, "Serving.num_batches"),
    "once per epoch",
    (0, 2, "get_jax_iterator, get_torch_dataloader or get_tf_dataset"),
    (2, 3, "Serving.batches, Session.batches"),
    (3, 4, "Executor.stream(Work(plan, training, summarise), epoch)"),
    (4, 5, "an InlineStream, ThreadedStream or ProcessStream, with Core.maker(work)"),
    "once per batch",
    (0, 2, "next"),
    (2, 3, "next"),
    (3, 5, "next"),
    (5, 6, "recipe(epoch, step), perhaps ahead of time"),
    (6, 7, "Plan.rows(epoch, step)"),
    (7, 6, "rows"),
    (6, 8, "load(rows)"),
    (8, 6, "arrays in slots"),
    (6, 5, "batch"),
    (5, 3, "batch, in order"),
    (3, 2, "weighed batch"),
    (2, 0, "tensors (tensors/*.py)"),
]


def route() -> str:
    """The route of a batch through `fit`: who asks whom, from top to bottom."""
    pitch, first, top, width = 118, 72, 84, 1088
    place = [first + number * pitch for number in range(len(ACTORS))]
    parts, y = [], top
    for message in MESSAGES:
        if isinstance(message, str):
            y += 34
            parts += [
                box(12, y - 17, width - 24, 24, fill="#eef3f5", stroke="#eef3f5"),
                text(26, y, message, size=14.5, anchor="start", weight="600"),
            ]
            y += 12
            continue
        start, end, words = message
        y += 31
        is_answer = end < start
        colour = ORANGE if is_answer else BLUE
        middle = (place[start] + place[end]) / 2
        half = 3.6 * len(words)
        middle = min(max(middle, half + 14), width - half - 14)
        parts += [
            f'<rect x="{middle - half:g}" y="{y - 17:g}" width="{2 * half:g}" height="14" '
            f'fill="{PAPER}"/>',
            text(middle, y - 6, words, size=13),
            arrow(place[start], y, place[end], colour, "5 3" if is_answer else "none"),
        ]
    height = int(y + 24)
    lanes = []
    for x, (name, where) in zip(place, ACTORS, strict=True):
        lanes += [
            f'<path d="M{x} 62V{height - 14}" stroke="{LINE}" stroke-width="1.5"/>',
            box(x - 57, 14, 114, 48),
            text(x, 34, name, size=13.5, weight="600"),
            text(x, 52, where, size=11.5, fill=FAINT),
        ]
    return picture(width, height, "The route of a batch through model.fit", [*lanes, *parts])


def speed() -> str:
    """The time of `fit(ds)` beside `fit(x, y)`, with the range of the rounds, as measured."""
    rows = json.loads(BASELINE.read_text())["answers"]["fit"]
    left, right, top, pitch = 250, 660, 84, 25
    places: dict[float, float] = {
        tick: left + (right - left) * tick / 1.5 for tick in (0.0, 0.5, 1.0, 1.5)
    }
    parts = [
        text(24, 34, "fit(ds) beside fit(x, y)", size=17, anchor="start", weight="600"),
        text(24, 56, "with the smallest model; below 1 is faster", anchor="start", fill=FAINT),
    ]
    y = top
    for backend, name in (("tensorflow", "TensorFlow"), ("jax", "JAX"), ("torch", "Torch")):
        for workload, size in (("T", "128 B"), ("C", "12 kB"), ("I", "150 kB")):
            (row,) = (
                row
                for row in rows
                if (row["backend"], row["workload"], row["model"]) == (backend, workload, "tiny")
                and row["feed"] == "keras_npbatch, default (workers=1)"
            )
            ratio = row["x fit(x, y)"]
            low, high = (
                left + (right - left) * float(end) / 1.5 for end in row["spread"].split("-")
            )
            end = left + (right - left) * ratio / 1.5
            parts += [
                text(left - 12, y + 13, f"{name}, {size}", size=14, anchor="end"),
                f'<rect x="{left}" y="{y}" width="{end - left:.1f}" height="17" fill="{BLUE}"/>',
                f'<path d="M{low:.1f} {y + 8.5}H{high:.1f}" stroke="{INK}" stroke-width="2"/>',
                text(right + 58, y + 13, f"{ratio:.2f}", size=14, anchor="end", weight="600"),
            ]
            y += pitch
        y += 10
    grid = [
        f'<path d="M{x:g} {top - 8}V{y - 8}" stroke="{ORANGE if tick == 1 else LINE}" '
        f'stroke-width="{2 if tick == 1 else 1}"/>'
        for tick, x in places.items()
    ]
    axis = [text(x, y + 10, f"{tick:g}", size=14) for tick, x in places.items()]
    told = "time of fit(ds) / time of fit(x, y); lines: the range of the rounds"
    axis.append(text((left + right) / 2, y + 34, told, size=14, fill=FAINT))
    return picture(
        740, y + 52, "The time of fit(ds) divided by that of fit(x, y)", grid + parts + axis
    )


PICTURES = {"idea.svg": idea, "route.svg": route, "speed.svg": speed}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw())
