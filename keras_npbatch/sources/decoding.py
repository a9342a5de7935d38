"""`Decoding`: how an image file becomes an array of one size.

    decoding = Decoding(size=(128, 128), color_mode="rgb")
    decoding.array("photo.jpg")         # uint8, of shape (128, 128, 3)

Pillow decodes and resizes. Where simplejpeg is installed it decodes JPEGs instead: somewhat faster,
to the same bytes, since both are libjpeg-turbo. (docs/files.md has the figures. OpenCV decodes as
fast as simplejpeg, and is faster as a whole only if it resizes without smoothing.)

A JPEG of at least four times the size is decoded to a half, a quarter or an eighth first, which the
format makes cheap. At least twice the size asked for is left for the resizing.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidArgumentError, MissingExtraError, describe

__all__ = ["CHANNELS", "INTERPOLATIONS", "Decoding", "chosen_decoder"]

CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}
"""How many channels an array has, by `color_mode`."""
_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
_COLORSPACES = {"grayscale": "GRAY", "rgb": "RGB", "rgba": "RGBA"}
INTERPOLATIONS = {
    "area": "BOX",
    "bicubic": "BICUBIC",
    "bilinear": "BILINEAR",
    "lanczos3": "LANCZOS",
    "nearest": "NEAREST",
}
"""What Pillow calls the interpolations that Keras names."""
_LEFT = 2.0
"""How many times the size asked for is decoded at least; Pillow recommends it as `reducing_gap`."""


def chosen_decoder(asked: str | None) -> str:
    """The decoder to use: the one asked for, or the fastest that is installed.

    Raises:
        InvalidArgumentError: for an unknown name.
        MissingExtraError: if it is not installed.
    """
    if asked not in (None, "pillow", "simplejpeg"):
        raise InvalidArgumentError(
            f"decoder is {describe(asked)}; expected 'pillow', 'simplejpeg', or None for the "
            "fastest that is installed."
        )
    has_simplejpeg = importlib.util.find_spec("simplejpeg") is not None
    chosen = asked or ("simplejpeg" if has_simplejpeg else "pillow")
    if importlib.util.find_spec("PIL") is None:
        raise MissingExtraError(
            "images are read with Pillow, which is not installed: pip install "
            "'keras_npbatch[images]'"
        )
    if chosen == "simplejpeg" and not has_simplejpeg:
        raise MissingExtraError(
            "decoder='simplejpeg' was given, and it is not installed: pip install simplejpeg"
        )
    return chosen


class _Part(NamedTuple):
    """A part of an image by its edges, in pixels."""

    left: int
    upper: int
    right: int
    lower: int


@dataclass(frozen=True, slots=True)
class Decoding:
    """How image files are decoded."""

    size: tuple[int, int] | None
    """Height and width; None: as each file has."""
    color_mode: str = "rgb"
    interpolation: str = "bilinear"
    crops: bool = False
    """Whether the middle of the image is cut out first, so that the resizing keeps proportions."""
    decoder: str = "pillow"

    def array(self, path: str, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """Decode a file.

        Args:
            path: of the file.
            out: an array to decode into, where that is possible.

        Returns:
            `out` if it holds the image now, or else a new array of shape
            `(height, width, channels)`.
        """
        content = Path(path).read_bytes()
        is_jpeg = content.startswith(b"\xff\xd8")
        found = self._jpeg(content, out) if is_jpeg and self.decoder == "simplejpeg" else None
        if found is None:
            found = np.asarray(self._any(path, content, is_jpeg))
        return found if found.ndim == 3 else found[..., np.newaxis]

    def _any(self, path: str, content: bytes, is_jpeg: bool) -> Any:
        """Any image, by Pillow."""
        from PIL import Image, UnidentifiedImageError

        mode = _MODES[self.color_mode]
        try:
            opened = Image.open(io.BytesIO(content))
        except UnidentifiedImageError:  # its text has the address of the bytes, not the path
            raise UnidentifiedImageError(f"cannot identify image file {path!r}") from None
        with opened as image:
            width, height = image.size
            part = self._part(height, width)
            scale = self._scale(part) if is_jpeg else 1
            if is_jpeg:
                image.draft(mode, (width // scale, height // scale))
            found: Any = image
            if image.mode.startswith("I"):  # 16 bits: the high byte, as TensorFlow reads it
                found = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode == "P":  # directly, Pillow warns of losing what is transparent
                found = image.convert("RGBA")
            return self._resized(found.convert(mode), part, scale)

    def _jpeg(self, content: bytes, out: npt.NDArray[np.uint8] | None) -> Any:
        """A JPEG, by simplejpeg; None if it is left to Pillow."""
        import simplejpeg

        try:
            height, width, colorspace, _ = simplejpeg.decode_jpeg_header(content)
            if colorspace not in ("YCbCr", "Gray"):
                return None
            part = self._part(height, width)
            scale = self._scale(part)
            needs_no_resize = self.size in (None, (height, width))
            fits = out is not None and out.shape[:2] == (height, width) and needs_no_resize
            decoded = simplejpeg.decode_jpeg(
                content,
                _COLORSPACES[self.color_mode],
                min_height=-(-height // scale),
                min_width=-(-width // scale),
                buffer=out if fits else None,
            )
        except ValueError:  # the file is not quite right: Pillow knows what to do, or says why not
            return None
        if needs_no_resize:
            return out if fits else decoded
        from PIL import Image

        image = Image.fromarray(decoded[..., 0] if decoded.shape[2] == 1 else decoded)
        return np.asarray(self._resized(image, part, scale))

    def _part(self, height: int, width: int) -> _Part:
        """What of an image is resized: all, or its middle."""
        if self.size is None or not self.crops:
            return _Part(0, 0, width, height)
        wanted_height, wanted_width = self.size
        cut_height = max(1, min(height, int(width * wanted_height / wanted_width)))
        cut_width = max(1, min(width, int(height * wanted_width / wanted_height)))
        upper, left = (height - cut_height) // 2, (width - cut_width) // 2
        return _Part(left, upper, left + cut_width, upper + cut_height)

    def _scale(self, part: _Part) -> int:
        """The factor, from 1 to 8, by which a JPEG is made smaller as it is decoded."""
        if self.size is None or self.interpolation == "nearest":
            return 1
        height, width = self.size
        times = min((part.lower - part.upper) / height, (part.right - part.left) / width)
        return next(scale for scale in (8, 4, 2, 1) if scale == 1 or times >= scale * _LEFT)

    def _resized(self, image: Any, part: _Part, scale: int) -> Any:
        """The part of an image of Pillow, in the size asked for."""
        if self.size is None:
            return image
        from PIL import Image

        height, width = self.size
        how = Image.Resampling[INTERPOLATIONS[self.interpolation]]
        return image.resize((width, height), how, tuple(edge / scale for edge in part))
