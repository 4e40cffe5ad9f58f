import { draw, joined, listen, pcm16, wav } from "/page/audio.js";

const PIXELS_PER_SECOND = 120;
const part = (id) => document.getElementById(id);
let model = null;
let token = "";
let stop = null;
let url = "";

const headers = () => (token ? { Authorization: `Bearer ${token}` } : {});

async function asked(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers() });
  if (response.ok) return response.json();
  if (response.status === 401) part("sign-in").hidden = false;
  const { error } = await response.json().catch(() => ({ error: response.statusText }));
  throw new Error(error.message ?? error);
}

function show(id, text) {
  part(id).textContent = text;
}

async function trying(status, action) {
  show("error", "");
  show("status", status);
  try {
    await action();
  } catch (error) {
    show("error", error.message);
  }
  show("status", "");
}

async function introduce() {
  model = await asked("/page/model.json");
  part("sign-in").hidden = true;
  const live = model.streams ? "text appears while you speak" : "text appears when you stop";
  show("model", `${model.name}, version ${model.version}, ${model.sample_rate} Hz; ${live}`);
  part("blocks").replaceChildren(
    ...model.blocks.map((form, number) => {
      const block = document.createElement("li");
      block.className = form;
      block.textContent = `Block ${number}: ${form === "plain" ? "as trained" : form}`;
      return block;
    }),
  );
  show("summary", model.summary);
}

async function transcribe(audio, name) {
  const body = new FormData();
  body.append("file", audio, name);
  body.append("response_format", "verbose_json");
  const answer = await asked("/v1/audio/transcriptions", { method: "POST", body });
  show("text", answer.text || "(nothing was said)");
  await picture(audio, answer.words ?? []);
}

async function picture(audio, words) {
  URL.revokeObjectURL(url);
  url = URL.createObjectURL(audio);
  part("player").src = url;
  part("wave").hidden = false;
  const context = new OfflineAudioContext(1, 1, 44100);
  const decoded = await context.decodeAudioData(await audio.arrayBuffer()).catch(() => null);
  if (!decoded) {
    part("wave").hidden = true; // The server reads more formats than the browser.
    return;
  }
  const canvas = part("canvas");
  const wanted = Math.round(PIXELS_PER_SECOND * decoded.duration);
  canvas.width = Math.min(32000, Math.max(part("scroll").clientWidth, wanted));
  const scale = canvas.width / decoded.duration;
  draw(canvas, decoded.getChannelData(0));
  part("words").style.width = `${canvas.width}px`;
  // A word's tokens may take a frame or two: its label has room up to the next one's.
  const ends = [...words.slice(1).map(({ start }) => start), decoded.duration];
  part("words").replaceChildren(...words.map((word, i) => labelled(word, ends[i], scale)));
  const told = words.length ? "choose a word to hear it" : "the model gives no times of words";
  show("times", `${decoded.duration.toFixed(1)} s; ${told}`);
}

function labelled({ word, start, end }, room, scale) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = word;
  button.style.left = `${start * scale}px`;
  button.style.width = `${Math.max(16, (room - start) * scale)}px`;
  button.setAttribute("aria-label", `${word}, ${start.toFixed(2)} to ${end.toFixed(2)} seconds`);
  button.dataset.start = start;
  button.dataset.end = end;
  button.addEventListener("click", () => {
    part("player").currentTime = start;
    part("player").play();
  });
  item.append(button);
  return item;
}

function streamed() {
  const names = token ? ["tfasr", `bearer.${token}`] : ["tfasr"];
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/v1/audio/stream`, names);
  const waiting = [];
  socket.onopen = () => waiting.forEach((frame) => socket.send(frame));
  socket.onmessage = ({ data }) => {
    const answer = JSON.parse(data);
    if (answer.text !== undefined) show("text", answer.text);
  };
  const ended = new Promise((resolve) => {
    socket.onclose = ({ code, reason }) => {
      if (code !== 1000) show("error", reason || "the stream was cut");
      resolve();
    };
  });
  const send = (frame) => {
    if (socket.readyState === WebSocket.CONNECTING) waiting.push(frame);
    else if (socket.readyState === WebSocket.OPEN) socket.send(frame);
  };
  return { send, ended };
}

async function record() {
  if (!navigator.mediaDevices) {
    throw new Error("the browser gives pages a microphone over https or on this machine only");
  }
  const parts = [];
  const live = model.streams ? streamed() : null;
  const end = await listen(model.sample_rate, (samples) => {
    parts.push(samples);
    live?.send(pcm16(samples));
  });
  part("wave").hidden = true;
  pressed(true);
  stop = async () => {
    stop = null;
    pressed(false);
    await end();
    live?.send(JSON.stringify({ end: true }));
    await live?.ended;
    // Once more as a whole: that has the times of words.
    if (parts.length) await transcribe(wav(joined(parts), model.sample_rate), "speech.wav");
  };
}

function pressed(on) {
  part("record").setAttribute("aria-pressed", on);
  show("record", on ? "Stop" : "Record");
}

part("record").addEventListener("click", () =>
  stop ? trying("Transcribing…", stop) : trying("Asking for the microphone…", record),
);
part("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) trying("Transcribing…", () => transcribe(file, file.name));
});
part("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token = part("token").value.trim();
  trying("", introduce);
});
part("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  part("drop").classList.add("over");
});
part("drop").addEventListener("dragleave", () => part("drop").classList.remove("over"));
part("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  part("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) trying("Transcribing…", () => transcribe(file, file.name));
});
part("player").addEventListener("timeupdate", ({ target }) => {
  for (const word of part("words").querySelectorAll("button")) {
    const { start, end } = word.dataset;
    word.classList.toggle("now", target.currentTime >= start && target.currentTime < end);
  }
});
trying("", introduce);
