"""The bench's commands."""

import functools
import sys
from pathlib import Path

import click
from rich.console import Console

from bench import media as media_scenario
from bench import report, scenarios
from bench import small as small_scenario
from bench import worst as worst_scenario
from bench.load import LoadFailed
from bench.measure import Bench, Figures
from bench.report import Column, Report
from bench.scenarios import Pace
from bench.systems import SYSTEMS, Layout, Missing, System, elsewhere

LATENCY: list[Column] = [("p50", "each.p50", "ms"), ("p99", "each.p99", "ms")]
COST: list[Column] = [
    ("server CPU a delivery", "cpu_us_delivery", "us"),
    ("server's core", "server_share", "share"),
    ("load's core", "load_share", "share"),
]


class Sizes(click.ParamType):
    """Whole numbers from 1 with commas between."""

    name = "numbers"

    def convert(self, value, param, ctx):
        """Return them as a list."""
        if isinstance(value, list):
            return value
        sizes = [int(part) for part in value.split(",") if part.strip().isdecimal()]
        if len(sizes) != value.count(",") + 1 or 0 in sizes:
            self.fail(f"{value!r} is not whole numbers from 1 with commas between, as 10,100,1000", param, ctx)
        return sizes


sized = click.option(
    "--size",
    type=click.IntRange(min=1),
    default=400,
    show_default=True,
    help="Bytes of the event in the published form; Orbital adds its own fields.",
)
SOME = click.IntRange(min=1)
TENS = click.IntRange(min=10)
ANY = click.IntRange(min=0)
A_SECOND = click.FloatRange(min=0, min_open=True)


def common(*peers: str, base: str, plots: bool = True):
    """The options that every scenario has; `peers` are the systems measured when none is named.

    Without `plots` a scenario has no picture, and so no `--plot`.
    """

    def wrap(command):
        @click.option(
            "--system",
            "-s",
            "names",
            multiple=True,
            type=click.Choice(list(SYSTEMS)),
            help=f"What to measure, in this order; may be repeated. By default: {', '.join(peers)}.",
        )
        @click.option(
            "--base",
            type=click.Choice(list(SYSTEMS)),
            default=base,
            show_default=True,
            help="The peer that ratios are taken to.",
        )
        @click.option(
            "--url",
            help="Measure a server of your own too (http://host:port), its limits raised, --secret its JWT_SECRET.",
        )
        @click.option("--secret", envvar="JWT_SECRET", help="The secret that tokens for --url are signed with.")
        @click.option("--rounds", type=SOME, default=3, show_default=True, help="Runs of each, in turns: A B A B A B.")
        @click.option(
            "--server-core", type=ANY, default=0, show_default=True, help="The core that each server is pinned to."
        )
        @click.option("--load-core", type=ANY, default=1, show_default=True, help="The core of the load side.")
        @click.option(
            "--ahead",
            type=ANY,
            default=0,
            show_default=True,
            help="Steps of priority (nice, needs root) for server and load, where the machine is not idle.",
        )
        @click.option(
            "--spin/--sleep",
            default=True,
            show_default=True,
            help="Whether the load side polls on its core; if it sleeps, the server pays for waking it up.",
        )
        @click.option(
            "--keep",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Append every run to this file, a line of JSON for each system.",
        )
        @click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
        @functools.wraps(command)
        def run(*, names, base, url, secret, rounds, server_core, load_core, ahead, spin, keep, markdown, **options):
            systems: list[System] = []
            try:
                if url:
                    if not secret:
                        raise click.UsageError(
                            "--url needs --secret (or JWT_SECRET): the bench makes the tokens of its users itself"
                        )
                    if "orbital-edge" in names:
                        raise click.UsageError("the edge alone is a part that the bench cuts out; --url has the whole")
                    ours = [name for name in names or peers if name.startswith("orbital")]
                    if not names or not ours:
                        ours = [next(name for name in peers if name.startswith("orbital"))]
                    systems += [elsewhere(url, secret, SYSTEMS[name]) for name in ours]
                systems += [
                    SYSTEMS[name]()
                    for name in (names or ([p for p in peers if not p.startswith("orbital")] if url else peers))
                    if not (url and name.startswith("orbital"))
                ]
                with Bench(systems, server_core=server_core, load_core=load_core, steps=ahead, spin=spin) as bench:
                    title, figures, columns = command(bench=bench, rounds=rounds, **options)
            except (Missing, LoadFailed) as failed:
                raise click.ClickException(str(failed)) from None
            table = Report(title, figures, columns, base=base, notes=bench.notes)
            # A file or a pipe has no width; a table cut to 80 columns helps nobody.
            table.show(Console() if sys.stdout.isatty() else Console(width=200), markdown=markdown)
            if keep:
                table.keep(keep)
            if not figures:
                sys.exit(1)

        if plots:
            picture = click.Path(dir_okay=False, path_type=Path)
            return click.option("--plot", type=picture, help="Write an SVG picture.")(run)
        return run

    return wrap


