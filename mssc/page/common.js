// What the page's parts share: elements, addresses, models, boxes with labels over a picture.
const at = (selector) => element.querySelector(selector);
const make = (tag, name, text) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
};
const option = (value, text) => { const made = make("option", "", text); made.value = value; return made; };
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const random = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (one) => one.toString(16).padStart(2, "0")).join("");
const root = ((window.gradio_config && window.gradio_config.root) || "").replace(/\/$/, "");
const addressOf = (path) => `${root}/gradio_api/file=${path.split("/").map(encodeURIComponent).join("/")}`;
const models = new Map(props.models.map((one) => [one.name, one]));
const GREY = "#b6bbc1";  // who does nothing that is sure
const CROWD = 8;  // more of them have no labels

// how far something is, or that it failed, in the part's own place for that
const tell = (text, done, total) => {
  at(".said").textContent = text;
  at(".said").hidden = !text;
  const bar = at("progress");
  bar.hidden = done === undefined;
  if (total) { bar.max = total; bar.value = done; } else bar.removeAttribute("value");
  at(".failed").hidden = true;
};

// that something waits for its turn, and among how many, until its place tells something else
const WAITING = "Waiting for its turn …";
const wait = async (place) => {
  place.textContent = WAITING;
  while (place.textContent.startsWith(WAITING)) {
    const answer = await fetch(`${root}/gradio_api/queue/status`).catch(() => null);
    const waiting = answer && answer.ok ? (await answer.json()).queue_size : 0;
    if (place.textContent.startsWith(WAITING)) place.textContent = WAITING + (waiting > 1 ? ` (one of ${waiting} that wait)` : "");
    await new Promise((done) => setTimeout(done, 2000));
  }
};

// kept by the browser while the server works, for a lost connection loads the page anew
const INTERRUPTED = "mssc-working-on";
const stored = (act) => { try { return act(sessionStorage); } catch { return null; } };  // a page in another one may have none
const working = (on) => stored((place) => on ? place.setItem(INTERRUPTED, document.querySelector("#detect .name").textContent) : place.removeItem(INTERRUPTED));

// the camera; nothing where there is none, which is said
let opening = false;
const openCamera = async (say) => {
  if (opening) return null;
  opening = true;
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } }, audio: false });
  } catch (error) {
    say(!navigator.mediaDevices ? "This browser gives no camera to this page; it needs https or localhost."
      : error.name === "NotAllowedError" ? "The camera was not allowed. Allow it in the browser's address bar, then try again." : "No camera was found.");
    return null;
  } finally { opening = false; }
};
// other models of the same actions, to compare with
const alike = ({ name, actions }) => [...models.values()].filter((one) => one.name !== name && String(one.actions) === String(actions)).map((one) => one.name);

// a canvas as large as it is shown, empty; and where a picture of some size lies in it: it may have bars beside it
const cleared = (canvas, pen) => {
  const wide = canvas.clientWidth, tall = canvas.clientHeight, dots = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(wide * dots) || canvas.height !== Math.round(tall * dots)) {
    canvas.width = Math.round(wide * dots);
    canvas.height = Math.round(tall * dots);
  }
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  pen.clearRect(0, 0, wide, tall);
};
const fitted = (canvas, width, height) => {
  const scale = Math.min(canvas.clientWidth / width, canvas.clientHeight / height) || 0;
  return [(canvas.clientWidth - width * scale) / 2, (canvas.clientHeight - height * scale) / 2, width * scale, height * scale];
};
// Actors: box, shares of the picture's sides; colour; lines, [text, colour, ink] each; thin, bright, pale. The later ones lie on top, their
// labels are placed first, and none lies over another one if there is room.
const drawActors = (canvas, pen, [left, top, w, h], actors) => {
  const wide = canvas.clientWidth, tall = canvas.clientHeight, full = clamp(Math.round(Math.min(w, h) / 22), 11, 20), taken = [];
  pen.textBaseline = "middle";
  for (const one of actors) {
    const place = [left + one.box[0] * w, top + one.box[1] * h, (one.box[2] - one.box[0]) * w, (one.box[3] - one.box[1]) * h];
    pen.globalAlpha = one.pale ? 0.3 : 1;
    if (one.bright) { pen.fillStyle = one.colour + "40"; pen.fillRect(...place); }
    const line = (one.thin ? 1.5 : 3) + 2 * Boolean(one.bright);
    for (const [width, colour] of [[line + 2, "rgba(0,0,0,.55)"], [line, one.colour]]) {
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.strokeRect(...place);
    }
  }
  const crowd = actors.filter((one) => one.thin).length > CROWD;
  for (const one of [...actors].reverse()) {
    if (crowd && one.thin && !one.bright) continue;  // their names would hide them; pointing at somebody tells
    const small = one.thin && !one.bright, size = small ? Math.max(Math.round(0.7 * full), 10) : full, high = size + (small ? 5 : 8);
    pen.font = `600 ${size}px system-ui, sans-serif`;
    const widest = Math.max(...one.lines.map(([text]) => pen.measureText(text).width + 10)), tallest = high * one.lines.length;
    const x = clamp(left + one.box[0] * w, 0, Math.max(wide - widest, 0)), y = top + one.box[1] * h, down = (one.box[3] - one.box[1]) * h;
    const spots = [y - tallest, y, y + down - tallest, y + down].map((place) => clamp(place, 0, Math.max(tall - tallest, 0)));
    let spot = spots.find((place) => !taken.some((t) => x < t[2] && t[0] < x + widest && place < t[3] && t[1] < place + tallest)) ?? spots[0];
    taken.push([x, spot, x + widest, spot + tallest]);
    pen.globalAlpha = one.pale ? 0.3 : 1;
    for (const [text, colour, ink] of one.lines) {
      pen.fillStyle = colour;
      pen.fillRect(x, spot, pen.measureText(text).width + 10, high);
      pen.fillStyle = ink;
      pen.fillText(text, x + 5, spot + high / 2 + 1);
      spot += high;
    }
  }
  pen.globalAlpha = 1;
};
