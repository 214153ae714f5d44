// The map of the model's layers against the donors that hold them, drawn anew at each change.

import { bloom, colour, ownersOf } from "./bloom.js";
import { byId, element } from "./dom.js";
import { capital, count, milliseconds, missingWords, partWords, rate, reachWords } from "./words.js";

const EVERY = 3000;
const ROWS = 16; // donors that get a line each; more of them share lines
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
  drawOthers(state.others ?? []);
  byId("rows").replaceChildren(...state.donors.map((donor) => row(donor, state.blocks)));
  byId("map-words").textContent = mapWords(state, online, layers);
  byId("model").replaceChildren(...modelFacts(state));
  byId("mine-key").hidden = !state.donors.some((donor) => donor.mine);
  for (const part of ["map-card", "model-card"]) byId(part).hidden = false;
  byId("donors").hidden = !state.donors.length;
}

// The swarm's other models: each with its map, and a table of its donors that is opened at will.
function drawOthers(others) {
  byId("others").hidden = !others.length;
  const opened = new Set([...document.querySelectorAll("#other-models details[open]")].map((one) => one.dataset.model));
  byId("other-models").replaceChildren(...others.map((other) => otherModel(other, opened)));
}

function otherModel(state, opened) {
  const layers = state.blocks + 2;
  const online = state.donors.filter((donor) => donor.state === "online");
  const table = element("table", {}, byId("donors").querySelector("thead").cloneNode(true));
  table.append(element("tbody", {}, ...state.donors.map((donor) => row(donor, state.blocks))));
  const name = `${state.model} ${state.revision}`;
  const donors = element(
    "details",
    { open: opened.has(name) },
    element("summary", { text: count(state.donors.length, "donor") }),
    element("div", { class: "wide", role: "region", "aria-label": `Donors of ${state.model}`, tabIndex: 0 }, table),
  );
  donors.dataset.model = name;
  return element(
    "article",
    { class: "other" },
    element("h3", { text: state.model, dir: "auto" }),
    element("p", { class: "soft", text: `${summary(state).replace(state.model, "It")} Version ${state.revision}.` }),
    element("p", { class: "unseen", text: mapWords(state, online, layers) }),
    element("div", { "aria-hidden": "true" }, ...mapRows(state, online, layers)),
    donors,
  );
}

function summary({ model, blocks, whole, missing, donors, expected_rate: expected }) {
  const size = `${model} has ${count(blocks, "block")}`;
  const alone = donors.length === 1;
  const who = alone ? "one donor holds all of it" : `${count(donors.length, "donor")} together hold all of it`;
  const way = alone ? "It" : "A route through them";
  const speed = expected ? `${way} promises about ${rate(expected)} tokens/s.` : `How fast ${alone ? "it" : "a route through them"} is, is not known yet.`;
  if (whole) return `${size} and is whole: ${who}. ${speed}`;
  return `${size}. ${missing.length ? capital(missingWords(missing, blocks)) : "It waits for donors"}.`;
}

function modelFacts({ model, revision, blocks, licence, expected_rate: expected }) {
  const facts = [["Name", model], ["Version", revision], ["Size", count(blocks, "block")], ["Licence", licence]];
  if (expected) facts.push(["Expected", `${rate(expected)} tokens/s`]);
  return facts.map(([name, value]) =>
    element("div", {}, element("dt", { text: name }), element("dd", { text: value })),
  );
}

// What the picture shows, for those who do not see it; the table has the rest.
function mapWords(state, online, layers) {
  const held = Array.from({ length: layers }, (_, layer) => holders(online, layer));
  const least = Math.min(...held);
  if (!least) return `A picture: ${missingWords(state.missing, state.blocks)}.`;
  return `A picture: every part of the model has at least ${count(least, "donor")}.`;
}

function holders(online, layer) {
  return online.filter((donor) => donor.start <= layer && layer < donor.end).length;
}

function mapRows(state, online, layers) {
  const lines = state.donors.length <= ROWS ? state.donors.map((donor) => [donor]) : lanes(state.donors);
  return [coverage(online, layers), ...lines.map((donors) => bars(donors, state.blocks, layers))];
}

// Donors that do not overlap share a line, first fit.
function lanes(donors) {
  const lines = [];
  for (const donor of donors) {
    const free = lines.find((line) => line.at(-1).end <= donor.start);
    if (free) free.push(donor);
    else lines.push([donor]);
  }
  return lines;
}

// How many donors each layer has; none is a hole.
function coverage(online, layers) {
  const cells = [];
  const every = Math.ceil(layers / (innerWidth < 640 ? 11 : 24));
  for (let layer = 0; layer < layers; layer++) {
    const held = holders(online, layer);
    const cell = element("span", { class: held ? "layer" : "layer hole", title: layerTitle(layer, layers, held) });
    if (layer === 0) cell.textContent = "in";
    else if (layer === layers - 1) cell.textContent = every < 3 ? "out" : "";
    else if (layer % every === 0 && (every === 1 || layer < layers - 2)) cell.textContent = layer;
    cells.push(cell);
  }
  return element("div", { class: "line head" }, element("span", { class: "who", text: "Blocks" }), track(layers, cells));
}

function layerTitle(layer, layers, held) {
  const name = partWords({ start: layer, end: layer + 1 }, layers - 2);
  return `${capital(name)}: ${held ? count(held, "donor") : "no donor"}`;
}

function bars(donors, blocks, layers) {
  const held = donors.map((donor) => {
    const words = donor.mine ? "this PC" : donors.length > 1 ? donor.name : donor.state === "online" ? "" : donor.state;
    const bar = element("span", {
      class: `held ${colour(donor.peer)} ${donor.state}${donor.mine ? " mine" : ""}`,
      title: `${donor.name} holds ${partWords(donor, blocks)}, ${donor.state}`,
      text: words,
    });
    bar.style.gridColumn = `${donor.start + 1} / ${donor.end + 1}`;
    return bar;
  });
  const who = donors.length > 1 ? element("span", { class: "who" }) : element("code", { class: "who", text: donors[0].name });
  return element("div", { class: "line" }, who, track(layers, held));
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
    donor.step_seconds ? milliseconds(donor.step_seconds) : "not measured",
    donor.device,
    donor.quantization === "none" ? "unquantized" : donor.quantization,
    reachWords(donor.reach),
  ];
  const mark = element("span", { class: `mark ${colour(donor.peer)}`, "aria-hidden": "true" });
  const name = element("th", { scope: "row" }, mark, element("code", { text: donor.name, title: donor.peer }));
  if (donor.mine) name.append(element("span", { class: "own", text: "this PC" }));
  return element("tr", { class: donor.mine ? "mine" : "" }, name, ...cells.map((text) => element("td", { text })));
}

look();
setInterval(() => document.hidden || look(), EVERY);
