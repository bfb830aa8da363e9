"""How well an index finds pictures: its figures on queries that are not in it, and what a graph needs to find them."""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from models import nearest
from models.index_manifest import Speed
from models.manifest import Metric
from models.nearest import Nearest, Numbers
from training.embed import Embedded

NEIGHBOURS = 10
_WANTED_RECALL = 0.98  # of its own pictures: of others, which are found a little less well, 0.95 is wanted
_TRIED = (16, 32, 64, 128, 256, 512, 1024, 2048)
_TRIED_ON = 500
_TIMED = 300
_ROUNDS = 3

Embeddings = npt.NDArray[np.float32]


def with_recall(graph: Nearest, embeddings: Embeddings) -> Nearest:
    """The graph with the least `ef_search` at which it finds 98 % of the ten true neighbours of its own pictures."""
    sample = np.random.default_rng(0).permutation(len(embeddings))[:_TRIED_ON]
    exact = nearest.build(embeddings, "exact", {})
    true = [exact.search(embeddings[i], NEIGHBOURS + 1)[0] for i in sample]
    for ef_search in _TRIED:
        graph = graph.changed(ef_search=ef_search)
        found = [graph.search(embeddings[i], NEIGHBOURS + 1)[0] for i in sample]
        others = [_recall(np.setdiff1d(f, i), np.setdiff1d(t, i)) for f, t, i in zip(found, true, sample, strict=True)]
        if np.mean(others) >= _WANTED_RECALL:
            break
    return graph


def figures(index: Nearest, indexed: Embedded, queries: Embedded, dataset: str) -> tuple[Metric, ...]:
    """Of the ten nearest of each query: the share that has its class, and how many of those that exact search finds."""
    exact = nearest.build(indexed.embeddings, "exact", {})
    found = [index.search(query, NEIGHBOURS)[0] for query in queries.embeddings]
    true = [exact.search(query, NEIGHBOURS)[0] for query in queries.embeddings]
    precision = [np.mean(indexed.classes[numbers] == of) for numbers, of in zip(found, queries.classes, strict=True)]
    recall = list(map(_recall, found, true))
    return (
        _mean(f"precision_at_{NEIGHBOURS}", precision, dataset),
        _mean(f"recall_of_exact_at_{NEIGHBOURS}", recall, dataset),
    )


def speed(index: Nearest, indexed: Embedded, queries: Embedded) -> Speed:
    """Queries per second in one thread, best of three rounds, each beside one of exact search."""
    exact = nearest.build(indexed.embeddings, "exact", {})
    asked = queries.embeddings[:_TIMED]
    rounds = [(_seconds(index, asked), _seconds(exact, asked)) for _ in range(_ROUNDS)]
    ours, exacts = (min(taken) for taken in zip(*rounds, strict=True))
    return Speed(queries_per_second=round(len(asked) / ours, 1), times_exact=round(exacts / ours, 3), n=len(asked))


def _seconds(index: Nearest, queries: Embeddings, clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    for query in queries:
        index.search(query, NEIGHBOURS)
    return clock() - started


def _recall(found: Numbers, true: Numbers) -> float:
    return len(np.intersect1d(found, true)) / len(true)


def _mean(name: str, shares: list[np.floating] | list[float], dataset: str) -> Metric:
    """The mean over queries, which are independent of each other, with its normal interval."""
    value = float(np.mean(shares))
    reach = 1.96 * float(np.std(shares)) / np.sqrt(len(shares))
    return Metric(
        name=name,
        value=value,
        low=max(0.0, value - reach),
        high=min(1.0, value + reach),
        interval="normal",
        n=len(shares),
        dataset=dataset,
    )
