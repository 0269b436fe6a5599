"""Tables and plots of what was measured."""

import json
import math
from html import escape
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.measure import Figures

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#8c6d31", "#5e3c99")
"""Readable also without red and green (after Okabe and Ito); a picture with more lines has them again, dashed."""

Column = tuple[str, str, str]
"""Heading, the figure's name (a dot reaches into a histogram), its kind: count, us, ms, ratio, share, kb, s."""


def figure(found: Figures, name: str) -> list[float]:
    """A figure's values over the runs; `each.p50` reaches into a distribution."""
    outer, _, inner = name.partition(".")
    values = found.all(outer)
    return [value[inner] for value in values if value.get("n")] if inner else values


def middle(values: list[float]) -> float | None:
    """The median, or nothing."""
    if not values:
        return None
    ordered = sorted(values)
    k = len(ordered) // 2
    return ordered[k] if len(ordered) % 2 else (ordered[k - 1] + ordered[k]) / 2


def written(value: float | None, kind: str) -> str:
    """A value for people; latencies come in µs."""
    if value is None:
        return "–"
    match kind:
        case "count":
            return f"{value:,.0f}"
        case "ms":
            ms = value / 1e3
            return f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.1f} ms" if ms >= 1 else f"{ms:.2f} ms"
        case "us":
            return f"{value:.2f} µs"
        case "share":
            return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"
        case "kb":
            return f"{value / 1000:.1f} kB"
        case "mb":
            return f"{value / 1e6:,.0f} MB"
        case "s":
            return f"{value:.2f} s"
    return f"{value:g}"


def spread(values: list[float], kind: str) -> str:
    """From the least to the most, without repeating the unit."""
    return (
        ""
        if len(values) < 2
        else f" ({written(min(values), kind).split(' ')[0]}–{written(max(values), kind).split(' ')[0]})"
    )


class Report:
    """A table of systems, one of them the base that the ratios are taken to."""

    def __init__(
        self, title: str, figures: dict[str, Figures], columns: list[Column], *, base: str | None, notes: list[str]
    ) -> None:
        self.title, self.figures, self.columns, self.notes = title, figures, columns, notes
        self.base = base

    def _base_of(self, key: str) -> str:
        """The base among the systems of the same size (`system:size`), or the first of them where it is missing."""
        size = key.partition(":")[2]
        same = [other for other in self.figures if other.partition(":")[2] == size]
        return next((other for other in same if other.partition(":")[0] == self.base), same[0])

    def rows(self) -> list[list[str]]:
        """The table's cells; the first column's figure is also given as a ratio to the base."""
        rows = []
        lead = self.columns[0]
        for key, found in self.figures.items():
            beside = self._base_of(key)
            base = middle(figure(self.figures[beside], lead[1]))
            values = figure(found, lead[1])
            here = middle(values)
            ratio = f"{here / base:.2f} ×" if here is not None and base else "–"
            cells = [found.label, written(here, lead[2]) + spread(values, lead[2]), ratio]
            for _heading, name, kind in self.columns[1:]:
                cells.append(written(middle(figure(found, name)), kind))
            rows.append(cells)
        return rows

    def headings(self) -> list[str]:
        """Over the columns."""
        base = self._base_of(next(iter(self.figures)))
        label = self.figures[base].label.rpartition(", ")[0] if ":" in base else self.figures[base].label
        return ["server", self.columns[0][0], f"to {label}", *(heading for heading, *_ in self.columns[1:])]

    def show(self, console: Console, *, markdown: bool) -> None:
        """Print it, for a terminal or for a page."""
        if not self.figures:
            console.print("\n".join(["Nothing could be measured.", *self.notes]), markup=False)
            return
        if markdown:
            lines = [
                "| " + " | ".join(cells) + " |"
                for cells in [self.headings(), ["---"] * len(self.headings()), *self.rows()]
            ]
            print("\n".join([f"**{self.title}**", "", *lines, "", *(f"- {note}" for note in self.notes), ""]))
            return
        table = Table(
            title=self.title, title_justify="left", caption=Text("\n".join(self.notes)), caption_justify="left"
        )
        for n, heading in enumerate(self.headings()):
            table.add_column(heading, justify="left" if n == 0 else "right", no_wrap=n == 0)
        for cells in self.rows():
            table.add_row(*cells)
        console.print(table)

    def keep(self, path: Path) -> None:
        """Append the runs to a file of JSON lines."""
        with path.open("a") as out:
            for key, found in self.figures.items():
                runs = [{name: value for name, value in run.items() if name != "ev"} for run in found.runs]
                out.write(json.dumps({"title": self.title, "system": key, "label": found.label, "runs": runs}) + "\n")


