/* What a tidemill function in C is written with: one header, no library.
 *
 *     #include "tidemill.h"
 *
 *     uint32_t tidemill_init(const uint8_t *config) { return 0; }
 *
 *     void tidemill_process(const tidemill_record *record, tidemill_output *out) {
 *         tidemill_pass(out, 0);
 *     }
 *
 *     clang --target=wasm32 -mbulk-memory -O2 -ffreestanding -nostdlib -Wl,--no-entry -Wl,--strip-all \
 *         -Wl,--export=tidemill_progress -o function.wasm function.c
 *
 * For each record any number of records is emitted; none drops it, and tidemill_fail takes back what was
 * emitted for it. Input is read in place, output is copied when it is emitted. ABI.md says what frames are.
 * The header defines functions: one file of a program includes it.
 */
#ifndef TIDEMILL_H
#define TIDEMILL_H

#include <stdint.h>

/* Bytes; data is null for null. */
typedef struct {
    const uint8_t *data;
    uint32_t length;
} tidemill_bytes;

typedef struct {
    tidemill_bytes topic; /* the source's */
    int32_t partition;
    int32_t leader_epoch; /* of the source partition */
    int64_t offset;
    int64_t timestamp; /* milliseconds since 1970, -1: none */
    int is_append_time; /* whether the timestamp is the broker's, from when the record was appended */
    tidemill_bytes key;
    tidemill_bytes value;
    uint32_t header_count;
    const uint8_t *headers; /* for tidemill_header_at */
} tidemill_record;

/* What becomes of one record. */
typedef struct {
    uint32_t record;
    uint32_t disposed; /* whether the record itself is emitted or refused */
    uint32_t failed;
    uint32_t frame_start, operations_start, count_start;
} tidemill_output;

/* How a record differs from the one it is made of: tidemill_changes changes = {0}. */
typedef struct {
    uint16_t sink;
    uint8_t given; /* what of the rest counts: TIDEMILL_KEY and so on */
    tidemill_bytes key;
    tidemill_bytes value;
    int64_t timestamp;
    int32_t partition;
} tidemill_changes;

enum {
    TIDEMILL_SAME_PARTITION = 1, /* the source's; without it and the next, the key decides */
    TIDEMILL_PARTITION = 2,
    TIDEMILL_KEY = 4,
    TIDEMILL_VALUE = 8,
    TIDEMILL_TIMESTAMP = 16,
};

enum { TIDEMILL_APPEND_HEADER = 1, TIDEMILL_REMOVE_HEADER, TIDEMILL_SET_HEADER, TIDEMILL_CLEAR_HEADERS };
enum { TIDEMILL_ERROR = 1, TIDEMILL_WARN, TIDEMILL_INFO, TIDEMILL_DEBUG };

/* The author's. A status other than 0 refuses the deployment; tidemill_refuse says why. */
uint32_t tidemill_init(const uint8_t *config);
void tidemill_process(const tidemill_record *record, tidemill_output *out);

__attribute__((import_module("tidemill"), import_name("log"))) void
tidemill_log(int32_t level, const void *text, uint32_t length);

/* ---- memory ---- */

typedef struct {
    uint8_t *data;
    uint32_t length, capacity;
} tidemill_buffer;

extern uint8_t __heap_base;
static uint32_t tidemill_top;
/* What the host writes; keys, values and so on behind a header; operations; header changes of the next record. */
static tidemill_buffer tidemill_input, tidemill_frame, tidemill_operations, tidemill_header_changes;
static uint32_t tidemill_count;
static tidemill_bytes tidemill_reason;

/* Moves a buffer that is too small to the end of memory, twice as large; what it leaves is lost, in sum less than
 * it has. 0 where there is no memory. */
static int tidemill_reserve(tidemill_buffer *buffer, uint32_t capacity) {
    if (capacity <= buffer->capacity) return 1;
    if (capacity < 2 * buffer->capacity) capacity = 2 * buffer->capacity;
    if (capacity > 0x40000000) return 0;
    capacity = (capacity + 7) & ~7u;
    uint32_t base = tidemill_top ? tidemill_top : ((uint32_t)&__heap_base + 7) & ~7u;
    uint32_t end = base + capacity, have = __builtin_wasm_memory_size(0) << 16;
    if (end < base) return 0;
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + 65535) >> 16) == -1ul) return 0;
    tidemill_top = end;
    if (buffer->length) __builtin_memcpy((void *)base, buffer->data, buffer->length);
    buffer->data = (uint8_t *)base;
    buffer->capacity = capacity;
    return 1;
}

