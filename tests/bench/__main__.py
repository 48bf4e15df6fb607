"""`python -m tests.bench [NAME...]`: runs the benches and writes what they found into RESULTS.md."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path

from tests.bench import report

#: In the order in which they run; each is a module with `bench(report, rounds, patience)`.
BENCHES = ("datapath", "control", "latency", "memory", "relay", "proxy", "proxy_scale")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    top.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)} (all of them)")
    top.add_argument("--rounds", type=int, default=12, help="of each way that is compared (%(default)s)")
    top.add_argument("--patience", type=float, default=90, metavar="SECONDS", help="for busy neighbours, a bench")
    top.add_argument("--quick", action="store_true", help="one round, no patience: whether it runs at all")
    top.add_argument("--write", type=Path, default=None, metavar="FILE", help="instead of RESULTS.md")
    return top


def main() -> int:
    options = parser().parse_args()
    unknown = set(options.names) - set(BENCHES)
    if unknown:
        parser().error(f"no bench {', '.join(sorted(unknown))}: there are {', '.join(BENCHES)}")
    if os.geteuid() != 0:
        print("tests.bench: needs root, for namespaces and programs", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is taken down
    rounds, patience = (1, 0.0) if options.quick else (options.rounds, options.patience)
    told = report.Report()
    for name in options.names or BENCHES:
        importlib.import_module(f"tests.bench.{name}").bench(told, rounds, patience)
    if options.write or not options.quick:
        told.write(options.write or report.RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
