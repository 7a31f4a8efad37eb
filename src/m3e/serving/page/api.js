// What the page asks of the server, and what each refusal means in the reader's language.

const KEY_CHOICE = "m3e-key";
const keyField = document.getElementById("key");

class Refusal extends Error {
  constructor(words, values = {}) {
    super(words);
    this.words = words;
    this.values = values;
  }
}

async function ask(path, body) {
  const answer = await send(path, body);
  const data = await answer.json().catch(() => null);
  if (!answer.ok) throw refusal(answer, data);
  if (data === null) throw new Refusal("error.answer");
  return { data, headers: answer.headers };
}

async function send(path, body) {
  const headers = {};
  const key = keyField.value.trim();
  if (!/^[\x21-\x7e]*$/.test(key)) throw new Refusal("error.key.characters");
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  const options = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) };
  try {
    return await fetch(path, options);
  } catch {
    throw new Refusal("error.unreachable");
  }
}

function refusal(answer, data) {
  const { status } = answer;
  const message = data?.error?.message;
  if (status === 401 || status === 403) return new Refusal("error.key");
  if (status === 413) return new Refusal("error.large", { message: message ?? status });
  if (status === 429) return busy(Number(answer.headers.get("Retry-After")));
  if (status === 503) return new Refusal("error.stopping");
  if (status < 500 && message) return new Refusal("error.refused", { message });
  return new Refusal(status < 500 ? "error.answer" : "error.server", { status });
}

function busy(seconds) {
  return seconds > 0 ? new Refusal("error.busy", { seconds }) : new Refusal("error.busy.unknown");
}

async function embed(model, texts) {
  const { data, headers } = await ask("v1/embeddings", { model, input: texts, encoding_format: "base64" });
  let vectors = [];
  try {
    vectors = [...data.data].sort((left, right) => left.index - right.index).map((item) => floats(item.embedding));
  } catch {
    throw new Refusal("error.answer");
  }
  const whole = (vector) => vector.length > 0 && vector.length === vectors[0].length && vector.every(Number.isFinite);
  if (vectors.length !== texts.length || !vectors.every(whole)) throw new Refusal("error.answer");
  return { vectors, cut: Number(headers.get("x-m3e-truncated")) || 0 };
}

// Base64 of little-endian float32, whatever this machine's byte order is.
function floats(embedding) {
  const bytes = Uint8Array.from(atob(embedding), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length >> 2 }, (_, place) => view.getFloat32(4 * place, true));
}

function recallKey() {
  try {
    keyField.value = sessionStorage.getItem(KEY_CHOICE) ?? "";
  } catch {
    // The key then lives in the field alone.
  }
}

function rememberKey() {
  try {
    sessionStorage.setItem(KEY_CHOICE, keyField.value);
  } catch {
    // As above.
  }
}
