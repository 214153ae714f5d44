// The demo's button: a donor is unplugged in the middle of an answer, which goes on over a spare.

import { byId } from "./dom.js";

/** `ask` asks a question where no answer is being made; `tell` shows words, "" none. */
export function setUpUnplug(ask, tell) {
  const button = byId("unplug");
  button.addEventListener("click", async () => {
    button.disabled = true;
    tell("A spare donor is starting. When it serves, a donor of this demo loses its plug in the middle of an answer.");
    const words = await arm();
    button.disabled = false;
    tell(words);
    if (!words) ask();
  });
}

export function showUnplug(offers) {
  byId("unplug").hidden = !offers?.unplug;
}

async function arm() {
  try {
    const answer = await fetch("/api/demo/unplug", { method: "POST" });
    return answer.ok ? "" : (await answer.json()).error.message;
  } catch {
    return "Idlebloom does not answer. See that it is still running on this computer.";
  }
}
