// Where the model is not whole: four ways to one that is.

import { setUpCopy } from "./copy.js";
import { byId } from "./dom.js";
import { capital, missingWords } from "./words.js";

const NAMES = ["try", "just", "join", "invite"];
const LOST = "Idlebloom does not answer. See that it is still running on this computer.";

export function setUpWays() {
  for (const name of NAMES) byId(`way-${name}`).addEventListener("click", () => open(name));
  byId("way-form").addEventListener("submit", (event) => {
    event.preventDefault();
    go(byId("way").dataset.name);
  });
  byId("way-close").addEventListener("click", () => byId("way").close());
  setUpCopy(byId("way-copy"), () => byId("way-link").value);
}

export function drawWays(card, swarm, offers) {
  const holes = Boolean(card && swarm && !swarm.whole);
  byId("ways").hidden = !holes;
  if (!holes) return;
  const words = swarm.missing.length ? capital(missingWords(swarm.missing, card.blocks)) : "It waits for donors";
  const also = offers?.ways?.length ? " You can also:" : "";
  byId("ways-words").textContent = `${words}. A question asked now waits for one, 30 seconds at most.${also}`;
  for (const name of NAMES) byId(`way-${name}`).hidden = !offers?.ways?.includes(name);
}

const TEXTS = {
  try: ["Try it here", "A small demo model starts on this computer, with three donors of its own. Nothing leaves this computer, and no setting changes. It ends with Idlebloom.", "Start the demo"],
  just: ["Just this PC", "This PC alone serves the model that is set, and leaves the swarm it is in. It needs the memory for all of the model; what does not fit is said under “This PC”.", "Serve it here"],
  join: ["Join a link", "Paste the invite link that you were given. This PC then belongs to that swarm and uses its model.", "Join"],
  invite: ["Make a swarm", "Makes a link with which others join this PC's swarm. Whoever has the link can join, give, and be on the route of what is asked there.", "Make the link"],
};

function open(name) {
  const [title, words, yes] = TEXTS[name];
  byId("way").dataset.name = name;
  byId("way-title").textContent = title;
  byId("way-words").textContent = words;
  byId("way-yes").textContent = yes;
  byId("way-yes").hidden = false;
  byId("way-field").hidden = name !== "join";
  byId("way-link").value = "";
  byId("way-link").readOnly = false;
  byId("way-copy").hidden = true;
  byId("way-result").textContent = "";
  byId("way").showModal();
}

async function go(name) {
  const link = byId("way-link").value.trim();
  if (name === "join" && !link) return say("Paste the link first.");
  byId("way-yes").disabled = true;
  say("A moment…");
  const [done, words] = await post(name, name === "join" ? { link } : {});
  byId("way-yes").disabled = false;
  if (!done) return say(words);
  if (name === "try") return location.assign(done.url);
  if (name === "invite") return show(done);
  byId("way-yes").hidden = true;
  say(done.restart ? "Done. It counts when Idlebloom is started again." : "Done. It begins at once; the line at the top shows it.");
}

function show({ link, reach, fix, restart }) {
  byId("way-field").hidden = false;
  byId("way-link").value = link;
  byId("way-link").readOnly = true;
  byId("way-link").select();
  byId("way-copy").hidden = false;
  byId("way-yes").hidden = true;
  const later = restart ? "The swarm is private from the next start of Idlebloom on." : "";
  say([`Its meeting points: ${reach}.`, fix, later].filter(Boolean).join(" "));
}

function say(words) {
  byId("way-result").textContent = words;
}

async function post(name, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  try {
    const answer = await fetch(`/api/ways/${name}`, options);
    const told = await answer.json();
    return answer.ok ? [told, ""] : [null, told.error.message];
  } catch {
    return [null, LOST];
  }
}
