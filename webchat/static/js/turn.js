// One turn on the page: what you said, what Idlebloom said, its route and its numbers.

import { bloom, colour, ownersOf } from "./bloom.js";
import { element } from "./dom.js";
import { isOver } from "./store.js";
import { count, partWords, rate, seconds, sentenceEnd } from "./words.js";

export class TurnView {
  #told = 0; // how much of the answer is in the log as whole sentences
  #state = "";

  constructor(turn, blocks, onRetry) {
    this.blocks = blocks;
    this.onRetry = onRetry;
    const id = `answer-${turn.ask}`;
    this.glyph = element("span", { class: "glyph", "aria-hidden": "true" }, bloom([null]));
    this.told = element("span");
    this.coming = element("span", { class: "coming", "aria-hidden": "true" });
    this.text = element("div", { class: "text", dir: "auto" }, this.told, this.coming);
    this.under = element("div", { class: "under" });
    this.hint = element("p", { class: "hint", "aria-hidden": "true", text: "Finding a route through the swarm…" });
    const asked = element(
      "article",
      { class: "you" },
      element("h2", { class: "unseen", text: "You said" }),
      element("div", { class: "text", dir: "auto", text: turn.question }),
    );
    const answered = element(
      "article",
      { class: "bloomed", id },
      this.glyph,
      element(
        "div",
        { class: "body" },
        element("h2", { class: "unseen", text: "Idlebloom said" }),
        this.hint,
        this.text,
        this.under,
      ),
    );
    this.root = element("div", { class: "turn" }, asked, answered);
    this.draw(turn);
  }

  draw(turn) {
    this.#drawText(turn);
    if (turn.state === this.#state) return;
    this.#state = turn.state;
    this.root.dataset.state = turn.state;
    this.hint.hidden = turn.state !== "waiting";
    if (turn.route) {
      const layers = this.blocks + 2;
      this.glyph.replaceChildren(bloom(ownersOf(turn.route, layers)));
    }
    if (isOver(turn)) this.#finish(turn);
  }

  // Whole sentences join the log, where a screen reader finds them; the rest is only seen until it is whole.
  #drawText(turn) {
    const answer = turn.answer.trimStart(); // models like to begin with a space; the store keeps it
    const end = isOver(turn) ? answer.length : sentenceEnd(answer, this.#told);
    if (end > this.#told) {
      this.told.append(element("span", { text: answer.slice(this.#told, end) }));
      this.#told = end;
    }
    this.coming.textContent = answer.slice(end);
  }

  #finish(turn) {
    const parts = [];
    if (turn.error) parts.push(errorBox(turn.error, () => this.onRetry(turn.ask)));
    if (turn.state === "stopped") parts.push(element("p", { class: "aside", text: "Stopped." }));
    if (turn.stats?.finish === "length") {
      parts.push(element("p", { class: "aside", text: "It ended at the longest answer allowed." }));
    }
    if (turn.route) parts.push(routeStrip(turn, this.blocks));
    this.under.replaceChildren(...parts);
  }
}

function errorBox({ title, advice }, retry) {
  const button = element("button", { type: "button", class: "quiet", text: "Try again" });
  button.addEventListener("click", retry);
  return element(
    "div",
    { class: "error" },
    element("p", { class: "title", text: title }),
    element("p", { text: advice }),
    button,
  );
}

// A button that shows the strip and the numbers, and opens the list of donors.
function routeStrip(turn, blocks) {
  const listId = `route-${turn.ask}`;
  const strip = element("span", { class: "strip", "aria-hidden": "true" });
  const list = element("ol", { id: listId, class: "route", hidden: true });
  for (const stage of turn.route) {
    const name = `${stage.name} holds ${partWords(stage, blocks)}`;
    const segment = element("span", { class: colour(stage.peer), title: name });
    segment.style.flexGrow = stage.end - stage.start;
    strip.append(segment);
    list.append(routeItem(stage, blocks));
  }
  if (turn.seed !== null) {
    list.append(element("li", { class: "seed", text: `Seed ${turn.seed}` }));
  }
  const numbers = element("span", { class: "numbers", text: numbersOf(turn).join(" · ") });
  const button = element(
    "button",
    { type: "button", class: "summary", "aria-expanded": "false", "aria-controls": listId },
    strip,
    numbers,
  );
  button.addEventListener("click", () => {
    list.hidden = !list.hidden;
    button.setAttribute("aria-expanded", String(!list.hidden));
  });
  return element("div", { class: "facts" }, button, list);
}

function routeItem(stage, blocks) {
  return element(
    "li",
    {},
    element("span", { class: `mark ${colour(stage.peer)}`, "aria-hidden": "true" }),
    element("code", { text: stage.name, title: stage.peer }),
    element("span", { text: partWords(stage, blocks) }),
  );
}

function numbersOf({ route, stats }) {
  const numbers = [count(new Set(route.map((stage) => stage.peer)).size, "donor")];
  if (!stats) return numbers;
  if (stats.tokens_per_second) numbers.push(`${rate(stats.tokens_per_second)} tokens/s`);
  if (stats.first_token_seconds) numbers.push(`first token ${seconds(stats.first_token_seconds)}`);
  numbers.push(count(stats.tokens, "token"));
  return numbers;
}
