// The chat page: the store in the middle, the socket on one side, the views on the other.

import { bloom, ownersOf } from "./bloom.js";
import { closeDrawer, markChat, readChats, setUpChats } from "./chats.js";
import { byId, element } from "./dom.js";
import { drawDonor, setUpDonor } from "./donor.js";
import { setUpKeys } from "./keys.js";
import { Line } from "./line.js";
import { setUpPrivacy } from "./privacy.js";
import { samplingFields, setUpSampling } from "./sampling.js";
import { store } from "./store.js";
import { TurnView } from "./turn.js";
import { setUpUnplug, showUnplug } from "./unplug.js";
import { drawWays, setUpWays } from "./ways.js";
import { capital, count, missingWords, rate } from "./words.js";

const DRAFT = "idlebloom.draft";
const SYSTEM = "idlebloom.system";

const line = new Line();
const field = byId("question");
const system = byId("system");
const scroller = byId("scroller");
let views = []; // of the turns that are shown, in order
let card = null;
let swarm = null;
let offers = null;
let expected; // tokens a second that the swarm promises; null: not known yet
let next = 0; // the timer that asks the swarm again
let drawn = ""; // what the large flower shows
let isConnected = false;
let follows = true;
let waitsFor = ""; // a question that the node has not taken yet

function send(question) {
  const text = question.trim();
  if (!text || store.running()) return false;
  return say(text, store.leaf);
}

function say(text, parent) {
  const about = { conversation: store.conversation, parent, text, ...samplingFields() };
  if (!store.conversation) about.system = system.value;
  return deliver("say", about, text);
}

function deliver(kind, fields, text = "") {
  follows = true;
  notice("");
  waitsFor = text;
  if (line.send(kind, fields)) return true;
  notice("The connection to Idlebloom was lost. See that it is still running on this computer.");
  return false;
}

const acts = {
  again: (question) => {
    if (store.running()) return;
    deliver("again", { conversation: store.conversation, question: question.id, ...samplingFields() });
    field.focus();
  },
  edit: (question, text) => {
    if (say(text, question.parent)) field.focus();
  },
  choose: (version, name) => {
    const leaf = store.newest(version).id;
    const at = store.turns().findIndex((turn) => [turn.question, turn.answer].some((one) => one?.parent === version.parent));
    const label = document.activeElement?.dataset.icon;
    follows = false;
    store.choose(leaf);
    line.send("set", { conversation: store.conversation, leaf });
    // The button that was pressed is drawn anew: the keyboard stays at its place.
    const row = views[at]?.root.querySelector(name === "question" ? ".mine" : ".under .row");
    const again = row?.querySelector(`[data-icon=${label}]:enabled`) ?? row?.querySelector("[data-icon=left]:enabled, [data-icon=right]:enabled");
    again?.focus();
  },
};

function stop() {
  if (store.running()) line.send("stop", { conversation: store.conversation });
}

function open(id) {
  if (location.hash.slice(1) !== (id ?? "")) history.pushState(null, "", id ? `#${id}` : "/");
  if (!id) startOver();
  line.send("show", { conversation: id });
}

function startOver() {
  notice("");
  follows = true;
  store.clear();
  system.value = remembered();
}

function notice(words) {
  byId("notice").textContent = words;
  byId("notice").hidden = !words;
}

// From the socket into the store.

