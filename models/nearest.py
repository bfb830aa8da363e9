"""Nearest pictures by FAISS (Douze et al. 2024): the one way of searching, of measuring an index and of serving it.

    exact   every embedding is compared
    hnsw    a graph of neighbours is walked (Malkov and Yashunin 2018)
    lsh     the signs of random projections are compared in place of the embeddings (Charikar 2002)

FAISS is imported when an index is built or read, and not before.
"""

import logging
import math
import os
import struct
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from models.index_manifest import IndexManifest, Kind
from models.indexes import InvalidIndex
from models.repository import RepositoryError

if TYPE_CHECKING:
    import faiss

Embeddings = npt.NDArray[np.float32]
Distances = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

DEFAULTS: dict[Kind, dict[str, int]] = {
    "exact": {},
    "hnsw": {"links": 32, "ef_construction": 200, "ef_search": 64},
    "lsh": {"bits": 1024},
}

_RANGES = {"links": (2, 256), "ef_construction": (1, 4096), "ef_search": (1, 65536), "bits": (8, 8192)}
_MARKS: dict[Kind, bytes] = {"exact": b"IxFI", "hnsw": b"IHNf", "lsh": b"IxHe"}  # the first bytes of FAISS's files
_INNER_PRODUCT, _EUCLIDEAN = 0, 1  # FAISS's numbers of metrics; of bits it has but the second, and does not use it
_HEADER = struct.Struct("<4siq16x?i")  # mark, dimension, number of embeddings, whether it is trained, metric
_GRAPH_LISTS = (8, 4, 4, 8, 4)  # bytes of an item of each: after the header of a graph, before its embeddings
_GRAPH_NUMBERS = 5 * 4  # bytes, after the lists


class FaissMissing(RepositoryError):
    """FAISS is not installed here."""


class ParameterError(RepositoryError):
    """A parameter that its kind of index does not have, or of a value that it can't have."""


class Nearest:
    """Embeddings that can be searched by cosine distance, 0 to 2."""

    def __init__(self, index: "faiss.Index", kind: Kind, parameters: dict[str, int]) -> None:
        self._index = index
        self._kind = kind
        self.parameters = parameters

    def search(self, embedding: Embeddings, k: int) -> tuple[Numbers, Distances]:
        """Numbers int64 and distances float32 of the `k` pictures nearest to float32 [D], or of all there are.

        Computes in the calling thread alone. For `lsh` the distance is estimated from the bits that differ.
        """
        faiss = library()
        faiss.omp_set_num_threads(1)  # of this thread; FAISS would take every core, in which the engine computes
        k = min(k, self._index.ntotal)
        search = None
        if self._kind == "hnsw":
            search = faiss.SearchParametersHNSW(efSearch=max(k, self.parameters["ef_search"]))
        found, numbers = self._index.search(normalised(embedding[None]), k, params=search)
        known = (numbers[0] >= 0) & np.isfinite(found[0])  # a graph may lead to fewer
        cosines = np.cos(found[0] * (math.pi / self.parameters["bits"])) if self._kind == "lsh" else found[0]
        return numbers[0][known], np.clip(1 - cosines[known], 0, 2).astype(np.float32)

    def changed(self, **parameters: int) -> "Nearest":
        """The same embeddings, searched with other parameters of searching."""
        return Nearest(self._index, self._kind, {**self.parameters, **parameters})

    def write(self, path: Path) -> None:
        library().write_index(self._index, str(path))


def resolved(kind: Kind, given: dict[str, int]) -> dict[str, int]:
    """All parameters of a kind. Raises `ParameterError` for one that it does not have or that is out of range."""
    if unknown := given.keys() - DEFAULTS[kind].keys():
        known = ", ".join(DEFAULTS[kind]) or "none"
        raise ParameterError(f"an index of kind {kind} has no parameter {min(unknown)}; it has {known}")
    for name, value in given.items():
        least, most = _RANGES[name]
        if not least <= value <= most:
            raise ParameterError(f"{name} is {value}, expected {least} to {most}")
    return DEFAULTS[kind] | given


