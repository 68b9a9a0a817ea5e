// Finding actions: what is asked of the server, what it tells, and what is shown of that.
let job = "", over = true, stopping = false, threshold = 0.3;
let runs = [];  // as the server tells them
const off = new Set();  // names of actions that are not to be shown

const fail = (sentence) => {
  tell("");
  at(".failed").hidden = false;
  at(".failed p").textContent = sentence;
  busy(false);
  for (const view of views) if (!view.complete) view.complete = view.stopped = true;  // as far as it came
};
const busy = (on) => { working(on); over = !on; at("#start").disabled = on; at("#cancel").hidden = !on; at(".go").classList.toggle("busy", on); if (!on) stopping = false; };
const clear = () => {
  if (!over && job) trigger("cancel", { job });
  job = "";
  busy(false);
  runs = [];
  views = [];
  goOn();
  off.clear();
  people = true;
  lit = null;
  tell("");
  at(".result").hidden = at(".stage.second").hidden = true;
  at(".stages").classList.remove("two");
  at(".pictures").replaceChildren();
  at(".result").dataset.found = "";
  const pen = at(".stage canvas").getContext("2d");
  pen.clearRect(0, 0, 9999, 9999);
};

// ---- models
const modelMenu = at("#model"), besideMenu = at("#beside");
for (const name of models.keys()) modelMenu.append(option(name, name));
const modelChosen = () => {
  const { name, actions, licence } = models.get(modelMenu.value);
  besideMenu.replaceChildren(option("", "none"), ...alike(models.get(name)).map((one) => option(one, one)));
  besideMenu.parentElement.hidden = besideMenu.options.length < 2;
  at(".knows summary").textContent = `${name} recognises ${actions.length} actions`;
  at(".knows p").textContent = `${actions.join(", ")}.${licence ? ` Licence: ${licence}.` : ""}`;
};
modelMenu.value = props.model;
modelMenu.addEventListener("change", () => { ownModel = null; modelChosen(); });
modelChosen();

// ---- begin and cancel
const begin = () => {
  if (!file) { fail("Choose or record a video first."); return; }
  if (file.error) { fail(file.error); return; }
  if (!file.path && !file.example) {
    file.wanted = true;
    busy(true);
    if (file.failed) send(file, file.picked); else tellUpload();
    return;
  }
  clear();
  file.wanted = false;
  job = random();
  busy(true);
  const wanted = [modelMenu.value, besideMenu.value].filter(Boolean);
  threshold = models.get(wanted[0]).threshold;
  views = wanted.map((model, place) => viewOf(model, place));
  at(".timelines").replaceChildren(...views.map((view) => view.box));
  at(".stages").classList.toggle("two", wanted.length > 1);
  at(".stage.second").hidden = wanted.length < 2;
  at(".result").hidden = false;
  at(".files").hidden = at(".making").hidden = at(".caption").hidden = at(".stages-took").hidden = true;
  span(0, length());
  tell(WAITING, 0);
  wait(at(".said"));
  show();
  trigger("find", { job, path: file.path, example: file.example, models: wanted });
};
const viewOf = (model, place) => {
  const stage = element.querySelectorAll(".stage")[place], canvas = stage.querySelector("canvas");
  const view = { model, canvas, pen: canvas.getContext("2d"), copies: place > 0, found: unpacked(), shown: [], complete: false, stopped: false };
  view.box = timelineOf(view);
  stage.querySelector(".tag").textContent = model;
  return view;
};
const cancel = () => {
  if (uploading()) { file.request.abort(); brokenOff("Upload cancelled; “Find actions” sends the video again.", tell); return; }
  if (runs.length) { trigger("cancel", { job }); stopping = true; tell("Stopping …", 0); return; }
  clear();
  tell("Cancelled before anything was looked at.");
};

