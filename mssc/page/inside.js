// Looking inside: the network as a drawing, with what its parts do at a moment of the video in their places.
let key = "", told = null, source = "", asked = 0, asking = "";
const look = at("#look"), slider = at("[data-do=moment]"), modelMenu = at("[data-do=model]"), besideMenu = at("[data-do=beside]");
const page = () => document.querySelector("#detect .stage video");  // the video on the first tab
const jobOf = () => document.querySelector("#detect [data-found]")?.dataset.found ?? "";  // what was found in it
const displayed = () => page() && page().videoWidth ? [page().videoWidth, page().videoHeight] : told.size;  // pixels need not be square

modelMenu.append(...[...models.keys()].map((name) => option(name, name)));
const modelChosen = () => {
  const others = alike(models.get(modelMenu.value));
  besideMenu.replaceChildren(option("", "none"), ...others.map((one) => option(one, one)));
  besideMenu.value = others[0] ?? "";
};
modelMenu.value = props.model;
modelMenu.addEventListener("change", modelChosen);
modelChosen();
const slide = () => { at("output").textContent = `${Number(slider.value).toFixed(2)} s`; at(".moment").currentTime = Number(slider.value) + 0.001; };
slider.addEventListener("input", () => { slide(); if (page()) page().currentTime = Number(slider.value); });
// there is something to look into once actions were found on the first tab
const found = () => { const there = Boolean(jobOf()); look.disabled = Boolean(key) || !there; at(".first-find").hidden = there; at(".moment").hidden = !there; };
let watching = null;
const watchFound = () => {
  const result = document.querySelector("#detect .result");
  if (result && !watching) (watching = new MutationObserver(found)).observe(result, { attributes: true, attributeFilter: ["data-found"] });
  found();
};
// whoever comes to this tab finds the moment and the model of the first one
new IntersectionObserver(([entry]) => {
  const film = page(), chosen = document.querySelector("#detect #model");
  if (!entry.isIntersecting) return;
  watchFound();
  if (told && told.job !== jobOf()) { told = null; at(".shown").hidden = true; }  // of a video that is gone
  if (!film || !film.videoWidth) return;
  if (isFinite(film.duration)) slider.max = film.duration;
  slider.value = film.currentTime;
  if (source !== film.currentSrc) at(".moment").src = film.currentSrc;
  slide();
  if (source === film.currentSrc) return;
  source = film.currentSrc;
  modelMenu.value = chosen.value;
  modelChosen();
}).observe(element);
slide();

const busy = (on) => { working(on); at("[data-do=stop]").hidden = !on; if (!on) key = ""; found(); };
const fail = (sentence) => { tell(""); at(".failed").hidden = false; at(".failed p").textContent = sentence; busy(false); };
look.addEventListener("click", () => {
  key = random();
  busy(true);
  tell(WAITING, 0);
  wait(at(".said"));
  const threshold = document.querySelector("#detect #threshold");
  asked = Number(slider.value);
  asking = jobOf();
  trigger("look", { key, job: asking, models: [modelMenu.value, besideMenu.value].filter(Boolean), moment: Number(slider.value), threshold: Number(threshold ? threshold.value : 0.3) });
});
at("[data-do=stop]").addEventListener("click", () => { trigger("cancel", { job: key }); busy(false); tell("Cancelled."); });
watch("looked", () => {
  const looked = props.looked;
  if (!looked || !key || looked.key && looked.key !== key) return;
  if (asking !== jobOf()) { busy(false); tell(""); return; }  // the video has gone meanwhile
  if (looked.error) fail(looked.error);
  else if (looked.told) { told = { ...looked.told, job: asking }; busy(false); tell(""); show(); }
  else tell(`${looked.text} …`, looked.done, looked.total);
});

