"""Colours and type of the desktop's windows: the page's mist and moss, in a light and a dark set."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory

from core.paths import code


@dataclass(frozen=True)
class Colours:
    name: str
    paper: str
    surface: str
    ink: str
    soft: str
    line: str
    moss: str
    bloom: str
    bloom_ink: str
    mist: str
    warn: str
    warn_mist: str
    fern: str
    petals: tuple[str, ...]


LIGHT = Colours(
    "light", "#f3f6f2", "#ffffff", "#1c2621", "#56635c", "#d9e1da", "#e3ece4", "#b02a68", "#ffffff", "#f8e7ef",
    "#8a4b00", "#fdf1df", "#2f7d50", ("#cc4a82", "#dd9420", "#43976a", "#3f8bc9", "#7668cf", "#a15ab5"),
)  # fmt: skip
DARK = Colours(
    "dark", "#111715", "#18201d", "#e5ece7", "#9dada4", "#2b3632", "#22302a", "#ff8fbb", "#33091c", "#3a1f2c",
    "#f0b768", "#33281a", "#74cf9c", ("#f07aa9", "#f0b24e", "#6cc394", "#6db4ec", "#a295f2", "#c98add"),
)  # fmt: skip


def colours() -> Colours:
    """The set that fits the desktop."""
    return DARK if QGuiApplication.styleHints().colorScheme() is Qt.ColorScheme.Dark else LIGHT


def dress(app: QApplication) -> None:
    """Give the whole application its looks, now and when the desktop turns dark or light."""
    app.setStyle(QStyleFactory.create("Fusion"))
    _wear(app)
    QGuiApplication.styleHints().colorSchemeChanged.connect(lambda _: _wear(app))


def _wear(app: QApplication) -> None:
    chosen = colours()
    app.setPalette(_palette(chosen))
    app.setStyleSheet(sheet(chosen))


def _palette(c: Colours) -> QPalette:
    palette = QPalette()
    for role, colour in (
        (QPalette.ColorRole.Window, c.paper),
        (QPalette.ColorRole.WindowText, c.ink),
        (QPalette.ColorRole.Base, c.surface),
        (QPalette.ColorRole.AlternateBase, c.moss),
        (QPalette.ColorRole.Text, c.ink),
        (QPalette.ColorRole.Button, c.surface),
        (QPalette.ColorRole.ButtonText, c.ink),
        (QPalette.ColorRole.Highlight, c.bloom),
        (QPalette.ColorRole.HighlightedText, c.bloom_ink),
        (QPalette.ColorRole.ToolTipBase, c.surface),
        (QPalette.ColorRole.ToolTipText, c.ink),
        (QPalette.ColorRole.PlaceholderText, c.soft),
        (QPalette.ColorRole.Link, c.bloom),
        (QPalette.ColorRole.Mid, c.line),
        (QPalette.ColorRole.Light, c.surface),
        (QPalette.ColorRole.Midlight, c.moss),
        (QPalette.ColorRole.Dark, c.line),
    ):
        palette.setColor(role, QColor(colour))
    for role in (QPalette.ColorRole.WindowText, QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, QColor(c.soft))
    return palette


def sheet(c: Colours) -> str:
    """The style sheet. ``kind`` is a property that widgets are given by ``desktop.parts``."""
    icons = (code() / "assets" / "icons").as_posix()
    return f"""