// ---- what the server tells
watch("value", () => {
  const told = props.value;
  if (!told || over || told.job !== job && !(told.error && !told.job)) return;
  runs = told.runs || runs;  // changed in place, so that nothing can be compared with what it was
  views.forEach((view, place) => {
    const run = runs[place];
    if (run && view.version !== run.version) { view.found = unpacked(run.found && JSON.parse(run.found)); view.version = run.version; }
    view.stopped = Boolean(run) && run.phase === "stopped";
    view.complete = Boolean(run) && (view.stopped || run.phase === "done");
  });
  if (told.gone && sendAgain()) return;
  if (told.error) { fail(told.error); show(); return; }
  progress();
  show();
  goOn();
});
const progress = () => {
  const run = runs[runs.length - 1], whose = views.length > 1 ? `${run.model}: ` : "";
  const ended = run.phase === "stopped" || run.phase === "done" && runs.length === views.length;
  views.forEach((view, place) => { view.skipped = ended && !runs[place]; });
  if (ended) {
    busy(false);
    if (file) file.again = false;
    at(".result").dataset.found = job;  // what other tabs look into
    const { found } = views[0];
    if (run.phase === "done") {
      at(".about").textContent = described(found.duration, found.size, rateOf(views[0]), found.times.length, true);
      tell(runs.map((one) => `${one.model}: ${many(one.done, "frame", "frames")} at ${Math.round(one.speed)} a second`).join("; "));
    } else tell(`Cancelled after ${clock(views[runs.length - 1].found.duration)}${expected ? ` of ${clock(expected)}` : ""}${whose && ` with ${run.model}`}. What was found until then is kept.`);
    at(".stages-took p").textContent = runs.filter((one) => one.stages).map((one) => `${one.model}: ${Object.entries(one.stages).map(([stage, seconds]) => `${stage} ${seconds.toFixed(2)} s`).join(", ")}`).join("; ");
  } else if (stopping) tell("Stopping …", 0);
  else if (run.phase === "waking") tell(`${whose}Waking the model …`, 0);
  else {
    const sure = run.total && run.done <= run.total, left = sure && run.speed && run.done < run.total ? `, about ${clock(Math.max((run.total - run.done) / run.speed, 1))} left` : "";
    tell(`${whose}Looking for actions: ${run.done}${sure ? ` of ${run.total}` : ""} frames${run.speed ? `, ${Math.round(run.speed)} a second` : ""}${left}`, run.done, sure ? run.total : 0);
  }
  at(".files").hidden = at(".stages-took").hidden = !ended;
  const part = views.find((view) => view.stopped);
  at("[data-make=whole]").textContent = `${part ? `the first ${clock(part.found.duration)}` : "whole video"} with boxes (MP4)`;
};

