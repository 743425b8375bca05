/**
 * What a tidemill function in JavaScript is written with: the frames of ABI.md, read in place and written once.
 *
 *     import { transform } from "./tidemill.js";
 *     export const { init, process } = transform({
 *       init(config) {},
 *       process(record, out) { if (record.json().amount > 100) out.pass(); },
 *     });
 *
 * For each record any number of records is emitted; none drops it. What is thrown refuses the record, or from `init` the
 * deployment; a `code` of the error is kept. `import log from "log"` gives `log(level, text)`, with the levels of ABI.md.
 */

const PASS = 1, DROP = 2, EDIT = 3, NEW = 4, FAIL = 5;
const SAME_PARTITION = 1, EXPLICIT_PARTITION = 2, KEY = 4, VALUE = 8, TIMESTAMP = 16, INHERIT = 32;
const HEADER_CHANGES = { append: 1, remove: 2, set: 3, clear: 4 };
const MAGIC = { config: 0x31434d54, input: 0x31494d54, output: 0x314f4d54 };
const HEADER_BYTES = { config: 40, input: 64, output: 32 };
const SECTIONS_FIELD = { config: 32, input: 24 };

const encoder = new TextEncoder();
// A byte order mark is text like any other.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A frame for reading. */
class Frame {
  constructor(kind, bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (this.u32(0) !== MAGIC[kind] || this.u32(4) < HEADER_BYTES[kind] || this.u32(8) > bytes.length) {
      throw new Error(`the host's ${kind} frame cannot be read`);
    }
    this.checkSections(this.u32(SECTIONS_FIELD[kind]));
  }

  u32(at) { return this.view.getUint32(at, true); }
  i32(at) { return this.view.getInt32(at, true); }
  i64(at) { return this.view.getBigInt64(at, true); }

  /** The bytes that a pair of position and length means, or null. */
  range(pair) {
    const length = this.i32(pair + 4);
    if (length === -1) return null;
    const at = this.u32(pair);
    return this.bytes.subarray(at, at + length);
  }

  text(pair) {
    const bytes = this.range(pair);
    return bytes && decoder.decode(bytes);
  }

  checkSections(at) {
    while (at !== 0) {
      const [kind, length] = [this.u32(at), this.u32(at + 4)];
      if (kind === 0) return;
      if (kind >= 0x80000000) throw new Error("a section that must be understood is unknown");
      at += 8 + Math.ceil(length / 8) * 8;
    }
  }
}

/** A configuration frame: `{entries: Map, sinks: [topic]}`; of a key that is given twice the last counts. */
export function readConfig(bytes) {
  const frame = new Frame("config", bytes);
  const rows = (field, length) =>
    Array.from({ length: frame.u32(field) }, (_, row) => frame.u32(field + 4) + row * length);
  return {
    entries: new Map(rows(12, 16).map((row) => [frame.text(row), frame.text(row + 8)])),
    sinks: rows(20, 8).map((row) => frame.text(row)),
  };
}

/** A record of an input frame. Bytes are views of the frame: they are read when they are asked for. */
export class Record {
  #frame;
  #row;

  constructor(frame, index) {
    this.#frame = frame;
    this.#row = frame.u32(16) + index * frame.u32(20);
  }

