// The camera: frames go to the server as fast as it answers, boxes are drawn over the live picture. Nothing is kept.
const at = (selector) => element.querySelector(selector);
const video = at("video"), canvas = at("canvas"), pen = canvas.getContext("2d"), model = at("[data-do=model]"), threshold = at("[data-do=threshold]");
const { side, most, seconds } = props.value;
const small = document.createElement("canvas"), brush = small.getContext("2d");
let stream = null, camera = "", waiting = [], busy = false, boxes = [], pace = 40, due = 0, errors = 0;
let counted = { since: 0, answered: 0, dropped: 0, latency: 0, took: 0 };

for (const one of props.value.models) {
  const option = document.createElement("option");
  option.value = option.textContent = one.name;
  option.selected = one.name === props.value.model;
  model.append(option);
}
const usual = () => { threshold.value = props.value.models.find((one) => one.name === model.value).threshold; };
usual();
model.addEventListener("change", () => { usual(); camera = random(); boxes = []; });
const random = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (one) => one.toString(16).padStart(2, "0")).join("");
const say = (text) => { at(".note").textContent = text; };

const start = async () => {
  if (!navigator.mediaDevices || !navigator.mediaDevices.getUserMedia) { say("This browser gives no camera to this page; it needs https or localhost."); return; }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } }, audio: false });
  } catch (error) {
    say(error.name === "NotAllowedError" ? "The camera was not allowed. Allow it in the browser's address bar, then try again." : "No camera was found.");
    return;
  }
  camera = random();
  waiting = [];
  boxes = [];
  errors = 0;
  counted = { since: performance.now(), answered: 0, dropped: 0, latency: 0, took: 0 };
  video.srcObject = stream;
  at(".stage").hidden = at(".tubes").hidden = at(".speed").hidden = false;
  at("[data-do=toggle]").textContent = "Stop the camera";
  say("Waking the model …");
  await video.play();
  next();
};
const stop = (text) => {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  at(".stage").hidden = true;
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
  const now = performance.now();
  if (now < due - 8 || !video.videoWidth) return;
  due = Math.max(due, now - pace) + pace;
  const scale = Math.min(1, side / Math.max(video.videoWidth, video.videoHeight));
  small.width = Math.round(video.videoWidth * scale);
  small.height = Math.round(video.videoHeight * scale);
  brush.drawImage(video, 0, 0, small.width, small.height);
  waiting.push({ time: now, data: small.toDataURL("image/jpeg", 0.85).split(",")[1] });
  while (waiting.length > most) { waiting.shift(); counted.dropped++; }
  send();
};
const send = async () => {
  if (busy || !waiting.length) return;
  busy = true;
  const batch = waiting, of = camera;
  waiting = [];
  try {
    const answer = await server.live_step({
      camera, model: model.value, threshold: Number(threshold.value) || 0.3, frames: batch.map((one) => one.data), times: batch.map((one) => one.time / 1000),
    });
    const now = performance.now();
    if (answer.error) { stop(answer.error); return; }
    errors = 0;
    if (of !== camera || !stream) return;
    say("");
    boxes = answer.boxes;
    counted.answered += batch.length;
    counted.latency = now - batch[batch.length - 1].time;
    counted.took = answer.took / batch.length;
    pace = Math.min(Math.max(pace * (batch.length + waiting.length > most ? 1.1 : 0.98), 33), 250);
    show(answer.tubes);
  } catch (error) {
    if (++errors > 4) stop("The server does not answer; please try again later.");
    else await new Promise((done) => setTimeout(done, 500));
  } finally {
    busy = false;
    send();
  }
};

const draw = () => {
  const wide = canvas.clientWidth, tall = canvas.clientHeight, dots = window.devicePixelRatio || 1;
  canvas.width = Math.round(wide * dots);
  canvas.height = Math.round(tall * dots);
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  const scale = Math.min(wide / video.videoWidth, tall / video.videoHeight) || 0;
  const shown = [video.videoWidth * scale, video.videoHeight * scale], left = (wide - shown[0]) / 2, top = (tall - shown[1]) / 2;
  const size = Math.max(12, Math.round(Math.min(...shown) / 22));
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  for (const one of boxes) {
    const x = left + one.box[0] * shown[0], y = top + one.box[1] * shown[1], w = (one.box[2] - one.box[0]) * shown[0], h = (one.box[3] - one.box[1]) * shown[1];
    pen.lineWidth = 5; pen.strokeStyle = "rgba(0,0,0,.55)"; pen.strokeRect(x, y, w, h);
    pen.lineWidth = 3; pen.strokeStyle = one.colour; pen.strokeRect(x, y, w, h);
    const text = `${one.action} ${one.score.toFixed(2)}`, place = Math.max(y - size - 8, 0);
    pen.fillStyle = one.colour; pen.fillRect(x, place, pen.measureText(text).width + 10, size + 8);
    pen.fillStyle = one.ink; pen.fillText(text, x + 5, place + size / 2 + 5);
  }
};

const show = (tubes) => {
  const lines = new Map();
  for (const tube of tubes) {
    if (!lines.has(tube.action)) {
      const line = document.createElement("div"), who = document.createElement("span");
      line.className = "row";
      who.className = "who";
      who.textContent = tube.action;
      line.append(who);
      lines.set(tube.action, line);
    }
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.title = `${tube.action}, score ${tube.score.toFixed(2)}`;
    bar.style.background = tube.colour;
    bar.style.right = `${100 * tube.end / seconds}%`;
    bar.style.width = `${100 * (tube.start - tube.end) / seconds}%`;
    lines.get(tube.action).append(bar);
  }
  at(".rows").replaceChildren(...lines.values());
  const passed = (performance.now() - counted.since) / 1000;
  if (passed > 1) {
    at(".speed").textContent = `${(counted.answered / passed).toFixed(0)} frames a second looked at, ${Math.round(counted.latency)} ms from camera to box, `
      + `${counted.took.toFixed(0)} ms a frame on the server; ${counted.dropped} frames dropped`;
    if (passed > 5) counted = { ...counted, since: performance.now(), answered: 0 };
  }
};
