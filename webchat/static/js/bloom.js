// The flower: its petals are the model, clockwise from words in to words out, coloured by who holds them.

const SVG = "http://www.w3.org/2000/svg";
const PETAL = "M0 0C9-4 11-16 0-24C-11-16-9-4 0 0Z";
const SLIM = "M0 0C5-5 6.5-17 0-24C-6.5-17-5-5 0 0Z";
const COLOURS = 6;

const seen = [];

/** The same donor has the same colour wherever the page shows it. */
export function colour(peer) {
  if (!seen.includes(peer)) seen.push(peer);
  return `c${(seen.indexOf(peer) % COLOURS) + 1}`;
}

/** `owners`: a peer, or null for a hole, for each layer. */
export function bloom(owners, petals = 6) {
  const svg = make("svg", { viewBox: "-26 -26 52 52", class: "bloom" });
  for (let index = 0; index < petals; index++) {
    const from = Math.floor((index * owners.length) / petals);
    const to = Math.max(from + 1, Math.floor(((index + 1) * owners.length) / petals));
    const held = owners.slice(from, to);
    const peer = held.includes(null) || !held.length ? null : held[0];
    const petal = make("path", { d: petals > 8 ? SLIM : PETAL, class: `petal ${peer ? colour(peer) : "hole"}` });
    const turned = make("g", { transform: `rotate(${(index * 360) / petals})`, class: "turned" });
    petal.style.setProperty("--turn", index / petals);
    turned.append(petal);
    svg.append(turned);
  }
  svg.append(make("circle", { r: petals > 8 ? 4 : 5, class: "heart" }));
  return svg;
}

/** Who holds each layer, from stages or records. */
export function ownersOf(parts, layers) {
  const owners = new Array(layers).fill(null);
  for (const part of parts) owners.fill(part.peer, part.start, part.end);
  return owners;
}

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
