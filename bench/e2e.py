#!/usr/bin/env python3
"""One PostgreSQL, direct, through PgBouncer and through pgveil, interleaved on a private throw-away cluster.

  bench/e2e.py                          every cell; about half an hour
  bench/e2e.py select read1 --clients 1 --rounds 3 --seconds 2

Cells: select (unprotected database), protected (an unprotected table of a protected one), read1, read5 (that many sealed
columns opened), insert5 (that many sealed), scan (10,000 rows of 8 texts), copy (1,000,000 rows, two sealed columns),
idle (memory of 1,000 connections), flat (memory over 1,000,000 statements of one connection), lens (a table past the proxy, and
what PostgreSQL shows a masked role in its place: plain columns, masked ones, masked ones of filtered rows).

`bare copy` is bench/floor.rs: two sockets and a Tokio task between them, which is what no proxy in user space can beat
by much. `envelopes` are the same sealed bytes in sealed columns of the unprotected database, through that copy: what the
server and the wire take for longer cells and their CHECK, before anything is sealed or opened. Under `intent` an opened cell waits for
the disk; the first line says how long one fdatasync takes there.

Every round runs each target once, in an order that rotates, so that a drift of the machine hits all alike. Printed are
medians, and the median of each round's ratio with its spread. PostgreSQL's own durability is off: this measures
protocol and proxy, not the disk under PostgreSQL. pgveil's access log is on disk as its name says: `async` within a
second, `intent` before the first sealed value leaves, which waits for the disk.
"""

import argparse
import contextlib
import os
import pathlib
import re
import resource
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
CELLS = ["select", "protected", "read1", "read5", "insert5", "scan", "copy", "idle", "flat", "lens"]
PEOPLE = 10_000
COPY_ROWS = 1_000_000
VISITS = 100_000
IDLE = 1_000
FLAT = 1_000_000
TICK = os.sysconf("SC_CLK_TCK")
COLUMNS = ["email", "full_name", "street", "phone", "note"]

POLICY = """version = 1
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id        = { level = "internal" }
email     = { level = "restricted", encrypt = "deterministic", as = "varchar(320)" }
full_name = { level = "restricted", encrypt = "randomized" }
street    = { level = "restricted", encrypt = "randomized" }
phone     = { level = "restricted", encrypt = "randomized" }
note      = { level = "restricted", encrypt = "randomized" }
[tables."public.wide".columns]
id = { level = "internal" }
c1 = { level = "restricted", encrypt = "randomized" }
%s
[tables."public.load".columns]
id = { level = "internal" }
a  = { level = "restricted", encrypt = "deterministic", as = "varchar(320)" }
b  = { level = "restricted", encrypt = "randomized" }
c  = { level = "internal" }
[tables."public.visits".columns]
id = { level = "public" }
day = { level = "public" }
kind = { level = "public" }
nick = { level = "internal", mask = "partial:1:0" }
amount = { level = "internal", mask = "bucket:100" }
[roles.bench]
clearance = "restricted"
[roles.masked]
clearance = "public"
[roles.filtered]
clearance = "public"
[roles.filtered.rows]
"public.visits" = "kind <> 'k3'"
""" % "\n".join(f'c{n} = {{ level = "internal" }}' for n in range(2, 9))

TABLES = [
    "create table people (id int primary key, email varchar(320), %s)" % ", ".join(f"{n} text" for n in COLUMNS[1:]),
    "create table wide (id int primary key, %s)" % ", ".join(f"c{n} text" for n in range(1, 9)),
    "create table load (id int primary key, a varchar(320), b text, c int)",
    "create table visits (id int primary key, day date, kind text, nick text, amount int)",
    "create index on visits (day)",
    "create sequence ids",
    # For the bytes that pgveil makes of the same rows, in such a domain as it gives sealed columns.
    "create domain sealed as bytea check (value is null or (octet_length(value) >= 48 "
    "and substr(value, 1, 3) = '\\xfed101'::bytea))",
    "create table people_sealed (id int primary key, %s)" % ", ".join(f"{n} sealed" for n in COLUMNS),
    "create table wide_sealed (id int primary key, c1 sealed, %s)" % ", ".join(f"c{n} text" for n in range(2, 9)),
    "create table load_sealed (id int primary key, a sealed, b sealed, c int)",
]


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def median(values):
    return statistics.median(values) if values else float("nan")


