"""Real encoded pictures in, real pixel values out; everything else is an ImageError."""

import io
import random
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageFilter

from models.manifest import InputSpec
from models.preprocess import (
    ImageError,
    TooManyPixels,
    UnreadableImage,
    UnsupportedImage,
    load_image,
    open_image,
    seen,
    to_pixels,
    upright,
)

# In production `models.preprocess` silences these remarks on damaged metadata; pytest's own filters come before it.
REMARKS = [f"PIL.{name}" for name in ("JpegImagePlugin", "PngImagePlugin", "TiffImagePlugin")]
pytestmark = [pytest.mark.filterwarnings(f"ignore::UserWarning:{module}") for module in REMARKS]

Pixels = npt.NDArray[np.uint8]
ROOT = Path(__file__).parents[2]
RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def encode(image: Image.Image, format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def load(data: bytes, height: int, width: int, max_pixels: int = 10**6, **spec: object) -> Pixels:
    pixels = load_image(data, InputSpec.model_validate({"height": height, "width": width, **spec}), max_pixels)
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8
    return pixels


def load_as_is(image: Image.Image, format_: str, **options: object) -> Pixels:
    """Encode and load at the same size: nothing is resized, only colours may change."""
    return load(encode(image, format_, **options), image.height, image.width)


def quadrants(width: int = 64, height: int = 48) -> Pixels:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, YELLOW
    return pixels


def photo(width: int, height: int) -> Image.Image:
    """Smooth, with some detail, like a photo."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, data: bytes, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(tags: dict[int, int], data: bytes) -> bytes:
    """A TIFF of 1 x 1 pixels; the tag of value 0 is the offset of its data."""
    tags = {256: 1, 257: 1, **tags}
    end = 8 + 2 + 12 * len(tags) + 4
    entries = [struct.pack("<HHII", tag, 4, 1, value or end) for tag, value in tags.items()]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4) + data


# Orientation

# What EXIF says must be done to the stored pixels
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}
LOSSLESS = {"JPEG": {"quality": 100, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format_", LOSSLESS)
def test_pictures_are_turned_upright(format_: str, orientation: int) -> None:
    data = encode(Image.fromarray(quadrants()), format_, exif=turned(orientation), **LOSSLESS[format_])
    upright = UPRIGHT[orientation](quadrants())
    tolerance = 2 if format_ == "JPEG" else 0
    np.testing.assert_allclose(load(data, *upright.shape[:2]).astype(int), upright, atol=tolerance)
    for height, width, resize in ((24, 24, "crop"), (20, 40, "crop"), (40, 20, "crop"), (16, 24, "stretch")):
        pixels = load(data, height, width, resize=resize)
        for y in (height // 4, height * 3 // 4):  # the centre of each quarter
            for x in (width // 4, width * 3 // 4):
                expected = upright[y * upright.shape[0] // height, x * upright.shape[1] // width]
                np.testing.assert_allclose(pixels[y, x].astype(int), expected, atol=tolerance)


def test_a_jpeg_that_lies_on_its_side_is_not_scaled_below_the_target() -> None:
    data = encode(photo(800, 400), "JPEG", exif=turned(6))  # upright 400 x 800: all of its width is needed
    stored = Image.open(io.BytesIO(data)).resize((100, 400), Image.Resampling.BICUBIC, box=(350, 0, 450, 400))
    np.testing.assert_array_equal(load(data, 100, 400), np.rot90(stored, -1))


@pytest.mark.parametrize("exif", [b"garbage", b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x09"])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_does_not_cost_the_picture(format_: str, exif: bytes) -> None:
    picture = photo(16, 12)
    np.testing.assert_array_equal(load_as_is(picture, format_, exif=b"Exif\0\0" + exif), load_as_is(picture, format_))


def test_an_unknown_orientation_counts_as_upright() -> None:
    for orientation in (0, 9, 65535):
        picture = load_as_is(Image.fromarray(quadrants()), "PNG", exif=turned(orientation))
        np.testing.assert_array_equal(picture, quadrants())


def test_damaged_metadata_writes_nothing_to_the_terminal() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "x" * 99
    data = encode(photo(8, 8), "JPEG", exif=exif.tobytes()[:40])
    code = (
        "import sys; from models.manifest import InputSpec; from models.preprocess import load_image;"
        "print(load_image(sys.stdin.buffer.read(), InputSpec(height=8, width=8)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, input=data, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"(8, 8, 3)\n", b"")


# Colours


def grey(*values: int) -> list[tuple[int, int, int]]:
    return [(value, value, value) for value in values]


def row(pixels: Pixels) -> list[tuple[int, ...]]:
    assert pixels.shape[0] == 1
    return [tuple(pixel) for pixel in pixels[0].tolist()]


def image(mode: str, values: list[object]) -> Image.Image:
    picture = Image.new(mode, (len(values), 1))
    picture.putdata(values)
    return picture


def palette(mode: str, values: list[object]) -> Image.Image:
    picture = image(mode, values)
    picture.putpalette([*RED, *GREEN, *BLUE])
    return picture


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP", "WEBP"])
def test_colours_and_greys_of_8_bits_are_kept(format_: str) -> None:
    lossless = {"lossless": True} if format_ == "WEBP" else {}
    assert row(load_as_is(image("RGB", [RED, (1, 2, 3)]), format_, **lossless)) == [RED, (1, 2, 3)]
    assert row(load_as_is(image("L", [0, 7, 255]), format_, **lossless)) == grey(0, 7, 255)
    assert row(load_as_is(image("1", [0, 255]), format_, **lossless)) == [BLACK, WHITE]


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP", "GIF"])
def test_palettes_are_resolved(format_: str) -> None:
    assert row(load_as_is(palette("P", [0, 1, 2, 1]), format_)) == [RED, GREEN, BLUE, GREEN]


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_over_white(format_: str) -> None:
    lossless = {"lossless": True, "exact": True} if format_ == "WEBP" else {}
    rgba = image("RGBA", [(*RED, 255), (*RED, 0), (0, 0, 0, 128), (*BLUE, 51)])
    assert row(load_as_is(rgba, format_, **lossless)) == [RED, WHITE, (127, 127, 127), (204, 204, 255)]
    if format_ != "WEBP":
        assert row(load_as_is(image("LA", [(9, 255), (9, 0), (0, 128)]), format_)) == grey(9, 255, 127)


def test_a_transparent_colour_or_palette_entry_lies_over_white() -> None:
    assert row(load_as_is(image("RGB", [RED, (1, 2, 3)]), "PNG", transparency=(1, 2, 3))) == [RED, WHITE]
    assert row(load_as_is(image("L", [5, 6]), "PNG", transparency=6)) == [(5, 5, 5), WHITE]
    for format_ in ("PNG", "GIF"):
        assert row(load_as_is(palette("P", [0, 1, 2]), format_, transparency=1)) == [RED, WHITE, BLUE]
    pixels = load_as_is(palette("P", [0, 1, 2]), "PNG", transparency=b"\x00\xff\x80")
    assert row(pixels) == [WHITE, GREEN, (127, 127, 255)]
    assert row(load_as_is(palette("PA", [(0, 255), (1, 0)]), "TIFF")) == [RED, WHITE]


@pytest.mark.parametrize(("kind", "expected"), [(1, 227), (2, 177)])  # 'associated': already multiplied by its alpha
def test_both_kinds_of_alpha_in_a_grey_tiff_lie_over_white(kind: int, expected: int) -> None:
    data = tiff({258: 8, 259: 1, 262: 1, 273: 0, 277: 2, 278: 1, 279: 2, 338: kind}, bytes([100, 128]))
    assert row(load(data, 1, 1)) == grey(expected)


def test_a_transparent_edge_does_not_bleed_its_hidden_colour() -> None:
    half = np.zeros((8, 8, 4), np.uint8)
    half[:, 4:] = (255, 255, 255, 255)  # the rest is black, and invisible
    assert load(encode(Image.fromarray(half), "PNG"), 3, 3).min() == 255


def test_cmyk_and_ycbcr_become_rgb() -> None:
    inks = image("CMYK", [(255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 0, 255), (0, 0, 0, 0)])
    expected = [(0, 255, 255), (255, 0, 255), BLACK, WHITE]
    assert row(load_as_is(inks, "TIFF")) == expected
    large = inks.resize((64, 16), Image.Resampling.NEAREST)
    pixels = load_as_is(large, "JPEG", quality=100, subsampling=0)
    np.testing.assert_allclose(pixels[8, 8::16].astype(int), expected, atol=3)
    pixels = load_as_is(image("RGB", expected).convert("YCbCr"), "TIFF")
    np.testing.assert_allclose(pixels[0].astype(int), expected, atol=3)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_grey_of_16_bits_is_scaled_and_not_clipped(format_: str) -> None:
    values = np.array([[0, 257, 32768, 65279, 65535]], np.uint16)
    assert row(load_as_is(Image.fromarray(values), format_)) == grey(0, 1, 128, 254, 255)
    dark = np.array([[0, 255, 2570]], np.uint16)  # by the range of its type, not by its largest value
    assert row(load_as_is(Image.fromarray(dark), format_)) == grey(0, 1, 10)


def test_transparent_grey_of_16_bits_lies_over_white() -> None:
    values = np.array([[0, 2570, 65535]], np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", transparency=2570)
    found = load_image(buffer.getvalue(), InputSpec(height=1, width=3))
    assert found[0].tolist() == [[0] * 3, [255] * 3, [255] * 3]


def test_infinite_pixel_of_a_float_picture_leaves_the_others_as_they_are() -> None:
    values = np.array([[0.0, 0.5, np.inf, 1.0]], np.float32)
    assert row(load_as_is(Image.fromarray(values), "TIFF")) == grey(0, 128, 0, 255)


def test_colours_of_16_bits_keep_their_high_byte() -> None:
    data = zlib.compress(b"\0" + struct.pack(">6H", 0, 32768, 65535, 65535, 258, 0))
    assert row(load(png(2, 1, 16, 2, data), 1, 2)) == [(0, 128, 255), (255, 1, 0)]


def test_grey_of_32_bits_and_floating_point_is_scaled() -> None:
    for values in ([[0, 32768, 65535]], [[0, 2**30, 2**31 - 1]]):
        assert row(load_as_is(Image.fromarray(np.array(values, np.int32)), "TIFF")) == grey(0, 128, 255)
    assert row(load_as_is(Image.fromarray(np.array([[-5, 65535]], np.int32)), "TIFF")) == grey(0, 255)
    for scale in (1, 255, 1e30):
        values = np.array([[0, 0.2 * scale, scale]], np.float32)
        assert row(load_as_is(Image.fromarray(values), "TIFF")) == grey(0, 51, 255)
    dark = np.array([[0, 0.2, np.nan, -1]], np.float32)
    assert row(load_as_is(Image.fromarray(dark), "TIFF")) == grey(0, 51, 0, 0)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_counts(format_: str) -> None:
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    options = {"lossless": True} if format_ == "WEBP" else {}
    pixels = load_as_is(first, format_, save_all=True, append_images=[second], **options)
    assert (pixels == RED).all()


# Geometry


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    for spec in ({"resize": "crop"}, {"resize": "stretch"}, {"interpolation": "bilinear"}):
        np.testing.assert_array_equal(load(encode(Image.fromarray(noise), "PNG"), 33, 47, **spec), noise)


def test_crop_takes_the_largest_centred_rectangle_of_the_target_shape() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), "PNG")
    np.testing.assert_array_equal(load(data, 8, 8), noise[:, 2:10])
    np.testing.assert_array_equal(load(data, 2, 12), noise[3:5])
    np.testing.assert_array_equal(load(data, 4, 6, crop_fraction=0.5), noise[2:6, 3:9])
    np.testing.assert_array_equal(load(data, 4, 4, crop_fraction=0.5), noise[2:6, 4:8])


def test_stretch_takes_the_whole_picture() -> None:
    bands = np.repeat([[RED, GREEN, BLUE]], 10, axis=1).repeat(10, axis=0).astype(np.uint8)
    data = encode(Image.fromarray(bands), "PNG")
    assert (load(data, 10, 10) == GREEN).all()
    stretched = load(data, 30, 6, resize="stretch", interpolation="bilinear")
    assert [tuple(pixel) for pixel in stretched[17, [0, 5]].tolist()] == [RED, BLUE]
    assert (stretched[17, 2:4, 1] > 200).all()


def test_the_interpolation_of_the_spec_is_used() -> None:
    picture = photo(40, 40)
    for name, filter_ in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        pixels = load(encode(picture, "PNG"), 30, 30, interpolation=name)
        np.testing.assert_array_equal(pixels, picture.resize((30, 30), filter_))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 300), (300, 1), (2, 2)])
def test_minute_and_thin_pictures_are_enlarged(width: int, height: int) -> None:
    for resize in ("crop", "stretch"):
        assert (load(encode(Image.new("RGB", (width, height), BLUE), "PNG"), 5, 9, resize=resize) == BLUE).all()
    assert (load(encode(Image.new("RGB", (width, height), BLUE), "PNG"), 9, 5, crop_fraction=0.01) == BLUE).all()


def full_decode(data: bytes, size: int, fraction: float = 1.0) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    side = min(picture.size) * fraction
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)


def test_a_large_jpeg_is_scaled_while_decoding_and_stays_close_to_the_whole() -> None:
    data = encode(photo(2000, 1500), "JPEG", quality=90)
    difference = np.abs(load(data, 224, 224, 10**7).astype(int) - np.asarray(full_decode(data, 224)))
    assert 0 < difference.mean() < 2
    half = Image.open(io.BytesIO(encode(photo(448, 448), "JPEG")))
    half.draft("RGB", (224, 224))
    assert half.size == (224, 224)
    np.testing.assert_array_equal(load(encode(photo(448, 448), "JPEG"), 224, 224), half)


@pytest.mark.parametrize(("side", "fraction"), [(447, 1.0), (225, 1.0), (500, 0.875), (511, 0.875)])
def test_a_jpeg_is_never_scaled_below_the_target(side: int, fraction: float) -> None:
    data = encode(photo(side, side), "JPEG", quality=90)  # half of it, or of its crop, would be less than 224
    pixels = load(data, 224, 224, crop_fraction=fraction)
    np.testing.assert_array_equal(pixels, full_decode(data, 224, fraction))


def test_the_pictures_of_the_repository_are_read() -> None:
    for name in ("espresso_cup.jpg", "cat.jpg"):
        data = (ROOT / "tests" / "pictures" / name).read_bytes()
        pixels = load(data, 224, 224, 10**8)
        assert pixels.std() > 20
        assert np.abs(pixels.astype(int) - np.asarray(full_decode(data, 224))).mean() < 2


# What can't be read

PICTURE = photo(40, 30)
FRAMES = {"save_all": True, "append_images": [PICTURE.rotate(90)]}
FILES = {
    "jpeg": encode(PICTURE, "JPEG", quality=95),
    "progressive": encode(PICTURE, "JPEG", progressive=True),
    "cmyk": encode(PICTURE.convert("CMYK"), "JPEG"),
    "mpo": encode(PICTURE, "MPO", **FRAMES),
    "png": encode(PICTURE, "PNG"),
    "png 16": encode(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)), "PNG"),
    "png palette": encode(PICTURE.quantize(16), "PNG", transparency=3),
    "apng": encode(PICTURE, "PNG", **FRAMES),
    "gif": encode(PICTURE.quantize(32), "GIF"),
    "gif animation": encode(PICTURE, "GIF", disposal=2, **FRAMES),
    "webp": encode(PICTURE, "WEBP"),
    "webp lossless": encode(PICTURE.convert("RGBA"), "WEBP", lossless=True),
    "webp animation": encode(PICTURE, "WEBP", **FRAMES),
    "bmp": encode(PICTURE, "BMP"),
    "tiff": encode(PICTURE, "TIFF"),
    "tiff lzw": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff jpeg": encode(PICTURE, "TIFF", compression="jpeg"),
    "tiff float": encode(PICTURE.convert("F"), "TIFF"),
}
UNSUPPORTED = {
    "text": b"plain text",
    "zeros": b"\0" * 100,
    "two bytes of a jpeg": b"\xff\xd8",
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
    "avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(99),
    "pdf": b"%PDF-1.7\n1 0 obj\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(99),
    "ppm, which Pillow reads": b"P6 1 1 255 abc",
    "ico, which Pillow reads": encode(PICTURE, "ICO"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_no_supported_picture_is_told_so(name: str) -> None:
    with pytest.raises(UnsupportedImage, match="expected one of JPEG, PNG, WEBP, GIF, BMP, TIFF; the data begins with"):
        load(UNSUPPORTED[name], 8, 8)


def test_nothing_is_unreadable() -> None:
    with pytest.raises(UnreadableImage, match="empty: 0 bytes came"):
        load(b"", 8, 8)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_is_unreadable(name: str) -> None:
    data = FILES[name]
    end = data.index(b"\xff\xd9") if name == "mpo" else len(data)  # or its first picture is whole
    assert load(data, 8, 8).std() > 0
    for share in (0.1, 0.3, 0.5):
        with pytest.raises(UnreadableImage, match="damaged or cut short"):
            load(data[: int(end * share)], 8, 8)


def test_a_damaged_png_is_unreadable_and_not_half_black() -> None:
    data = FILES["png"]
    start = data.index(b"IDAT") + 4
    for at in (data.index(b"IHDR") + 16 + 1, start, start + 300, len(data) - 20):  # checksum, head, middle, adler32
        with pytest.raises(UnreadableImage):
            load(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :], 8, 8)
    with pytest.raises(UnreadableImage, match="the PNG picture is damaged"):
        load(png(8, 8, 8, 2, b"no zlib stream at all"), 8, 8)


@pytest.mark.parametrize("compression", [1, 5, 8])
@pytest.mark.parametrize("offset", [1_000, 2**31 - 1, 2**32 - 1])
def test_a_tiff_with_garbage_offsets_is_unreadable(compression: int, offset: int) -> None:
    data = tiff({258: 8, 259: compression, 262: 1, 273: offset, 277: 1, 278: 1, 279: 9}, bytes(9))
    with pytest.raises(UnreadableImage, match="damaged or cut short"):
        load(data, 8, 8)
    with pytest.raises(UnreadableImage, match="header is damaged or cut short"):
        load(data[:4] + struct.pack("<I", offset) + data[8:], 8, 8)


# Too large


def memory_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB on Linux


def gif(width: int, height: int) -> bytes:
    """A screen of 10 x 10, and a frame that is larger and to be cleared afterwards: Pillow prepares that on opening."""
    head = b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0xF0, 0, 0) + bytes(6) + b"\x21\xf9\x04\x08\0\0\0\0"
    return head + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02L\x01\0;"


def webp(width: int, height: int) -> bytes:
    frame = encode(Image.new("RGB", (4, 4)), "WEBP", lossless=True)[12:]
    frame = bytes(6) + b"\x03\0\0" * 2 + bytes(4) + frame
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    chunks = b"VP8X" + struct.pack("<II", 10, 2) + size + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    chunks += b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def tiff_with_tiles(side: int) -> bytes:
    """One pixel, stored in one tile of `side` squared."""
    tile = zlib.compress(bytes(side * side))
    return tiff({258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 0, 325: len(tile)}, tile)


@pytest.mark.parametrize("kind", ["png", "gif", "webp", "tiff"])
def test_too_many_pixels_are_refused_before_memory_is_taken(kind: str) -> None:
    data = {
        "png": png(60_000, 60_000, 8, 6, b""),
        "gif": gif(60_000, 60_000),
        "webp": webp(16_000, 16_000),
        "tiff": tiff_with_tiles(4096),
    }[kind]
    before = memory_peak()
    with pytest.raises(TooManyPixels, match="the limit"):
        load(data, 8, 8)
    assert memory_peak() - before < 100


def test_the_limit_itself_is_allowed() -> None:
    data = encode(Image.new("RGB", (20, 10), RED), "PNG")
    assert (load(data, 8, 8, max_pixels=200) == RED).all()
    with pytest.raises(TooManyPixels, match="the picture has 20 x 10 pixels, the limit is 199 pixels in all"):
        load(data, 8, 8, max_pixels=199)
    assert load(tiff_with_tiles(64), 8, 8, max_pixels=4096).max() == 0
    with pytest.raises(TooManyPixels, match="tiles of 4,096 pixels, the limit is 4,095"):
        load(tiff_with_tiles(64), 8, 8, max_pixels=4095)
    with pytest.raises(TooManyPixels, match="claims more than the limit of 268,435,456 pixels"):
        load(png(60_000, 60_000, 8, 6, b""), 8, 8, max_pixels=10**10)


def test_running_out_of_memory_is_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", out_of_memory)
    with pytest.raises(TooManyPixels, match="the picture of 40 x 30 pixels does not fit in memory"):
        load(FILES["png"], 8, 8)


# Anything at all


def mutated(data: bytes, chance: random.Random) -> bytes:
    kind, at = chance.random(), chance.randrange(len(data))
    if kind < 0.2:
        return data[:at]
    if kind < 0.4:
        return data[:at] + chance.randbytes(chance.randrange(9)) + data[at + chance.randrange(9) :]
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        at = int(len(data) * chance.random() ** chance.choice([1, 3]))  # headers are near the start
        changed[at] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
def test_a_mutated_file_gives_a_picture_or_an_image_error(name: str) -> None:
    chance = random.Random(name)  # noqa: S311
    outcomes = {"picture": 0, "error": 0}
    for _ in range(150):
        try:
            load(mutated(FILES[name], chance), 6, 8)
            outcomes["picture"] += 1
        except ImageError:
            outcomes["error"] += 1
    assert all(outcomes.values())


def test_loading_in_many_threads_gives_the_same_pixels() -> None:
    files = [data for _ in range(12) for data in FILES.values()]
    expected = [load(data, 16, 20) for data in files]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda data: load(data, 16, 20), files))
    assert len(files) > 200
    np.testing.assert_array_equal(found, expected)


def _open(image: Image.Image, format_: str, **options: object) -> Image.Image:
    return open_image(encode(image, format_, **options))


def _ramps(width: int, height: int) -> Image.Image:
    """Red grows from left to right, green from top to bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.mark.parametrize("resize", ["crop", "stretch"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("size", [(400, 300), (300, 400), (2000, 40), (40, 2000), (1203, 901)])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF"])
def test_what_is_said_to_be_seen_is_what_the_model_gets(
    format_: str, size: tuple[int, int], orientation: int, resize: str
) -> None:
    fraction = 0.875 if resize == "crop" else 1.0
    spec = InputSpec.model_validate({"height": 60, "width": 90, "resize": resize, "crop_fraction": fraction})
    image = _open(_ramps(*size), format_, exif=_turned(orientation))
    pixels = to_pixels(image, spec)
    region = seen(image, spec)

    whole = np.asarray(upright(_open(_ramps(*size), format_, exif=_turned(orientation)), 4000), float)
    height, width, _ = whole.shape
    assert (height > width) == ((size[1] > size[0]) != (orientation in (6, 8)))
    rows = (region.top + (np.arange(60) + 0.5) / 60 * (region.bottom - region.top)) * height
    columns = (region.left + (np.arange(90) + 0.5) / 90 * (region.right - region.left)) * width
    expected = whole[rows.astype(int)][:, columns.astype(int)]
    # Bicubic resampling bends the ramps at the edges of the picture, and a DCT scale rounds its sides
    assert np.abs(pixels - expected)[2:-2, 2:-2, :2].max() < 12
    assert np.abs(pixels - expected)[..., :2].mean() < 4
    if resize == "stretch":
        assert region == (0.0, 0.0, 1.0, 1.0)
    else:
        assert (region.right - region.left) * width / ((region.bottom - region.top) * height) == pytest.approx(
            1.5, rel=2e-3
        )


@pytest.mark.parametrize(("size", "expected"), [((400, 100), (200, 50)), ((100, 4000), (5, 200)), ((9, 7), (9, 7))])
def test_an_upright_picture_is_in_proportion_and_never_enlarged(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    found = upright(_open(_ramps(*size), "JPEG"), 200)
    assert (found.size, found.mode) == (expected, "RGB")
    assert upright(_open(_ramps(*size), "JPEG", exif=_turned(6)), 200).size == expected[::-1]


def test_an_upright_picture_has_the_colours_that_people_see() -> None:
    grey = Image.fromarray(np.full((4, 4), 50000, np.uint16))
    assert upright(_open(grey, "PNG"), 9).getpixel((1, 1)) == (195, 195, 195)
    assert upright(_open(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG"), 9).getpixel((1, 1)) == WHITE
    with pytest.raises(UnreadableImage):
        upright(open_image(encode(photo(64, 64), "PNG")[:-400]), 32)
