"""What is shown below some settings: live use, pickers, and what is kept on the disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QRectF, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QFileDialog, QLabel, QMenu, QSizePolicy, QVBoxLayout, QWidget

from core.paths import Paths
from core.pc.gpu import read_gpus
from core.words import _, sentence, size
from desktop import commands, parts, pc, phrases, style
from desktop.editors import TextEditor
from desktop.graph import today
from desktop.pc import Pc, lacks
from desktop.settings_panel import Field, SettingsPanel
from desktop.snapshot import Ledger, Snapshot
from desktop.wsl_setup import Place

LOOK_MS = 2000


class Live(QObject):
    """What the extras draw from: the last snapshot and ledger, told to each whenever there is a new one."""

    drawn = Signal(object)
    ledger_drawn = Signal(object)

    def __init__(self, paths: Paths, program: list[str], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.paths, self.program = paths, program
        self.snapshot: Snapshot | None = None

    @cached_property
    def pc(self) -> Pc:
        """What this PC has, read once: when the first window asks."""
        return Pc.read(self.paths.cache)

    def draw(self, seen: Snapshot) -> None:
        self.snapshot = seen
        self.drawn.emit(seen)

    def draw_ledger(self, ledger: Ledger) -> None:
        self.ledger_drawn.emit(ledger)


class MemoryBar(QWidget):
    """The GPU's memory: what others use, what Idlebloom uses, and from where it is left to the owner."""

    def __init__(self) -> None:
        super().__init__()
        self.total, self.others, self.ours, self.left = 1, 0, 0, 0
        self.setFixedHeight(26)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_use(self, total: int, others: int, ours: int, left: int) -> None:
        self.total, self.others, self.ours, self.left = max(1, total), others, ours, left
        parts.named(
            self,
            _("Video memory in use"),
            _("{others} by other programs, {ours} by Idlebloom, {left} left for you, of {total}").format(
                others=size(others), ours=size(ours), left=size(left), total=size(total)
            ),
        )
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 – Qt's name
        c = style.colours()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.layoutDirection() is Qt.LayoutDirection.RightToLeft:
            painter.translate(self.width(), 0)
            painter.scale(-1, 1)
        wide, high = self.width(), 14
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(c.moss))
        painter.drawRoundedRect(QRectF(0, 6, wide, high), 5, 5)
        at = 0.0
        for amount, colour in ((self.others, c.petals[3]), (self.ours, c.bloom)):
            part = wide * min(1.0, amount / self.total)
            painter.setBrush(QColor(colour))
            painter.drawRoundedRect(QRectF(at, 6, max(0.0, part - 1), high), 4, 4)
            at += part
        mark = wide * (1 - min(1.0, self.left / self.total))
        painter.setBrush(QColor(c.ink))
        painter.drawRoundedRect(QRectF(min(mark, wide - 2.0), 1, 2, 24), 1, 1)
        painter.end()


class Memory(QWidget):
    """Below "leave N GB for me": the driver's live use."""

    def __init__(self, live: Live, panel: SettingsPanel) -> None:
        super().__init__()
        self._live, self._left = live, 0
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        self.words = parts.label(kind="small")
        self.bar = MemoryBar()
        layout.addWidget(self.bar)
        layout.addWidget(self.words)
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self.look)
        self._timer.start()
        panel.loaded.connect(self._loaded)
        self.look(force=True)

    def _loaded(self, settings: dict[str, Any]) -> None:
        gpu = self._live.pc.gpu
        if gpu is not None:
            self._left = gpu.memory_bytes - self._live.pc.room(settings.get("leave_vram_gb"))
            self.look(force=True)

    def look(self, force: bool = False) -> None:
        if self._live.pc.gpu is None:
            self.bar.hide()
            self.words.setText(lacks(self._live.pc))
            self._timer.stop()
            return
        if not force and not self.isVisible():
            return
        found = max(read_gpus().found, key=lambda gpu: gpu.memory_bytes, default=None)
        if found is None:
            self.words.setText(_("The driver does not answer now."))
            return
        ours = self._live.snapshot.status.vram.used if self._live.snapshot else 0
        used = found.memory_bytes - found.free_bytes
        self.bar.show_use(found.memory_bytes, max(0, used - ours), min(ours, used), self._left)
        self.words.setText(self.bar.accessibleDescription())


def rates(live: Live, panel: SettingsPanel, field: Field) -> QWidget:
    """Below a bandwidth cap: the rate now."""
    words = parts.label(kind="small")
    up = field.setting.name.startswith("up")

    def draw(seen: Snapshot) -> None:
        rate = phrases.rate(seen.status.rates.up if up else seen.status.rates.down)
        words.setText(_("Now: {rate}").format(rate=rate))

    live.drawn.connect(draw)
    return words


