"""Tests on a busy machine: none asserts that something was fast, and no wait is short unless its end is the claim."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.support.programs import CHECKOUT
from tests.test_house import files, modules

CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "thread_time", "time"}
LEAST_S = 30
"""What a busy machine may need for what takes a moment elsewhere: no deadline and no upper bound is below it."""
EXPIRES = re.compile("expires|silent|never", re.IGNORECASE)
"""A name that says that the end of a wait is what the test expects."""


def _text(name: str) -> str:
    return (CHECKOUT / name).read_text("utf-8")


def _number(node: ast.AST | None) -> float | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return node.value
    return None


def _reads_clock(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in CLOCKS


def _durations(tree: ast.AST) -> set[str]:
    """Return the names that get a difference of clocks: `took_s = time.monotonic() - began`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _is_duration(node.value, set()):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "append"
            and isinstance(node.func.value, ast.Name)
            and node.args
            and _is_duration(node.args[0], set())
        ):
            found.add(node.func.value.id)
    return found


def _is_duration(node: ast.AST, names: set[str]) -> bool:
    return any(
        (isinstance(each, ast.BinOp) and isinstance(each.op, ast.Sub) and _reads_clock(each.left))
        or (isinstance(each, ast.Name) and each.id in names)
        for each in ast.walk(node)
    )


def fast(text: str) -> Iterator[int]:
    """Yield the lines of assertions that something took less than a time, or that a clock is below one."""
    tree = ast.parse(text)
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]:
        names = _durations(function)
        for node in ast.walk(function):
            if not isinstance(node, ast.Assert):
                continue
            for compared in [each for each in ast.walk(node.test) if isinstance(each, ast.Compare)]:
                sides = [compared.left, *compared.comparators]
                for low, order, high in zip(sides, compared.ops, sides[1:], strict=False):
                    if isinstance(order, ast.Gt | ast.GtE):
                        low, high = high, low  # noqa: PLW2901 - the same sentence, turned round
                    if not isinstance(order, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                        continue
                    measured = _is_duration(low, names) or (_reads_clock(low) and isinstance(low, ast.Call))
                    if _is_duration(high, names):
                        continue  # an order of two measures, not a bound
                    bound = _number(high)
                    if measured and "time.time()" not in ast.unparse(low) and (bound is None or bound < LEAST_S):
                        yield node.lineno


def short(text: str) -> Iterator[int]:
    """Yield the lines of waits whose deadline is a number below `LEAST_S` seconds."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = [each.value for each in node.keywords if each.arg in {"deadline_s", "timeout"}]
            if name == "timeout" and ast.unparse(node.func).startswith("asyncio."):
                given += node.args[:1]
            elif name == "wait_for" and ast.unparse(node.func).startswith("asyncio."):
                given += node.args[1:2]
            elif name == "settimeout":
                given += node.args[:1]
            if any(_number(each) not in {None, 0} and _number(each) < LEAST_S for each in given):
                yield node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not EXPIRES.search(node.name):
            plain, named = node.args, node.args.kwonlyargs
            defaults = [
                *zip(plain.args[len(plain.args) - len(plain.defaults) :], plain.defaults, strict=True),
                *zip(named, plain.kw_defaults, strict=True),
            ]
            for argument, default in defaults:
                length = _number(default)
                if argument.arg in {"deadline_s", "timeout_s"} and length is not None and length < LEAST_S:
                    yield default.lineno


def test_no_test_asserts_that_something_was_fast():
    """
    [STEADY1] No assertion holds a difference of clocks below a bound of less than 30 s.

    On a busy machine a test loses the processor for seconds. A count, an order, or an alternative that takes an hour
    (`tests.support.server.with_constant`) proves the same.
    """
    assert [f"{name}:{line}" for name in modules("tests") for line in fast(_text(name))] == []


def test_no_wait_is_short():
    """
    [STEADY2] No wait in a test has a deadline below 30 s, as a number.

    Where the end of a wait is what a test expects, the deadline is a constant whose name says so, as `EXPIRES_S`.
    """
    assert [f"{name}:{line}" for name in modules("tests") for line in short(_text(name))] == []


_SHORT_IN_JAVASCRIPT = re.compile(
    r"\b(?:timeout|withinMs): ?(?P<option>[\d_]+)\b|\buntil\(.*, (?P<last>[1-9][\d_]*)\);|--test-timeout=(?P<flag>\d+)"
)
_FAST_IN_JAVASCRIPT = re.compile(r"assert\S*\((?:performance|Date)\.now\(\) - [\w.]+ <")


def javascript_tests() -> list[str]:
    """Return the files of JavaScript tests and the manifests that run them."""
    places = ("tests", "web", "clients")
    return [
        str(path.relative_to(CHECKOUT))
        for place in places
        for path in files(".js", ".mjs", "package.json", below=place)
        if path.name == "package.json" or place == "tests" or "test" in path.relative_to(CHECKOUT).parts
    ]


def javascript_faults(text: str) -> list[str]:
    """Return what a text has of short waits and of bounds on elapsed time."""
    spans = [next(span for span in match.groups() if span) for match in _SHORT_IN_JAVASCRIPT.finditer(text)]
    return [span for span in spans if int(span.replace("_", "")) < 1000 * LEAST_S] + _FAST_IN_JAVASCRIPT.findall(text)


def test_no_wait_is_short_in_javascript():
    """[STEADY3] No wait in a JavaScript test has a deadline below 30 s, and none asserts that something was fast."""
    assert [(name, fault) for name in javascript_tests() for fault in javascript_faults(_text(name))] == []


def test_what_the_rules_find():
    """[STEADY5] The rules find each form of the fault, and pass what only waits long or asserts a lower bound."""
    quick = """
def test():
    began = time.monotonic()
    took_s = time.monotonic() - began
    waits.append(time.perf_counter() - began)
    assert took_s < 4
    assert 3 > time.monotonic() - began
    assert time.monotonic() < began + 10
    assert sorted(waits)[0] < 1
    assert took_s > 2
    assert waits[0] < waits[1]
    assert took_s < 35
"""
    hasty = """
asyncio.timeout(5); asyncio.wait_for(one, 10); until(one, deadline_s=4); line.settimeout(1); run(timeout=20)
def wait(*, deadline_s: float = 10): ...
asyncio.timeout(60); asyncio.timeout(EXPIRES_S); until(one, deadline_s=60); poll(timeout=0)
"""

    assert sorted(fast(quick)) == [6, 7, 8, 9]
    assert sorted(short(hasty)) == [2, 2, 2, 2, 2, 3]
    assert javascript_faults("waitFor({ timeout: 2000 });\nawait until(a, 'b', 5_000);") == ["2000", "5_000"]
    assert javascript_faults("assert.ok(performance.now() - began < 900)") != []
    assert javascript_faults("waitFor({ timeout: 120_000 }); until(() => a);") == []