// ---- maps
const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
const FIRE = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];  // inferno
const BOTH = [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]];  // blue, white, red
const colour = (share, steps) => {
  const place = clamp(share, 0, 1) * (steps.length - 1), low = Math.min(Math.floor(place), steps.length - 2), rest = place - low;
  return steps[low].map((value, i) => value + rest * (steps[low + 1][i] - value));
};
const valuesOf = (map, frame = 0) => {
  const size = map.sides[0] * map.sides[1], all = map.bytes || (map.bytes = bytes(map.values));
  return Array.from(all.subarray(frame * size, (frame + 1) * size), (value) => map.least + value / 255 * (map.most - map.least));
};
// values on a canvas of one dot a cell; opacity grows with the value where a picture lies below
const paint = (canvas, values, [tall, wide], range, steps, over) => {
  canvas.width = wide;
  canvas.height = tall;
  const pen = canvas.getContext("2d"), image = pen.createImageData(wide, tall);
  values.forEach((value, i) => {
    const share = (value - range[0]) / (range[1] - range[0]);
    image.data.set([...colour(share, steps), over === "up" ? 60 + 160 * clamp(share, 0, 1) : over === "both" ? 40 + 360 * clamp(Math.abs(share - 0.5), 0, 0.5) : 255], 4 * i);
  });
  pen.putImageData(image, 0, 0);
};
const bar = (canvas, steps) => paint(canvas, Array.from({ length: 200 }, (_, i) => i / 199), [1, 200], [0, 1], steps);
const outlined = (canvas) => {  // the map as large as it is shown, with the boxes
  const shown = make("canvas"), pen = shown.getContext("2d"), [width, height] = displayed();
  shown.width = 320;
  shown.height = Math.round(320 * height / width);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(canvas, 0, 0, shown.width, shown.height);
  for (const [x1, y1, x2, y2] of told.boxes) for (const [line, ink] of [[4, "rgba(0,0,0,.6)"], [2, "#fff"]]) {
    pen.lineWidth = line;
    pen.strokeStyle = ink;
    pen.strokeRect(x1 * shown.width, y1 * shown.height, (x2 - x1) * shown.width, (y2 - y1) * shown.height);
  }
  return shown;
};
// ---- maps of one kind have one scale, over all models
const KINDS = {
  distance: ["distance from the video's average", "The same scale before and after MSM: 1 is the average of the frame.", FIRE],
  change: ["after minus before MSM", "Red: MSM moves these places away from the average. Blue: towards it.", BOTH],
  strength: ["strength of the features", "In units of the average of the frame.", FIRE],
  taken: ["what a path takes from the other one in SFM", "In units of the average of the frame.", FIRE],
  attention: ["attention", "In units of the average of the frame.", FIRE],
};
const MAPS = {
  before: ["distance", "distance from the average, before MSM"], after: ["distance", "distance from the average, after MSM"], change: ["change", "distance, after minus before MSM"],
  "spatial takes": ["taken", "what the 2D path takes from the 3D path"], "motion takes": ["taken", "what the 3D path takes from the 2D path"],
  spatial: ["strength", "2D path"], motion: ["strength", "3D path"], fused: ["strength", "after the fusion"], attention: ["attention", "where action cells look"],
};
const kindOf = (name) => MAPS[name][0];
const has = (one, name) => Boolean(one.maps[name]) && (one.sense || !["before", "after", "change"].includes(name));
// from 0, or both ways, to what all but the strongest places reach: one that outshines all would leave the rest in the dark
const rangeOf = (name) => {
  const kind = kindOf(name), known = told.ranges || (told.ranges = {});
  if (!known[kind]) {
    const all = told.models.flatMap((one) => Object.keys(MAPS).filter((other) => kindOf(other) === kind && has(one, other)).flatMap((other) => valuesOf(one.maps[other]))).map(Math.abs).sort((a, b) => a - b);
    const most = Math.max(all[Math.floor(0.99 * (all.length - 1))], 0.001);
    known[kind] = [kind === "change" ? -most : 0, most];
  }
  return known[kind];
};
const shortly = (value) => value ? `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(Math.abs(value) < 1 ? 2 : 1)}` : "0";
const scaleOf = (name) => {
  const [title, sentence, steps] = KINDS[kindOf(name)], [low, high] = rangeOf(name), scale = make("div", "scale"), canvas = make("canvas");
  bar(canvas, steps);
  scale.title = sentence;
  scale.append(make("span", "", shortly(low)), canvas, make("span", "", `${shortly(high)} or more`), make("span", "hint", title));
  return scale;
};

