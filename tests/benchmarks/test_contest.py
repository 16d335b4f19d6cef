"""Contests between programs: each in its own process, in turn, and the table that comes of it."""

import sys

import pytest

from tfzoo.benchmarks.contest import HERE, Contestant, Time, format_table, measure
from tfzoo.errors import InputError

PROGRAM = """
import sys, time
from loop import arguments, serve

print("nor what they print while they are loaded")
given = arguments()
log = open(given["log"], "a")

def note(case):
    print("what libraries print does no harm")
    log.write(given["name"] + " " + case + "\\n")
    log.flush()
    time.sleep(given["seconds"])

serve({case: lambda case=case: note(case) for case in given["cases"]}, detections=3)
"""


@pytest.fixture
def contestant(tmp_path):
    program, started = tmp_path / "program.py", []
    program.write_text(PROGRAM)

    def start(name, cases, seconds=0.0):
        given = {"name": name, "cases": cases, "seconds": seconds, "log": str(tmp_path / "log.txt")}
        started.append(Contestant(name, sys.executable, program, given, threads=1, path=[HERE]))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_contestants_run_in_turn_and_those_without_a_case_sit_it_out(contestant, tmp_path):
    pair = [contestant("a", ["predict", "train"]), contestant("b", ["predict"])]
    assert pair[0].facts == {"cases": ["predict", "train"], "detections": 3}
    times = measure(pair, ("predict", "train"), rounds=2, warm_up=1)
    assert (tmp_path / "log.txt").read_text().splitlines() == ["a predict", "b predict", "a train"] * 3
    assert [(t.contestant, t.case, t.runs) for t in times] == [("a", "predict", 2), ("b", "predict", 2), ("a", "train", 2)]


def test_what_takes_time_is_counted(contestant):
    (time,) = measure([contestant("a", ["predict"], seconds=0.05)], ("predict",), rounds=3, warm_up=0)
    assert 0.05 <= time.low <= time.median <= time.high


def test_a_program_that_fails_is_named(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("raise SystemExit(3)")
    with pytest.raises(InputError, match="Contestant 'broken' has ended with status 3"):
        Contestant("broken", sys.executable, program, {}, threads=1)


def test_what_cannot_be_started_or_measured_is_told(contestant, tmp_path):
    with pytest.raises(InputError, match=r"Contestant 'nobody' cannot be started with .*no-such-python"):
        Contestant("nobody", str(tmp_path / "no-such-python"), "loop.py", {}, threads=1)
    with pytest.raises(InputError, match="rounds is 0"):
        measure([contestant("a", ["predict"])], ("predict",), rounds=0)


def test_the_table_tells_our_time_over_theirs():
    times = [Time("ours", "predict", 5, 0.6, 0.5, 0.7), Time("theirs", "predict", 5, 0.8, 0.7, 0.9)]
    lines = format_table(times, "ours").splitlines()
    assert lines[2:] == [
        "| predict | ours | 0.600 | 0.500 to 0.700 | 1.00 |",
        "| predict | theirs | 0.800 | 0.700 to 0.900 | 0.75 |",
    ]