/* Appends room; traps where there is no memory. */
static uint8_t *tidemill_append(tidemill_buffer *buffer, uint32_t length) {
    if (!tidemill_reserve(buffer, buffer->length + length)) __builtin_trap();
    buffer->length += length;
    return buffer->data + buffer->length - length;
}

static uint32_t tidemill_u32(const uint8_t *at) {
    uint32_t number;
    __builtin_memcpy(&number, at, 4);
    return number;
}

static void tidemill_put(uint8_t *at, uint32_t number) { __builtin_memcpy(at, &number, 4); }

static int64_t tidemill_i64(const uint8_t *at) {
    return (int64_t)((uint64_t)tidemill_u32(at + 4) << 32 | tidemill_u32(at));
}

static tidemill_bytes tidemill_range(const uint8_t *frame, const uint8_t *pair) {
    uint32_t length = tidemill_u32(pair + 4);
    if (length == 0xffffffff) return (tidemill_bytes){0, 0};
    return (tidemill_bytes){frame + tidemill_u32(pair), length};
}

/* Writes bytes into the output frame and their position and length to a place of one of the tables. */
static void tidemill_keep(tidemill_buffer *table, uint32_t place, tidemill_bytes bytes) {
    uint32_t at = tidemill_frame.length;
    if (bytes.length) __builtin_memcpy(tidemill_append(&tidemill_frame, bytes.length), bytes.data, bytes.length);
    tidemill_put(table->data + place, bytes.data ? at : 0);
    tidemill_put(table->data + place + 4, bytes.data ? bytes.length : 0xffffffff);
}

static void tidemill_align(void) {
    while (tidemill_frame.length % 8) *tidemill_append(&tidemill_frame, 1) = 0;
}

/* ---- for authors ---- */

/* A text constant as bytes. */
#define TIDEMILL_TEXT(text) ((tidemill_bytes){(const uint8_t *)(text), sizeof(text) - 1})

static inline int tidemill_equal(tidemill_bytes one, tidemill_bytes other) {
    if (one.length != other.length) return 0;
    for (uint32_t i = 0; i < one.length; i++)
        if (one.data[i] != other.data[i]) return 0;
    return 1;
}

/* How many keys the configuration has. */
static inline uint32_t tidemill_config_count(const uint8_t *config) { return tidemill_u32(config + 12); }

/* The value of a key of the configuration; null where it is missing. */
static inline tidemill_bytes tidemill_config_get(const uint8_t *config, tidemill_bytes key) {
    tidemill_bytes found = {0, 0};
    const uint8_t *entry = config + tidemill_u32(config + 16);
    for (uint32_t i = 0; i < tidemill_config_count(config); i++, entry += 16)
        if (tidemill_equal(tidemill_range(config, entry), key)) found = tidemill_range(config, entry + 8);
    return found;
}

/* The index of the sink that is a topic; -1: none. */
static inline int32_t tidemill_sink(const uint8_t *config, tidemill_bytes topic) {
    const uint8_t *sink = config + tidemill_u32(config + 24);
    for (uint32_t i = 0; i < tidemill_u32(config + 20); i++, sink += 8)
        if (tidemill_equal(tidemill_range(config, sink), topic)) return (int32_t)i;
    return -1;
}

/* The message for the status that tidemill_init returns; a constant. */
static inline void tidemill_refuse(tidemill_bytes message) { tidemill_reason = message; }

/* A header of a record, by its index below header_count. */
static inline void tidemill_header_at(const tidemill_record *record, uint32_t index, tidemill_bytes *name, tidemill_bytes *value) {
    *name = tidemill_range(tidemill_input.data, record->headers + 16 * index);
    *value = tidemill_range(tidemill_input.data, record->headers + 16 * index + 8);
}

