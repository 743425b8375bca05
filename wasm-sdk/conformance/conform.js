// The function of the conformance kit, whose README.md says what it does.
import log from "log";
import { transform } from "./tidemill.js";

const LEVELS = { error: 1, warn: 2, info: 3, debug: 4 };
const text = (bytes) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes ?? new Uint8Array());

/** What stands before a byte, and behind it: null where the byte is not there. */
function split(bytes, byte) {
  const at = bytes.indexOf(byte.charCodeAt(0));
  return at < 0 ? [bytes, null] : [bytes.subarray(0, at), bytes.subarray(at + 1)];
}

function failure(bytes) {
  const [code, message] = split(bytes, " ").map(text);
  return Object.assign(new Error(message), { code: Number(code) });
}

let config;

function read(record, what) {
  if (what === "key" || what === "value") return record[what];
  if (what === "config") return config.entries.get("echo") ?? null;
  return String(record[what]);
}

/** What each step that is a change makes of the changes so far. */
const CHANGES = {
  key: (changes, value) => { changes.key = value; },
  value: (changes, value) => { changes.value = value; },
  read: (changes, value, record) => { changes.value = read(record, text(value)); },
  timestamp: (changes, value) => { changes.timestamp = text(value) === "-1" ? null : BigInt(text(value)); },
  partition: (changes, value) => { changes.partition = text(value) === "source" ? "source" : Number(text(value)); },
  sink: (changes, value) => { changes.sink = config.sinks.indexOf(text(value)); },
  append: (changes, value) => { changes.headers.push(["append", ...split(value, "=")]); },
  set: (changes, value) => { changes.headers.push(["set", ...split(value, "=")]); },
  remove: (changes, value) => { changes.headers.push(["remove", value]); },
  clear: (changes) => { changes.headers.push(["clear"]); },
};

export const { init, process } = transform({
  init(given) {
    config = given;
    const refuse = config.entries.get("refuse");
    if (refuse !== undefined) throw failure(new TextEncoder().encode(refuse));
  },

  process(record, out) {
    let changes = { headers: [] };
    for (const [step, value] of record.headers) {
      if (step === "fail") throw failure(value);
      if (step === "log") {
        const [level, line] = split(value, " ").map(text);
        log(LEVELS[level], line);
      } else if (Object.hasOwn(CHANGES, step)) {
        CHANGES[step](changes, value, record);
      } else if (["pass", "edit", "new"].includes(step)) {
        if (step === "pass") out.pass(changes.sink);
        else if (step === "edit") out.edit(changes);
        else out.newRecord(changes);
        changes = { headers: [] };
      }
    }
  },
});
