// node --test wasm-sdk/js
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Output, readConfig, readRecords, transform } from "./tidemill.js";

const golden = (name) => new Uint8Array(readFileSync(new URL(`../golden/${name}`, import.meta.url)));
const described = (name) => JSON.parse(Buffer.from(golden(`${name}.json`)).toString());
const bytes = (content) =>
  content === null || typeof content === "undefined"
    ? content
    : new Uint8Array(content.hex === undefined ? Buffer.from(content) : Buffer.from(content.hex, "hex"));
const plain = (view) => (view === null ? null : new Uint8Array(view));

for (const name of ["config-empty", "config-filled"]) {
  test(`reads ${name}`, () => {
    const { entries, sinks } = described(name);
    assert.deepEqual(readConfig(golden(`${name}.bin`)), { entries: new Map(entries), sinks });
  });
}

for (const name of ["input-one", "input-shapes", "input-gaps", "input-many", "input-grown"]) {
  test(`reads ${name}`, () => {
    const { topic, partition, leader_epoch, records } = described(name);
    const read = [...readRecords(golden(`${name}.bin`))];
    assert.equal(read.length, records.length);
    read.forEach((record, index) => {
      const expected = records[index];
      assert.deepEqual([record.topic, record.partition, record.leaderEpoch], [topic, partition, leader_epoch]);
      assert.equal(record.offset, BigInt(expected.offset));
      assert.equal(record.timestamp, expected.timestamp);
      assert.equal(record.isAppendTime, expected.append_time);
      assert.deepEqual(plain(record.key), bytes(expected.key));
      assert.deepEqual(plain(record.value), bytes(expected.value));
      const headers = record.headers.map(([header, value]) => [header, plain(value)]);
      assert.deepEqual(headers, expected.headers.map(([header, value]) => [header, bytes(value)]));
    });
  });
}

test("faults where a section must be understood", () => {
  const { process } = transform({ process() {} });
  assert.throws(() => process(golden("input-must-understand.bin")), (fault) => fault.payload.code === 1);
});

// The placement of bytes is the SDK's own, but JavaScript and Rust do it alike.
for (const name of ["output-one", "output-all"]) {
  test(`writes ${name}`, () => {
    const out = new Output();
    out.begin();
    const { operations } = described(name);
    for (let record = 0; record <= operations.at(-1).record; record++) {
      out.record(record, () => operations.filter((operation) => operation.record === record).forEach(emit));
    }
    assert.deepEqual(out.finish(), golden(`${name}.bin`));

    function emit({ kind, inherit, code, message, sink, partition, key, value, timestamp, headers = [] }) {
      const changes = {
        sink,
        partition: partition === "key" ? undefined : partition,
        key: bytes(key),
        value: bytes(value),
        timestamp,
        headers: headers.map(([change, header, content]) => [change, header, bytes(content)]),
      };
      if (kind === "pass") out.pass(sink);
      if (kind === "edit" || (kind === "new" && inherit)) out.edit(changes);
      if (kind === "new" && !inherit) out.newRecord(changes);
      if (kind === "fail") throw Object.assign(new Error(message), { code });
    }
  });
}
