"""The service. The way of a request:

    server.py                      uvicorn around the application: one process, or several behind one port
    protocol.py, api/refusal.py    a request that has no key, or no place, is refused before it becomes a task
    keys.py, api/access.py         whose key it is, and how often that may call
    main.py, lifespan.py           the application from its parts, and what lives as long as it serves
    api/direct.py                  plain requests go around FastAPI's matching, which costs more than HTTP
    api/predict.py                 model, version and top_k are looked up; what is wrong with them ends here
    api/upload.py                  the body is read, within its limits: multipart, raw or JSON
    inference/pipeline.py          the three calls that follow, timed stage by stage
    inference/decode.py            bytes -> uint8 pixels, in worker threads
    inference/batcher.py           pixels wait for the engine, share a batch, and come back as probabilities
    inference/rank.py              probabilities -> top-k labels, reliable or not, prediction set

Each of these is independent of those above it. Other ways in:

    api/explain.py                 why one class of one picture, through inference/explain.py and inference/overlay.py
    api/similar.py                 the nearest pictures of an index that indexes.py keeps, by the same embedding
    api/protocols/                 the same answers in the words of other servers and of the clouds, through api/work.py
    api/web.py, web/               the page at /, which asks like any other caller
    batch/                         from inference/ on, without HTTP and on Ray, for pictures by the million

What they all stand on:

    registry.py, repository.py     the versions that can answer
    inference/engines/             what computes, and inference/device.py where: models take turns (inference/turns.py)
    errors.py                      all that can be said instead of an answer
    metrics.py, observability.py   counts, times and logs; tracing.py and spans.py, the same for the caller's trace
    settings.py, platforms.py      what is set, and what a cloud sets in the environment
    cores.py, priority.py          how many cores threads may take, and behind which other threads they stand back
"""
