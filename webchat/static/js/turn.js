// One turn on the page: what you said, what Idlebloom said, its route and its numbers.

import { AnswerText } from "./answer.js";
import { bloom, ownersOf } from "./bloom.js";
import { setUpCopy } from "./copy.js";
import { element, icon } from "./dom.js";
import { routeView } from "./route.js";
import { isOver, store } from "./store.js";
import { capital, missingWords, seconds } from "./words.js";

/** @typedef {{again: Function, edit: Function, choose: Function}} Acts */

export class TurnView {
  #state = "";
  #isOpen = false; // the list of donors

  constructor({ question, answer }, blocks, acts) {
    this.question = question;
    this.answer = answer;
    this.blocks = blocks;
    this.acts = acts;
    this.glyph = element("span", { class: "glyph", "aria-hidden": "true" }, bloom([null]));
    this.text = new AnswerText(answer);
    // Buttons and numbers are no part of what was said; errors say themselves.
    this.under = element("div", { class: "under", "aria-live": "off" });
    this.hint = element("p", { class: "hint", "aria-hidden": "true", text: "Finding a route through the swarm…" });
    this.asked = element(
      "article",
      { class: "you" },
      element("h2", { class: "unseen", text: "You said" }),
      element("div", { class: "text", dir: "auto", text: question.text }),
    );
    const answered = element(
      "article",
      { class: "bloomed" },
      this.glyph,
      element(
        "div",
        { class: "body" },
        element("h2", { class: "unseen", text: "Idlebloom said" }),
        this.hint,
        this.text.root,
        this.under,
      ),
    );
    this.root = element("div", { class: "turn" }, this.asked, this.#questionTools(), answered);
    this.draw();
  }

  draw() {
    const answer = this.answer;
    this.text.draw(answer);
    const state = isOver(answer) ? answer.state : answer.route ? "streaming" : "waiting";
    const key = JSON.stringify([state, answer.moves, answer.waiting, answer.unplugged]);
    if (key === this.#state) return;
    this.#state = key;
    this.root.dataset.state = state;
    this.hint.hidden = state !== "waiting";
    if (answer.route) this.glyph.replaceChildren(bloom(ownersOf(answer.route, this.blocks + 2)));
    if (isOver(answer)) this.#finish(answer);
    else this.#tellOfTrouble(answer);
  }

  // While it grows: that it stands still, or has moved.
  #tellOfTrouble({ waiting, unplugged, moves }) {
    const words = [];
    if (unplugged) words.push(`${unplugged} was unplugged.`);
    if (waiting) words.push(`${capital(missingWords(waiting, this.blocks))}: the answer waits, and goes on when a donor comes.`);
    else if (moves?.length) words.push(`It moved to another donor, ${seconds(moves.at(-1))}, and goes on.`);
    this.under.replaceChildren(
      ...(words.length ? [element("p", { class: "aside moving", role: "status", text: words.join(" ") })] : []),
    );
  }

  #finish(answer) {
    const parts = [];
    if (answer.error) parts.push(errorBox(answer.error, this.blocks, () => this.acts.again(this.question)));
    if (answer.state === "stopped") parts.push(element("p", { class: "aside", text: "Stopped." }));
    if (answer.finish === "length") {
      parts.push(element("p", { class: "aside", text: "It ended at the longest answer allowed." }));
    }
    const tools = element("div", { class: "row" });
    if (answer.text) {
      tools.append(setUpCopy(tool("copy", "Copy the answer"), () => answer.text.trim()));
    }
    if (!answer.error) {
      const again = tool("again", "Answer again");
      again.addEventListener("click", () => this.acts.again(this.question));
      tools.append(again);
    }
    tools.append(...this.#versions(answer, "answer"));
    parts.push(tools);
    if (answer.route) {
      const { button, list } = routeView(answer, this.blocks, this.#isOpen, (isOpen) => (this.#isOpen = isOpen));
      tools.append(button);
      parts.push(list);
    }
    const within = this.under.contains(document.activeElement);
    this.under.replaceChildren(...parts);
    if (within) this.under.querySelector("button")?.focus();
  }

  #questionTools() {
    const edit = tool("edit", "Edit and ask again");
    edit.addEventListener("click", () => this.#edit());
    const copy = setUpCopy(tool("copy", "Copy the question"), () => this.question.text);
    return element("div", { class: "row mine" }, ...this.#versions(this.question, "question"), copy, edit);
  }

  // "2 of 3", with a button to either side.
  #versions(one, name) {
    const all = store.siblings(one);
    if (all.length < 2) return [];
    const at = all.findIndex((other) => other.id === one.id);
    const step = (to, sign, words) => {
      const button = tool(sign, `${words} version of the ${name}`);
      button.disabled = !all[to];
      button.addEventListener("click", () => this.acts.choose(all[to], name));
      return button;
    };
    return [
      step(at - 1, "left", "Earlier"),
      element("span", { class: "versions", text: `${at + 1}/${all.length}` }),
      step(at + 1, "right", "Later"),
    ];
  }

  #edit() {
    const text = this.asked.querySelector(".text");
    const field = element("textarea", { value: this.question.text, rows: 3, dir: "auto", maxLength: 100000 });
    field.setAttribute("aria-label", "Your question");
    const cancel = element("button", { type: "button", class: "quiet", text: "Cancel" });
    const save = element("button", { type: "submit", class: "quiet strong", text: "Ask this" });
    const form = element("form", { class: "edit" }, field, element("div", { class: "row" }, cancel, save));
    const close = () => {
      form.replaceWith(text);
      this.root.querySelector(".mine [data-icon=edit]").focus();
    };
    cancel.addEventListener("click", close);
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      } else if (event.key === "Enter" && !event.shiftKey && event.target === field && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim()) this.acts.edit(this.question, field.value.trim());
    });
    text.replaceWith(form);
    field.focus();
  }
}

function tool(name, words) {
  return element(
    "button",
    { type: "button", class: "small-tool", title: words, "data-icon": name },
    icon(name),
    element("span", { class: "unseen label", text: words }),
  );
}

function errorBox(error, blocks, retry) {
  const button = element("button", { type: "button", class: "quiet", text: "Try again" });
  button.addEventListener("click", retry);
  return element(
    "div",
    { class: "error", role: "alert" },
    element("p", { class: "title", text: titleOf(error, blocks) }),
    element("p", { text: error.advice }),
    button,
  );
}

// Programs count layers; a person sees the model's blocks.
function titleOf({ title, missing, why }, blocks) {
  if (!missing?.length) return title;
  const words = capital(missingWords(missing, blocks));
  return why ? `${words} left: ${why}.` : `${words}.`;
}
