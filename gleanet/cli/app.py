"""The command line: parses, calls one function of the pipeline, prints. It computes nothing itself.

Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 3 done but below the user's bar; interrupted (and
resumable): 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import version
from typing import Annotated

import typer

from gleanet.cli import activations, frameworks, jobs, lookups, stages
from gleanet.cli.card import card
from gleanet.cli.demo import demo
from gleanet.cli.explain import explain
from gleanet.cli.inspect import inspect
from gleanet.cli.papers import papers
from gleanet.cli.serve import serve
from gleanet.cli.streams import lasting
from gleanet.cli.sweep import sweep
from gleanet.cli.terminal import print_error, print_text, stand_ins
from gleanet.core.errors import GleanetError, SettingsError
from gleanet.core.interrupt import Received, stoppable
from gleanet.core.launch import Launch, launch

INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt
TOGETHER = ("train ", "prune ")  # commands that several processes can carry out together

app = typer.Typer(
    name="gleanet",
    help="Make a trained convolutional image classifier small and fast, and say with numbers what that cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(jobs.shrink)
app.command()(jobs.train)
app.command()(jobs.prune)
app.command()(stages.export)
app.command()(stages.quantize)
app.command()(stages.measure)
app.command()(inspect)
app.command()(lookups.doctor)
app.command()(serve)
app.command()(sweep)
app.command()(demo)
app.command()(card)
app.command()(explain)
app.add_typer(activations.activations)
app.add_typer(lookups.runs)
app.add_typer(lookups.plans)
app.add_typer(papers)
app.add_typer(frameworks.frameworks)


def _version(show: bool) -> None:
    if show:
        print_text(f"gleanet {version('gleanet')}")
        raise typer.Exit


@app.callback()
def _root(show: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Expected errors print one line; only our own mistakes show a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    stand_ins()
    with lasting() as output, stoppable() as received:
        try:
            code = _code(arguments, received)
            trouble = output.trouble()
            if trouble is not None:
                print_error(f"standard output cannot be written ({trouble.strerror}): what this command has printed is not complete")
                code = code or 1
        except KeyboardInterrupt:  # once more, while the first one was dealt with
            code = received.exit_code
    return code


def _code(arguments: list[str], received: Received) -> int:
    """Run one command: its exit code."""
    together: Launch | None = None
    try:
        together = launch()
        with _one_of(together, _command(arguments)):
            code = app(arguments, standalone_mode=False, prog_name="gleanet")
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as usage:
        _say(f"{usage.format_message()} (see gleanet {_command(arguments)}--help)", together)
        return 2
    except GleanetError as error:
        _say(f"{error} (see gleanet explain {error.slug})" if error.slug else str(error), together)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except (OSError, MemoryError) as error:
        _say(f"{type(error).__name__}: {error}", together)
        return 1
    if code == INTERRUPTED:  # outside of a run: there is nothing to resume
        _say("interrupted", together)
        return received.exit_code
    return code if isinstance(code, int) else 0


@contextmanager
def _one_of(together: Launch | None, command: str) -> Iterator[None]:
    """The block of a command in one of several processes: that of rank 0 speaks for all.

    Raises:
        SettingsError: the command is one for a single process.
    """
    if together is None:
        yield
        return
    if command not in TOGETHER:
        raise SettingsError(
            f"torchrun has started {together.size} processes, which can share `train` and `prune --in-training` only: "
            f"run gleanet {command}without torchrun"
        )
    if together.rank == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _say(message: str, together: Launch | None) -> None:
    """Show an error; one that several processes meet, once."""
    if together is not None:
        from gleanet.train.speaker import first_to_speak

        if not first_to_speak():
            return
    print_error(message)


def _command(arguments: Sequence[str]) -> str:
    groups = {"activations", "runs", "plans", "papers", "frameworks"}
    known = groups | {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    return next((f"{word} " for word in arguments if word in known), "")