// ---- the network, as the paper's figure draws it: the key frame's path above, the clip's below, SFM joins them
const mapNode = (one, name, title, sentence) => {
  const node = make("div", "node"), canvas = make("canvas"), lift = one.lift[name];
  paint(canvas, valuesOf(one.maps[name]), one.maps[name].sides, rangeOf(name), KINDS[kindOf(name)][2]);
  const shown = outlined(canvas);
  shown.setAttribute("role", "img");
  shown.setAttribute("aria-label", title);
  node.title = sentence;
  node.append(shown, title);
  if (lift !== null && lift !== undefined) node.append(make("br"), make("b", "", lift.toFixed(2)), " inside");
  return node;
};
const part = (name, text, sentence) => { const node = make("div", name, text); node.title = sentence; return node; };
const network = (one) => {
  const net = make("div", "net"), image = make("img"), picture = part("node", "", "The frame whose boxes are asked for.");
  const takes = has(one, "spatial takes"), place = (node, row, column, rows = 1) => { node.style.gridArea = `${row} / ${column} / span ${rows}`; node.classList.toggle("upright", column % 2 === 0); net.append(node); };
  const module = (text, sentence, there = true) => part(there ? "module" : "module off", text, sentence);
  image.src = told.picture;
  image.alt = "The key frame";
  image.style.aspectRatio = displayed().join(" / ");
  picture.append(image, "key frame");
  place(picture, 1, 1);
  place(module("2D backbone", "Reads the key frame: what is there."), 1, 2);
  place(mapNode(one, "spatial", "2D path", "What the key frame's path brings to the fusion: how strong its features are."), 1, 3);
  if (one.sense) {
    place(mapNode(one, "before", "3D path, before MSM", "How far the features of each place of the clip lie from the video's average, before MSM."), 2, 1);
    place(module("MSM", "The Motion Sense Module moves features away from the video's average."), 2, 2);
    place(mapNode(one, "after", "3D path, after MSM", "The same after MSM. If the claim holds, it is larger where somebody acts."), 2, 3);
    place(mapNode(one, "change", "after minus before", KINDS.change[1]), 3, 1);
  } else {
    place(mapNode(one, "motion", "3D path", "What the clip's path brings to the fusion: how strong its features are."), 2, 1);
    place(module("no MSM", "This model has no Motion Sense Module.", false), 2, 2);
    place(part("node off", "no MSM here", "This model has no Motion Sense Module, so there is no before and after."), 2, 3);
  }
  place(module(takes ? "SFM" : "no SFM", takes ? "The Semantic Correction Fusion Module: each path takes from the other one, then both are merged." : "This model joins both paths without correcting them.", takes), 1, 4, 2);
  if (takes) {
    place(mapNode(one, "spatial takes", "2D path takes", "What SFM gives to the key frame's path, by the other path's context."), 1, 5);
    place(mapNode(one, "motion takes", "3D path takes", "What SFM gives to the clip's path, by the other path's context."), 2, 5);
  } else place(part("node off", "no SFM here", "Nothing is exchanged between the paths."), 1, 5, 2);
  place(module("boxes, actions", "The head reads boxes and actions from the fused maps."), 3, 3);
  place(part("arrow", "←", ""), 3, 4);
  place(mapNode(one, "fused", "↓ after the fusion", "What boxes and actions are read from."), 3, 5);
  return net;
};