* {{ font-size: 10.5pt; }}
QMainWindow, QDialog, QScrollArea, QStackedWidget, QWidget[kind="page"] {{ background: {c.paper}; }}
QScrollArea {{ border: none; }}
QLabel {{ background: transparent; color: {c.ink}; }}
QLabel[kind="hero"] {{ font-size: 22pt; font-family: Palatino, P052, "Noto Serif", "Liberation Serif", "DejaVu Serif", serif; }}
QLabel[kind="title"] {{ font-size: 16pt; font-family: Palatino, P052, "Noto Serif", "Liberation Serif", "DejaVu Serif", serif; }}
QLabel[kind="heading"] {{ font-weight: 600; }}
QLabel[kind="soft"] {{ color: {c.soft}; }}
QLabel[kind="small"] {{ color: {c.soft}; font-size: 9.5pt; }}
QLabel[kind="figure"] {{ font-size: 19pt; }}
QLabel[kind="error"] {{ color: {c.warn}; background: {c.warn_mist}; border-radius: 6px; padding: 4px 8px; }}
QLabel[kind="saved"] {{ color: {c.fern}; }}
QFrame[kind="card"] {{ background: {c.surface}; border: 1px solid {c.line}; border-radius: 14px; }}
QFrame[kind="warning"] {{ background: {c.warn_mist}; border: none; border-radius: 14px; }}
QFrame[kind="line"] {{ background: {c.line}; border: none; max-height: 1px; min-height: 1px; }}
QFrame[kind="rail"] {{ background: {c.moss}; border: none; }}
QFrame[kind="rail"] QLabel[kind="brand"] {{ font-size: 14pt; font-weight: 600; }}
QListWidget[kind="rail"] {{ background: transparent; border: none; outline: none; }}
QListWidget[kind="rail"]::item {{ padding: 8px 12px; border-radius: 9px; margin: 1px 0; border: 2px solid transparent; color: {c.ink}; }}
QListWidget[kind="rail"]::item:hover {{ background: {c.paper}; }}
QListWidget[kind="rail"]::item:selected {{ background: {c.surface}; color: {c.ink}; }}
QListWidget[kind="rail"][lit="true"]::item:selected {{ border-color: {c.bloom}; }}
QListWidget[kind="plain"] {{ background: transparent; border: none; outline: none; }}
QListWidget[kind="plain"]::item {{ padding: 5px 2px; color: {c.ink}; }}
QListWidget[kind="plain"]::item:selected {{ background: {c.moss}; border-radius: 6px; }}
QListWidget[kind="plain"]:focus {{ border: 2px solid {c.bloom}; border-radius: 8px; }}
QStackedWidget[kind="clear"] {{ background: transparent; }}
QPushButton {{ background: {c.surface}; color: {c.ink}; border: 1px solid {c.line}; border-radius: 10px; padding: 7px 15px; }}
QPushButton:hover {{ background: {c.moss}; }}
QPushButton:focus {{ border: 2px solid {c.bloom}; padding: 6px 14px; }}
QPushButton:pressed {{ background: {c.line}; }}
QPushButton:disabled {{ color: {c.soft}; background: {c.paper}; }}
QPushButton::menu-indicator {{ image: url("{icons}/down-{c.name}.svg"); width: 12px; height: 12px; subcontrol-position: center right; right: 10px; }}
QPushButton[kind="menu"] {{ padding-right: 30px; }}
QPushButton[kind="menu"]:focus {{ padding-right: 29px; }}
QPushButton[kind="primary"] {{ background: {c.bloom}; color: {c.bloom_ink}; border: 1px solid {c.bloom}; font-weight: 600; }}
QPushButton[kind="primary"]:hover {{ background: {c.petals[0]}; }}
QPushButton[kind="primary"]:focus {{ border: 2px solid {c.ink}; }}
QPushButton[kind="primary"]:disabled {{ background: {c.line}; color: {c.soft}; border-color: {c.line}; }}
QPushButton[kind="flat"] {{ background: transparent; border: 1px solid transparent; color: {c.bloom}; padding: 5px 8px; }}
QPushButton[kind="flat"]:hover {{ background: {c.mist}; }}
QPushButton[kind="flat"]:focus {{ border: 2px solid {c.bloom}; padding: 4px 7px; }}
QPushButton[kind="flat"]:disabled {{ color: {c.soft}; }}
QPushButton[kind="step"] {{ padding: 3px 0; min-width: 30px; max-width: 30px; font-size: 12pt; }}
QPushButton[kind="step"]:focus {{ padding: 2px 0; }}
QLineEdit, QPlainTextEdit, QTextBrowser, QComboBox {{ background: {c.surface}; color: {c.ink}; border: 1px solid {c.line}; border-radius: 9px; padding: 6px 10px; selection-background-color: {c.bloom}; selection-color: {c.bloom_ink}; }}
QLineEdit:focus, QPlainTextEdit:focus, QTextBrowser:focus, QComboBox:focus {{ border: 2px solid {c.bloom}; padding: 5px 9px; }}
QLineEdit[wrong="true"] {{ border-color: {c.warn}; }}
QLineEdit:disabled, QComboBox:disabled {{ color: {c.soft}; background: {c.paper}; }}
QComboBox::drop-down {{ border: none; width: 28px; }}
QComboBox::down-arrow {{ image: url("{icons}/down-{c.name}.svg"); width: 12px; height: 12px; }}
QComboBox QAbstractItemView {{ background: {c.surface}; color: {c.ink}; border: 1px solid {c.line}; padding: 4px; selection-background-color: {c.moss}; selection-color: {c.ink}; outline: none; }}
QCheckBox, QRadioButton {{ color: {c.ink}; spacing: 9px; padding: 3px 4px; border: 2px solid transparent; border-radius: 8px; background: transparent; }}
QCheckBox:focus, QRadioButton:focus {{ border-color: {c.bloom}; }}
QCheckBox::indicator {{ width: 36px; height: 20px; image: url("{icons}/off-{c.name}.svg"); }}
QCheckBox::indicator:checked {{ image: url("{icons}/on-{c.name}.svg"); }}
QRadioButton::indicator {{ width: 16px; height: 16px; image: url("{icons}/radio-{c.name}.svg"); }}
QRadioButton::indicator:checked {{ image: url("{icons}/radio-on-{c.name}.svg"); }}
QProgressBar {{ background: {c.moss}; border: none; border-radius: 5px; max-height: 10px; min-height: 10px; }}
QProgressBar::chunk {{ background: {c.bloom}; border-radius: 5px; }}
QTabWidget::pane {{ border: none; }}
QTabBar {{ background: transparent; }}
QTabBar::tab {{ background: transparent; color: {c.soft}; padding: 8px 14px; border: 2px solid transparent; border-bottom: 2px solid transparent; }}
QTabBar::tab:selected {{ color: {c.ink}; border-bottom: 2px solid {c.bloom}; }}
QTabBar::tab:hover {{ color: {c.ink}; }}
QTabBar[lit="true"]::tab:selected {{ border: 2px solid {c.bloom}; border-radius: 8px; }}
QTableWidget {{ background: {c.surface}; color: {c.ink}; border: 1px solid {c.line}; border-radius: 9px; gridline-color: {c.line}; }}
QTableWidget:focus {{ border: 2px solid {c.bloom}; }}
QHeaderView::section {{ background: {c.moss}; color: {c.ink}; border: none; padding: 6px 10px; }}
QMenu {{ background: {c.surface}; color: {c.ink}; border: 1px solid {c.line}; padding: 5px; }}
QMenu::item {{ padding: 6px 26px 6px 12px; border-radius: 6px; }}
QMenu::item:selected {{ background: {c.moss}; }}
QMenu::item:disabled {{ color: {c.soft}; }}
QMenu::separator {{ height: 1px; background: {c.line}; margin: 5px 8px; }}
QToolTip {{ background: {c.surface}; color: {c.ink}; border: 1px solid {c.line}; padding: 4px; }}
QScrollBar:vertical {{ background: transparent; width: 12px; margin: 2px; }}
QScrollBar::handle:vertical {{ background: {c.line}; border-radius: 4px; min-height: 30px; }}
QScrollBar::handle:vertical:hover {{ background: {c.soft}; }}
QScrollBar:horizontal {{ background: transparent; height: 12px; margin: 2px; }}
QScrollBar::handle:horizontal {{ background: {c.line}; border-radius: 4px; min-width: 30px; }}
QScrollBar::add-line, QScrollBar::sub-line, QScrollBar::add-page, QScrollBar::sub-page {{ background: none; border: none; width: 0; height: 0; }}
"""
