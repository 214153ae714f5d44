// The map of the model's layers against the donors that hold them, drawn anew at each change.

import { bloom, colour, ownersOf } from "./bloom.js";
import { byId, element } from "./dom.js";
import { capital, count, missingWords, partWords, rate } from "./words.js";

const EVERY = 3000;
let shown = "";

async function look() {
  try {
    const answer = await fetch("/api/v1/state", { cache: "no-store" });
    const text = await answer.text();
    if (text === shown) return;
    shown = text;
    const state = JSON.parse(text);
    if (answer.ok) draw(state);
    else byId("summary").textContent = state.error.message;
  } catch {
    shown = "";
    byId("summary").textContent = "Idlebloom does not answer. See that it is still running on this computer.";
  }
}

function draw(state) {
  const layers = state.blocks + 2;
  const online = state.donors.filter((donor) => donor.state === "online");
  const owners = ownersOf(online, layers);
  byId("summary").textContent = summary(state);
  byId("bloom").replaceChildren(bloom(owners, Math.min(layers, 12)));
  byId("map").replaceChildren(...mapRows(state, online, layers));
  byId("rows").replaceChildren(...state.donors.map((donor) => row(donor, state.blocks)));
  byId("map").hidden = false;
  byId("donors").hidden = !state.donors.length;
}

function summary({ model, blocks, whole, missing, donors }) {
  const size = `${model} has ${count(blocks, "block")}`;
  if (whole) return `${size} and is whole: ${count(donors.length, "donor")} together hold all of it.`;
  return `${size}. ${missing.length ? capital(missingWords(missing)) : "It waits for donors"}.`;
}

function mapRows(state, online, layers) {
  return [coverage(online, layers), ...state.donors.map((donor) => bar(donor, state.blocks, layers))];
}

// How many donors each layer has; none is a hole.
function coverage(online, layers) {
  const cells = [];
  const every = Math.ceil(layers / 24);
  for (let layer = 0; layer < layers; layer++) {
    const held = online.filter((donor) => donor.start <= layer && layer < donor.end).length;
    const cell = element("span", { class: held ? "layer" : "layer hole", title: layerTitle(layer, layers, held) });
    if (layer === 0) cell.textContent = "in";
    else if (layer === layers - 1) cell.textContent = "out";
    else if ((layer - 1) % every === 0) cell.textContent = layer;
    cells.push(cell);
  }
  return element("div", { class: "line head" }, element("span", { class: "who", text: "Blocks" }), track(layers, cells));
}

function layerTitle(layer, layers, held) {
  const name = partWords({ start: layer, end: layer + 1 }, layers - 2);
  return `${capital(name)}: ${held ? count(held, "donor") : "no donor"}`;
}

function bar(donor, blocks, layers) {
  const held = element("span", {
    class: `held ${colour(donor.peer)} ${donor.state}`,
    title: `${donor.name} holds ${partWords(donor, blocks)}`,
  });
  held.style.gridColumn = `${donor.start + 1} / ${donor.end + 1}`;
  return element("div", { class: "line" }, element("code", { class: "who", text: donor.name }), track(layers, [held]));
}

function track(layers, children) {
  const made = element("span", { class: "track" }, ...children);
  made.style.gridTemplateColumns = `repeat(${layers}, minmax(0, 1fr))`;
  return made;
}

function row(donor, blocks) {
  const cells = [
    partWords(donor, blocks),
    donor.state,
    donor.decode_rate ? `${rate(donor.decode_rate)} tokens/s` : "not measured",
    donor.step_seconds ? `${(donor.step_seconds * 1000).toFixed(1)} ms` : "not measured",
    donor.device,
    donor.quantization === "none" ? "unquantized" : donor.quantization,
    donor.reach,
  ];
  const mark = element("span", { class: `mark ${colour(donor.peer)}`, "aria-hidden": "true" });
  const name = element("th", { scope: "row" }, mark, element("code", { text: donor.name, title: donor.peer }));
  return element("tr", {}, name, ...cells.map((text) => element("td", { text })));
}

look();
setInterval(() => document.hidden || look(), EVERY);