static uint32_t tidemill_operation(uint8_t kind, uint8_t flags, uint16_t sink, uint32_t record, uint32_t length) {
    uint8_t *operation = tidemill_append(&tidemill_operations, length);
    __builtin_memset(operation, 0, length);
    tidemill_put(operation, kind | (uint32_t)flags << 8 | (uint32_t)sink << 16);
    tidemill_put(operation + 4, record);
    tidemill_count++;
    return tidemill_operations.length - length;
}

static void tidemill_change(tidemill_output *out, uint8_t kind, uint8_t flags, const tidemill_changes *changes) {
    uint32_t at = tidemill_operation(kind, flags | changes->given, changes->sink, out->record, 48);
    tidemill_keep(&tidemill_operations, at + 8, changes->given & TIDEMILL_KEY ? changes->key : (tidemill_bytes){0});
    tidemill_keep(&tidemill_operations, at + 16, changes->given & TIDEMILL_VALUE ? changes->value : (tidemill_bytes){0});
    tidemill_buffer *headers = &tidemill_header_changes;
    if (headers->length) {
        tidemill_align();
        tidemill_put(tidemill_operations.data + at + 36, tidemill_frame.length);
        tidemill_put(tidemill_operations.data + at + 40, headers->length / 24);
        __builtin_memcpy(tidemill_append(&tidemill_frame, headers->length), headers->data, headers->length);
        headers->length = 0;
    }
    uint8_t *operation = tidemill_operations.data + at;
    __builtin_memcpy(operation + 24, &changes->timestamp, 8);
    tidemill_put(operation + 32, (uint32_t)changes->partition);
}

/* Changes a header of what is emitted next for this record, by tidemill_edit or tidemill_new. */
static inline void tidemill_change_header(uint32_t kind, tidemill_bytes name, tidemill_bytes value) {
    uint8_t *change = tidemill_append(&tidemill_header_changes, 24);
    uint32_t at = tidemill_header_changes.length - 24;
    __builtin_memset(change, 0, 24);
    tidemill_put(change, kind);
    tidemill_keep(&tidemill_header_changes, at + 4, name);
    tidemill_keep(&tidemill_header_changes, at + 12, value);
}

/* Emits the record with changes. */
static inline void tidemill_edit(tidemill_output *out, const tidemill_changes *changes) {
    if (out->failed) return;
    tidemill_change(out, out->disposed ? 4 : 3, out->disposed ? 32 : 0, changes);
    out->disposed = 1;
}

/* Emits the record as it is; header changes that were meant for it are forgotten. */
static inline void tidemill_pass(tidemill_output *out, uint16_t sink) {
    if (out->failed) return;
    tidemill_header_changes.length = 0;
    if (out->disposed) {
        tidemill_change(out, 4, 32, &(tidemill_changes){.sink = sink});
    } else {
        tidemill_operation(1, 0, sink, out->record, 8);
        out->disposed = 1;
    }
}

/* Emits a record of its own, with null key, null value and no headers unless given. */
static inline void tidemill_new(tidemill_output *out, const tidemill_changes *changes) {
    if (!out->failed) tidemill_change(out, 4, 0, changes);
}

/* Refuses the record. */
static inline void tidemill_fail(tidemill_output *out, uint32_t code, tidemill_bytes message) {
    if (out->failed) return;
    tidemill_frame.length = out->frame_start;
    tidemill_operations.length = out->operations_start;
    tidemill_count = out->count_start;
    uint32_t at = tidemill_operation(5, 0, 0, out->record, 24);
    tidemill_put(tidemill_operations.data + at + 8, code);
    tidemill_keep(&tidemill_operations, at + 12, message.data ? message : TIDEMILL_TEXT(""));
    out->failed = out->disposed = 1;
}

/* ---- the ABI ---- */

/* The index of the record at hand; the linker exports it where it is told to. */
uint32_t tidemill_progress;

__attribute__((export_name("tidemill_abi_1"))) void tidemill_abi_1(void) {}

__attribute__((export_name("buf"))) uint8_t *tidemill_buf(uint32_t length) {
    return tidemill_reserve(&tidemill_input, length ? length : 8) ? tidemill_input.data : 0;
}

