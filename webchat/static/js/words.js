// Numbers and layers in words.

/** Layers [start, end) of a model of `blocks` blocks: "words in, blocks 1 to 3". */
export function partWords({ start, end }, blocks) {
  const parts = [];
  if (start === 0) parts.push("words in");
  const first = Math.max(start, 1);
  const last = Math.min(end - 1, blocks);
  if (first < last) parts.push(`blocks ${first} ${last - first === 1 ? "and" : "to"} ${last}`);
  if (first === last) parts.push(`block ${first}`);
  if (end > blocks + 1) parts.push("words out");
  return parts.join(", ");
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

export function rate(perSecond) {
  return perSecond >= 100 ? perSecond.toFixed(0) : perSecond.toFixed(1);
}

export function seconds(value) {
  return `${value >= 10 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2)} s`;
}

export function milliseconds(value) {
  const ms = value * 1000;
  return `${ms >= 10 ? ms.toFixed(0) : ms.toFixed(1)} ms`;
}

export function bytes(value) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) {
    value /= 1000;
    at++;
  }
  return `${at < 2 ? value.toFixed(0) : value.toFixed(1)} ${units[at]}`;
}

/** When `date` was, as a list of chats says it: "Today", "Last 7 days", "October 2026". */
export function dayWords(date, now) {
  const midnight = (day) => new Date(day.getFullYear(), day.getMonth(), day.getDate());
  // An hour more or less, where clocks were put forward or back, is no other day.
  const ago = Math.round((midnight(now) - midnight(date)) / 86_400_000);
  if (ago <= 0) return "Today";
  if (ago === 1) return "Yesterday";
  if (ago <= 7) return "Last 7 days";
  if (ago <= 30) return "Last 30 days";
  return date.toLocaleDateString("en", { month: "long", year: "numeric" });
}

/** How a donor is reached, for a person. */
export function reachWords(reach) {
  return { public: "direct", "dial-out": "direct, dials out", relay: "relayed" }[reach] ?? reach;
}

/** "blocks 4 to 6 have no donor". */
export function missingWords(spans, blocks) {
  const names = spans.map((span) => partWords(span, blocks));
  const only = spans.length === 1 && spans[0].end - spans[0].start === 1;
  const one = only && spans[0].start > 0 && spans[0].start <= blocks;
  const words = names.length > 2 ? `${names.slice(0, 2).join("; ")} and more` : names.join(" and ");
  return `${words} ${one ? "has" : "have"} no donor`;
}

/** The end of the last whole sentence in `text`, at or after `from`. */
export function sentenceEnd(text, from) {
  const ends = /[.!?…]["'”’)\]]*\s+|[。！？]|\n+/gu;
  ends.lastIndex = from;
  let end = from;
  for (let match = ends.exec(text); match; match = ends.exec(text)) end = ends.lastIndex;
  return end;
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
