// This PC's donor: what it does and why, and taking the PC back.

import { byId, element } from "./dom.js";
import { bytes, capital, count, partWords, rate } from "./words.js";

const STATES = {
  off: "Gives nothing",
  waiting: "Waiting",
  fetching: "Fetching the model",
  loading: "Loading the model",
  giving: "Giving",
  leaving: "Leaving",
  paused: "Paused",
  trouble: "Trouble",
};
const RUNS = ["waiting", "fetching", "loading", "giving", "trouble"];
const GIVES = ["giving", "loading"];

export function setUpDonor() {
  for (const button of document.querySelectorAll("#donor [data-action]")) {
    button.addEventListener("click", () => order(button.dataset.action, button.dataset.for));
  }
}

export function drawDonor(status, blocks) {
  const { state, reason } = status;
  byId("donor-button").dataset.donor = state;
  byId("donor-short").textContent = STATES[state] ?? state;
  byId("donor-state").textContent = STATES[state] ?? state;
  byId("donor-why").textContent = reason ? `${capital(reason.text)}.` : "";
  byId("donor-facts").replaceChildren(...facts(status, blocks).map((words) => element("li", { text: words })));
  drawProgress(status.progress);
  byId("donor-give").hidden = !["waiting", "paused"].includes(state);
  byId("donor-pause").hidden = !RUNS.includes(state);
  byId("donor-finish").hidden = !GIVES.includes(state);
  byId("donor-resume").hidden = state !== "paused";
}

function facts({ state, span, sessions, today, vram, rates }, blocks) {
  const said = [];
  if (span && blocks) said.push(`${GIVES.includes(state) ? "Serves" : "To serve"}: ${partWords(span, blocks)}`);
  if (state === "giving") said.push(`${count(sessions, "conversation")} open, ${rate(rates.tokens)} tokens/s`);
  if (vram.cap) said.push(`Memory: ${bytes(vram.used)} of at most ${bytes(vram.cap)}`);
  said.push(`Today: ${count(today.tokens, "token")} of ${count(today.conversations, "conversation")}, ${bytes(today.up_bytes)} up, ${bytes(today.down_bytes)} down`);
  return said;
}

function drawProgress(progress) {
  const bar = byId("donor-progress");
  bar.hidden = !progress?.total_bytes;
  if (bar.hidden) return;
  bar.max = progress.total_bytes;
  bar.value = progress.done_bytes;
  const left = progress.seconds_left ? `, ${Math.ceil(progress.seconds_left / 60)} min left` : "";
  bar.setAttribute("aria-label", `${progress.phase}: ${bytes(progress.done_bytes)} of ${bytes(progress.total_bytes)}${left}`);
}

async function order(action, time) {
  const body = JSON.stringify(time ? { action, for: time } : { action });
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body };
  let words = "";
  try {
    const answer = await fetch("/api/donate", options);
    if (!answer.ok) words = (await answer.json()).error.message;
  } catch {
    words = "Idlebloom does not answer. See that it is still running on this computer.";
  }
  byId("donor-error").textContent = words;
  // The button that was pressed may be gone now.
  if (document.activeElement === document.body) byId("donor").focus();
}
