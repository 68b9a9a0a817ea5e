// The player: boxes drawn over the video as it plays, a timeline, thumbnails, a table. Nothing is loaded from elsewhere.
const at = (selector) => element.querySelector(selector);
const video = at("video"), canvas = at("canvas"), pen = canvas.getContext("2d"), rows = at(".rows"), axis = at(".axis");
let data = null, lit = -1, from = 0, to = 1, boxes = true, drawn = false, source = "", rowOf = [], head = null;

const make = (tag, name, text) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const say = (text) => { const note = at(".note"); note.textContent = text; note.hidden = !text; };
const spoken = (tube) => `${tube.action}, actor ${tube.actor}, ${tube.start.toFixed(1)} to ${tube.end.toFixed(1)} seconds, score ${tube.score.toFixed(2)}`;
const addressOf = (file) => {
  if (!file || !file.url) return "";
  if (/^https?:/.test(file.url)) return file.url;
  const root = (window.gradio_config && window.gradio_config.root) || "";
  return root.replace(/\/$/, "") + (file.url.startsWith("/") ? "" : "/") + file.url;
};

// ---- which frame is shown: the last one that begins before the shown moment, with some room for rounding
const frameAt = (seconds) => {
  const times = data.times, wanted = 1000 * seconds + 2;
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= wanted) low = middle; else high = middle - 1;
  }
  return low;
};

const draw = (seconds) => {
  const wide = canvas.clientWidth, tall = canvas.clientHeight, dots = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(wide * dots) || canvas.height !== Math.round(tall * dots)) {
    canvas.width = Math.round(wide * dots);
    canvas.height = Math.round(tall * dots);
  }
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  pen.clearRect(0, 0, wide, tall);
  if (!data) return;
  placeHead(seconds);
  if (!boxes || drawn && lit < 0 || !video.videoWidth) return;
  if (seconds >= data.duration && !data.final) return;  // not yet looked at
  const scale = Math.min(wide / video.videoWidth, tall / video.videoHeight);  // the picture may have bars beside it
  const shown = [video.videoWidth * scale, video.videoHeight * scale];
  const origin = [(wide - shown[0]) / 2, (tall - shown[1]) / 2];
  const sx = shown[0] / data.size[0], sy = shown[1] / data.size[1];
  const frame = frameAt(seconds), stacks = new Map();
  data.tubes.forEach((tube, index) => {
    const place = 4 * (frame - tube.first);
    if (place < 0 || place >= tube.boxes.length || drawn && index !== lit) return;
    if (!stacks.has(tube.actor)) stacks.set(tube.actor, []);
    stacks.get(tube.actor).push({ tube, index, box: tube.boxes.slice(place, place + 4) });
  });
  const size = clamp(Math.round(Math.min(...shown) / 22), 11, 20), taken = [];
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  for (const stack of stacks.values()) {
    stack.sort((a, b) => (b.index === lit) - (a.index === lit) || b.tube.score - a.tube.score);
    const first = stack[0], bright = stack.some((one) => one.index === lit);
    const x = origin[0] + first.box[0] * sx, y = origin[1] + first.box[1] * sy;
    const w = (first.box[2] - first.box[0]) * sx, h = (first.box[3] - first.box[1]) * sy;
    pen.globalAlpha = lit >= 0 && !bright ? 0.3 : 1;
    if (bright) { pen.fillStyle = first.tube.colour + "40"; pen.fillRect(x, y, w, h); }
    pen.lineWidth = bright ? 7 : 5;
    pen.strokeStyle = "rgba(0,0,0,.55)";
    pen.strokeRect(x, y, w, h);
    pen.lineWidth = bright ? 5 : 3;
    pen.strokeStyle = first.tube.colour;
    pen.strokeRect(x, y, w, h);
    const high = size + 8, tallest = high * stack.length;
    const widest = Math.max(...stack.map(({ tube }) => pen.measureText(label(tube)).width + 10));
    const left = clamp(x, 0, Math.max(wide - widest, 0));
    let top = [y - tallest, y, y + h - tallest, y + h].map((place) => clamp(place, 0, Math.max(tall - tallest, 0)));
    top = top.find((place) => !taken.some((t) => left < t[2] && t[0] < left + widest && place < t[3] && t[1] < place + tallest)) ?? top[0];
    taken.push([left, top, left + widest, top + tallest]);
    for (const { tube } of stack) {
      pen.fillStyle = tube.colour;
      pen.fillRect(left, top, pen.measureText(label(tube)).width + 10, high);
      pen.fillStyle = tube.ink;
      pen.fillText(label(tube), left + 5, top + high / 2 + 1);
      top += high;
    }
  }
  pen.globalAlpha = 1;
};
const label = (tube) => `${tube.actor}: ${tube.action} ${tube.score.toFixed(2)}`;

