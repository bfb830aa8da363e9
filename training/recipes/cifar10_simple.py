"""CIFAR-10 with the simplest course network, which learns its training pictures by heart.

command    python -m training run cifar10-simple
data       44,000 training pictures of CIFAR-10; 1,000 / 2,000 / 3,000 held out for validation / calibration /
           decision; 10,000 for test
training   Adam at 0.001, batches of 32, 10 epochs, no augmentation
hardware   two cores with AVX2, 3 minutes
reached    67.74 % (66.82 % to 68.65 %) on the 10,000 test pictures of a JPEG copy of CIFAR-10, seed 0
expected   about 71 %, and 80.5 % of the training pictures, were reported for it with all 50,000 training pictures
"""

from models.manifest import InputSpec
from training.recipe import Recipe

ORIGINAL = "about 71 %"  # accuracy as reported by the course

RECIPE = Recipe(
    model="cifar10-simple",
    description="Ten kinds of animals and vehicles in 32x32 pictures",
    dataset="cifar10",
    architecture="simple",
    input=InputSpec(height=32, width=32),
    epochs=10,
    batch_size=32,
    learning_rate=1e-3,
)
