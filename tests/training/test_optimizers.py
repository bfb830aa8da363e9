"""Learning rates by hand, and optimisers on problems small enough to know what they must do."""

import keras
import numpy as np
import pytest

from training import optimizers
from training.history import Epoch
from training.optimizers import DiscriminativeAdam, Muon, orthogonalised, plateau_rate
from training.recipe import Recipe


def _history(*accuracies: float) -> list[Epoch]:
    return [Epoch(i + 1, 1.0, 0.5, 1.0, accuracy, 0.1, 1.0) for i, accuracy in enumerate(accuracies)]


@pytest.mark.parametrize(
    ("accuracies", "rate"),
    [
        ([], 0.8),
        ([0.5, 0.6, 0.7, 0.8, 0.9], 0.8),
        ([0.5, 0.4, 0.4], 0.8),
        ([0.5, 0.4, 0.4, 0.4], 0.4),
        # a figure that is reached again is not better
        ([0.5, 0.5, 0.5, 0.5], 0.4),
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4], 0.4),
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4], 0.2),
        ([0.5, 0.4, 0.4, 0.6, 0.4, 0.4], 0.8),
        # what one epoch gained is no reason to go back up
        ([0.5, 0.4, 0.4, 0.4, 0.9], 0.4),
    ],
)
def test_the_rate_halves_when_the_best_accuracy_has_stood_for_three_epochs(
    accuracies: list[float], rate: float
) -> None:
    assert plateau_rate(0.8, _history(*accuracies)) == pytest.approx(rate)


def test_the_rate_of_a_plateau_has_a_floor() -> None:
    assert plateau_rate(0.8, _history(*[0.5] * 200)) == 1e-5


def test_one_cycle_tops_after_three_tenths_of_the_steps_and_ends_near_nothing() -> None:
    schedule = optimizers.one_cycle(0.5, 100)

    rates = [float(schedule(step)) for step in range(101)]

    assert rates[0] == pytest.approx(0.5 / 25)
    assert int(np.argmax(rates)) == 30
    assert rates[30] == pytest.approx(0.5)
    assert (np.diff(rates[:31]) > 0).all()
    assert (np.diff(rates[30:]) < 0).all()
    # half way down the cosine
    assert rates[65] == pytest.approx(0.25, abs=1e-3)
    assert 0 < rates[100] < 1e-3 * 0.5


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [0.1, 0.1, 0.1]), ("cosine", [0.1, 0.05, 0.0]), ("linear", [0.1, 0.05, 0.0])],
)
@pytest.mark.parametrize(("name", "kind"), [("adam", keras.optimizers.Adam), ("muon", Muon)])
def test_the_recipe_says_which_optimiser_and_how_its_rate_falls(
    name: str, kind: type, schedule: str, expected: list[float]
) -> None:
    recipe = Recipe.model_validate(
        {"model": "m", "description": "", "dataset": "mnist", "architecture": "simple", "epochs": 2, "batch_size": 8,
         "input": {"height": 4, "width": 4}, "learning_rate": 0.05, "optimizer": name, "schedule": schedule}
    )  # fmt: skip
    found = optimizers.optimizer(recipe, 100, 8, factor=2.0)

    rates = []
    for step in (0, 50, 100):
        found.iterations.assign(step)
        rates.append(float(found.learning_rate))
    assert type(found) is kind
    assert rates == pytest.approx(expected, abs=1e-7)


def test_a_factor_of_a_tenth_moves_a_weight_a_tenth_as_far() -> None:
    start = np.array([1.0, -2.0, 3.0], "float32")
    near, far = (keras.Variable(start, name=name) for name in ("near", "far"))
    adam = DiscriminativeAdam(0.01, lambda variable: 0.1 if variable.path == "far" else 1.0)
    gradient = keras.ops.convert_to_tensor(np.array([0.5, -4.0, 1e-2], "float32"))

    adam.apply([gradient, gradient], [near, far])

    moved, moved_less = (variable.numpy() - start for variable in (near, far))
    # the first step of Adam is the learning rate, whatever the gradient
    np.testing.assert_allclose(moved, [-0.01, 0.01, -0.01], rtol=1e-3)
    np.testing.assert_allclose(moved_less, moved / 10, rtol=1e-3)