// ---- maps over the video as it plays, around the moment: one player, a canvas for each model
const films = () => {
  const box = at(".films"), menu = make("select"), label = make("label", "", "Map over the video "), stages = make("div", "columns"), under = make("div");
  const known = Object.keys(MAPS).filter((name) => told.models.some((one) => has(one, name) && one.around[name]));
  const { times } = told.models[0];
  box.replaceChildren();
  if (!times.length || !known.length || !page()) return;
  menu.append(option("", "none"), ...known.map((name) => option(name, MAPS[name][1])));
  menu.value = menu.dataset.map = known[0];
  label.append(menu);
  const video = make("video");
  video.src = page().currentSrc;
  video.muted = video.playsInline = video.controls = true;
  video.setAttribute("controlslist", "nofullscreen noremoteplayback");  // the map would stay behind
  const shown = told.models.map((one, place) => {
    const stage = make("div", "film"), base = place ? make("canvas", "base") : video, over = make("canvas", "over"), tag = make("p", "tag");
    stage.append(base, over, tag);
    stages.append(stage);
    return { one, base, over, tag };
  });
  let seconds = 0;
  const draw = () => {
    const name = menu.value, outside = seconds < times[0] - 0.05 || seconds > times[times.length - 1] + 0.2;
    let frame = times.length - 1;
    while (frame > 0 && times[frame] > seconds + 0.002) frame--;
    for (const { one, base, over, tag } of shown) {
      if (base !== video && video.videoWidth) {
        base.width = Math.min(video.videoWidth, 960);
        base.height = Math.round(base.width * video.videoHeight / video.videoWidth);
        base.getContext("2d").drawImage(video, 0, 0, base.width, base.height);
      }
      const there = name && has(one, name) && one.around[name];
      tag.textContent = one.model + (name && !there ? (one.sense || !["before", "after", "change"].includes(name) ? ": no SFM here" : ": no MSM here") : "");
      if (there && !outside) paint(over, valuesOf(one.around[name], frame), one.around[name].sides, rangeOf(name), KINDS[kindOf(name)][2], kindOf(name) === "change" ? "both" : "up");
      else over.getContext("2d").clearRect(0, 0, over.width, over.height);
    }
  };
  const step = (_, frame) => {
    seconds = frame.mediaTime;
    draw();
    if (seconds >= times[times.length - 1] - 0.02 && !video.paused) video.currentTime = times[0];
    if (video.isConnected) video.requestVideoFrameCallback(step);
  };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(step);
  else video.addEventListener("timeupdate", () => { seconds = video.currentTime; draw(); });
  video.addEventListener("loadedmetadata", () => {
    video.currentTime = told.seconds;
    for (const { over } of shown) over.parentElement.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;  // as it is displayed
  }, { once: true });
  const chosen = () => { under.replaceChildren(...(menu.value ? [scaleOf(menu.value)] : [])); draw(); };
  menu.addEventListener("change", chosen);
  chosen();
  box.append(make("h4", "", "As the video plays, around the moment"), label, under, stages);
};

