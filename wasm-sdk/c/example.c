/* Passes the records whose value contains the text of the configuration's `text`; the key becomes the value's
 * first byte. */
#include "tidemill.h"

static uint8_t text[64];
static uint32_t text_length;

uint32_t tidemill_init(const uint8_t *config) {
    tidemill_bytes value = tidemill_config_get(config, TIDEMILL_TEXT("text"));
    if (!value.length || value.length > sizeof text) {
        tidemill_refuse(TIDEMILL_TEXT("the key `text` is missing, or not 1 to 64 bytes long"));
        return 3;
    }
    __builtin_memcpy(text, value.data, value.length);
    text_length = value.length;
    return 0;
}

static int contains(tidemill_bytes value) {
    for (uint32_t at = 0; at + text_length <= value.length; at++)
        if (tidemill_equal((tidemill_bytes){value.data + at, text_length}, (tidemill_bytes){text, text_length})) return 1;
    return 0;
}

void tidemill_process(const tidemill_record *record, tidemill_output *out) {
    if (!contains(record->value)) return;
    tidemill_changes changes = {.given = TIDEMILL_KEY, .key = {record->value.data, 1}};
    tidemill_change_header(TIDEMILL_SET_HEADER, TIDEMILL_TEXT("language"), TIDEMILL_TEXT("c"));
    tidemill_edit(out, &changes);
}
