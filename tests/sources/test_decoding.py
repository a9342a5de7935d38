"""Decoding: both decoders give the same bytes, and what is resized is what Pillow resizes."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from keras_npbatch.errors import InvalidArgumentError, MissingExtraError
from keras_npbatch.sources.decoding import INTERPOLATIONS, Decoding, chosen_decoder
from tests.pictures import CHINA, FLOWER

PICTURE = Image.open(CHINA).copy()
MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("images") / "image"


def saved(path, image, **settings):
    image.save(path, **settings)
    return str(path)


# --- JPEG --------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    width=st.integers(1, 640),
    height=st.integers(1, 427),
    size=st.none() | st.tuples(st.integers(1, 80), st.integers(1, 80)),
    color_mode=st.sampled_from(sorted(MODES)),
    interpolation=st.sampled_from(sorted(INTERPOLATIONS)),
    crops=st.booleans(),
    is_gray=st.booleans(),
    quality=st.sampled_from([40, 75, 95]),
    subsampling=st.sampled_from([0, 1, 2]),
    is_progressive=st.booleans(),
)
@example(640, 427, (40, 40), "rgb", "bilinear", False, False, 75, 2, False)  # an eighth
@example(640, 427, (1, 1), "rgb", "bilinear", True, False, 75, 2, False)
def test_both_decoders_give_the_same_bytes(
    path, width, height, size, color_mode, interpolation, crops, is_gray, quality, subsampling,
    is_progressive,
):  # fmt: skip
    image = PICTURE.crop((0, 0, width, height)).convert("L" if is_gray else "RGB")
    settings = {} if is_gray else {"subsampling": subsampling}
    file = saved(
        path, image, format="JPEG", quality=quality, progressive=is_progressive, **settings
    )
    found = [
        Decoding(size, color_mode, interpolation, crops, decoder).array(file)
        for decoder in ("pillow", "simplejpeg")
    ]
    assert found[0].dtype == found[1].dtype == np.uint8
    assert found[0].shape == (*(size or (height, width)), len(MODES[color_mode]))
    np.testing.assert_array_equal(*found)


def of_two_pictures(path):
    """As telephones write them, with a small one after the large one."""
    return saved(path, PICTURE, format="MPO", save_all=True, append_images=[PICTURE.resize((9, 9))])


def of_inks(path):
    return saved(path, PICTURE.convert("CMYK"), format="JPEG")


def with_rubbish_behind(path):
    file = saved(path, PICTURE, format="JPEG")
    path.write_bytes(path.read_bytes() + bytes(range(256)))
    return file


@pytest.mark.parametrize("make", [of_two_pictures, of_inks, with_rubbish_behind])
@pytest.mark.parametrize("size", [None, (50, 60)])
def test_unusual_jpegs_are_decoded_alike(path, make, size):
    file = make(path)
    found = [Decoding(size, decoder=name).array(file) for name in ("pillow", "simplejpeg")]
    np.testing.assert_array_equal(*found)
    if size is None:
        with Image.open(file) as image:
            np.testing.assert_array_equal(found[0], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("decoder", ["pillow", "simplejpeg"])
def test_a_jpeg_that_is_cut_off_is_refused(path, decoder):
    file = saved(path, PICTURE, format="JPEG")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(OSError, match="truncated"):
        Decoding((50, 60), decoder=decoder).array(file)


def test_a_large_jpeg_is_decoded_smaller_with_nearly_the_same_result():
    """Within what another smoothing of the same picture would differ by."""
    for path in (CHINA, FLOWER):
        whole = Image.open(path).convert("RGB").resize((64, 48), Image.Resampling.BILINEAR)
        found = Decoding((48, 64), decoder="pillow").array(str(path))
        difference = np.abs(found.astype(int) - np.asarray(whole))
        assert 0 < difference.mean() < 4


def test_a_jpeg_lies_in_the_array_that_was_given_where_it_fits():
    out = np.zeros((427, 640, 3), np.uint8)
    expected = np.asarray(PICTURE)
    for size in (None, (427, 640)):
        assert Decoding(size, decoder="simplejpeg").array(str(CHINA), out) is out
        np.testing.assert_array_equal(out, expected)
        out[...] = 0
    small = np.zeros((5, 5, 3), np.uint8)
    found = Decoding(None, decoder="simplejpeg").array(str(CHINA), small)
    np.testing.assert_array_equal(found, expected)
    assert not small.any()


# --- other formats -----------------------------------------------------------------------------

FORMATS = {"PNG": ["RGB", "RGBA", "L", "LA", "P", "1"], "BMP": ["RGB", "L", "P", "1"]}


@pytest.mark.parametrize("color_mode", MODES)
@pytest.mark.parametrize(
    ("kind", "mode"), [(name, mode) for name, modes in FORMATS.items() for mode in modes]
)
def test_every_kind_of_image_becomes_what_pillow_converts_it_to(path, kind, mode, color_mode):
    image = PICTURE.crop((0, 0, 40, 30)).convert(mode)
    found = Decoding(None, color_mode).array(saved(path, image, format=kind))
    expected = np.asarray(image.convert(MODES[color_mode])).reshape(30, 40, -1)
    assert found.shape == (30, 40, len(MODES[color_mode]))
    np.testing.assert_array_equal(found, expected)


def test_a_palette_with_transparent_colours_keeps_its_colours(path):
    image = PICTURE.crop((0, 0, 40, 30)).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    file = saved(path, image, format="PNG", transparency=bytes(range(0, 256, 16)))
    np.testing.assert_array_equal(Decoding(None).array(file), expected)


def test_sixteen_bits_become_their_high_byte(path):
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    file = saved(path, Image.fromarray(deep), format="PNG")
    found = Decoding(None, "grayscale").array(file)
    np.testing.assert_array_equal(found[..., 0], deep >> 8)


def test_the_first_image_of_an_animation_is_read(path):
    frames = [PICTURE.crop((x, 0, x + 40, 30)).quantize(64) for x in (0, 300)]
    file = saved(path, frames[0], format="GIF", save_all=True, append_images=frames[1:])
    found = Decoding(None).array(file)
    np.testing.assert_array_equal(found, np.asarray(frames[0].convert("RGB")))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_an_image_is_resized_as_pillow_does(path, interpolation):
    image = PICTURE.crop((0, 0, 90, 70))
    found = Decoding((40, 50), interpolation=interpolation).array(saved(path, image, format="PNG"))
    how = Image.Resampling[INTERPOLATIONS[interpolation]]
    np.testing.assert_array_equal(found, np.asarray(image.resize((50, 40), how)))


@pytest.mark.parametrize(
    ("size", "box"),
    [((40, 40), (160, 0, 480, 320)), ((20, 80), (0, 80, 640, 240)), ((32, 64), (0, 0, 640, 320))],
)
def test_the_middle_is_cut_out_as_keras_does(path, size, box):
    image = PICTURE.crop((0, 0, 640, 320))
    found = Decoding(size, crops=True).array(saved(path, image, format="PNG"))
    expected = image.resize(size[::-1], Image.Resampling.BILINEAR, box=box)
    np.testing.assert_array_equal(found, np.asarray(expected))


# --- which decoder -----------------------------------------------------------------------------


def test_the_decoder_is_simplejpeg_where_it_is_installed(monkeypatch):
    find = importlib.util.find_spec
    assert chosen_decoder(None) == "simplejpeg"
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "simplejpeg" else find(name)
    )
    assert chosen_decoder(None) == "pillow"
    with pytest.raises(MissingExtraError) as caught:
        chosen_decoder("simplejpeg")
    assert str(caught.value) == (
        "decoder='simplejpeg' was given, and it is not installed: pip install simplejpeg"
    )
    assert chosen_decoder("pillow") == "pillow"


def test_a_missing_pillow_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        chosen_decoder(None)
    assert str(caught.value) == (
        "images are read with Pillow, which is not installed: pip install 'keras_npbatch[images]'"
    )


def test_an_unknown_decoder_is_refused():
    with pytest.raises(InvalidArgumentError) as caught:
        chosen_decoder("opencv")
    assert str(caught.value) == (
        "decoder is 'opencv' (str); expected 'pillow', 'simplejpeg', or None for the fastest that "
        "is installed."
    )


@pytest.mark.parametrize("decoder", ["pillow", "simplejpeg"])
@pytest.mark.parametrize("content", [b"no image", b"\xff\xd8 no image"])
def test_what_is_no_image_is_named_by_its_path(path, decoder, content):
    path.write_bytes(content)
    with pytest.raises(UnidentifiedImageError) as caught:
        Decoding((50, 60), decoder=decoder).array(str(path))
    assert str(caught.value) == f"cannot identify image file {str(path)!r}"
