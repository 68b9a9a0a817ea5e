// The camera: frames go to the server as fast as it answers, boxes are drawn over the live picture. Nothing is kept.
const video = at("video"), canvas = at("canvas"), pen = canvas.getContext("2d"), model = at("[data-do=model]"), slider = at("[data-do=threshold]");
const { side, most, seconds, person } = props.limits;
const small = document.createElement("canvas"), brush = small.getContext("2d");
const camera = random();  // of this tab
let stream = null, run = 0, waiting = [], busy = false, boxes = null, pace = 40, due = 0, errors = 0, threshold = 0.3;
let counted = { since: 0, shown: 0, answered: 0, latency: 0, took: 0 };
let bars = [];  // what was shown, of the last seconds: label, start and end in milliseconds, best score, and for how long it was sure
const done = new Set();  // actions that were tried and seen
const SURE_SECONDS = 0.5;  // that an action lasts to count as tried: single frames are often wrong
const GAP_SECONDS = 0.5;  // without an action that its bar goes on for

model.append(...[...models.keys()].map((name) => option(name, name)));
model.value = props.model;
const usual = () => {
  const { actions, threshold: wanted } = models.get(model.value);
  slider.value = wanted;
  slide();
  done.clear();
  at(".prompts").replaceChildren("Try: ", ...Object.entries(props.prompts).filter(([action]) => actions.includes(action)).map(([action, text]) => {
    const prompt = make("span", "", text);
    prompt.setAttribute("role", "listitem");
    prompt.dataset.action = action;
    return prompt;
  }));
  at(".prompts").hidden = at(".prompts").children.length === 0;
};
const slide = () => { threshold = Number(slider.value); at("output").textContent = threshold.toFixed(2); };
const restart = () => { run++; boxes = null; bars = []; };
slider.addEventListener("input", () => { slide(); show(); });
model.addEventListener("change", () => { usual(); restart(); });
usual();
const say = (text) => { at(".note").textContent = text; };

const start = async () => {
  const opened = await openCamera(say);
  if (!opened) return;
  stream = opened;
  restart();
  waiting = [];
  errors = 0;
  counted = { since: performance.now(), shown: 0, answered: 0, latency: 0, took: 0 };
  video.srcObject = stream;
  at(".shown").hidden = false;
  at(".now").textContent = at(".speed").textContent = "";
  at("[data-do=toggle]").textContent = "Stop the camera";
  say("Waking the model …");
  await video.play();
  next();
};
const stop = (text) => {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  at(".shown").hidden = true;
  at("[data-do=toggle]").textContent = "Start the camera";
  say(text || "");
};
at("[data-do=toggle]").addEventListener("click", () => stream ? stop() : start());
document.addEventListener("visibilitychange", () => { if (document.hidden && stream) stop("The camera was switched off, because the page was hidden."); });

// ---- frames are taken evenly, as often as the server can look at them; what it cannot is dropped. Two frames a request cost less than
// twice one, so the pace quickens until about two wait for each answer, and slows down when more do.
const next = () => {
  if (!stream) return;
  if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(take);
  else setTimeout(take, 33);
};
const take = () => {
  if (stream && !element.offsetParent) { stop("The camera was switched off, because you left its tab."); return; }
  next();
  draw();
  counted.shown++;
  const now = performance.now();
  if (now < due - 8 || !video.videoWidth) return;
  due = Math.max(due, now - pace) + pace;
  const scale = Math.min(1, side / Math.max(video.videoWidth, video.videoHeight));
  small.width = Math.round(video.videoWidth * scale);
  small.height = Math.round(video.videoHeight * scale);
  brush.drawImage(video, 0, 0, small.width, small.height);
  waiting.push({ time: now, data: small.toDataURL("image/jpeg", 0.85).split(",")[1] });
  while (waiting.length > most) waiting.shift();
  send();
};
const send = async () => {
  if (busy || !waiting.length) return;
  busy = true;
  const batch = waiting, of = run;
  waiting = [];
  try {
    const answer = await server.live_step({ camera, run, model: model.value, frames: batch.map((one) => one.data), times: batch.map((one) => one.time / 1000) });
    const now = performance.now();
    if (answer.error) { stop(answer.error); return; }
    errors = 0;
    if (of !== run || !stream) return;
    say("");
    ({ boxes } = answer);
    remember(now);
    counted.answered += batch.length;
    counted.latency = now - batch[batch.length - 1].time;
    counted.took = answer.took / batch.length;
    pace = clamp(pace * (batch.length + waiting.length > most ? 1.1 : 0.98), 33, 250);
    show();
  } catch (error) {
    if (++errors > 4) stop("The server does not answer; please try again later.");
    else await new Promise((wait) => setTimeout(wait, 500));
  } finally {
    busy = false;
    send();
  }
};

