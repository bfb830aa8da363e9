"""Data sets and pictures -> calibrated, published versions. The way of a run (`run.py`):

    data        the recipe's data set, split into train, validation, calibration, decision and test
    build       the network of `architectures/`, from pixels 0..255 to logits, embedding and feature map
    fit         the recipe's epochs on train, a checkpoint after each; validation is watched, and steers a plateau
    conclude    `calibrate` from held-out logits: the temperature from calibration, abstention threshold and conformal
                quantile from decision; `evaluate` on test, each figure with n and an interval
    export      SavedModel, OpenVINO IR, golden.npz and manifest.json, published atomically
    report      what happened, in one page

`index.py` makes pictures found by other pictures: `pictures` reads them, `embed` computes a version's embeddings,
`retrieval` measures what is found. `transfer.py` goes the same way from folders of photos, with a head on a pretrained
backbone in place of build and fit.
A new experiment is a new file in `recipes/`, a new network one in `architectures/`; a recipe's docstring is the
experiment card. `imagenet.py` publishes a network that others have trained.
"""

import os

# TensorFlow takes oneDNN's kernels by itself only on processors with AVX-512; where there is AVX2 alone they nearly
# double the speed of convolutions. It looks at this when it is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
