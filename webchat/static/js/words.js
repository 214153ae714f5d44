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

/** "layers 4 to 6 have no donor": as the program's errors say it. */
export function missingWords(spans) {
  const names = spans.map(({ start, end }) => (end - start === 1 ? `layer ${start}` : `layers ${start} to ${end - 1}`));
  const many = spans.length > 1 || spans[0].end - spans[0].start > 1;
  const words = names.length > 2 ? `${names.slice(0, 2).join(", ")} and more` : names.join(" and ");
  return `${words} ${many ? "have" : "has"} no donor`;
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