// ---- numbers
const table = (heads, rows) => {
  const made = make("table"), head = make("thead"), body = make("tbody"), first = make("tr");
  first.append(...heads.map((text) => make("th", "", text)));
  head.append(first);
  for (const [name, sentence, ...cells] of rows) {
    const row = make("tr"), title = make("th", "", name);
    title.title = sentence;
    title.tabIndex = 0;
    row.append(title, ...cells.map((text) => make("td", "", text)));
    body.append(row);
  }
  made.append(head, body);
  return made;
};
const measures = (one) => {
  const box = make("div"), before = one.separability["MSM in"] || {}, after = one.separability["MSM out"] || {};
  const rows = Object.entries(props.measures).filter(([name]) => name in before && name in after).map(([name, [title, sentence]]) =>
    [title, sentence, before[name].toFixed(3), ...(one.sense ? [after[name].toFixed(3), `${after[name] >= before[name] ? "+" : ""}${(after[name] - before[name]).toFixed(3)}`] : [])]);
  box.append(make("h5", "", `Action against background, ${told.key_frames} key frames of this video (larger: farther apart)`));
  box.append(rows.length ? table(["", ...(one.sense ? ["before MSM", "after", "change"] : ["3D path"])], rows) : make("p", "hint", "The actors are too small for the maps of this model, so nothing is measured."));
  return box;
};
const drawing = (name, width, height) => { const made = document.createElementNS(at(".seed").namespaceURI, name); if (width) made.setAttribute("viewBox", `0 0 ${width} ${height}`); return made; };
const shape = (name, attributes, text) => {
  const made = drawing(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  if (text !== undefined) made.textContent = text;
  return made;
};
const gains = (one) => {
  const box = make("div"), values = one.channels;
  if (!values) return box;
  const top = Math.max(...values, 1.001), low = Math.min(...values, 1), svg = drawing("svg", 460, 148), y = (value) => 10 + 110 * (top - value) / (top - low);
  for (const value of low < 1 - 0.15 * (top - low) ? [top, 1, low] : [top, 1]) svg.append(shape("line", { x1: 58, x2: 460, y1: y(value), y2: y(value), "stroke-dasharray": value === 1 ? "" : "3 4" }), shape("text", { x: 54, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(3)));
  const wide = 400 / values.length;
  values.forEach((value, i) => svg.append(shape("rect", { x: 59 + i * wide, width: Math.max(wide - 0.6, 0.4), y: Math.min(y(value), y(1)), height: Math.max(Math.abs(y(value) - y(1)), 0.5), fill: value > 1 ? "#d55e00" : "#0072b2" })));
  svg.append(shape("text", { x: 252, y: 142, "text-anchor": "middle" }, `channels, 1 to ${values.length}, the largest gain first`), shape("text", { x: 0, y: 0, transform: "translate(9 65) rotate(-90)", "text-anchor": "middle" }, "gain 1 + aφ"));
  svg.setAttribute("role", "img");
  const said = `${Math.round(100 * one.gain.share_above_1)} % of ${values.length} channels are above 1, the mean is ${one.gain.mean.toFixed(3)}`;
  svg.setAttribute("aria-label", said);
  box.append(make("h5", "", "MSM's gain, channel by channel"), svg, make("p", "hint", `${said}. A gain above 1 strengthens a channel everywhere, in action and background; the numbers above say which of them moves farther.`));
  return box;
};
const exchange = (one) => {
  const box = make("div");
  if (!one.exchange.length) return box;
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  box.append(make("h5", "", "What SFM exchanges"), table(["", ...one.exchange.map((level) => `stride ${level.stride}`)], [
    ["2D path changes with another moment's motion", "How much the key frame's corrected features change when the clip's come from another moment of the video.", ...one.exchange.map((level) => percent(level.change.spatial_other))],
    ["… without motion", "The same when the clip's features are zero.", ...one.exchange.map((level) => percent(level.change.spatial_zero))],
    ["3D path changes with another moment's picture", "How much the clip's corrected features change when the key frame's come from another moment.", ...one.exchange.map((level) => percent(level.change.motion_other))],
    ["… without a picture", "The same when the key frame's features are zero.", ...one.exchange.map((level) => percent(level.change.motion_zero))],
    ...(one.exchange[0].entropy ? [["evenness of the context, to 2D", "Entropy of the context matrix's columns: 0 picks one channel, 1 mixes all alike.", ...one.exchange.map((level) => level.entropy[0].toFixed(2))],
      ["evenness of the context, to 3D", "The same for what the clip's path is given.", ...one.exchange.map((level) => level.entropy[1].toFixed(2))]] : []),
  ]));
  const contexts = make("div", "contexts");
  one.contexts.forEach((pair, level) => (pair || []).forEach((text, path) => {
    const figure = make("figure"), canvas = make("canvas"), values = Array.from(bytes(text)), side = Math.round(Math.sqrt(values.length));
    paint(canvas, values, [side, side], [0, 255], FIRE);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "context matrix");
    figure.append(canvas, make("figcaption", "", `context to ${path ? "3D" : "2D"}, stride ${one.exchange[level].stride}`));
    contexts.append(figure);
  }));
  if (contexts.children.length) box.append(contexts, make("p", "hint", "Each column says how one channel is mixed from the other path's channels (first head; bright: much)."));
  if (one.maps.attention) box.append(make("h5", "", "Where action cells look"), scaleOf("attention"), mapNode(one, "attention", "attention of the cells inside the boxes", "Rows of the attention, averaged over the cells inside the boxes."));
  return box;
};
const points = (one) => {
  const box = make("div"), pair = make("div", "points"), painted = models.get(modelMenu.value).colours;
  for (const [tap, title] of [["MSM in", one.sense ? "before MSM" : "3D path"], ["MSM out", "after MSM"]]) {
    const cells = one.points[tap];
    if (!cells || tap === "MSM out" && !one.sense) continue;
    const svg = drawing("svg", 220, 220), figure = make("figure"), across = [0, 1].map((axis) => cells.places.map((place) => place[axis])), low = across.map((all) => Math.min(...all)), high = across.map((all) => Math.max(...all));
    cells.places.map((place, i) => [place, cells.labels[i]]).sort((a, b) => a[1] - b[1]).forEach(([place, label]) => {
      const [x, y] = place.map((value, axis) => 8 + 204 * (value - low[axis]) / Math.max(high[axis] - low[axis], 1e-9));
      svg.append(shape("circle", { cx: x, cy: y, r: label < 0 ? 2 : 3, fill: label < 0 ? "#9aa0a6" : (painted[label] || ["#d55e00"])[0], "fill-opacity": label < 0 ? 0.6 : 0.95 }));
    });
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `Features ${title}, in two dimensions`);
    figure.append(svg, make("figcaption", "", title));
    pair.append(figure);
  }
  if (pair.children.length) box.append(make("h5", "", "The features in two dimensions (t-SNE)"), pair, make("p", "hint", "Each point is a place in a frame of your video: coloured where somebody acts, grey in the background. One video proves nothing; it shows what to look for."));
  return box;
};

