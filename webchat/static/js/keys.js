// Keys that work anywhere on the page, and the list of them.

import { byId } from "./dom.js";

export function setUpKeys({ begin, search }) {
  const dialog = byId("keys-dialog");
  byId("keys-button").addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    const has = event.ctrlKey || event.metaKey;
    if (!has || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
    const key = event.key.toLowerCase();
    if (key === "/") dialog.showModal();
    else if (key === "o" && event.shiftKey) begin();
    else if (key === "k" && !event.shiftKey) {
      const sidebar = byId("sidebar");
      if (getComputedStyle(sidebar).display === "none") sidebar.showPopover();
      search().focus();
    } else return;
    event.preventDefault();
  });
  document.addEventListener("close", giveCaretBack, true);
}

// Of a dialog that was closed by a click Chromium gives the focus back to a field, but no caret: what is typed is lost.
function giveCaretBack() {
  const field = document.activeElement;
  if (!field?.matches("textarea, input")) return;
  field.blur();
  field.focus({ preventScroll: true });
}
