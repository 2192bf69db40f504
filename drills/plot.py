"""Throughput over time as an SVG: one strip per repetition, the fault marked, the outage shaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from drills.account import BIN_SECONDS, Account, Availability

_WIDTH, _STRIP, _GAP = 900, 74, 16
_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 130, 74, 52
_WRITES, _READS, _FAULT, _SHADE = "#1f5fa8", "#9aa7b5", "#c0392b", "#f6d5d0"
_TICKS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_MOST_TICKS = 12


@dataclass(frozen=True)
class _Frame:
    """From seconds and attempts a second to places on the sheet."""

    first: float
    last: float
    highest: float

    def x(self, seconds: float) -> float:
        share = (seconds - self.first) / (self.last - self.first)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, row: int, rate: float) -> float:
        return self.top(row) + _STRIP * (1 - rate / self.highest)

    @staticmethod
    def top(row: int) -> float:
        return _TOP + row * (_STRIP + _GAP)


def svg(title: str, accounts: Sequence[Account]) -> str:
    """Draw the repetitions of one drill below each other, on one time axis with the fault at 0."""
    frame = _frame(accounts)
    height = frame.top(len(accounts)) + _BOTTOM
    strips = "".join(_strip(frame, row, account) for row, account in enumerate(accounts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'width="{_WIDTH}" height="{height:.0f}" font-family="sans-serif" font-size="12" '
        f'fill="#333">\n<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="{_LEFT}" y="28" font-size="17" font-weight="bold">{escape(title)}</text>\n'
        f"{_legend()}{strips}{_time_axis(frame, len(accounts))}"
        f'<text transform="translate(20 {height / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"successful requests per second</text>\n</svg>\n"
    )


def _frame(accounts: Sequence[Account]) -> _Frame:
    every = [seen for account in accounts for seen in (account.writes, account.reads)]
    ends = [seen.first_bin + len(seen.throughput) * BIN_SECONDS for seen in every]
    highest = max((count for seen in every for count in seen.throughput), default=1)
    return _Frame(
        first=min((seen.first_bin for seen in every), default=0.0),
        last=max([*ends, BIN_SECONDS]),
        highest=1.1 * highest / BIN_SECONDS,
    )


def _strip(frame: _Frame, row: int, account: Account) -> str:
    top, bottom = frame.top(row), frame.top(row) + _STRIP
    left, right, fault = frame.x(frame.first), frame.x(frame.last), frame.x(0)
    return (
        f"{_shade(frame, row, account.writes)}"
        f'<path d="M{left:.1f} {bottom:.1f}H{right:.1f}" stroke="#888"/>\n'
        f"{_line(frame, row, account.reads, _READS)}{_line(frame, row, account.writes, _WRITES)}"
        f'<path d="M{fault:.1f} {top:.1f}V{bottom:.1f}" stroke="{_FAULT}" stroke-width="1.5"/>\n'
        f'<text x="{left - 8:.1f}" y="{bottom:.1f}" text-anchor="end">0</text>\n'
        f'<text x="{left - 8:.1f}" y="{top + 10:.1f}" text-anchor="end">'
        f"{frame.highest:.0f}</text>\n"
        f'<text x="{right + 10:.1f}" y="{top + 30:.1f}">run {row + 1}: '
        f'<tspan font-weight="bold">{_seconds(account.writes.outage)}</tspan></text>\n'
        f'<text x="{right + 10:.1f}" y="{top + 48:.1f}">'
        f"{len(account.durability.lost)} lost</text>\n"
    )


def _shade(frame: _Frame, row: int, seen: Availability) -> str:
    if seen.outage is None or seen.outage_start is None:
        return ""
    left, right = frame.x(seen.outage_start), frame.x(seen.outage_start + seen.outage)
    return (
        f'<rect x="{left:.1f}" y="{frame.top(row):.1f}" width="{right - left:.1f}" '
        f'height="{_STRIP}" fill="{_SHADE}"/>\n'
    )


def _line(frame: _Frame, row: int, seen: Availability, colour: str) -> str:
    """Draw steps, as wide as a bin: nothing is smoothed. The bins at both ends are not full."""
    path = "".join(
        f"{'L' if number > 1 else 'M'}{frame.x(seen.first_bin + number * BIN_SECONDS):.1f} "
        f"{frame.y(row, count / BIN_SECONDS):.1f}"
        f"H{frame.x(seen.first_bin + (number + 1) * BIN_SECONDS):.1f}"
        for number, count in enumerate(seen.throughput[:-1])
        if number > 0
    )
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>\n' if path else ""


def _time_axis(frame: _Frame, rows: int) -> str:
    bottom = frame.top(rows) - _GAP
    span = frame.last - frame.first
    step = next((tick for tick in _TICKS if span / tick <= _MOST_TICKS), _TICKS[-1])
    marks = range(int(frame.first // step) + 1, int(frame.last // step) + 1)
    ticks = "".join(
        f'<path d="M{frame.x(mark * step):.1f} {bottom:.1f}v5" stroke="#888"/>'
        f'<text x="{frame.x(mark * step):.1f}" y="{bottom + 18:.1f}" text-anchor="middle">'
        f"{mark * step}</text>\n"
        for mark in marks
    )
    middle = frame.x((frame.first + frame.last) / 2)
    return (
        f'{ticks}<text x="{middle:.1f}" y="{bottom + 40:.1f}" text-anchor="middle">'
        "seconds since the fault</text>\n"
    )


def _legend() -> str:
    entries = (("writes", _WRITES), ("reads", _READS), ("fault", _FAULT), ("no writes", _SHADE))
    return "".join(
        f'<rect x="{_LEFT + 110 * place}" y="44" width="18" height="8" fill="{colour}"/>'
        f'<text x="{_LEFT + 24 + 110 * place}" y="52">{name}</text>\n'
        for place, (name, colour) in enumerate(entries)
    )


def _seconds(outage: float | None) -> str:
    return "not back" if outage is None else f"{outage:.1f} s"
