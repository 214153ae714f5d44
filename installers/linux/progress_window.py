"""A small window for the first start from a desktop's menu, before Idlebloom has its own: Tk alone."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import tkinter as tk
from tkinter import ttk

import setup


def run(group: str) -> int:
    """Runs the setup and shows how far it is. Returns its exit code; closing the window stops it, and the
    next start goes on from there."""
    command = [sys.executable, "-I", str(setup.HERE / "setup.py"), group, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines: queue.SimpleQueue[dict[str, object] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    window = Window()
    window.follow(lines)
    window.root.mainloop()
    if process.poll() is None and not window.done:
        process.terminate()
        process.wait()
        return 130
    return process.wait()


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[dict[str, object] | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(json.loads(line))
    lines.put(None)


class Window:
    """Words, a bar, a button; an error stays until it is read."""

    def __init__(self) -> None:
        self.done = False
        self.root = tk.Tk(className="idlebloom")
        self.root.title("Idlebloom")
        self.root.resizable(width=False, height=False)
        frame = ttk.Frame(self.root, padding=24)
        frame.grid()
        ttk.Label(frame, text="Idlebloom fetches what it needs for its first start.").grid(sticky="w")
        self.words = ttk.Label(frame, text="", width=64, wraplength=440)
        self.words.grid(sticky="w", pady=(8, 8))
        self.bar = ttk.Progressbar(frame, length=440)
        self.bar.grid(sticky="we")
        self.button = ttk.Button(frame, text="Stop for now", command=self.root.destroy)
        self.button.grid(sticky="e", pady=(16, 0))

    def follow(self, lines: queue.SimpleQueue[dict[str, object] | None]) -> None:
        while not lines.empty():
            fields = lines.get()
            if fields is None:
                self.done = True
                if self.button["text"] != "Close":
                    self.root.destroy()
                return
            self.show(fields)
        self.root.after(100, self.follow, lines)

    def show(self, fields: dict[str, object]) -> None:
        if "error" in fields:
            self.error(str(fields["error"]))
        elif fields["phase"] == "fetching":
            done, total = float(str(fields["done_bytes"])), float(str(fields["total_bytes"]))
            left = "" if fields["seconds_left"] is None else f", about {fields['seconds_left']} s left"
            self.words["text"] = f"{setup.size(done)} of {setup.size(total)}{left}"
            self.bar["value"] = 100 * done / total if total else 100
        else:
            self.words["text"] = f"{fields['phase']} {fields['what']} …"

    def error(self, words: str) -> None:
        self.words["text"] = words
        self.bar.grid_remove()
        self.button["text"] = "Close"


def show_error(words: str) -> None:
    window = Window()
    window.error(words)
    window.root.mainloop()
