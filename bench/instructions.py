#!/usr/bin/env python3
"""What one statement costs in pgveil, in instructions: the same on a busy machine as on a quiet one.

  bench/instructions.py                     every cell
  bench/instructions.py read1 insert5 --top 25

The rig of e2e.py with pgveil under valgrind's callgrind, which counts user-space instructions from the first statement
to the last: the kernel's share is not in it, and SHA-256 is counted without the processor's instructions for it (a real
run takes about a fifteenth), so it is shown apart. Compare two builds by it, not two proxies.

Cells: pass (a passthrough database), select (an unprotected table of a protected one), read1, read5, insert5, scan
(10,000 rows), copyin, copyout (10,000 rows with two sealed columns of four).
"""

import argparse
import contextlib
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import e2e  # noqa: E402

READ = "\\set id random(1, 10000)\nselect {} from people where id = :id;\n"
CELLS = {
    "pass": ("plain", "\\set id random(1, 10000)\nselect abalance from pgbench_accounts where aid = :id;\n"),
    "select": ("app", "\\set id random(1, 10000)\nselect abalance from pgbench_accounts where aid = :id;\n"),
    "read1": ("app", READ.format(e2e.COLUMNS[0])),
    "read5": ("app", READ.format(", ".join(e2e.COLUMNS))),
    "insert5": ("app", f"insert into people values (nextval('ids'), :{', :'.join(e2e.COLUMNS)});\n"),
    "scan": ("app", "select * from wide;\n"),
    "copyin": ("app", "copy load from stdin"),
    "copyout": ("app", "copy load to stdout"),
}

# Of these so many times fewer.
DIVIDED = {"scan": 100, "copyin": 1_000_000, "copyout": 1_000_000}


def wrapper(folder, program):
    """Runs `serve` under callgrind, everything else as it is."""
    path = pathlib.Path(folder) / "pgveil"
    path.write_text(f'#!/bin/sh\ncase "$1" in serve) exec valgrind -q --tool=callgrind --instr-atstart=no '
                    f'--callgrind-out-file={folder}/counts "{program}" "$@";; *) exec "{program}" "$@";; esac\n')
    path.chmod(0o755)
    return str(path)


def counted(rig, folder, cell, statements):
    """Instructions of each function, by name."""
    database, text = CELLS[cell]
    target = rig.async_
    control = ["callgrind_control"]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for words in (["-z"], ["-i", "on"]):
        subprocess.run([*control, *words, str(target.pid)], **quiet)
    where = ["-h", "127.0.0.1", "-p", str(target.port), "-U", "bench"]
    if text.startswith("copy"):
        rows = "".join(f"{n}\tperson{n}@example.com\tPerson Number {n}\t{n}\n" for n in range(10_000))
        command = [str(rig.bin / "psql"), "-X", "-q", *where, "-d", database, "-c", text]
        subprocess.run(command, env=rig.env, input=rows.encode(), **quiet)
    else:
        values = [word for column in e2e.COLUMNS for word in ("-D", f"{column}=value of {column}")]
        command = [str(rig.bin / "pgbench"), "-n", "-M", "prepared", "-c", "1", "-t", str(statements), *values, "-f",
                   str(rig.script(cell, text)), *where, database]
        subprocess.run(command, env=rig.env, **quiet)
    for words in (["-i", "off"], ["-d"]):
        subprocess.run([*control, *words, str(target.pid)], **quiet)
    newest = max(pathlib.Path(folder).glob("counts*"), key=lambda path: path.stat().st_mtime)
    listing = subprocess.run(["callgrind_annotate", "--threshold=100", str(newest)], capture_output=True, text=True,
                             check=True).stdout
    found = re.findall(r"^\s*([\d,]+) \([\s\d.]+%\)\s+[^:\s]*:(.*?)(?: \[.*)?$", listing, re.MULTILINE)
    return [(int(count.replace(",", "")) / statements, name) for count, name in found]


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("cells", nargs="*", metavar="CELL", choices=[[], *CELLS], help=f"of {', '.join(CELLS)}")
    args.add_argument("--top", type=int, default=0, help="show that many functions of each cell")
    args.add_argument("--statements", type=int, default=2_000, help="of each short cell (default 2000)")
    args.add_argument("--pgveil", default="target/release/pgveil", help="the program (default target/release/pgveil)")
    given = args.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("instructions: missing: valgrind\n  apt-get install valgrind")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(e2e.tempfile.TemporaryDirectory(prefix="pgveil-counts."))
        program = wrapper(folder, pathlib.Path(given.pgveil).resolve())
        rig = e2e.Rig(argparse.Namespace(rounds=1, seconds=1, scale=1, pgbin=e2e.pgbin(), pgveil=program, floor=None), stack)
        for port, role, database in ((rig.direct, "bench", "plain"), (rig.direct, "pgveil", "app")):
            rig.sql(port, role, database, f"alter sequence ids restart {e2e.PEOPLE + 1}")
        print("| cell | instructions per statement | SHA-256 on top |\n|---|---|---|")
        for cell in given.cells or CELLS:
            functions = counted(rig, folder, cell, max(1, given.statements // DIVIDED.get(cell, 1)))
            hashed = sum(count for count, name in functions if "sha2::" in name and "compress" in name)
            print(f"| {cell} | {sum(count for count, _ in functions) - hashed:,.0f} | {hashed:,.0f} |", flush=True)
            for count, name in sorted(functions, reverse=True)[:given.top]:
                print(f"  {count:9,.0f}  {name[:110]}")


if __name__ == "__main__":
    main()
