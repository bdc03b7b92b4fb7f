"""A run in the browser: served here, or as a folder for any web server."""

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gleanet.cli import options as o
from gleanet.cli.terminal import TerminalProgress, print_json, print_text
from gleanet.core.errors import SettingsError

if TYPE_CHECKING:
    from gleanet.web import SiteServer


def serve(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run's folder or id.", show_default=False)] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on. Default: this machine only.")] = "127.0.0.1",
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    float_file: Annotated[
        Path | None, typer.Option("--float", help="The float model to compare with. Default: base.onnx of the run, else its model.onnx.")
    ] = None,
    export_site: Annotated[
        Path | None, typer.Option(help="Write the page into this folder, for any web server, instead of serving it.")
    ] = None,
    ort_web: Annotated[
        Path | None, typer.Option(help="Folder of the npm package onnxruntime-web. Default: $GLEANET_ORT_WEB, else what --setup got.")
    ] = None,
    setup: Annotated[bool, typer.Option("--setup", help="Download onnxruntime-web (one version, checksum verified), once.")] = False,
    json: o.Json = False,
) -> int:
    """Try a run in the browser: the float and the int8 model side by side, in WebAssembly.

    Once, to get the runtime: [bold]gleanet serve --setup[/]

    Example: [bold]gleanet serve runs/demo[/]

    A folder to host anywhere: [bold]gleanet serve runs/demo --export-site site[/]
    """
    from gleanet import web

    if run is None and not setup:
        raise SettingsError("RUN is missing: for instance gleanet serve runs/demo; `gleanet runs list` shows the runs")
    if setup:
        with TerminalProgress() as progress:
            ort = web.setup_ort(progress=progress)
        if run is None:
            _print(json, {"folder": str(ort.folder), "version": ort.version}, f"onnxruntime-web {ort.version} is in {ort.folder}")
            return 0
    with TerminalProgress() as progress:
        site = web.make_site(str(run), web.find_ort(ort_web), float_file=float_file, progress=progress)
        for note in site.notes:
            progress.say(note)
    if export_site is not None:
        written = web.export_site(site, export_site)
        text = f"{written}: {len(site.files)} files. Host the folder anywhere, or look at it with: python -m http.server -d {written}"
        _print(json, {"folder": str(written), "files": sorted(site.files)}, text)
        return 0
    with web.open_server(site, host, port) as server:
        try:
            _announce(server, open_page=open_page, json=json)
            server.serve_forever()
        except KeyboardInterrupt:  # how a server ends
            _say("stopped")
    return 0


def _announce(server: "SiteServer", *, open_page: bool, json: bool) -> None:
    if server.local:
        _say("For this machine only; Ctrl-C stops it.")
    else:
        _say("Warning: anyone who can reach this machine can open the page, with the run's models and samples. Ctrl-C stops it.")
    _print(json, {"url": server.url, "local": server.local}, server.url)
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if open_page and screen:  # without a screen, a browser of the terminal would take it over
        webbrowser.open(server.url)


def _print(json: bool, value: dict[str, object], text: str) -> None:
    if json:
        print_json(value)
    else:
        print_text(text)
    sys.stdout.flush()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
