"""Ray: tasks that decode wherever there is a core, one actor for each device, and rows as they come.

Pixels go from the ones to the others through Ray's memory, and Ray holds back tasks whose blocks nobody has taken yet.
So memory is bounded, however many pictures there are.
"""

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from app.batch.decoding import Decode, block_rows
from app.batch.inference import Classify, Wanted
from models.quiet import without_native_chatter
from models.storage import StorageError

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # or a thread of Ray Data would start it anew after the job was stopped
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray Data ends its actors so, and Ray would tell it as a failure, on stdout, even with `log_to_driver` off
    "RAY_DEDUP_LOGS_SKIP_REGEX": r"it was killed by `ray\.kill`",
}
_STORE_BYTES = 512 * 2**20
_SMALLEST_STORE_BYTES = 80 * 2**20
_SHARED_MEMORY = "/dev/shm"  # noqa: S108  where Ray keeps its store


class ClusterError(Exception):
    """Ray can't be had, or has given up; the message says why."""


@contextmanager
def cluster(address: str | None, cores: int) -> Iterator[Any]:
    """Ray: that of the address, or one of this process alone, which ends with it, however it ends."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data  # which sets up its logging, and would undo what is set here

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    shared: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
    if address is None:
        shared |= {"address": "local", "num_cpus": cores, "include_dashboard": False, **_store()}
    else:
        shared["address"] = address
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with without_native_chatter():
            context = ray.init(**shared)
    except SystemExit:  # Ray's own answer to SIGTERM, where ours is wanted
        signal.signal(signal.SIGTERM, on_sigterm)
        signal.raise_signal(signal.SIGTERM)
        raise
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"Ray can't be had at {address or 'this machine'}: {error}") from error
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray has its own, which would leave with a dump of the stack
    try:
        yield ray
    finally:
        ray.shutdown()
        if address is None:  # or each run would leave a folder of logs
            shutil.rmtree(context.address_info["session_dir"], ignore_errors=True)


def classified(ray: Any, decode: Decode, wanted: Wanted) -> Generator[pa.Table]:
    """Rows of the missing parts, some at a time and in no order.

    Raises `StorageError` where a task did, `ClusterError` where Ray gives up for any other reason.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    spec = wanted.manifest.input
    context.target_max_block_size = block_rows(spec) * spec.height * spec.width * 3  # so that blocks stay as they are
    parts = len(decode.parts)
    devices, each = _devices(ray, wanted.engine)
    dataset = (
        ray.data.range(parts, override_num_blocks=parts)
        .map_batches(decode, batch_size=None, batch_format="numpy", num_cpus=1)
        # Of other resources than the tasks, or Ray would decode in the actor, in one thread
        .map_batches(
            Classify,
            fn_constructor_args=(wanted,),
            batch_size=None,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=devices),
            **each,
        )
    )
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except Exception as error:  # a task's, an actor's or Ray's own
        if (lost := _caused_by_storage(error)) is not None:
            raise StorageError(str(lost).splitlines()[0]) from error  # Ray adds advice of its own
        raise ClusterError(f"Ray has given up: {_last_line(error)}") from error


def _devices(ray: Any, engine: str) -> tuple[int, dict[str, float]]:
    """How many actors there are, and what each of them takes. Cores are shared: who has nothing to do leaves them."""
    gpus = int(ray.cluster_resources().get("GPU", 0)) if engine == "tensorflow" else 0
    if gpus:
        return gpus, {"num_cpus": 0, "num_gpus": 1}
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return max(1, len(nodes)), {"num_cpus": 0}


def _store() -> dict[str, Any]:
    """Where Ray keeps blocks: a container may have little shared memory, and then it is a file."""
    try:
        free = shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:
        free = 0
    size = min(_STORE_BYTES, int(0.8 * free))
    if size >= _SMALLEST_STORE_BYTES:
        return {"object_store_memory": size}
    return {"object_store_memory": _STORE_BYTES, "_plasma_directory": tempfile.gettempdir()}


def _caused_by_storage(error: BaseException | None) -> StorageError | None:
    """Ray hands on what a task has raised as the cause of its own errors."""
    while error is not None:
        for one in (getattr(error, "cause", None), error):
            if isinstance(one, StorageError):
                return one
        error = error.__cause__
    return None


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
