// The stage: the video, and boxes over exactly the frame that it shows; for a second model the same frame once more beside it.
const video = at(".stage video");
let views = [];  // one for each model: what it found, where that is drawn
let shownAt = 0;  // seconds of the frame on the screen, which is not always where the player's clock is
let lit = null;  // the tube that is pointed at, in whichever way
let pointer = null;  // where on the picture, as shares of its sides
let people = true;  // grey boxes as well?

// ---- what was found, unpacked
const numbers = (text, Kind) => new Kind(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);
const unpacked = (found) => {
  if (!found || !found.times) return { size: [1, 1], times: new Float32Array(), duration: 0, tubes: [], people: [] };
  const times = numbers(found.times, Float32Array);
  const tube = (one) => {
    const boxes = numbers(one.boxes, Uint16Array), stop = one.first + boxes.length / 4;
    return { ...one, boxes, start: times[one.first], end: stop < times.length ? times[stop] : found.duration };
  };
  return { ...found, times, tubes: found.tubes.map(tube), people: found.people.map(tube) };
};
const boxAt = (tube, frame) => {
  const place = 4 * (frame - tube.first);
  return place >= 0 && place < tube.boxes.length ? Array.from(tube.boxes.subarray(place, place + 4), (value) => value / 65535) : null;
};
// the last frame that begins before a moment, with some room for rounding
const frameAt = (times, seconds) => {
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= seconds + 0.002) low = middle; else high = middle - 1;
  }
  return low;
};
const nameOf = (view, label) => models.get(view.model).actions[label];
const colourOf = (view, label) => models.get(view.model).colours[label];
const numbered = (tube) => `${tube.actor}: `;

// ---- who is where in a frame: an actor's actions that are sure, or that somebody is there
const actorsAt = (view, frame) => {
  const actors = new Map();
  for (const tube of view.shown) {
    const box = boxAt(tube, frame);
    if (!box) continue;
    if (!actors.has(tube.actor)) actors.set(tube.actor, { box, lines: [], tubes: [] });
    actors.get(tube.actor).tubes.push(tube);
  }
  for (const one of actors.values()) {
    one.tubes.sort((a, b) => (b === lit) - (a === lit) || b.score - a.score);
    one.colour = colourOf(view, one.tubes[0].label)[0];
    one.box = boxAt(one.tubes[0], frame);
    one.lines = one.tubes.map((tube) => [`${numbered(tube)}${nameOf(view, tube.label)} ${tube.score.toFixed(2)}`, ...colourOf(view, tube.label)]);
  }
  for (const tube of people ? view.found.people : []) {
    const box = boxAt(tube, frame);
    if (!box) continue;
    if (actors.has(tube.actor)) { actors.get(tube.actor).person = tube; continue; }
    actors.set(tube.actor, { box, tubes: [tube], colour: GREY, lines: [[`${numbered(tube)}person`, GREY, "#000"]], thin: true });
  }
  return [...actors.values()];
};
const likely = (view, tube, sure = []) => tube.likeliest.filter(([label]) => !sure.includes(label)).map(([label, score]) => `${nameOf(view, label)} ${score.toFixed(2)}`);

const paint = (view) => {
  const { canvas, pen } = view;
  cleared(canvas, pen);
  if (!video.videoWidth) return;
  const place = fitted(canvas, video.videoWidth, video.videoHeight);
  if (view.copies) pen.drawImage(video, ...place);
  if (video.seeking && view.found.times.length !== 1 || !(shownAt < view.found.duration || view.complete && !view.stopped)) return;  // not yet looked at
  const actors = actorsAt(view, frameAt(view.found.times, shownAt)), area = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  const under = pointer ? actors.filter(({ box: [x1, y1, x2, y2] }) => x1 <= pointer[0] && pointer[0] <= x2 && y1 <= pointer[1] && pointer[1] <= y2) : [];
  const pointed = under.sort((a, b) => area(a) - area(b))[0];
  for (const one of actors) {
    one.bright = one === pointed || one.tubes.includes(lit) || one.person && one.person === lit;
    one.pale = lit && !one.bright;
    const person = one.bright && (one.thin ? one.tubes[0] : one.person), sure = one.tubes.map((tube) => tube.label);
    if (person) one.lines.push(...likely(view, person, sure).map((text) => [text, "#1f2937", "#fff"]));
  }
  // Over the player boxes come a frame or two late. So they come with the picture, but where its controls are to be seen.
  if (!view.copies && !video.paused && !canvas.parentElement.matches(":hover, :has(:focus-visible)")) pen.drawImage(video, ...place);
  actors.sort((a, b) => (a === pointed) - (b === pointed) || Boolean(b.thin) - Boolean(a.thin));  // what matters most on top
  drawActors(canvas, pen, place, actors);
};
const redraw = () => { views.forEach(paint); placeHeads(); };

