"""Contenders measured in turn, in rounds whose order is shuffled, and the table that comes of it.

What disturbs the machine then disturbs all alike, and a ratio is taken within each round. Every table
prints ratios first, with the median and the extremes of the rounds, and can be written as JSON.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

MIN_ROUNDS = 5


@dataclass(frozen=True)
class Spread:
    """The median and the extremes of the rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.least:.3g} to {self.most:.3g})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that this share of the values does not exceed (nearest rank), 0.5 for the median."""
    return sorted(values)[math.ceil(len(values) * share) - 1]


def interleaved(
    contenders: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Run every contender once a round; each gives its figures by name. Figures by contender, then name."""
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in contenders}
    for number in range(rounds):
        order = list(contenders)
        random.Random(number).shuffle(order)
        for name in order:
            for figure, value in contenders[name]().items():
                figures[name].setdefault(figure, []).append(value)
    return figures


@dataclass
class Table:
    """One table of the benchmarks: lines of ratios with their goals, then every figure."""

    title: str
    ratios: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)

    def ratio(
        self,
        name: str,
        ours: Sequence[float],
        theirs: Sequence[float],
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Ours to theirs, round by round, and whether the goal is met."""
        self.goal(
            name,
            [mine / other for mine, other in zip(ours, theirs, strict=True)],
            at_most=at_most,
            at_least=at_least,
            times=True,
        )

    def goal(
        self,
        name: str,
        values: Sequence[float],
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        times: bool = False,
    ) -> None:
        """A figure with a goal of its own."""
        found = spread(values)
        met = (at_most is None or found.median <= at_most) and (at_least is None or found.median >= at_least)
        self.ratios.append(
            {
                "name": name,
                "times": times,
                "at_most": at_most,
                "at_least": at_least,
                "met": bool(met),
                **asdict(found),
            }
        )

    def figure(self, name: str, values: Sequence[float], unit: str) -> None:
        self.figures.append({"name": name, "unit": unit, **asdict(spread(values))})

    def show(self) -> None:
        print(f"\n{self.title}")
        for line in self.ratios:
            found = Spread(line["median"], line["least"], line["most"])
            goals = (("at most", line["at_most"]), ("at least", line["at_least"]))
            goal = " and ".join(f"{words} {value:g}" for words, value in goals if value is not None)
            verdict = f"goal {goal}: {'met' if line['met'] else 'MISSED'}" if goal else "no goal"
            print(f"  {line['name']:58} {found!s:28}{' x' if line['times'] else '  '}  {verdict}")
        for line in self.figures:
            found = Spread(line["median"], line["least"], line["most"])
            print(f"    {line['name']:58} {found!s:28} {line['unit']}")


def machine(*packages: str) -> dict[str, str]:
    """What the figures were taken on; with the versions of these packages."""
    cpu = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        models = [
            line.split(":")[1] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = models[0].strip() if models else cpu
    return {
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def parser(description: str | None, *, rounds: int = MIN_ROUNDS) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--rounds", type=int, default=rounds, help=f"at least {MIN_ROUNDS} ({rounds})")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    return made


def finish(tables: Sequence[Table], facts: Mapping[str, str], file: Path | None) -> None:
    """Print the tables below the machine's facts, and write them if a file is named."""
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    for table in tables:
        table.show()
    if file is not None:
        content = {"machine": dict(facts), "tables": [asdict(table) for table in tables]}
        file.write_text(json.dumps(content, indent=2) + "\n")
