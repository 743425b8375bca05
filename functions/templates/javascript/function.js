// {{name}}: passes the records whose JSON value has an `amount` above 100.
import { transform } from "./tidemill.js";

export const { init, process } = transform({
  process(record, out) {
    if (record.value !== null && record.json().amount > 100) out.pass();
  },
});
