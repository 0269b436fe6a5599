"""The bench itself: its counts are correct."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from xml.etree import ElementTree as ET

import jwt
import pytest
from click.testing import CliRunner, Result

from bench import cli, load, report, small, systems, tools, worst
from bench.measure import Figures
from tests.support.programs import CHECKOUT, free_port, missing

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the load side is written on epoll")


@pytest.fixture(autouse=True)
def _compiler():
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        missing("A C compiler for the load side", remedy="apt-get install gcc")


@pytest.fixture
def floor(tmp_path):
    """The C server with a tick's frames joined, as peers are started."""
    testbed = systems.Testbed(None, None, folder=tmp_path)
    system = systems.FloorJoined()
    system.start(testbed)
    yield system
    system.stop()


def test_every_delivery_is_counted_once(floor):
    """[BENCH1] For an event to N listeners exactly N deliveries are counted, and none is left in flight."""
    layout = systems.Layout(groups=3, members=7, posters=3)
    with load.Load(floor.host, floor.port, core=None) as side:
        side.listeners(floor.listener(layout, g, m) for g in range(3) for m in range(7))
        floor.publishers(side, layout)
        assert side.connect()["ready"] == 21
        result = side.run("count", 300, warm_s=0, window_s=20)

    assert (result["events"], result["deliveries"], result["in_flight"]) == (300, 2100, 0)
    assert (result["each"]["n"], result["last"]["n"]) == (2100, 300)
    assert (result["errors"], result["extra"]) == (0, 0)
    assert 0 < result["each"]["p50"] <= result["each"]["p99"] <= result["last"]["max"]


def test_stalled_listeners_are_not_awaited(floor):
    """[BENCH2] A listener that never reads counts neither as delivered to nor as missing."""
    layout = systems.Layout(groups=1, members=5, posters=1)
    with load.Load(floor.host, floor.port, core=None) as side:
        side.listeners(floor.listener(layout, 0, m, flags="gd" if m < 2 else "g") for m in range(5))
        floor.publishers(side, layout)
        side.connect()
        result = side.run("count", 50, warm_s=0, window_s=20)

    assert (result["events"], result["deliveries"], result["in_flight"]) == (50, 150, 0)


def test_an_open_load_keeps_its_rate(floor):
    """[BENCH3] At a fixed rate as many events are sent as fit into the window, whatever is received."""
    layout = systems.Layout(groups=1, members=2, posters=1)
    with load.Load(floor.host, floor.port, core=None) as side:
        side.listeners(floor.listener(layout, 0, m) for m in range(2))
        floor.publishers(side, layout)
        side.connect()
        result = side.run("open", 200, warm_s=0, window_s=1)

    assert abs(result["each"]["n"] - 400) <= 4


def test_a_refused_handshake_is_reported(floor):
    """[BENCH4] A server that does not upgrade is reported with the start of its response, not as silence."""
    with load.Load(floor.host, floor.port, core=None) as side:
        side.listeners([load.Conn(0, "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", ["{}"])])
        with pytest.raises(load.LoadFailed, match="1 of 1 connections failed"):
            side.connect(within_s=5)


def test_the_table_the_runs_and_the_picture(tmp_path):
    """[BENCH5] A command prints a table, stores every run, and draws a chart that a browser can render."""
    kept, picture = tmp_path / "runs.jsonl", tmp_path / "picture.svg"
    options = (
        "--system c-one --system c-joined --base c-one --listeners 20 --rounds 2 --seconds 0.3 --warm 0.1 --markdown"
    )

    done = CliRunner().invoke(cli.main, ["fan_out", *options.split(), "--keep", str(kept), "--plot", str(picture)])

    assert done.exit_code == 0, done.output
    assert "| C, one send a delivery |" in done.output
    assert "| C, a tick's frames joined |" in done.output
    runs = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(run["system"], len(run["runs"])) for run in runs] == [("c-one", 2), ("c-joined", 2)]
    assert all(one["in_flight"] == 0 and one["errors"] == 0 for run in runs for one in run["runs"])
    root = ET.fromstring(picture.read_text())  # noqa: S314  # our own picture
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_a_missing_peer_is_skipped(monkeypatch):
    """[BENCH6] A peer whose requirements are missing is skipped with a message; the others are measured."""

    def missing():
        raise tools.Missing("it needs Node with npm")

    monkeypatch.setattr(tools, "node", missing)
    options = "--system node-map --system c-joined --listeners 5 --rounds 1 --seconds 0.2 --warm 0 --markdown"

    done = CliRunner().invoke(cli.main, ["fan_out", *options.split()])

    assert done.exit_code == 0, done.output
    assert "Node ws, Map is left out: it needs Node with npm" in done.output
    assert "| C, a tick's frames joined |" in done.output


