"""The service. The way of a request:

    server.py                      uvicorn around the application: one process, or several behind one port
    protocol.py, api/refusal.py    a request that has no key, or no place, is refused before it becomes a task
    keys.py, api/access.py         whose key it is, and how often that may call
    main.py                        the application, its routes and its lifespan
    api/direct.py                  plain requests go around FastAPI's matching, which costs more than HTTP
    api/predict.py                 model, version and top_k are looked up; what is wrong with them ends here
    api/upload.py                  the body is read, within its limits: multipart, raw or JSON
    inference/pipeline.py          the three calls that follow, timed stage by stage
    inference/decode.py            bytes -> uint8 pixels, in worker threads
    inference/batcher.py           pixels wait for the engine, share a batch, and come back as probabilities
    inference/rank.py              probabilities -> top-k labels, reliable or not, prediction set

`api/explain.py` goes the same way for one class of one picture, through `inference/explain.py`, where explanations wait
for the device in turn with batches; `inference/overlay.py` paints them.
`api/similar.py` finds pictures of the indexes that `indexes.py` keeps, by the embedding that comes with an explanation.

`web/` is the page at `/`, which asks like anybody else; `api/web.py` serves it. `api/protocols/` says the same in the
words of other servers and of the clouds, through `api/work.py`; `platforms.py` reads what a cloud sets in the
environment. `inference/turns.py` has models take turns at threads and engine, `cores.py` and `priority.py` say what
threads may take; `inference/engines/` holds what computes; `registry.py` keeps the versions that can answer;
`errors.py` says all that can be said instead of an answer; `observability.py` names, times and logs all of it,
`tracing.py` and `spans.py` for its caller's trace, too. `batch/` goes the same way from `inference/` on, without HTTP
and on Ray, for pictures by the million. Each part is independent of those above it in this list.
"""
