// Who can read what is typed: shown before the first use, and whenever asked for.

import { byId } from "./dom.js";

const KEY = "idlebloom.privacy";

export function setUpPrivacy() {
  const dialog = byId("privacy");
  for (const button of document.querySelectorAll("[data-opens=privacy]")) {
    button.addEventListener("click", () => dialog.showModal());
  }
  dialog.addEventListener("close", remember);
  if (dialog.dataset.first === "yes" && known() !== dialog.dataset.text) dialog.showModal();
}

function known() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

// Closing it with Escape does not count as having read it, but it does not come back while the page is open.
function remember() {
  const dialog = byId("privacy");
  if (dialog.returnValue !== "yes") return;
  try {
    localStorage.setItem(KEY, dialog.dataset.text);
  } catch {
    // It is shown again next time.
  }
}
