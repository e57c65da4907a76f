// Gradio puts articles into the page as answers come: each is bound once.
const bindNew = () => {
  for (const article of document.querySelectorAll(".np article:not([data-bound])")) {
    article.dataset.bound = "";
    bindArticle(article);
  }
};
new MutationObserver(bindNew).observe(document.documentElement, { childList: true, subtree: true });

const part = (id) => document.getElementById(id);
const say = (line, text, bad) => {
  const code = text.match(/ \(([EWH]\w+)\)$/); // small, at the end
  line.textContent = code ? text.slice(0, code.index + 1) : text;
  if (code) line.append(Object.assign(document.createElement("small"), { className: "np-code", textContent: code[0].trim() }));
  line.classList.toggle("bad", Boolean(bad));
};
const UNREACHABLE = "The server cannot be reached. Is it still running?";
const sentence = (words) => words && `${words[0].toUpperCase()}${words.slice(1).replace(/\.$/, "")}.`;
const reason = async (answer) => {
  try {
    const told = await answer.json();
    return [sentence(told.message), sentence(told.mend), `(${told.code})`].filter(Boolean).join(" ");
  } catch { return `The server answered ${answer.status}.`; }
};

// The composer: its text, and its picture, which the server keeps under the signed name that it gave.
let picture = "", sent = null, example = null;
const field = () => part("np-text");
const most = () => Number(part("np-composer").dataset.most);
const grow = () => {
  field().style.height = "auto";
  field().style.height = `${field().scrollHeight}px`;
  const length = [...field().value].length, over = length > most();
  part("np-count").textContent = length > most() * 0.8 ? `${length.toLocaleString("en")} of ${most().toLocaleString("en")}` : "";
  part("np-count").classList.toggle("bad", over);
  part("np-trim").hidden = !over;
  if (over) wrong(`This text is too long: at most ${most().toLocaleString("en")} characters are read.`);
  else if (part("np-composer").classList.contains("wrong")) right();
};
const wrong = (text) => {
  say(part("np-say"), text, true);
  part("np-composer").classList.add("wrong");
  field().setAttribute("aria-invalid", "true");
};
const right = (text = "") => {
  say(part("np-say"), text);
  part("np-composer").classList.remove("wrong");
  field().removeAttribute("aria-invalid");
};
const showPicture = (name, size) => {
  picture = name;
  part("np-preview").hidden = !name;
  if (name) part("np-thumb").src = `/page/pictures/${name}.jpg`;
  else part("np-thumb").removeAttribute("src");
  part("np-size").textContent = size;
};
const clearPicture = () => {
  showPicture("", "");
  for (const id of ["np-file", "np-camera"]) part(id).value = "";
};
const takePicture = async (file) => {
  right("Uploading the picture …");
  try {
    const answer = await fetch("/page/pictures", { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
    clearPicture();
    if (!answer.ok) { wrong(await reason(answer)); return; }
    const kept = await answer.json();
    if (kept.given_up) { picture = kept.picture; wrong("The picture took too long to read: your next message goes without it."); return; }
    showPicture(kept.picture, `${kept.width} × ${kept.height}`);
    right();
  } catch { wrong(UNREACHABLE); }
};
const busy = (on) => {
  part("np-go").disabled = on;
  part("np-composer").setAttribute("aria-busy", String(on));
};
const send = (text = field().value) => {
  if (part("np-go").disabled) { right("The last answer is still coming. Send this after it."); return; }
  const length = [...text].length;
  if (example === null) {
    if (!text.trim() && picture && part("np-composer").dataset.rules !== undefined) {
      wrong("Add the post’s text: its names are looked for in the picture."); field().focus(); return;
    }
    if (!text.trim() && !picture) { wrong("Write or paste a post first."); field().focus(); return; }
    if (length > most()) { grow(); field().focus(); return; }
  }
  sent = { text, picture, size: part("np-size").textContent, example, given: false, refused: null, closed: false };
  busy(true);
  right();
  if (example === null) {
    if (field().value === text) field().value = "";
    clearPicture();
    grow();
  }
  giveToGradio();
};
// Gradio mounts its own button after the field: a message of that moment waits for the button.
const giveToGradio = () => {
  if (!sent || sent.given || !part("np-send")) return;
  sent.given = true;
  part("np-send").click();
  watch(sent);
};
window.npGiven = () => JSON.stringify({
  text: sent?.text ?? "", picture: sent?.picture ?? "", profile: part("np-profile")?.value ?? "", example: sent?.example ?? null,
});
window.npShown = () => document.querySelector("#np-past .np-turn:last-of-type")?.scrollIntoView({ block: "start" });
const answered = (refused) => {
  busy(false);
  if (refused && sent) {
    if (sent.example === null) { // before what has been typed and chosen since
      field().value = [sent.text, field().value].filter(Boolean).join("\n");
      if (sent.picture && !picture) showPicture(sent.picture, sent.size);
      grow();
    }
    wrong(refused);
    field().focus();
  } else {
    if (!part("np-composer").classList.contains("wrong")) right();
    window.npShown();
  }
  sent = example = null;
};
// An answer is over when its end is in the page and Gradio has closed its event. Either may come first, and what the
// event brings at its close would take the place of a next answer.
const end = (what) => {
  if (!sent) return;
  Object.assign(sent, what);
  if (sent.closed && sent.refused !== null) answered(sent.refused);
};
window.npClosed = () => end({ closed: true });
// Gradio does not tell of a connection that broke during an answer: ask the server whether it still works on one.
// Gradio does not connect again, either: the page is loaded again, and the message comes back into its field.
const KEPT = "np-message";
let leaving = false;
const watch = async (one, missed = 0) => {
  await new Promise((done) => setTimeout(done, 5000));
  const told = sent === one && (await fetch("/page/answering").then((answer) => answer.json()).catch(() => null));
  if (sent !== one) return;
  if (told?.answering || !missed) { watch(one, told?.answering ? 0 : 1); return; }
  answered(UNREACHABLE);
  if (!told) return;
  leaving = true;
  sessionStorage.setItem(KEPT, JSON.stringify([field().value, picture, part("np-size").textContent]));
  location.reload();
};
const giveBack = () => {
  const kept = !leaving && document.querySelector("#np-past .np") && sessionStorage.getItem(KEPT);
  if (!kept) return;
  sessionStorage.removeItem(KEPT);
  const [text, name, size] = JSON.parse(kept);
  field().value = text;
  if (name) showPicture(name, size);
  grow();
  wrong("The connection broke. Send this again if it has no answer above.");
};
// Follow the steps of a running answer, to its end.
new MutationObserver(() => {
  document.querySelector("#np-now .np-doing")?.scrollIntoView({ block: "nearest" });
  const last = document.querySelector("#np-now [data-end]:not([data-seen])");
  if (last) { last.dataset.seen = ""; end({ refused: last.textContent.trim() }); }
  giveBack();
  giveToGradio();
}).observe(document.documentElement, { childList: true, subtree: true });

document.addEventListener("input", (event) => { if (event.target.id === "np-text") grow(); });
document.addEventListener("keydown", (event) => {
  if (event.target.id !== "np-text" || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("submit", (event) => {
  if (event.target.id !== "np-composer") return;
  event.preventDefault();
  send();
});
document.addEventListener("click", (event) => {
  const at = event.target.closest?.("button");
  if (!at) return;
  if (at.id === "np-remove") { clearPicture(); part("np-file").focus(); }
  if (at.id === "np-trim") { field().value = [...field().value].slice(0, most()).join(""); grow(); field().focus(); }
  if (at.matches(".np-example")) { example = Number(at.dataset.example); send(); }
  if (at.matches(".np-suggest")) send(at.textContent);
});
document.addEventListener("change", (event) => {
  if (["np-file", "np-camera"].includes(event.target.id) && event.target.files.length) takePicture(event.target.files[0]);
  if (event.target.id === "np-posts") { chosen = [...event.target.files]; showChosen(); }
});
const isShown = (id) => Boolean(part(id)?.offsetParent);
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
  if (file && isShown("np-drop")) { event.preventDefault(); takePicture(file); }
}, true);
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    const place = ["np-drop", "np-batch-drop"].find(isShown);
    if (!place || ![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    part(place).classList.toggle("over", name === "dragover");
    const files = [...event.dataTransfer.files];
    if (name !== "drop" || !files.length) return;
    if (place === "np-drop") takePicture(files[0]);
    else { chosen = [...chosen, ...files]; showChosen(); }
  }, true);
}

// Batch jobs: files become a job, whose card follows it.
let chosen = [];
const showChosen = () => {
  const few = chosen.slice(0, 12).map((file) => Object.assign(document.createElement("li"), { textContent: file.name }));
  if (chosen.length > 12) few.push(Object.assign(document.createElement("li"), { textContent: `and ${chosen.length - 12} more` }));
  part("np-chosen").replaceChildren(...few);
  say(part("np-batch-status"), "");
};
let polling = null;
const showJobs = async () => {
  clearTimeout(polling);
  if (!isShown("np-jobs")) return;
  const answer = await fetch("/page/jobs").catch(() => null);
  if (!answer?.ok) { polling = setTimeout(showJobs, 5000); return; }
  const come = new DOMParser().parseFromString(`<div>${await answer.text()}</div>`, "text/html").body.firstChild;
  const place = part("np-jobs");
  // What did not change stays: an open table, and the focus.
  for (const job of come.querySelectorAll(".np-job")) {
    const known = part(job.id);
    if (!known) continue;
    const [head, now] = [known, job].map((one) => one.querySelector(".np-job-head"));
    if (head.innerHTML !== now.innerHTML && !head.contains(document.activeElement)) head.replaceWith(now);
    for (const more of job.querySelectorAll(".np-more")) {
      const same = known.querySelector(`.np-more[data-address="${more.dataset.address}"]`);
      if (!same) known.append(more);
      else if (known.dataset.done !== job.dataset.done && same.open && same.matches(".np-table-of")) loadMore(same);
    }
    Object.assign(known.dataset, job.dataset);
    job.replaceWith(known);
  }
  place.replaceChildren(...come.childNodes);
  if (place.querySelector('[data-state="waiting"], [data-state="running"]')) polling = setTimeout(showJobs, 1000);
};
const loadMore = async (details, start = 0) => {
  const place = details.querySelector(".np-loaded");
  const answer = await fetch(`${details.dataset.address}?start=${start}`).catch(() => null);
  if (!answer?.ok) { place.textContent = UNREACHABLE; return; }
  if (start) {
    place.querySelector(".np-next")?.closest("p").remove();
    place.insertAdjacentHTML("beforeend", await answer.text());
  } else place.innerHTML = await answer.text();
};
document.addEventListener("toggle", (event) => {
  if (event.target.matches?.(".np-more") && event.target.open) loadMore(event.target);
}, true);
document.addEventListener("click", async (event) => {
  const at = event.target.closest?.("button, [role=tab]");
  if (at?.matches("[role=tab]")) setTimeout(showJobs, 0);
  if (at?.matches(".np-next")) { await loadMore(at.closest(".np-more"), Number(at.dataset.from)); }
  if (!at?.matches(".np-drop-job")) return;
  const answer = await fetch(`/page/jobs/${at.dataset.job}/drop`, { method: "POST" }).catch(() => null);
  if (answer?.ok || answer?.status === 404) { part(`job-${at.dataset.job}`)?.remove(); part("np-posts").focus(); showJobs(); }
  else say(at.parentNode.querySelector(".np-status"), answer ? await reason(answer) : UNREACHABLE, true);
});
document.addEventListener("submit", async (event) => {
  if (event.target.id !== "np-batch") return;
  event.preventDefault();
  const line = part("np-batch-status");
  if (!chosen.length) { say(line, "Choose a table of posts, or a ZIP, first.", true); part("np-posts").focus(); return; }
  say(line, "Uploading …");
  const form = new FormData();
  for (const file of chosen) form.append("files", file, file.name);
  try {
    const profile = encodeURIComponent(part("np-batch-profile")?.value ?? "");
    const answer = await fetch(`/page/jobs${profile && `?profile=${profile}`}`, { method: "POST", body: form });
    if (!answer.ok) { say(line, await reason(answer), true); return; }
    const job = await answer.json();
    say(line, `Accepted ${job.name}: ${job.posts} ${job.posts === 1 ? "post" : "posts"}${job.skipped ? `, ${job.skipped} ${job.skipped === 1 ? "line" : "lines"} skipped` : ""}.`);
    chosen = [];
    part("np-posts").value = "";
    part("np-chosen").replaceChildren();
    showJobs();
  } catch { say(line, UNREACHABLE, true); }
});

// A table's copy as CSV.
const copyText = async (text) => {
  try { await navigator.clipboard.writeText(text); } catch { // without a secure context
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
};
document.addEventListener("click", async (event) => {
  const at = event.target.closest?.(".np-copy");
  if (!at) return;
  const line = at.parentNode.querySelector(".np-status");
  const answer = await fetch(at.dataset.address).catch(() => null);
  if (!answer?.ok) { say(line, UNREACHABLE, true); return; }
  await copyText(await answer.text());
  say(line, "Copied.");
});

// Close decisions: a result's questions come into the page, and the answers become a turn of the conversation.
const ask = async (place, address, body, then) => {
  const line = place.querySelector(".np-status");
  for (const button of place.querySelectorAll("button")) button.disabled = true;
  say(line, "…");
  try {
    const answer = await fetch(address, { method: "POST", body: body && JSON.stringify(body), headers: body ? { "content-type": "application/json" } : {} });
    if (answer.ok) { line.textContent = ""; then(await answer.json(), line); } else say(line, await reason(answer), true);
  } catch { say(line, UNREACHABLE, true); }
  for (const button of place.querySelectorAll("button")) button.disabled = false;
};
// Where somebody has gone on to something else, the focus stays there.
const focusIn = (place, selector) => {
  if ([document.body, null].includes(document.activeElement) || place.contains(document.activeElement)) place.querySelector(selector).focus();
};
const showQuestions = (place) => (told, line) => {
  if (told.done && !told.html) line.textContent = "Nothing is close any more: there is nothing to decide.";
  else if (told.done) part("np-again").click();
  else { place.innerHTML = told.html; focusIn(place, "input"); }
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
      if (place.dataset.before) { place.innerHTML = place.dataset.before; focusIn(place, "button"); } else part("np-again").click();
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