let shownAt = 0;  // of the frame on the screen, which is not always where the player's clock is
const redraw = () => draw(shownAt);
if ("requestVideoFrameCallback" in HTMLVideoElement.prototype) {
  const step = (_, frame) => { shownAt = frame.mediaTime; redraw(); video.requestVideoFrameCallback(step); };
  video.requestVideoFrameCallback(step);
} else {
  const step = () => { if (!video.paused) { shownAt = video.currentTime; redraw(); } requestAnimationFrame(step); };
  requestAnimationFrame(step);
}
video.addEventListener("seeked", () => { shownAt = video.currentTime; redraw(); });
new ResizeObserver(redraw).observe(video);
video.addEventListener("loadedmetadata", redraw);
video.addEventListener("error", () => {
  if (!video.getAttribute("src")) return;
  if (!drawn && data && data.files.mp4) useDrawn();
  else say(data && data.final ? "This browser cannot play the video." : "This browser cannot play this format. A copy that it can play is being made …");
});
const useDrawn = () => {
  drawn = true;
  source = addressOf(data.files.mp4);
  video.src = source;
  say("");
  video.play().catch(() => {});
};

const goTo = (seconds) => { video.currentTime = clamp(seconds, 0, Math.max((video.duration || data.duration) - 0.001, 0)); };
const light = (index) => {
  if (lit === index) return;
  lit = index;
  element.querySelectorAll("[data-tube]").forEach((one) => one.classList.toggle("lit", Number(one.dataset.tube) === lit));
  redraw();
};
const reacts = (one, index, seconds) => {
  one.dataset.tube = index;
  one.addEventListener("mouseenter", () => light(index));
  one.addEventListener("mouseleave", () => light(-1));
  one.addEventListener("focusin", () => light(index));
  one.addEventListener("focusout", () => light(-1));
  one.addEventListener("click", (event) => { event.stopPropagation(); goTo(seconds + 0.001); light(index); });
};

// ---- the timeline
const placeHead = (seconds) => {
  const share = (seconds - from) / (to - from);
  head.style.left = `${100 * share}%`;
  head.hidden = share < 0 || share > 1;
  at(".time").textContent = `${seconds.toFixed(2)} s, frame ${frameAt(seconds)}`;
};
const span = (low, high) => {
  const width = clamp(high - low, Math.min(0.2, data.duration), data.duration);
  from = clamp(low, 0, data.duration - width);
  to = from + width;
  for (const bar of rows.querySelectorAll("button.bar")) {
    const tube = data.tubes[bar.dataset.tube];
    bar.style.left = `${100 * (tube.start - from) / (to - from)}%`;
    bar.style.width = `${100 * (tube.end - tube.start) / (to - from)}%`;
  }
  axis.replaceChildren();
  const steps = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120], most = Math.max(rows.clientWidth / 70, 2);
  const step = steps.find((one) => (to - from) / one <= most) || 300;
  for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
    const mark = make("span", "", `${Number(tick.toFixed(2))} s`);
    mark.style.left = `${clamp(100 * (tick - from) / (to - from), 3, 96)}%`;
    axis.append(mark);
  }
  redraw();
};
const zoom = (factor, around) => {
  const centre = around ?? clamp(shownAt, from, to), width = (to - from) * factor;
  span(centre - (centre - from) / (to - from) * width, centre - (centre - from) / (to - from) * width + width);
};
const secondsAt = (x) => { const place = rows.getBoundingClientRect(); return from + (x - place.left) / place.width * (to - from); };
rows.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey && Math.abs(event.deltaX) < Math.abs(event.deltaY)) return;  // the page scrolls
  event.preventDefault();
  if (event.ctrlKey || event.metaKey) zoom(event.deltaY > 0 ? 1.25 : 0.8, secondsAt(event.clientX));
  else span(from + event.deltaX / rows.clientWidth * (to - from), to + event.deltaX / rows.clientWidth * (to - from));
}, { passive: false });
let grabbed = null;
rows.addEventListener("pointerdown", (event) => { grabbed = { x: event.clientX, from, to, moved: false }; });
window.addEventListener("pointermove", (event) => {
  if (!grabbed || !data) return;
  const moved = (event.clientX - grabbed.x) / rows.clientWidth * (grabbed.to - grabbed.from);
  if (Math.abs(event.clientX - grabbed.x) > 4) grabbed.moved = true;
  if (grabbed.moved) span(grabbed.from - moved, grabbed.to - moved);
});
window.addEventListener("pointerup", () => setTimeout(() => { grabbed = null; }));
rows.addEventListener("click", (event) => { if (!(grabbed && grabbed.moved)) goTo(secondsAt(event.clientX)); });

