// The WebSocket to this PC's node, redialled for as long as the page is open.

const SOONEST = 500;
const LATEST = 8000;

export class Line extends EventTarget {
  #socket = null;
  #wait = SOONEST;

  open() {
    const socket = new WebSocket(`ws://${location.host}/api/chat`);
    this.#socket = socket;
    let greeted = false;
    socket.addEventListener("message", (event) => {
      const message = JSON.parse(event.data);
      if (message.type === "hello") {
        greeted = true;
        this.#wait = SOONEST;
      }
      this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
    });
    socket.addEventListener("close", () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.dispatchEvent(new CustomEvent("lost"));
      setTimeout(() => this.#redial(greeted), this.#wait);
      this.#wait = Math.min(this.#wait * 2, LATEST);
    });
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** False when it could not be sent. */
  send(type, fields = {}) {
    if (!this.isOpen) return false;
    this.#socket.send(JSON.stringify({ type, ...fields }));
    return true;
  }

  async #redial(greeted) {
    // A node that was started anew knows another cookie: the page itself brings it.
    if (!greeted) await fetch("/", { cache: "no-store" }).catch(() => {});
    this.open();
  }
}
