"""Two real photographs, which scikit-learn brings along, found without importing it.

And a folder of parts of them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from PIL import Image

__all__ = ["CHINA", "FLOWER", "folder_of_photos"]

_spec = importlib.util.find_spec("sklearn")
assert _spec is not None
assert _spec.origin is not None
_FOLDER = Path(_spec.origin).parent / "datasets" / "images"
CHINA = _FOLDER / "china.jpg"
"""Of a palace: 640 pixels wide, 427 high."""
FLOWER = _FOLDER / "flower.jpg"
"""Of a flower, of the same size."""


_NAMES = ["z.jpg", "B.JPG", "a.png", "deep/er/c.bmp", "deep/a.gif", "deep.jpeg", "Ünï.PNG"]
"""In each of two classes; their order differs by case, by depth and by what Keras sorts first."""


def folder_of_photos(folder):
    """Two classes of photographs, a hidden folder, a link, an empty class, and other files."""
    for number, path in enumerate((CHINA, FLOWER)):
        picture = Image.open(path).copy()
        for place, name in enumerate(_NAMES):
            file = folder / ("china", "Flower")[number] / name
            file.parent.mkdir(parents=True, exist_ok=True)
            left = 40 * place
            picture.crop((left, 0, left + 40, 30)).save(file)
    (folder / "nothing").mkdir()
    (folder / ".hidden").mkdir()
    picture.crop((0, 0, 40, 30)).save(folder / ".hidden" / "a.png")
    picture.crop((0, 0, 40, 30)).save(folder / "outside.png")
    (folder / "china" / "notes.txt").write_text("no image")
    (folder / "china" / "link").symlink_to(folder / ".hidden")
    (folder / "linked").symlink_to(folder / "Flower" / "deep")
    return folder
