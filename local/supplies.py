"""Everything that a world runs on, built or fetched once: what can be, side by side.

Compiling keeps all cores busy and downloads keep none, so three chains go on at once, each in the
order in which its results are needed:

    programs   the control plane and the engine first, then what real nodes and their images need
    modules    of the programs that are compiled later
    files      definitions, then images: all but those that hold a program of ours

Whoever needs one of these afterwards asks for it as if this had not run, and finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from local import addons
from local.cluster import PLANE_TOOLS
from local.images import build as images
from local.nodes import real
from local.together import side_by_side
from local.toolchain import build, definitions
from local.toolchain.build import Say

ROOT_IMAGE = "node"
"""The image that no Pod runs: it is a node's root file system."""

PAUSE_IMAGE = "pause"
"""The image that holds the namespaces of every Pod."""

FIRST_TOOLS = (*PLANE_TOOLS, "pulumi")
"""The programs of a whole world with simulated nodes."""


def pod_images() -> list[str]:
    """The names of all images that Pods can run."""
    return [name for name in images.definitions() if name != ROOT_IMAGE]


def wanted_images(named: Iterable[str]) -> list[str]:
    """The names of the images that a world's Pods run, and no others: each costs time and disk.

    Args:
        named: the upstream images that its stack names, in whose place local ones run.
    """
    wanted = {PAUSE_IMAGE, *addons.IMAGES, *images.stand_ins(named).values()}
    return [name for name in pod_images() if name in wanted]


def ensure(
    say: Say,
    *,
    pods: Sequence[str] | None,
    definitions_of_all: bool,
    more: Sequence[str] = (),
) -> None:
    """Build and fetch what is missing.

    Args:
        say: told what is awaited.
        pods: also what real nodes need, and these images; None for simulated nodes.
        definitions_of_all: of every operator of the design, not only of those in use.
        more: further programs.

    Raises:
        LocalError: when something cannot be had.
    """
    later = list(dict.fromkeys([*(() if pods is None else _of_nodes(pods)), *more]))

    def programs(say: Say) -> None:
        build.ensure(FIRST_TOOLS, say)
        if pods is not None and build.missing(later):
            say(
                "meanwhile another stack can come up on simulated nodes, from another terminal: "
                "NODES=simulated make up STACK=…"
            )
        build.ensure(later, say)

    def modules(say: Say) -> None:
        build.fetch([*FIRST_TOOLS, *later], say)

    def files(say: Say) -> None:
        # One after the other: Maven's own cache is made for one process at a time.
        definitions.files(say, every=definitions_of_all)
        if pods is not None:
            images.ensure_root(ROOT_IMAGE, say)
            known = images.definitions()
            images.ensure([name for name in pods if not known[name].programs], say)

    side_by_side([programs, modules, files], say)


def _of_nodes(pods: Sequence[str]) -> list[str]:
    """The programs of real nodes, and those that their images hold."""
    known = images.definitions()
    held = (tool for name in pods for tool in known[name].programs)
    return [*real.TOOLS, *sorted(set(held))]
