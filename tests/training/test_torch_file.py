"""Files in PyTorch's legacy format, written here by hand, read back without PyTorch."""

import io
import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from training.torch_file import read_state_dict

MAGIC = 0x1950A86A20F9469CFC6C


class Storage:
    def __init__(self, kind: str, key: str, values: list[float]) -> None:
        self.kind, self.key, self.values = kind, key, values


class Tensor:
    def __init__(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments = (storage, offset, size, stride, False, OrderedDict())


class _Pickler(pickle.Pickler):
    """Storages become persistent ids, tensors calls of `torch._utils._rebuild_tensor_v2`, as in `torch.save`."""

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        return "storage", getattr(sys.modules["torch"], obj.kind), obj.key, "cpu", len(obj.values), None

    def reducer_override(self, obj: Any) -> Any:
        return (sys.modules["torch._utils"]._rebuild, obj.arguments) if isinstance(obj, Tensor) else NotImplemented


@pytest.fixture(autouse=True)
def _torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of PyTorch as pickling by reference asks for."""
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "DoubleStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def rebuild() -> None: ...

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild = utils._rebuild_tensor_v2 = rebuild
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def _legacy_file(tensors: Any, *storages: Storage, magic: Any = MAGIC) -> bytes:
    file = io.BytesIO()
    for document in (magic, 1001, {"little_endian": True}, tensors, [storage.key for storage in storages]):
        _Pickler(file, protocol=2).dump(document)
    for storage in storages:
        dtype = "<f4" if storage.kind == "FloatStorage" else "<i8"
        file.write(np.array(len(storage.values), "<i8").tobytes() + np.array(storage.values, dtype).tobytes())
    return file.getvalue()


def _small_file() -> bytes:
    floats, steps = Storage("FloatStorage", "2", [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]), Storage("LongStorage", "1", [42])
    tensors = OrderedDict(
        steps=Tensor(steps, 0, (), ()),
        plain=Tensor(floats, 0, (2, 3), (3, 1)),
        transposed=Tensor(floats, 0, (3, 2), (1, 3)),
        tail=Tensor(floats, 4, (2,), (1,)),
    )
    return _legacy_file(tensors, floats, steps)


def test_tensors_come_back_by_name_in_their_own_order_of_elements() -> None:
    found = read_state_dict(io.BytesIO(_small_file()))

    assert list(found) == ["steps", "plain", "transposed", "tail"]
    assert found["plain"].tolist() == [[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]]
    assert found["transposed"].tolist() == [[0.5, 3.5], [1.5, 4.5], [2.5, 5.5]]
    assert found["tail"].tolist() == [4.5, 5.5]
    assert found["steps"].tolist() == 42
    assert (found["plain"].dtype, found["steps"].dtype) == ("float32", "int64")


class _Bomb(NamedTuple):
    path: str

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("where", ["magic", "tensors"])
def test_a_pickle_that_asks_for_a_function_is_refused_and_nothing_runs(tmp_path: Path, where: str) -> None:
    bomb = _Bomb(str(tmp_path / "went-off"))
    data = _legacy_file({}, magic=bomb) if where == "magic" else _legacy_file({"x": bomb})

    with pytest.raises(ValueError, match=r"posix\.mkdir has no place in a state dict"):
        read_state_dict(io.BytesIO(data))
    assert not Path(bomb.path).exists()


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"not a pickle", b"\x80\x05" + b"\xff" * 64, b"PK\x03\x04 a zip"])
def test_garbage_and_damaged_zip_files_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable PyTorch file"):
        read_state_dict(io.BytesIO(data))


def test_another_magic_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not a file of torch\.save in the format before PyTorch 1\.6"):
        read_state_dict(io.BytesIO(_legacy_file({}, magic=MAGIC + 1)))


@pytest.mark.parametrize("document", [[1, 2], {"x": 3}, {"x": None}, "text"])
def test_a_pickle_of_something_else_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="not a readable PyTorch file"):
        read_state_dict(io.BytesIO(_legacy_file(document)))


def test_a_file_cut_short_anywhere_is_refused() -> None:
    data = _small_file()
    for length in range(len(data)):
        with pytest.raises(ValueError):
            read_state_dict(io.BytesIO(data[:length]))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (7,), (1,)), (4, (3,), (1,)), (0, (2, 3), (4, 1)), (0, (2,), (10**9,)), (5, (2,), (-1,)), (-1, (2,), (1,)),
     (0, (0,), (1,)), (0, (-2,), (1,))],
)  # fmt: skip
def test_a_tensor_that_reaches_outside_its_storage_is_refused(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    storage = Storage("FloatStorage", "1", [0.0] * 6)

    with pytest.raises(ValueError, match="does not fit into its storage of 6 numbers"):
        read_state_dict(io.BytesIO(_legacy_file({"x": Tensor(storage, offset, size, stride)}, storage)))


def test_other_kinds_of_numbers_are_refused() -> None:
    storage = Storage("DoubleStorage", "1", [1])

    with pytest.raises(ValueError, match=r"torch\.DoubleStorage has no place in a state dict"):
        read_state_dict(io.BytesIO(_legacy_file({"x": Tensor(storage, 0, (1,), (1,))}, storage)))
