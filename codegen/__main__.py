"""Generate containerd_py/_generated and docs/reference/daemon-support.md from the inputs committed beside this."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from codegen import descriptors, model, outputs, support

EPILOG: Final = """\
Neither --check nor a plain run needs a network, protoc or a daemon. To follow a new containerd:
`python -m codegen --protos`, `python3 .ci/provision.py tests`, `python -m codegen --daemons .cache/daemons`.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m codegen", description=__doc__, epilog=EPILOG)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything would change")
    parser.add_argument(
        "--protos",
        nargs="*",
        type=Path,
        metavar="FOLDER",
        help="first renew the descriptor set from these folders or, without any, from Debian",
    )
    parser.add_argument(
        "--daemons",
        type=Path,
        metavar="FOLDER",
        help="first renew the support table from the binaries in FOLDER/LINE/bin",
    )
    options = parser.parse_args(arguments)
    try:
        if options.protos is not None:
            _renew_descriptors(options.protos)
        if options.daemons is not None:
            outputs.write_json(outputs.SUPPORT, support.extract(options.daemons, model.load(outputs.DESCRIPTOR_SET)))
    except (descriptors.DescriptorError, support.SupportError) as error:
        print(error, file=sys.stderr)
        return 2
    texts = outputs.render()
    if not options.check:
        changed = outputs.write(texts)
        print(f"{len(texts)} generated files, {len(changed)} changed")
        return 0
    stale = list(outputs.differences(texts))
    for name, added, removed in stale:
        print(f"{name}: +{added} -{removed} lines", file=sys.stderr)
    if stale:
        print("generated files differ from their inputs: run `python -m codegen`", file=sys.stderr)
    return 1 if stale else 0


def _renew_descriptors(folders: list[Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="protos-") as temporary:
        if not folders:
            descriptors.unpack_debian(Path(temporary))
            folders = [Path(temporary)]
        outputs.DESCRIPTOR_SET.write_bytes(descriptors.build(folders))
        outputs.write_json(outputs.SOURCES, descriptors.debian_versions(folders))


if __name__ == "__main__":
    sys.exit(main())
