// Samples: from the microphone, to 16-bit PCM and WAV, onto a canvas.

export function pcm16(samples) {
  const view = new DataView(new ArrayBuffer(2 * samples.length));
  samples.forEach((sample, place) => {
    const value = Math.round(32768 * sample);
    view.setInt16(2 * place, Math.max(-32768, Math.min(32767, value)), true);
  });
  return view.buffer;
}

export function wav(samples, rate) {
  const head = new DataView(new ArrayBuffer(44));
  const write = (place, text) => {
    [...text].forEach((letter, each) => head.setUint8(place + each, letter.charCodeAt(0)));
  };
  const size = 2 * samples.length;
  write(0, "RIFF");
  head.setUint32(4, 36 + size, true);
  write(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  write(36, "data");
  head.setUint32(40, size, true);
  return new Blob([head.buffer, pcm16(samples)], { type: "audio/wav" });
}

export function joined(parts) {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}

// Starts the microphone at a rate; calls `hear` with each part. The result ends it.
export async function listen(rate, hear) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const context = new AudioContext({ sampleRate: rate });
  await context.audioWorklet.addModule("/page/recorder.js");
  const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1,
    channelCountMode: "explicit" });
  context.createMediaStreamSource(stream).connect(recorder);
  const ended = new Promise((resolve) => {
    recorder.port.onmessage = ({ data }) => (data ? hear(data) : resolve());
  });
  return async () => {
    recorder.port.postMessage("end");
    await ended;
    stream.getTracks().forEach((track) => track.stop());
    await context.close();
  };
}

export function draw(canvas, samples) {
  const paper = canvas.getContext("2d");
  const { width, height } = canvas;
  paper.clearRect(0, 0, width, height);
  paper.fillStyle = getComputedStyle(canvas).color;
  const step = samples.length / width;
  for (let x = 0; x < width; x++) {
    let low = 0;
    let high = 0;
    for (let i = Math.floor(x * step); i < (x + 1) * step && i < samples.length; i++) {
      low = Math.min(low, samples[i]);
      high = Math.max(high, samples[i]);
    }
    const top = (height / 2) * (1 - high);
    paper.fillRect(x, top, 1, Math.max(1, (height / 2) * (high - low)));
  }
}
