"""Measures the service beside its peers and beside the machine's limit: `make bench`.

pictures.py      the pictures that are sent, made from the two of the tests, and the classes expected of them
load.py          the load: keep-alive connections that are never idle, or arrivals at a rate; checks each answer
servers.py       starts one of the services on a free port, waits until it answers, stops it, reads its memory
peers/           the usual FastAPI, LitServe and BentoML, each in an environment of its own
limit.py         decoding and inference in one process, without HTTP: what no service can pass
throughput.py    who answers how many requests in a second, all in one run
experiments.py   overload, fairness, reload, start, drain
machine.py       what this was measured on, and whether the machine is idle enough to compare
__main__.py      command line; tables, and the raw figures under results/
"""
