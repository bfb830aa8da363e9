"""Caltech-101 by transfer learning from ResNet-50, as it is usually taught: the head first, then the upper half.

command    python -m training run caltech101-resnet50
data       5,784 training and 2,893 test photos of 101 classes, without BACKGROUND_Google; whole photos, stretched to
           224x224; 15 % of the training photos are held out, a third of them for calibration, the rest for decision
training   logistic regression on frozen embeddings; then Adam through one cycle up to 0.001, batches of 32, 8 epochs,
           BatchNorm frozen, random crops, mirrored at random; weights of keras.applications (--weights FILE)
reached    not yet run: its weights were not at hand
expected   not known for this protocol
"""

from training.recipe import Transfer

RECIPE = Transfer(
    model="caltech101-resnet50",
    description="101 kinds of objects and animals in photos, by ResNet-50",
    dataset="caltech101",
    exclude=("BACKGROUND_Google",),
    backbone="resnet50",
    epochs=8,
)
