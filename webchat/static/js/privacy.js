// Who can read what is typed, and the licence that the node has no acceptance of yet: shown before the first use,
// and whenever asked for.

import { byId } from "./dom.js";

const KEY = "idlebloom.privacy";

export function setUpPrivacy(notice) {
  const dialog = byId("privacy");
  for (const button of document.querySelectorAll("[data-opens=privacy]")) {
    button.addEventListener("click", () => dialog.showModal());
  }
  dialog.addEventListener("close", () => agree(dialog, notice));
  const isNew = dialog.dataset.first === "yes" && known() !== dialog.dataset.text;
  if (isNew || dialog.dataset.licence) dialog.showModal();
}

function known() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

// Closing it with Escape does not count as having read it, but it does not come back while the page is open.
async function agree(dialog, notice) {
  if (dialog.returnValue !== "yes") return;
  try {
    localStorage.setItem(KEY, dialog.dataset.text);
  } catch {
    // It is shown again next time.
  }
  if (dialog.dataset.licence) await accept(dialog, notice);
}

async function accept(dialog, notice) {
  const answer = await fetch("/api/licence", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ accept: dialog.dataset.licence }),
  }).then((given) => given, () => null);
  if (!answer?.ok) {
    notice("That the licence is accepted could not be kept. Open the page anew.");
    return;
  }
  dialog.dataset.licence = "";
  dialog.querySelector("button[value=yes]").textContent = "I understand";
}