def build(embeddings: Embeddings, kind: Kind, parameters: dict[str, int]) -> Nearest:
    """An index of float32 [N, D]. `parameters` are all those of its kind. Raises `FaissMissing`."""
    faiss = library()
    vectors = normalised(embeddings)
    dimension = vectors.shape[1]
    if kind == "exact":
        index = faiss.IndexFlatIP(dimension)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimension, parameters["links"], faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = parameters["ef_construction"]
    else:
        # Without thresholds of its own for each bit: with them, the bits would no longer tell the angle
        index = faiss.IndexLSH(dimension, parameters["bits"], True, False)
        index.train(vectors)
    index.add(vectors)
    return Nearest(index, kind, parameters)


def read(path: Path, manifest: IndexManifest) -> Nearest:
    """The index that a verified file holds. Raises `InvalidIndex` where it is not what the manifest says.

    FAISS trusts what it reads, so the head of the file is looked at before, and memory for more than the file is never
    asked for. Raises `FaissMissing`.
    """
    faiss = library()
    if not _has_expected_heads(path, manifest):
        raise InvalidIndex(f"{path} is no {manifest.kind} index of {manifest.size} x {manifest.dimension} numbers")
    try:
        parameters = resolved(manifest.kind, manifest.parameters)
    except ParameterError as error:
        raise InvalidIndex(f"{path.parent.parent}: {error}") from error
    faiss.set_deserialization_vector_byte_limit(path.stat().st_size)
    try:
        index = faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        raise InvalidIndex(f"{path}: FAISS can't read it: {str(error).splitlines()[0]}") from error
    if not _searchable(index):
        raise InvalidIndex(f"{path} is no {manifest.kind} index for cosine distances")
    if manifest.kind == "lsh" and index.nbits != parameters["bits"]:
        raise InvalidIndex(f"{path} has {index.nbits} bits, the manifest says {parameters['bits']}")
    return Nearest(index, manifest.kind, parameters)


def _has_expected_heads(path: Path, manifest: IndexManifest) -> bool:
    """Whether the file begins as it should, and the embeddings in a graph do: FAISS would read an index of any kind."""
    with path.open("rb") as file:
        if not _has_head(file, manifest.kind, manifest):
            return False
        if manifest.kind != "hnsw":
            return True
        for item_bytes in _GRAPH_LISTS:
            length = int.from_bytes(file.read(8), "little")
            file.seek(item_bytes * min(length, path.stat().st_size), os.SEEK_CUR)
        file.seek(_GRAPH_NUMBERS, os.SEEK_CUR)
        return _has_head(file, "exact", manifest)


def _has_head(file: BinaryIO, kind: Kind, manifest: IndexManifest) -> bool:
    head = file.read(_HEADER.size)
    metric = _EUCLIDEAN if kind == "lsh" else _INNER_PRODUCT
    expected = (_MARKS[kind], manifest.dimension, manifest.size, True, metric)
    return len(head) == _HEADER.size and _HEADER.unpack(head) == expected


def _searchable(index: "faiss.Index") -> bool:
    """Whether bits tell the angle, and a search of a graph stays within it: FAISS does not look at that.

    All ways down from the entry have to lead over pictures with neighbours at that level: of one that has none, the
    search takes what lies behind it in memory.
    """
    faiss = library()
    if isinstance(index, faiss.IndexLSH):
        return bool(index.rotate_data and not index.train_thresholds and not index.rrot.have_bias)
    if not isinstance(index, faiss.IndexHNSWFlat):
        return True
    graph: Any = index.hnsw
    heights, places, begins, neighbours = (
        faiss.rev_swig_ptr(vector.data(), vector.size())
        for vector in (graph.levels, graph.offsets, graph.cum_nneighbor_per_level, graph.neighbors)
    )
    if heights.min() < 1 or graph.entry_point < 0 or not 0 <= graph.max_level < heights[graph.entry_point]:
        return False
    for level in range(1, graph.max_level + 1):
        first = places[:-1][heights > level, None].astype(np.int64)
        linked = neighbours[first + np.arange(begins[level], begins[level + 1])]
        if (heights[linked[linked >= 0]] <= level).any():
            return False
    return True


def normalised(embeddings: Embeddings) -> Embeddings:
    """float32 [N, D] of length 1, so that inner products are cosines; an embedding of zeros stays so."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    found: Embeddings = np.ascontiguousarray(embeddings / np.maximum(lengths, 1e-12), np.float32)
    return found


def library() -> ModuleType:
    """FAISS. Raises `FaissMissing`."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # else it tells which processors it was not built for
    try:
        import faiss
    except ImportError as error:
        raise FaissMissing("FAISS is not installed; install the extra 'index'") from error
    return faiss
