// The text of an answer as it grows: whole sentences join the log, where a screen reader finds them; the rest is
// only seen until it is whole. Blocks that have ended become markup, without being said a second time.

import { element } from "./dom.js";
import { place } from "./markup.js";
import { isOver } from "./store.js";
import { sentenceEnd } from "./words.js";

const HEARD = 400; // milliseconds until a screen reader has taken what joined the log

export class AnswerText {
  #blocks = 0; // how many blocks of the answer are drawn
  #from = 0; // where the block that grows begins
  #told = 0; // how far whole sentences are in the log

  constructor(answer) {
    this.told = element("span");
    this.coming = element("span", { class: "coming", "aria-hidden": "true" });
    this.root = element("div", { class: "text", dir: "auto" }, this.told, this.coming);
    // What was there before the page was opened is not news.
    while (this.#blocks < answer.blocks.length) this.#close(answer, 0);
    this.draw(answer);
  }

  draw(answer) {
    while (this.#blocks < answer.blocks.length) this.#close(answer, HEARD);
    const text = answer.text;
    // Models like to begin with a space, which the store keeps.
    if (this.#from === 0 && this.#told === 0) this.#told = text.length - text.trimStart().length;
    this.#tell(text, isOver(answer) ? text.length : sentenceEnd(text, this.#told));
    this.coming.textContent = text.slice(this.#told);
  }

  #tell(text, end) {
    if (end <= this.#told) return;
    this.told.append(element("span", { text: text.slice(this.#told, end) }));
    this.#told = end;
  }

  #close(answer, wait) {
    const { html, upto } = answer.blocks[this.#blocks++];
    if (wait) this.#tell(answer.text, upto);
    const plain = this.told;
    this.told = element("span");
    plain.after(this.told);
    const space = answer.text.slice(this.#from, upto).match(/\s*$/)[0];
    this.#from = this.#told = upto;
    if (wait) setTimeout(() => this.#replace(plain, html, space), wait);
    else this.#replace(plain, html, space);
  }

  #replace(plain, html, space) {
    this.root.setAttribute("aria-live", "off");
    const block = element("div", { class: "block" });
    place(block, html);
    block.append(space);
    plain.replaceWith(block);
    setTimeout(() => this.root.removeAttribute("aria-live"), HEARD);
  }
}