def test_tokens_are_valid():
    """[BENCH7] The users' tokens conform to RFC 7519, as another library parses them."""
    claims = jwt.decode(tools.token("s" * 32, "somebody"), "s" * 32, algorithms=["HS256"])

    assert claims["userId"] == "somebody"
    assert claims["exp"] > claims["iat"]


def test_events_have_the_requested_size():
    """[BENCH8] An event of the published format has the requested size, within base64's steps of four."""
    for size in (400, 1000, 5000):
        event = systems.compact(systems.Layout(groups=1, members=1, size=size).event(tools.identity("group", 0)))
        assert size - 4 < len(event) <= size


def test_ratios_are_computed_per_size():
    """[BENCH9] Over several sizes, each figure is compared with the base's figure of the same size."""
    figures = {
        key: Figures(key, [{"deliveries_s": value}])
        for key, value in (("a:10", 100.0), ("b:10", 300.0), ("a:100", 50.0), ("b:100", 25.0))
    }

    rows = report.Report("", figures, [("deliveries/s", "deliveries_s", "count")], base="a", notes=[]).rows()

    assert [row[2] for row in rows] == ["1.00 ×", "3.00 ×", "1.00 ×", "0.50 ×"]


def test_escapes_are_reversible():
    """[BENCH10] Special characters are escaped so that the load generator reads the same bytes."""
    raw = bytes(range(256))

    text = load.escaped(raw)

    assert not {"\n", "\t", "\r"} & set(text)
    assert text.encode().decode("unicode_escape").encode("latin-1") == raw


@pytest.mark.parametrize(
    "words",
    [
        "fan_out --over 10,abc",
        "fan_out --over 10,,20",
        "fan_out --over 0",
        "fan_out --listeners 0",
        "fan_out --rate -5",
        "fan_out --rounds 0",
        "groups --groups 0",
        "storm --others 5",
        "slow --stalled 5 --listeners 5 --system c-joined",
        "idle --plot picture.svg",
        "fan_out --url http://127.0.0.1:no --secret s",
        "fan_out --url https://127.0.0.1 --secret s",
        "fan_out --url http://127.0.0.1:1",
        "fan_out --url http://127.0.0.1:1 --secret s --system orbital-edge",
    ],
)
def test_invalid_arguments_are_refused(words):
    """[BENCH11] An invalid number or address is refused with a sentence, not with a traceback."""
    done = CliRunner().invoke(cli.main, words.split(), env={"JWT_SECRET": ""})

    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code != 0
    assert "Error: " in done.output


def test_an_address_without_a_server(monkeypatch):
    """[BENCH12] The requested server must be reachable: without it no time is spent on its peers."""
    monkeypatch.setattr(systems.System, "start", lambda *_: pytest.fail("a peer was started"))
    address = f"http://127.0.0.1:{free_port()}"

    done = CliRunner().invoke(cli.main, ["fan_out", "--url", address, "--secret", "s"])

    assert done.exit_code == 1
    assert f"nothing listens at {address.removeprefix('http://')}" in done.output


def test_a_missing_table_is_explained(floor):
    """[BENCH13] If nothing could be measured, the reason is reported."""
    address = f"http://127.0.0.1:{floor.port}"

    done = CliRunner().invoke(
        cli.main, ["media", "--url", address, "--secret", "s", "--system", "orbital", "--rounds", "1"]
    )

    assert done.exit_code == 1
    assert "Nothing could be measured." in done.output
    assert "failed: it carries no media" in done.output


ROOM = {
    "JWT_SECRET": systems.SECRET,
    "ORBITAL_CONNECT_LIMIT": "1000000",
    "ORBITAL_CONNECT_CEILING": "1000000",
    "ORBITAL_JOIN_LIMIT": "1000000",
    "ORBITAL_REQUEST_LIMIT": "1000000",
    "ORBITAL_FRAME_RATE": "1000000",
}


def test_a_server_of_your_own(serve):
    """[BENCH14] Every scenario measures an external server, as `--url` promises."""
    server = serve(env=ROOM)
    for words, systems_named in (
        ("fan_out --listeners 5 --seconds 0.2 --warm 0", ["orbital"]),
        ("groups --groups 2 --members 3 --seconds 0.2 --warm 0", ["orbital"]),
        ("publish --groups 2 --members 3 --rate 50 --seconds 0.2 --warm 0", ["orbital"]),
        (
            "append --senders 2 --seconds 0.2 --warm 0",
            ["orbital", "orbital-post", "orbital-post-epoch", "orbital-reply"],
        ),
        ("idle --connections 10 --seconds 0.2", ["orbital"]),
        ("connect --connections 10 --cycles 1", ["orbital"]),
        ("storm --clients 10 --missed 2 --others 10", ["orbital"]),
        ("slow --listeners 4 --stalled 1 --seconds 0.2 --rate 20", ["orbital"]),
        ("replay --clients 2 --events 10", ["orbital"]),
        ("media --size 6", ["orbital-media"]),
    ):
        named = [word for name in systems_named for word in ("--system", name)]
        place = ["--url", server.url, "--secret", systems.SECRET, "--rounds", "1", "--markdown"]

        done = CliRunner().invoke(cli.main, [*words.split(), *named, *place])

        assert done.exit_code == 0, done.output
        assert len([line for line in done.output.splitlines() if f" at {server.url} | " in line[:60]]) == len(
            systems_named
        )
        assert "failed" not in done.output