// ---- what is shown of it: all that follows the threshold and the chosen actions
const show = () => {
  const whole = to - from >= length() - 0.01 || !views.some((view) => view.found.duration);
  for (const view of views) {
    view.shown = view.found.tubes.filter((tube) => tube.score >= threshold && !off.has(nameOf(view, tube.label)));
    view.title.hidden = views.length < 2;
    view.canvas.parentElement.querySelector(".tag").hidden = views.length < 2;
    showRows(view);
  }
  at("#threshold").value = threshold;
  at(".threshold output").textContent = threshold.toFixed(2);
  showClasses();
  const notes = new Set(views.flatMap((view) => view.found.notes || []));
  at(".found").replaceChildren(...views.flatMap(summary), ...[...notes].map((note) => make("p", "hint", `About this file: ${note}`)));
  showTable();
  showPictures();
  if (whole) span(0, length()); else span(from, to);
};
const many = (count, one, more) => `${count} ${count === 1 ? one : more}`;
const capital = (text) => text[0].toUpperCase() + text.slice(1);
// The most people in any one frame. Tubes would count those anew who were lost for a while.
const atOnce = (view) => {
  const frames = new Map();
  for (const tube of [...view.found.people, ...view.shown]) {
    if (!frames.has(tube.actor)) frames.set(tube.actor, new Set());
    for (let frame = tube.first; frame < tube.first + tube.boxes.length / 4; frame++) frames.get(tube.actor).add(frame);
  }
  const counts = new Uint16Array(view.found.times.length + 1);
  for (const seen of frames.values()) for (const frame of seen) counts[frame]++;
  return counts.reduce((most, count) => Math.max(most, count), 0);
};
const meet = (one, other) => {  // whether their boxes ever overlap
  for (let frame = Math.max(one.first, other.first); frame < Math.min(one.first + one.boxes.length / 4, other.first + other.boxes.length / 4); frame++) {
    const [a, b] = [boxAt(one, frame), boxAt(other, frame)];
    if (Math.max(a[0], b[0]) < Math.min(a[2], b[2]) && Math.max(a[1], b[1]) < Math.min(a[3], b[3])) return true;
  }
  return false;
};
const upTo = (view) => view.stopped ? ` in the first ${clock(view.found.duration)}` : "";
const summary = (view) => {
  const count = view.shown.length, doers = new Set(view.shown.map((tube) => tube.actor)).size;
  const nobody = models.get(view.model).people && view.complete && !view.found.people.length;  // although it looked for people
  const seen = nobody ? 0 : atOnce(view), there = seen > 1 ? `up to ${seen} people at once` : "one person";
  const who = views.length > 1 ? `${view.model}: ` : "", rest = off.size ? " among those chosen" : "";
  const best = [...view.found.tubes.filter((tube) => !off.has(nameOf(view, tube.label))).map((tube) => [tube.label, tube.score]), ...view.found.people.flatMap((tube) => tube.likeliest).filter(([label]) => !off.has(nameOf(view, label)))].sort((a, b) => b[1] - a[1])[0];
  const unseen = models.get(view.model).people ? new Set(view.shown.map((tube) => tube.actor)) : new Set();
  for (const tube of view.shown) if (unseen.has(tube.actor) && view.found.people.some((one) => meet(one, tube))) unseen.delete(tube.actor);
  const likeliest = best ? `; likeliest${best[1] >= threshold ? " at moments" : ""}: ${nameOf(view, best[0])} ${best[1].toFixed(2)}` : "";
  if (!view.found.duration) return [];
  if (count && nobody) return [make("h3", "", `${who}Nobody was seen; what was found (${many(count, "action", "actions")}) may be none`)];
  if (count) {
    const more = seen > doers ? `; ${there} in the picture` : "";
    const empty = unseen.size ? `, ${unseen.size} of them where nobody was seen` : "";
    return [make("h3", "", `${who}Found ${many(count, "action", "actions")} by ${many(doers, "person", "people")}${empty}${more}${view.complete ? "" : " so far"}`)];
  }
  if (!view.complete) return [make("h3", "", `${who}${seen ? `${capital(there)}, no sure action yet` : "Nobody was seen yet"}`)];
  const { name, actions } = models.get(view.model), sure = view.found.tubes.filter((tube) => tube.score >= threshold).map((tube) => nameOf(view, tube.label));
  const way = sure.length ? ` Switched off: ${[...new Set(sure)].join(", ")}.` : view.found.tubes.length ? " Lower the threshold to see what it may be." : "";
  return [
    make("h3", "", who + (seen || view.found.tubes.length && !nobody ? `${seen ? `${capital(there)}, no` : "No"} sure action${rest}${upTo(view)}${likeliest}` : `Nobody was seen${upTo(view)}`)),
    make("p", "hint", `No action${rest} lasts with ${threshold.toFixed(2)} or more. ${name} recognises ${actions.join(", ")}.${way}`),
  ];
};
const showClasses = () => {
  const best = new Map();
  for (const view of views) for (const tube of view.found.tubes) {
    const name = nameOf(view, tube.label);
    best.set(name, { score: Math.max(tube.score, best.has(name) ? best.get(name).score : 0), colour: colourOf(view, tube.label)[0] });
  }
  const chip = (name, text, colour, on) => {
    const button = make("button", "", text);
    button.type = "button";
    button.dataset.action = name;
    button.style.setProperty("--dot", colour);
    button.setAttribute("aria-pressed", on);
    return button;
  };
  const count = (name) => views.reduce((sum, view) => sum + view.shown.filter((tube) => nameOf(view, tube.label) === name).length, 0);
  const chips = [...best].filter(([name, { score }]) => score >= threshold || off.has(name)).sort((a, b) => b[1].score - a[1].score)
    .map(([name, { colour }]) => chip(name, off.has(name) ? name : `${name} ${count(name)}`, colour, !off.has(name)));
  const seen = views.reduce((sum, view) => sum + view.found.people.length, 0);
  if (seen) chips.push(chip("", "people", GREY, people));
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.action : undefined;
  at(".classes").replaceChildren(...chips);
  if (focused !== undefined) { const again = chips.find((one) => one.dataset.action === focused); if (again) again.focus(); }
};
at(".classes").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const name = button.dataset.action;
  if (!name) people = !people; else if (!off.delete(name)) off.add(name);
  show();
});
at("#threshold").addEventListener("input", (event) => { threshold = Number(event.target.value); show(); });

