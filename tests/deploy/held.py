"""`python -m tests.deploy.held`: the service, whose engine computes no white picture while the file HELD_BY exists."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from app.inference import engines

_held_by = Path(os.environ["HELD_BY"])
_factory = engines.factory


def _holding_factory(*arguments: Any) -> Any:
    load = _factory(*arguments)

    def load_holding(*version: Any) -> Any:
        engine = load(*version)
        engine.infer = _holding(engine.infer)
        engine.lanes = tuple(map(_holding, engine.lanes))
        engine.load_rest = lambda check: None  # or it would replace `infer`
        return engine

    return load_holding


def _holding(infer: Any) -> Any:
    def hold_white(images: Any) -> Any:
        while (images == 255).all() and _held_by.exists():
            time.sleep(0.01)
        return infer(images)

    return hold_white


engines.factory = _holding_factory

if __name__ == "__main__":
    from app.__main__ import main

    sys.exit(main())
