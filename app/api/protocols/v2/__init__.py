"""The Open Inference Protocol, version 2, over REST: what clients of KServe, Triton and MLServer speak.

    routes.py      health, metadata, the repository's index, inference
    bodies.py      the JSON that comes in and goes out
    signature.py   a model's tensors: their names, datatypes and shapes
    request.py     a body -> its pictures and the outputs that it wants
    tensors.py     the values of a tensor, from JSON or from the bytes behind it, and back
    answer.py      probabilities -> the body that goes out

Pictures come as `image`, BYTES [N], of which each element is a file such as a JPEG, or as `images`, UINT8 [N, H, W, 3],
of the model's own size; a request sends one of the two. JSON has no bytes: there a file is a string of base64. Of the
protocol's extensions binary tensor data and classification are here, and of the model repository's its index.
"""