const show = () => {
  at(".shown").hidden = false;
  const elsewhere = Math.abs(told.seconds - asked) > 0.1 ? `Nobody has a box at ${asked.toFixed(2)} s; this is the nearest moment at which somebody has. ` : "";
  slider.value = told.seconds;
  slide();
  at(".boxes-are").textContent = `${elsewhere}Frame ${told.frame}, at ${told.seconds.toFixed(2)} s. Nobody labelled your video: the boxes are ${told.boxes_are.split(";")[0]}, and may be wrong. The drawing shows this frame; “inside” is the mean of a map inside the boxes: 1 is the average of the frame.`;
  const kinds = new Map(Object.keys(MAPS).filter((name) => name !== "attention" && told.models.some((one) => has(one, name))).reverse().map((name) => [kindOf(name), name]));
  at(".scales").replaceChildren(...[...kinds.values()].reverse().map(scaleOf));
  films();
  const sections = (kind, parts) => at(`.columns.${kind}`).replaceChildren(...told.models.map((one) => {
    const section = make("section"), head = make("h4", "", `${one.model} `);
    head.append(make("small", "", `(${one.kind})`));
    section.append(head, ...parts(one));
    return section;
  }));
  sections("drawn", (one) => [make("p", "verdict", one.verdict), ...(one.worth ? [make("p", "hint", one.worth)] : []), network(one)]);
  sections("measured", (one) => [measures(one), gains(one), exchange(one), points(one)]);
};
