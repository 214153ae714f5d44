// Building elements. Text goes in as text; markup enters in markup.js alone.

export function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") made.className = value;
    else if (name === "text") made.textContent = value;
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {
  again: "M16 10a6 6 0 1 1-1.8-4.3M16 3v4h-4",
  copy: "M7 7h9v9H7zM13 7V4H4v9h3",
  edit: "M4 16l1-4 8-8 3 3-8 8zM11 6l3 3",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  more: "M5 10h.01M10 10h.01M15 10h.01",
};

export function icon(name) {
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("viewBox", "0 0 20 20");
  made.setAttribute("width", "17");
  made.setAttribute("height", "17");
  made.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", SHAPES[name]);
  made.append(path);
  return made;
}
