"""Optimisers and learning rates that Keras does not have."""

from collections.abc import Callable, Sequence

import keras
from keras import ops

from training.history import Epoch
from training.recipe import Recipe

_PATIENCE = 3
_LOWEST_RATE = 1e-5


def optimizer(recipe: Recipe, steps: int, batch_size: int, factor: float) -> keras.optimizers.Optimizer:
    """The recipe's, for that many steps in all; `factor` scales its learning rate."""
    rate = recipe.learning_rate * factor
    schedules = keras.optimizers.schedules
    if recipe.schedule == "cosine":
        rate = schedules.CosineDecay(rate, steps)
    elif recipe.schedule == "linear":
        rate = schedules.PolynomialDecay(rate, steps, end_learning_rate=0.0)
    return Muon(rate, batch_size) if recipe.optimizer == "muon" else keras.optimizers.Adam(rate)


def plateau_rate(initial: float, history: Sequence[Epoch]) -> float:
    """Halved each time that the best validation accuracy has stood for three epochs.

    A function of the epochs so far, so that a resumed run goes on with the rate it had.
    """
    rate, best, waited = initial, -1.0, 0
    for epoch in history:
        if epoch.validation_accuracy > best:
            best, waited = epoch.validation_accuracy, 0
        elif (waited := waited + 1) == _PATIENCE:
            rate, waited = max(rate / 2, _LOWEST_RATE), 0
    return rate


def one_cycle(top: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Up to `top` in three tenths of the steps, down to nothing on a cosine in the others (Smith 2018)."""
    warm_up = max(1, round(0.3 * steps))
    return keras.optimizers.schedules.CosineDecay(
        top / 25, max(1, steps - warm_up), alpha=1e-4, warmup_target=top, warmup_steps=warm_up
    )


class DiscriminativeAdam(keras.optimizers.Adam):
    """Adam with a factor on the learning rate of each weight (Howard and Ruder 2018, section 3.2)."""

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
        factor: Callable[[keras.Variable], float],
    ) -> None:
        super().__init__(learning_rate)
        self._factor = factor
        self._factors: list[float] = []

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self._factors = [self._factor(variable) for variable in variables]

    def update_step(
        self, gradient: keras.KerasTensor, variable: keras.Variable, learning_rate: keras.KerasTensor
    ) -> None:
        factor = self._factors[self._get_variable_index(variable)]  # by index: what comes here has lost its path
        super().update_step(gradient, variable, learning_rate * factor)


class Muon(keras.optimizers.Optimizer):
    """Orthogonalised momentum for the kernels of convolutions, Nesterov momentum for the other weights.

    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks", with the values of
    cifar10-airbench's `airbench94_muon.py`. A kernel is brought to the norm sqrt(filters) before each step and so needs
    no weight decay. `learning_rate` is that of the kernels; the loss is the mean over the batch.
    """

    # There the loss is a sum over 2,000 pictures, the rates are 0.24 for kernels, 0.053 for biases, 0.67 for the head
    _BIAS_FACTOR = 0.053 * 2000 / 0.24
    _HEAD_FACTOR = 0.67 * 2000 / 0.24
    _DECAY_PER_PICTURE = 2e-6
    _KERNEL_MOMENTUM = 0.6
    _MOMENTUM = 0.85

    def __init__(self, learning_rate: float | keras.optimizers.schedules.LearningRateSchedule, batch_size: int) -> None:
        super().__init__(learning_rate, name="muon")
        initial = learning_rate if isinstance(learning_rate, float) else learning_rate.initial_learning_rate
        self._decay = self._DECAY_PER_PICTURE * batch_size / initial
        self._velocities: list[keras.Variable] = []

    def build(self, variables: list[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._velocities = [self.add_variable_from_reference(variable, name="velocity") for variable in variables]

    def update_step(
        self, gradient: keras.KerasTensor, variable: keras.Variable, learning_rate: keras.KerasTensor
    ) -> None:
        velocity = self._velocities[self._get_variable_index(variable)]
        gradient, rate = ops.cast(gradient, variable.dtype), ops.cast(learning_rate, variable.dtype)
        if len(variable.shape) == 4:
            self.assign(velocity, self._KERNEL_MOMENTUM * velocity + gradient)
            update = orthogonalised(gradient + self._KERNEL_MOMENTUM * velocity)
            scale = variable.shape[-1] ** 0.5 / ops.norm(ops.reshape(variable, [-1]))
            self.assign(variable, variable * scale - rate * update)
        else:
            rate = rate * (self._HEAD_FACTOR if len(variable.shape) == 2 else self._BIAS_FACTOR)
            self.assign(velocity, self._MOMENTUM * velocity + gradient)
            step = rate * (gradient + self._MOMENTUM * velocity)
            self.assign_sub(variable, step + self._decay_of(variable, learning_rate))

    def _decay_of(self, variable: keras.Variable, learning_rate: keras.KerasTensor) -> keras.KerasTensor:
        """Not through the momentum, but as large as it would make it in the long run."""
        return variable * ops.cast(learning_rate, variable.dtype) * self._decay / (1 - self._MOMENTUM)


def orthogonalised(kernel: keras.KerasTensor, iterations: int = 3) -> keras.KerasTensor:
    """A kernel [h, w, in, out] with the singular values of its [h * w * in, out] matrix brought near 1.

    Newton-Schulz iterations of degree five with the coefficients of Jordan et al.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = ops.reshape(kernel, [-1, kernel.shape[-1]])
    x = x / (ops.norm(x) + 1e-7)
    tall = x.shape[0] > x.shape[1]
    for _ in range(iterations):
        gram = ops.matmul(ops.transpose(x), x) if tall else ops.matmul(x, ops.transpose(x))  # the smaller of the two
        polynomial = b * gram + c * ops.matmul(gram, gram)
        x = a * x + (ops.matmul(x, polynomial) if tall else ops.matmul(polynomial, x))
    return ops.reshape(x, kernel.shape)
