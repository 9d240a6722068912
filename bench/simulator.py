"""`python -m bench simulator`: waits, use and fairness of each policy, and how long a plan takes, written to a page."""

import argparse
from collections.abc import Iterator, Sequence
from os import cpu_count, getloadavg
from pathlib import Path
from statistics import median

from runyard.testing.simulator.cycles import Size
from runyard.testing.simulator.cycles import table as cycles
from runyard.testing.simulator.figures import SIZES, Outcome, simulate
from runyard.testing.simulator.simulation import POLICIES
from runyard.testing.simulator.workloads import HOUR, SYNTHETIC, WORKLOADS, Workload

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scheduling.md"
HEAD = """# What the scheduler does

`python -m bench simulator` writes this page: the real plan ([rooms/core.md](rooms/core.md), the
[decision](decisions/{decision})) runs a cluster that exists in arithmetic only. Half of the GPUs are in machines of 8,
half in machines of 64; six accounts have the weights 1, 1, 2, 2, 4 and 4. Run times are log-normal, arrivals Poisson,
shapes as `testing/simulator/workloads.py` tells, with the papers that they are from; a run's limit is 1 to 5 times what
it takes (whole hours), 24 h at most. Waits are hours, medians of the seeds; there is a plan every {pause} s at most.
"""
COLUMNS = [
    "workload",
    "policy",
    *(f"wait p50 / p90 / p99, {least} to {most} GPUs" for least, most in SIZES),
    *("use", "late", "worst, h late", "preempted", "lost to it"),
]
TABLE, DAYS, TIMES, LARGE = "## ", "## More days", "## How long a plan takes", "## 10,000 GPUs, 1,000,000 runs"


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--gpus", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3_000)
    parser.add_argument("--pause", type=int, default=60, metavar="S", help="seconds of simulated time between plans")
    parser.add_argument("--quick", action="store_true", help="two seeds, nothing is written")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="the first of the seeds")
    parser.add_argument("--day", action="store_true", help="only the day in which all want twice their due")
    parser.add_argument("--cycles", action="store_true", help="only how long a plan takes")
    parser.add_argument("--large", action="store_true", help="only 10,000 GPUs and 1,000,000 runs, one seed")
    return parser.parse_args(words)


def line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def lines(heads: Sequence[str], rows: Iterator[Sequence[object]]) -> str:
    return "\n".join([line(heads), line(["---"] * len(heads)), *(line(row) for row in rows)])


def of_policies(workload: Workload, given: argparse.Namespace, seeds: range) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for policy in POLICIES:
        if given.large and policy == "FIFO":
            continue
        for seed in seeds:
            one = simulate(workload, policy, seed, gpus=given.gpus, runs=given.runs, pause_ms=given.pause * 1_000)
            found.setdefault(policy, []).append(one)
            print(f"{workload.name} {policy} seed {seed}: use {one.use:.3f}, late {one.late}", flush=True)
    return found


def rows(workload: Workload, by_policy: dict[str, list[Outcome]]) -> Iterator[Sequence[object]]:
    """A line a policy: the median over the seeds of each quantile, the worst of what must not be."""
    for policy, outcomes in by_policy.items():
        waits = [
            " / ".join(f"{median(one.waits[size][n] for one in outcomes):.2f}" for n in range(3)) for size in SIZES
        ]
        yield (
            workload.name,
            policy,
            *waits,
            f"{100 * median(one.use for one in outcomes):.1f} %",
            sum(one.late for one in outcomes),
            f"{max(one.worst_h for one in outcomes):.1f}",
            f"{median(one.preempted for one in outcomes):.0f}",
            f"{100 * median(one.lost for one in outcomes):.2f} %",
        )


def against_easy(by_policy: dict[str, list[Outcome]]) -> str:
    """By how much use is below that of plain backfill, in the median and at most, in percent of it."""
    pairs = zip(by_policy["plain EASY"], by_policy["Runyard"], strict=True)
    less = [100 * (1 - ours.use / easy.use) for easy, ours in pairs]
    verdict = "met" if max(less) <= 2 else "MISSED"
    least = f"{median(less):.2f} % less than plain backfill in the median of the seeds, {max(less):.2f} % at most"
    return f"{least} (target 2 %: {verdict})"


def fairness(given: argparse.Namespace, seeds: range) -> str:
    """A day in which every account wants twice what is due to it."""
    found: list[float] = []
    for seed in seeds:
        runs = 16 * given.gpus  # about twice what a day can give
        one = simulate(
            SYNTHETIC, "Runyard", seed, gpus=given.gpus, runs=runs, until_ms=24 * HOUR, pause_ms=given.pause * 1_000
        )
        found.append(100 * one.unfair)
        print(f"a day, seed {seed}: {found[-1]:.1f} %", flush=True)
    verdict = "met" if max(found) <= 5 else f"MISSED by {sum(each > 5 for each in found)} of {len(found)} seeds"
    return (
        f"the account that is farthest from its due share is {median(found):.1f} % off in the median of the seeds, "
        f"{max(found):.1f} % at most (target 5 %: {verdict})"
    )


