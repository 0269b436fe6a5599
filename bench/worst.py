"""The largest answer of each list: its bytes, how long it takes, and what the server grows by when nobody reads it."""

import base64
import contextlib
import socket
import time
import uuid

import httpx

from bench.load import LoadFailed, request
from bench.measure import Bench, Figures
from bench.systems import Orbital

SILENT = 40
"""Clients that ask for the page and read nothing."""
_WAIT_S = 5
"""How long those are left alone before memory is read again: by then the server has made what it will make."""
_TEXT = "A" * (256 * 1024 // 3 * 4)
_RECORDS = 30
"""Records that a user may post in an hour."""
_DEVICE = {
    "identity_key": base64.b64encode(b"\x05" + bytes(32)).decode(),
    "suites": 2,
    "hpke_pre_key": {
        "id": 0,
        "key": base64.b64encode(b"\x09" + bytes(1215)).decode(),
        "signature": base64.b64encode(bytes(64)).decode(),
    },
    "hpke_pre_keys": [],
}
_USER = "worst"


def worst(bench: Bench, *, rounds: int, entries: int) -> dict[str, Figures]:
    """
    Ask for the largest page of each list, once with a reader and then by clients that do not read.

    Args:
        bench: The measurement; its first system is asked.
        rounds: How often.
        entries: Groups, threads, replies, media, messages, records and key messages that are made, each as large as the
            protocol allows.

    Raises:
        LoadFailed: If the server refuses one, or is no Orbital.
    """
    system = bench.systems[0]
    if not isinstance(system, Orbital):
        raise LoadFailed("this scenario asks for Orbital's lists: name one of its systems")
    found: dict[str, Figures] = {}
    headers = {"Authorization": f"Bearer {system.bearer(_USER)}"}
    with httpx.Client(base_url=f"http://{system.authority}", headers=headers, timeout=60, trust_env=False) as http:
        paths = _fill(bench, http, entries)
        for number in range(rounds):
            for name, path in paths.items():
                bench.show(f"round {number + 1}/{rounds} · {name}")
                found.setdefault(name, Figures(name)).runs.append(_measure(system, http, path))
    return found


def _post(http: httpx.Client, path: str, body: dict, *, method: str = "POST") -> dict:
    answer = http.request(method, path, json=body)
    if answer.is_error:
        raise LoadFailed(f"{path} answered {answer.status_code}: {answer.text[:200]}")
    return answer.json()


def _fill(bench: Bench, http: httpx.Client, entries: int) -> dict[str, str]:
    """Make the entries; return each list's path by its name."""
    # Groups are small, so it takes many of them to fill a page.
    names = {"encrypted_name": "A" * (4096 // 3 * 4), "encrypted_group_key": "A" * (8192 // 3 * 4)}
    for number in range(entries * 10):
        bench.show(f"making groups: {number}")
        group = _post(http, "/api/groups", names)["group_id"]
    thread = ""
    for number in range(entries):
        bench.show(f"making threads, replies, media, messages and records: {number}")
        body = {"group_id": group, "encrypted_title": _TEXT, "encrypted_body": _TEXT}
        thread = thread or _post(http, "/api/threads", body)["thread_id"]
        _post(http, "/api/threads", body)
        _post(http, f"/api/threads/{thread}/replies", {"encrypted_body": _TEXT})
        _post(http, "/v1/key-messages", {"group_id": group, "encrypted_envelope": _TEXT})
        if number < _RECORDS:
            _post(http, f"/api/groups/{group}/records", {"record": "A" * (4096 // 3 * 4)})
        _post(http, "/v1/messages", {"conversation_id": group, "encrypted_envelope": _TEXT, "timestamp": 1})
        fields = {"media_id": str(uuid.uuid4()), "thread_id": thread, "chunk_index": "0", "total_chunks": "1"}
        answer = http.post(
            "/api/media/upload",
            data={**fields, "encrypted_metadata": _TEXT, "encryption_iv": "aXY="},
            files={"chunk": b"x"},
        )
        if answer.is_error:
            raise LoadFailed(f"a chunk was answered {answer.status_code}: {answer.text[:200]}")
    _post(http, "/v1/keys", _DEVICE, method="PUT")
    return {
        "GET /api/groups": "/api/groups",
        "GET …/members": f"/api/groups/{group}/members",
        "GET …/presence": f"/api/groups/{group}/presence",
        "GET …/threads": f"/api/groups/{group}/threads?limit=100",
        "GET …/threads/{id}": f"/api/threads/{thread}",
        "GET …/replies": f"/api/threads/{thread}/replies?limit=100",
        "GET …/media": f"/api/threads/{thread}/media",
        "GET /v1/messages": "/v1/messages?limit=500",
        "GET /v1/events": f"/v1/events?group_id={group}&limit=1000",
        "GET …/records": f"/api/groups/{group}/records",
        "GET /v1/key-messages": f"/v1/key-messages?group_id={group}&limit=100",
        "GET /v1/keys/devices": f"/v1/keys/devices?group_id={group}",
    }


def _measure(system: Orbital, http: httpx.Client, path: str) -> dict:
    before = system.resident_bytes()
    began = time.monotonic()
    answer = http.get(path)
    took_s = time.monotonic() - began
    if answer.is_error:
        raise LoadFailed(f"{path} answered {answer.status_code}: {answer.text[:200]}")
    result: dict = {"bytes": len(answer.content), "took_s": took_s}
    text = request("GET", system.authority, path, bearer=system.bearer(_USER)).encode()
    with contextlib.ExitStack() as opened:
        for _ in range(SILENT):
            silent = opened.enter_context(socket.socket())
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            silent.connect((system.host, system.port))
            silent.sendall(text)
        time.sleep(_WAIT_S)
        after = system.resident_bytes()
    if before is not None and after is not None:
        result["grown_bytes"] = max(0, after - before)
    return result
