"""The command `casemate`."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer

import casemate
from casemate.cli import check, data, init, listing, plan, report, run, schema, threats
from casemate.errors import CasemateError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app", "main"]

_INTERRUPTED = 130
_DEFECT = 70  # EX_SOFTWARE of sysexits.h

# Typer may bring its own copy of click, so its errors are named through Typer
_ClickError: type[Any] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)

app = typer.Typer(
    name="casemate",
    help="A security test bench for machine-learning models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(init.init)
app.command()(check.check)
app.command()(plan.plan)
app.command()(run.run)
app.command()(report.report)
app.command("list")(listing.listing)
app.command()(threats.threats)
data_app = typer.Typer(
    help="Data sets on this machine.", no_args_is_help=True, rich_markup_mode=None
)
data_app.command()(data.get)
app.add_typer(data_app, name="data")
app.command()(schema.schema)


def _version(value: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if value:
        typer.echo(f"casemate {casemate.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: FBT002 - an option of the command line
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Attack and defend a machine-learning model, and report how secure it is."""
    del version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code; what the user can mend is one sentence."""
    try:
        result = app(args=arguments, standalone_mode=False, prog_name="casemate")
        code = result if isinstance(result, int) else 0
    except CasemateError as error:
        _complain(str(error))
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe went away, which is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except _ClickError as error:
        error.show()
        return int(error.exit_code)
    except Exception:  # noqa: BLE001 - 1 is a verdict, which a defect must not be taken for
        traceback.print_exc()
        _complain("this is a defect of Casemate; finished trials are kept; please report it")
        return _DEFECT
    if code == _INTERRUPTED:
        _complain("interrupted; finished trials and trained models are kept; run again to go on")
    return code


def _complain(text: str) -> None:
    from casemate.cli.console import complain  # noqa: PLC0415 - keeps --help fast

    complain(text)


if __name__ == "__main__":
    sys.exit(main())
