"""Where the files lead that a request names: through links, and through images to what lies behind them. Blocks."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from virtrpc_drivers import images, paths
from virtrpc_drivers.errors import DriverError, Reason, failure
from virtrpc_drivers.values import FoundFile, NamedFile, SaveImage, Trail

MAX_IMAGES = 256
"""Images that are looked into for one request: each takes some 20 ms."""
LOOKING_SECONDS = 60.0
"""After how long no further one is: a bad one takes seconds, and whoever looks may have a job's place at the hypervisor."""


def follow(files: Iterable[NamedFile], roots: Sequence[str], *, local: bool) -> tuple[FoundFile, ...]:
    """All that these files lead to, themselves included. On another machine only their names are known.

    What lies outside the roots is not looked into. Faults of single files come with these: PATH_NOT_ALLOWED of images that are opened and cannot
    be looked into, and as `images.links`. Raises PATH_NOT_ALLOWED beyond MAX_IMAGES, OPERATION_FAILED beyond LOOKING_SECONDS.
    """
    until = time.monotonic() + LOOKING_SECONDS
    waiting = deque((file, "") for file in files)
    found: list[FoundFile] = []
    seen: set[tuple[NamedFile, str]] = set()
    looked = 0
    while waiting:
        file, by = waiting.popleft()
        if (file, by) in seen:
            continue
        seen.add((file, by))
        found.append(_found(file, by, roots, local=local))
        if not local or file.format in images.PLAIN or not found[-1].inside:
            continue
        looked += not images.hidden(file.path)
        if looked > MAX_IMAGES:
            raise failure(Reason.PATH_NOT_ALLOWED, f"these are more than {MAX_IMAGES} images, with those that lie behind them")
        if time.monotonic() >= until:
            raise failure(Reason.FAILED, f"looking into these images took longer than {LOOKING_SECONDS:g} s")
        try:
            waiting.extend((replace(link, opened=file.opened), file.path) for link in _links(file))
        except DriverError as error:
            found[-1] = replace(found[-1], fault=error.fault)
    return tuple(found)


def hold(trail: Trail | None, roots: Sequence[str], *, local: bool) -> None:
    """Raises PATH_NOT_ALLOWED where the files lead elsewhere by now than when it was judged whether they may be used, and the first file's fault."""
    if trail is None:
        return
    for each in follow(trail.files, roots, local=local):
        if each.path not in trail.granted:
            words = f"{each.by or each.named!r} leads to {each.told!r} by now, which it did not when this was asked for: ask again"
            raise failure(Reason.PATH_NOT_ALLOWED, words)
        if each.fault is not None:
            raise DriverError(each.fault)


def hold_image(trail: Trail | None, path: str, image: SaveImage) -> None:
    """Raises PATH_NOT_ALLOWED where a saved image holds another definition by now than the one that was judged."""
    if trail is not None and trail.holds not in ("", image.digest):
        raise failure(Reason.PATH_NOT_ALLOWED, f"the image {path!r} holds another definition by now than when this was asked for: ask again")


def _links(file: NamedFile) -> list[NamedFile]:
    why = images.hidden(file.path)
    if not why:
        return list(images.links(file))
    if file.opened:
        # In a container the hypervisor may see it all the same.
        words = f"nobody can tell where the image {file.path!r} leads: {why}; mend that, or have somebody ask who may ReachOutside"
        raise failure(Reason.PATH_NOT_ALLOWED, words)
    return []


def _found(file: NamedFile, by: str, roots: Sequence[str], *, local: bool) -> FoundFile:
    if not file.path.startswith("/") or "\0" in file.path:
        return FoundFile(path=_text(file.path), inside=False, named=file.path, by=by)
    place, inside = paths.place(file.path, roots, local=local)
    return FoundFile(path=_text(place), inside=inside, named=file.path, by=by)


def _text(path: str) -> str:
    # A link may lead to a name that is no text.
    return os.fsencode(path).decode(errors="backslashreplace")