static uint64_t tidemill_place(void) {
    return (uint64_t)(uint32_t)tidemill_frame.data << 32 | tidemill_frame.length;
}

static uint64_t tidemill_answer(uint32_t status, tidemill_bytes message) {
    tidemill_frame.length = 0;
    uint8_t *answer = tidemill_append(&tidemill_frame, 24);
    tidemill_put(answer, 0x31414d54); /* TMA1 */
    tidemill_put(answer + 4, 24);
    tidemill_put(answer + 8, status);
    tidemill_put(answer + 12, 0);
    tidemill_keep(&tidemill_frame, 16, message.data ? message : TIDEMILL_TEXT(""));
    return tidemill_place();
}

/* Whether a frame can be read: its magic number, its header's length, and no section that must be understood. */
static int tidemill_readable(uint32_t magic, uint32_t header, uint32_t sections_field) {
    const uint8_t *frame = tidemill_input.data;
    if (tidemill_u32(frame) != magic || tidemill_u32(frame + 4) < header) return 0;
    uint32_t at = tidemill_u32(frame + sections_field), end = tidemill_u32(frame + 8);
    while (at && at <= end - 8) {
        uint32_t kind = tidemill_u32(frame + at), length = tidemill_u32(frame + at + 4);
        if (!kind) return 1;
        if (kind >> 31 || length > end - at - 8) return 0;
        at += 8 + ((length + 7) & ~7u);
    }
    return !at;
}

__attribute__((export_name("init"))) uint64_t tidemill_abi_init(uint32_t length) {
    if (length < 40 || !tidemill_readable(0x31434d54 /* TMC1 */, 40, 32))
        return tidemill_answer(0xffffffff, TIDEMILL_TEXT("the configuration cannot be read"));
    uint32_t status = tidemill_init(tidemill_input.data);
    return tidemill_answer(status, tidemill_reason);
}

static tidemill_record tidemill_read(uint32_t index) {
    const uint8_t *frame = tidemill_input.data;
    const uint8_t *row = frame + tidemill_u32(frame + 16) + index * tidemill_u32(frame + 20);
    return (tidemill_record){
        .topic = tidemill_range(frame, frame + 48),
        .partition = (int32_t)tidemill_u32(frame + 28),
        .leader_epoch = (int32_t)tidemill_u32(frame + 40),
        .offset = tidemill_i64(frame + 32) + tidemill_u32(row + 8),
        .timestamp = tidemill_i64(row),
        .is_append_time = tidemill_u32(row + 36) & 1,
        .key = tidemill_range(frame, row + 12),
        .value = tidemill_range(frame, row + 20),
        .header_count = tidemill_u32(row + 32),
        .headers = frame + tidemill_u32(row + 28),
    };
}

__attribute__((export_name("process"))) uint64_t tidemill_abi_process(uint32_t length) {
    const uint8_t *frame = tidemill_input.data;
    if (length < 64 || !tidemill_readable(0x31494d54 /* TMI1 */, 64, 24) || tidemill_u32(frame + 20) < 40)
        return tidemill_answer(0xffffffff, TIDEMILL_TEXT("the frame cannot be read"));
    tidemill_frame.length = tidemill_operations.length = tidemill_count = 0;
    __builtin_memset(tidemill_append(&tidemill_frame, 32), 0, 32);
    for (uint32_t index = 0; index < tidemill_u32(frame + 12); index++) {
        tidemill_progress = index;
        tidemill_header_changes.length = 0;
        tidemill_record record = tidemill_read(index);
        tidemill_output out = {index, 0, 0, tidemill_frame.length, tidemill_operations.length, tidemill_count};
        tidemill_process(&record, &out);
        if (!out.disposed) tidemill_operation(2, 0, 0, index, 8);
    }
    tidemill_align();
    uint32_t at = tidemill_frame.length, operations = tidemill_operations.length;
    __builtin_memcpy(tidemill_append(&tidemill_frame, operations), tidemill_operations.data, operations);
    uint32_t header[] = {0x314f4d54 /* TMO1 */, 32, tidemill_frame.length, tidemill_count, at, operations, 0, 0};
    __builtin_memcpy(tidemill_frame.data, header, sizeof header);
    return tidemill_place();
}

#endif
