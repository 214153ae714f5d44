"""Every setting in the panel, by keyboard and by mouse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PySide6.QtCore import QPoint
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QCheckBox, QComboBox, QLabel, QLineEdit, QScrollArea

from core.declare import Section, Setting
from core.kinds import Addresses, Decimal, Device, Folder, Hours, Names, Whole
from core.settings import DECLARED, to_json
from desktop import pc
from desktop.app import App
from desktop.editors import ChoiceEditor, NumberEditor, SwitchEditor
from desktop.labels import SECTIONS, about, option
from desktop.models import ModelsPage
from desktop.settings_panel import Field, SettingsPanel
from desktop.window import Page
from tests.desktop.door_server import FakeDoor
from tests.desktop.hands import click, focus, press, write

Until = Callable[[Callable[[], object]], None]
TYPED: dict[type, tuple[str, Any]] = {
    Addresses: (
        "/ip4/203.0.113.7/tcp/31337/p2p/12D3KooWPeer",
        ["/ip4/203.0.113.7/tcp/31337/p2p/12D3KooWPeer"],
    ),
    Device: ("cpu", "cpu"),
    Folder: ("/tmp", "/tmp"),
    Names: ("quake, blender", ["quake", "blender"]),
}
"""What is typed into a field of a kind, and what the node gets."""
HOURS = "22:00-06:00"


@pytest.fixture
def app(make_app: Callable[..., App], until: Until) -> App:
    made = make_app()
    made.show_window(Page.SETTINGS)
    until(lambda: panel_of(made).values)
    return made


@pytest.fixture
def panel(app: App) -> SettingsPanel:
    return panel_of(app)


def panel_of(app: App) -> SettingsPanel:
    """The one of the window that is open: another language makes it anew."""
    assert app.window is not None
    found = app.window.pages[Page.SETTINGS]
    assert isinstance(found, SettingsPanel)
    return found


def bring(panel: SettingsPanel, field: Field) -> None:
    """Scroll to a field, as a person would."""
    panel.show_setting(field.setting.name)
    for area in panel.findChildren(QScrollArea):
        if area.isAncestorOf(field):
            area.ensureWidgetVisible(field, 0, 40)
    QApplication.processEvents()


def other(setting: Setting, now: Any) -> tuple[str, Any]:
    """Another value than the present one: as typed, and as JSON."""
    kind = setting.kind
    if isinstance(kind, Whole):
        value = kind.low + 1 if now != kind.low + 1 else kind.low + 2
        return str(value), value
    if isinstance(kind, Decimal):
        value = next(v for v in (4.0, kind.high, kind.low) if kind.low <= v <= kind.high and v != now)
        return f"{value:g}", value
    if isinstance(kind, Hours):
        return HOURS, kind.parse(HOURS)
    return TYPED.get(type(kind), ("bigscience/bloomz-560m", "bigscience/bloomz-560m"))


@pytest.mark.xvfb
def test_by_keyboard(app: App, door: FakeDoor, until: Until) -> None:
    """Each setting is changed with keys alone, and only it is sent."""
    for name in DECLARED:
        until(lambda: panel_of(app).values)
        by_keyboard(name, app, door, until)


def by_keyboard(name: str, app: App, door: FakeDoor, until: Until) -> None:
    door.put.clear()
    panel = panel_of(app)
    field, setting = panel.fields[name], DECLARED[name]
    bring(panel, field)
    editor = field.editor
    main = editor.controls()[0]
    if isinstance(editor, NumberEditor) and editor.unset is not None and editor.unset.isChecked():
        focus(editor.unset, until)
        press("space")
        until(lambda: door.put and panel.values[name] is not None)
    focus(main, until)
    if isinstance(editor, SwitchEditor):
        expected: Any = not panel.values[name]
        press("space")
    elif isinstance(editor, ChoiceEditor):
        last = editor.combo.currentIndex() == editor.combo.count() - 1
        expected = editor.combo.itemData(editor.combo.currentIndex() + (-1 if last else 1))
        press("Up" if last else "Down")
    else:
        assert isinstance(main, QLineEdit)
        text, expected = other(setting, panel.values[name])
        press("ctrl+a")
        write(text)
        press("Return")
    until(lambda: door.put and door.put[-1] == {name: expected})
    until(lambda: to_json(door.settings)[name] == expected == panel_of(app).values.get(name))
    assert not panel_of(app).fields[name].error.isVisible()


@pytest.mark.xvfb
def test_by_mouse(app: App, door: FakeDoor, until: Until, qt: QApplication) -> None:
    """Each setting is changed with the pointer; where only text will do, a click into the field and out of
    it."""
    qt.setDoubleClickInterval(1)  # a list that has just opened takes no click for so long
    for name in DECLARED:
        until(lambda: panel_of(app).values)
        by_mouse(name, app, door, until)


def by_mouse(name: str, app: App, door: FakeDoor, until: Until) -> None:
    door.put.clear()
    panel = panel_of(app)
    field, setting = panel.fields[name], DECLARED[name]
    bring(panel, field)
    editor = field.editor
    before = panel.values[name]
    if isinstance(editor, SwitchEditor):
        click(editor.box, QPoint(18, editor.box.height() // 2))
    elif isinstance(editor, ChoiceEditor):
        click(editor.combo)
        view = editor.combo.view()
        until(view.isVisible)
        QTest.qWait(20)
        row = (editor.combo.currentIndex() + 1) % editor.combo.count()
        click(view.viewport(), view.visualRect(view.model().index(row, 0)).center())
        until(lambda: not view.isVisible())
    elif isinstance(editor, NumberEditor):
        if editor.unset is not None and editor.unset.isChecked():
            click(editor.unset, QPoint(18, editor.unset.height() // 2))
        else:
            at_top = isinstance(setting.kind, Whole) and before >= setting.kind.high
            click(editor.less if at_top else editor.more)
    else:
        line = editor.controls()[0]
        assert isinstance(line, QLineEdit)
        click(line)
        until(line.hasFocus)
        press("ctrl+a")
        write(other(setting, before)[0])
        click(field.help)
    until(lambda: door.put and list(door.put[-1]) == [name])
    until(lambda: panel_of(app).values.get(name, before) != before)


def test_what_is_wrong_is_said_beside_the_field(panel: SettingsPanel, door: FakeDoor) -> None:
    """A value out of its limits is not sent; the reason is tied to the field, and what was typed stays."""
    for name, field in panel.fields.items():
        line = field.editor.controls()[0]
        if not isinstance(line, QLineEdit):
            continue
        bring(panel, field)
        if isinstance(field.editor, NumberEditor) and field.editor.unset is not None:
            field.editor.unset.setChecked(False)
        wrong = "\x01" if name in ("model", "yield_programs") else "zzz"
        line.setText(wrong)
        field.editor.changed.emit()
        assert field.error.isVisible() and field.error.text(), name
        assert field.error.text() in line.accessibleDescription()
        assert line.text() == wrong
    assert door.put == []


def test_what_the_node_refuses_is_said_beside_the_field(panel: SettingsPanel, until: Until) -> None:
    """The node's own words, and the value that holds stays known."""
    field = panel.fields["port"]
    bring(panel, field)
    field.offer({"port": 80})
    until(field.error.isVisible)
    assert "65535" in field.error.text() and panel.values["port"] == 7714


