// The conversation as data. Views draw from it and never read it back from the page.

/** @typedef {{peer: string, name: string, start: number, end: number}} Stage */

let listeners = [];
let nextAsk = 1;

/** One turn is a question with its answer. `state`: waiting, streaming, done, stopped, failed. */
function turn(question) {
  return {
    ask: nextAsk++,
    question,
    answer: "",
    state: "waiting",
    route: null,
    seed: null,
    stats: null,
    error: null,
  };
}

export const store = {
  conversation: newId(),
  turns: [],

  subscribe(listener) {
    listeners.push(listener);
  },

  /** Begin a turn; the messages to send with it are `messages()`. */
  ask(question) {
    const added = turn(question);
    this.turns.push(added);
    tell(added);
    return added;
  },

  /** Ask the question of a failed turn anew, as the last one. */
  again(ask) {
    const index = this.turns.findIndex((one) => one.ask === ask);
    if (index < 0) return null;
    const [old] = this.turns.splice(index, 1);
    tell({ removed: ask });
    return this.ask(old.question);
  },

  change(ask, changes) {
    const found = this.turns.find((one) => one.ask === ask);
    if (!found || isOver(found)) return;
    Object.assign(found, changes);
    tell(found);
  },

  piece(ask, text) {
    const found = this.turns.find((one) => one.ask === ask);
    if (found) this.change(ask, { answer: found.answer + text });
  },

  /** The turn that is being answered, if any. */
  running() {
    return this.turns.find((one) => !isOver(one)) ?? null;
  },

  /** What the model is to know: whole turns, and last the question that waits. */
  messages() {
    const said = [];
    for (const one of this.turns) {
      const waits = one.state === "waiting";
      if (!waits && (one.state === "failed" || !one.answer)) continue;
      said.push({ role: "user", text: one.question });
      if (!waits) said.push({ role: "assistant", text: one.answer });
    }
    return said;
  },

  /** Start over; returns the id of the conversation that ended. */
  clear() {
    const ended = this.conversation;
    this.conversation = newId();
    this.turns = [];
    tell(null);
    return ended;
  },
};

export function isOver(one) {
  return ["done", "stopped", "failed"].includes(one.state);
}

function tell(changed) {
  for (const listener of listeners) listener(changed);
}

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
