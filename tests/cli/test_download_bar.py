from __future__ import annotations

import io

from rich.console import Console

from casemate.cli.download_bar import download_bar


def shown(*, terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    with download_bar("[b]odd.zip", total=2_000_000, done=500_000, console=console) as advance:
        advance(1_500_000)
    return out.getvalue()


def test_a_terminal_gets_a_bar_that_reaches_the_end():
    text = shown(terminal=True)
    assert "[b]odd.zip" in text
    assert "2.0/2.0 MB" in text
    assert "0:00:00" in text  # time left


def test_a_log_gets_one_line():
    assert shown(terminal=False) == "downloading [b]odd.zip (2.0 MB)\n"
