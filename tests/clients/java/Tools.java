import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs the main methods of Kafka's command-line tools one after the other in one JVM, so that dozens
 * of checks do not each pay for the start of a JVM. Nothing else of a tool is replaced: it gets its
 * arguments, standard input, output and exit code as from a shell.
 *
 * <p>Each line of standard input is one request, fields divided by U+001F: time limit in
 * milliseconds, file for stdin, file for stdout, file for stderr, main class, arguments. The answer is
 * one line: the tool's exit code, or "timeout", after which the JVM ends.
 */
public final class Tools {
    private static final class ToolExit extends Error {
        ToolExit(int code) {
            super("exit " + code, null, false, false);
        }
    }

    /** Scala's Console keeps the System.out that it first saw: so that one stays, and its target changes. */
    private static final class Redirect extends OutputStream {
        volatile OutputStream target = OutputStream.nullOutputStream();

        @Override
        public void write(int one) throws IOException {
            target.write(one);
        }

        @Override
        public void write(byte[] bytes, int from, int length) throws IOException {
            target.write(bytes, from, length);
        }

        @Override
        public void flush() throws IOException {
            target.flush();
        }
    }

    private static final Redirect out = new Redirect();
    private static final Redirect err = new Redirect();
    private static final List<Runnable> shutdownHooks = new ArrayList<>();

    /** The code of a tool's first call of exit: some tools catch what that call throws here. */
    private static volatile Integer exitCode;

    public static void main(String[] args) throws Exception {
        Exit.setExitProcedure((code, message) -> exit(code));
        Exit.setHaltProcedure((code, message) -> exit(code));
        Exit.setShutdownHookAdder((name, runnable) -> {
            synchronized (shutdownHooks) {
                shutdownHooks.add(runnable);
            }
        });
        PrintStream answers = System.out;
        System.setOut(new PrintStream(out, false, "UTF-8"));
        System.setErr(new PrintStream(err, true, "UTF-8"));
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            String answer = run(line.split("\u001f", -1));
            answers.println(answer);
            answers.flush();
            if (answer.equals("timeout")) {
                Runtime.getRuntime().halt(1);
            }
        }
    }

    private static void exit(int code) {
        if (exitCode == null) {
            exitCode = code;
        }
        throw new ToolExit(code);
    }

    private static String run(String[] request) throws Exception {
        long limit = Long.parseLong(request[0]);
        String[] arguments = Arrays.copyOfRange(request, 5, request.length);
        int[] code = {0};
        try (InputStream in = Files.newInputStream(Path.of(request[1]));
                OutputStream outFile = new BufferedOutputStream(Files.newOutputStream(Path.of(request[2])), 1 << 16);
                OutputStream errFile = Files.newOutputStream(Path.of(request[3]))) {
            System.setIn(in);
            out.target = outFile;
            err.target = errFile;
            Method main = Class.forName(request[4]).getMethod("main", String[].class);
            Thread tool = new Thread(() -> code[0] = call(main, arguments), request[4]);
            tool.setDaemon(true);
            tool.start();
            tool.join(limit);
            System.out.flush();
            System.err.flush();
            out.target = OutputStream.nullOutputStream();
            err.target = OutputStream.nullOutputStream();
            return tool.isAlive() ? "timeout" : Integer.toString(code[0]);
        }
    }

    /** The tool's main and then its shutdown hooks, as the end of a JVM would run them. */
    private static int call(Method main, String[] arguments) {
        exitCode = null;
        int returned = codeOf(() -> main.invoke(null, (Object) arguments));
        int code = exitCode == null ? returned : exitCode;
        List<Runnable> hooks;
        synchronized (shutdownHooks) {
            hooks = new ArrayList<>(shutdownHooks);
            shutdownHooks.clear();
        }
        for (Runnable hook : hooks) {
            code = Math.max(code, codeOf(() -> { hook.run(); return null; }));
        }
        return code;
    }

    private interface Body {
        Object run() throws Exception;
    }

    private static int codeOf(Body body) {
        try {
            body.run();
            return 0;
        } catch (InvocationTargetException thrown) {
            return codeOf(thrown.getCause());
        } catch (Throwable thrown) {
            return codeOf(thrown);
        }
    }

    private static int codeOf(Throwable thrown) {
        if (thrown instanceof ToolExit) {
            return exitCode;
        }
        thrown.printStackTrace();
        return 1;
    }
}
