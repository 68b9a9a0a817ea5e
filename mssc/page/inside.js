// Looking inside: the network as a drawing, with what its parts do at a moment of the video in their places.
let key = "", told = null, source = "";
const look = at("#look"), slider = at("[data-do=moment]"), modelMenu = at("[data-do=model]"), besideMenu = at("[data-do=beside]");
const page = () => document.querySelector("#detect .stage video");  // the video on the first tab

modelMenu.append(...[...models.keys()].map((name) => option(name, name)));
const modelChosen = () => {
  const { name, actions } = models.get(modelMenu.value), alike = [...models.values()].filter((one) => one.name !== name && String(one.actions) === String(actions));
  besideMenu.replaceChildren(option("", "none"), ...alike.map((one) => option(one.name, one.name)));
  besideMenu.value = alike.length ? alike[0].name : "";
};
modelMenu.value = props.model;
modelMenu.addEventListener("change", modelChosen);
modelChosen();
const slide = () => { at("output").textContent = `${Number(slider.value).toFixed(2)} s`; };
slider.addEventListener("input", () => { slide(); if (page()) page().currentTime = Number(slider.value); });
// whoever comes to this tab finds the moment and the model of the first one
new IntersectionObserver(([entry]) => {
  const film = page(), chosen = document.querySelector("#detect #model");
  if (!entry.isIntersecting || !film || !film.videoWidth) return;
  if (isFinite(film.duration)) slider.max = film.duration;
  slider.value = film.currentTime;
  slide();
  if (source === film.currentSrc) return;
  source = film.currentSrc;
  modelMenu.value = chosen.value;
  modelChosen();
}).observe(element);
slide();

