"""CIFAR-100 with the course network 'Traut', which begins with 28 filters here.

command    python -m training run cifar100-traut
data       44,000 training pictures of CIFAR-100; 1,000 / 2,000 / 3,000 held out for validation / calibration /
           decision; 10,000 for test
training   Adam at 0.001, batches of 64, 25 epochs, no augmentation, bfloat16 where the processor has it
reached    not yet run
expected   52.77 % was reported for it with all 50,000 training pictures
"""

from models.manifest import InputSpec
from training.recipe import Recipe

ORIGINAL = "52.77 %"  # accuracy as reported by the course

RECIPE = Recipe(
    model="cifar100-traut",
    description="A hundred kinds of things and beings in 32x32 pictures",
    dataset="cifar100",
    architecture="traut_cifar100",
    input=InputSpec(height=32, width=32),
    epochs=25,
    batch_size=64,
    learning_rate=1e-3,
    mixed_precision=True,
)
