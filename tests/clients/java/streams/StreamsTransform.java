import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;

/**
 * A transform as a Kafka Streams application, at-least-once, with the settings that Streams has by default.
 *
 * <pre>StreamsTransform BOOTSTRAP SOURCE SINK identity|filter|json COUNT GROUP STATE_DIR CODEC</pre>
 *
 * It ends when it has taken COUNT records, and prints one line of JSON.
 */
public final class StreamsTransform {
    private static final long SECONDS_MAX = 600;
    private static final ObjectMapper mapper = new ObjectMapper();

    private static final AtomicLong out = new AtomicLong();
    private static volatile double startCpuSeconds;
    private static volatile long beganNanos;

    public static void main(String[] arguments) throws Exception {
        String source = arguments[1], sink = arguments[2], map = arguments[3];
        long count = Long.parseLong(arguments[4]);
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[5]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[6]);
        settings.put(StreamsConfig.producerPrefix("compression.type"), arguments[7]);

        CountDownLatch ended = new CountDownLatch(1);
        AtomicLong read = new AtomicLong();
        StreamsBuilder builder = new StreamsBuilder();
        KStream<byte[], byte[]> records =
                builder.stream(source, Consumed.with(Serdes.ByteArray(), Serdes.ByteArray())).peek((key, value) -> {
                    long number = read.incrementAndGet();
                    if (number == 1) {
                        startCpuSeconds = cpuSeconds();
                        beganNanos = System.nanoTime();
                    }
                    if (number == count) {
                        ended.countDown();
                    }
                });
        apply(map, records).peek((key, value) -> out.incrementAndGet())
                .to(sink, Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        Throwable[] failure = new Throwable[1];
        streams.setUncaughtExceptionHandler(thrown -> {
            failure[0] = thrown;
            ended.countDown();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        boolean isInTime = ended.await(SECONDS_MAX, TimeUnit.SECONDS);
        // Flushes and commits.
        boolean isClosed = streams.close(Duration.ofSeconds(60));
        if (!isInTime || !isClosed || failure[0] != null) {
            System.err.println("StreamsTransform: after " + read + " of " + count + " records: " + failure[0]);
            System.exit(1);
        }
        double seconds = (System.nanoTime() - beganNanos) / 1e9;
        System.out.printf(Locale.ROOT, "{\"out\": %d, \"seconds\": %.3f, \"start_cpu_seconds\": %.3f, \"cpu_seconds\": %.3f}%n",
                out.get(), seconds, startCpuSeconds, cpuSeconds());
    }

    private static KStream<byte[], byte[]> apply(String map, KStream<byte[], byte[]> records) {
        return switch (map) {
            case "identity" -> records;
            case "filter" -> records.flatMap((key, value) -> delayed(value));
            case "json" -> records.mapValues(StreamsTransform::firstTwo);
            default -> throw new IllegalArgumentException("unknown map " + map);
        };
    }

    /** Flights that depart more than an hour late, by destination. */
    private static List<KeyValue<byte[], byte[]>> delayed(byte[] value) {
        JsonNode flight = parse(value);
        JsonNode delay = flight.get("dep_delay");
        if (delay == null || !delay.isNumber() || delay.doubleValue() <= 60) {
            return List.of();
        }
        return List.of(KeyValue.pair(flight.get("dest").textValue().getBytes(StandardCharsets.UTF_8), value));
    }

    /** What functions/examples/json does, for flat objects. */
    private static byte[] firstTwo(byte[] value) {
        StringBuilder text = new StringBuilder("{");
        double sum = 0;
        int member = 0;
        for (Map.Entry<String, JsonNode> one : parse(value).properties()) {
            if (member < 2) {
                text.append('"').append(one.getKey()).append("\":").append(one.getValue()).append(',');
            }
            if (one.getValue().isNumber()) {
                sum += one.getValue().doubleValue();
            } else if (one.getValue().isTextual()) {
                sum += one.getValue().textValue().getBytes(StandardCharsets.UTF_8).length;
            }
            member++;
        }
        String written = sum == Math.rint(sum) ? Long.toString((long) sum) : new BigDecimal(Double.toString(sum)).toPlainString();
        return text.append("\"sum\":").append(written).append('}').toString().getBytes(StandardCharsets.UTF_8);
    }

    private static JsonNode parse(byte[] value) {
        try {
            return mapper.readTree(value);
        } catch (IOException broken) {
            throw new IllegalArgumentException(broken);
        }
    }

    private static double cpuSeconds() {
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return system.getProcessCpuTime() / 1e9;
    }
}
