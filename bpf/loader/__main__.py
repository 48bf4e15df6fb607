"""`python -m weft.bpf.loader`: one JSON object on standard output; or a message on standard error, exit code 1."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from weft.bpf import layout
from weft.bpf.loader import cache, load
from weft.bpf.loader.compiler import CompileError
from weft.bpf.loader.headers import MissingHeaders
from weft.bpf.tables import OtherShape


def parser() -> argparse.ArgumentParser:
    answer = argparse.ArgumentParser(prog="weft.bpf.loader", description=(load.__doc__ or "").splitlines()[0])
    answer.add_argument("--pin-dir", type=Path, required=True, help="below a bpf file system; made if not there")
    answer.add_argument("--upgrade", action="store_true", help="replace the programs of a data plane that is there")
    answer.add_argument("--define", action="append", default=[], metavar="K=V", help="a macro for the compiler")
    answer.add_argument(
        "--program", action="append", default=[], choices=list(layout.PROGRAMS), help="only this one"
    )
    answer.add_argument("--cache", type=Path, default=cache.DEFAULT, help="compiled programs (%(default)s)")
    answer.add_argument("--no-cache", action="store_true", help="compile in any case, keep nothing")
    return answer


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    defines = dict(item.partition("=")[::2] for item in arguments.define)
    kept = None if arguments.no_cache else arguments.cache
    try:
        report = load.run(
            arguments.pin_dir, upgrade=arguments.upgrade, defines=defines, only=arguments.program, kept=kept
        )
    except (load.LoadError, CompileError, MissingHeaders, OtherShape, ImportError, OSError) as failed:
        print(f"weft.bpf.loader: {failed}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
