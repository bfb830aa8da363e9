"""CIFAR-10 with a course network of six 4x4 convolutions, BatchNorm and dropout.

command    python -m training run cifar10-workflow-bn
data       44,000 training pictures of CIFAR-10; 1,000 / 2,000 / 3,000 held out for validation / calibration /
           decision; 10,000 for test
training   Adam at 0.001, batches of 128, 25 epochs, no augmentation, bfloat16 where the processor has it
hardware   two slow cores with AVX2; 15 minutes an epoch, so it was cut after 5 of them (--epochs 5); the time in its
           manifest has pauses
reached    76.22 % (75.38 % to 77.04 %) on the 10,000 test pictures of a JPEG copy of CIFAR-10, seed 0, after 5 epochs
expected   83.18 % was reported for it on CIFAR-10
"""

from models.manifest import InputSpec
from training.recipe import Recipe

ORIGINAL = "83.18 %"  # accuracy as reported by the course

RECIPE = Recipe(
    model="cifar10-workflow-bn",
    description="Ten kinds of animals and vehicles in 32x32 pictures",
    dataset="cifar10",
    architecture="workflow_bn",
    input=InputSpec(height=32, width=32),
    epochs=25,
    batch_size=128,
    learning_rate=1e-3,
    mixed_precision=True,
)
