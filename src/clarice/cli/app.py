"""The `clarice` command: assembles the commands, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import importlib
import logging
import os
import sys

import typer
from rich.console import Console

from clarice import __version__
from clarice.cli.groups import insist_on_command
from clarice.core.errors import ClariceError
from clarice.core.parallel import run_operations_alone

# One module a command (or family of commands); each offers `register(app)`.
COMMAND_MODULES = (
    "run",
    "check",
    "simulate",
    "fetch",
    "denoise",
    "classify",
    "abinitio",
    "refine",
    "reconstruct",
    "postprocess",
    "evaluate",
    "report",
    "train",
    "export_weights",
    "benchmark",
)

app = typer.Typer(
    name="clarice",
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
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        app(prog_name="clarice")
    except ClariceError as error:
        errors.print(f"clarice: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        errors.print("clarice: interrupted; start the same command again to go on from the last finished step")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
