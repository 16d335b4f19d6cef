"""What a contestant does: says what it can run, then runs what it is told to, line by line. Needs nothing but Python."""

import json
import os
import sys
import time


def serve(cases, **facts):
    """Runs a function of ``cases``, name -> function, for each line on standard input that names one; answers its seconds.

    Standard output carries the answers alone: whatever else is printed goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _write(answers, {"cases": list(cases), **facts})
    for line in sys.stdin:
        start = time.perf_counter()
        cases[line.strip()]()
        _write(answers, {"seconds": time.perf_counter() - start})


def _write(answers, message):
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def arguments():
    """What the contest gave this program: a dict."""
    return json.loads(sys.argv[1])
