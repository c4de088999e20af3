"""Commands that reach a guest from outside: keys, interrupts and signals."""

from __future__ import annotations

from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli.command import verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import LIFECYCLE
from virtrpc.cli.params import as_duration, parse_seconds
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

_SIGNALS = {name.removeprefix("PROCESS_SIGNAL_"): number for name, number in j.ProcessSignal.items() if number}
_SETS = {name.removeprefix("KEYCODE_SET_").lower(): number for name, number in j.KeycodeSet.items() if number}

# Linux's input event codes of the keys that people press by name: the first of each row, and those that follow it.
_ROWS = (
    (1, "ESC 1 2 3 4 5 6 7 8 9 0 MINUS EQUAL BACKSPACE TAB"),
    (16, "Q W E R T Y U I O P LEFTBRACE RIGHTBRACE ENTER LEFTCTRL"),
    (30, "A S D F G H J K L SEMICOLON APOSTROPHE GRAVE LEFTSHIFT BACKSLASH"),
    (44, "Z X C V B N M COMMA DOT SLASH RIGHTSHIFT"),
    (56, "LEFTALT SPACE CAPSLOCK F1 F2 F3 F4 F5 F6 F7 F8 F9 F10"),
    (87, "F11 F12"),
    (97, "RIGHTCTRL"),
    (99, "SYSRQ RIGHTALT"),
    (102, "HOME UP PAGEUP LEFT RIGHT END DOWN PAGEDOWN INSERT DELETE"),
    (125, "LEFTMETA RIGHTMETA"),
)
KEYS = {f"KEY_{name}": first + place for first, names in _ROWS for place, name in enumerate(names.split())}


def _code(word: str) -> int:
    try:
        return KEYS[word] if word in KEYS else int(word, 0)
    except ValueError:
        raise typer.BadParameter(f"{word!r} is no key: say a number, or a name such as KEY_LEFTCTRL, KEY_A, KEY_F1, KEY_DELETE") from None


def _set(value: str) -> j.KeycodeSet.ValueType:
    if value not in _SETS:
        raise typer.BadParameter(f"{value!r} is no set of key codes: say one of {', '.join(_SETS)}")
    return _SETS[value]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "send-key", panel=LIFECYCLE)(send_key)
    verb(app, "inject-nmi", panel=LIFECYCLE)(inject_nmi)
    verb(app, "send-process-signal", panel=LIFECYCLE)(send_process_signal)


def send_key(
    client: AsyncClient,
    domain: t.DomainRef,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Pressed all at once: KEY_LEFTCTRL KEY_LEFTALT KEY_DELETE, or numbers.")],
    options: t.JobOptions,
    keycode_set: Annotated[str, typer.Option("--set", metavar="SET", help="What numbers mean; names are Linux's.")] = "linux",
    hold: Annotated[str, typer.Option(metavar="TIME", help="For how long they are held: 100ms.")] = "0",
) -> Begun:
    """Press keys of a domain's keyboard, all at once."""
    codes = [_code(key) for key in keys]
    return client.send_key(domain, options=options, keycode_set=_set(keycode_set), keycodes=codes, hold_duration=as_duration(parse_seconds(hold)))


def inject_nmi(client: AsyncClient, domain: t.DomainRef, options: t.JobOptions) -> Begun:
    """Send a non-maskable interrupt: many guests write a crash dump then."""
    return client.inject_nmi(domain, options=options)


def send_process_signal(
    client: AsyncClient,
    domain: t.DomainRef,
    pid: Annotated[int, typer.Argument(metavar="PID", help="By its id inside the container: 1 is the first.")],
    signal: Annotated[str, typer.Argument(metavar="SIGNAL", help=", ".join(_SIGNALS))],
    options: t.JobOptions,
) -> Begun:
    """Send a signal to a process inside a container."""
    name = signal.upper().removeprefix("SIG")
    if name not in _SIGNALS:
        raise typer.BadParameter(f"{signal!r} is no signal: say one of {', '.join(_SIGNALS)}")
    return client.send_process_signal(domain, options=options, pid=pid, signal=_SIGNALS[name])
