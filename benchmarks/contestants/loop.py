"""What a contestant does: says what it can run, then runs what it is told to, line by line. Needs nothing but Python.

To be imported first: from then on standard output carries the answers alone, and whatever else is printed goes to standard error.
"""

import json
import os
import sys
import time

_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def serve(cases, **facts):
    """Runs a function of ``cases``, name -> function, for each line on standard input that names one; answers its seconds."""
    _write({"cases": list(cases), **facts})
    for line in sys.stdin:
        start = time.perf_counter()
        cases[line.strip()]()
        _write({"seconds": time.perf_counter() - start})


def _write(message):
    _answers.write(json.dumps(message) + "\n")
    _answers.flush()


def arguments():
    """What the contest gave this program: a dict."""
    return json.loads(sys.argv[1])
