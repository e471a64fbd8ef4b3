#!/usr/bin/env python3
"""Whether the tests that the tables name are there.

The tables are tests/integration/*.md. In them a test is `FILE::NAME`, a file without a test `FILE`. Files are below the top
of the repository, those of the whole daemon's tests below tests/integration/tests. A row that names neither is an error.
Exit status 1 with one line for each problem.
"""

import pathlib
import re
import sys

TABLES = sorted(pathlib.Path("tests/integration").glob("*.md"))
DAEMON = pathlib.Path("tests/integration/tests")
TESTS = DAEMON, pathlib.Path(".")
NAMED = re.compile(r"`([\w./-]+/[\w.-]+\.(?:rs|py|sh)|hack/[\w-]+)(?:::(\w+))?`")


def problems(table):
    rows = 0
    for number, line in enumerate(table.read_text().splitlines(), 1):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not line.startswith("|") or set(line) <= set("|- :") or cells[-1] == "tests":
            continue
        rows += 1
        where = f"{table}:{number}"
        named = NAMED.findall(cells[-1])
        if not named:
            yield f"{where}: no test is named"
        for file, test in named:
            path = next((base / file for base in TESTS if (base / file).is_file()), None)
            if path is None:
                yield f"{where}: there is no {file}"
            elif test and not re.search(rf"\bfn {test}\b", path.read_text()):
                yield f"{where}: {file} has no {test}"
            elif path.suffix == ".rs" and not test:
                yield f"{where}: which test of {file}?"
    if rows == 0:
        yield f"{table}: no row was understood"


found = [problem for table in TABLES for problem in problems(table)]
for problem in found:
    print("tables:", problem, file=sys.stderr)
if not TABLES:
    sys.exit("tables: none found")
sys.exit(1 if found else 0)
