// The one place where HTML enters the page: answers as the node rendered and sanitised them. The page's policy
// allows no other Trusted Types policy than this one, and it is reachable only through `place`.

import { element } from "./dom.js";
import { setUpCopy } from "./copy.js";

const policy = globalThis.trustedTypes?.createPolicy("idlebloom", { createHTML: (html) => html });

/** Show sanitised HTML in `parent`; code gets its language and a button to copy it, tables may scroll. */
export function place(parent, html) {
  parent.innerHTML = policy ? policy.createHTML(html) : html;
  for (const code of parent.querySelectorAll("pre")) frame(code);
  for (const table of parent.querySelectorAll("table")) {
    const wide = element("div", { class: "wide", role: "group", "aria-label": "Table", tabIndex: 0 });
    table.replaceWith(wide);
    wide.append(table);
  }
}

function frame(code) {
  const language = code.dataset.language;
  const copy = setUpCopy(element("button", { type: "button", class: "link", text: "Copy code" }), () =>
    code.textContent.replace(/\n$/, ""),
  );
  const head = element("div", { class: "head" }, element("span", { text: language }), copy);
  const box = element("div", { class: "code" });
  code.replaceWith(box);
  code.tabIndex = 0;
  code.setAttribute("role", "group");
  code.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
  box.append(head, code);
}
