"""Data sets and pictures -> calibrated, published versions. The way of a run (`run.py`):

    data        the recipe's data set, split into train, validation, calibration, decision and test
    build       the network of `architectures/`, from pixels 0..255 to logits, embedding and feature map
    fit         the recipe's epochs on train, a checkpoint after each; validation is watched, and steers a plateau
    conclude    `calibrate` from held-out logits: the temperature from calibration, abstention threshold and conformal
                quantile from decision; `evaluate` on test, each figure with n and an interval
    export      SavedModel, OpenVINO IR, golden.npz and manifest.json, published atomically
    report      what happened, in one page

Beside it:

    commands/     the command line
    recipes/      one experiment a file; its docstring is the experiment card
    transfer.py   the same way from folders of photos, with a head on a pretrained backbone in place of build and fit
    imagenet.py   publishes a network that others have trained
    reexport.py   publishes a version's network again, in files as they are written today
    index.py      makes pictures that are found by other pictures: `pictures` reads them, `embed` computes a version's
                  embeddings, `retrieval` measures what is found
"""

import os

# TensorFlow takes oneDNN's kernels by itself only on processors with AVX-512; where there is AVX2 alone they nearly
# double the speed of convolutions. It looks at this when it is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
