// A video comes in: dropped, chosen, recorded, or an example. It is shown at once, from this machine, and uploaded beside that.
let file = null;  // name, address; path on the server as soon as it is there, or example; error, a sentence
let expected = 0;  // seconds that the video is said to last
let ownModel = null;  // that the visitor had chosen before the model of an example took its place

// the video goes, and with it at once what was found in it
const dismiss = () => {
  clear();
  if (recorder) { recorder.dropped = true; recorder.stop(); }
  if (file && file.request) file.request.abort();
  if (file && file.blob) URL.revokeObjectURL(file.blob);
  file = null;
  expected = 0;
  at(".name").textContent = at(".about").textContent = "";
};
const choose = (picked, example) => {
  dismiss();
  if (picked && ownModel !== null) { modelMenu.value = ownModel; modelChosen(); }  // an example had brought its own
  ownModel = example ? ownModel ?? modelMenu.value : null;
  const blob = picked && URL.createObjectURL(picked);
  file = { key: random(), name: example || picked.name, blob, picked, example, address: blob || `${root}/examples/${example}` };
  at(".drop").hidden = true;
  at(".stages").hidden = at(".loaded").hidden = false;
  at(".examples").hidden = true;
  at(".name").textContent = file.name;
  say("");
  play(file.address);
  if (example) trigger("look", { key: file.key, example });
  else if (picked.size > props.most * 2 ** 20) refuse(`${file.name}: is larger than ${props.most} MB, which is the limit here. Cut it or scale it down first.`);
  else send(file, picked);
};
const refuse = (sentence) => { file.error = sentence; fail(sentence); say(""); at(".stages").hidden = !video.videoWidth; };

const send = (mine, picked) => {
  const request = new XMLHttpRequest(), form = new FormData();
  form.append("files", picked, picked.name);
  Object.assign(mine, { request, failed: false, sent: 0 });
  at("#cancel").hidden = false;
  request.upload.onprogress = (event) => { if (mine === file && event.total) { mine.sent = event.loaded / event.total; tellUpload(); } };
  request.onload = () => {
    if (mine !== file) return;
    if (request.status === 413 || request.status === 507) { refuse(request.responseText); return; }
    if (request.status !== 200) { brokenOff(`The upload failed (${request.status}); “Find actions” tries again.`); return; }
    mine.path = JSON.parse(request.responseText)[0];
    trigger("look", { key: mine.key, path: mine.path });
    tell("");
    at("#cancel").hidden = true;
    if (mine.broken) wantCopy();
    if (mine.wanted) begin();
  };
  request.onerror = () => { if (mine === file) brokenOff("The upload failed: the server does not answer. “Find actions” tries again."); };
  request.open("POST", `${root}/gradio_api/upload`);
  request.send(form);
  tellUpload();
};
// the server has deleted it, as after a lost connection, but the page has it still
const sendAgain = () => {
  if (!file || !file.picked || file.again) return false;
  Object.assign(file, { again: true, path: undefined, wanted: true });
  busy(true);
  send(file, file.picked);
  return true;
};
const uploading = () => file && file.picked && !file.path && !file.error && !file.failed;
const brokenOff = (sentence, say = fail) => { Object.assign(file, { failed: true, wanted: false }); busy(false); say(sentence); };
const tellUpload = () => { if (uploading()) tell(`Uploading ${file.name}: ${Math.round(100 * (file.sent || 0))} %`, file.sent || 0, 1); };

const clock = (seconds) => seconds < 60 ? `${seconds < 10 ? Number(seconds.toFixed(1)) : Math.round(seconds)} s` : `${Math.floor(Math.round(seconds) / 60)} min ${Math.round(seconds) % 60} s`;
const described = (seconds, [width, height], rate, frames, counted) =>
  `${seconds && frames !== 1 ? `${clock(seconds)}, ` : ""}${width}x${height} pixels${rate && frames !== 1 ? `, ${Number(rate.toFixed(2))} frames a second` : ""}${frames ? `, ${counted || frames === 1 ? "" : "about "}${many(frames, "frame", "frames")}` : ""}`;
