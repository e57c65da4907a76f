// Gradio puts articles into the page as answers come: each is bound once.
const bindNew = () => {
  for (const article of document.querySelectorAll(".np article:not([data-bound])")) {
    article.dataset.bound = "";
    bindArticle(article);
  }
};
new MutationObserver(bindNew).observe(document.documentElement, { childList: true, subtree: true });

const part = (id) => document.getElementById(id);
const say = (id, text, bad) => {
  const line = part(id);
  line.textContent = text;
  line.classList.toggle("bad", Boolean(bad));
};
const reason = async (answer) => {
  try {
    const told = await answer.json();
    return `${told.code}: ${told.message}${told.mend ? ` (${told.mend})` : ""}`;
  } catch { return `The server answered ${answer.status}.`; }
};

// The picture of the next message: kept by the server, named here by the signed word that it gave for it.
const setToken = (value) => {
  const field = document.querySelector("#np-token textarea, #np-token input");
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
};
const clearPicture = () => {
  part("np-preview").hidden = true;
  part("np-thumb").removeAttribute("src");
  part("np-file").value = "";
  say("np-upload-status", "");
};
const takePicture = async (file) => {
  say("np-upload-status", "Uploading …");
  try {
    const answer = await fetch("/page/pictures", { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
    if (!answer.ok) { const why = await reason(answer); setToken(""); clearPicture(); say("np-upload-status", why, true); return; }
    const kept = await answer.json();
    setToken(kept.picture);
    if (kept.given_up) { clearPicture(); say("np-upload-status", "The picture took too long to read: your next message goes without it.", true); return; }
    part("np-thumb").src = `/page/pictures/${kept.picture}.jpg`;
    part("np-size").textContent = `${kept.width} × ${kept.height}`;
    part("np-preview").hidden = false;
    say("np-upload-status", "The picture goes with your next message.");
  } catch { say("np-upload-status", "The server cannot be reached.", true); }
};
window.npAnswered = () => {
  if (!document.querySelector("#np-now .np-problem")) clearPicture();
  document.querySelector("#np-past .np-turn:last-of-type")?.scrollIntoView({ block: "start" });
};

document.addEventListener("change", (event) => {
  if (event.target.id === "np-file" && event.target.files.length) takePicture(event.target.files[0]);
});
document.addEventListener("click", (event) => {
  if (event.target.id !== "np-remove") return;
  setToken("");
  clearPicture();
  part("np-file").focus();
});
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
  if (file && part("np-drop")?.offsetParent) { event.preventDefault(); takePicture(file); }
}, true);
const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files") && part("np-drop")?.offsetParent;
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    part("np-drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) takePicture(event.dataTransfer.files[0]);
  }, true);
}

// A file of posts becomes a job.
document.addEventListener("submit", async (event) => {
  if (event.target.id !== "np-batch") return;
  event.preventDefault();
  say("np-batch-status", "Uploading …");
  try {
    const profile = encodeURIComponent(part("np-batch-profile").value);
    const answer = await fetch(`/page/jobs?profile=${profile}`, { method: "POST", body: part("np-posts").files[0], headers: { "content-type": "application/octet-stream" } });
    if (!answer.ok) { say("np-batch-status", await reason(answer), true); return; }
    const job = await answer.json();
    say("np-batch-status", `Accepted: ${job.posts} posts.`);
    part("np-refresh").click();
  } catch { say("np-batch-status", "The server cannot be reached.", true); }
});

// Close decisions: a result's questions come into the page, and the answers become a turn of the conversation.
const ask = async (place, address, body, then) => {
  const line = place.querySelector(".np-status");
  for (const button of place.querySelectorAll("button")) button.disabled = true;
  line.classList.remove("bad");
  line.textContent = "…";
  try {
    const answer = await fetch(address, { method: "POST", body: body && JSON.stringify(body), headers: body ? { "content-type": "application/json" } : {} });
    if (answer.ok) { line.textContent = ""; then(await answer.json(), line); } else {
      line.textContent = await reason(answer);
      line.classList.add("bad");
    }
  } catch {
    line.textContent = "The server cannot be reached.";
    line.classList.add("bad");
  }
  for (const button of place.querySelectorAll("button")) button.disabled = false;
};
const showQuestions = (place) => (told, line) => {
  if (told.done && !told.html) line.textContent = "Nothing is close any more: there is nothing to decide.";
  else if (told.done) part("np-again").click();
  else { place.innerHTML = told.html; place.querySelector("input").focus(); }
};
document.addEventListener("click", (event) => {
  const place = event.target.closest?.(".np-decide");
  if (!place) return;
  const { review, result } = (event.target.closest("form") ?? event.target).dataset;
  if (event.target.matches(".np-begin")) {
    place.dataset.before = place.innerHTML;
    ask(place, `/page/results/${result}/review`, null, showQuestions(place));
  } else if (event.target.matches(".np-later")) {
    ask(place, `/page/reviews/${review}/drop`, null, () => {
      if (place.dataset.before) { place.innerHTML = place.dataset.before; place.querySelector("button").focus(); } else part("np-again").click();
    });
  } else if (event.target.matches(".np-keep")) {
    ask(place, `/page/reviews/${review}/row`, null, (told, line) => {
      line.textContent = `Kept. Your training rows hold ${told.posts} ${told.posts === 1 ? "post" : "posts"}.`;
      place.querySelector("a").hidden = false;
    });
  }
});
document.addEventListener("submit", (event) => {
  if (!event.target.matches(".np-review")) return;
  event.preventDefault();
  const place = event.target.closest(".np-decide");
  const answers = Object.fromEntries(new FormData(event.target));
  ask(place, `/page/reviews/${event.target.dataset.review}/answers`, { answers }, showQuestions(place));
});
