"""What a Python client of the matrix is made of: steps, each of which prints what it got (see matrix.sh).

A step that fails says how, and the next one starts, so that the table shows which of them fail."""

import asyncio
import datetime as dt
import os
import sys
import uuid
import warnings
from decimal import Decimal
from urllib.parse import urlsplit

URL = sys.argv[1]
MODE = sys.argv[2]  # scenario | introspect
ARGS = sys.argv[3:]
_parts = urlsplit(URL)
USER, PASSWORD, HOST, PORT, DATABASE = _parts.username, _parts.password, _parts.hostname, _parts.port, _parts.path[1:]

ADA, BOB, ZOE = "ada.kanarie@example.org", "bob.kanarie@example.org", "zoë.kanarie@example.org"
TOKEN = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
SEEN = dt.datetime(2026, 3, 1, 10, 30, 0, 250000, tzinfo=dt.timezone.utc)
WOKE = dt.datetime(2026, 3, 1, 6, 15)
BORN = dt.date(1815, 12, 10)
SALARY = Decimal("1234.50")
BIG = 2**53 + 1
BLOB = b"\x00\xff\x10\xfe\xd1"
ADA_ROW = {"id": 1, "email": ADA, "name": "Ada kanarie", "born": BORN, "salary": SALARY, "score": 0.1, "active": True,
           "token": TOKEN, "seen": SEEN, "woke": WOKE, "small": -7, "visits": 42, "big": BIG, "blob": BLOB, "note": "first"}

_steps = {"scenario": [], "introspect": []}
warnings.simplefilter("ignore")


def step(function):
    """The function is a step of the scenario, called as it is."""
    _steps["scenario"].append(function)
    return function


def introspect(function):
    """The function is a step of the introspection."""
    _steps["introspect"].append(function)
    return function


def bulk_rows(first, count):
    return [(i, f"bulk{i}.kanarie@example.org", f"kanarie {i}") for i in range(first, first + count)]


def show(*values):
    print("  ", *[value if isinstance(value, str) else repr(value) for value in values], flush=True)


def same(what, got, expected):
    got = [tuple(row) for row in got]
    assert got == expected, f"{what}: {got!r} is not {expected!r}"
    show(what, got)


def _failed(error):
    print(f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
    if os.environ.get("CLIENTS_TRACE"):
        import traceback
        traceback.print_exc()


def main(version, recover=None):
    print(f"version {version}")
    for function in _steps[MODE]:
        print(f"## {function.__name__}", flush=True)
        try:
            function()
        except Exception as error:
            _failed(error)
            if recover:
                recover()


def main_async(version, recover=None):
    async def all_steps():
        print(f"version {version}")
        for function in _steps[MODE]:
            print(f"## {function.__name__}", flush=True)
            try:
                await function()
            except Exception as error:
                _failed(error)
                if recover:
                    await recover()
    asyncio.run(all_steps())
