// The chat page: the store in the middle, the socket on one side, the views on the other.

import { bloom, ownersOf } from "./bloom.js";
import { byId, element } from "./dom.js";
import { Line } from "./line.js";
import { samplingFields, setUpSampling } from "./sampling.js";
import { store } from "./store.js";
import { TurnView } from "./turn.js";
import { capital, count, missingWords } from "./words.js";

const DRAFT = "idlebloom.draft";
const LOST = {
  title: "The connection to Idlebloom was lost.",
  advice: "See that it is still running on this computer. This page goes on looking for it.",
};

const line = new Line();
const views = new Map();
const field = byId("question");
const scroller = byId("scroller");
let card = null;
let swarm = null;
let isConnected = false;
let follows = true;

function send(question) {
  const text = question.trim();
  if (!text || store.running()) return false;
  deliver(store.ask(text));
  return true;
}

function retry(ask) {
  if (store.running()) return;
  const turn = store.again(ask);
  if (turn) deliver(turn);
  field.focus();
}

function deliver(turn) {
  follows = true;
  const fields = { ask: turn.ask, conversation: store.conversation, messages: store.messages(), ...samplingFields() };
  if (!line.send("ask", fields)) store.change(turn.ask, { state: "failed", error: LOST });
  scrollDown();
}

function stop() {
  if (store.running()) line.send("stop");
}

function startOver() {
  stop();
  line.send("forget", { conversation: store.clear() });
  field.focus();
}

// From the socket into the store.

line.addEventListener("hello", ({ detail }) => {
  isConnected = true;
  card = detail.card;
  drawWelcome(detail);
  drawSwarm();
});
line.addEventListener("status", ({ detail }) => {
  swarm = detail.status.swarm;
  drawSwarm();
  drawBigBloom();
});
line.addEventListener("started", ({ detail: { ask, route, seed } }) => {
  const isDrawn = samplingFields().sampling.temperature > 0;
  store.change(ask, { state: "streaming", route, seed: isDrawn ? seed : null });
});
line.addEventListener("piece", ({ detail }) => store.piece(detail.ask, detail.text));
line.addEventListener("ended", ({ detail }) => {
  store.change(detail.ask, { state: detail.finish === "cancelled" ? "stopped" : "done", stats: detail });
});
line.addEventListener("error", ({ detail: { ask, title, advice } }) => {
  if (ask !== undefined && ask !== null) store.change(ask, { state: "failed", error: { title, advice } });
});
line.addEventListener("lost", () => {
  isConnected = false;
  const running = store.running();
  if (running) store.change(running.ask, { state: "failed", error: LOST });
  drawSwarm();
});

// From the store to the page.

store.subscribe((turn) => {
  if (turn === null) clearLog();
  else if (turn.removed) removeTurn(turn.removed);
  else drawTurn(turn);
  drawButtons();
});

function drawTurn(turn) {
  const view = views.get(turn.ask);
  if (view) view.draw(turn);
  else {
    const made = new TurnView(turn, card?.blocks ?? 0, retry);
    views.set(turn.ask, made);
    byId("welcome").hidden = true;
    byId("log").hidden = false;
    byId("log").append(made.root);
  }
  if (follows) scrollDown();
}

function removeTurn(ask) {
  views.get(ask)?.root.remove();
  views.delete(ask);
}

function clearLog() {
  views.clear();
  byId("log").replaceChildren();
  byId("log").hidden = true;
  byId("welcome").hidden = false;
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
  byId("swarm-words").textContent = words;
}

function swarmWords() {
  if (!isConnected) return ["lost", card ? "Not connected" : "Connecting…"];
  if (!card) return ["holes", "No model"];
  if (!swarm) return ["waiting", card.model_id];
  if (swarm.whole) return ["whole", `whole, ${count(swarm.donors, "donor")}`];
  return ["holes", capital(holeWords())];
}

function holeWords() {
  return swarm.missing.length ? missingWords(swarm.missing) : "waiting for donors";
}

async function drawBigBloom() {
  if (!card || !swarm) return;
  const layers = card.blocks + 2;
  const state = await fetch("/api/v1/state").then((answer) => (answer.ok ? answer.json() : null), () => null);
  const online = (state?.donors ?? []).filter((donor) => donor.state === "online");
  byId("big-bloom").replaceChildren(bloom(ownersOf(online, layers), Math.min(layers, 12)));
  byId("bloom-words").textContent = swarm.whole
    ? `${count(swarm.donors, "donor")} ${swarm.donors === 1 ? "holds" : "hold"} this model, a colour each.`
    : `The model is not whole: ${holeWords()}.`;
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
  if (event.key === "Escape" && !event.isComposing && !document.querySelector(":popover-open")) stop();
});
byId("stop").addEventListener("click", stop);
byId("new").addEventListener("click", startOver);

try {
  field.value = sessionStorage.getItem(DRAFT) ?? "";
} catch {
  // As above.
}
setUpSampling();
fitField();
line.open();
