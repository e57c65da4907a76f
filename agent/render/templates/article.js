"use strict";
// Everything that stands for one entity (mention, chip, pin, box, card) carries the same data-e within its article:
// pointing at or focusing one lights up all of them. A click or a tap keeps them lit, which a finger cannot do.
const bindArticle = (article) => {
  let kept = null;
  const light = (index) => {
    index ??= kept;
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
    if (event.target.closest("details, .warmth, figcaption, .downloads")) return;
    const link = event.target.closest?.("a[data-e]");
    const index = under(event);
    if (link) event.preventDefault();
    if (index === null || (kept === index && !link)) { kept = null; light(null); return; }
    const box = article.querySelector(`g[data-e="${index}"]`);
    const fromPicture = event.target.closest(".stage") !== null;
    kept = index;
    if (!fromPicture && box) article.querySelector(".stage").scrollIntoView({ block: "nearest" });
    else if (link) article.querySelector(`li[data-e="${index}"]`).scrollIntoView({ block: "nearest" });
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
    if (event.key === "Escape") { kept = null; document.activeElement.blur(); light(null); }
  });
};
