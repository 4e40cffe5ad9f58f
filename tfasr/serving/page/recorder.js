// Hands on what the microphone hears, in parts of an eighth of a second.
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.part = new Float32Array(Math.round(sampleRate / 8));
    this.filled = 0;
    this.port.onmessage = () => {
      this.hand();
      this.port.postMessage(null);
      this.ended = true;
    };
  }

  hand() {
    if (this.filled) this.port.postMessage(this.part.slice(0, this.filled));
    this.filled = 0;
  }

  process([[samples]]) {
    for (const sample of samples ?? []) {
      this.part[this.filled++] = sample;
      if (this.filled === this.part.length) this.hand();
    }
    return !this.ended;
  }
}
registerProcessor("recorder", Recorder);
