"""What a run says of itself on standard output."""

import sys


def say(line: str) -> None:
    """Write a line now, also where nobody waits at a terminal. What its encoding lacks is written as an escape."""
    encoding = sys.stdout.encoding or "utf-8"
    # Names of files are any bytes, and a terminal need not know all letters
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()
