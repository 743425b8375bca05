// Writes the golden batches with Kafka's own classes, or reads batches of ours with them. See README.md.

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.LeaderChangeMessage;
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.record.Record;
import org.apache.kafka.common.utils.BufferSupplier;
import org.apache.kafka.common.utils.Utils;

public class GoldenBatches {
    static final long T = 1357034400000L; // 2013-01-01 10:00 UTC

    public static void main(String[] args) throws Exception {
        Path dir = Path.of(args[1]);
        if (args[0].equals("write")) write(dir); else read(dir);
    }

    static byte[] utf8(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    static SimpleRecord[] few() {
        Header[] headers = {
            new RecordHeader("trace", utf8("a")), new RecordHeader("trace", utf8("b")),
            new RecordHeader("", utf8("")), new RecordHeader("Grüße", (byte[]) null)
        };
        return new SimpleRecord[] {
            new SimpleRecord(T, utf8("UA"), utf8("{\"flight\":1545}"), headers),
            new SimpleRecord(T + 5, (byte[]) null, utf8("no key")),
            new SimpleRecord(T - 3, utf8("tombstone"), null),
            new SimpleRecord(T + 70_000, utf8(""), utf8("")),
        };
    }

    // 400 records of 400 bytes: several of Snappy's and LZ4's blocks.
    static SimpleRecord[] many() {
        SimpleRecord[] records = new SimpleRecord[400];
        for (int i = 0; i < records.length; i++) {
            String value = ("row " + i + " of the flights of 2013; ").repeat(20).substring(0, 400);
            records[i] = new SimpleRecord(T + i, utf8("key-" + i), utf8(value));
        }
        return records;
    }

    static Compression codec(CompressionType type) {
        return Compression.of(type).build();
    }

    static void write(Path dir) throws Exception {
        for (CompressionType type : CompressionType.values()) {
            save(dir, "few-" + type.name, MemoryRecords.withRecords(0L, codec(type), -1, few()));
            if (type != CompressionType.NONE)
                save(dir, "many-" + type.name, MemoryRecords.withRecords(0L, codec(type), -1, many()));
        }
        save(dir, "idempotent", MemoryRecords.withIdempotentRecords(
            Compression.NONE, 4001L, (short) 3, Integer.MAX_VALUE - 1, few()));
        save(dir, "transactional", MemoryRecords.withTransactionalRecords(
            Compression.NONE, 4001L, (short) 3, 17, few()));
        save(dir, "append-time", MemoryRecords.withRecords(RecordBatch.MAGIC_VALUE_V2, 1000L,
            codec(CompressionType.GZIP), TimestampType.LOG_APPEND_TIME, few()));
        save(dir, "commit", MemoryRecords.withEndTransactionMarker(77L, T, 5, 4001L, (short) 3,
            new EndTransactionMarker(ControlRecordType.COMMIT, 12)));
        save(dir, "abort", MemoryRecords.withEndTransactionMarker(78L, T, 5, 4001L, (short) 3,
            new EndTransactionMarker(ControlRecordType.ABORT, 13)));
        save(dir, "leader-change", MemoryRecords.withLeaderChangeMessage(
            9L, T, 2, ByteBuffer.allocate(256), new LeaderChangeMessage().setLeaderId(1)));
        save(dir, "magic-0", MemoryRecords.withRecords(RecordBatch.MAGIC_VALUE_V0, 0L,
            Compression.NONE, TimestampType.CREATE_TIME, new SimpleRecord(-1, utf8("k"), utf8("v"))));
        save(dir, "magic-1", MemoryRecords.withRecords(RecordBatch.MAGIC_VALUE_V1, 0L,
            Compression.NONE, TimestampType.CREATE_TIME, new SimpleRecord(T, utf8("k"), utf8("v"))));
        save(dir, "compacted", compacted());
        StringBuilder hashes = new StringBuilder();
        String key = "";
        for (int i = 0; i < 40; i++) {
            hashes.append(key).append(' ').append(Utils.murmur2(utf8(key))).append('\n');
            key += (char) ('!' + (i * 37) % 90);
        }
        Files.writeString(dir.resolve("murmur2.txt"), hashes);
    }

    // Keeps the second and third of four records, as the cleaner does, with a delete horizon.
    static MemoryRecords compacted() {
        MemoryRecords records = MemoryRecords.withRecords(500L, codec(CompressionType.LZ4), 4, few());
        ByteBuffer kept = ByteBuffer.allocate(4096);
        records.filterTo(new MemoryRecords.RecordFilter(T, 86_400_000L) {
            @Override protected BatchRetentionResult checkBatchRetention(RecordBatch batch) {
                return new BatchRetentionResult(BatchRetention.DELETE_EMPTY, false);
            }
            @Override protected boolean shouldRetainRecord(RecordBatch batch, Record record) {
                return record.offset() == 501 || record.offset() == 502;
            }
        }, kept, BufferSupplier.NO_CACHING);
        kept.flip();
        return MemoryRecords.readableRecords(kept);
    }

    static void save(Path dir, String name, MemoryRecords records) throws Exception {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        String hex = HexFormat.of().formatHex(bytes);
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < hex.length(); i += 100)
            lines.append(hex, i, Math.min(hex.length(), i + 100)).append('\n');
        Files.writeString(dir.resolve(name + ".hex"), lines);
    }

    // Reads every *.bin: one or more batches that hold few() or many().
    static void read(Path dir) throws Exception {
        List<Path> files = new ArrayList<>();
        try (var list = Files.list(dir)) { list.filter(p -> p.toString().endsWith(".bin")).sorted().forEach(files::add); }
        if (files.isEmpty()) throw new IllegalStateException("no *.bin in " + dir);
        for (Path file : files) {
            SimpleRecord[] expected = file.getFileName().toString().startsWith("few") ? few() : many();
            int at = 0;
            for (MutableRecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(file))).batches()) {
                batch.ensureValid();
                for (Record record : batch) {
                    SimpleRecord wanted = expected[at++];
                    if (!new SimpleRecord(record).equals(wanted)) throw new IllegalStateException(file + ": record " + at);
                }
            }
            if (at != expected.length) throw new IllegalStateException(file + ": " + at + " records");
            System.out.println(file.getFileName() + ": " + at + " records as expected");
        }
    }
}
