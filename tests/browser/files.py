"""Files as Playwright puts them into a file field."""

import io

from PIL import Image
from playwright.sync_api import FilePayload


def file(name: str, data: bytes, media_type: str = "image/png") -> FilePayload:
    return {"name": name, "mimeType": media_type, "buffer": data}


def shade(grey: int, name: str = "shade.png") -> FilePayload:
    """A grey picture, which the painted engine calls bright with a confidence of grey / 255."""
    return painting(Image.new("RGB", (30, 20), (grey, grey, grey)), name)


def painting(image: Image.Image, name: str = "painting.png") -> FilePayload:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return file(name, buffer.getvalue())