@pytest.mark.parametrize("shape", [(48, 20), (20, 48), (1, 1, 40, 24), (3, 3, 4, 20), (3, 3, 4, 50)])
def test_orthogonalised_kernels_have_the_same_singular_vectors_and_values_near_one(shape: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(len(shape)).normal(size=shape).astype("float32")

    result = keras.ops.convert_to_numpy(orthogonalised(keras.ops.convert_to_tensor(kernel), iterations=5))

    assert result.shape == shape
    left, _, right = np.linalg.svd(kernel.reshape(-1, shape[-1]).astype(np.float64), full_matrices=False)
    between = left.T @ result.reshape(-1, shape[-1]) @ right.T
    values = np.diag(between)
    np.testing.assert_allclose(between - np.diag(values), 0.0, atol=1e-4)
    assert values.min() > 0.5
    assert values.max() < 1.6


def test_three_iterations_bring_the_singular_values_of_a_kernel_together() -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 30)).astype("float32")

    result = keras.ops.convert_to_numpy(orthogonalised(keras.ops.convert_to_tensor(kernel)))

    before, after = (np.linalg.svd(x.reshape(-1, 30), compute_uv=False) for x in (kernel, result))
    assert after.max() < 1.6
    assert after.max() / after.min() < 0.5 * before.max() / before.min()


@pytest.fixture
def problem() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A network of two convolutions, and noise of which it has to tell the colour."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    classes = np.arange(96) % 3
    images = random.normal(size=(96, 6, 6, 3)).astype("float32")
    images[np.arange(96), :, :, classes] += 1.0
    network = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(8, 3, use_bias=False),
            keras.layers.BatchNormalization(scale=False),
            keras.layers.Conv2D(16, 3, activation="gelu", use_bias=False),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, use_bias=False, kernel_initializer="zeros"),
            keras.layers.Rescaling(1 / 100),  # as small as the rates of the head and the biases are large
        ]
    )
    return network, images, classes


def test_muon_keeps_the_norm_of_kernels_and_lowers_the_loss(
    problem: tuple[keras.Model, np.ndarray, np.ndarray],
) -> None:
    network, images, classes = problem
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer=Muon(0.02, batch_size=96), loss=loss)

    losses = network.fit(images, classes, batch_size=96, epochs=12, shuffle=False, verbose=0).history["loss"]

    assert losses[0] == pytest.approx(np.log(3), abs=1e-5)
    assert (np.diff(losses) < 0).all()
    assert losses[-1] < 0.75 * losses[0]
    for index, filters in ((0, 8), (2, 16)):
        assert np.linalg.norm(network.layers[index].kernel.numpy()) == pytest.approx(filters**0.5, rel=0.02)


def test_the_first_step_of_muon_is_the_orthogonalised_gradient_for_kernels_and_nesterov_for_the_rest() -> None:
    random = np.random.default_rng(1)
    kernel, bias, head = (random.normal(size=shape).astype("float32") for shape in ((2, 2, 3, 4), (4,), (4, 3)))
    variables = [keras.Variable(value) for value in (kernel, bias, head)]
    gradients = [keras.ops.convert_to_tensor(random.normal(size=v.shape).astype("float32")) for v in variables]
    muon = Muon(0.24, batch_size=2000)

    muon.apply(gradients, variables)

    step = keras.ops.convert_to_numpy(orthogonalised(gradients[0]))
    # of four filters, so brought to a norm of 2 before the step
    np.testing.assert_allclose(variables[0].numpy(), 2 * kernel / np.linalg.norm(kernel) - 0.24 * step, atol=1e-5)
    for variable, value, gradient, rate in (
        (variables[1], bias, gradients[1], 0.053),
        (variables[2], head, gradients[2], 0.67),
    ):
        # rates for a loss that is summed over 2,000 pictures, gradients of one that is averaged
        nesterov = rate * 2000 * 1.85 * keras.ops.convert_to_numpy(gradient)
        decay = 2e-6 * 2000 / (1 - 0.85) * value
        np.testing.assert_allclose(variable.numpy(), value - nesterov - decay, rtol=1e-5)
