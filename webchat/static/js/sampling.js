// How the next words are drawn: a small popover, remembered in this browser.

import { byId } from "./dom.js";

const STEADY = { temperature: 0, top_p: 1, seed: null, max_tokens: null };
const KEY = "idlebloom.sampling";
const NAMES = Object.keys(STEADY);

let chosen = { ...STEADY, ...remembered() };

/** As the chat socket takes it. */
export function samplingFields() {
  const { max_tokens, ...sampling } = chosen;
  return { sampling, max_tokens };
}

export function setUpSampling() {
  const popover = byId("sampling");
  for (const name of NAMES) {
    byId(name).addEventListener("input", () => {
      const field = byId(name);
      if (!field.checkValidity()) return;
      chosen[name] = field.value === "" ? null : Number(field.value);
      show();
    });
  }
  byId("sampling-reset").addEventListener("click", () => {
    chosen = { ...STEADY };
    fill();
    show();
  });
  popover.addEventListener("submit", (event) => {
    event.preventDefault();
    popover.hidePopover();
  });
  popover.addEventListener("toggle", (event) => {
    if (event.newState === "open") place(popover);
  });
  addEventListener("resize", () => popover.matches(":popover-open") && place(popover));
  fill();
  show();
}

function place(popover) {
  const composer = byId("composer").getBoundingClientRect();
  popover.style.left = `${Math.max(12, Math.min(composer.left, innerWidth - popover.offsetWidth - 12))}px`;
  popover.style.bottom = `${innerHeight - composer.top + 10}px`;
}

function fill() {
  for (const name of NAMES) byId(name).value = chosen[name] ?? "";
}

function show() {
  for (const name of ["temperature", "top_p"]) byId(`${name}-value`).textContent = chosen[name];
  byId("sampling-words").textContent = chosen.temperature ? `Temperature ${chosen.temperature}` : "Steady";
  try {
    localStorage.setItem(KEY, JSON.stringify(chosen));
  } catch {
    // A browser that keeps nothing still chats.
  }
}

function remembered() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return Object.fromEntries(NAMES.filter((name) => typeof kept[name] === "number").map((name) => [name, kept[name]]));
  } catch {
    return {};
  }
}
