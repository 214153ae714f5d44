// The list of conversations: search, open, rename, export, delete.

import { byId, element, icon } from "./dom.js";
import { store } from "./store.js";
import { count, dayWords } from "./words.js";

const list = byId("chats");
const menu = byId("chat-menu");
const sidebar = byId("sidebar");
let kept = [];
let chosen = null; // the conversation that the menu is about
let asked = 0;

/** `open` shows a conversation; null begins a new one. */
export function setUpChats(open) {
  byId("search").addEventListener("input", readChats);
  list.addEventListener("click", (event) => {
    const id = event.target.closest("[data-chat]")?.dataset.chat;
    if (id === undefined) return;
    if (event.target.closest(".more")) return openMenu(id, event.target.closest(".more"));
    event.preventDefault();
    closeDrawer();
    open(id);
  });
  byId("menu-rename").addEventListener("click", () => rename());
  byId("menu-delete").addEventListener("click", () => remove());
  byId("delete-all").addEventListener("click", () => removeAll());
  // Not a submit button: Enter in the field would press the first of those.
  byId("dialog-no").addEventListener("click", () => byId("dialog").close(""));
  for (const kind of ["markdown", "json"]) {
    byId(`menu-${kind}`).addEventListener("click", () => menu.hidePopover());
  }
}

export function closeDrawer() {
  if (sidebar.matches(":popover-open")) sidebar.hidePopover();
}

export async function readChats() {
  const number = ++asked;
  const words = byId("search").value.trim();
  const answer = await fetch(`/api/conversations?q=${encodeURIComponent(words)}`).catch(() => null);
  if (number !== asked || !answer?.ok) return;
  kept = (await answer.json()).conversations;
  draw(words);
}

export function markChat() {
  for (const link of list.querySelectorAll("a")) {
    if (link.dataset.chat === store.conversation) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function draw(words) {
  const focused = document.activeElement?.closest?.("#chats [data-chat]");
  list.replaceChildren(...days());
  byId("no-chats").hidden = kept.length > 0;
  byId("no-chats").textContent = words ? "No chat has these words." : "Chats that you begin are kept here.";
  byId("delete-all").hidden = !kept.length || Boolean(words);
  markChat();
  // A chat's link and its menu's button both name it: who was on the one is not moved to the other.
  if (focused) list.querySelector(`${focused.tagName}[data-chat="${focused.dataset.chat}"]`)?.focus();
}

/** The chats, newest first, below the day of their last message. */
function days() {
  const parts = [];
  let last = "";
  for (const chat of kept) {
    const day = dayWords(new Date(chat.changed * 1000), new Date());
    if (day !== last) {
      const id = `day-${parts.length}`;
      parts.push(element("p", { id, class: "day", text: day }), element("ul", { "aria-labelledby": id }));
      last = day;
    }
    parts.at(-1).append(row(chat));
  }
  return parts;
}

function row({ id, title }) {
  const link = element("a", { href: `#${id}`, text: title, title, "data-chat": id, dir: "auto" });
  const more = element(
    "button",
    { type: "button", class: "more", "data-chat": id, "aria-haspopup": "true" },
    icon("more"),
    element("span", { class: "unseen", text: `More about ${title}` }),
  );
  return element("li", {}, link, more);
}

function openMenu(id, button) {
  chosen = kept.find((one) => one.id === id);
  byId("menu-markdown").href = `/api/conversations/${id}/export?as=markdown`;
  byId("menu-json").href = `/api/conversations/${id}/export?as=json`;
  menu.showPopover({ source: button });
  const at = button.getBoundingClientRect();
  menu.style.left = `${Math.min(at.left, innerWidth - menu.offsetWidth - 8)}px`;
  menu.style.top = `${Math.min(at.bottom + 4, innerHeight - menu.offsetHeight - 8)}px`;
  byId("menu-rename").focus();
}

async function rename() {
  menu.hidePopover();
  const field = byId("dialog-name");
  field.hidden = false;
  field.value = chosen.title;
  if (!(await confirmed("Rename this chat", "", "Rename")) || !field.value.trim()) return;
  await send("PATCH", `/${chosen.id}`, { title: field.value.trim() });
}

async function remove() {
  menu.hidePopover();
  byId("dialog-name").hidden = true;
  const words = `“${chosen.title}” will be gone from this computer for good.`;
  if (await confirmed("Delete this chat?", words, "Delete")) await send("DELETE", `/${chosen.id}`);
}

async function removeAll() {
  byId("dialog-name").hidden = true;
  const words = `${count(kept.length, "chat")} will be gone from this computer for good.`;
  if (await confirmed("Delete all chats?", words, "Delete all")) await send("DELETE", "");
}

async function send(method, path, body) {
  const options = { method, headers: { "Content-Type": "application/json" } };
  if (body) options.body = JSON.stringify(body);
  await fetch(`/api/conversations${path}`, options).catch(() => null);
  await readChats();
}

function confirmed(title, words, yes) {
  const dialog = byId("dialog");
  byId("dialog-title").textContent = title;
  byId("dialog-words").textContent = words;
  byId("dialog-words").hidden = !words;
  byId("dialog-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  const field = byId("dialog-name");
  if (!field.hidden) field.select();
  return new Promise((done) =>
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }),
  );
}