const busy = (on) => { look.disabled = on; at("[data-do=stop]").hidden = !on; if (!on) key = ""; };
const fail = (sentence) => { tell(""); at(".failed").hidden = false; at(".failed p").textContent = sentence; busy(false); };
look.addEventListener("click", () => {
  busy(true);
  key = random();
  tell("Waiting for its turn …", 0);
  const threshold = document.querySelector("#detect #threshold");
  trigger("look", { key, models: [modelMenu.value, besideMenu.value].filter(Boolean), moment: Number(slider.value), threshold: Number(threshold ? threshold.value : 0.3) });
});
at("[data-do=stop]").addEventListener("click", () => { trigger("cancel", { job: key }); busy(false); tell("Cancelled."); });
watch("looked", () => {
  const looked = props.looked;
  if (!looked || !key || looked.key && looked.key !== key) return;
  if (looked.error) fail(looked.error);
  else if (looked.told) { told = looked.told; busy(false); tell(""); show(); }
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
  return Array.from(all.subarray(frame * size, (frame + 1) * size), (value) => value / 255 * map.most);
};
// values on a canvas of one dot a cell; opacity grows with the value where a picture lies below
const paint = (canvas, values, [tall, wide], range, steps, clear) => {
  canvas.width = wide;
  canvas.height = tall;
  const pen = canvas.getContext("2d"), image = pen.createImageData(wide, tall);
  values.forEach((value, i) => {
    const share = (value - range[0]) / (range[1] - range[0]);
    image.data.set([...colour(share, steps), clear ? 60 + 160 * clamp(share, 0, 1) : 255], 4 * i);
  });
  pen.putImageData(image, 0, 0);
};
const bar = (canvas, steps) => paint(canvas, Array.from({ length: 200 }, (_, i) => i / 199), [1, 200], [0, 1], steps);
const outlined = (canvas) => {  // the map as large as it is shown, with the boxes
  const shown = make("canvas"), pen = shown.getContext("2d"), [width, height] = told.size;
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
const mapNode = (one, name, title, sentence) => {
  const node = make("div", "node"), map = one.maps[name];
  if (!map) { node.classList.add("off"); node.textContent = sentence; return node; }
  const canvas = make("canvas"), lift = one.lift[name];
  paint(canvas, valuesOf(map), map.sides, [0, told.most], FIRE);
  const shown = outlined(canvas);
  shown.setAttribute("role", "img");
  shown.setAttribute("aria-label", title);
  node.title = sentence;
  node.append(shown, title);
  if (lift !== null && lift !== undefined) node.append(make("br"), make("b", "", lift.toFixed(2)), " inside");
  return node;
};

// ---- the network, as the paper's figure draws it: the key frame's path above, the clip's below, SFM joins them
const network = (one) => {
  const net = make("div", "net"), arrow = (text) => make("div", "arrow", text), picture = make("div", "node"), image = make("img");
  const module = (text, sentence, off) => { const node = make("div", off ? "node off" : "node module", text); node.title = sentence; return node; };
  image.src = told.picture;
  image.alt = "The key frame";
  image.style.aspectRatio = `${told.size[0]} / ${told.size[1]}`;
  picture.append(image, "key frame");
  const takes = Boolean(one.maps["spatial takes"]), before = one.maps.before, after = one.maps.after;
  const change = make("div", "node");
  if (one.sense) {
    const canvas = make("canvas"), earlier = valuesOf(before);
    paint(canvas, valuesOf(after).map((value, i) => value - earlier[i]), after.sides, [-told.change, told.change], BOTH);
    change.append(outlined(canvas), "after minus before");
    change.title = "Red: MSM moves these cells away from the average. Blue: towards it.";
  } else { change.classList.add("off"); change.textContent = "no MSM here"; }
  net.append(
    picture, arrow("→"), mapNode(one, "spatial", "2D path", "What the key frame's path brings to the fusion: how strong its features are."), arrow("→"),
    takes ? mapNode(one, "spatial takes", "2D path takes", "What SFM gives to the key frame's path, by the other path's context.") : module("no SFM here", "This model joins both paths without correcting them.", true),
    one.sense ? mapNode(one, "before", "clip, before MSM", "How far each place's features lie from the average of the video, before MSM.") : mapNode(one, "motion", "3D path", "What the clip's path brings to the fusion."),
    arrow("→"), one.sense ? mapNode(one, "after", "after MSM", "The same after MSM. If the claim holds, it is larger where somebody acts.") : module("no MSM here", "This model has no Motion Sense Module.", true),
    arrow("→"), takes ? mapNode(one, "motion takes", "3D path takes", "What SFM gives to the clip's path, by the other path's context.") : mapNode(one, "motion", "3D path", "What the clip's path brings to the fusion."),
    change, arrow("⇒"), mapNode(one, "fused", "after the fusion", "What boxes and actions are read from."), arrow("→"), module("boxes, actions", "The head reads boxes and actions from the fused maps."),
  );
  return net;
};

// ---- maps over the video as it plays, around the moment
const NAMES = { before: "distance from the average, before MSM", after: "distance from the average, after MSM", change: "after minus before", "spatial takes": "what SFM gives the 2D path", "motion takes": "what SFM gives the 3D path", spatial: "2D path", motion: "3D path", fused: "after the fusion" };
const film = (one) => {
  const box = make("div"), stage = make("div", "film"), video = make("video"), canvas = make("canvas"), menu = make("select"), label = make("label", "", "Map over the video ");
  const known = Object.keys(NAMES).filter((name) => name === "change" ? one.sense : one.around[name] && (one.sense || name !== "before" && name !== "after"));
  if (!one.times.length || !known.length || !page()) return box;
  menu.append(option("", "none"), ...known.map((name) => option(name, NAMES[name])));
  menu.value = one.sense ? "after" : known[0];
  label.append(menu);
  video.src = page().currentSrc;
  video.muted = video.playsInline = true;
  video.controls = true;
  const draw = (seconds) => {
    const pen = canvas.getContext("2d");
    let frame = one.times.length - 1;
    while (frame > 0 && one.times[frame] > seconds + 0.002) frame--;
    if (!menu.value || seconds < one.times[0] - 0.05 || seconds > one.times[one.times.length - 1] + 0.2) { pen.clearRect(0, 0, canvas.width, canvas.height); return; }
    if (menu.value === "change") {
      const earlier = valuesOf(one.around.before, frame);
      paint(canvas, valuesOf(one.around.after, frame).map((value, i) => value - earlier[i]), one.around.after.sides, [-told.change, told.change], BOTH, true);
    } else paint(canvas, valuesOf(one.around[menu.value], frame), one.around[menu.value].sides, [0, told.most], FIRE, true);
  };
  let shown = 0;
  const step = (_, frame) => {
    shown = frame.mediaTime;
    draw(shown);
    if (shown >= one.times[one.times.length - 1] - 0.02 && !video.paused) video.currentTime = one.times[0];
    if (video.isConnected) video.requestVideoFrameCallback(step);
  };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(step);
  else video.addEventListener("timeupdate", () => draw(video.currentTime));
  video.addEventListener("loadedmetadata", () => { video.currentTime = one.times[0]; }, { once: true });
  menu.addEventListener("change", () => draw(shown));
  stage.append(video, canvas);
  box.append(make("h5", "", "As the video plays"), label, stage);
  return box;
};

// ---- numbers
const SENTENCES = {
  AUROC: ["told apart by a straight line (AUROC)", "How well a straight line tells action from background, in parts of the video that it was not fitted on: 0.5 is guessing, 1 is perfect."],
  d_euc: ["distance of the averages (d_euc)", "How far the average of action lies from that of the background, in units of the map's own spread: it does not grow with a mere gain."],
  "Fisher J": ["distance over scatter (Fisher J)", "The squared distance of the averages over the scatter around them: larger is better told apart."],
  silhouette: ["closer to one's own kind (silhouette)", "How much closer cells are to their own kind than to the other, from -1 to 1."],
};
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
  const rows = Object.entries(SENTENCES).filter(([name]) => name in before && name in after).map(([name, [title, sentence]]) =>
    [title, sentence, before[name].toFixed(3), ...(one.sense ? [after[name].toFixed(3), `${after[name] >= before[name] ? "+" : ""}${(after[name] - before[name]).toFixed(3)}`] : [])]);
  box.append(make("h5", "", `Action against background, ${told.key_frames} key frames of this video`));
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
  const reach = Math.max(...values.map((value) => Math.abs(value - 1)), 0.001) * 1.1, svg = drawing("svg", 460, 130), y = (value) => 65 - 55 * (value - 1) / reach;
  for (const value of [1 + reach / 1.1, 1, 1 - reach / 1.1]) svg.append(shape("line", { x1: 44, x2: 460, y1: y(value), y2: y(value), "stroke-dasharray": value === 1 ? "" : "3 4" }), shape("text", { x: 38, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(3)));
  const wide = 410 / values.length;
  values.forEach((value, i) => svg.append(shape("rect", { x: 47 + i * wide, width: Math.max(wide - 0.6, 0.4), y: Math.min(y(value), 65), height: Math.max(Math.abs(y(value) - 65), 0.5), fill: value > 1 ? "#d55e00" : "#0072b2" })));
  svg.setAttribute("role", "img");
  const said = `${Math.round(100 * one.gain.share_above_1)} % of ${values.length} channels are above 1, the mean is ${one.gain.mean.toFixed(3)}`;
  svg.setAttribute("aria-label", said);
  box.append(make("h5", "", "MSM's gain, channel by channel"), svg, make("p", "hint", `${said}. A channel above 1 is pushed away from the video's average; one bar a channel, the largest first.`));
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
  if (one.maps.attention) box.append(make("h5", "", "Where action cells look"), mapNode(one, "attention", "attention of the cells inside the boxes", "Rows of the attention, averaged over the cells inside the boxes."));
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
  told.most = Math.max(...told.models.flatMap((one) => Object.values(one.maps).map((map) => map.most)), 1);
  told.change = Math.max(...told.models.filter((one) => one.sense).flatMap((one) => { const earlier = valuesOf(one.maps.before); return valuesOf(one.maps.after).map((value, i) => Math.abs(value - earlier[i])); }), 0.001);
  at(".shown").hidden = false;
  at(".boxes-are").textContent = `Frame ${told.frame}, at ${told.seconds.toFixed(2)} s. Nobody labelled your video: the boxes are ${told.boxes_are.split(";")[0]}, and may be wrong. “Inside” is the mean of a map inside the boxes: 1 is the average of the frame.`;
  bar(at(".scale canvas"), FIRE);
  bar(at(".scale canvas.both"), BOTH);
  at(".most").textContent = told.most.toFixed(1);
  at(".less").textContent = (-told.change).toFixed(2);
  at(".more").textContent = `+${told.change.toFixed(2)}`;
  at(".both").parentElement.hidden = !told.models.some((one) => one.sense);
  at(".columns").replaceChildren(...told.models.map((one) => {
    const section = make("section"), head = make("h4", "", `${one.model} `);
    head.append(make("small", "", `(${one.kind})`));
    section.append(head, make("p", "verdict", one.verdict), network(one), film(one), measures(one), gains(one), exchange(one), points(one));
    return section;
  }));
};
