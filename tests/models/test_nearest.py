"""Searching: the true neighbours, at their true distances; and files that FAISS had better not read."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import nearest
from models.index_manifest import IndexManifest, Kind
from models.indexes import IndexFolder, IndexStore, InvalidIndex
from models.nearest import FaissMissing, Nearest, ParameterError
from models.repository import ModelRepository
from tests.indexes import embeddings, publish

KINDS: tuple[Kind, ...] = ("exact", "hnsw", "lsh")


def _opened(root: Path, folder: IndexFolder) -> tuple[Path, IndexManifest]:
    store = IndexStore(ModelRepository(root))
    manifest = store.read(folder)
    return store.index_path(folder, manifest), manifest


def _cosines(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    return vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_the_nearest_come_first_with_their_cosine_distances(tmp_path: Path, kind: Kind) -> None:
    vectors, (query,) = embeddings(200, 16), embeddings(1, 16, seed=1)
    index = nearest.read(*_opened(tmp_path, publish(tmp_path, vectors, kind=kind)))

    numbers, distances = index.search(3 * query, 7)

    expected = 1 - _cosines(vectors, query)
    np.testing.assert_array_equal(numbers, np.argsort(expected)[:7])
    np.testing.assert_allclose(distances, np.sort(expected)[:7], atol=1e-5)


def test_lsh_estimates_the_distance_from_the_bits_that_differ() -> None:
    vectors, (query,) = embeddings(100, 32), embeddings(1, 32, seed=1)
    index = nearest.build(vectors, "lsh", {"bits": 1024})

    numbers, distances = index.search(query, 100)

    np.testing.assert_allclose(distances, 1 - _cosines(vectors, query)[numbers], atol=0.15)
    assert (np.diff(distances) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_come_than_there_are_and_a_picture_finds_itself(tmp_path: Path, kind: Kind) -> None:
    vectors = embeddings(5, 16)
    index = nearest.read(*_opened(tmp_path, publish(tmp_path, vectors, kind=kind)))
    numbers, distances = index.search(vectors[3], 100)
    assert sorted(numbers) == [0, 1, 2, 3, 4]
    assert (numbers[0], distances[0]) == (3, pytest.approx(0, abs=1e-6))
    assert distances.dtype == np.float32


def test_an_embedding_of_zeros_is_at_distance_one_of_all_and_one_not_finite_finds_nothing() -> None:
    index = nearest.build(embeddings(5), "exact", {})
    np.testing.assert_array_equal(index.search(np.zeros(4, np.float32), 3)[1], [1, 1, 1])
    assert len(index.search(np.full(4, np.nan, np.float32), 3)[0]) == 0


def test_a_graph_is_searched_with_other_parameters_than_it_was_built_with() -> None:
    vectors = embeddings(3000, 64)
    graph = nearest.build(vectors, "hnsw", {"links": 2, "ef_construction": 8, "ef_search": 1})
    exact = nearest.build(vectors, "exact", {})

    def found(index: Nearest) -> int:
        return sum(len(np.intersect1d(index.search(q, 5)[0], exact.search(q, 5)[0])) for q in vectors[:50])

    assert found(graph) < found(graph.changed(ef_search=1000))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_or_size_is_refused_before_faiss_reads_it(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, manifest = _opened(tmp_path, publish(tmp_path, embeddings(5), kind=kind))
    other = KINDS[KINDS.index(kind) - 1]
    monkeypatch.setattr("faiss.read_index", lambda path: pytest.fail("it was read"))
    for changes in ({"size": 6}, {"dimension": 5}, {"kind": other, "parameters": nearest.DEFAULTS[other]}):
        with pytest.raises(InvalidIndex, match="is no "):
            nearest.read(path, manifest.model_copy(update=changes))
    path.write_bytes(b"")
    with pytest.raises(InvalidIndex, match="is no "):
        nearest.read(path, manifest)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_ends_early_or_asks_for_more_than_it_has_is_refused(tmp_path: Path, kind: Kind) -> None:
    path, manifest = _opened(tmp_path, publish(tmp_path, embeddings(50), kind=kind))
    data = path.read_bytes()
    for cut in (20, 40, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(InvalidIndex, match=r"is no \w+ index|FAISS can't read it"):
            nearest.read(path, manifest)


def _above(graph: Any) -> None:
    graph.hnsw.max_level += 1


def _to_the_ground(graph: Any) -> None:
    """A link at the level of the entry to a picture that is at the lowest one only."""
    faiss = nearest.library()
    levels, offsets, begins, neighbours = map(
        faiss.vector_to_array,
        (graph.hnsw.levels, graph.hnsw.offsets, graph.hnsw.cum_nneighbor_per_level, graph.hnsw.neighbors),
    )
    neighbours[int(offsets[graph.hnsw.entry_point]) + begins[graph.hnsw.max_level]] = np.flatnonzero(levels == 1)[-1]
    faiss.copy_array_to_vector(neighbours, graph.hnsw.neighbors)


def _nowhere(graph: Any) -> None:
    graph.hnsw.entry_point = -1


@pytest.mark.parametrize("change", [_above, _to_the_ground, _nowhere])
def test_a_graph_whose_search_would_leave_it_is_refused(tmp_path: Path, change: Any) -> None:
    path, manifest = _opened(tmp_path, publish(tmp_path, embeddings(2000), kind="hnsw"))
    nearest.read(path, manifest)
    graph = nearest.library().read_index(str(path))
    change(graph)
    nearest.library().write_index(graph, str(path))
    with pytest.raises(InvalidIndex, match="is no hnsw index for cosine distances"):
        nearest.read(path, manifest)


def test_an_index_of_another_kind_or_metric_inside_a_graph_is_refused_before_faiss_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, manifest = _opened(tmp_path, publish(tmp_path, embeddings(50), kind="hnsw"))
    data = path.read_bytes()
    monkeypatch.setattr("faiss.read_index", lambda path: pytest.fail("it was read"))
    inner = data.rindex(b"IxFI")
    for place, other in ((inner, b"IwFl"), (inner + 33, b"\1"), (33, b"\1"), (37, b"\xff" * 8)):
        damaged = data[:place] + other + data[place + len(other) :]
        path.write_bytes(damaged)
        with pytest.raises(InvalidIndex, match="is no hnsw index of 50 x 4 numbers"):
            nearest.read(path, manifest)


def test_bits_that_do_not_tell_the_angle_are_refused(tmp_path: Path) -> None:
    path, manifest = _opened(tmp_path, publish(tmp_path, embeddings(50), kind="lsh"))
    faiss = nearest.library()
    index = faiss.IndexLSH(4, 64, True, True)
    index.train(embeddings(50))
    index.add(embeddings(50))
    faiss.write_index(index, str(path))
    with pytest.raises(InvalidIndex, match="is no lsh index for cosine distances"):
        nearest.read(path, manifest)


def test_parameters_that_are_not_those_of_the_file_are_refused(tmp_path: Path) -> None:
    path, manifest = _opened(tmp_path, publish(tmp_path, embeddings(5), kind="lsh"))
    for parameters, message in (
        ({"bits": 128}, "has 64 bits, the manifest says 128"),
        ({"ef_search": 9}, "has no parameter ef_search"),
        ({"bits": 2**30}, "bits is 1073741824, expected 8 to 8192"),
    ):
        with pytest.raises(InvalidIndex, match=message):
            nearest.read(path, manifest.model_copy(update={"parameters": parameters}))


def test_parameters_are_checked_before_anything_is_built() -> None:
    assert nearest.resolved("hnsw", {"links": 8}) == {"links": 8, "ef_construction": 200, "ef_search": 64}
    with pytest.raises(ParameterError, match="kind exact has no parameter bits; it has none"):
        nearest.resolved("exact", {"bits": 64})
    with pytest.raises(ParameterError, match="links is 1, expected 2 to 256"):
        nearest.resolved("hnsw", {"links": 1})


def test_without_faiss_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, manifest = _opened(tmp_path, publish(tmp_path, embeddings(5)))
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(FaissMissing, match="install the extra 'index'"):
        nearest.read(path, manifest)
