// A place in a queue, in words.

const rules = new Intl.PluralRules("en", { type: "ordinal" });
const endings = { one: "st", two: "nd", few: "rd", other: "th" };

export const ordinal = (number) => `${number}${endings[rules.select(number)]}`;

/** "about 20 seconds", "about 1–2 min"; nothing while there is nothing to go by. */
export function about(seconds) {
  if (seconds === null || seconds === undefined) return "estimating how long";
  if (seconds < 10) return "a few seconds";
  if (seconds < 50) return `about ${Math.ceil(seconds / 10) * 10} seconds`;
  const minutes = Math.max(1, Math.floor(seconds / 60));
  return `about ${minutes}–${minutes + 1} min`;
}

/** "You are next in line, about 1–2 min." */
export function place({ position, estimatedWaitSeconds }) {
  const where = position === 1 ? "next" : ordinal(position);
  return `You are ${where} in line, ${about(estimatedWaitSeconds)}.`;
}

const plain = document.title;

/** Show the place in the page's title; null shows the plain title again. */
export function showInTitle(data) {
  document.title = data ? `${data.position === 1 ? "Next" : ordinal(data.position)} in line · ${plain}` : plain;
}
