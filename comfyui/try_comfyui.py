"""Run the nodes in a real ComfyUI on the CPU, and compare what it saves with ``restore_array``.

Run it by the Python of ComfyUI, or any that has aiohttp, Pillow and this package:

    python comfyui/try_comfyui.py --comfyui ~/ComfyUI --python ~/ComfyUI/.venv/bin/python

It starts a server with a folder of its own for models, pictures and nodes, and leaves that of
ComfyUI alone. Exit code 0 where everything is as it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "examples")]  # before what is installed


from demo_data import photo  # noqa: E402

from glsgn_plugins import list_pretrained, load_pretrained, restore_array  # noqa: E402

CLIENT = "try-comfyui"


async def started(url: str, server: subprocess.Popen[bytes], seconds: int = 300) -> None:
    """Wait until the server answers."""
    async with aiohttp.ClientSession() as session:
        for _ in range(seconds):
            if server.poll() is not None:
                raise SystemExit("ComfyUI ended; see its log")
            try:
                async with session.get(f"{url}/system_stats") as answer:
                    system = (await answer.json())["system"]
                    print(f"ComfyUI {system.get('comfyui_version')}, torch {torch.__version__}")
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(1)
    raise SystemExit("ComfyUI doesn't answer")


async def queued(url: str, workflow: dict[str, Any], interrupt: bool = False) -> dict[str, Any]:
    """Queue a workflow and follow it to its end.

    Returns:
        ``end``, the kind of its last message; ``steps``, values of the progress bar; ``images``,
        what it saved.
    """
    steps: list[int] = []
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{url}/ws?clientId={CLIENT}") as socket_:
            body = {"prompt": workflow, "client_id": CLIENT}
            async with session.post(f"{url}/prompt", json=body) as answer:
                said = await answer.json()
                if answer.status != 200:
                    raise SystemExit(f"refused: {json.dumps(said)}")
            end = ""
            async for message in socket_:
                if message.type != aiohttp.WSMsgType.TEXT:
                    continue
                told = json.loads(message.data)
                if told["type"] == "progress":
                    steps.append(told["data"]["value"])
                    if interrupt and len(steps) == 3:
                        await session.post(f"{url}/interrupt")
                if told["type"] in ("execution_error", "execution_interrupted"):
                    end = told["type"] + ": " + str(told["data"].get("exception_message", ""))
                    break
                if told["type"] == "execution_success":
                    end = told["type"]
                    break
        outputs = {}
        for _ in range(50):  # the history is written after the last message
            async with session.get(f"{url}/history/{said['prompt_id']}") as answer:
                found = await answer.json()
            if said["prompt_id"] in found:
                outputs = found[said["prompt_id"]]["outputs"]
                break
            await asyncio.sleep(0.1)
        images = []
        for image in (i for node in outputs.values() for i in node.get("images", [])):
            async with session.get(f"{url}/view", params=image) as answer:
                content = await answer.read()
            scratch = Path(tempfile.mkdtemp()) / "image.png"
            scratch.write_bytes(content)
            images.append(np.asarray(Image.open(scratch).convert("RGB")))
            shutil.rmtree(scratch.parent)
    return {"end": end, "steps": steps, "images": images}


def check(what: str, holds: bool) -> bool:
    print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)
    return holds


async def tried(url: str, folder: Path, keep: Path | None) -> bool:
    task = list_pretrained()[0]
    small = np.array(Image.open(photo("coffee.png")).convert("RGB"))
    Image.fromarray(small).save(folder / "input/photo.png")
    Image.fromarray(np.tile(small, (4, 4, 1))).save(folder / "input/large.png")
    workflow = json.loads((HERE / "workflow.json").read_text())
    workflow["2"]["inputs"]["weights"] = f"shipped: {task}"
    net = load_pretrained(task)
    fine = True
    for strength, mode in ((1.0, "auto"), (0.5, "stream"), (0.0, "whole")):
        workflow["3"]["inputs"].update(strength=strength, mode=mode)
        start = time.perf_counter()
        done = await queued(url, workflow)
        took = time.perf_counter() - start
        if not check(f"{task}, strength {strength}, {mode}: {done['end']}", bool(done["images"])):
            return False
        found = done["images"][0].astype(int)
        off = np.abs(found - restore_array(net, small, strength=strength))
        what = f"differs from restore by {off.max()} of 255 at most, {off.mean():.3f} in mean"
        fine &= check(f"  {what} ({took:.1f} s)", off.max() <= 1)
        moved = np.abs(found - small.astype(int)).max()
        fine &= check(f"  changes the picture by up to {moved}", (moved > 1) == (strength > 0))
        fine &= check(f"  progress in {len(done['steps'])} steps", len(done["steps"]) > 0)
        if keep is not None and strength == 1:
            Image.fromarray(np.hstack([small, done["images"][0]])).save(keep, quality=88)
    workflow["1"]["inputs"]["image"] = "large.png"
    workflow["3"]["inputs"].update(strength=1.0, mode="auto")
    done = await queued(url, workflow, interrupt=True)
    fine &= check(f"interrupt: {done['end']}", done["end"].startswith("execution_interrupted"))
    workflow["1"]["inputs"]["image"] = "photo.png"
    done = await queued(url, workflow)
    fine &= check(f"and goes on after it: {done['end']}", len(done["images"]) == 1)
    workflow["2"]["inputs"]["weights"] = "upscale_models/other.pth"
    done = await queued(url, workflow)
    fine &= check(f"weights of others: {done['end']}", "no weights of GLSGN" in done["end"])
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--comfyui", type=Path, required=True, help="the folder with its main.py")
    parser.add_argument("--python", default=sys.executable, help="that runs it")
    parser.add_argument("--keep", type=Path, help="write the picture before and after here")
    args = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("input", "output", "custom_nodes", "models/upscale_models", "user", "temp"):
            (folder / part).mkdir(parents=True)
        (folder / "custom_nodes/glsgn").symlink_to(HERE, target_is_directory=True)
        torch.save({"conv.weight": torch.ones(1)}, folder / "models/upscale_models/other.pth")
        argv = [args.python, "main.py", "--cpu", "--port", str(port), "--base-directory", name]
        path = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
        log = folder / "log.txt"
        with log.open("wb") as file:
            server = subprocess.Popen(
                [*argv, "--disable-auto-launch", "--disable-api-nodes"],
                cwd=args.comfyui,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
            )
        try:
            url = f"http://127.0.0.1:{port}"
            asyncio.run(started(url, server))
            fine = asyncio.run(tried(url, folder, args.keep))
        except BaseException:
            print(log.read_text(errors="replace")[-4000:])
            raise
        finally:
            server.terminate()
            server.wait()
        if not fine:
            print(log.read_text(errors="replace")[-4000:])
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
