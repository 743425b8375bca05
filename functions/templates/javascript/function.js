// {{name}}: passes the records whose JSON value has an `amount` above 100.
import { transform } from "./tidemill.js";

export const { init, process } = transform({
  init({ entries }) {
    for (const key of entries.keys()) {
      throw new Error(`the key \`${key}\` is unknown: this function takes no configuration, see init in function.js`);
    }
  },
  process(record, out) {
    if (record.value !== null && record.json().amount > 100) out.pass();
  },
});
