"""The `clarice` command: assembles the commands, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from clarice import __version__
from clarice.cli.groups import insist_on_command
from clarice.core.errors import ClariceError, UsageError
from clarice.core.parallel import run_operations_alone

# One module a command (or family of commands); each offers `register(app)`.
COMMAND_MODULES = (
    "run",
    "check",
    "simulate",
    "fetch",
    "extract",
    "denoise",
    "classify",
    "abinitio",
    "refine",
    "reconstruct",
    "postprocess",
    "evaluate",
    "report",
    "train",
    "finetune",
    "export_weights",
    "benchmark",
)

# Commands that take their work up where they left it.
GOING_ON = ("run", "train", "finetune", "denoise", "classify")
NOBODY_READS = 141
# What Typer raises for words that it does not understand; only its name differs from version to version.
_NotUnderstood: type[Exception] = typer.BadParameter.__mro__[1]


class InterruptionError(ClariceError):
    """The user asked the work to stop."""

    exit_code = 130


class _Commands(TyperGroup):
    """The commands, whose interruption is told before Typer makes a bare status of it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            remedy = "; start the same command again to go on from what it kept"
            raise InterruptionError(f"interrupted{remedy if ctx.invoked_subcommand in GOING_ON else ''}") from error


app = typer.Typer(
    name="clarice",
    cls=_Commands,
    help="Joint denoising and ab initio reconstruction for single-particle cryo-EM.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clarice {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(  # noqa: ARG001 (its callback answers and exits)
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Joint denoising and ab initio reconstruction for single-particle cryo-EM."""
    insist_on_command(context)


for _name in COMMAND_MODULES:
    importlib.import_module(f"clarice.cli.{_name}").register(app)


def main() -> None:
    """Entry point of the `clarice` command."""
    logging.captureWarnings(True)
    run_operations_alone()
    try:
        status = _status()
    except SystemExit as end:
        # So rich and Typer end by themselves where nobody reads what they print.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        status = NOBODY_READS
    sys.exit(status)


def _status() -> int:
    """Does what the command line says; tells what stood in the way, and returns the exit status."""
    errors = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    try:
        return app(prog_name="clarice", standalone_mode=False) or 0
    except ClariceError as error:
        errors.print(f"clarice: {error}")
        return error.exit_code
    except _NotUnderstood as error:
        errors.print(f"clarice: {_in_one_sentence(error)}")
        return UsageError.exit_code


def _in_one_sentence(error: Any) -> str:
    """What Typer has against the command line, and where to read what it takes."""
    said = " ".join(error.format_message().replace(". Did you", ", did you").split()).rstrip(".?")
    asked = error.ctx.command_path if error.ctx is not None else "clarice"
    return f"{said[:1].lower()}{said[1:]}; see `{asked} --help`"
