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
}
