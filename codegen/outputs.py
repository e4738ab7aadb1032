"""Everything that is generated, by path, and how it compares with what is committed.

Knows which inputs make which files; an input is committed, so that neither writing nor checking needs a network.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from codegen import codec, exports, generate, model, support, table

ROOT: Final = Path(__file__).parents[1]
DESCRIPTOR_SET: Final = ROOT / "codegen" / "containerd.binpb"
SOURCES: Final = ROOT / "codegen" / "sources.json"
SUPPORT: Final = ROOT / "codegen" / "support.json"

API_PACKAGE: Final = "golang-github-containerd-containerd-api-dev"
PACKAGE: Final = "containerd_py/_generated"
ROOT_MODULE: Final = "containerd_py/__init__.py"
EXPORTS: Final = "containerd_py/_exports.py"
PAGE: Final = "docs/reference/daemon-support.md"


def render() -> dict[str, str]:
    """Return the text of every generated file, by its path below the repository's root."""
    files = model.load(DESCRIPTOR_SET)
    known: support.Support = json.loads(SUPPORT.read_text(encoding="utf-8"))
    versions: dict[str, str] = json.loads(SOURCES.read_text(encoding="utf-8"))
    texts = {f"{PACKAGE}/{name}": text for name, text in generate.generate_modules(files).items()}
    texts |= {f"{PACKAGE}/{name}": generate.BANNER + "\n" + text for name, text in codec.render_codecs(files).items()}
    texts[f"{PACKAGE}/daemon_support.py"] = table.render_module(known)
    texts[EXPORTS] = f"{generate.BANNER}\n{exports.render((ROOT / ROOT_MODULE).read_text(encoding='utf-8'))}"
    texts[PAGE] = table.render_page(known, files, versions.get(API_PACKAGE, "of unknown version"))
    return texts


def differences(texts: Mapping[str, str], root: Path = ROOT) -> Iterator[tuple[str, int, int]]:
    """Yield (path, lines to add, lines to remove) of each file that is missing, surplus or different."""
    present = {path.relative_to(root).as_posix() for path in (root / PACKAGE).rglob("*.py")}
    for name in sorted(present | texts.keys()):
        path = root / name
        # Bytes, because reading as text would hide other line ends.
        old = path.read_bytes().decode() if path.exists() else None
        new = texts.get(name)
        if old != new:
            delta = list(difflib.ndiff((old or "").splitlines(True), (new or "").splitlines(True)))
            yield name, sum(line.startswith("+ ") for line in delta), sum(line.startswith("- ") for line in delta)


def write(texts: Mapping[str, str], root: Path = ROOT) -> list[str]:
    """Make the generated files exactly these; return the paths that changed."""
    changed = [name for name, _, _ in differences(texts, root)]
    for name in changed:
        path = root / name
        if name in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(texts[name].encode())
        else:
            path.unlink()
    return changed


def write_json(path: Path, content: object) -> None:
    """Write one of the committed inputs, stable to the byte."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
