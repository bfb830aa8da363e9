"""`python -m tests.e2e.hanging`: the service with an engine that hangs on a white picture, for ever."""

import sys
import threading
from typing import Any

from app.inference import engines

_factory = engines.factory


def _hanging_factory(*arguments: Any) -> Any:
    load = _factory(*arguments)

    def load_hanging(*version: Any) -> Any:
        engine = load(*version)
        engine.infer = _hanging(engine.infer)
        engine.lanes = tuple(map(_hanging, engine.lanes))
        engine.load_rest = lambda check: None  # or it would replace `infer`
        return engine

    return load_hanging


def _hanging(infer: Any) -> Any:
    def hang_on_white(images: Any) -> Any:
        while (images == 255).all():
            threading.Event().wait()
        return infer(images)

    return hang_on_white


engines.factory = _hanging_factory  # workers import this module too, as the one they were started from

if __name__ == "__main__":
    from app.__main__ import main

    sys.exit(main())
