"""``python -m bench soak``: half an hour of work on an installation, and whether it holds more at its end.

``--day``: a simulated day in its place (:mod:`bench.soak.day`)."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bench.machine import load
from bench.soak import day
from bench.soak.load import Done, Load
from bench.soak.watch import Course, Watch
from bench.values import number
from bench.yard import yard

SLOTS = 4
LOOK_S = 5.0
HURRIED_S = 3.0
"""The period of the minutes before, in which every cache, pool and table of recent things fills up to its bound."""


def soaked(before: float, minutes: float, period_s: float) -> tuple[list[Course], Done, int]:
    """An installation that is hurried for some minutes, and then under load for others: the course of each of its
    processes in the latter, what it did in both, and how many runs it had had before."""
    done = Done()
    with yard(SLOTS, {}) as opened:
        working = Load(opened, done)
        working.begin()
        _work(working, before, min(HURRIED_S, period_s), "before")
        had = done.runs
        watch = Watch(opened.supervisor(), min(LOOK_S, minutes * 60 / 60))
        watch.start()
        _work(working, minutes, period_s, "left")
        courses = watch.end()
        working.end()
    return courses, done, had


def _work(load: Load, minutes: float, period_s: float, word: str) -> None:
    ends = time.monotonic() + minutes * 60
    while time.monotonic() < ends:
        load.period(period_s)
        print(f"{(ends - time.monotonic()) / 60:.1f} minutes {word}, {load.done.runs} runs", flush=True)


def line(course: Course) -> str:
    first, last = course.first, course.last
    shares = f"{number(first.pss_mb)} to {number(last.pss_mb)}"
    own = f"{number(first.own_mb)} to {number(last.own_mb)} | {course.grown_mb:+.2f}"
    handles = f"{first.descriptors} to {last.descriptors} | {first.threads} to {last.threads}"
    verdict = "flat" if course.is_flat else "**grows**"
    return f"| {course.role} | {shares} | {own} | {number(course.most_mb)} | {handles} | {verdict} |"


def table(courses: Sequence[Course]) -> str:
    """For people: a line a process."""
    heads = "| process | share, MB | its own, MB | grown, MB | most, MB | descriptors | threads | |"
    return "\n".join([heads, "|" + " --- |" * 8, *map(line, courses)])


def summary(done: Done, had: int, before: float, minutes: float) -> str:
    """What it did, in sentences."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(done.states.items()))
    words = f"{had} runs in {before:.0f} minutes before, {done.runs - had} in {minutes:.0f} minutes ({states} in all)"
    words += f", {done.looks} looks of a person, {done.events} events"
    problems = f" Problems: {'; '.join(done.problems[:3])}." if done.problems else ""
    return f"{words} followed, {done.lines} pieces of logs followed; load {load():.1f} at the end.{problems}"


def vars_of(done: Done) -> dict[str, object]:
    return {**asdict(replace(done, states=Counter())), "states": dict(done.states)}


def is_right(done: Done) -> bool:
    """Whether every run came to the end that it was made for."""
    turns = done.states["canceled"]
    return not done.problems and done.runs == 28 * turns and done.states["failed"] == turns


def main(words: Sequence[str]) -> int:
    """Exit code: 0 when all is flat and every run ended as it should, else 1."""
    if "--day" in words:
        return day.main([word for word in words if word != "--day"])
    parser = argparse.ArgumentParser(prog="python -m bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--period", type=float, default=10, metavar="S", help="28 runs every so many seconds")
    parser.add_argument("--before", type=float, default=12, metavar="MINUTES", help="of hurried work, not watched")
    parser.add_argument("--json", type=Path, help="write what was seen there")
    given = parser.parse_args(words)
    courses, done, had = soaked(given.before, given.minutes, given.period)
    print("\n" + table(courses) + "\n\n" + summary(done, had, given.before, given.minutes))
    if given.json is not None:
        told = {
            "before": given.before,
            "runs_before": had,
            "minutes": given.minutes,
            "courses": [asdict(each) for each in courses],
            "done": vars_of(done),
        }
        given.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0 if courses and all(each.is_flat for each in courses) and is_right(done) else 1
