"""Pictures to pixels, in worker threads: Pillow releases the interpreter while it decodes and resizes."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from app.errors import TooManyPixels, UnreadableImage, UnsupportedMediaType
from app.inference.engines.base import Images
from models import preprocess
from models.manifest import InputSpec


class Decoder:
    def __init__(self, threads: int, max_pixels: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._max_pixels = max_pixels

    async def decode(self, data: bytes, spec: InputSpec) -> Images:
        """uint8 [H, W, 3] as the spec says. A caller who leaves before its turn costs nothing.

        Raises `UnreadableImage`, `UnsupportedMediaType` or `TooManyPixels`.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, preprocess.load_image, data, spec, self._max_pixels)
        except preprocess.UnreadableImage as error:
            raise UnreadableImage(str(error)) from error
        except preprocess.UnsupportedImage as error:
            raise UnsupportedMediaType(str(error)) from error
        except preprocess.TooManyPixels as error:
            raise TooManyPixels(str(error)) from error

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