def cpu(pid):
    """Seconds of CPU that it has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss(pid):
    """Resident memory in KiB."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1))


class Target:
    """Where a client connects: a port, a database, and the process whose CPU is counted."""

    def __init__(self, name, port, database, pid=None, role="bench"):
        self.name, self.port, self.database, self.pid, self.role = name, port, database, pid, role


class Rig:
    """The cluster and the proxies before it. Everything is in one folder and ends with it."""

    def __init__(self, options, stack):
        self.options = options
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pgveil-bench.", dir=os.environ.get("TMPDIR")))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o755)
        self.stack = stack
        self.password = secrets.token_urlsafe(18)
        self.bin = pathlib.Path(options.pgbin)
        self.root = os.geteuid() == 0
        self.owner = "postgres" if self.root else subprocess.check_output(["id", "-un"], text=True).strip()
        self.env = os.environ | {"PGPASSWORD": self.password, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}
        self.direct = free_port()
        self.start_postgres()
        self.bouncer = self.start_bouncer()
        self.floor = self.start_floor()
        self.intent = self.start_pgveil("intent")
        self.async_ = self.start_pgveil("async")
        self.fill()

    def as_owner(self, *command):
        return ["runuser", "-u", self.owner, "--", *map(str, command)] if self.root else [*map(str, command)]

    def start_postgres(self):
        data, sockets = self.folder / "data", self.folder / "socket"
        for path in (data, sockets):
            path.mkdir()
            if self.root:
                shutil.chown(path, self.owner)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True}
        initdb = [self.bin / "initdb", "-D", data, "-U", self.owner, "--auth-local=trust", "--auth-host=scram-sha-256",
                  "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(self.as_owner(*initdb), **quiet)
        with open(data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(f"listen_addresses = '127.0.0.1'\nport = {self.direct}\nunix_socket_directories = '{sockets}'\n"
                       "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nautovacuum = off\njit = off\n"
                       "max_connections = 1200\nshared_buffers = 512MB\nmax_wal_size = 8GB\n")
        control = [self.bin / "pg_ctl", "-D", data]
        subprocess.run(self.as_owner(*control, "-w", "-l", data / "server.log", "start"), **quiet)
        stop = self.as_owner(*control, "-m", "immediate", "stop")
        self.stack.callback(subprocess.run, stop, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        roles = (f"create role {role} login password '{self.password}'" for role in ("bench", "pgveil", "masked", "filtered"))
        for statement in (*roles, "create role pgveil_lens nologin", "grant pgveil_lens to pgveil",
                          "create database plain owner bench", "create database app owner pgveil"):
            subprocess.run([self.bin / "psql", "-X", "-q", "-h", sockets, "-p", str(self.direct), "-U", self.owner,
                            "-d", "postgres", "-c", statement], check=True)
        for role, database in (("bench", "plain"), ("pgveil", "app")):
            subprocess.run([self.bin / "pgbench", "-q", "-i", "-s", str(self.options.scale), "-h", "127.0.0.1", "-p",
                            str(self.direct), "-U", role, database], env=self.env, **quiet)
            self.sql(self.direct, role, database, *TABLES)
        self.sql(self.direct, "pgveil", "app", "grant all on all tables in schema public to bench",
                 "grant all on all sequences in schema public to bench", "grant select on visits to masked, filtered")

    def sql(self, port, role, database, *statements):
        command = [self.bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p",
                   str(port), "-U", role, "-d", database]
        for statement in statements:
            command += ["-c", statement]
        return subprocess.run(command, env=self.env, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def spawn(self, command, log, **how):
        with open(self.folder / log, "wb") as out:
            process = subprocess.Popen([*map(str, command)], stdout=out, stderr=out, **how)
        def end():
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.stack.callback(end)
        return process

    def start_bouncer(self):
        program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
        if not program:
            return None
        port = free_port()
        users, ini = self.folder / "users", self.folder / "pgbouncer.ini"
        users.write_text(f'"bench" "{self.password}"\n')
        ini.write_text(f"[databases]\n* = host=127.0.0.1 port={self.direct}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
                       f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\n"
                       "pool_mode = session\ndefault_pool_size = 1100\nmax_client_conn = 1100\nlog_connections = 0\n"
                       "log_disconnections = 0\n")
        for path in (users, ini):
            path.chmod(0o644)
        # Not by runuser, which would lower the limit of open files.
        how = {"user": self.owner, "group": self.owner, "extra_groups": []} if self.root else {}
        server = self.spawn([program, ini], "pgbouncer.log", **how)
        self.wait(port)
        return Target("pgbouncer", port, "plain", server.pid)

    def start_floor(self):
        if not self.options.floor:
            return None
        port = free_port()
        server = self.spawn([self.options.floor, f"127.0.0.1:{port}", f"127.0.0.1:{self.direct}"], "floor.log")
        self.wait(port)
        return Target("bare copy", port, "plain", server.pid)

    def start_pgveil(self, durability):
        (self.folder / "policy.toml").write_text(POLICY)
        passphrase = self.folder / "passphrase"
        first = not passphrase.exists()
        if first:
            passphrase.write_text(secrets.token_urlsafe(24) + "\n")
            passphrase.chmod(0o600)
        port, admin, config = free_port(), free_port(), self.folder / f"{durability}.toml"
        config.write_text(f'[listen]\npostgres = "127.0.0.1:{port}"\nadmin = "127.0.0.1:{admin}"\n'
                          f'max_connections = 1100\n[upstream]\nhost = "127.0.0.1"\nport = {self.direct}\n'
                          f'[control]\nurl = "postgresql://pgveil:{self.password}@127.0.0.1:{self.direct}/app"\n'
                          '[databases]\npassthrough = ["plain"]\n[policy]\npath = "policy.toml"\n[keys]\n'
                          'provider = "file"\npath = "keyring.toml"\npassphrase_file = "passphrase"\n[audit]\n'
                          f'dir = "audit-{durability}"\ndurability = "{durability}"\n')
        config.chmod(0o600)
        program = str(pathlib.Path(self.options.pgveil).resolve())
        if first:
            for words in (["keys", "init"], ["apply", "--lenses"]):
                subprocess.run([program, *words, "--config", str(config)], cwd=self.folder, check=True,
                               stdout=subprocess.DEVNULL)
        server = self.spawn([program, "serve", "--config", config], f"pgveil-{durability}.log",
                            cwd=self.folder)
        self.wait(port)
        return Target(durability, port, "app", server.pid)

    @staticmethod
    def wait(port):
        for _ in range(2_400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.05)
        sys.exit(f"nothing listens on port {port}")

    def fill(self):
        """The same rows, in clear in `plain` and sealed in `app`."""
        values = ", ".join(["'person' || n || '@example.com'", "'Person Number ' || n", "n || ' Long Street'",
                            "'+49 30 ' || n", "'a note about person ' || n"])
        people = f"select n, {values} from generate_series(1, {PEOPLE}) n"
        texts = ", ".join(f"'column {k} of row ' || n" for k in range(1, 9))
        wide = f"select n, {texts} from generate_series(1, {PEOPLE}) n"
        for table, query in (("people", people), ("wide", wide)):
            self.sql(self.direct, "bench", "plain", f"insert into {table} {query}")
            rows = self.folder / f"{table}.tsv"
            self.copy(self.direct, "bench", "plain", f"{table} to stdout", rows)
            self.copy(self.async_.port, "bench", "app", f"{table} from stdin", rows)
            self.envelopes_of(table)
        visits = (f"insert into visits select n, date '2020-01-01' + n % 1000, 'k' || n % 10, 'nick ' || n % 997, n * 7 % 5000 "
                  f"from generate_series(1, {VISITS}) n")
        self.sql(self.direct, "pgveil", "app", visits)
        for port, role, database in ((self.direct, "bench", "plain"), (self.direct, "pgveil", "app")):
            self.sql(port, role, database, "analyze people", "analyze wide", "analyze visits")

    def copy(self, port, role, database, words, path):
        """COPY from or to a file of this machine."""
        with open(path, "wb" if "to stdout" in words else "rb") as file:
            command = [self.bin / "psql", "-X", "-q", "-h", "127.0.0.1", "-p", port, "-U", role, "-d", database, "-c",
                       f"copy {words}"]
            subprocess.run([*map(str, command)], env=self.env, check=True,
                           **{"stdout" if "to stdout" in words else "stdin": file})

    def envelopes_of(self, table):
        """What the server holds of a sealed table, in the unprotected database, and as a file for COPY."""
        path = self.folder / f"{table}_sealed.tsv"
        self.copy(self.direct, "pgveil", "app", f"{table} to stdout", path)
        self.copy(self.direct, "bench", "plain", f"{table}_sealed from stdin", path)
        return path

    def until(self, condition):
        """Waits for that many connections of the clients at the server."""
        activity = "pg_stat_activity where usename = 'bench'"
        for _ in range(600):
            if self.sql(self.direct, "pgveil", "app", f"select {condition} from {activity}") == "t":
                return
            time.sleep(0.2)
        sys.exit(f"waited in vain for {condition} connections")

    def script(self, name, text):
        path = self.folder / f"{name}.sql"
        path.write_text(text)
        return path

    def on(self, database):
        """Without pgveil: direct, and through what only knows the unprotected database."""
        others = [self.bouncer, self.floor] if database == "plain" else []
        return [Target("direct", self.direct, database), *filter(None, others)]

    def envelopes(self):
        return [Target("envelopes", self.floor.port, "plain", self.floor.pid)] if self.floor else []

    def passed(self):
        return Target("pgveil, passthrough", self.async_.port, "plain", self.async_.pid)

    def pgbench(self, target, mode, clients, *script):
        """Transactions per second and CPU seconds of the proxy for 100,000 of them."""
        before = cpu(target.pid) if target.pid else 0
        command = [self.bin / "pgbench", "-n", "-M", mode, "-c", clients, "-j", 1, "-T", self.options.seconds, "-h",
                   "127.0.0.1", "-p", target.port, "-U", target.role, *script, target.database]
        ran = subprocess.run([*map(str, command)], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True)
        if ran.returncode:
            sys.exit(f"{target.name}: pgbench failed\n{ran.stderr[-2000:]}")
        used = cpu(target.pid) - before if target.pid else 0
        count = int(re.search(r"actually processed: (\d+)", ran.stdout).group(1))
        tps = float(re.search(r"tps = ([\d.]+) \(without", ran.stdout).group(1))
        return tps, used / max(count, 1) * 100_000


def table(title, note=""):
    print(f"\n### {title}\n{note + chr(10) if note else ''}")
    print("| mode | clients | target | per second | ratio | of | spread | µs each | proxy CPU s per 100k |")
    print("|---|---|---|---|---|---|---|---|---|")


def interleave(rig, targets, measure):
    """`measure(target)` for each target in each round: results by the target's name."""
    results = {target.name: [] for target in targets}
    order = list(targets)
    for _ in range(rig.options.rounds):
        for target in order:
            results[target.name].append(measure(target))
        order = order[1:] + order[:1]
    return results


def rows(results, mode, clients, base):
    """One line a target; the ratio is to `base`, round by round."""
    for name, runs in results.items():
        speed = median([run[0] for run in runs])
        against = base(name)
        ratios = [run[0] / other[0] for run, other in zip(runs, results[against])] if against in results else []
        ratio = f"{median(ratios):.2f} | {against} | {min(ratios):.2f}–{max(ratios):.2f}" if ratios else "- | - | -"
        used = median([run[1] for run in runs])
        each = 1e6 * clients / speed
        print(f"| {mode} | {clients} | {name} | {speed:.0f} | {ratio} | {each:.1f} | {f'{used:.2f}' if used else '-'} |",
              flush=True)


def select(rig):
    table("Unprotected database, select-only")
    for mode in rig.options.modes:
        for clients in rig.options.clients:
            targets = [*rig.on("plain"), rig.passed()]
            results = interleave(rig, targets, lambda t: rig.pgbench(t, mode, clients, "-S", "-s", rig.options.scale))
            rows(results, mode, clients, lambda name: "direct" if name in ("direct", "pgbouncer") else "pgbouncer")


def against_pass(rig, title, note, script, targets, modes):
    table(title, note)
    for mode in modes:
        for clients in rig.options.clients:
            results = interleave(rig, targets, lambda t: rig.pgbench(t, mode, clients, *script(t)))
            rows(results, mode, clients, lambda name: "direct" if name == "pgveil, passthrough" else
                 "pgveil, passthrough")


def protected(rig):
    targets = [*rig.on("plain")[:1], rig.passed(), Target("pgveil, protected", rig.async_.port, "app", rig.async_.pid)]
    against_pass(rig, "Protected database, unprotected table, select-only", "", lambda t: ("-S", "-s", rig.options.scale),
                 targets, rig.options.modes)


def sealed(rig):
    return [Target(f"pgveil, {t.name}", t.port, "app", t.pid) for t in (rig.async_, rig.intent)]


def read(rig, count):
    names = ", ".join(COLUMNS[:count])
    query = f"\\set id random(1, {PEOPLE})\nselect {names} from {{}} where id = :id;\n"
    path = rig.script(f"read{count}", query.format("people"))
    sealed_path = rig.script(f"read{count}_sealed", query.format("people_sealed"))
    against_pass(rig, f"{count} sealed column{'s' * (count > 1)} opened", "Against the same columns in clear.",
                 lambda t: ("-f", sealed_path if t.name == "envelopes" else path),
                 [*rig.on("plain")[:1], *rig.envelopes(), rig.passed(), *sealed(rig)], rig.options.modes)


def insert(rig):
    for port, role, database in ((rig.direct, "bench", "plain"), (rig.direct, "pgveil", "app")):
        rig.sql(port, role, database, f"alter sequence ids restart {PEOPLE + 1}")
    values = ["person@example.com", "Person Number", "1 Long Street", "+49 30 1", "a note"]
    envelopes = rig.sql(rig.direct, "bench", "plain", "select * from people_sealed where id = 1").split("|")[1:]
    query = f"insert into {{}} values (nextval('ids'), :{', :'.join(COLUMNS)});\n"
    path, sealed_path = (rig.script(table, query.format(table)) for table in ("people", "people_sealed"))

    def script(target):
        clear = target.name != "envelopes"
        given = zip(COLUMNS, values if clear else envelopes)
        return ("-f", path if clear else sealed_path, *(word for c, v in given for word in ("-D", f"{c}={v}")))

    against_pass(rig, "INSERT of five sealed columns", "Against the same columns in clear.",
                 script, [*rig.on("plain")[:1], *rig.envelopes(), rig.passed(), *sealed(rig)], ["prepared"])
    for role, database, table in (("bench", "plain", "people"), ("bench", "plain", "people_sealed"), ("pgveil", "app", "people")):
        rig.sql(rig.direct, role, database, f"delete from {table} where id > {PEOPLE}", f"vacuum {table}")


def scan(rig):
    table("Scan of 10,000 rows of 8 texts", "`per second` counts scans; the last two targets open one column of each row.")
    path = rig.script("scan", "select * from wide;\n")
    for clients in [c for c in rig.options.clients if c <= 8]:
        results = interleave(rig, [*rig.on("plain"), rig.passed(), *sealed(rig)],
                             lambda t: rig.pgbench(t, "prepared", clients, "-f", path))
        rows(results, "prepared", clients, lambda name: "direct" if name in ("direct", "pgbouncer") else
             "pgbouncer" if name in ("bare copy", "pgveil, passthrough") else "pgveil, passthrough")
        clear, opened = results["pgveil, passthrough"], results["pgveil, async"]
        extra = [1e6 / a[0] - 1e6 / b[0] for a, b in zip(opened, clear)]
        # CPU seconds for 100,000 scans.
        used = [10 * (a[1] - b[1]) for a, b in zip(opened, clear)]
        print(f"one opened column at {clients} client{'s' * (clients > 1)}: {median(extra) / PEOPLE:.2f} µs per cell on top, "
              f"{median(used) / PEOPLE:.2f} µs of the proxy's CPU")


def copy(rig):
    print(f"\n### COPY of {COPY_ROWS:,} rows, two sealed columns\n")
    print("| direction | target | rows per second | ratio to direct | proxy CPU s | proxy memory before → after, KiB |")
    print("|---|---|---|---|---|---|")
    source = rig.folder / "load.tsv"
    with open(source, "w", encoding="utf-8") as out:
        out.writelines(f"{n}\tperson{n}@example.com\tPerson Number {n}\t{n}\n" for n in range(COPY_ROWS))
    rig.copy(rig.async_.port, "bench", "app", "load from stdin", source)
    envelopes = rig.envelopes_of("load")
    targets = [*rig.on("plain")[:1], *rig.envelopes(), rig.passed(), sealed(rig)[0]]

    def run(target, words, path):
        began, before = time.monotonic(), cpu(target.pid) if target.pid else 0
        rig.copy(target.port, "bench", target.database, words, path)
        used = cpu(target.pid) - before if target.pid else 0
        return COPY_ROWS / (time.monotonic() - began), used

    def measure(target):
        before = rss(target.pid) if target.pid else 0
        owner = "bench" if target.database == "plain" else "pgveil"
        name, path = ("load_sealed", envelopes) if target.name == "envelopes" else ("load", source)
        rig.sql(rig.direct, owner, target.database, f"truncate {name}")
        into = run(target, f"{name} from stdin", path)
        out = run(target, f"{name} to stdout", os.devnull)
        return into, out, before, rss(target.pid) if target.pid else 0

    results = interleave(rig, targets, measure)
    for at, direction in enumerate(("in", "out")):
        for name, runs in results.items():
            ratio = median([run[at][0] / base[at][0] for run, base in zip(runs, results["direct"])])
            memory = f"{runs[0][2]} → {runs[-1][3]}" if runs[0][2] else "-"
            speed, used = (median([run[at][what] for run in runs]) for what in (0, 1))
            print(f"| {direction} | {name} | {speed:.0f} | {ratio:.2f} | {used:.2f} | {memory} |", flush=True)


def idle(rig):
    """Connections that have logged in and say nothing, held by pgbench scripts that sleep."""
    print(f"\n### Memory of {IDLE:,} idle connections\n\n| target | KiB before | KiB with them | KiB each |\n|---|---|---|---|")
    path = rig.script("idle", "select 1;\n\\sleep 600 s\n")
    # PgBouncer keeps its connections to the server, so it comes last.
    protected = Target("pgveil, protected", rig.async_.port, "app", rig.async_.pid)
    for target in filter(None, [rig.passed(), protected, rig.bouncer]):
        rig.until("count(*) < 100")
        before = rss(target.pid)
        command = [rig.bin / "pgbench", "-n", "-c", IDLE, "-j", 1, "-t", 1, "-h", "127.0.0.1", "-p", target.port, "-U",
                   "bench", "-f", path, target.database]
        holder = subprocess.Popen([*map(str, command)], env=rig.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            rig.until(f"count(*) >= {IDLE}")
            time.sleep(3)
            after = rss(target.pid)
        finally:
            holder.kill()
            holder.wait()
        print(f"| {target.name} | {before} | {after} | {(after - before) / IDLE:.1f} |", flush=True)


def flat(rig):
    print(f"\n### Memory over {FLAT:,} statements of one connection\n\n| target | KiB after 10,000 | KiB at the end |\n|---|---|---|")
    for target in [rig.passed(), Target("pgveil, protected", rig.async_.port, "app", rig.async_.pid)]:
        sizes = []
        for count in (10_000, FLAT):
            command = [rig.bin / "pgbench", "-n", "-S", "-M", "prepared", "-c", 1, "-t", count, "-s", rig.options.scale,
                       "-h", "127.0.0.1", "-p", target.port, "-U", "bench", target.database]
            subprocess.run([*map(str, command)], env=rig.env, check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            sizes.append(rss(target.pid))
        print(f"| {target.name} | {sizes[0]} | {sizes[1]} |", flush=True)


def fdatasync(folder):
    """Median microseconds of writing 1 KiB behind the last and waiting for the disk."""
    times = []
    with open(folder / "fdatasync", "wb", buffering=0) as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(bytes(1024))
            os.fdatasync(file.fileno())
            times.append(1e6 * (time.perf_counter() - began))
    return median(times)


def lens(rig):
    """Past the proxy: what a view with masks and filters costs the server itself."""
    print(f"\n### A lens over {VISITS:,} rows, one client, prepared: times of the table's own\n")
    print("| query | table, µs | plain columns | masked | masked, rows filtered |")
    print("|---|---|---|---|---|")
    day = "\\set day random(0, 990)\n"
    queries = {
        "key lookup": (f"\\set id random(1, {VISITS})\n", "select {0}, {1} from {2}visits where id = :id"),
        "range of 500 rows, indexed": (day, "select count(*), max({0}), max({1}) from {2}visits "
                                       "where day between date '2020-01-01' + :day::int and date '2020-01-01' + :day::int + 4"),
        "scan": ("", "select count(*), max({0}), max({1}) from {2}visits"),
        "group by": ("", "select {0}, count(*) from {2}visits group by {0}"),
    }
    of = {role: f"pgveil_lens_{role}_public." for role in ("masked", "filtered")}
    for name, (sets, query) in queries.items():
        clear, masked = ("kind", "day"), ("nick", "amount")
        ways = {"clear table": (clear, "", "bench"), "plain": (clear, of["masked"], "masked"), "table": (masked, "", "bench"),
                "masked": (masked, of["masked"], "masked"), "filtered": (masked, of["filtered"], "filtered")}
        scripts = {way: rig.script(f"lens {way}", sets + query.format(*columns, schema) + ";\n")
                   for way, (columns, schema, _) in ways.items()}
        targets = [Target(way, rig.direct, "app", role=role) for way, (_, _, role) in ways.items()]
        runs = interleave(rig, targets, lambda t: rig.pgbench(t, "prepared", 1, "-f", scripts[t.name]))
        cells = []
        for way, base in (("plain", "clear table"), ("masked", "table"), ("filtered", "table")):
            ratios = [b[0] / a[0] for a, b in zip(runs[way], runs[base])]
            cells.append(f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
        print(f"| {name} | {1e6 / median([run[0] for run in runs['table']]):.0f} | {' | '.join(cells)} |", flush=True)


def pgbin():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return str(found[-1]) if found else subprocess.check_output(["pg_config", "--bindir"], text=True).strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"of {', '.join(CELLS)}; all when none is named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each run")
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--modes", type=lambda text: text.split(","), default=["simple", "extended", "prepared"])
    parser.add_argument("--scale", type=int, default=10, help="of pgbench's tables")
    parser.add_argument("--pgbin", default=os.environ.get("PGBIN"), help="folder of PostgreSQL's programs")
    parser.add_argument("--pgveil", default=os.environ.get("PGVEIL"), help="default: a release build")
    options = parser.parse_args()
    if unknown := set(options.cells) - set(CELLS):
        parser.error(f"no such cell: {', '.join(sorted(unknown))}")
    options.pgbin = options.pgbin or pgbin()
    if not options.pgveil:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--bin", "pgveil"], cwd=HERE, check=True)
        options.pgveil = HERE / "target/release/pgveil"
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--example", "floor"], cwd=HERE, check=True)
    options.floor = HERE / "target/release/examples/floor"
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with contextlib.ExitStack() as stack:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        rig = Rig(options, stack)
        version = subprocess.check_output([options.pgveil, "--version"], text=True).strip()
        server = rig.sql(rig.direct, "bench", "plain", "show server_version")
        print(f"PostgreSQL {server}, {version}, {os.cpu_count()} CPUs, {options.rounds} rounds of {options.seconds} s, "
              f"fdatasync of 1 KiB: {fdatasync(rig.folder):.0f} µs")
        run = {"select": select, "protected": protected, "read1": lambda r: read(r, 1), "read5": lambda r: read(r, 5),
               "insert5": insert, "scan": scan, "copy": copy, "idle": idle, "flat": flat, "lens": lens}
        for cell in options.cells or CELLS:
            run[cell](rig)


if __name__ == "__main__":
    main()