const showTable = () => {
  at("th.of").hidden = views.length < 2;
  const lines = views.flatMap((view) => view.shown.map((tube) => {
    const line = make("tr"), name = make("button", "", nameOf(view, tube.label)), cell = make("td");
    name.type = "button";
    name.style.borderLeftColor = colourOf(view, tube.label)[0];
    cell.append(name);
    line.append(...(views.length > 1 ? [make("td", "", view.model)] : []), make("td", "", String(tube.actor)), cell, make("td", "", tube.score.toFixed(2)),
      make("td", "", `${tube.start.toFixed(2)} s`), make("td", "", `${tube.end.toFixed(2)} s`));
    stands(line, tube, tube.start);
    return line;
  }));
  at("tbody").replaceChildren(...lines);
  at(".table").hidden = !lines.length;
};

// ---- the best frame of each tube, cut from the video by a second player that nobody sees
const cutter = make("video"), cuts = new Map();
let cutting = null;
cutter.muted = cutter.playsInline = true;
const cutKey = (view, tube) => `${job} ${view.model} ${view.found.tubes.indexOf(tube)}`;
const showPictures = () => {
  if (!views.every((view) => view.complete)) { at(".pictures").replaceChildren(); return; }
  const best = views.flatMap((view) => view.shown.map((tube) => ({ view, tube }))).sort((a, b) => b.tube.score - a.tube.score).slice(0, 24);
  at(".pictures").replaceChildren(...best.map(({ view, tube }) => {
    const key = cutKey(view, tube), button = make("button"), item = make("div");
    if (!cuts.has(key)) {
      const picture = make("canvas");
      picture.width = picture.height = 0;
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", `Best frame of ${spoken(view, tube)}`);
      cuts.set(key, { view, tube, picture });
    }
    button.type = "button";
    button.style.borderBottomColor = colourOf(view, tube.label)[0];
    button.append(cuts.get(key).picture, make("span", "", `${views.length > 1 ? `${view.model}, ` : ""}${numbered(tube)}${nameOf(view, tube.label)} ${tube.score.toFixed(2)}`));
    stands(button, tube, view.found.times[tube.best]);
    item.setAttribute("role", "listitem");
    item.append(button);
    return item;
  }));
  cutNext();
};
const cutNext = () => {
  if (cutting || !file || !video.videoWidth) return;
  for (const key of [...cuts.keys()]) if (!key.startsWith(job)) cuts.delete(key);
  cutting = [...cuts.values()].find((one) => !one.picture.width && one.picture.isConnected) || null;
  if (!cutting) return;
  if (cutter.dataset.of !== file.address) { cutter.dataset.of = file.address; cutter.src = file.address; }
  const { times } = cutting.view.found, next = times[cutting.tube.best + 1] ?? cutting.view.found.duration;
  cutter.currentTime = (times[cutting.tube.best] + next) / 2;
};
cutter.addEventListener("seeked", () => {
  const one = cutting;
  cutting = null;
  if (!one) return;
  const [wide, tall] = [cutter.videoWidth, cutter.videoHeight], box = boxAt(one.tube, one.tube.best);
  const [x1, y1, x2, y2] = [box[0] * wide, box[1] * tall, box[2] * wide, box[3] * tall];
  const side = Math.max(1.15 * Math.max(x2 - x1, y2 - y1), 16), x = side < wide ? clamp((x1 + x2 - side) / 2, 0, wide - side) : (wide - side) / 2;
  const y = side < tall ? clamp((y1 + y2 - side) / 2, 0, tall - side) : (tall - side) / 2;  // all of the box, heads above all
  one.picture.width = one.picture.height = 224;
  one.picture.getContext("2d").drawImage(cutter, x, y, side, side, 0, 0, 224, 224);
  cutNext();
});
cutter.addEventListener("error", () => { cutting = null; });
video.addEventListener("loadeddata", () => cutNext());

