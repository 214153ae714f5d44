// The conversation as data: a tree of messages, and the leaf of the branch that is shown. Views draw from it and
// never read it back from the page.

/** @typedef {{id: string, parent: string|null, role: "user"|"assistant", text: string, state: string,
 *             blocks: {html: string, upto: number}[]}} Message
 * `state`: running, done, stopped, failed. `blocks`: what of an answer's text is markup already. */

let listeners = [];

export const store = {
  conversation: null,
  system: "",
  leaf: null,
  /** @type {Map<string, Message>} */
  messages: new Map(),

  /** A listener hears the message that changed, or null when anything else did. */
  subscribe(listener) {
    listeners.push(listener);
  },

  load({ id, system, leaf, messages }) {
    this.conversation = id;
    this.system = system;
    this.messages = new Map(messages.map((one) => [one.id, message(one)]));
    this.leaf = leaf;
    tell(null);
  },

  clear() {
    this.conversation = this.leaf = null;
    this.messages = new Map();
    tell(null);
  },

  /** New messages; the last one is shown. */
  add(conversation, messages) {
    this.conversation = conversation;
    for (const one of messages) this.messages.set(one.id, message(one));
    this.leaf = messages.at(-1).id;
    tell(null);
  },

  change(id, changes) {
    const found = this.messages.get(id);
    if (!found) return;
    Object.assign(found, changes);
    tell(found);
  },

  piece(id, text) {
    const found = this.messages.get(id);
    if (found) this.change(id, { text: found.text + text, waiting: null });
  },

  block(id, html, upto) {
    const found = this.messages.get(id);
    if (found && upto) this.change(id, { blocks: [...found.blocks, { html, upto }] });
  },

  choose(leaf) {
    this.leaf = leaf;
    tell(null);
  },

  /** The messages of the branch that is shown. */
  path() {
    const path = [];
    for (let one = this.messages.get(this.leaf); one; one = this.messages.get(one.parent)) path.unshift(one);
    return path;
  },

  /** Questions with their answers along the branch. */
  turns() {
    const path = this.path();
    const turns = [];
    for (let index = 0; index < path.length; index += 2) {
      turns.push({ question: path[index], answer: path[index + 1] ?? null });
    }
    return turns;
  },

  /** All versions of a message, itself included. */
  siblings(one) {
    return [...this.messages.values()].filter((other) => other.parent === one.parent && other.role === one.role);
  },

  /** The end of the newest branch that goes on from a message. */
  newest(one) {
    const next = [...this.messages.values()].filter((other) => other.parent === one.id).at(-1);
    return next ? this.newest(next) : one;
  },

  /** The answer that is being made, if any is shown. */
  running() {
    return this.path().find((one) => one.state === "running") ?? null;
  },
};

export function isOver(one) {
  return one.state !== "running";
}

function message({ html, upto, ...given }) {
  return { ...given, blocks: upto ? [{ html, upto }] : [] };
}

function tell(changed) {
  for (const listener of listeners) listener(changed);
}
