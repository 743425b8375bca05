/* {{name}}: passes the records whose JSON value has an `amount` above 100. It reads numbers of the form 12 or 12.5
 * behind the first "amount": and no other JSON. */
#include "tidemill.h"

uint32_t tidemill_init(const uint8_t *config) {
    if (!tidemill_config_count(config)) return 0;
    tidemill_refuse(TIDEMILL_TEXT("this function takes no configuration: tidemill_init in function.c"));
    return 1;
}

/* Where a text ends in a value; 0: nowhere. */
static uint32_t find(tidemill_bytes value, tidemill_bytes text) {
    for (uint32_t at = 0; at + text.length <= value.length; at++)
        if (tidemill_equal((tidemill_bytes){value.data + at, text.length}, text)) return at + text.length;
    return 0;
}

static double number(tidemill_bytes value, uint32_t at) {
    double whole = 0, unit = 1;
    int fraction = 0;
    while (at < value.length && (value.data[at] == ' ' || value.data[at] == ':')) at++;
    for (; at < value.length; at++) {
        uint8_t byte = value.data[at];
        if (byte == '.' && !fraction) {
            fraction = 1;
        } else if (byte >= '0' && byte <= '9') {
            whole = 10 * whole + (byte - '0');
            if (fraction) unit *= 10;
        } else {
            break;
        }
    }
    return whole / unit;
}

void tidemill_process(const tidemill_record *record, tidemill_output *out) {
    uint32_t at = find(record->value, TIDEMILL_TEXT("\"amount\""));
    if (at && number(record->value, at) > 100) tidemill_pass(out, 0);
}
