import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;

/**
 * What Kafka's own classes make of our bytes.
 *
 * Each line of the input is "CLASS FROM TO HEX": the bytes are read as version FROM of a message and
 * written again as version TO. The answer is the hex of that, "!" and the reason why it cannot be
 * written, or "-" if Kafka does not have such a class or one of the versions.
 */
public class Oracle {
    public static void main(String[] args) throws IOException {
        var input = new BufferedReader(new InputStreamReader(System.in));
        var output = new PrintStream(System.out, false);
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.split(" ", -1);
            byte[] bytes = HexFormat.of().parseHex(words[3]);
            output.println(answer(words[0], Short.parseShort(words[1]), Short.parseShort(words[2]), bytes));
        }
        output.flush();
    }

    private static String answer(String name, short from, short to, byte[] bytes) {
        Message message;
        try {
            message = (Message) Class.forName(name).getDeclaredConstructor().newInstance();
        } catch (ReflectiveOperationException e) {
            return "-";
        }
        if (!has(message, from) || !has(message, to)) {
            return "-";
        }
        var buffer = ByteBuffer.wrap(bytes);
        message.read(new ByteBufferAccessor(buffer), from);
        if (buffer.hasRemaining()) {
            throw new IllegalStateException(name + " v" + from + " leaves bytes unread");
        }
        try {
            ByteBuffer again = MessageUtil.toByteBufferAccessor(message, to).buffer();
            byte[] copy = new byte[again.remaining()];
            again.get(copy);
            return HexFormat.of().formatHex(copy);
        } catch (RuntimeException e) {
            return "!" + e;
        }
    }

    private static boolean has(Message message, short version) {
        return message.lowestSupportedVersion() <= version && version <= message.highestSupportedVersion();
    }
}