line.addEventListener("hello", ({ detail }) => {
  isConnected = true;
  card = detail.card;
  offers = detail.offers;
  drawWelcome(detail);
  showUnplug(offers);
  drawSwarm();
  line.send("show", { conversation: location.hash.slice(1) || null });
  readChats();
});
line.addEventListener("status", ({ detail }) => {
  swarm = detail.status.swarm;
  drawSwarm();
  readSwarm();
  if (byId("donor")) drawDonor(detail.status, card?.blocks);
});
line.addEventListener("conversations", readChats);
line.addEventListener("shown", ({ detail }) => {
  follows = true;
  system.value = detail.system;
  store.load(detail);
});
line.addEventListener("deleted", ({ detail }) => {
  if (location.hash.slice(1) !== detail.conversation) return;
  history.replaceState(null, "", "/");
  startOver();
});
line.addEventListener("said", ({ detail: { conversation, messages } }) => {
  if (!store.conversation) history.replaceState(null, "", `#${conversation}`);
  waitsFor = "";
  store.add(conversation, messages);
});
for (const kind of ["started", "moved", "unplugged"]) {
  line.addEventListener(kind, ({ detail: { type, message, ...facts } }) => {
    if (ours(facts)) store.change(message, { ...facts, waiting: null });
  });
}
line.addEventListener("waiting", ({ detail }) => ours(detail) && store.change(detail.message, { waiting: detail.missing }));
line.addEventListener("piece", ({ detail }) => ours(detail) && store.piece(detail.message, detail.text));
line.addEventListener("block", ({ detail }) => ours(detail) && store.block(detail.message, detail.html, detail.upto));
line.addEventListener("ended", ({ detail: { type, message, html, upto, ...facts } }) => {
  if (!ours(facts)) return;
  if (html) store.block(message, html, upto);
  store.change(message, facts);
  readSwarm();
});
document.addEventListener("visibilitychange", readSwarm);
line.addEventListener("refused", ({ detail: { title, advice } }) => {
  notice(`${title} ${advice}`);
  if (waitsFor && !field.value) field.value = waitsFor;
  fitField();
});
line.addEventListener("lost", () => {
  isConnected = false;
  drawSwarm();
});
// A message of the conversation that was shown before may still be on its way.
function ours({ conversation }) {
  return conversation === store.conversation;
}

// From the store to the page.

store.subscribe((changed) => {
  if (!changed) drawTurns();
  else {
    views.find((view) => view.answer === changed)?.draw();
    if (changed.memory_start) drawMemory();
  }
  drawButtons();
  if (follows) scrollDown();
});

function drawTurns() {
  const turns = store.turns().filter((turn) => turn.answer);
  const isNew = views.length === 0 && turns.length > 1;
  const log = byId("log");
  if (isNew) log.setAttribute("aria-live", "off"); // an old chat that is opened is not read out whole
  const same = views.findIndex((view, at) => view.question !== turns[at]?.question || view.answer !== turns[at]?.answer);
  for (const view of views.splice(same < 0 ? views.length : same)) view.root.remove();
  for (const turn of turns.slice(views.length)) {
    const view = new TurnView(turn, card?.blocks ?? 0, acts);
    views.push(view);
    log.append(view.root);
  }
  byId("welcome").hidden = views.length > 0;
  log.hidden = !views.length;
  drawMemory();
  markChat();
  if (isNew) setTimeout(() => log.removeAttribute("aria-live"), 500);
}

// Where the model's memory starts, by the newest answer that had to forget something.
function drawMemory() {
  const start = views.at(-1)?.answer.memory_start;
  const view = start && views.find((one) => one.question.id === start);
  const mark = byId("memory");
  if (view && mark && mark.nextElementSibling === view.root) return;
  mark?.remove();
  if (!view) return;
  const words = "The model remembers from here on. What is above no longer fits into its memory.";
  view.root.before(element("p", { id: "memory", class: "memory", text: words }));
}

function drawButtons() {
  const running = store.running() !== null;
  const moves = document.activeElement === byId("stop") || document.activeElement === byId("send");
  byId("stop").hidden = !running;
  byId("send").hidden = running;
  byId("send").disabled = !field.value.trim();
  // A button that vanishes must not take the keyboard's place with it.
  if (moves && document.activeElement === document.body) field.focus();
}

function drawWelcome({ card, title, advice }) {
  byId("welcome-note").textContent = card ? card.note : `${title} ${advice}`;
  byId("programs-url").textContent = `${location.origin}/v1`;
  byId("programs-model").textContent = card?.model_id ?? "";
  byId("model").textContent = card ? `${card.model_id}, licence ${card.licence}. ` : "";
  const buttons = (card?.questions ?? []).map((question) => {
    const button = element("button", { type: "button", text: question });
    button.addEventListener("click", () => {
      send(question);
      field.focus();
    });
    return element("li", {}, button);
  });
  byId("questions").replaceChildren(...buttons);
}

function drawSwarm() {
  const chip = byId("swarm");
  const [state, words] = swarmWords();
  chip.dataset.state = state;
  byId("swarm-model").textContent = state === "whole" ? `${card.model_id} · ` : "";
  // In brackets is what a narrow window leaves out; screen readers hear it all the same.
  const parts = words.split(/[[\]]/).map((part, at) => (at % 2 ? element("span", { class: "roomy", text: part }) : part));
  byId("swarm-words").replaceChildren(...parts);
  drawWays(isConnected ? card : null, swarm, offers);
}

