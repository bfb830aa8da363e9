"""The contract between `training`, which writes versions, and `app`, which serves them.

    models/<name>/<version>/        <version> is a positive integer, the highest one is served by default
        saved_model.pb, variables/  TensorFlow SavedModel: `serving_default` and `explain`
        openvino/model.xml, .bin    the same network as OpenVINO IR, weights rounded to float16
        golden.npz                  a few inputs and the probabilities expected of them
        manifest.json               all there is to know about the version, and a checksum of every file

A folder is a version only if it holds `manifest.json`; that file arrives with the folder's rename, last.

    manifest.py         what the manifest says, checked
    repository.py       list, read, verify, publish
    storage.py          the same in object storage: mirrored from it, uploaded to it
    index_manifest.py   what an index of pictures says, checked
    indexes.py          models/<name>/indexes/<index>/: list, read, verify, publish
    nearest.py          pictures that are nearest by their embeddings, for which it needs FAISS
    preprocess.py       bytes of a picture -> uint8 pixels, the one pixel path of training and serving
    files.py            listings and checksums, and all of it on the disk
    quiet.py            keeps TensorFlow's chatter off the terminal, and OpenVINO's telemetry off the net

This package needs pydantic, pillow and numpy, and imports neither `app` nor `training`.
"""