// ---- downloads: what is shown, as it is shown
const save = (content, name, kind) => {
  const link = make("a"), address = typeof content === "string" && kind ? URL.createObjectURL(new Blob([content], { type: kind })) : content;
  link.href = address;
  link.download = name;
  link.click();
  if (kind) setTimeout(() => URL.revokeObjectURL(address), 60000);
};
const chosen = async (place) => {
  const answer = await fetch(addressOf(runs[place].json));
  if (!answer.ok) throw new Error(answer.status);
  const all = await answer.json();
  const tubes = all.tubes.filter((_, index) => views[place].shown.includes(views[place].found.tubes[index]));
  return { ...all, threshold, tubes, people: people ? all.people : [] };
};
const stem = () => file.name.replace(/\.[^.]*$/, "").slice(0, 80);
const download = (kind) => written(kind).catch(() => fail("The result is no longer on the server, or the connection is lost; find the actions again."));
const written = async (kind) => {
  for (let place = 0; place < runs.length; place++) {
    const told = await chosen(place), name = `${stem()}-actions${runs.length > 1 ? `-${runs[place].model}` : ""}.${kind}`;
    if (kind === "json") { save(JSON.stringify(told, null, 1), name, "application/json"); continue; }
    const keys = ["actor", "action", "score", "start_frame", "end_frame", "start_seconds", "end_seconds"];
    const cell = (value) => /[",\n]/.test(value) ? `"${String(value).replace(/"/g, '""')}"` : value;
    save([keys, ...told.tubes.map((tube) => keys.map((key) => cell(tube[key])))].map((line) => line.join(",")).join("\r\n") + "\r\n", name, "text/csv");
  }
};

// ---- what the server draws: a clip around the shown moment, or all of it
let making = "", figure = false;
const wanted = (kind) => {
  making = random();
  figure = kind === "column" || kind === "page";
  at(".making").hidden = false;
  working(true);
  wait(at(".making"));
  at(".caption").hidden = true;
  trigger("make", { key: making, kind, job, threshold, off: [...off], people, moment: shownAt });
};
watch("made", () => {
  const told = props.made;
  if (!told || !making || told.key && told.key !== making) return;
  if (told.error || told.path) working(false);
  at(".making").textContent = told.error || (told.path ? `${told.name} is ready.` : `${figure ? "Looking again" : "Drawing"}: ${told.done} of ${told.total || "its"} frames`);
  if (told.path) save(addressOf(told.path), told.name);
  at(".caption").hidden = !told.caption;
  at(".caption pre").textContent = told.caption || "";
});

const tools = {
  choose: () => input.click(), record, another, back: () => stepBy(-1), on: () => stepBy(1), in: () => zoom(0.5), out: () => zoom(2), all: () => span(0, length()),
  full: () => document.fullscreenElement ? document.exitFullscreen() : at(".stage").requestFullscreen && at(".stage").requestFullscreen(),
  json: () => download("json"), csv: () => download("csv"), copy: () => navigator.clipboard.writeText(at(".caption pre").textContent),
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  const made = event.target.closest("button[data-make]");
  if (button) tools[button.dataset.do]();
  if (made) wanted(made.dataset.make);
});
at("[data-do=full]").hidden = !at(".stage").requestFullscreen;  // as on iPhones
at("#start").addEventListener("click", begin);
at("#cancel").addEventListener("click", cancel);
at("[data-do=speed]").addEventListener("change", (event) => { video.playbackRate = Number(event.target.value); });
// Who asks for a file of theirs now and then is still here, also after their connection was lost for a moment.
const mine = () => runs.length && runs[0].json || file && file.path;
setInterval(() => { if (mine()) fetch(addressOf(mine()), { method: "HEAD" }).catch(() => {}); }, 30000);
const interrupted = stored((place) => place.getItem(INTERRUPTED));
if (interrupted) {
  stored((place) => place.removeItem(INTERRUPTED));
  tell(`This page was loaded anew while it worked on ${interrupted}, as after a lost connection; choose the video again.`);
}
