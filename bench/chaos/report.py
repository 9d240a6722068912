"""The table, and the page that keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.chaos.audit import FAULTS
from tools.environment import ROOT
from tools.screen import table

PAGE, FIGURES = ROOT / "docs" / "chaos.md", ROOT / "docs" / "performance" / "chaos.json"
INTRODUCTION = Path(__file__).with_name("page.md")


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign: how many blows of each kind, seconds to the right state by kind, faults as sentences."""

    seed: int
    blows: Mapping[str, int]
    took: Mapping[str, list[float]]
    never: list[str]
    seen: Mapping[str, int]
    outcomes: Mapping[str, int]
    faults: Mapping[str, list[str]]
    trouble: int
    seconds: float
    load: float
    bare_start_s: float
    left_out: list[str]
    pair: bool = False

    @property
    def clean(self) -> bool:
        return not any(self.faults.values()) and not self.never

    def document(self) -> dict[str, object]:
        return asdict(self)


def joined(campaigns: list[Campaign]) -> tuple[dict[str, int], dict[str, list[float]]]:
    """Blows and times of several campaigns."""
    blows, took = dict[str, int](), dict[str, list[float]]()
    for campaign in campaigns:
        for name, count in campaign.blows.items():
            blows[name] = blows.get(name, 0) + count
        for name, seconds in campaign.took.items():
            took.setdefault(name, []).extend(seconds)
    return blows, took


def lines(campaigns: list[Campaign]) -> list[list[str]]:
    """A line each kind of blow, and one for all: how many, and the times."""
    blows, took = joined(campaigns)
    counts = {**{name: len(seconds) for name, seconds in took.items()}, **blows}
    found = [[name, str(count), *_times(took.get(name, []))] for name, count in sorted(counts.items())]
    restarts = [each for name, seconds in took.items() if name.startswith("SIGKILL") for each in seconds]
    return [*found, ["all; the times of restarts", str(sum(blows.values())), *_times(restarts)]]


def _times(seconds: list[float]) -> list[str]:
    return [f"{median(seconds):.2f}", f"{max(seconds):.2f}"] if seconds else ["-", "-"]


HEADS = ["blow", "count", "right again: median, s", "worst, s"]


def totals(campaign: Campaign) -> str:
    """One line on what was counted."""
    seen = ", ".join(f"{count:,} {name}" for name, count in campaign.seen.items())
    faults = ", ".join(f"{len(campaign.faults[name])} {name}" for name in FAULTS)
    what = f"{sum(campaign.blows.values())} blows in {campaign.seconds:.0f} s"
    return f"seed {campaign.seed}: {what}; {seen}; faults: {faults}"


def shown(campaign: Campaign) -> str:
    text = table(HEADS, lines([campaign]))
    told = [f"  {name}: {sentence}" for name, sentences in campaign.faults.items() for sentence in sentences[:12]]
    ends = ", ".join(f"{count} {name}" for name, count in sorted(campaign.outcomes.items()))
    circumstances = (
        f"load {campaign.load:.1f}; a bare start of the server's imports takes {campaign.bare_start_s:.2f} s"
    )
    never = [f"  not right within 90 s: {name}" for name in campaign.never]
    return "\n".join([text, "", totals(campaign), f"ends: {ends}", circumstances, *never, *told])


def kept(campaign: Campaign) -> list[Campaign]:
    """This campaign beside those kept before, one a seed and kind."""
    before = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else []
    others = [
        each for each in (Campaign(**one) for one in before) if (each.pair, each.seed) != (campaign.pair, campaign.seed)
    ]
    return sorted([*others, campaign], key=lambda each: (each.pair, each.seed))


def write(campaigns: list[Campaign]) -> None:
    """The page and the figures that it is made from."""
    documents = [each.document() for each in campaigns]
    FIGURES.write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")
    head = [
        "seed",
        "servers",
        "blows",
        "runs",
        "attempts",
        "log lines",
        "points",
        "bills",
        *FAULTS,
        "seconds",
        "load",
        "bare start, s",
    ]
    counted = ["| " + " | ".join(each) + " |" for each in (head, ["---:"] * len(head), *map(_counted, campaigns))]
    text = INTRODUCTION.read_text(encoding="utf-8")
    text = text.replace("{counted}", "\n".join(counted))
    for place, pair in (("{blows}", False), ("{pair}", True)):
        of_kind = [each for each in campaigns if each.pair == pair]
        text = text.replace(place, _times_of(of_kind) if of_kind else "None was kept.")
    PAGE.write_text(text, encoding="utf-8")


def _times_of(campaigns: list[Campaign]) -> str:
    rows = (HEADS, ["---", "---:", "---:", "---:"], *lines(campaigns))
    return "\n".join("| " + " | ".join(each) + " |" for each in rows)


def _counted(campaign: Campaign) -> list[str]:
    seen = [f"{campaign.seen.get(name, 0):,}" for name in ("runs", "attempts", "lines", "points", "bills")]
    faults = [str(len(campaign.faults[name])) for name in FAULTS]
    circumstances = [f"{campaign.seconds:.0f}", f"{campaign.load:.0f}", f"{campaign.bare_start_s:.2f}"]
    return [
        str(campaign.seed),
        "2" if campaign.pair else "1",
        str(sum(campaign.blows.values())),
        *seen,
        *faults,
        *circumstances,
    ]
