"""What this machine can do without HTTP: pictures decoded and computed in batches, in one process.

They are decoded in threads and, for as long again, by those who compute: small ones are done sooner than handed over.

python -m benchmarks.limit imagenet openvino auto FOLDER 8      prints pictures a second
"""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import cast

import numpy as np

from app.inference import engines
from app.inference.engines.base import Infer, prove, shared_out
from app.settings import PrecisionChoice, Settings
from models.preprocess import load_image
from models.repository import ModelRepository

ROOT = Path(__file__).parents[1]
Decoded = Callable[[], np.ndarray]

_AHEAD = 4  # batches that are being decoded while one is computed


def measure(model: str, engine_name: str, precision: str, files: list[bytes], seconds: float) -> float:
    settings = Settings()
    repository = ModelRepository(ROOT / "models")
    folder = max((one for one in repository.versions() if one.name == model), key=lambda one: one.version)
    manifest = repository.read(folder)
    name: engines.EngineName = "tensorflow" if engine_name == "tensorflow" else "openvino"
    engine = engines.factory(name, cast(PrecisionChoice, precision), settings.decode_threads)(folder, manifest)
    prove(engine, folder, manifest, settings.max_batch_size)
    lanes = engine.lanes or (engine.infer,)
    batch = shared_out(settings.max_batch_size, len(lanes))
    pictures: Iterator[bytes] = cycle(files)

    def rate(decode: Callable[[list[bytes]], list[Decoded]]) -> float:
        def compute(infer: Infer) -> int:
            waiting = [decode(list(islice(pictures, batch))) for _ in range(_AHEAD)]
            done = 0
            while time.perf_counter() - began < seconds:
                waiting.append(decode(list(islice(pictures, batch))))
                infer(np.stack([decoded() for decoded in waiting.pop(0)]))
                done += batch
            return done

        began = time.perf_counter()
        with ThreadPoolExecutor(len(lanes)) as computers:
            done = sum(computers.map(compute, lanes))
        return done / (time.perf_counter() - began)

    with ThreadPoolExecutor(settings.decode_threads) as decoders:
        in_threads = rate(lambda some: [decoders.submit(load_image, one, manifest.input).result for one in some])
    return max(in_threads, rate(lambda some: [partial(load_image, one, manifest.input) for one in some]))


def main() -> None:
    model, engine, precision, folder, seconds = sys.argv[1:]
    files = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    sys.stdout.write(f"{measure(model, engine, precision, files, float(seconds)):.1f}\n")


if __name__ == "__main__":
    main()
