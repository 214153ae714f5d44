// The route of an answer: a strip with the numbers, which opens the list of donors.

import { colour } from "./bloom.js";
import { element } from "./dom.js";
import { count, partWords, rate, seconds } from "./words.js";

export function routeStrip(answer, blocks) {
  const listId = `route-${answer.id}`;
  const strip = element("span", { class: "strip", "aria-hidden": "true" });
  const list = element("ol", { id: listId, class: "route", hidden: true });
  for (const stage of answer.route) {
    const segment = element("span", { class: colour(stage.peer), title: `${stage.name} holds ${partWords(stage, blocks)}` });
    segment.style.flexGrow = stage.end - stage.start;
    strip.append(segment);
    list.append(routeItem(stage, blocks));
  }
  if (answer.predicted_seconds && answer.tokens_per_second) {
    list.append(element("li", { class: "predicted", text: predictedWords(answer) }));
  }
  if (typeof answer.seed === "number") {
    list.append(element("li", { class: "seed", text: `Seed ${answer.seed}: with it, the same question gives this answer again` }));
  }
  const numbers = element("span", { class: "numbers", text: numbersOf(answer).join(" · ") });
  const button = element(
    "button",
    { type: "button", class: "summary", "aria-expanded": "false", "aria-controls": listId },
    strip,
    numbers,
  );
  button.addEventListener("click", () => {
    list.hidden = !list.hidden;
    button.setAttribute("aria-expanded", String(!list.hidden));
  });
  return element("div", { class: "facts" }, button, list);
}

function routeItem(stage, blocks) {
  return element(
    "li",
    {},
    element("span", { class: `mark ${colour(stage.peer)}`, "aria-hidden": "true" }),
    element("code", { text: stage.name, title: stage.peer }),
    element("span", { text: partWords(stage, blocks) }),
  );
}

function predictedWords({ predicted_seconds: predicted, tokens_per_second: measured }) {
  return `These donors promised ${rate(1 / predicted)} tokens/s by their distances and speeds; it was ${rate(measured)}`;
}

function numbersOf(answer) {
  const numbers = [count(new Set(answer.route.map((stage) => stage.peer)).size, "donor")];
  if (answer.tokens_per_second) numbers.push(`${rate(answer.tokens_per_second)} tokens/s`);
  if (answer.first_token_seconds) numbers.push(`first token ${seconds(answer.first_token_seconds)}`);
  if (answer.tokens !== undefined) numbers.push(count(answer.tokens, "token"));
  for (const moved of answer.moves ?? []) numbers.push(`moved to another donor, ${seconds(moved)}`);
  return numbers;
}