// ---- boxes follow the frame on the screen; where nothing was looked at yet, the picture waits
let held = false;
const shownNow = (seconds) => {
  shownAt = seconds;
  const view = views.find((one) => !one.complete);
  const known = view ? view.found.duration : 0;
  if (view && !video.paused && seconds > known - 0.1) { held = true; video.pause(); }
  if (view && held && seconds > known) video.currentTime = Math.max(known - 0.1, 0);  // a slow machine told us too late
  redraw();
};
const goOn = () => { if (held && video.src && views.every((one) => one.complete || one.found.duration > shownAt + 0.5)) { held = false; video.play().catch(() => {}); } };
if ("requestVideoFrameCallback" in HTMLVideoElement.prototype) {
  const step = (_, frame) => { shownNow(frame.mediaTime); video.requestVideoFrameCallback(step); };
  video.requestVideoFrameCallback(step);
} else {
  const step = () => { if (!video.paused) shownNow(video.currentTime); requestAnimationFrame(step); };
  requestAnimationFrame(step);
}
video.addEventListener("timeupdate", () => shownNow(video.currentTime));  // also where frames are not called back in time
video.addEventListener("seeking", redraw);
video.addEventListener("seeked", () => { shownAt = video.currentTime; redraw(); });
video.addEventListener("play", () => { held = false; });
new ResizeObserver(() => redraw()).observe(video);
video.addEventListener("loadedmetadata", () => {
  element.style.setProperty("--aspect", clamp(video.videoWidth / video.videoHeight || 1.7778, 0.3, 4));
  if (!expected && isFinite(video.duration)) expected = video.duration;
  redraw();
});
const say = (text) => { at(".note").textContent = text; at(".note").hidden = !text; };
const play = (address) => {
  shownAt = 0;
  held = false;
  pointer = lit = null;
  video.srcObject = null;
  video.removeAttribute("src");
  if (address) { video.src = address; video.play().catch(() => {}); } else video.load();
};
const goTo = (seconds) => { video.currentTime = clamp(seconds, 0, Math.max((isFinite(video.duration) ? video.duration : length()) - 0.001, 0)); };

for (const stage of element.querySelectorAll(".stage")) {
  const point = (event) => {
    const place = stage.getBoundingClientRect(), scale = Math.min(place.width / video.videoWidth, place.height / video.videoHeight);
    pointer = event.type === "pointerleave" && event.pointerType === "mouse" || !scale ? null  // a finger has left where it pointed
      : [(event.clientX - place.left - place.width / 2) / (video.videoWidth * scale) + 0.5, (event.clientY - place.top - place.height / 2) / (video.videoHeight * scale) + 0.5];
    redraw();
  };
  for (const kind of ["pointermove", "pointerdown", "pointerleave"]) stage.addEventListener(kind, point);
}
const light = (tube) => { if (lit !== tube) { lit = tube; element.querySelectorAll("[data-tube]").forEach((one) => one.classList.toggle("lit", one.tube === tube)); redraw(); } };
// one of the things that stand for a tube: pointing at it lights all of them, a click goes there
const reveal = (tube) => {  // its bar, where many rows scroll
  for (const bar of element.querySelectorAll(".rows button")) {
    if (bar.tube !== tube) continue;
    const rows = bar.closest(".rows"), seen = rows.getBoundingClientRect(), place = bar.getBoundingClientRect();
    if (place.top < seen.top || place.bottom > seen.bottom) rows.scrollTop += place.top - seen.top - rows.clientHeight / 2;
  }
};
const stands = (one, tube, seconds) => {
  one.tube = tube;
  one.dataset.tube = "";
  one.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") light(tube); });
  one.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") light(null); });
  one.addEventListener("focusin", () => light(tube));
  one.addEventListener("focusout", () => light(null));
  one.addEventListener("click", (event) => {
    event.stopPropagation();
    pointer = null;
    goTo(seconds + 0.001);
    light(tube);
    reveal(tube);
    at(".stages").scrollIntoView({ block: "nearest" });
  });
};
