// How the next words are drawn, and what the model is told first: a popover, remembered in this browser.

import { byId } from "./dom.js";

const STEADY = { temperature: 0, top_p: 1, top_k: null, repetition_penalty: 1, seed: null, max_tokens: null };
const PRESETS = {
  Steady: { temperature: 0, top_p: 1 },
  Balanced: { temperature: 0.7, top_p: 0.9 },
  Lively: { temperature: 1, top_p: 0.95 },
};
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
  for (const button of popover.querySelectorAll("[data-preset]")) {
    button.addEventListener("click", () => {
      Object.assign(chosen, PRESETS[button.dataset.preset]);
      fill();
      show();
    });
  }
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

// At temperature 0 top-p does not count.
function presetName() {
  const { temperature, top_p } = chosen;
  const found = Object.entries(PRESETS).find(
    ([, preset]) => preset.temperature === temperature && (temperature === 0 || preset.top_p === top_p),
  );
  return found ? found[0] : null;
}

function fill() {
  for (const name of NAMES) byId(name).value = chosen[name] ?? "";
}

function show() {
  for (const name of ["temperature", "top_p", "repetition_penalty"]) byId(`${name}-value`).textContent = chosen[name];
  const preset = presetName();
  byId("sampling-words").textContent = preset ?? `Temperature ${chosen.temperature}`;
  for (const button of document.querySelectorAll("[data-preset]")) {
    button.setAttribute("aria-pressed", String(button.dataset.preset === preset));
  }
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