def paced(command):
    """The options of a scenario with a window."""

    @click.option("--seconds", type=A_SECOND, default=3.0, show_default=True, help="Length of the measured window.")
    @click.option(
        "--warm", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Seconds under load before it."
    )
    @functools.wraps(command)
    def run(*, seconds, warm, rounds, **options):
        return command(pace=Pace(rounds=rounds, warm_s=warm, window_s=seconds), **options)

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Measure Orbital, each figure beside a peer's of the same minute.

    Servers are started by the bench, pinned to one core, and loaded from another by a program in C. What a peer needs
    is fetched into bench/.cache; a peer that cannot be had is left out with a line.

    \b
    Examples:
      python -m bench fan_out                                 # 1 group of 1,000, 64 events in flight
      python -m bench fan_out --rate 300 --plot latency.svg   # a fixed 300 events a second: latencies
      python -m bench fan_out --over 10,100,1000 --plot n.svg # deliveries a second over the group's size
      python -m bench append -s orbital -s express            # durable posts a second, nobody listening
      python -m bench fan_out --url http://10.0.0.5:3000 --secret "$JWT_SECRET"
    """


def _two_nodes(ctx: click.Context, _option: click.Parameter, nodes: int) -> None:
    """Measure two servers instead, if asked to."""
    if nodes == 2 and not ctx.resilient_parsing:
        try:
            # Here alone: it starts its servers as the tests do, and needs what `make dev` installs.
            from bench import second_hop
        except ModuleNotFoundError as missing:
            raise click.ClickException(f"--nodes 2 needs {missing.name}; `make dev` installs it") from None
        second_hop.report()
        ctx.exit()


@main.command("fan_out")
@common(
    "orbital",
    "node-map",
    "node-search",
    "socketio",
    "uws",
    "websockets",
    "starlette",
    "c-one",
    "c-joined",
    base="node-map",
)
@paced
@click.option(
    "--nodes",
    type=click.IntRange(1, 2),
    default=1,
    is_eager=True,
    expose_value=False,
    callback=_two_nodes,
    help="2: what a second server adds, beside Socket.IO and Node ws with Redis; the other options do not count then.",
)
@click.option("--listeners", type=SOME, default=1000, show_default=True, help="Members of the group.")
@click.option(
    "--over", type=Sizes(), help="Several sizes instead, as 10,100,1000; --plot then shows deliveries over them."
)
@click.option(
    "--in-flight",
    type=SOME,
    default=64,
    show_default=True,
    help="Events kept in flight: sent, and not yet delivered to every listener.",
)
@click.option(
    "--rate", type=A_SECOND, help="Events a second, sent on time whatever comes back, instead of --in-flight."
)
@sized
def fan_out(
    *,
    bench: Bench,
    pace: Pace,
    listeners: int,
    over: list[int] | None,
    in_flight: int,
    rate: float | None,
    size: int,
    plot: Path | None,
):
    """One group: every event goes to all of its listeners.

    \b
    Examples:
      python -m bench fan_out --in-flight 1     # see the column "last of all": how long one event takes
      python -m bench fan_out --rate 300 -s orbital -s node-map
    """
    how = f"{rate:g} events a second" if rate else f"{in_flight} in flight"
    kind, amount = ("open", rate) if rate else ("closed", in_flight)
    sizes = over or [listeners]
    figures: dict[str, Figures] = {}
    lines: dict[str, list[tuple[float, float]]] = {}
    for n in sizes:
        found = scenarios.broadcast(bench, Layout(groups=1, members=n, size=size), pace, kind=kind, amount=amount)
        for key, one in found.items():
            lines.setdefault(one.label, []).append((n, one.median("deliveries_s") or 0))
            figures[key if not over else f"{key}:{n}"] = one
            if over:
                one.label = f"{one.label}, {n:,}"
    if plot and over:
        report.over(
            f"Deliveries a second, {how}", list(lines.items()), plot, across="listeners", up="deliveries a second"
        )
    elif plot:
        report.latencies(f"1 group of {listeners:,}, {how}", figures, plot)
    lead: Column = (
        ("last of all, p50", "last.p50", "ms")
        if in_flight == 1 and not rate
        else ("p50", "each.p50", "ms")
        if rate
        else ("deliveries/s", "deliveries_s", "count")
    )
    rest = [
        c
        for c in [
            ("deliveries/s", "deliveries_s", "count"),
            *LATENCY,
            ("last of all, p99", "last.p99", "ms"),
            *COST,
            ("bytes a frame", "frame_bytes", "count"),
        ]
        if c != lead
    ]
    return f"1 group of {', '.join(f'{n:,}' for n in sizes)}; {how}", figures, [lead, *rest]


@main.command()
@common(
    "orbital",
    "orbital-post",
    "node-map",
    "node-search",
    "socketio",
    "uws",
    "websockets",
    "starlette",
    "c-one",
    "c-joined",
    "express",
    base="node-map",
)
@paced
@click.option("--groups", "count", type=SOME, default=200, show_default=True, help="Groups.")
@click.option("--members", type=SOME, default=10, show_default=True, help="Listeners in each.")
@click.option("--in-flight", type=SOME, default=64, show_default=True, help="Events kept in flight over all groups.")
@sized
def groups(*, bench: Bench, pace: Pace, count: int, members: int, in_flight: int, size: int, plot: Path | None):
    """Many small groups, as families are.

    \b
    Examples:
      python -m bench groups -s orbital-post -s express    # the whole path: durable, then delivered
      python -m bench groups --groups 1000 --members 5
    """
    layout = Layout(groups=count, members=members, posters=min(64, count), size=size)
    figures = scenarios.broadcast(bench, layout, pace, kind="closed", amount=in_flight)
    if plot:
        report.latencies(f"{count} groups of {members}, {in_flight} in flight", figures, plot)
    columns: list[Column] = [
        ("deliveries/s", "deliveries_s", "count"),
        ("events/s", "events_s", "count"),
        *LATENCY,
        *COST,
    ]
    return f"{count} groups of {members}; {in_flight} in flight", figures, columns


@main.command()
@common("orbital-post", "orbital", "express", base="express")
@paced
@click.option("--rate", type=A_SECOND, default=500.0, show_default=True, help="Events a second over all groups.")
@click.option("--groups", "count", type=SOME, default=50, show_default=True, help="Groups.")
@click.option("--members", type=SOME, default=10, show_default=True, help="Listeners in each.")
@sized
def publish(*, bench: Bench, pace: Pace, rate: float, count: int, members: int, size: int, plot: Path | None):
    """From the POST to the last member's socket, at a fixed rate.

    \b
    Examples:
      python -m bench publish
      python -m bench publish --rate 2000 --plot publish.svg
    """
    layout = Layout(groups=count, members=members, posters=min(64, count), size=size)
    figures = scenarios.broadcast(bench, layout, pace, kind="open", amount=rate)
    if plot:
        report.latencies(f"POST to the last of {members}, {rate:g} a second", figures, plot, name="last")
    columns: list[Column] = [
        ("last member, p50", "last.p50", "ms"),
        ("p90", "last.p90", "ms"),
        ("p99", "last.p99", "ms"),
        ("most", "last.max", "ms"),
        ("answer, p50", "answer.p50", "ms"),
        ("answer, p99", "answer.p99", "ms"),
        ("events/s", "events_s", "count"),
        ("server's core", "server_share", "share"),
    ]
    return f"POST to the last of {members} members; {rate:g} a second", figures, columns


@main.command()
@common("orbital-post", "orbital", "orbital-post-pg", "orbital-pg", "express", base="express")
@paced
@click.option(
    "--senders",
    type=SOME,
    default=64,
    show_default=True,
    help="Users who post, each to a group of its own, one event in flight for each.",
)
@sized
def append(*, bench: Bench, pace: Pace, senders: int, size: int, plot: Path | None):
    """Durable posts a second, nobody listening.

    \b
    Examples:
      python -m bench append
      python -m bench append -s orbital --senders 256
      python -m bench append -s orbital-post -s orbital-post-epoch --base orbital-post
      python -m bench append -s orbital-post -s orbital-reply --base orbital-post
    """
    layout = Layout(groups=senders, members=0, posters=senders, size=size)
    figures = scenarios.broadcast(bench, layout, pace, kind="closed", amount=senders)
    if plot:
        report.latencies(f"{senders} senders, nobody listening", figures, plot, name="answer")
    columns: list[Column] = [
        ("durable posts/s", "answers_s", "count"),
        ("answer, p50", "answer.p50", "ms"),
        ("p99", "answer.p99", "ms"),
        ("server CPU a post", "cpu_us_event", "us"),
        ("server's core", "server_share", "share"),
        ("load's core", "load_share", "share"),
    ]
    return f"{senders} senders, nobody listening", figures, columns


@main.command()
@common("orbital", "node-map", base="node-map", plots=False)
@click.option("--connections", type=TENS, default=10_000, show_default=True, help="Listeners, in groups of 10.")
@click.option(
    "--seconds",
    type=A_SECOND,
    default=60.0,
    show_default=True,
    help="How long they are watched; a multiple of the heartbeat (30 s) makes it fair.",
)
def idle(*, bench: Bench, rounds: int, connections: int, seconds: float):
    """Connections that only listen: memory for each, CPU of the heartbeats.

    \b
    Examples:
      python -m bench idle --rounds 1
      python -m bench idle --connections 18000 --rounds 1 -s orbital
    """
    figures = scenarios.idle(bench, connections=connections, seconds=seconds, rounds=rounds)
    columns: list[Column] = [
        ("memory a connection", "bytes_each", "kb"),
        ("after the watch", "settled_each", "kb"),
        ("CPU of a core", "cpu_share", "share"),
        ("pings answered", "pings", "count"),
        ("handshakes/s", "handshakes_s", "count"),
        ("connections", "connections", "count"),
        ("of an event's listeners reached", "reached", "share"),
    ]
    return f"{connections:,} idle connections, authenticated and subscribed", figures, columns


@main.command()
@common("orbital", "node-map", "uws", "websockets", base="node-map", plots=False)
@click.option("--connections", type=TENS, default=2000, show_default=True, help="Listeners, in groups of 10.")
@click.option("--cycles", type=SOME, default=3, show_default=True, help="How often all are opened and cut in a round.")
def connect(*, bench: Bench, rounds: int, connections: int, cycles: int):
    """Open, authenticate, subscribe, cut: connections a second, and the server's CPU for each.

    \b
    Examples:
      python -m bench connect
      python -m bench connect --connections 5000 --cycles 1 -s orbital -s node-map
    """
    figures = scenarios.connect(bench, connections=connections, cycles=cycles, rounds=rounds)
    columns: list[Column] = [
        ("server CPU each", "cpu_us_each", "us"),
        ("connections/s", "connections_s", "count"),
        ("load's core", "load_share", "share"),
    ]
    return f"{connections:,} connections opened, subscribed and cut, {cycles} times", figures, columns


@main.command()
@common("orbital", "node-map", base="node-map")
@click.option(
    "--clients", type=TENS, default=10_000, show_default=True, help="Clients that are cut and come back at once."
)
@click.option("--missed", type=SOME, default=20, show_default=True, help="Events that each has missed and resumes.")
@click.option(
    "--others", type=TENS, default=100, show_default=True, help="Clients who stayed, in groups of 10, served meanwhile."
)
def storm(*, bench: Bench, rounds: int, clients: int, missed: int, others: int, plot: Path | None):
    """Everyone comes back after a power cut and resumes; a peer without a log only has to take them back.

    \b
    Examples:
      python -m bench storm --rounds 1
      python -m bench storm --clients 2000 --missed 100 -s orbital
    """
    figures = scenarios.storm(bench, clients=clients, missed=missed, others=others, rounds=rounds)
    if plot:
        report.latencies(f"{others} others while {clients:,} come back", figures, plot, name="others")
    columns: list[Column] = [
        ("all complete after", "took_s", "s"),
        ("complete", "full", "count"),
        ("clients/s", "resumed_s", "count"),
        ("events resumed/s", "events_s", "count"),
        ("others' p50 before", "before.p50", "ms"),
        ("p99 before", "before.p99", "ms"),
        ("others' p50", "others.p50", "ms"),
        ("others' p99", "others.p99", "ms"),
        ("server's core", "server_share", "share"),
        ("load's core", "load_share", "share"),
    ]
    return f"{clients:,} clients come back at once, each resuming {missed} events", figures, columns


@main.command()
@common("orbital", "node-map", "uws", base="node-map")
@click.option("--listeners", type=SOME, default=1000, show_default=True, help="Members of the group.")
@click.option("--stalled", type=ANY, default=100, show_default=True, help="How many of them never read.")
@click.option("--rate", type=A_SECOND, default=100.0, show_default=True, help="Events a second.")
@click.option("--seconds", type=A_SECOND, default=15.0, show_default=True, help="Length of the measured window.")
def slow(*, bench: Bench, rounds: int, listeners: int, stalled: int, rate: float, seconds: float, plot: Path | None):
    """Some listeners never read: the others' latency, and the server's memory.

    \b
    Examples:
      python -m bench slow --rounds 1
      python -m bench slow --stalled 0 --rounds 1      # the same without them, to compare
    """
    if stalled >= listeners:
        raise click.UsageError("--stalled has to be less than --listeners: somebody must read")
    figures = scenarios.slow(bench, listeners=listeners, stalled=stalled, rate=rate, seconds=seconds, rounds=rounds)
    if plot:
        report.latencies(f"{listeners - stalled:,} listeners beside {stalled} that never read", figures, plot)
    columns: list[Column] = [
        ("the others' p50", "each.p50", "ms"),
        ("p99", "each.p99", "ms"),
        ("most", "each.max", "ms"),
        ("memory grown", "grown_bytes", "mb"),
        ("for each stalled one", "grown_each", "kb"),
        ("deliveries/s", "deliveries_s", "count"),
        ("server's core", "server_share", "share"),
    ]
    return f"{listeners:,} listeners of whom {stalled} never read; {rate:g} events a second", figures, columns


@main.command()
@common("orbital", base="orbital", plots=False)
@click.option("--clients", type=SOME, default=100, show_default=True, help="Clients who resume at once.")
@click.option("--events", type=SOME, default=2000, show_default=True, help="Events that each has missed.")
def replay(*, bench: Bench, rounds: int, clients: int, events: int):
    """Clients who resume from far back: events a second out of the log.

    \b
    Examples:
      python -m bench replay
      python -m bench replay --clients 1 --events 50000
    """
    figures = scenarios.replay(bench, clients=clients, events=events, rounds=rounds)
    columns: list[Column] = [
        ("events/s", "events_s", "count"),
        ("all complete after", "took_s", "s"),
        ("server CPU an event", "cpu_us_event", "us"),
        ("load's core", "load_share", "share"),
    ]
    return f"{clients} clients resume {events:,} events each", figures, columns


@main.command()
@common("orbital-media", "multer", "multer-sync", "nginx", base="multer", plots=False)
@click.option("--size", type=SOME, default=100, show_default=True, help="MiB of the file.")
@click.option("--way", type=click.Choice(["up", "down"]), default="up", show_default=True, help="What ratios are of.")
def media(*, bench: Bench, rounds: int, size: int, way: str):
    """A file up in chunks of 5 MiB, three side by side, and down again.

    \b
    Examples:
      python -m bench media
      python -m bench media --size 500 --way down --base nginx
    """
    figures = media_scenario.carry(bench, size_mib=size, rounds=rounds)
    columns: list[Column] = [
        ("up, MB/s", "up_mb_s", "count"),
        ("server's core", "up_share", "share"),
        ("load's core", "up_load_share", "share"),
        ("memory grown", "grown_bytes", "mb"),
        ("down, MB/s", "down_mb_s", "count"),
        ("server's core, down", "down_share", "share"),
        ("load's core, down", "down_load_share", "share"),
    ]
    if way == "down":
        columns = [*columns[4:], *columns[:4]]
    return f"A file of {size} MiB, {media_scenario.SIDE_BY_SIDE} chunks of 5 MiB side by side", figures, columns


@main.command()
@common("orbital", base="orbital", plots=False)
@click.option("--entries", type=SOME, default=40, show_default=True, help="Of each list, as large as is allowed.")
def worst(*, bench: Bench, rounds: int, entries: int):
    """The largest answer of each list, and what clients that do not read it cost.

    \b
    Examples:
      python -m bench worst --rounds 1
      python -m bench worst --entries 100 -s orbital-pg
    """
    figures = worst_scenario.worst(bench, rounds=rounds, entries=entries)
    columns: list[Column] = [
        ("answer", "bytes", "mb"),
        ("took", "took_s", "s"),
        (f"grown with {worst_scenario.SILENT} who do not read", "grown_bytes", "mb"),
    ]
    return f"The largest page of each list, of {entries} entries as large as is allowed", figures, columns


@main.command()
@common("orbital", base="orbital", plots=False)
@click.option("--limit", "limit_mib", type=SOME, default=128, show_default=True, help="MiB that the server may use.")
def small(*, bench: Bench, rounds: int, limit_mib: int):
    """A family's evening on a small machine: what the server holds after each step.

    \b
    A control group enforces the limit; where this user can make none, the server's memory is read every 50 ms, and
    the server is killed above the limit. A note below the table says which.

    \b
    Examples:
      python -m bench small
      python -m bench small --limit 96 --rounds 1
    """
    figures = small_scenario.small(bench, limit_mib=limit_mib, rounds=rounds)
    columns: list[Column] = [("memory", "resident", "mb"), ("took", "took_s", "s")]
    return f"An evening with {limit_mib} MiB at most", figures, columns
