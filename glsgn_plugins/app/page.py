"""The page itself, by Gradio: local, without telemetry, and without a byte from elsewhere."""

from __future__ import annotations

import html
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from glsgn_plugins.app.service import Restored, Service
from glsgn_plugins.errors import InputError
from glsgn_plugins.inference import STRONGEST
from glsgn_plugins.io import formats

QUEUE = 32
"""Restorations that may wait; beyond it people are told to come back."""

STYLE = (Path(__file__).parent / "viewer.css").read_text(encoding="utf-8")
SCRIPT = (Path(__file__).parent / "viewer.js").read_text(encoding="utf-8")

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'"
)
"""Content-Security-Policy: Gradio's page asks other servers for fonts and scripts, which a browser
refuses by this."""

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def gradio() -> Any:
    """Gradio, with its telemetry off; InputError where it is missing."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio
    except ImportError:
        raise InputError("the page needs Gradio: pip install 'glsgn-plugins[app]'") from None
    if int(gradio.__version__.split(".")[0]) < 6:
        raise InputError(
            f"the page needs Gradio 6, here is {gradio.__version__}: pip install "
            "'glsgn-plugins[app]'"
        )
    return gradio


class Policy:
    """ASGI middleware that sends :data:`POLICY` with every answer."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """As ASGI has it."""

        async def send_with(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                more = [
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        await self.app(scope, receive, send_with)


def viewer(restored: Restored) -> str:
    """Both pictures over each other, behind a slider; ``viewer.js`` moves it."""
    before, after = (
        html.escape(f"gradio_api/file={quote(str(path))}")
        for path in (restored.before, restored.after)
    )
    return (
        '<div class="glsgn"><div class="glsgn-stage" tabindex="0">'
        f'<img class="glsgn-before" src="{before}" alt="before" draggable="false">'
        f'<img class="glsgn-after" src="{after}" alt="after" draggable="false">'
        '<div class="glsgn-line"></div></div>'
        '<div class="glsgn-bar"><span>before</span>'
        '<input class="glsgn-slider" type="range" min="0" max="1000" value="500" '
        'aria-label="where before ends and after begins"><span>after</span>'
        '<button class="glsgn-zoom" type="button" aria-pressed="false">1:1</button></div></div>'
    )


def build(service: Service) -> Any:
    """The page as Gradio's Blocks, with its queue."""
    gr = gradio()

    def check(upload: str | None) -> tuple[str, Any]:
        none = gr.DownloadButton(value=None, interactive=False)
        if upload is None:
            return "", none
        try:
            header = service.check(Path(upload))
        except InputError as error:
            return f"**{_text(error)}**", none
        return f"{header.kind}, {header.size}, {header.bits} bits, {header.channels}", none

    def run(
        upload: str | None, task: str, strength: float, keep: bool, progress: Any = None
    ) -> tuple[str, Any, str]:
        progress = progress or gr.Progress()
        if upload is None:
            raise gr.Error("first choose a photograph", print_exception=False)
        progress(0, desc="reading")
        try:
            found = service.restore(
                Path(upload),
                task,
                strength,
                keep,
                progress=lambda share: progress(min(share, 1.0), desc="restoring"),
            )
        except InputError as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from None
        button = gr.DownloadButton(
            label=f"Download {found.file.name}", value=str(found.file), interactive=True
        )
        return viewer(found), button, _text(found.said)

    run.__defaults__ = (gr.Progress(),)  # Gradio looks for it among the defaults
    limits = service.limits
    with gr.Blocks(
        title="glsgn", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)
    ) as page:
        gr.Markdown("## Restore a photograph")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                upload = gr.File(
                    label=f"Photograph: up to {limits.megabytes:g} MB, {limits.megapixels:g} MP",
                    file_types=list(formats.READ),
                    elem_id="upload",
                )
                about = gr.Markdown(elem_id="about")
                task = gr.Radio(
                    list(service.tasks), value=service.tasks[0], label="Task", elem_id="task"
                )
                strength = gr.Slider(0, STRONGEST, 1.0, step=0.05, label="Strength")
                keep = gr.Checkbox(label="Keep colours: change how light pixels are alone")
                start = gr.Button("Restore", variant="primary", elem_id="start")
                download = gr.DownloadButton("Download", interactive=False, elem_id="download")
                said = gr.Markdown(elem_id="said")
            with gr.Column(scale=3):
                shown = gr.HTML(elem_id="viewer", js_on_load=SCRIPT, min_height=300)
        upload.change(check, upload, [about, download], queue=False)
        start.click(
            run,
            [upload, task, strength, keep],
            [shown, download, said],
            concurrency_limit=1,
            concurrency_id="restore",
        )
    return page.queue(max_size=QUEUE)


def serve(service: Service, host: str, port: int | None) -> tuple[Any, str]:
    """Start the server, in threads of this process.

    Args:
        service: What restores.
        host: The address that it listens at.
        port: ``None`` for a free one from 7860.

    Returns:
        The page, which ``block_thread()`` serves until Ctrl-C, and its address.

    Raises:
        InputError: The port is taken.
    """
    gr = gradio()
    page = build(service)
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=True,
            max_file_size=int(service.limits.megabytes * 1e6),
            allowed_paths=[str(service.folder)],
            footer_links=[],
            enable_monitoring=False,
            ssr_mode=False,
            app_kwargs={"middleware": [_middleware()]},
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=STYLE,
        )
    except OSError as error:
        raise InputError(f"--port {port}: {error}; give another one") from None
    return page, url


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder for uploads and results, which goes with the page; Gradio is told of it."""
    folder = tempfile.TemporaryDirectory(prefix="glsgn-app-")
    os.environ["GRADIO_TEMP_DIR"] = os.path.join(folder.name, "uploads")
    Path(folder.name, "results").mkdir()
    return folder


def _middleware() -> Any:
    from starlette.middleware import Middleware

    return Middleware(Policy)


def _text(said: object) -> str:
    """As Markdown shows it: names of files may have any characters."""
    return html.escape(str(said)).translate({ord(c): f"\\{c}" for c in "\\`*_[]#|~"})
