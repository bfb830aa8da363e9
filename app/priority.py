"""Threads that compute stand back behind the one that talks to callers."""

import os
import sys
import threading
from contextlib import suppress

_NICENESS = 10


def stand_back() -> None:
    """Lower the priority of the calling thread, and of those that it starts from now on.

    Where there are more busy threads than cores, the event loop would otherwise wait for its turn behind pictures
    that are decoded and batches that are computed: callers would be refused late, and lanes run empty.
    """
    if sys.platform == "linux":  # elsewhere threads have none of their own
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
