/* The function of the conformance kit, whose README.md says what it does. */
#include "tidemill.h"

#define IS(bytes, text) tidemill_equal(bytes, TIDEMILL_TEXT(text))

static uint16_t first, second;
static uint8_t echo_data[1024];
static tidemill_bytes echo;

/* Where a byte stands for the first time; the length: nowhere. */
static uint32_t find(tidemill_bytes text, uint8_t byte) {
    uint32_t at = 0;
    while (at < text.length && text.data[at] != byte) at++;
    return at;
}

/* What stands before a byte, and behind it: null where the byte is not there. */
static tidemill_bytes before(tidemill_bytes text, uint8_t byte) { return (tidemill_bytes){text.data, find(text, byte)}; }

static tidemill_bytes behind(tidemill_bytes text, uint8_t byte) {
    uint32_t at = find(text, byte);
    return at < text.length ? (tidemill_bytes){text.data + at + 1, text.length - at - 1} : (tidemill_bytes){0};
}

static int64_t number(tidemill_bytes text) {
    uint64_t number = 0;
    int is_negative = text.length && text.data[0] == '-';
    for (uint32_t at = is_negative; at < text.length; at++) number = 10 * number + (text.data[at] - '0');
    return (int64_t)(is_negative ? -number : number);
}

/* Valid until the next call. No number of the kit is below 0 here, except for a timestamp that is none. */
static tidemill_bytes decimal(int64_t number) {
    static uint8_t digits[20];
    uint32_t at = sizeof digits;
    if (number < 0) return TIDEMILL_TEXT("-1");
    do digits[--at] = '0' + number % 10;
    while (number /= 10);
    return (tidemill_bytes){digits + at, sizeof digits - at};
}

uint32_t tidemill_init(const uint8_t *config) {
    tidemill_bytes refuse = tidemill_config_get(config, TIDEMILL_TEXT("refuse"));
    if (refuse.data) {
        tidemill_refuse(behind(refuse, ' '));
        return (uint32_t)number(before(refuse, ' '));
    }
    first = (uint16_t)tidemill_sink(config, TIDEMILL_TEXT("first"));
    second = (uint16_t)tidemill_sink(config, TIDEMILL_TEXT("second"));
    /* The frame of the configuration is gone when records come. */
    echo = tidemill_config_get(config, TIDEMILL_TEXT("echo"));
    if (echo.length > sizeof echo_data) echo.length = sizeof echo_data;
    if (echo.data) echo.data = __builtin_memcpy(echo_data, echo.data, echo.length);
    return 0;
}

static tidemill_bytes read(const tidemill_record *record, tidemill_bytes what) {
    if (IS(what, "key")) return record->key;
    if (IS(what, "value")) return record->value;
    if (IS(what, "config")) return echo;
    if (IS(what, "topic")) return record->topic;
    if (IS(what, "partition")) return decimal(record->partition);
    if (IS(what, "offset")) return decimal(record->offset);
    return decimal(record->timestamp);
}

static void change_header(uint32_t kind, tidemill_bytes pair) {
    tidemill_change_header(kind, before(pair, '='), behind(pair, '='));
}

static void change(tidemill_changes *changes, const tidemill_record *record, tidemill_bytes step, tidemill_bytes text) {
    if (IS(step, "key")) {
        changes->given |= TIDEMILL_KEY;
        changes->key = text;
    } else if (IS(step, "value") || IS(step, "read")) {
        changes->given |= TIDEMILL_VALUE;
        changes->value = IS(step, "read") ? read(record, text) : text;
    } else if (IS(step, "timestamp")) {
        changes->given |= TIDEMILL_TIMESTAMP;
        changes->timestamp = number(text);
    } else if (IS(step, "partition")) {
        changes->given &= ~(TIDEMILL_SAME_PARTITION | TIDEMILL_PARTITION);
        changes->given |= IS(text, "source") ? TIDEMILL_SAME_PARTITION : TIDEMILL_PARTITION;
        if (!IS(text, "source")) changes->partition = (int32_t)number(text);
    } else if (IS(step, "sink")) {
        changes->sink = IS(text, "second") ? second : first;
    } else if (IS(step, "append")) {
        change_header(TIDEMILL_APPEND_HEADER, text);
    } else if (IS(step, "set")) {
        change_header(TIDEMILL_SET_HEADER, text);
    } else if (IS(step, "remove")) {
        tidemill_change_header(TIDEMILL_REMOVE_HEADER, text, (tidemill_bytes){0});
    } else if (IS(step, "clear")) {
        tidemill_change_header(TIDEMILL_CLEAR_HEADERS, (tidemill_bytes){0}, (tidemill_bytes){0});
    }
}

static void log_line(tidemill_bytes text) {
    tidemill_bytes word = before(text, ' '), line = behind(text, ' ');
    int32_t level = IS(word, "error") ? TIDEMILL_ERROR : IS(word, "warn") ? TIDEMILL_WARN
                  : IS(word, "info")  ? TIDEMILL_INFO : TIDEMILL_DEBUG;
    tidemill_log(level, line.data, line.length);
}

void tidemill_process(const tidemill_record *record, tidemill_output *out) {
    tidemill_changes changes = {0};
    for (uint32_t index = 0; index < record->header_count; index++) {
        tidemill_bytes step, text;
        tidemill_header_at(record, index, &step, &text);
        if (IS(step, "fail")) {
            tidemill_fail(out, (uint32_t)number(before(text, ' ')), behind(text, ' '));
            return;
        } else if (IS(step, "log")) {
            log_line(text);
        } else if (IS(step, "pass") || IS(step, "edit") || IS(step, "new")) {
            if (IS(step, "pass")) tidemill_pass(out, changes.sink);
            else if (IS(step, "edit")) tidemill_edit(out, &changes);
            else tidemill_new(out, &changes);
            changes = (tidemill_changes){0};
        } else {
            change(&changes, record, step, text);
        }
    }
}
