// The timeline: who is there, and who does what, from when to when; one for each model, all of one zoom.
let from = 0, to = 1;
const end = (view) => view.complete && !view.stopped ? view.found.duration : Math.max(expected, view.found.duration);
const rateOf = (view) => view && view.found.times.length > 1 ? (view.found.times.length - 1) / (view.found.times.at(-1) - view.found.times[0]) : 0;
const isLooked = (view, seconds) => seconds < view.found.duration + (view.complete && !view.stopped ? 0.01 : -0.002);
const length = () => Math.max(...views.map(end), 0.1);

const spoken = (view, tube) => `${tube.label === undefined ? "person" : nameOf(view, tube.label)}, person ${tube.actor}, ${tube.start.toFixed(1)} to ${tube.end.toFixed(1)} seconds, score ${tube.score.toFixed(2)}`
  + (tube.likeliest && tube.likeliest.length ? `; likeliest: ${likely(view, tube).join(", ")}` : "");

const showRows = (view) => {
  const actors = new Map();
  for (const tube of [...(people ? view.found.people : []), ...view.shown]) {
    if (!actors.has(tube.actor)) actors.set(tube.actor, []);
    actors.get(tube.actor).push(tube);
  }
  const acts = (tubes) => tubes.some((tube) => tube.label !== undefined);
  const lines = [...actors].sort((a, b) => acts(b[1]) - acts(a[1]) || a[0] - b[0]).map(([actor, tubes]) => {
    const row = make("div", "row"), who = make("span", "who"), lanes = make("div", "lanes"), ends = [];
    who.append(make("i", "", "Person "), String(actor));
    const grey = tubes.some((tube) => tube.label === undefined) ? 0.65 : 0;
    for (const tube of tubes.sort((a, b) => a.start - b.start)) {
      const person = tube.label === undefined, bar = make("button", person ? "grey" : "bar");
      bar.type = "button";
      bar.title = spoken(view, tube);
      bar.setAttribute("aria-label", bar.title);
      if (!person) {
        let lane = ends.findIndex((stop) => stop <= tube.start + 0.001);
        if (lane < 0) lane = ends.push(0) - 1;
        ends[lane] = tube.end;
        bar.style.top = `${0.2 + 1.55 * lane}rem`;
        [bar.style.background, bar.style.color] = colourOf(view, tube.label);
        bar.append(make("span", "", `${nameOf(view, tube.label)} ${tube.score.toFixed(2)}`));
      } else bar.style.bottom = "0.2rem";
      stands(bar, tube, tube.start);
      lanes.append(bar);
    }
    lanes.style.height = `${Math.max(0.3 + 1.55 * ends.length + grey, 1.7)}rem`;
    row.append(who, lanes);
    return row;
  });
  if (!lines.length) lines.push(make("p", "none", view.found.people.length ? "No sure action; people are switched off." : view.skipped ? "Cancelled before this model looked." : view.found.tubes.length ? `No sure action${upTo(view)}.` : view.complete ? `Nobody was seen${upTo(view)}.` : "Nobody was seen yet."));
  view.over = make("div", "over");
  view.over.append(make("div", "unseen"), make("div", "head"));
  const all = make("div", "all");
  all.append(...lines, view.over);
  view.rows.replaceChildren(all);
};