# Plots, as SVG written by hand: a picture that any browser and page shows, and no library to install


def latencies(title: str, figures: dict[str, Figures], path: Path, *, name: str = "each") -> None:
    """Latency over percentile, both axes logarithmic: the further right, the rarer."""
    lines = []
    for found in figures.values():
        total: dict[float, int] = {}
        for run in found.runs:
            for value, count in run.get(name, {}).get("hist", []):
                total[value] = total.get(value, 0) + count
        n = sum(total.values())
        if not n:
            continue
        seen, points = 0, []
        for value in sorted(total):
            seen += total[value]
            rest = max(1 - seen / n, 0.5 / n)
            points.append((1 / rest, value / 1e3))
        lines.append((found.label, [p for p in points if p[0] <= 1e5]))
    ticks = [
        (1 / (1 - q), text)
        for q, text in ((0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %"))
    ]
    path.write_text(_plot(title, lines, across="share that was at least as fast", up="milliseconds", ticks=ticks))


def over(title: str, lines: list[tuple[str, list[tuple[float, float]]]], path: Path, *, across: str, up: str) -> None:
    """A figure over a size, both axes logarithmic."""
    ticks = [(x, f"{x:,.0f}") for x in sorted({x for _, points in lines for x, _ in points})]
    path.write_text(_plot(title, lines, across=across, up=up, ticks=ticks))


def _plot(
    title: str,
    lines: list[tuple[str, list[tuple[float, float]]]],
    *,
    across: str,
    up: str,
    ticks: list[tuple[float, str]],
) -> str:
    width, height, left, right, top, bottom = 930, 460, 110, 230, 50, 60
    xs = [math.log10(max(x, 1e-9)) for _, points in lines for x, _ in points] + [
        math.log10(max(x, 1e-9)) for x, _ in ticks
    ]
    ys = [math.log10(max(y, 1e-6)) for _, points in lines for _, y in points]
    if not xs or not ys:
        xs, ys = [0, 1], [0, 1]
    x0, x1 = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1
    y0, y1 = math.floor(min(ys)), max(math.ceil(max(ys)), math.floor(min(ys)) + 1)

    def at(x: float, y: float) -> tuple[float, float]:
        across_ = left + (math.log10(max(x, 1e-9)) - x0) / (x1 - x0) * (width - left - right)
        return across_, height - bottom - (math.log10(max(y, 1e-6)) - y0) / (y1 - y0) * (height - top - bottom)

    middle_x, middle_y, axis = (left + width - right) / 2, (top + height - bottom) / 2, height - bottom
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"',
        f' aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        _text(title, left, 26, more='font-size="16" font-weight="600"'),
        _text(across, middle_x, height - 14, more='text-anchor="middle"'),
        _text(up, 20, middle_y, more=f'text-anchor="middle" transform="rotate(-90 20 {middle_y})"'),
    ]
    for power in range(int(y0), int(y1) + 1):
        _, y = at(1, 10**power)
        out.append(f'<path d="M{left} {y:.1f}H{width - right}" stroke="#ddd"/>')
        out.append(
            _text(f"{10**power:,}" if power >= 0 else f"{10**power:g}", left - 8, y + 4, more='text-anchor="end"')
        )
    for tick, text in ticks:
        x, _ = at(tick, 1)
        out.append(f'<path d="M{x:.1f} {top}V{axis}" stroke="#eee"/>')
        out.append(_text(text, x, axis + 20, more='text-anchor="middle"'))
    for n, (label, points) in enumerate(lines):
        colour = COLOURS[n % len(COLOURS)]
        dashes = ' stroke-dasharray="7 4"' if n >= len(COLOURS) else ""
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*point) for point in points))
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        if len(points) < 12:
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in (at(*p) for p in points)]
        y = top + 10 + n * 22
        out.append(f'<path d="M{width - right + 16} {y}h22" stroke="{colour}" stroke-width="3"{dashes}/>')
        out.append(_text(label, width - right + 44, y + 4))
    return "\n".join([*out, "</svg>", ""])


def _text(text: str, x: float, y: float, *, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="#333" {more}>{escape(text)}</text>'