// ---- everybody has a box at once; who does something sure, a coloured one
const named = ({ label, score }) => `${models.get(model.value).actions[label]} ${score.toFixed(2)}`;
const coloursOf = ({ label }) => models.get(model.value).colours[label];
const draw = () => {
  cleared(canvas, pen);
  const actors = (boxes || []).filter((one) => isSure(one) || one.person >= person).map((one) => {
    const sure = isSure(one), [colour, ink] = sure ? coloursOf(one) : [GREY, "#000"];
    return { box: one.box, colour, thin: !sure, lines: [[sure ? named(one) : "person", colour, ink]] };
  });
  drawActors(canvas, pen, fitted(canvas, video.videoWidth, video.videoHeight), actors.sort((a, b) => Boolean(b.thin) - Boolean(a.thin)));
};
const isSure = (one) => one.score >= threshold && one.person > 0;  // nobody acts where nobody was seen
const sureOnes = () => (boxes || []).filter(isSure).sort((a, b) => b.score - a.score);
const remember = (now) => {
  const usual = models.get(model.value).threshold;  // what counts as tried does not follow the slider down
  for (const { label, score } of sureOnes()) {
    let bar = bars.find((one) => one.label === label && now - one.end <= 1000 * GAP_SECONDS);
    if (!bar) bars.push(bar = { label, start: now, end: now, score, sure: false, kept: 0 });
    const sure = score >= Math.max(usual, threshold);
    if (sure && bar.sure && now - bar.end < 250) bar.kept += now - bar.end;  // not across frames that said something else
    Object.assign(bar, { end: now, sure, score: Math.max(score, bar.score) });
    if (bar.kept >= 1000 * SURE_SECONDS) done.add(models.get(model.value).actions[label]);
  }
  bars = bars.filter((bar) => now - bar.end < 1000 * seconds);
};
const show = () => {
  const seen = (boxes || []).filter((one) => isSure(one) || one.person >= person), sure = sureOnes();
  const best = seen.filter((one) => one.label !== null).sort((a, b) => b.score - a.score)[0];
  if (boxes) at(".now").replaceChildren(...sure.length ? sure.slice(0, 3).map((one) => {
    const word = make("span", "", models.get(model.value).actions[one.label]);
    [word.style.background, word.style.color] = coloursOf(one);
    return word;
  }) : [seen.length ? `${seen.length === 1 ? "I see somebody" : `I see ${seen.length} people`}${best ? `; likeliest: ${named(best)}` : ""}` : "I see nobody"]);
  at(".now").classList.toggle("sure", sure.length > 0);
  for (const prompt of at(".prompts").children) prompt.classList.toggle("done", done.has(prompt.dataset.action));
  const lines = new Map();
  const now = performance.now();
  for (const one of bars) {
    const action = models.get(model.value).actions[one.label], bar = make("div", "bar");
    if (!lines.has(action)) {
      const line = make("div", "row");
      line.append(make("span", "who", action));
      lines.set(action, line);
    }
    bar.title = named(one);
    bar.style.background = coloursOf(one)[0];
    bar.style.right = `${(now - one.end) / 10 / seconds}%`;
    bar.style.width = `${(one.end - one.start) / 10 / seconds}%`;
    lines.get(action).append(bar);
  }
  at(".rows").replaceChildren(...lines.values());
  const passed = (performance.now() - counted.since) / 1000;
  if (passed > 1) {
    const [looked, came] = [counted.answered, counted.shown].map((count) => Math.round(count / passed));
    at(".speed").textContent = `${looked < came ? `${looked} of the camera's ${came} frames a second looked at, the others dropped` : `all of the camera's ${came} frames a second looked at`}; `
      + `${Math.round(counted.latency)} ms from camera to box, ${counted.took.toFixed(0)} ms a frame on the server`;
    if (passed > 5) counted = { ...counted, since: performance.now(), shown: 0, answered: 0 };
  }
};
