// The route of an answer: a strip with the numbers, which opens the list of donors.

import { colour } from "./bloom.js";
import { element } from "./dom.js";
import { count, milliseconds, partWords, rate, reachWords, seconds } from "./words.js";

/** The button that shows the strip and the numbers, and the list that it opens. */
export function routeView(answer, blocks, isOpen, opened) {
  const list = element("div", { id: `route-${answer.id}`, class: "route", hidden: !isOpen });
  list.append(donors(answer, blocks), ...notes(answer));
  const button = element(
    "button",
    { type: "button", class: "summary", "aria-expanded": String(isOpen), "aria-controls": list.id },
    strip(answer, blocks),
    element("span", { class: "numbers" }, ...numbersOf(answer).flatMap((words, at) => [at ? " · " : "", element("span", { text: words })])),
    element("span", { class: "unseen", text: ". The route" }),
  );
  button.addEventListener("click", () => {
    list.hidden = !list.hidden;
    button.setAttribute("aria-expanded", String(!list.hidden));
    opened(!list.hidden);
    if (!list.hidden) list.scrollIntoView({ block: "nearest" });
  });
  return { button, list };
}

function strip(answer, blocks) {
  const made = element("span", { class: "strip", "aria-hidden": "true" });
  for (const stage of answer.route) {
    const title = `${stage.name} holds ${partWords(stage, blocks)}`;
    const segment = element("span", { class: colour(stage.peer), title });
    segment.style.flexGrow = stage.end - stage.start;
    made.append(segment);
  }
  return made;
}

function donors({ route }, blocks) {
  const list = element("ol", { class: "stages", "aria-label": "Donors, in the order in which they compute" });
  route.forEach((stage, at) => {
    const cost = [];
    if (stage.seconds) cost.push(`${milliseconds(stage.seconds)} to compute`);
    if (stage.hop) cost.push(`${milliseconds(stage.hop)} ${at === route.length - 1 ? "back to the first" : "to the next"}`);
    if (stage.reach) cost.push(reachWords(stage.reach));
    list.append(
      element(
        "li",
        {},
        element("span", { class: `mark ${colour(stage.peer)}`, "aria-hidden": "true" }),
        element("code", { text: stage.name, title: stage.peer }),
        element("span", { class: "holds", text: partWords(stage, blocks) }),
        element("span", { class: "cost", text: cost.join(" · ") }),
      ),
    );
  });
  return list;
}

function notes(answer) {
  const said = [];
  if (answer.unplugged) said.push(`${answer.unplugged} was unplugged in the middle of this answer`);
  for (const moved of answer.moves ?? []) said.push(`Moved to another donor, ${seconds(moved)}`);
  if (answer.predicted_seconds && answer.tokens_per_second) said.push(predictedWords(answer));
  if (typeof answer.seed === "number") {
    said.push(`Seed ${answer.seed}: with it, the same question gives this answer again`);
  }
  const kind = (words) => (words.startsWith("Seed") ? "seed" : words.startsWith("These") ? "predicted" : "event");
  return said.map((words) => element("p", { class: kind(words), text: words }));
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