def test_every_setting_has_its_words(panel: SettingsPanel) -> None:
    """Each has a label, its plain explanation, an accessible name, a section; each option a name."""
    assert set(panel.fields) == set(DECLARED)
    assert set(SECTIONS) == set(Section)
    for name, field in panel.fields.items():
        assert field.label.text() and field.help.text() == about(DECLARED[name])
        for control in field.editor.controls():
            assert control.accessibleName() and control.accessibleDescription(), name
        if isinstance(field.editor, ChoiceEditor):
            texts = [field.editor.combo.itemText(i) for i in range(field.editor.combo.count())]
            assert all(texts) and len(set(texts)) == len(texts)
    assert option("donate", "when_idle") == "While nobody uses this PC"


def test_changed_elsewhere(panel: SettingsPanel, door: FakeDoor, until: Until) -> None:
    """What another program changed is shown when the page is opened again."""
    from core.settings import changed

    door.settings = changed(door.settings, {"start_at_login": True})
    panel.refresh()
    box = panel.fields["start_at_login"].editor.controls()[0]
    assert isinstance(box, QCheckBox)
    until(box.isChecked)


def test_the_wheel_scrolls_and_changes_nothing(panel: SettingsPanel) -> None:
    """A choice under the pointer is not changed by scrolling the page."""
    assert all(type(combo).__name__ == "Combo" for combo in panel.findChildren(QComboBox))
    assert panel.findChildren(QLabel)


def test_on_windows_no_folder_is_offered(
    make_app: Callable[..., App], until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its Linux sees none of Windows' folders: neither layers nor a model can lie in one. Where layers lie is
    said."""
    monkeypatch.setattr(pc, "shares_folders", lambda: False)
    made = make_app()
    made.show_window(Page.SETTINGS)
    panel = panel_of(made)
    until(lambda: panel.values)
    field = panel.fields["data_dir"]
    assert not field.editor.isEnabled()
    assert any("ext4.vhdx" in label.text() for label in field.findChildren(QLabel))
    assert made.window is not None
    models = made.window.pages[Page.MODELS]
    assert isinstance(models, ModelsPage) and models.chooser.folder.isHidden()
