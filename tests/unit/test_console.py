"""Progress for people: bars where there is a terminal, lines where there is none."""

import io

from rich.console import Console

from containerd_py import Descriptor, Progress
from containerd_py.console import PullBars

DIGEST = "sha256:" + "ab" * 32
LAYER = Descriptor(media_type="application/vnd.oci.image.layer.v1.tar", digest=DIGEST, size=4 * 2**20)
STEPS = [
    Progress(event="Resolving from a registry"),
    Progress(event="waiting", name=f"layer-{DIGEST}", total=LAYER.size, descriptor=LAYER),
    Progress(event="downloading", name=f"layer-{DIGEST}", progress=2**20, total=LAYER.size, descriptor=LAYER),
    Progress(event="downloading", name=f"layer-{DIGEST}", progress=2 * 2**20, total=LAYER.size, descriptor=LAYER),
    Progress(event="extracting", name=f"layer-{DIGEST}", total=LAYER.size, descriptor=LAYER),
    Progress(event="extracted", name=f"layer-{DIGEST}", progress=LAYER.size, total=LAYER.size, descriptor=LAYER),
    Progress(event="saved", name="docker.io/library/demo:latest"),
]


def shown(*, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, color_system=None)
    with PullBars(console) as bars:
        for step in STEPS:
            bars.update(step)
    return out.getvalue()


def test_lines_tell_news_only():
    """Without a terminal each event of each piece is one line; bytes that come in quick succession are not repeated."""
    assert shown(terminal=False).splitlines() == [
        "Resolving from a registry",
        "layer abababababab waiting",
        "layer abababababab downloading 1.0 MiB of 4.0 MiB",
        "layer abababababab extracting",
        "layer abababababab extracted",
        "docker.io/library/demo:latest saved",
    ]


def test_a_bar_for_each_piece_of_content():
    """On a terminal a piece of content has a bar with its bytes; what concerns the whole is a line above."""
    out = shown(terminal=True)
    assert "4.0/4.0 MiB" in out
    assert "docker.io/library/demo:latest saved" in out
    assert "0/? bytes" not in out


def test_what_has_arrived_stays_full():
    """While a layer is extracted its bar stays full."""
    out = io.StringIO()
    with PullBars(Console(file=out, force_terminal=True, width=120, color_system=None)) as bars:
        for step in STEPS[:5]:
            bars.update(step)
    assert "4.0/4.0 MiB" in out.getvalue()


async def test_follow_shows_everything_and_raises():
    """follow shows every step; the transfer's error comes out of it."""

    async def failing():
        yield STEPS[0]
        raise ZeroDivisionError

    out = io.StringIO()
    with PullBars(Console(file=out, force_terminal=False)) as bars:
        try:
            await bars.follow(failing())
        except ZeroDivisionError:
            out.write("raised")
    assert out.getvalue() == "Resolving from a registry\nraised"
