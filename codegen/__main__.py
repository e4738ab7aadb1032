"""`python -m codegen`: write containerd_py/_generated; `--check` compares only; `--protos` renews the descriptor set."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from codegen import descriptors, generate


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m codegen", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something would change")
    parser.add_argument("--protos", nargs="*", type=Path, metavar="FOLDER",
                        help="renew the descriptor set first, from these folders or, without any, from Debian")
    options = parser.parse_args(arguments)
    if options.protos is not None:
        _renew(options.protos)
    return 0


def _renew(folders: list[Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="protos-") as temporary:
        if not folders:
            descriptors.unpack_debian(Path(temporary))
            folders = [Path(temporary)]
        descriptors.DESCRIPTOR_SET.write_bytes(descriptors.build(folders))


if __name__ == "__main__":
    sys.exit(main())