  get topic() { return this.#frame.text(48); }
  get partition() { return this.#frame.i32(28); }
  get leaderEpoch() { return this.#frame.i32(40); }
  /** A BigInt. */
  get offset() { return this.#frame.i64(32) + BigInt(this.#frame.u32(this.#row + 8)); }
  /** Milliseconds since 1970, or null. */
  get timestamp() {
    const timestamp = Number(this.#frame.i64(this.#row));
    return timestamp === -1 ? null : timestamp;
  }
  get isAppendTime() { return (this.#frame.u32(this.#row + 36) & 1) !== 0; }
  /** A Uint8Array, or null. */
  get key() { return this.#frame.range(this.#row + 12); }
  /** A Uint8Array, or null: a tombstone. */
  get value() { return this.#frame.range(this.#row + 20); }
  /** Pairs of name and value (a Uint8Array, or null), in order. */
  get headers() {
    const at = this.#frame.u32(this.#row + 28);
    return Array.from({ length: this.#frame.u32(this.#row + 32) }, (_, row) => [
      this.#frame.text(at + 16 * row),
      this.#frame.range(at + 16 * row + 8),
    ]);
  }
  /** The value as text, or null. */
  text() { return this.#frame.text(this.#row + 20); }
  /** The value as JSON; throws what JSON.parse throws. */
  json() { return JSON.parse(this.text()); }
}

/** The records of an input frame, one after the other. */
export function* readRecords(bytes) {
  const frame = new Frame("input", bytes);
  for (let index = 0; index < frame.u32(12); index++) yield new Record(frame, index);
}

/** Bytes that grow: a buffer that is used again for each frame. */
class Buffer {
  bytes = new Uint8Array(4096);
  view = new DataView(this.bytes.buffer);
  length = 0;

  append(bytes) {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
    return at;
  }

  /** Zeros. */
  room(length) {
    const at = this.length;
    if (at + length > this.bytes.length) {
      const larger = new Uint8Array(Math.max(at + length, 2 * this.bytes.length));
      larger.set(this.bytes.subarray(0, at));
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    this.bytes.fill(0, at, at + length);
    this.length = at + length;
    return at;
  }

  align() { this.room(-this.length & 7); }
  u32(at, number) { this.view.setUint32(at, number, true); }
}

/** Takes what becomes of the records of one frame, one record after the other. */
export class Output {
  #frame = new Buffer();
  #operations = new Buffer();
  #count = 0;
  #record = 0;
  #disposed = false;
  #start = [0, 0, 0];

  /** Begins a frame. */
  begin() {
    this.#frame.length = this.#operations.length = this.#count = 0;
    this.#frame.room(HEADER_BYTES.output);
  }

  /** Writes what `process` makes of a record. */
  record(index, process) {
    this.#record = index;
    this.#disposed = false;
    this.#start = [this.#frame.length, this.#operations.length, this.#count];
    try {
      process(this);
    } catch (error) {
      return this.#fail(error);
    }
    if (!this.#disposed) this.#operation(DROP, 0, 0, 8);
  }

  /** Emits the record as it is. */
  pass(sink = 0) {
    if (this.#disposed) return this.edit({ sink });
    this.#operation(PASS, 0, sink, 8);
    this.#disposed = true;
  }

  /**
   * Emits the record with changes: `key`, `value` (a string, a Uint8Array or null), `timestamp` in milliseconds (or null), `partition`
   * (a number, or "source"), `sink`, and `headers`, a list of ["append" | "set", name, value], ["remove", name] and ["clear"].
   */
  edit(changes) {
    this.#change(this.#disposed ? NEW : EDIT, this.#disposed ? INHERIT : 0, changes);
    this.#disposed = true;
  }

  /** Emits a record of its own, that has what is given and the record's timestamp. */
  newRecord(changes) { this.#change(NEW, 0, changes); }

  /** Takes back what the record has emitted so far. */
  drop() {
    [this.#frame.length, this.#operations.length, this.#count] = this.#start;
    this.#disposed = false;
  }

  /** The frame. */
  finish() {
    this.#frame.align();
    const operations = this.#operations.bytes.subarray(0, this.#operations.length);
    const at = this.#frame.append(operations);
    [MAGIC.output, HEADER_BYTES.output, this.#frame.length, this.#count, at, operations.length].forEach(
      (field, index) => this.#frame.u32(4 * index, field),
    );
    return this.#frame.bytes.slice(0, this.#frame.length);
  }

  #fail(error) {
    this.drop();
    const at = this.#operation(FAIL, 0, 0, 24);
    this.#operations.u32(at + 8, codeOf(error));
    this.#keep(this.#operations, at + 12, messageOf(error));
  }

  #operation(kind, flags, sink, length) {
    const at = this.#operations.room(length);
    this.#operations.u32(at, kind | (flags << 8) | (sink << 16));
    this.#operations.u32(at + 4, this.#record);
    this.#count++;
    return at;
  }

  #change(kind, flags, { sink = 0, key, value, timestamp, partition, headers = [] }) {
    if (key !== undefined) flags |= KEY;
    if (value !== undefined) flags |= VALUE;
    if (timestamp !== undefined) flags |= TIMESTAMP;
    if (partition === "source") flags |= SAME_PARTITION;
    else if (partition !== undefined) flags |= EXPLICIT_PARTITION;
    const at = this.#operation(kind, flags, sink, 48);
    this.#keep(this.#operations, at + 8, key ?? null);
    this.#keep(this.#operations, at + 16, value ?? null);
    this.#operations.view.setBigInt64(at + 24, BigInt(timestamp === null ? -1 : timestamp ?? 0), true);
    this.#operations.u32(at + 32, Number.isInteger(partition) ? partition : 0);
    this.#operations.u32(at + 40, headers.length);
    if (headers.length > 0) this.#operations.u32(at + 36, this.#headers(headers));
  }

  #headers(headers) {
    const table = new Buffer();
    headers.forEach(([kind, name, value], row) => {
      table.room(24);
      table.u32(24 * row, HEADER_CHANGES[kind]);
      this.#keep(table, 24 * row + 4, name ?? null);
      this.#keep(table, 24 * row + 12, value ?? null);
    });
    this.#frame.align();
    return this.#frame.append(table.bytes.subarray(0, table.length));
  }

  #keep(table, field, content) {
    const bytes = typeof content === "string" ? encoder.encode(content) : content;
    table.u32(field, bytes === null ? 0 : this.#frame.append(bytes));
    table.u32(field + 4, bytes === null ? 0xffffffff : bytes.length);
  }
}

const codeOf = (error) => (Number.isInteger(error?.code) && error.code > 0 ? error.code : 1);
const messageOf = (error) => String(error?.message ?? error);
const faultOf = (error) => ({ payload: { code: codeOf(error), message: messageOf(error) } });

/** The exports of the world `transform`, of an `init(config)` that may be missing and a `process(record, out)`. */
export function transform({ init, process }) {
  const output = new Output();
  return {
    init(configuration) {
      try {
        init?.(readConfig(configuration));
        return 0;
      } catch (error) {
        throw faultOf(error);
      }
    },
    process(batch) {
      output.begin();
      let index = 0;
      try {
        for (const record of readRecords(batch)) output.record(index++, (out) => process(record, out));
      } catch (error) {
        throw faultOf(error);
      }
      return output.finish();
    },
  };
}