const placeHeads = () => {
  const share = (shownAt - from) / (to - from);
  for (const view of views) {
    if (!view.over) continue;
    view.over.lastChild.style.left = `${100 * share}%`;
    view.over.lastChild.hidden = share < 0 || share > 1;
  }
  const view = views[0], looked = view && isLooked(view, shownAt);
  at(".time").textContent = `${shownAt.toFixed(2)} s` + (looked ? `, frame ${frameAt(view.found.times, shownAt)}` : "");
};
// A name that has no room in its bar stands beside it, as far as the neighbours in its lane leave room.
const placeNames = (bars) => {
  const lanes = new Map();
  for (const bar of bars) lanes.set(bar.style.top, [...(lanes.get(bar.style.top) ?? []), bar]);
  for (const lane of lanes.values()) {
    const inOrder = [...lane].sort((a, b) => a.tube.start - b.tube.start);
    let taken = -Infinity;  // up to where names reach
    inOrder.forEach((bar, place) => {
      const name = bar.firstChild, [left, right] = [bar.offsetLeft, bar.offsetLeft + bar.offsetWidth];
      name.style.maxWidth = "";
      name.hidden = false;
      if (name.offsetWidth > bar.clientWidth) {
        const next = inOrder[place + 1], edge = next ? next.offsetLeft : bar.offsetParent.clientWidth;
        const before = left - Math.max(taken, 0) - 2, after = edge - right - 2, wide = name.offsetWidth;
        const [room, where] = after >= wide ? [after, "right"] : before >= wide ? [before, "left"]
          : [[bar.clientWidth, "inside"], [after, "right"], [before, "left"]].sort((a, b) => b[0] - a[0])[0];
        if (where !== "inside") bar.classList.add("out", ...(where === "left" ? ["end"] : []));
        name.style.maxWidth = `${room}px`;
        name.hidden = room < 24;  // pointing at the bar tells it
        taken = where === "right" ? right + Math.min(wide, room) : right;
      } else taken = right;
    });
  }
};
const span = (low, high) => {
  const width = clamp(high - low, Math.min(0.2, length()), length());
  from = clamp(low, 0, length() - width);
  to = from + width;
  const share = (seconds) => 100 * (seconds - from) / (to - from);
  for (const view of views) {
    if (!view.over) continue;
    for (const bar of view.rows.querySelectorAll("button")) {
      bar.style.left = `${share(bar.tube.start)}%`;
      bar.style.width = `${share(bar.tube.end) - share(bar.tube.start)}%`;
      bar.classList.remove("out", "end");
    }
    for (const lanes of view.rows.querySelectorAll(".lanes")) placeNames([...lanes.querySelectorAll("button.bar")]);
    view.over.firstChild.hidden = view.complete && view.found.duration >= end(view);
    view.over.firstChild.style.left = `${clamp(share(view.found.duration), 0, 100)}%`;
    view.axis.style.marginRight = `${view.rows.offsetWidth - view.rows.clientWidth}px`;  // where many rows scroll
    const steps = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120], most = Math.max(view.axis.clientWidth / 70, 2);
    const step = steps.find((one) => (to - from) / one <= most) || 300, marks = [];
    for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
      const mark = make("span", "", `${Number(tick.toFixed(2))} s`);
      mark.style.left = `${share(tick)}%`;
      marks.push(mark);
    }
    view.axis.replaceChildren(...marks);
    let taken = -Infinity;
    for (const mark of marks) {  // whole, and none over another one
      const half = mark.offsetWidth / 2, place = clamp(mark.offsetLeft, half, Math.max(view.axis.clientWidth - half, half));
      mark.style.left = `${place}px`;
      mark.hidden = place - half < taken + 4;
      if (!mark.hidden) taken = place + half;
    }
  }
  redraw();
};
const zoom = (factor, around) => {
  const centre = around ?? clamp(shownAt, from, to), width = (to - from) * factor;
  span(centre - (centre - from) / (to - from) * width, centre - (centre - from) / (to - from) * width + width);
};

// ---- a click goes there, dragging moves, the wheel zooms
const timelineOf = (view) => {
  const box = make("section", "timeline"), rows = make("div", "rows");
  view.title = make("h4", "", view.model);
  view.title.hidden = true;
  view.rows = rows;
  view.axis = make("div", "axis");
  view.axis.setAttribute("aria-hidden", "true");
  box.setAttribute("aria-label", `Timeline of what ${view.model} found`);
  rows.tabIndex = 0;
  rows.setAttribute("role", "group");
  rows.setAttribute("aria-label", "Timeline: arrow keys move the video, plus and minus zoom");
  box.append(view.title, rows, view.axis);
  const secondsAt = (x) => { const place = view.axis.getBoundingClientRect(); return from + (x - place.left) / place.width * (to - from); };
  let grabbed = null;
  rows.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && Math.abs(event.deltaX) < Math.abs(event.deltaY)) return;  // the page scrolls
    event.preventDefault();
    const moved = event.deltaX / view.axis.clientWidth * (to - from);
    if (event.ctrlKey || event.metaKey) zoom(event.deltaY > 0 ? 1.25 : 0.8, secondsAt(event.clientX)); else span(from + moved, to + moved);
  }, { passive: false });
  rows.addEventListener("pointerdown", (event) => { grabbed = { x: event.clientX, from, to, moved: false }; });
  rows.addEventListener("pointermove", (event) => {
    if (!grabbed || !event.buttons) return;
    const moved = (event.clientX - grabbed.x) / view.axis.clientWidth * (grabbed.to - grabbed.from);
    if (Math.abs(event.clientX - grabbed.x) > 4) grabbed.moved = true;
    if (grabbed.moved) span(grabbed.from - moved, grabbed.to - moved);
  });
  rows.addEventListener("click", (event) => { if (!(grabbed && grabbed.moved)) goTo(secondsAt(event.clientX)); });
  return box;
};

const stepBy = (frames) => {
  const times = views.length ? views[0].found.times : [], next = frameAt(times, shownAt) + frames;
  video.pause();
  const rate = rateOf(views[0]) || 25, inside = times.length && isLooked(views[0], shownAt) && next >= 0 && next < times.length;
  goTo(inside ? times[next] + 0.001 : (Math.floor(shownAt * rate + 0.05) + frames + 0.5) / rate);
};
element.addEventListener("keydown", (event) => {
  if (at(".stages").hidden || event.target.closest("select, input, video, summary") || event.altKey || event.ctrlKey || event.metaKey) return;
  const act = {
    ",": () => stepBy(-1), ".": () => stepBy(1), "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": () => span(0, length()),
    ArrowLeft: () => goTo(shownAt - 1), ArrowRight: () => goTo(shownAt + 1), Home: () => goTo(0), End: () => goTo(length()),
  }[event.key];
  if (act) { act(); event.preventDefault(); }
  else if (event.key === " " && event.target.classList.contains("rows")) { video.paused ? video.play() : video.pause(); event.preventDefault(); }
});