def title(given: argparse.Namespace) -> str:
    decisions = sorted(path.name for path in (PAGE.parent / "decisions").glob("*fair*.md"))
    return HEAD.format(decision=decisions[0] if decisions else "", pause=given.pause)


def policies(given: argparse.Namespace, seeds: range) -> str:
    """What each policy does, and the day in which all want more."""
    synthetic = of_policies(SYNTHETIC, given, seeds)
    table = list(rows(SYNTHETIC, synthetic))
    for workload in WORKLOADS[1:]:
        table += rows(workload, of_policies(workload, given, seeds[:1]))
    bound = sum(one.late for one in synthetic["Runyard"])
    return "\n".join(
        [
            f"## {given.gpus} GPUs, {given.runs} runs, {len(seeds)} seeds of the synthetic shape, one of the others\n",
            lines(COLUMNS, iter(table)),
            "",
            "*Late* is a run that waited longer than its account's share of the cluster needs for what the account had",
            "submitted before it, and 24 h, the longest limit.",
            "",
            f"- Late: {bound} of {sum(one.runs for one in synthetic['Runyard'])} (target 0).",
            f"- Use: {against_easy(synthetic)}.",
            f"- A day in which everybody wants twice what is due: {fairness(given, seeds)}.",
            "",
        ]
    )


def days(given: argparse.Namespace, seeds: range) -> str:
    """The day again, with other seeds than those of the table."""
    heading = f"{DAYS} in which everybody wants twice what is due"
    return f"{heading}\n\nSeeds {seeds[0]} to {seeds[-1]}: {fairness(given, seeds)}.\n"


def times() -> str:
    """How long a plan takes, and how busy the machine was meanwhile."""
    before = getloadavg()[0]
    return times_of(cycles(Size()), (before, getloadavg()[0]))


def times_of(took: Sequence[tuple[str, float, float, float]], load: tuple[float, float]) -> str:
    """The section, of what was planned with its median, least and most milliseconds, and the load before and after."""
    found = ((name, *(f"{each:.0f}" for each in times), 500 if "empty" in name else 50) for name, *times in took)
    return (
        f"{TIMES}: 1,250 machines of 8 GPUs, 100,000 waiting runs, 50 accounts\n\n"
        f"{lines(['plan', 'ms of CPU, median', 'least', 'most', 'target'], found)}\n\n"
        f"Taken with a load of {load[0]:.0f} to {load[1]:.0f} on {cpu_count()} cores.\n"
    )


def large(given: argparse.Namespace) -> str:
    """A large cluster, without the policy that is hopeless there."""
    given.gpus, given.runs = 10_000, 1_000_000
    found = rows(SYNTHETIC, of_policies(SYNTHETIC, given, range(1, 2)))
    return f"{LARGE}, one seed, a plan every {given.pause} s at most\n\n{lines(COLUMNS, found)}\n"


def taken(given: argparse.Namespace) -> list[str]:
    """The sections of the page that were asked for, each from its heading on; the first one has the title."""
    seeds = range(given.first, given.first + (2 if given.quick else given.seeds))
    if given.day:
        return [days(given, seeds)]
    if given.cycles:
        return [times()]
    return [large(given)] if given.large else [title(given), policies(given, seeds), times()]


def put(known: str, sections: Sequence[str]) -> str:
    """The page with these sections in the place of what it had under their headings; what was not taken stays."""
    title, *others = known.split("\n## ")
    found = {"": f"{title.strip()}\n"} | {_place(text): text for text in (f"## {each}" for each in others)}
    for text in sections:
        found[_place(text)] = text
    ordered = sorted(found.items(), key=lambda item: ("", TABLE, DAYS, TIMES, LARGE).index(item[0]))
    return "\n".join(f"{text.strip()}\n" for _, text in ordered)


def _place(text: str) -> str:
    """Which section it is, by its heading; the table of policies has its size there."""
    return next((each for each in (DAYS, TIMES, LARGE) if text.startswith(each)), TABLE if text[:3] == "## " else "")


def main(words: Sequence[str]) -> int:
    given = arguments(words)
    sections = taken(given)
    print("\n".join(sections))
    if not given.quick:
        PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), sections), encoding="utf-8")
        print(f"wrote {PAGE}")
    return 0
