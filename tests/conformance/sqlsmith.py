#!/usr/bin/env python3
"""sqlsmith's random queries, direct and through pgveil: each must end alike, with the same SQLSTATE or none.

  tests/conformance/sqlsmith.py                        20,000 queries of seed 1
  tests/conformance/sqlsmith.py --queries 500 --seed 7

sqlsmith (Debian's) makes the queries from a protected database's own catalog: tables of many types, pgbench's, and
PostgreSQL's own. The role is cleared, and is not granted the sealed tables, whose refusals are by design. The queries are
made once and then run by psql, each in a transaction that is rolled back. A query that one of the two runs cancels after
the time limit is counted and not compared: that is the machine's doing. A query that ends otherwise (TABLESAMPLE is random,
sequences are not rolled back) is run twenty times more each way; it differs if no outcome is common to both.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(HERE / "bench"))
import e2e  # noqa: E402

TIMEOUT = "57014"
SCHEMA = [
    "create type mood as enum ('sad', 'glad')",
    """create table every (id int primary key, s int2, b int8, n numeric(10, 2), f float4, d float8, t text, v varchar(20),
       c char(5), y bytea, o bool, day date, at timestamp, atz timestamptz, clock time, span interval, u uuid, j json,
       jb jsonb, i inet, a int[], ta text[], m mood, r int4range, p point)""",
    """insert into every select n, n, n, n / 3.0, n, n, 'text ' || n, 'v' || n, 'c', '\\x00ff', n % 2 = 0, '2024-02-29',
       '2024-02-29 12:00', '2024-02-29 12:00+02', '12:00', '1 day', '00000000-0000-0000-0000-000000000001', '{"a": 1}',
       '[1, 2]', '10.0.0.1', '{1, 2}', '{a, b}', 'glad', '[1,5)', '(1,2)' from generate_series(1, 20) n""",
    "create view few as select id, t, jb from every where id < 10",
    "grant all on every, few to bench",
    "revoke all on people, wide, load from bench",
]


def queries(rig, options):
    """sqlsmith's texts, one a query."""
    target = f"host=127.0.0.1 port={rig.direct} dbname=app user=bench password={rig.password}"
    command = ["sqlsmith", f"--target={target}", f"--seed={options.seed}", f"--max-queries={options.queries}", "--dry-run"]
    made = subprocess.run(command, env=rig.env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    text = re.sub(r"(?m)^(SQLsmith |Loading |Generating ).*\n", "", made.stdout)
    found = re.split(r";\n", text)
    return [text.strip() for text in found if text.strip()]


def script(rig, name, texts):
    """A psql script that says each text's number before it runs it."""
    one = "\\warn #{}\nbegin;\nset local statement_timeout = '2s';\n{};\nrollback;\n"
    return rig.script(name, "".join(one.format(at, text) for at, text in enumerate(texts)))


def agree(rig, text):
    """Whether some outcome of the query is common to both ways."""
    again = script(rig, "again", [text] * 20)
    outcomes = [{states.get(at) for at in range(20)} for states in (run(rig, p, again) for p in (rig.direct, rig.async_.port))]
    return bool(outcomes[0] & outcomes[1])


def run(rig, port, path):
    """The SQLSTATE of each query by its number; those that succeeded are not in it."""
    env = rig.env | {"PGOPTIONS": "-c client_min_messages=error"}
    command = [rig.bin / "psql", "-X", "-q", "-v", "VERBOSITY=sqlstate", "-h", "127.0.0.1", "-p", str(port), "-U",
               "bench", "-d", "app", "-o", os.devnull, "-f", path]
    ran = subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    if ran.returncode:
        sys.exit(f"port {port}: psql ended with {ran.returncode}\n{ran.stderr[-1000:]}")
    states, at = {}, None
    for line in ran.stderr.splitlines():
        if line.startswith("#"):
            at = int(line[1:])
        elif found := re.search(r"(?:ERROR|FATAL):  (\w{5})$", line):
            states.setdefault(at, found.group(1))
        elif "server closed the connection" in line or "connection to server was lost" in line:
            sys.exit(f"port {port}: the connection broke in query {at}")
    return states


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pgbin", default=os.environ.get("PGBIN") or e2e.pgbin(), help="folder of PostgreSQL's programs")
    parser.add_argument("--pgveil", default=os.environ.get("PGVEIL"), help="default: a release build")
    options = parser.parse_args()
    if not shutil.which("sqlsmith"):
        sys.exit("missing: sqlsmith (apt-get install sqlsmith)")
    if not options.pgveil:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--bin", "pgveil"], cwd=HERE, check=True)
        options.pgveil = HERE / "target/release/pgveil"
    options.scale, options.floor = 1, None
    with contextlib.ExitStack() as stack:
        rig = e2e.Rig(options, stack)
        rig.sql(rig.direct, "pgveil", "app", *SCHEMA)
        texts = queries(rig, options)
        print(f"{len(texts)} queries of seed {options.seed}", flush=True)
        path = script(rig, "queries", texts)
        direct, through = (run(rig, port, path) for port in (rig.direct, rig.async_.port))
        late = {at for states in (direct, through) for at, state in states.items() if state == TIMEOUT}
        otherwise = [at for at in range(len(texts)) if at not in late and direct.get(at) != through.get(at)]
        differ = [at for at in otherwise if not agree(rig, texts[at])]
    for at in differ[:20]:
        print(f"query {at}: direct {direct.get(at, 'succeeded')}, through pgveil {through.get(at, 'succeeded')}\n{texts[at]}\n")
    print(f"succeeded {len(texts) - len(direct)}, failed alike {len(direct) - len(late & direct.keys())}, "
          f"over the time limit {len(late)}, by chance otherwise {len(otherwise) - len(differ)}, differ {len(differ)}")
    return 1 if differ or not texts else 0


if __name__ == "__main__":
    sys.exit(main())
