"""Pictures by the million, without HTTP, on Ray Data: `python -m app.batch`. The way of a job:

    __main__.py    arguments and settings -> exit code
    command.py     the job is begun, or taken up where it was left; what is missing is computed; what came of it is told
    listing.py     INPUT -> the paths of its pictures
    job.py         what is written beside the rows, so that a restart goes on: the arguments, and the list of pictures
    output.py      the folder of the output, each file of which is there as a whole or not at all
    cluster.py     Ray: tasks that decode -> one actor for each device -> rows, as they come
    decoding.py    in tasks: paths -> blocks of pixels, by the service's pixel path
    reading.py     of those, from a disk or a storage, the bytes
    patience.py    a storage that does not answer is asked again
    inference.py   in the actors: pixels -> rows, by the service's engines and ranking
    rows.py        what a row says

The list of pictures is cut into parts, and a part is a file of the output. Nothing of the service imports this package;
it needs the extra `batch`.
"""
