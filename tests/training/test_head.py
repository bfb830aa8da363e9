"""The head on frozen embeddings: what it decides, and that cross-fitted logits never saw their own example."""

from collections import Counter

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from training import head
from training.head import Floats, Ints


def _clouds(count: int, each: int, seed: int = 0) -> tuple[Floats, Ints]:
    """Embeddings float32 [count * each, 6] around a centre for each class, near enough to be mistaken at times."""
    random = np.random.default_rng(seed)
    classes = np.repeat(np.arange(count), each)
    centres = np.random.default_rng(99).normal(0, 1.5, (count, 6))
    return (centres[classes] + random.normal(size=(len(classes), 6))).astype(np.float32), classes


def _regression(embeddings: Floats, classes: Ints) -> LogisticRegression:
    scale = 10 / np.linalg.norm(embeddings, axis=1).mean()
    found = LogisticRegression(C=head.INVERSE_REGULARISATION, max_iter=2000, tol=1e-6)
    return found.fit(embeddings.astype(np.float64) * scale, classes)


@pytest.mark.parametrize("count", [2, 3, 40])
def test_it_says_what_logistic_regression_says_on_embeddings_of_norm_ten(count: int) -> None:
    embeddings, classes = _clouds(count, each=30)
    other, _ = _clouds(count, each=10, seed=1)

    fitted = head.fit(embeddings, classes, count)

    assert (fitted.kernel.shape, fitted.bias.shape) == ((6, count), (count,))
    assert fitted.kernel.dtype == fitted.bias.dtype == fitted(other).dtype == np.float32
    scale = 10 / np.linalg.norm(embeddings, axis=1).mean()
    expected = _regression(embeddings, classes).predict_proba(other * scale)
    found = softmax(fitted(other).astype(np.float64), axis=1)
    # It stops earlier, where the loss hardly moves any more
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.1)
    assert np.abs(found - expected).mean() < 0.002
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_scale_of_the_embeddings_does_not_matter(factor: float) -> None:
    embeddings, classes = _clouds(3, each=20)
    expected = head.fit(embeddings, classes, 3)(embeddings)

    found = head.fit(embeddings * np.float32(factor), classes, 3)(embeddings * np.float32(factor))

    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize("present", [[1], [0, 3], [0, 2, 3]])
def test_a_class_without_an_example_is_never_the_answer(present: list[int]) -> None:
    embeddings, classes = _clouds(len(present), each=20)
    classes = np.array(present)[classes]

    logits = head.fit(embeddings, classes, 5)(embeddings)

    missing = sorted(set(range(5)) - set(present))
    assert logits.shape == (len(embeddings), 5)
    assert set(logits.argmax(axis=1)) == set(present)
    assert softmax(logits, axis=1)[:, missing].max() < 0.001
    seen = head.fit(embeddings, np.searchsorted(present, classes), len(present))(embeddings)
    np.testing.assert_allclose(logits[:, present], seen, atol=1e-5)


@pytest.mark.parametrize("row", [0, 37, 89])
def test_no_logits_depend_on_the_label_or_the_embedding_of_their_own_example(row: int) -> None:
    embeddings, classes = _clouds(3, each=30)
    folds = head._folds(classes, seed=5)
    before = head.cross_fitted_logits(embeddings, classes, 3, seed=5)
    # Far out on the side of its class, it moves all heads that see it
    moved = embeddings.copy()
    moved[row] = -8 * embeddings[row]

    after = head.cross_fitted_logits(moved, classes, 3, seed=5)

    companions = (folds == folds[row]) & (np.arange(90) != row)
    np.testing.assert_array_equal(after[companions], before[companions])
    assert np.abs(after[folds != folds[row]] - before[folds != folds[row]]).max() > 0.1
    assert np.abs(head.fit(moved, classes, 3)(embeddings) - head.fit(embeddings, classes, 3)(embeddings)).max() > 0.1
    # The head that judged it takes its new place as it would any other: logits are linear in the embedding
    inside = folds == folds[row]
    judge = head.fit(embeddings[~inside], classes[~inside], 3)
    np.testing.assert_allclose(after[row], judge(moved[row : row + 1])[0], rtol=1e-5)


def test_the_label_of_an_example_changes_the_logits_of_others_only(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, classes = _clouds(3, each=30)
    folds = head._folds(classes, seed=5)
    # Folds depend on classes, and would move other examples along with the one whose label is changed
    monkeypatch.setattr(head, "_folds", lambda *_: folds)
    before = head.cross_fitted_logits(embeddings, classes, 3, seed=5)
    for row in (0, 37, 89):
        changed = classes.copy()
        changed[row] = (classes[row] + 1) % 3

        after = head.cross_fitted_logits(embeddings, changed, 3, seed=5)

        np.testing.assert_array_equal(after[folds == folds[row]], before[folds == folds[row]])
        assert np.abs(after[folds != folds[row]] - before[folds != folds[row]]).max() > 0.01


def test_labels_drawn_at_random_are_not_learnt_by_heart() -> None:
    random = np.random.default_rng(0)
    embeddings, classes = random.normal(size=(60, 200)).astype(np.float32), np.repeat([0, 1], 30)

    crossed = head.cross_fitted_logits(embeddings, classes, 2, seed=0).argmax(axis=1) == classes

    assert (head.fit(embeddings, classes, 2)(embeddings).argmax(axis=1) == classes).all()
    assert 0.25 < crossed.mean() < 0.75


def test_folds_hold_each_class_evenly_and_are_of_even_size() -> None:
    classes = np.repeat(np.arange(12), [4, 5, 6, 7, 8, 9, 20, 1, 2, 3, 4, 4])
    np.random.default_rng(1).shuffle(classes)

    folds = head._folds(classes, seed=3)

    for class_id in range(12):
        counts = np.bincount(folds[classes == class_id], minlength=head.FOLDS)
        assert np.ptp(counts) <= 1
    assert np.ptp(np.bincount(folds, minlength=head.FOLDS)) <= 4
    assert set(folds) == set(range(head.FOLDS))


def test_halves_share_no_example_and_hold_each_class_evenly() -> None:
    classes = np.repeat(np.arange(4), [4, 5, 9, 30])

    first, second = head.halves(classes, seed=0)

    assert (first ^ second).all()
    a, b = Counter(classes[first].tolist()), Counter(classes[second].tolist())
    assert all(abs(a[class_id] - b[class_id]) <= 1 for class_id in range(4))
    assert abs(first.sum() - second.sum()) <= 2


def test_the_seed_alone_decides() -> None:
    embeddings, classes = _clouds(3, each=20)

    again, other = (head.cross_fitted_logits(embeddings, classes, 3, seed) for seed in (1, 2))

    np.testing.assert_array_equal(again, head.cross_fitted_logits(embeddings, classes, 3, seed=1))
    assert not np.array_equal(again, other)
    np.testing.assert_array_equal(head.halves(classes, 1)[0], head.halves(classes, 1)[0])
    assert not np.array_equal(head.halves(classes, 1)[0], head.halves(classes, 2)[0])


def test_one_example_of_each_class_is_enough_to_go_on_with() -> None:
    embeddings, classes = _clouds(2, each=1)

    logits = head.cross_fitted_logits(embeddings, classes, 2, seed=0)

    assert np.isfinite(logits).all()
    assert (logits.argmax(axis=1) != classes).all()  # each head knows the other class alone
