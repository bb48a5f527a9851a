"""What a format could not express, told before and after."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LossReport:
    """(what was lost, how often), the most frequent first. Falsy when nothing was lost."""

    items: tuple[tuple[str, int], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.items)

    def __add__(self, other: "LossReport") -> "LossReport":
        ledger = LossLedger()
        for what, count in (*self.items, *other.items):
            ledger.add(what, count)
        return ledger.report()


@dataclass(slots=True)
class LossLedger:
    """Counts losses while a file is read or written."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, count: int = 1) -> None:
        if count:
            self.counts[what] += count

    def report(self) -> LossReport:
        return LossReport(tuple(sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))))