function swarmWords() {
  if (!isConnected) return ["lost", card ? "Not connected" : "Connecting…"];
  if (!card) return ["holes", "No model"];
  if (!swarm) return ["waiting", card.model_id];
  if (swarm.whole) {
    const unknown = expected === null ? "[, speed not known yet]" : "";
    const speed = expected ? `, [about ]${rate(expected)} tokens/s` : unknown;
    return ["whole", `[whole, ]${count(swarm.donors, "donor")}${speed}`];
  }
  return ["holes", capital(holeWords())];
}

function holeWords() {
  return swarm.missing.length ? missingWords(swarm.missing, card.blocks) : "waiting for donors";
}

// Speeds and ways are measured again and again, and no status tells of them.
async function readSwarm() {
  if (!card || !swarm) return;
  clearTimeout(next);
  const state = document.hidden ? null : await fetch("/api/v1/state").then((answer) => (answer.ok ? answer.json() : null), () => null);
  if (state) expected = state.expected_rate;
  clearTimeout(next); // of another call that waited too
  next = setTimeout(readSwarm, expected ? 30000 : 4000);
  if (!state) return;
  drawSwarm();
  drawBigBloom(state.donors.filter((donor) => donor.state === "online"));
}

function drawBigBloom(online) {
  const layers = card.blocks + 2;
  const owners = ownersOf(online, layers);
  const words = swarm.whole
    ? swarm.donors === 1 ? "One donor holds all of this model." : `${count(swarm.donors, "donor")} hold this model, a colour each.`
    : `The model is not whole: ${holeWords()}.`;
  byId("bloom-words").textContent = words;
  if (drawn === JSON.stringify(owners)) return;
  drawn = JSON.stringify(owners);
  byId("big-bloom").replaceChildren(bloom(owners, Math.min(layers, 12)));
}

// Scrolling follows the answer until the reader scrolls up.

scroller.addEventListener("scroll", () => {
  follows = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
  byId("latest").hidden = follows;
});
byId("latest").addEventListener("click", () => {
  scrollDown();
  field.focus();
});

function scrollDown() {
  scroller.scrollTop = scroller.scrollHeight;
}

// Typing.

function fitField() {
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 220)}px`;
  drawButtons();
}

function keepDraft() {
  try {
    sessionStorage.setItem(DRAFT, field.value);
  } catch {
    // A browser that keeps nothing still chats.
  }
}

field.addEventListener("input", () => {
  fitField();
  keepDraft();
});
field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});
byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!send(field.value)) return;
  field.value = "";
  keepDraft();
  fitField();
  field.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && !document.querySelector(":popover-open, dialog[open]")) stop();
});
byId("stop").addEventListener("click", stop);
byId("new").addEventListener("click", () => begin());

function begin() {
  closeDrawer();
  open(null);
  field.focus();
}

// What the model is told first: of a new chat in this browser, of another with the chat.

system.addEventListener("change", () => {
  if (store.conversation) {
    line.send("set", { conversation: store.conversation, system: system.value });
    return;
  }
  try {
    localStorage.setItem(SYSTEM, system.value);
  } catch {
    // A browser that keeps nothing still chats.
  }
});

function remembered() {
  try {
    return localStorage.getItem(SYSTEM) ?? "";
  } catch {
    return "";
  }
}

// An answer that is being made may lose a donor; where there is none, a question makes one.
function showRecovery() {
  if (store.running()) return;
  const asked = new Set([...store.messages.values()].map((one) => one.text));
  const questions = card?.questions ?? [];
  send(questions.find((one) => !asked.has(one)) ?? questions[0] ?? "Tell me a story.");
}

addEventListener("popstate", () => open(location.hash.slice(1) || null));
try {
  field.value = sessionStorage.getItem(DRAFT) ?? "";
} catch {
  // As above.
}
system.value = remembered();
setUpChats(open);
setUpPrivacy(notice);
setUpUnplug(showRecovery, notice);
setUpWays();
if (byId("donor")) setUpDonor();
byId("programs-button").addEventListener("click", () => byId("programs").showModal());
setUpKeys({ begin, search: () => byId("search") });
setUpSampling();
fitField();
line.open();
