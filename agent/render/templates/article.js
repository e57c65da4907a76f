"use strict";
// Everything that stands for one entity (mention, pin, box, card) carries the same data-e within its article:
// pointing at or focusing one lights up all of them.
const bindArticle = (article) => {
  const light = (index) => {
    const lit = index !== null;
    for (const part of article.querySelectorAll("[data-e]")) part.classList.toggle("on", lit && part.dataset.e === index);
    article.classList.toggle("active", lit && article.querySelector("g.on") !== null);
  };
  const under = (event) => event.target.closest?.("[data-e]")?.dataset.e ?? null;
  const focused = () => (article.contains(document.activeElement) ? document.activeElement.dataset.e ?? null : null);
  article.addEventListener("pointerover", (event) => light(under(event) ?? focused()));
  article.addEventListener("pointerleave", () => light(focused()));
  article.addEventListener("focusin", (event) => light(under(event)));
  article.addEventListener("focusout", () => light(null));
  // A click must not scroll the picture out of a phone's view: a name shows its place, a pin its card.
  article.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-e]");
    const index = under(event);
    if (index === null || event.target.closest("details")) return;
    const box = article.querySelector(`g[data-e="${index}"]`);
    const goal = box && !link?.classList.contains("pin") ? article.querySelector(".stage") : article.querySelector(`li[data-e="${index}"]`);
    if (link) event.preventDefault();
    goal.scrollIntoView({ block: "nearest" });
    light(index);
  });
  // One heat map at a time: two would mix into colours that mean nothing.
  article.addEventListener("change", (event) => {
    if (!event.target.matches(".warmth input")) return;
    const chosen = event.target.value;
    for (const map of article.querySelectorAll("img.heat")) map.hidden = map.dataset.heat !== chosen;
    article.querySelector(".stage").classList.toggle("hot", chosen !== "");
    article.querySelector(".scale").hidden = chosen === "";
  });
  article.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { document.activeElement.blur(); light(null); }
  });
};
