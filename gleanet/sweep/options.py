"""Options by name, as they stand in a sweep's file, and the words of the command line that they become."""

from collections.abc import Mapping
from dataclasses import dataclass

from gleanet.core.errors import SettingsError
from gleanet.core.sweeps import Value


@dataclass(frozen=True)
class Option:
    """How a command line says an option.

    Attributes:
        on: ``--flops``; empty for the argument without a name.
        switch: takes no value: ``--residual``.
        off: how a switch is turned off, ``--no-repair``; empty where leaving it out does.
    """

    on: str
    switch: bool = False
    off: str = ""


Commands = Mapping[str, Mapping[str, Option]]


def flags(options: Mapping[str, Value], known: Mapping[str, Option]) -> tuple[str, ...]:
    """The words of the options, in their order; the argument without a name comes last, after ``--``.

    Raises:
        SettingsError: a switch that is not true or false, or a value that is.
    """
    words: list[str] = []
    last: list[str] = []
    for name, value in options.items():
        option = known[name]
        if option.switch != isinstance(value, bool):
            must = "true or false" if option.switch else "a value, not true or false"
            raise SettingsError(f"{name} is {value!r}: it must be {must}")
        if isinstance(value, bool):
            word = option.on if value else option.off
            words += [word] if word else []
        elif not option.on:
            last = ["--", _text(value)]
        else:
            words.append(f"{option.on}={_text(value)}")
    return (*words, *last)


def _text(value: Value) -> str:
    if isinstance(value, float):
        return repr(value)
    if not str(value).isprintable():
        raise SettingsError(f"{value!r} holds a character that no command line can")
    return str(value)
