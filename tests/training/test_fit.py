"""Training: what the optimiser sees, and what comes back."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

from training import fit
from training.data import Split, Splits
from training.recipe import Recipe


def _recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": "m", "description": "", "dataset": "mnist", "architecture": "mnist_cnn", "epochs": 2, "batch_size": 8,
        "input": {"height": 4, "width": 4}, "learning_rate": 0.05,
    }  # fmt: skip
    return Recipe.model_validate({**values, **changes})


def _numbered(n: int) -> Split:
    """Pictures whose every pixel is their own number, the class of which tells whether it is large."""
    numbers = np.arange(n)
    images = np.broadcast_to(numbers[:, None, None, None], (n, 4, 4, 3)).astype(np.uint8)
    return Split(images, (numbers >= n // 2).astype(np.int64))


def _splits() -> Splits:
    return Splits(*(_numbered(n) for n in (200, 20, 20, 20, 20)))


def _builder(policies: list[str]) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        policies.append(keras.mixed_precision.dtype_policy().name)
        pixels = keras.Input((4, 4, 3))
        features = keras.layers.Rescaling(1 / 100, -1.0)(pixels)
        embedding = keras.layers.BatchNormalization(momentum=0.8)(keras.layers.GlobalAveragePooling2D()(features))
        logits = keras.layers.Dense(2, kernel_initializer="zeros")(embedding)
        return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": features})

    return build


def _accuracy(network: keras.Model, split: Split) -> float:
    logits = keras.ops.convert_to_numpy(network(split.images.astype("float32"), training=False)["logits"])
    return float((logits.argmax(axis=1) == split.classes).mean())


def _batches(recipe: Recipe) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield from fit._training_batches(_numbered(21), recipe).as_numpy_iterator()


def test_every_example_is_seen_once_an_epoch_with_its_own_class() -> None:
    batches = list(_batches(_recipe()))

    assert [len(images) for images, _ in batches] == [8, 8, 5]
    images, classes = (np.concatenate(part) for part in zip(*batches, strict=True))
    numbers = images[:, 0, 0, 0].astype(int)
    assert sorted(numbers) == list(range(21))
    assert (classes == (numbers >= 10)).all()
    assert (images.dtype, images.shape) == (np.float32, (21, 4, 4, 3))
    # without augmentation, pixels stay as they are
    assert (images == numbers[:, None, None, None]).all()


def test_each_epoch_has_its_own_order_and_each_seed_its_own_orders() -> None:
    pipeline = fit._training_batches(_numbered(21), _recipe(batch_size=21, seed=1))
    again = fit._training_batches(_numbered(21), _recipe(batch_size=21, seed=1))
    other = fit._training_batches(_numbered(21), _recipe(batch_size=21, seed=2))

    orders = [next(iter(p.as_numpy_iterator()))[0][:, 0, 0, 0].tolist() for p in (pipeline, pipeline, again, other)]

    first_epoch, second_epoch, same_seed, other_seed = orders
    assert first_epoch != list(range(21))
    assert second_epoch != first_epoch
    assert same_seed == first_epoch
    assert other_seed != first_epoch


def test_mixed_precision_trains_in_bfloat16_and_gives_back_a_float32_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_has_bfloat16", lambda: True)
    keras.utils.set_random_seed(0)
    policies: list[str] = []

    network = fit.fit(_builder(policies), _splits(), _recipe(mixed_precision=True))

    assert policies == ["mixed_bfloat16", "float32"]
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert _accuracy(network, _numbered(200)) > 0.9


def test_the_precision_of_the_process_is_restored_even_where_building_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_has_bfloat16", lambda: True)

    def build() -> keras.Model:
        raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match="out of ideas"):
        fit.fit(build, _splits(), _recipe(mixed_precision=True))
    assert keras.mixed_precision.dtype_policy().name == "float32"


def test_a_cosine_falls_from_the_learning_rate_to_zero_over_all_steps() -> None:
    schedule = fit._learning_rate(_recipe(schedule="cosine"), steps=100)

    assert [float(schedule(step)) for step in (0, 50, 100)] == pytest.approx([0.05, 0.025, 0.0], abs=1e-8)