def evening(monkeypatch) -> tuple[Result, Result]:
    """Run `small` twice: with its own limit, and with one that no server fits in."""
    monkeypatch.setattr(small, "EVENTS", 20)
    options = ["--rounds", "1", "--markdown"]
    return (
        CliRunner().invoke(cli.main, ["small", *options]),
        CliRunner().invoke(cli.main, ["small", "--limit", "16", *options]),
    )


STEPS = [
    "at rest",
    "16 sign-ups at once",
    "100 people connected",
    "20 events posted",
    "5 devices caught up with 20 events each",
]


def test_an_evening_on_a_small_machine(monkeypatch):
    """[BENCH22] `small` shows the server's memory after each step, and reports when the kernel kills it."""
    try:
        probe = small._control_group(2**30)
    except tools.Missing as reason:
        # A kernel's control is no part that could be installed, so this is a skip also where completeness is asked for.
        pytest.skip(str(reason))
    probe.rmdir()

    done, ended = evening(monkeypatch)

    assert done.exit_code == 0, done.output
    rows = [line.split("|")[1].strip() for line in done.output.splitlines() if line.startswith("|")]
    assert rows[-5:] == STEPS
    assert "enforced by a control group" in done.output
    assert ended.exit_code == 1
    assert list(probe.parent.glob("orbital-bench-*")) == []
    assert "ended at once" in ended.output or "the server was killed at 16 MiB" in ended.output


def test_an_evening_without_control_groups(monkeypatch, tmp_path):
    """[BENCH23] Without a control group `small` reads the server's memory, says so, and kills it above the limit."""
    monkeypatch.setattr(small, "_V2", tmp_path / "none")
    monkeypatch.setattr(small, "_V1", tmp_path / "none")

    done, ended = evening(monkeypatch)

    assert done.exit_code == 0, done.output
    rows = [line.split("|")[1].strip() for line in done.output.splitlines() if line.startswith("|")]
    assert rows[-5:] == STEPS
    assert "Memory was read every 50 ms" in done.output
    assert ended.exit_code == 1
    assert "the server was killed at 16 MiB" in ended.output


def test_the_largest_page_of_each_list(serve, monkeypatch):
    """[BENCH21] `worst` shows a row for each list, with the bytes of its largest page."""
    monkeypatch.setattr(worst, "_WAIT_S", 0)
    monkeypatch.setattr(worst, "SILENT", 2)
    place = ["--url", serve(env=ROOM).url, "--secret", systems.SECRET, "--rounds", "1", "--entries", "1", "--markdown"]

    done = CliRunner().invoke(cli.main, ["worst", *place])

    assert done.exit_code == 0, done.output
    rows = [line.split("|")[1].strip() for line in done.output.splitlines() if line.startswith("| GET")]
    assert rows == [
        "GET /api/groups",
        "GET …/members",
        "GET …/presence",
        "GET …/threads",
        "GET …/threads/{id}",
        "GET …/replies",
        "GET …/media",
        "GET /v1/messages",
        "GET /v1/events",
        "GET …/records",
        "GET /v1/key-messages",
        "GET /v1/keys/devices",
    ]


def test_many_lines_are_distinguishable(tmp_path):
    """[BENCH15] No two lines of a chart look the same, and there is room for the numbers."""
    lines = [(f"system {n}", [(10.0, 10.0 + n), (1000.0, 9e6)]) for n in range(14)]

    report.over("many", lines, tmp_path / "many.svg", across="listeners", up="deliveries a second")

    root = ET.fromstring((tmp_path / "many.svg").read_text())  # noqa: S314 - our own picture
    paths = [one.attrib for one in root if one.tag.endswith("path") and one.get("stroke-width") == "2"]
    assert len({(one["stroke"], one.get("stroke-dasharray")) for one in paths}) == 14
    # A digit takes some 8 pixels; the axis' own name stands upright at 10 to 25.
    [longest] = [one for one in root if one.text == "10,000,000"]
    assert float(longest.attrib["x"]) - 8 * len("10,000,000") >= 20


def test_help_needs_no_tests():
    """[BENCH16] The bench starts where only the server is installed."""
    program = "import sys; sys.modules['pytest'] = None; from bench.cli import main; main(['--help'])"

    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "fan_out" in done.stdout