watch("about", () => {
  const told = props.about;
  if (!told || !file || told.key !== file.key) return;
  if (told.error) { refuse(told.error); return; }
  expected = told.duration || 0;
  at(".about").textContent = described(told.duration, [told.width, told.height], told.rate, told.frames);
});

// ---- what this browser cannot play, or of which it plays the sound alone, is shown as a copy that it can, without boxes in it: those are
// drawn here, as ever
const unplayable = () => {
  if (!file || !video.getAttribute("src") || file.broken) return;
  file.broken = true;
  say(file.error ? "" : `This browser ${shownAt > 0.5 ? `plays the file no further than ${clock(shownAt)}` : "does not play this kind of file"}. A copy that it plays is being made …`);
  if (file.path || file.example) wantCopy();
};
video.addEventListener("error", unplayable);
video.addEventListener("loadedmetadata", () => {
  if (!video.videoWidth) unplayable();
  if (!uploading() || !isFinite(video.duration) || video.duration < props.longest + 1) return;
  file.request.abort();  // the server would refuse it, too, once it had all of it
  refuse(`${file.name}: is ${clock(video.duration)} long; the limit is ${props.longest / 60} minutes. Cut it first.`);
});
const wantCopy = () => trigger("copy", { key: file.key, path: file.path, example: file.example });
watch("copy", () => {
  const told = props.copy;
  if (!told || !file || told.key && told.key !== file.key) return;
  if (told.error) { say(file.error ? "" : "This browser cannot play the file; its actions can be found all the same."); return; }
  say("");
  file.address = addressOf(told.path);
  play(file.address);
});

// ---- dropping, choosing, examples
const input = at("#upload input"), drop = at(".drop");
input.accept = props.accepted;
at(".limits").textContent = props.limits;
input.addEventListener("change", () => { if (input.files.length) choose(input.files[0]); input.value = ""; });
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) element.addEventListener(kind, (event) => {
  event.preventDefault();
  drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
  if (kind === "drop" && event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
});
for (const example of props.examples) {
  const button = make("button"), film = make("video");
  button.type = "button";
  button.dataset.example = example.file;
  film.src = `${root}/examples/${example.file}#t=0.6`;
  film.muted = film.playsInline = film.loop = true;
  film.tabIndex = -1;
  film.setAttribute("aria-hidden", "true");
  button.append(film, make("span", "", example.text));
  button.addEventListener("mouseenter", () => film.play().catch(() => {}));
  button.addEventListener("mouseleave", () => film.pause());
  button.addEventListener("click", () => {
    choose(null, example.file);
    modelMenu.value = example.model;
    modelChosen();
    begin();
  });
  at(".examples").append(button);
}

// ---- the camera: a recording becomes a file like any other
let recorder = null;
const record = async () => {
  if (recorder) { recorder.stop(); return; }
  const stream = await openCamera(fail);
  if (!stream) return;
  dismiss();
  at(".drop").hidden = true;
  at(".stages").hidden = at(".loaded").hidden = false;
  at(".examples").hidden = true;
  play("");
  video.srcObject = stream;
  video.play().catch(() => {});
  const parts = [], began = performance.now(), button = at("[data-do=another]");
  recorder = new MediaRecorder(stream);
  at("#start").disabled = true;
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.onstop = () => {
    clearInterval(ticking);
    stream.getTracks().forEach((track) => track.stop());
    const kind = recorder.mimeType.includes("mp4") ? "mp4" : "webm", { dropped } = recorder;
    recorder = null;
    at("#start").disabled = false;
    button.textContent = "Another video";
    if (!dropped) choose(new File(parts, `recording.${kind}`, { type: `video/${kind}` }));
  };
  const ticking = setInterval(() => {
    const seconds = Math.round((performance.now() - began) / 1000);
    button.textContent = `Stop recording (${seconds} s)`;
    if (seconds >= 60 || !element.offsetParent) recorder.stop();  // nobody is recorded who has left this tab
  }, 250);
  button.textContent = "Stop recording";
  recorder.start();
};
const another = () => {
  if (recorder) { recorder.stop(); return; }
  dismiss();
  play("");
  at(".drop").hidden = at(".examples").hidden = false;
  at(".stages").hidden = at(".loaded").hidden = true;
};