const stepBy = (frames) => { video.pause(); goTo(data.times[clamp(frameAt(shownAt) + frames, 0, data.times.length - 1)] / 1000 + 0.001); };
element.addEventListener("keydown", (event) => {
  if (!data || event.target.closest("select, input, video") || event.altKey || event.ctrlKey || event.metaKey) return;
  const act = {
    ",": () => stepBy(-1), ".": () => stepBy(1), "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": () => span(0, data.duration),
    ArrowLeft: () => goTo(shownAt - 1), ArrowRight: () => goTo(shownAt + 1), Home: () => goTo(0), End: () => goTo(data.duration),
  }[event.key];
  if (act) { act(); event.preventDefault(); }
  else if (event.key === " " && event.target === rows) { video.paused ? video.play() : video.pause(); event.preventDefault(); }
});
const tools = {
  back: () => stepBy(-1), on: () => stepBy(1), in: () => zoom(0.5), out: () => zoom(2), all: () => span(0, data.duration),
  full: () => document.fullscreenElement ? document.exitFullscreen() : at(".stage").requestFullscreen && at(".stage").requestFullscreen(),
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button && data) tools[button.dataset.do]();
});
at("[data-do=speed]").addEventListener("change", (event) => { video.playbackRate = Number(event.target.value); });
at("[data-do=boxes]").addEventListener("change", (event) => { boxes = event.target.checked; redraw(); });

// ---- what the server sends
const showRows = () => {
  head = make("div", "head");
  rowOf = new Map();
  const lines = [];
  data.tubes.map((tube, index) => index).sort((a, b) => data.tubes[a].actor - data.tubes[b].actor || data.tubes[a].start - data.tubes[b].start).forEach((index) => {
    const tube = data.tubes[index], key = `${tube.actor}: ${tube.action}`;
    if (!rowOf.has(key)) {
      const line = make("div", "row");
      line.append(make("span", "who", key));
      rowOf.set(key, line);
      lines.push(line);
    }
    const bar = make("button", "bar");
    bar.type = "button";
    bar.style.background = tube.colour;
    bar.style.color = tube.ink;
    bar.title = spoken(tube);
    bar.setAttribute("aria-label", spoken(tube));
    bar.append(make("span", "", tube.score.toFixed(2)));
    reacts(bar, index, tube.start);
    rowOf.get(key).append(bar);
  });
  if (!lines.length) lines.push(make("div", "none", data.final ? "No action found" : "Nothing found yet"));
  rows.replaceChildren(...lines, head);
};
const showTable = () => {
  const lines = data.tubes.map((tube, index) => {
    const line = make("tr"), name = make("button", "", tube.action);
    name.type = "button";
    name.style.borderLeftColor = tube.colour;
    const cells = [make("td", "", String(tube.actor)), make("td"), make("td", "", tube.score.toFixed(2)), make("td", "", `${tube.start.toFixed(2)} s`), make("td", "", `${tube.end.toFixed(2)} s`)];
    cells[1].append(name);
    line.append(...cells);
    reacts(line, index, tube.start);
    return line;
  });
  at("tbody").replaceChildren(...lines);
  at(".table").hidden = !lines.length;
};
const showPictures = () => {
  at(".pictures").replaceChildren(...data.tubes.flatMap((tube, index) => {
    if (!tube.picture) return [];
    const button = make("button", ""), image = make("img");
    button.type = "button";
    image.src = tube.picture;
    image.alt = `Best frame of ${spoken(tube)}`;
    button.style.borderBottomColor = tube.colour;
    button.append(image, make("span", "", `${tube.actor}: ${tube.action} ${tube.score.toFixed(2)}`));
    reacts(button, index, tube.best);
    const item = make("div");
    item.setAttribute("role", "listitem");
    item.append(button);
    return [item];
  }));
};
const show = () => {
  const before = data, value = props.value;
  data = value && value.tubes ? value : null;
  at(".empty").hidden = Boolean(data);
  at(".result").hidden = !data;
  if (!data) {
    video.removeAttribute("src");
    video.load();
    source = "";
    return;
  }
  lit = -1;
  const address = addressOf(data.video), fresh = !before || addressOf(before.video) !== address;
  const whole = fresh || before.duration - (to - from) < 0.01;  // a reader who has zoomed in stays there
  showRows();
  showTable();
  showPictures();
  const kinds = Object.keys(data.files);
  at(".files").hidden = !kinds.length;
  for (const kind of kinds) {
    const link = at(`[data-kind=${kind}]`);
    link.href = addressOf(data.files[kind]);
    link.download = data.files[kind].orig_name;
  }
  if (fresh) {
    drawn = false;
    shownAt = 0;
    source = address;
    say("");
    video.src = address;
    video.play().catch(() => {});
  } else if (!drawn && video.error && data.files.mp4) useDrawn();
  if (whole) span(0, data.duration); else span(from, to);
};
watch("value", show);
show();
