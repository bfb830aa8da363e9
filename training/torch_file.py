"""Reads the tensors of a PyTorch state dict without PyTorch, and without running what a pickle may ask for.

Before PyTorch 1.6 `torch.save` wrote a magic number, protocol and system info, a pickle in which storages stand as
persistent ids, the list of their keys, then each storage as an int64 count and its raw numbers. Since then it writes
a zip file of the same pickle and one entry of raw numbers for each storage.
"""

import pickle
import zipfile
from collections import OrderedDict
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

_MAGIC = 0x1950A86A20F9469CFC6C
_ZIP = b"PK\x03\x04"
_DTYPES: dict[str, np.dtype[np.generic]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor(NamedTuple):
    storage: tuple[str, str, str, str, int, object] | tuple[str, str, str, str, int]
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool = False
    hooks: object = None


def read_state_dict(file: BinaryIO) -> dict[str, Array]:
    """All tensors by name, float32 or int64.

    Raises `ValueError` where the file is damaged, of another format or asks for anything else.
    """
    try:
        return _read(file)
    except ValueError:
        raise
    except Exception as error:  # damaged pickles raise nearly anything
        raise ValueError(f"not a readable PyTorch file: {error}") from error


def _read(file: BinaryIO) -> dict[str, Array]:
    start = file.read(len(_ZIP))
    file.seek(0)
    return _read_zip(file) if start == _ZIP else _read_legacy(file)


def _read_zip(file: BinaryIO) -> dict[str, Array]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        (root,) = (name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl"))
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")
        with archive.open(f"{root}data.pkl") as stream:
            tensors = _Unpickler(stream).load()
        dtypes = {tensor.storage[2]: _DTYPES[tensor.storage[1]] for tensor in tensors.values()}
        storages = {key: np.frombuffer(archive.read(f"{root}data/{key}"), dtype) for key, dtype in dtypes.items()}
    return {name: _view(storages[tensor.storage[2]], tensor) for name, tensor in tensors.items()}


def _read_legacy(file: BinaryIO) -> dict[str, Array]:
    if _Unpickler(file).load() != _MAGIC:
        raise ValueError("not a file of torch.save in the format before PyTorch 1.6")
    _Unpickler(file).load(), _Unpickler(file).load()  # protocol version and system info
    tensors = _Unpickler(file).load()
    keys = _Unpickler(file).load()
    dtypes = {tensor.storage[2]: _DTYPES[tensor.storage[1]] for tensor in tensors.values()}
    storages = {}
    for key in keys:
        count = int(np.frombuffer(file.read(8), "<i8")[0])
        data = file.read(count * dtypes[key].itemsize)
        storages[key] = np.frombuffer(data, dtypes[key], count)
    return {name: _view(storages[tensor.storage[2]], tensor) for name, tensor in tensors.items()}


def _view(storage: Array, tensor: _Tensor) -> Array:
    """The tensor's elements in its own order: storages may hold them transposed."""
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
    if (
        min(tensor.size, default=1) < 1
        or tensor.offset < 0
        or min(tensor.stride, default=0) < 0
        or last >= len(storage)
    ):
        raise ValueError(f"a tensor of size {tensor.size} does not fit into its storage of {len(storage)} numbers")
    strides = [step * storage.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.size, strides, writeable=False)


def _parameter(data: _Tensor, *_: object) -> _Tensor:
    """A parameter is a tensor with a flag and hooks for training."""
    return data


class _Unpickler(pickle.Unpickler):
    """Knows an ordered dict, tensors and storages, and refuses to import anything else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a state dict")

    def persistent_load(self, pid: object) -> object:
        return pid