def quota(live: Live, panel: SettingsPanel, field: Field) -> QWidget:
    """Below the monthly quota: what this month used."""
    words = parts.label(kind="small")

    def draw(ledger: Ledger) -> None:
        month = today().isoformat()[:7]
        used = sum(d.given.up_bytes + d.given.down_bytes for d in ledger.days if d.date.startswith(month))
        words.setText(_("This month: {size}").format(size=size(used)))

    live.ledger_drawn.connect(draw)
    return words


class Kept(QWidget):
    """Below the disk's cap: what layers take, each deletable."""

    def __init__(self, live: Live, panel: SettingsPanel) -> None:
        super().__init__()
        self._live = live
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 4, 0, 0)
        self.words = parts.label(_("Looking…"), "small")
        self._layout.addWidget(self.words)
        self._rows = QVBoxLayout()
        self._rows.setSpacing(4)
        self._layout.addLayout(self._rows)
        self._layout.addLayout(
            parts.row(
                parts.button(
                    _("Look again"), self.look, "flat", _("Counts anew what layers take on the disk")
                )
            )
        )
        self._shown = False

    def showEvent(self, event: Any) -> None:  # noqa: N802 – Qt's name
        super().showEvent(event)
        if not self._shown:
            self._shown = True
            self.look()

    def look(self) -> None:
        commands.run(self, self._live.program, ["model"], self._draw, self._failed)

    def _failed(self, why: str) -> None:
        self.words.setText(sentence(why))

    def _draw(self, said: Any) -> None:
        layers = said.get("layers", []) if isinstance(said, dict) else []
        parts.clear(self._rows)
        total = sum(int(one["size"]) for one in layers)
        self.words.setText(
            _("Layers take {size}; {free} of the disk are free.").format(
                size=size(total), free=size(self._live.pc.free)
            )
        )
        for one in layers:
            name = str(one["name"])
            text = parts.label(f"{name}, {size(int(one['size']))}")
            about = _("Removes these layers from the disk; they are fetched again when they are needed")
            delete = parts.button(_("Delete"), partial(self._delete, name), "flat", about)
            delete.setAccessibleName(_("Delete {name}").format(name=name))
            line = parts.row(text, delete, stretch=False)
            line.setStretch(0, 1)
            self._rows.addLayout(line)

    def _delete(self, name: str) -> None:
        commands.run(
            self, self._live.program, ["model", "delete", name], lambda said: self.look(), self._failed
        )


def folder(live: Live, panel: SettingsPanel, field: Field) -> QWidget:
    """Beside a folder: a dialog to choose it with; where the node sees no folder of this PC, what it has."""
    if not pc.shares_folders():
        field.editor.setEnabled(False)
        words = _("On Windows they lie on the disk of Idlebloom's Linux part: {file}")
        return parts.label(words.format(file=Place.of_user().disk), "small")

    def choose() -> None:
        start = str(panel.values.get("data_dir") or live.paths.cache)
        found = QFileDialog.getExistingDirectory(field, _("A folder for layers"), start)
        if found:
            field.offer({field.setting.name: str(Path(found))})

    if isinstance(field.editor, TextEditor):
        field.editor.add(_("Choose…"), choose, _("Choose a folder"))
    return QLabel()


def programs(live: Live, panel: SettingsPanel, field: Field) -> QWidget:
    """Below named programs: those that run now, to be added by a click."""
    made = parts.button(_("Add a program that runs now"), None, "menu", _("Lists what you run now"))
    menu = QMenu(made)
    made.setMenu(menu)

    def add(name: str) -> None:
        present = panel.values.get(field.setting.name)
        old = list(present) if isinstance(present, list) else [p for p in str(present or "").split(",") if p]
        if name not in old:
            names = [*old, name]
            field.offer({field.setting.name: names if isinstance(present, list) else ",".join(names)})

    def added(name: str, _checked: bool = False) -> None:
        add(name)

    def refill() -> None:
        menu.clear()
        for name in running():
            menu.addAction(name).triggered.connect(partial(added, name))

    menu.aboutToShow.connect(refill)
    holder = QWidget()
    layout = parts.row(made)
    layout.setContentsMargins(0, 0, 0, 0)
    holder.setLayout(layout)
    return holder


def running() -> list[str]:
    """The names of this user's programs, each once."""
    import getpass

    import psutil

    me = getpass.getuser()
    names = set()
    for process in psutil.process_iter(["name", "username"]):
        if process.info["username"] == me and process.info["name"]:
            names.add(str(process.info["name"]))
    return sorted(names, key=str.lower)[:200]


Make = Callable[[Live, SettingsPanel, Field], QWidget]
EXTRAS: dict[str, Make] = {
    "leave_vram_gb": lambda live, panel, field: Memory(live, panel),
    "upload_mbit": rates,
    "download_mbit": rates,
    "monthly_gb": quota,
    "disk_gb": lambda live, panel, field: Kept(live, panel),
    "data_dir": folder,
    "yield_programs": programs,
}
